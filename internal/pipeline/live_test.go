package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
)

// rig is an engine on fakes, inside a bubble of synctest.
type rig struct {
	t      *testing.T
	store  *fakeStore
	src    *fakeSource
	cfg    Config
	reg    *prometheus.Registry
	shift  atomic.Int64 // nanoseconds of the engine's clock against that of the bubble
	engine *Engine
	stop   func()
}

// newRig makes a rig whose series have history since an hour before.
func newRig(t *testing.T, n int, ds ...model.Detector) *rig {
	t.Helper()
	src := &fakeSource{series: labelled(n), value: func(i int, ms int64) (float64, bool) { return noise(i, ms), true },
		health: model.SourceHealth{State: model.SourceUp}, late: 5 * time.Second}
	return &rig{t: t, store: newFakeStore(ds...), src: src, cfg: Config{History: model.Duration(3 * time.Hour)}}
}

func (g *rig) start() {
	g.t.Helper()
	g.reg = prometheus.NewRegistry()
	sources := func(d model.Detector) (Source, bool) { return g.src, d.Source == "main" }
	g.engine = New(g.cfg, g.store, sources, slog.New(slog.DiscardHandler), g.reg, func() time.Time { return time.Now().Add(time.Duration(g.shift.Load())) })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.engine.Run(ctx) }()
	g.stop = func() {
		cancel()
		if err := <-done; err != nil {
			g.t.Errorf("Run returned %v", err)
		}
		g.stop = func() {}
	}
	synctest.Wait()
}

// elapse lets the bubble's clock run.
func elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (g *rig) status() model.DetectorStatus {
	g.t.Helper()
	s, ok := g.engine.Status("det_test")
	if !ok {
		g.t.Fatal("the engine does not know the detector")
	}
	return s
}

func (g *rig) list() []model.SeriesStatus {
	g.t.Helper()
	out, _, err := g.engine.Series("det_test", "", 1000)
	if err != nil {
		g.t.Fatal(err)
	}
	return out
}

// counter reads one of the engine's counters.
func (g *rig) counter(name, label string) float64 {
	g.t.Helper()
	families, err := g.reg.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "aiops_pipeline_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			if label == "" || m.GetLabel()[0].GetValue() == label {
				if m.GetCounter() != nil {
					return m.GetCounter().GetValue()
				}
				return m.GetGauge().GetValue()
			}
		}
	}
	g.t.Fatalf("no metric %s{%s}", name, label)
	return 0
}

func TestLiveLearnsFromHistoryAndRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 3, testDetector(nil))
		g.start()
		defer g.stop()
		elapse(time.Second)
		s := g.status()
		if s.State != model.DetectorRunning || s.SeriesActive != 3 || s.SeriesLearning != 0 || s.LastError != "" {
			t.Fatalf("one second after the start: %+v", s)
		}
		if got := g.store.versions; len(got) != 1 || got[0].State != model.ModelActive || got[0].Series != 3 {
			t.Fatalf("model versions %+v", got)
		}
		before := g.src.asked()
		elapse(10 * time.Minute)
		if asked := g.src.asked() - before; asked < 59 || asked > 61 {
			t.Fatalf("%d queries in 60 steps", asked)
		}
		if s := g.status(); s.Lag > 10*time.Second || s.State != model.DetectorRunning {
			t.Fatalf("after ten minutes: %+v", s)
		}
		for _, s := range g.list() {
			if s.Learning || s.Model == "" || s.Why == "" || s.LastT < time.Now().Add(-30*time.Second).UnixMilli() {
				t.Fatalf("series %+v", s)
			}
		}
	})
}

// spike makes series 0 jump between two times.
func spike(from, to time.Time, by float64) func(int, int64) (float64, bool) {
	return func(i int, ms int64) (float64, bool) {
		v := noise(i, ms)
		if i == 0 && ms >= from.UnixMilli() && ms < to.UnixMilli() {
			v += by
		}
		return v, true
	}
}

func TestLiveAnomalyOpensExplainsAndResolves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 3, testDetector(func(d *model.Detector) { d.KeepFiringFor = 30 * time.Second }))
		from := time.Now().Add(10 * time.Minute)
		g.src.value = spike(from, from.Add(2*time.Minute), 2000)
		g.start()
		defer g.stop()
		elapse(11 * time.Minute)
		open, _ := g.store.OpenAnomalies(t.Context(), "det_test")
		if len(open) != 1 || open[0].State != model.AnomalyFiring || !open[0].StartedAt.Equal(from) || open[0].Series.Value("instance") != "host-00000" {
			t.Fatalf("open anomalies %+v", open)
		}
		a := open[0]
		if !strings.Contains(a.Reason, "was expected; ") || a.Severity != model.SeverityCritical || a.OnceInSeconds < 3600 {
			t.Fatalf("anomaly %+v", a)
		}
		x, err := g.engine.Explain(t.Context(), a.ID)
		if err != nil {
			t.Fatal(err)
		}
		if !x.Recomputed.Reproduced || len(x.Recomputed.Contributions) == 0 || len(x.Evidence.Context) == 0 || x.Evidence.Counterfactual == "" {
			t.Fatalf("explanation %+v", x)
		}
		if got := x.Recomputed.Point; got.Value != a.Value || got.Score != a.Score || got.Lower != a.Lower || got.Upper != a.Upper {
			t.Fatalf("recomputed %+v for %+v", got, a)
		}
		st := g.list()
		if st[0].Anomaly != model.AnomalyFiring || st[0].AnomalyID != a.ID || g.status().OpenAnomalies != 1 {
			t.Fatalf("series %+v", st[0])
		}
		elapse(5 * time.Minute)
		a, _ = g.store.Anomaly(t.Context(), a.ID)
		if a.State != model.AnomalyResolved || a.ResolvedAt.Before(from.Add(2*time.Minute)) || a.ResolvedAt.After(from.Add(4*time.Minute)) {
			t.Fatalf("at the end %+v", a)
		}
		events := slices.DeleteFunc(g.store.seen(), func(e string) bool { return !strings.HasPrefix(e, "anomaly.") })
		if events[0] != "anomaly.opened "+a.ID || events[len(events)-1] != "anomaly.resolved "+a.ID || len(events) > 4 {
			t.Fatalf("events %v", events)
		}
	})
}

// The evidence of another peak must not pass as reproduced.
func TestRecomputeNoticesTampering(t *testing.T) {
	t.Parallel()
	src := &fakeSource{series: labelled(1), value: func(i int, ms int64) (float64, bool) {
		if ms == 300*testStep {
			return 200, true
		}
		return noise(i, ms), true
	}}
	c := world{src: src, d: testDetector(nil), cap: 5}.core()
	var ev *model.Evidence
	c.emit = func(s *series, tr transition, _ int64, _ string) {
		if tr == transitionFired {
			ev = c.evidence(s, "an_x")
		}
	}
	feed(c, src, 301*testStep, 0)
	if ev == nil {
		t.Fatal("no evidence")
	}
	if r, err := Recompute(*ev); err != nil || !r.Reproduced {
		t.Fatalf("%+v, %v", r, err)
	}
	other := *ev
	other.Peak.V = 201
	if r, err := Recompute(other); err != nil || r.Reproduced || r.Difference == "" {
		t.Fatalf("another value was reproduced: %+v, %v", r, err)
	}
	other = *ev
	other.ModelState = slices.Clone(ev.ModelState)
	other.ModelState[len(other.ModelState)/2] ^= 1
	if _, err := Recompute(other); err == nil {
		t.Fatal("a damaged model state was accepted")
	}
}

func TestPromiseNoDataIsNotHealth(t *testing.T) {
	t.Parallel()
	down := func(f *fakeSource) { f.health.State, f.health.LastError = model.SourceDown, "connection refused" }
	for name, fault := range map[string]func(*fakeSource){
		"down":      func(f *fakeSource) { down(f); f.health.CheckedAt = time.Now().Add(time.Hour) },
		"unchecked": down,
		"stale":     func(f *fakeSource) { f.health.State = model.SourceStale; f.newest = time.Now().UnixMilli() },
		"error":     func(f *fakeSource) { f.fail = model.Errorf(model.KindNetwork, "", "connection reset") },
		"timeout":   func(f *fakeSource) { f.block = make(chan struct{}) },
	} {
		for _, policy := range []model.MissingData{model.MissingIgnore, model.MissingZero, model.MissingLast, model.MissingAnomaly} {
			t.Run(name+"/"+string(policy), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { noDataIsNotHealth(t, fault, policy) })
			})
		}
	}
}

// noDataIsNotHealth breaks the source while an anomaly is open and would have
// resolved, and while another begins.
func noDataIsNotHealth(t *testing.T, fault func(*fakeSource), policy model.MissingData) {
	g := newRig(t, 3, testDetector(func(d *model.Detector) { d.MissingData = policy }))
	from := time.Now().Add(10 * time.Minute)
	breaks, heals := from.Add(time.Minute), from.Add(31*time.Minute)
	anomaly := spike(from, from.Add(5*time.Minute), 2000)
	g.src.value = func(i int, ms int64) (float64, bool) { // scraped by the source itself: nothing while it is broken
		v, ok := anomaly(i, ms)
		return v, ok && (ms < breaks.UnixMilli() || ms >= heals.UnixMilli())
	}
	g.start()
	defer g.stop()
	elapse(11*time.Minute - time.Second)
	points, events := g.list(), len(g.store.seen())
	if open, _ := g.store.OpenAnomalies(t.Context(), "det_test"); len(open) != 1 {
		t.Fatalf("%d open anomalies before the outage", len(open))
	}
	g.src.set(fault)
	elapse(30 * time.Minute)
	s := g.status()
	if s.State == model.DetectorRunning || s.LastError == "" || s.Lag < 25*time.Minute {
		t.Fatalf("during the outage: %+v", s)
	}
	for i, now := range g.list() {
		if now.LastT > points[i].LastT+20_000 {
			t.Fatalf("learned at %d during the outage", now.LastT)
		}
	}
	if got := g.store.seen(); len(got) != events {
		t.Fatalf("events during the outage: %v", got[events:])
	}
	g.src.set(func(f *fakeSource) {
		if f.block != nil {
			close(f.block)
		}
		f.health, f.fail, f.block, f.newest = model.SourceHealth{State: model.SourceUp}, nil, nil, 0
	})
	elapse(3 * time.Minute)
	if s := g.status(); s.State != model.DetectorRunning || s.LastError != "" || s.Lag > 15*time.Second {
		t.Fatalf("after the outage: %+v", s)
	}
	var kinds []string
	for _, e := range g.store.seen()[events:] {
		kinds = append(kinds, strings.Fields(e)[0])
	}
	if fmt.Sprint(kinds) != "[anomaly.resolved]" {
		t.Fatalf("events after the outage: %v", kinds)
	}
	for _, now := range g.list() {
		if d := math.Abs(now.Last.Expected - 50); d > 5 {
			t.Fatalf("the outage was learned: expected %v", now.Last.Expected)
		}
	}
}

// With missing_data last, silence is the last value again and again, and
// flat_line says how rare that is. With ignore, the control, it says nothing.
func TestFlatLineSeesSilence(t *testing.T) {
	t.Parallel()
	for policy, want := range map[model.MissingData]int{model.MissingLast: 2, model.MissingIgnore: 0} {
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t, 2, testDetector(func(d *model.Detector) { d.Model, d.Parameters, d.MissingData = "flat_line", nil, policy }))
			silent := time.Now().Add(10 * time.Minute)
			g.src.value = func(i int, ms int64) (float64, bool) { return noise(i, ms), ms < silent.UnixMilli() }
			g.start()
			defer g.stop()
			elapse(20 * time.Minute)
			open, _ := g.store.OpenAnomalies(t.Context(), "det_test")
			if len(open) != want {
				t.Fatalf("%s: %d open anomalies: %+v", policy, len(open), open)
			}
			for _, a := range open {
				if !strings.Contains(a.Reason, "it has stopped moving") {
					t.Errorf("%s: %s", policy, a.Reason)
				}
				if x, err := g.engine.Explain(t.Context(), a.ID); err != nil || !x.Recomputed.Reproduced {
					t.Errorf("%+v, %v", x.Recomputed, err)
				}
			}
		})
	}
}

// The control: a healthy source whose series fall silent is not an outage.
func TestSilenceOfAHealthySourceIsAnAnomaly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 2, testDetector(func(d *model.Detector) { d.MissingData = model.MissingAnomaly }))
		silent := time.Now().Add(10 * time.Minute)
		g.src.value = func(i int, ms int64) (float64, bool) { return noise(i, ms), ms < silent.UnixMilli() }
		g.start()
		defer g.stop()
		elapse(12 * time.Minute)
		open, _ := g.store.OpenAnomalies(t.Context(), "det_test")
		if len(open) != 2 || !strings.Contains(open[0].Reason, "no sample since") || !math.IsNaN(open[0].Value) {
			t.Fatalf("%d open anomalies: %+v", len(open), open)
		}
		if x, err := g.engine.Explain(t.Context(), open[0].ID); err != nil || !x.Recomputed.Reproduced {
			t.Fatalf("%+v, %v", x.Recomputed, err)
		}
	})
}

// crash stops the engine as kill -9 does: nothing that happens afterwards
// reaches the store.
func (g *rig) crash() {
	old := g.store
	frozen := newFakeStore()
	old.set(func(s *fakeStore) {
		frozen.detectors, frozen.anomalies, frozen.evidence = s.detectors, map[string]model.Anomaly{}, map[string]model.Evidence{}
		for id, a := range s.anomalies {
			frozen.anomalies[id] = a
		}
		for id, e := range s.evidence {
			frozen.evidence[id] = e
		}
		frozen.events, frozen.snapshots, frozen.versions = slices.Clone(s.events), slices.Clone(s.snapshots), slices.Clone(s.versions)
	})
	g.stop()
	g.store = frozen
}

// Property: replaying a detector gives bit for bit what it scored live, across
// restarts, crashes, outages, changed definitions and new model versions.
func TestReplayEqualsLive(t *testing.T) {
	t.Parallel()
	var compared atomic.Int64
	t.Cleanup(func() {
		if n := compared.Load(); n < 2000 {
			t.Errorf("only %d points were compared", n)
		}
	})
	for seed := range uint64(24) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { compared.Add(replayEqualsLive(t, rand.New(rand.NewPCG(seed, 1)))) })
		})
	}
}

func replayEqualsLive(t *testing.T, r *rand.Rand) (compared int64) {
	d := testDetector(func(d *model.Detector) {
		d.MissingData = []model.MissingData{model.MissingIgnore, model.MissingZero, model.MissingLast, model.MissingAnomaly}[r.IntN(4)]
		d.For = time.Duration(r.IntN(3)) * d.Step
		d.KeepFiringFor = time.Duration(r.IntN(6)) * d.Step
		d.FalseAlarmsPerWeek = []float64{1, 100, 5000}[r.IntN(3)]
		if r.IntN(3) == 0 {
			d.Model, d.Parameters = "auto", nil
		}
	})
	g := newRig(t, 1+r.IntN(5), d)
	start := time.Now().UnixMilli()
	base, gaps, outage := noiseWorld(r, start), r.Int64N(40)+3, start+r.Int64N(60)*60_000
	g.src.value = func(i int, ms int64) (float64, bool) {
		k := ms / testStep
		if (k/gaps+int64(i))%5 == 0 && i%2 == 1 || ms >= outage && ms < outage+120_000 || i == 2 && ms < start+600_000 {
			return 0, false
		}
		return base(i, ms), true
	}
	live := map[string]map[int64]model.ScoredPoint{}
	note := func() {
		for _, s := range g.list() {
			key := s.Labels.Key()
			if live[key] == nil {
				live[key] = map[int64]model.ScoredPoint{}
			}
			if s.Last.T > start {
				live[key][s.Last.T] = s.Last
			}
		}
	}
	g.start()
	defer func() { g.stop() }()
	for range 120 {
		for range 1 + r.IntN(6) {
			elapse(10 * time.Second)
			note()
		}
		g.disturb(r)
	}
	g.src.set(func(f *fakeSource) { f.health.State, f.fail = model.SourceUp, nil })
	elapse(time.Minute)
	for key, points := range live {
		for from := start; from < time.Now().UnixMilli(); from += 9000 * testStep {
			got, err := g.engine.Replay(t.Context(), "det_test", key, time.UnixMilli(from), time.UnixMilli(from+9000*testStep))
			if err != nil {
				t.Fatal(err)
			}
			at := map[int64]model.ScoredPoint{}
			for _, p := range got.Points {
				at[p.T] = p
			}
			for _, ts := range slices.Sorted(maps.Keys(points)) {
				want := points[ts]
				if ts < from || ts >= from+9000*testStep {
					continue
				}
				if diff := difference(want, at[ts]); diff != "" {
					t.Fatalf("%s at step %d: %s", key, (ts-start)/testStep, diff)
				}
				compared++
			}
		}
	}
	return compared
}

// noiseWorld is noise with spikes and level shifts.
func noiseWorld(r *rand.Rand, start int64) func(int, int64) float64 {
	every, length := r.Int64N(100)+40, r.Int64N(8)+1
	shift := start + r.Int64N(3600)*1000
	return func(i int, ms int64) float64 {
		v := noise(i, ms)
		if (ms/testStep+int64(i)*17)%every < length {
			v += 700
		}
		if ms > shift {
			v += 8
		}
		return v
	}
}

// disturb does something that must not change what is scored.
func (g *rig) disturb(r *rand.Rand) {
	switch r.IntN(30) {
	case 0:
		g.stop()
		g.start()
	case 1:
		g.crash()
		g.start()
	case 2:
		g.src.set(func(f *fakeSource) { f.health.State = model.SourceDown; f.health.CheckedAt = time.Now().Add(time.Hour) })
	case 3:
		g.src.set(func(f *fakeSource) { f.fail = model.Errorf(model.KindTimeout, "", "too slow") })
	case 4, 5, 6, 7:
		g.src.set(func(f *fakeSource) { f.health.State, f.fail = model.SourceUp, nil })
	case 8:
		g.change(func(d *model.Detector) { d.FalseAlarmsPerWeek = []float64{2, 300}[r.IntN(2)] })
	case 9:
		g.change(func(d *model.Detector) {
			d.Direction = []model.Direction{model.DirectionAbove, model.DirectionBoth}[r.IntN(2)]
			d.MinDeviation.Absolute = float64(r.IntN(10))
		})
	case 10:
		if _, err := g.engine.Train(g.t.Context(), "det_test", time.Time{}, time.Time{}, nil); err != nil {
			switch model.KindOf(err) {
			case model.KindTooLittleData, model.KindTimeout, model.KindSourceUnavailable, model.KindConflict:
			default:
				g.t.Fatal(err)
			}
		}
	}
}

// change alters the definition as the API does.
func (g *rig) change(f func(*model.Detector)) {
	g.store.set(func(s *fakeStore) {
		d := s.detectors["det_test"]
		f(&d)
		d.Version++
		d.UpdatedAt = time.Now()
		s.detectors["det_test"] = d
	})
	if err := g.engine.Sync(g.t.Context()); err != nil {
		g.t.Fatal(err)
	}
	synctest.Wait()
}
