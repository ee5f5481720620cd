package pipeline

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aiops/internal/model"
)

// lookers look at some series.
type lookers struct {
	mu   sync.Mutex
	keys []string
	got  map[string][]model.ScoredPoint
}

func (l *lookers) Watched(detectorID string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if detectorID != "det_test" {
		return nil
	}
	return slices.Clone(l.keys)
}

func (l *lookers) Point(_, key string, p model.ScoredPoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got[key] = append(l.got[key], p)
}

func (l *lookers) look(keys ...string) map[string][]model.ScoredPoint {
	l.mu.Lock()
	defer l.mu.Unlock()
	got := l.got
	l.keys, l.got = keys, map[string][]model.ScoredPoint{}
	return got
}

// TestTheAudienceGetsWhatItLooksAt follows one of three series: its newest
// point comes once with each step, and nothing of the others.
func TestTheAudienceGetsWhatItLooksAt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 3, testDetector(nil))
		l := &lookers{got: map[string][]model.ScoredPoint{}}
		g.cfg.Audience = l
		g.start()
		defer g.stop()
		elapse(time.Minute)
		key := g.list()[1].Labels.Key()
		if got := l.look(key, "{no=\"series\"}"); len(got) != 0 {
			t.Errorf("nobody looked, and got %v", got)
		}
		elapse(5 * time.Minute)
		got := l.look()
		points := got[key]
		if len(got) != 1 || len(points) < 29 || len(points) > 31 {
			t.Fatalf("%d series, %d points in 30 steps", len(got), len(points))
		}
		for i := 1; i < len(points); i++ {
			if points[i].T-points[i-1].T != 10_000 || points[i].Value == points[i-1].Value {
				t.Errorf("%+v follows %+v", points[i], points[i-1])
			}
		}
		elapse(time.Minute)
		if got := l.look(); len(got) != 0 {
			t.Errorf("nobody looks any more, and gets %v", got)
		}
	})
}
