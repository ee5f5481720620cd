package pipeline

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"aiops/internal/model"
)

func TestPanicHarmsNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bad := testDetector(func(d *model.Detector) { d.ID, d.Source, d.Name = "det_bad", "bad", "bad" })
		g := newRig(t, 2, testDetector(nil), bad)
		var panics atomic.Bool
		broken := &fakeSource{series: labelled(1), health: model.SourceHealth{State: model.SourceUp}}
		broken.value = func(i int, ms int64) (float64, bool) {
			if panics.Load() {
				panic("a fault of ours")
			}
			return noise(i, ms), true
		}
		good := g.src
		g.start()
		g.stop()
		g.engine = New(g.cfg, g.store, func(d model.Detector) (Source, bool) {
			if d.Source == "bad" {
				return broken, true
			}
			return good, d.Source == "main"
		}, nil, nil, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.engine.Run(ctx) }()
		elapse(time.Minute)
		panics.Store(true)
		elapse(10 * time.Minute)
		s, _ := g.engine.Status("det_bad")
		if s.State != model.DetectorFailed || s.LastError == "" {
			t.Fatalf("the panicking detector: %+v", s)
		}
		if strings.Contains(s.LastError, "a fault of ours") {
			t.Fatalf("the status tells internals: %s", s.LastError)
		}
		if tries := broken.asked(); tries > 40 {
			t.Fatalf("%d tries in ten minutes: no backoff", tries)
		}
		if s := g.status(); s.State != model.DetectorRunning || s.Lag > 15*time.Second {
			t.Fatalf("the other detector: %+v", s)
		}
		panics.Store(false)
		elapse(15 * time.Minute)
		if s, _ := g.engine.Status("det_bad"); s.State != model.DetectorRunning {
			t.Fatalf("after the fault: %+v", s)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestSlowSourceDelaysOnlyItsDetectors(t *testing.T) {
	t.Parallel()
	for _, deaf := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var ds []model.Detector
			for _, id := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
				ds = append(ds, testDetector(func(d *model.Detector) { d.ID, d.Name, d.Source = "det_"+id, id, "slow" }))
			}
			g := newRig(t, 2, append(ds, testDetector(nil))...)
			slow := &fakeSource{series: labelled(1), value: g.src.value, health: model.SourceHealth{State: model.SourceUp}}
			cfg := g.cfg
			cfg.Workers, cfg.SourceWorkers = 4, 2
			g.engine = New(cfg, g.store, func(d model.Detector) (Source, bool) {
				if d.Source == "slow" {
					return slow, true
				}
				return g.src, d.Source == "main"
			}, nil, nil, nil)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- g.engine.Run(ctx) }()
			elapse(time.Minute)
			block := make(chan struct{})
			slow.set(func(f *fakeSource) { f.block, f.deaf = block, deaf })
			for range 60 {
				elapse(10 * time.Second)
				if s := g.status(); s.State != model.DetectorRunning || s.Lag > 15*time.Second {
					t.Fatalf("deaf %v: the detector of the quick source: %+v", deaf, s)
				}
			}
			s, _ := g.engine.Status("det_a")
			if s.State == model.DetectorRunning || s.Lag < 9*time.Minute {
				t.Fatalf("deaf %v: a detector of the slow source: %+v", deaf, s)
			}
			close(block)
			slow.set(func(f *fakeSource) { f.block = nil })
			elapse(2 * time.Minute)
			for _, d := range ds {
				if s, _ := g.engine.Status(d.ID); s.State != model.DetectorRunning {
					t.Fatalf("deaf %v: %s after the source is back: %+v", deaf, d.ID, s)
				}
			}
			cancel()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestDeadSourceIsNotAskedMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 1, testDetector(nil))
		g.start()
		defer g.stop()
		elapse(time.Minute)
		before := g.src.asked()
		elapse(10 * time.Minute)
		healthy := g.src.asked() - before
		g.src.set(func(f *fakeSource) { f.fail = model.Errorf(model.KindNetwork, "", "connection refused") })
		before = g.src.asked()
		elapse(10 * time.Minute)
		if failing := g.src.asked() - before; float64(failing) > 1.1*float64(healthy) {
			t.Fatalf("%d queries while it fails, %d while it works", failing, healthy)
		}
		g.src.set(func(f *fakeSource) {
			f.health.State, f.health.CheckedAt = model.SourceDown, time.Now().Add(time.Hour)
		})
		before = g.src.asked()
		elapse(10 * time.Minute)
		if down := g.src.asked() - before; down > 0 {
			t.Fatalf("%d queries while it is known to be down", down)
		}
		g.src.set(func(f *fakeSource) { f.health.State, f.fail = model.SourceUp, nil })
		elapse(15 * time.Second)
		if s := g.status(); s.State != model.DetectorRunning || s.Lag > 15*time.Second {
			t.Fatalf("one step and 5 s after it is back: %+v", s)
		}
	})
}

func TestClockJumps(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		by      time.Duration
		held    bool // waits until the clock has caught up
		learned bool // learns anew
	}{
		"forward":     {by: 30 * time.Minute},
		"far forward": {by: 30 * 24 * time.Hour, learned: true},
		"back":        {by: -10 * time.Minute, held: true},
		"far back":    {by: -24 * time.Hour, learned: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, 2, testDetector(nil))
				scored := map[int64]int{}
				g.start()
				defer g.stop()
				elapse(20 * time.Minute)
				before := g.list()[0].LastT
				g.shift.Store(int64(tc.by))
				for range 6 {
					elapse(10 * time.Second)
					scored[g.list()[0].LastT]++
				}
				s := g.status()
				if tc.held {
					if s.State != model.DetectorDegraded || !strings.Contains(s.LastError, "the clock went back") || g.list()[0].LastT != before {
						t.Fatalf("after the jump: %+v, last %d", s, g.list()[0].LastT)
					}
					elapse(10 * time.Minute)
					s = g.status()
				}
				if s.State != model.DetectorRunning || s.Lag > 15*time.Second {
					t.Fatalf("at the end: %+v", s)
				}
				if learned := len(g.store.versions) > 1; learned != tc.learned {
					t.Fatalf("model versions %+v", g.store.versions)
				}
			})
		})
	}
}

func TestSeriesBeyondTheCapAreSaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 8, testDetector(nil))
		g.cfg.MaxSeries = 5
		g.start()
		defer g.stop()
		elapse(time.Minute)
		s := g.status()
		if s.State != model.DetectorDegraded || s.SeriesActive != 5 || s.SeriesDropped != 3 || !strings.Contains(s.LastError, "3 series are not watched") {
			t.Fatalf("%+v", s)
		}
		if n := g.counter("series", "dropped"); n != 3 {
			t.Fatalf("the metric says %v", n)
		}
	})
}

func TestMemoryCapRefusesNewSeries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 8, testDetector(nil))
		many := time.Now().Add(10 * time.Minute).UnixMilli()
		g.src.value = func(i int, ms int64) (float64, bool) { return noise(i, ms), i < 2 || ms > many }
		g.cfg.MaxMemoryBytes = 3000
		g.start()
		defer g.stop()
		elapse(12 * time.Minute)
		if s := g.status(); s.SeriesActive != 2 || s.SeriesDropped != 6 || s.MemoryBytes < 3000 {
			t.Fatalf("%+v", s)
		}
	})
}

func TestQueryWithoutSeriesIsSaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 0, testDetector(nil))
		g.start()
		defer g.stop()
		elapse(time.Minute)
		if s := g.status(); s.State != model.DetectorLearning || !strings.Contains(s.LastError, "no series so far") {
			t.Fatalf("%+v", s)
		}
	})
}

func TestUnknownSourceAndBadQuery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 1, testDetector(func(d *model.Detector) { d.Source = "elsewhere" }))
		g.start()
		elapse(time.Minute)
		if s := g.status(); s.State != model.DetectorFailed || !strings.Contains(s.LastError, `no source "elsewhere"`) {
			t.Fatalf("%+v", s)
		}
		g.change(func(d *model.Detector) { d.Source = "main" })
		g.src.set(func(f *fakeSource) {
			f.fail = model.WrapError(model.KindQuery, "", errors.New("secret"), "unexpected )")
		})
		elapse(time.Minute)
		if s := g.status(); s.State != model.DetectorFailed || s.LastError != "unexpected )" {
			t.Fatalf("%+v", s)
		}
		g.src.set(func(f *fakeSource) { f.fail = nil })
		elapse(20 * time.Minute)
		if s := g.status(); s.State != model.DetectorRunning {
			t.Fatalf("%+v", s)
		}
		g.stop()
	})
}

func TestHistoryThatCannotBeReadIsDoneWithout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 1, testDetector(nil))
		limited := &limitedSource{fakeSource: g.src}
		g.engine = New(g.cfg, g.store, func(model.Detector) (Source, bool) { return limited, true }, nil, nil, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.engine.Run(ctx) }()
		elapse(3 * time.Minute)
		if s := g.status(); s.State != model.DetectorLearning || s.Lag > 15*time.Second || s.SeriesActive != 1 {
			t.Fatalf("%+v", s)
		}
		elapse(10 * time.Minute)
		if s := g.status(); s.State != model.DetectorRunning {
			t.Fatalf("%+v", s)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

// limitedSource keeps nothing but the last minute and says so.
type limitedSource struct{ *fakeSource }

func (l *limitedSource) QueryRange(ctx context.Context, q string, start, end time.Time, step time.Duration, n int) ([]model.SeriesData, error) {
	if time.Since(start) > time.Minute {
		return nil, model.Errorf(model.KindQuery, "", "the query exceeds the limit of one minute")
	}
	return l.fakeSource.QueryRange(ctx, q, start, end, step, n)
}
