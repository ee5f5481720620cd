package pipeline

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aiops/internal/model"
)

func TestRestartGoesOnFromSnapshot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 2, testDetector(nil))
		from := time.Now().Add(20 * time.Minute)
		g.src.value = spike(from, from.Add(2*time.Minute), 2000)
		g.start()
		elapse(10*time.Minute + time.Second)
		g.stop()
		stopped := g.store.snapshots[len(g.store.snapshots)-1].Watermark
		if behind := time.Now().UnixMilli() - stopped; behind > 20_000 {
			t.Fatalf("the last snapshot is %d ms old", behind)
		}
		elapse(20 * time.Minute) // the anomaly comes and goes meanwhile
		queries := g.src.asked()
		g.start()
		defer g.stop()
		elapse(2 * time.Second)
		if s := g.status(); s.State != model.DetectorRunning || s.Lag > 15*time.Second {
			t.Fatalf("after the restart: %+v", s)
		}
		if n := g.src.asked() - queries; n > 4 {
			t.Fatalf("%d queries for a gap of 120 steps", n)
		}
		if v := g.store.versions; len(v) != 1 {
			t.Fatalf("the restart learned anew: %+v", v)
		}
		var got []string
		for _, e := range g.store.seen() {
			if kind := strings.Fields(e)[0]; kind != string(model.EventAnomalyUpdated) {
				got = append(got, kind)
			}
		}
		if fmt.Sprint(got) != "[detector.trained anomaly.opened anomaly.resolved]" {
			t.Fatalf("events %v", got)
		}
	})
}

// A crash at any time gives the same anomalies, and none of them twice.
func TestCrashWritesNothingTwice(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, crashes []time.Duration) (events []string, anomalies []model.Anomaly) {
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t, 3, testDetector(func(d *model.Detector) { d.KeepFiringFor = 30 * time.Second }))
			start := time.Now()
			g.src.value = func(i int, ms int64) (float64, bool) {
				v := noise(i, ms)
				if k := (ms-start.UnixMilli())/testStep - int64(i)*11; k > 0 && k%60 < 4+k/60 {
					v += 2000
				}
				return v, true
			}
			end := start.Add(time.Hour)
			g.start()
			for _, c := range crashes {
				elapse(c)
				g.crash()
				g.start()
			}
			elapse(time.Until(end))
			g.stop()
			events = slices.DeleteFunc(g.store.seen(), func(e string) bool { return strings.HasPrefix(e, "detector.") })
			anomalies = g.store.list(func(model.Anomaly) bool { return true })
		})
		return events, anomalies
	}
	wantEvents, want := run(t, nil)
	if len(want) < 6 {
		t.Fatalf("only %d anomalies", len(want))
	}
	for _, crashes := range [][]time.Duration{
		{7 * time.Minute}, {time.Minute, time.Minute, 11 * time.Minute}, {16*time.Minute + 3*time.Second, 40 * time.Second, 20 * time.Minute},
	} {
		gotEvents, got := run(t, crashes)
		slices.Sort(gotEvents)
		slices.Sort(wantEvents)
		if fmt.Sprint(gotEvents) != fmt.Sprint(wantEvents) {
			t.Errorf("crashes %v: events\n%v\nnot\n%v", crashes, gotEvents, wantEvents)
		}
		for i := range want {
			want[i].Version, got[i].Version = 0, 0
			if fmt.Sprint(want[i]) != fmt.Sprint(got[i]) {
				t.Errorf("crashes %v: anomaly\n%+v\nnot\n%+v", crashes, got[i], want[i])
			}
		}
	}
}

func TestDamagedPartLearnsAgain(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(parts [][]byte) (survivors int){
		"one part":  func(p [][]byte) int { p[1][len(p[1])/2] ^= 0x40; return 0 },
		"cut off":   func(p [][]byte) int { p[1] = p[1][:len(p[1])-9]; return 0 },
		"header":    func(p [][]byte) int { p[0][8] ^= 1; return 0 },
		"no parts":  func(p [][]byte) int { p[0] = nil; return 0 },
		"untouched": func([][]byte) int { return 3 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, 3, testDetector(nil))
				g.start()
				elapse(10 * time.Minute)
				g.stop()
				survivors := 0
				for _, s := range g.store.snapshots {
					survivors = damage(s.Parts)
				}
				g.start()
				defer g.stop()
				elapse(15 * time.Second)
				s := g.status()
				if s.State != model.DetectorRunning || s.SeriesActive != 3 || s.SeriesLearning != 0 {
					t.Fatalf("after the restart: %+v", s)
				}
				if versions := len(g.store.versions); versions == 1 != (survivors == 3) {
					t.Fatalf("%d model versions with %d intact series", versions, survivors)
				}
				if _, err := g.engine.Replay(t.Context(), "det_test", labelled(1)[0].Key(), time.Now().Add(-5*time.Minute), time.Now()); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestHandResolvedStaysResolved(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"told", "restart", "found out"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, 1, testDetector(nil))
				from := time.Now().Add(5 * time.Minute)
				g.src.value = spike(from, from.Add(3*time.Minute), 2000)
				g.start()
				defer func() { g.stop() }()
				elapse(6 * time.Minute)
				open, _ := g.store.OpenAnomalies(t.Context(), "det_test")
				if len(open) != 1 {
					t.Fatalf("%d open", len(open))
				}
				g.store.set(func(s *fakeStore) {
					a := s.anomalies[open[0].ID]
					a.State, a.ResolvedBy = model.AnomalyResolved, "somebody"
					s.anomalies[a.ID] = a
				})
				events := len(g.store.seen())
				switch how {
				case "told":
					g.engine.Mute("det_test", open[0].ID)
				case "restart":
					g.stop()
					g.start()
				default:
					elapse(time.Minute)
				}
				elapse(15 * time.Second)
				if st := g.list()[0]; st.Anomaly != "" || g.status().OpenAnomalies != 0 {
					t.Fatalf("still shown as open: %+v", st)
				}
				elapse(10 * time.Minute)
				if got := g.store.seen(); len(got) != events {
					t.Fatalf("events after it was resolved by hand: %v", got[events:])
				}
			})
		})
	}
}

func TestStoreThatFailsLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 2, testDetector(nil))
		from := time.Now().Add(5 * time.Minute)
		g.src.value = spike(from, from.Add(2*time.Minute), 2000)
		g.start()
		defer g.stop()
		elapse(4 * time.Minute)
		snapshots := len(g.store.snapshots)
		g.store.set(func(s *fakeStore) { s.fail = model.Errorf(model.KindDatabase, "", "the disk is full") })
		elapse(20 * time.Minute)
		s := g.status()
		if s.State != model.DetectorDegraded || !strings.Contains(s.LastError, "the disk is full") || s.Lag > 15*time.Second {
			t.Fatalf("while the store fails: %+v", s)
		}
		if g.counter("holds_total", holdStore) == 0 {
			t.Fatal("nothing was counted")
		}
		g.store.set(func(s *fakeStore) { s.fail = nil })
		elapse(time.Minute)
		all := g.store.list(func(model.Anomaly) bool { return true })
		if len(all) != 1 || all[0].State != model.AnomalyResolved || g.status().State != model.DetectorRunning || len(g.store.snapshots) == snapshots {
			t.Fatalf("after it: %+v, %+v", all, g.status())
		}
		if _, err := g.store.Evidence(t.Context(), all[0].ID); err != nil {
			t.Fatal(err)
		}
	})
}

func TestChangedQueryLearnsAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 2, testDetector(nil))
		from := time.Now().Add(5 * time.Minute)
		g.src.value = spike(from, from.Add(time.Hour), 2000)
		g.start()
		defer g.stop()
		elapse(6 * time.Minute)
		g.change(func(d *model.Detector) { d.Name = "renamed" })
		elapse(30 * time.Second)
		if len(g.store.versions) != 1 {
			t.Fatalf("renaming learned anew: %+v", g.store.versions)
		}
		g.src.set(func(f *fakeSource) { // the new query gives calm series
			f.value = func(i int, ms int64) (float64, bool) { return noise(i+7, ms), true }
		})
		g.change(func(d *model.Detector) { d.Query = "sum(requests)" })
		elapse(30 * time.Second)
		if v := g.store.versions; len(v) != 2 || v[1].Version != 2 || v[1].Reason != "definition changed" {
			t.Fatalf("model versions %+v", v)
		}
		all := g.store.list(func(model.Anomaly) bool { return true })
		if len(all) != 1 || all[0].State != model.AnomalyResolved || !strings.Contains(all[0].Reason, "learned anew") {
			t.Fatalf("the anomaly of the old definition: %+v", all)
		}
	})
}

func TestStopDeleteAndStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 2, testDetector(nil))
		g.start()
		defer g.stop()
		elapse(time.Minute)
		g.change(func(d *model.Detector) { d.Enabled = false })
		elapse(time.Second)
		queries := g.src.asked()
		elapse(10 * time.Minute)
		if s := g.status(); s.State != model.DetectorStopped || g.src.asked() != queries {
			t.Fatalf("stopped: %+v, %d queries", s, g.src.asked()-queries)
		}
		g.change(func(d *model.Detector) { d.Enabled = true })
		elapse(5 * time.Second)
		if s := g.status(); s.State != model.DetectorRunning || s.Lag > 15*time.Second || len(g.store.versions) != 1 {
			t.Fatalf("started again: %+v", s)
		}
		g.store.set(func(s *fakeStore) { delete(s.detectors, "det_test") })
		if err := g.engine.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		elapse(time.Second)
		queries = g.src.asked()
		elapse(time.Minute)
		if _, ok := g.engine.Status("det_test"); ok || g.src.asked() != queries {
			t.Fatal("a deleted detector is still evaluated")
		}
		if _, _, err := g.engine.Series("det_test", "", 10); model.KindOf(err) != model.KindNotFound {
			t.Fatalf("series of a deleted detector: %v", err)
		}
		if used := g.engine.memory.Load(); used != 0 {
			t.Fatalf("%d bytes are still accounted for", used)
		}
	})
}

func TestPromotedVersionIsUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 2, testDetector(nil))
		g.start()
		defer g.stop()
		elapse(5 * time.Minute)
		v, err := g.engine.Train(t.Context(), "det_test", time.Now().Add(-30*time.Minute), time.Time{}, nil)
		if err != nil || v.Version != 2 {
			t.Fatalf("%+v, %v", v, err)
		}
		elapse(time.Minute)
		if got := g.engine.runners["det_test"].trained.Version; got != 2 {
			t.Fatalf("version %d is in use", got)
		}
		g.store.set(func(s *fakeStore) { s.versions[0].State, s.versions[1].State = model.ModelActive, model.ModelRetired })
		if err := g.engine.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
		elapse(time.Minute)
		if got := g.engine.runners["det_test"].trained.Version; got != 1 || g.status().State != model.DetectorRunning {
			t.Fatalf("version %d is in use, %+v", got, g.status())
		}
	})
}
