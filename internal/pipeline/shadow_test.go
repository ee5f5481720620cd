package pipeline

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aiops/internal/model"
)

// bumps adds small deviations on series 0 every 20 minutes and large ones on
// series 1 every 30 minutes, from begin on.
func bumps(begin time.Time) func(int, int64) (float64, bool) {
	return func(i int, ms int64) (float64, bool) {
		v := noise(i, ms)
		at := (ms - begin.UnixMilli()) / time.Minute.Milliseconds()
		switch {
		case at > 0 && i == 0 && at%20 == 7:
			v += 60
		case at > 0 && i == 1 && at%30 == 11:
			v += 2000
		}
		return v, true
	}
}

func (g *rig) report() model.ShadowReport {
	g.t.Helper()
	r, err := g.engine.Shadow(g.t.Context(), "det_test")
	if err != nil {
		g.t.Fatal(err)
	}
	return r
}

// TestShadowOfGates runs a definition with other gates beside the live one: it
// begins with the live state, costs no query, tells nobody, and its lost alarms
// are named; promoting it keeps what was learned and the alarms that go on.
func TestShadowOfGates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 3, testDetector(nil))
		g.src.value = bumps(time.Now())
		g.start()
		defer g.stop()
		elapse(2*time.Minute + time.Second)
		if _, err := g.engine.StartShadow(t.Context(), "det_test", testDetector(nil), 0, ""); model.KindOf(err) != model.KindInvalid {
			t.Fatalf("a shadow without a change: %v", err)
		}
		if _, err := g.engine.StartShadow(t.Context(), "det_test", testDetector(func(d *model.Detector) { d.Query = "other" }), 0, ""); model.KindOf(err) != model.KindInvalid {
			t.Fatalf("a shadow of another query: %v", err)
		}
		if _, err := g.engine.StartShadow(t.Context(), "det_test", testDetector(func(d *model.Detector) { d.MinDeviation.Absolute = 500 }), 0, "quieter"); err != nil {
			t.Fatal(err)
		}
		queries := g.src.asked()
		elapse(time.Hour)
		if asked := g.src.asked() - queries; asked > 365 {
			t.Errorf("%d queries for 360 steps: the shadow has queries of its own", asked)
		}
		r := g.report()
		if r.State != model.ShadowRunning || r.Series != 3 || r.Error != "" || r.Shadow.ModelVersion != 2 {
			t.Fatalf("%+v", r)
		}
		if len(r.Gained) != 0 || len(r.Lost) != 3 || len(r.Shared) != 2 || !strings.Contains(r.Lost[0].Series.Key(), "host-00000") || !strings.Contains(r.Shared[0].Live.Series.Key(), "host-00001") {
			t.Fatalf("gained %d lost %d shared %d", len(r.Gained), len(r.Lost), len(r.Shared))
		}
		if a := r.Agreement; a.Samples != 3*360 || a.Both == 0 || a.OnlyLive == 0 || a.OnlyShadow != 0 {
			t.Fatalf("agreement %+v", a)
		}
		if m := g.status().MemoryBytes; r.MemoryBytes < 1000 || m < r.MemoryBytes*18/10 {
			t.Errorf("%d bytes with a shadow of %d", m, r.MemoryBytes)
		}
		events := g.store.seen()
		for _, a := range g.store.shadows {
			if !slices.ContainsFunc(r.Shared, func(p model.ShadowPair) bool { return p.Shadow.ID == a.ID }) && slices.ContainsFunc(events, func(e string) bool { return strings.Contains(e, a.ID) }) {
				t.Errorf("the shadow's alarm %s was told", a.ID)
			}
		}
		if _, err := g.engine.PromoteShadow(t.Context(), "det_test", 9); model.KindOf(err) != model.KindPrecondition {
			t.Fatalf("promoting another version: %v", err)
		}
		elapse(30 * time.Second)
		d, err := g.engine.PromoteShadow(t.Context(), "det_test", 0)
		if err != nil || d.Version != 2 || d.MinDeviation.Absolute != 500 {
			t.Fatalf("promote: %+v %v", d, err)
		}
		elapse(time.Hour)
		if s := g.status(); s.State != model.DetectorRunning {
			t.Fatalf("%+v", s)
		}
		if _, err := g.engine.Shadow(t.Context(), "det_test"); model.KindOf(err) != model.KindNotFound {
			t.Fatalf("the promoted shadow is still there: %v", err)
		}
		for _, a := range g.store.list(func(a model.Anomaly) bool { return a.StartedAt.After(d.UpdatedAt) }) {
			if math.Abs(a.Value-a.Expected) < 500 || a.ModelVersion != 2 {
				t.Errorf("%+v", a)
			}
		}
		g.sameAsReplay(d.UpdatedAt.Add(-50*time.Minute), time.Now())
		if n := len(g.store.versions); n != 2 {
			t.Errorf("%d model versions: something was learned again", n)
		}
	})
}

// sameAsReplay compares the replayed episodes with those that were stored.
func (g *rig) sameAsReplay(from, to time.Time) {
	g.t.Helper()
	compared := 0
	for _, ls := range g.src.series {
		r, err := g.engine.Replay(g.t.Context(), "det_test", ls.Key(), from, to)
		if err != nil {
			g.t.Fatal(err)
		}
		for _, a := range r.Anomalies {
			s, err := g.store.Anomaly(g.t.Context(), a.ID)
			if err != nil || s.Score != a.Score || !s.FiredAt.Equal(a.FiredAt) || !s.ResolvedAt.Equal(a.ResolvedAt) {
				g.t.Errorf("replayed %+v\nstored %+v (%v)", a, s, err)
			}
			compared++
		}
		for _, a := range g.store.list(func(a model.Anomaly) bool {
			return a.Series.Key() == ls.Key() && !a.FiredAt.IsZero() && a.StartedAt.After(from) && a.StartedAt.Before(to)
		}) {
			if !slices.ContainsFunc(r.Anomalies, func(b model.Anomaly) bool { return b.ID == a.ID }) {
				g.t.Errorf("stored and not replayed: %+v", a)
			}
		}
	}
	if compared == 0 {
		g.t.Error("nothing was compared")
	}
}

// TestShadowOfAnotherModel learns in the background, survives a restart with
// what it counted, and goes live without learning again.
func TestShadowOfAnotherModel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 3, testDetector(nil))
		g.cfg.SnapshotEvery = model.Duration(time.Minute)
		g.src.value = bumps(time.Now())
		g.start()
		elapse(2*time.Minute + time.Second)
		other := testDetector(func(d *model.Detector) { d.Model, d.Parameters = "ewma", nil })
		if _, err := g.engine.StartShadow(t.Context(), "det_test", other, 0, "try ewma"); err != nil {
			t.Fatal(err)
		}
		elapse(40 * time.Minute)
		first := g.report()
		if first.State != model.ShadowRunning || first.Learning != 0 || first.Agreement.Samples < 3*230 {
			t.Fatalf("%+v", first)
		}
		g.stop()
		elapse(10 * time.Minute)
		g.start()
		elapse(30 * time.Second)
		again := g.report()
		if a := again.Agreement; again.State != model.ShadowRunning || a.Samples != first.Agreement.Samples+3*63 {
			t.Fatalf("after the restart %+v", again)
		}
		if !again.Shadow.Since.Equal(first.Shadow.Since) || len(again.Shared) < len(first.Shared) {
			t.Fatalf("after the restart %+v", again)
		}
		elapse(10 * time.Minute)
		if n := len(g.report().Shared); n < 3 {
			t.Fatalf("%d shared alarms", n)
		}
		d, err := g.engine.PromoteShadow(t.Context(), "det_test", 0)
		if err != nil || d.Model != "ewma" {
			t.Fatalf("%+v %v", d, err)
		}
		elapse(time.Hour)
		if s := g.list()[0]; s.Model != "ewma" || s.Learning {
			t.Fatalf("%+v", s)
		}
		g.sameAsReplay(d.UpdatedAt, time.Now())
		if v, _ := activeVersion(g.store.versions); v.Version != 2 || len(g.store.versions) != 2 {
			t.Fatalf("%+v", g.store.versions)
		}

		// Back to the first definition: its models are still there.
		g.store.change(testDetector(nil))
		if err := g.engine.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		elapse(time.Minute)
		v, _ := activeVersion(g.store.versions)
		if s := g.status(); s.State != model.DetectorRunning || v.Version != 3 || !strings.Contains(v.Reason, "warm from model version 1") {
			t.Fatalf("%+v %+v", s, v)
		}
		began := time.Now()
		elapse(time.Hour)
		g.sameAsReplay(began, time.Now())
		g.stop()
	})
}

// TestShadowIsDiscarded ends a shadow, by hand and because its detector asks
// another query, and leaves nothing behind.
func TestShadowIsDiscarded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 2, testDetector(nil))
		g.start()
		defer g.stop()
		elapse(time.Minute)
		memory := g.status().MemoryBytes
		start := func(name string) {
			t.Helper()
			if _, err := g.engine.StartShadow(t.Context(), "det_test", testDetector(func(d *model.Detector) { d.Model, d.Parameters = name, nil }), 0, ""); err != nil {
				t.Fatal(err)
			}
			elapse(2 * time.Minute)
		}
		start("ewma")
		if err := g.engine.DiscardShadow(t.Context(), "det_test", 0); err != nil {
			t.Fatal(err)
		}
		elapse(time.Minute)
		if m := g.status().MemoryBytes; m > memory*11/10 || len(g.store.versions) != 1 || len(g.store.shadows) != 0 {
			t.Fatalf("%d bytes, %d before; %+v", m, memory, g.store.versions)
		}
		start("iqr")
		g.store.change(testDetector(func(d *model.Detector) { d.Query = "other" }))
		if err := g.engine.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		elapse(2 * time.Minute)
		if g.store.shadow != nil || !strings.Contains(fmt.Sprint(g.store.seen()), "another source, query or step") {
			t.Fatalf("%v", g.store.seen())
		}
	})
}

// TestShadowOfAModelVersion lets an earlier model version score beside the
// active one.
func TestShadowOfAModelVersion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 2, testDetector(nil))
		g.src.value = bumps(time.Now())
		g.start()
		defer g.stop()
		elapse(20 * time.Minute)
		if _, err := g.engine.Train(t.Context(), "det_test", time.Now().Add(-2*time.Hour), time.Now(), nil); err != nil {
			t.Fatal(err)
		}
		elapse(5 * time.Minute)
		if _, err := g.engine.StartShadow(t.Context(), "det_test", testDetector(nil), 7, ""); model.KindOf(err) != model.KindNotFound {
			t.Fatalf("a version that does not exist: %v", err)
		}
		if _, err := g.engine.StartShadow(t.Context(), "det_test", testDetector(nil), 1, ""); err != nil {
			t.Fatal(err)
		}
		elapse(30 * time.Minute)
		r := g.report()
		if r.State != model.ShadowRunning || r.Agreement.Samples < 2*170 || len(r.Shared) == 0 {
			t.Fatalf("%+v", r)
		}
		if _, err := g.engine.PromoteShadow(t.Context(), "det_test", 0); err != nil {
			t.Fatal(err)
		}
		elapse(30 * time.Minute)
		if v, _ := activeVersion(g.store.versions); v.Version != 1 {
			t.Fatalf("%+v", g.store.versions)
		}
		g.sameAsReplay(time.Now().Add(-50*time.Minute), time.Now())
	})
}
