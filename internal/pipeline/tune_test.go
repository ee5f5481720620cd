package pipeline

import (
	"context"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aiops/internal/model"
)

// TestSuggestRemovesFalseAndKeepsTrue labels small deviations false and large
// ones true and asks for a better definition.
func TestSuggestRemovesFalseAndKeepsTrue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 2, testDetector(nil))
		g.src.value = bumps(time.Now())
		g.start()
		defer g.stop()
		elapse(2 * time.Hour)
		if _, err := g.engine.Suggest(t.Context(), "det_test", model.TuneLimits{Days: 1}, nil); model.KindOf(err) != model.KindTooLittleData {
			t.Fatalf("without labels: %v", err)
		}
		unlabelled := 0
		g.store.set(func(s *fakeStore) {
			for id, a := range s.anomalies {
				if unlabelled == 0 && math.Abs(a.Value-a.Expected) < 500 {
					unlabelled++
					continue
				}
				yes := math.Abs(a.Value-a.Expected) > 500
				a.Label = &yes
				s.anomalies[id] = a
			}
		})
		last := 0.0
		r, err := g.engine.Suggest(t.Context(), "det_test", model.TuneLimits{Days: 1}, func(p float64) { last = p })
		if err != nil {
			t.Fatal(err)
		}
		c := r.Best.Counts
		if !r.Improved || c.False < 4 || c.FalseRemoved != c.False || c.True < 3 || c.TrueKept != c.True || c.Changed != 1 || c.Unlabelled != 1 || last == 0 {
			t.Fatalf("%s: %+v of %d trials, %d unreproduced", r.Summary, c, r.Evaluations, r.Unreproduced)
		}
		if !strings.HasPrefix(r.Summary, "removes ") || r.Base.Counts.FalseRemoved != 0 {
			t.Errorf("%s; base %+v", r.Summary, r.Base.Counts)
		}
		// What is said is what a backtest of it gives.
		again, err := g.engine.Backtest(t.Context(), r.Best.Definition, r.From, r.To, nil)
		if err != nil || again.AnomalyCount != c.Alarms {
			t.Errorf("%d alarms in a backtest, %d in the suggestion (%v)", again.AnomalyCount, c.Alarms, err)
		}
		// The control: with the labels the other way round nothing that keeps the true ones removes the false ones by size.
		g.store.set(func(s *fakeStore) {
			for id, a := range s.anomalies {
				if a.Label != nil {
					no := !*a.Label
					a.Label = &no
					s.anomalies[id] = a
				}
			}
		})
		if r, err := g.engine.Suggest(t.Context(), "det_test", model.TuneLimits{Days: 1}, nil); err != nil || r.Best.Counts.FalseRemoved != 0 && r.Best.Counts.TrueKept != r.Best.Counts.True {
			t.Errorf("%v: %s", err, r.Summary)
		}
		// Labels of alarms that no backtest raises again say nothing.
		g.store.set(func(s *fakeStore) {
			for id, a := range s.anomalies {
				a.Series = model.LabelsFromMap(map[string]string{"instance": "gone"})
				s.anomalies[id] = a
			}
		})
		if r, err := g.engine.Suggest(t.Context(), "det_test", model.TuneLimits{Days: 1}, nil); model.KindOf(err) != model.KindTooLittleData {
			t.Errorf("labels of series that are gone: %v, %s", err, r.Summary)
		}
	})
}

func TestSearchKeepsItsBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 2, testDetector(nil))
		g.src.value = bumps(time.Now())
		g.start()
		defer g.stop()
		elapse(time.Hour)
		space := model.TuneSpace{MinAbsolute: []float64{100, 3000}, For: []time.Duration{time.Minute}, Models: []string{"ewma"}}
		r, err := g.engine.Search(t.Context(), "det_test", space, model.TuneLimits{Days: 1, Evaluations: 3}, nil)
		if err != nil || r.Evaluations != 3 || r.Stopped != "evaluations" {
			t.Fatalf("%v %+v", err, r)
		}
		r, err = g.engine.Search(t.Context(), "det_test", space, model.TuneLimits{Days: 1}, nil)
		if err != nil || r.Stopped != "done" || r.Evaluations < 4 || r.Best.Counts.Alarms >= r.Base.Counts.Alarms || !r.Improved {
			t.Fatalf("%v %+v", err, r)
		}
		for i := 1; i < len(r.Trials); i++ {
			if r.Trials[i].Loss < r.Trials[i-1].Loss {
				t.Error("the trials are not in order")
			}
		}
		if _, err := g.engine.Search(t.Context(), "det_test", space, model.TuneLimits{Days: 1000}, nil); model.KindOf(err) != model.KindInvalid {
			t.Errorf("1000 days: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		g.src.set(func(f *fakeSource) { f.onQuery = cancel })
		if _, err := g.engine.Search(ctx, "det_test", space, model.TuneLimits{Days: 1}, nil); err == nil {
			t.Error("a cancelled search succeeded")
		}
	})
}

// TestRetraining asks for it by the clock, into the active version or into a
// shadow.
func TestRetraining(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := testDetector(func(d *model.Detector) { d.Retrain.Every = model.Duration(2 * time.Hour) })
		g := newRig(t, 2, d)
		var mu sync.Mutex
		var wishes []string
		asked := func() []string {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(wishes)
		}
		g.cfg.Retrain = func(_ context.Context, id, reason string) error {
			mu.Lock()
			defer mu.Unlock()
			wishes = append(wishes, id+" "+reason)
			return nil
		}
		g.start()
		defer g.stop()
		elapse(time.Hour)
		if got := asked(); len(got) != 0 {
			t.Fatalf("asked too early: %v", got)
		}
		elapse(90 * time.Minute)
		if got := asked(); len(got) != 1 || got[0] != "det_test retrained by schedule" {
			t.Fatalf("%v", got)
		}
		v, err := g.engine.Retrain(t.Context(), "det_test", "retrained by schedule", nil)
		if err != nil || v.Version != 2 || v.State != model.ModelActive || v.Reason != "retrained by schedule" {
			t.Fatalf("%+v %v", v, err)
		}
		d.Retrain.Into = model.ModelShadow
		g.store.change(d)
		if err := g.engine.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		elapse(time.Minute)
		v, err = g.engine.Retrain(t.Context(), "det_test", "retrained because the scores drift", nil)
		if err != nil || v.Version != 3 {
			t.Fatalf("%+v %v", v, err)
		}
		elapse(10 * time.Minute)
		if r := g.report(); r.State != model.ShadowRunning || r.Agreement.Samples < 100 || r.Shadow.Reason != "retrained because the scores drift" {
			t.Fatalf("%+v", r)
		}
		if a, _ := activeVersion(g.store.versions); a.Version != 2 {
			t.Fatalf("%+v", g.store.versions)
		}
	})
}
