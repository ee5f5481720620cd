package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aiops/internal/model"
)

// mutedStore is a store that can be made to take every call and answer none, as a
// database whose processes are stopped: callers wait until their context ends, or
// until the store answers again. With unheard, what they asked for has happened by
// the time that they give up.
type mutedStore struct {
	Store
	unheard bool

	mu     sync.Mutex
	frozen chan struct{} // nil: it answers
	held   time.Duration // that callers waited, all together
	calls  map[string]int
}

func (s *mutedStore) freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen, s.calls, s.held = make(chan struct{}), map[string]int{}, 0
}

func (s *mutedStore) thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.frozen)
	s.frozen = nil
}

func (s *mutedStore) run(ctx context.Context, what string, write bool, f func(context.Context) error) error {
	s.mu.Lock()
	frozen := s.frozen
	if frozen != nil {
		s.calls[what]++
	}
	s.mu.Unlock()
	if frozen == nil {
		return f(ctx)
	}
	began := time.Now()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.held += time.Since(began)
	}()
	select {
	case <-frozen:
		return f(ctx)
	case <-ctx.Done():
	}
	if write && s.unheard {
		if err := f(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
	return model.WrapError(model.KindTimeout, "", ctx.Err(), "the database did not answer in the time allowed; try again")
}

func (s *mutedStore) CommitAnomalies(ctx context.Context, changes []model.AnomalyChange) error {
	return s.run(ctx, "commit", true, func(ctx context.Context) error { return s.Store.CommitAnomalies(ctx, changes) })
}

func (s *mutedStore) SaveSnapshot(ctx context.Context, snap model.Snapshot) error {
	return s.run(ctx, "snapshot", true, func(ctx context.Context) error { return s.Store.SaveSnapshot(ctx, snap) })
}

func (s *mutedStore) ModelVersions(ctx context.Context, id string) (out []model.ModelVersion, err error) {
	err = s.run(ctx, "versions", false, func(ctx context.Context) error {
		out, err = s.Store.ModelVersions(ctx, id)
		return err
	})
	return out, err
}

func (s *mutedStore) OpenAnomalies(ctx context.Context, id string) (out []model.Anomaly, err error) {
	err = s.run(ctx, "open", false, func(ctx context.Context) error {
		out, err = s.Store.OpenAnomalies(ctx, id)
		return err
	})
	return out, err
}

func (s *mutedStore) AllDetectors(ctx context.Context) (out []model.Detector, err error) {
	err = s.run(ctx, "detectors", false, func(ctx context.Context) error {
		out, err = s.Store.AllDetectors(ctx)
		return err
	})
	return out, err
}

// A store that takes calls and never answers does not keep detectors from being
// scored: commits, snapshots and questions wait beside the loop or are given up. What
// was found is told once afterwards, as it would have been without, also when a
// write that nobody heard of had happened.
func TestScoresWhileTheStoreIsSilent(t *testing.T) {
	t.Parallel()
	got := map[string]string{}
	for _, kind := range []string{"well", "silent", "unheard"} {
		synctest.Test(t, func(t *testing.T) {
			var ds []model.Detector
			for i := range 12 { // more than there are workers
				ds = append(ds, testDetector(func(d *model.Detector) { d.ID, d.Name = fmt.Sprint("det_", i), fmt.Sprint(i) }))
			}
			g := newRig(t, 2, append(ds, testDetector(nil))...)
			start := time.Now()
			g.src.value = spike(start.Add(20*time.Minute+30*time.Second), start.Add(21*time.Minute+30*time.Second), 2000)
			g.cfg.SnapshotEvery, g.cfg.Workers = model.Duration(20*time.Second), 4
			store := &mutedStore{Store: g.store, unheard: kind == "unheard"}
			look := &lookers{got: map[string][]model.ScoredPoint{}}
			g.cfg.Audience = look
			e := New(g.cfg, store, func(model.Detector) (Source, bool) { return g.src, true }, slog.New(slog.DiscardHandler), nil, time.Now)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- e.Run(ctx) }()
			elapse(20 * time.Minute)
			key := g.src.series[0].Key()
			look.look(key)
			if kind != "well" {
				store.freeze()
			}
			latest := time.Duration(0)
			for i := range 24 {
				for _, r := range e.all() {
					if i > 12 { // before, writes meet the silence first
						r.recheck()
					}
				}
				elapse(5 * time.Second)
				for _, r := range e.all() {
					if s := r.state(); s.State != model.DetectorFailed {
						latest = max(latest, s.Lag)
					}
				}
			}
			points := look.look(key)[key]
			if len(points) < 11 || latest > 20*time.Second {
				t.Errorf("%s: %d points of 12; %s behind", kind, len(points), latest)
			}
			if kind != "well" {
				store.mu.Lock()
				calls, held := fmt.Sprint(store.calls), store.held
				for _, what := range []string{"commit", "snapshot"} {
					if store.calls[what] == 0 {
						t.Errorf("control: no %s met the silence: %s", what, calls)
					}
				}
				store.mu.Unlock()
				if held < 2*time.Minute {
					t.Errorf("control: calls waited %s in all: a loop that waits would not have been late", held)
				}
				store.thaw()
			}
			elapse(20 * time.Second)
			for _, r := range e.all() {
				if s := r.state(); s.State != model.DetectorRunning || s.Lag > 20*time.Second {
					t.Errorf("%s, afterwards: %+v", kind, s)
				}
			}
			elapse(20 * time.Minute)
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			told := map[string]int{}
			for _, event := range g.store.seen() {
				if kind, _, _ := strings.Cut(event, " "); kind == string(model.EventAnomalyOpened) || kind == string(model.EventAnomalyResolved) {
					told[event]++
				}
			}
			if len(told) < 2*13 {
				t.Errorf("%s: only %v was told: the test shows nothing", kind, told)
			}
			for event, n := range told {
				if n != 1 {
					t.Errorf("%s: %s was told %d times", kind, event, n)
				}
			}
			got[kind] = fmt.Sprint(told)
		})
	}
	if got["well"] != got["silent"] || got["well"] != got["unheard"] {
		t.Errorf("without a silence %s, with one %s, with writes unheard of %s", got["well"], got["silent"], got["unheard"])
	}
}
