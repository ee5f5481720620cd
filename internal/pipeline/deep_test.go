package pipeline

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"aiops/internal/detect"
	"aiops/internal/model"
)

// rhythms is a source whose first series repeat every five minutes, and once, at
// the step odd, backwards; the others are noise.
func rhythms(n, regular int, odd int64) *fakeSource {
	return &fakeSource{series: labelled(n), value: func(i int, ms int64) (float64, bool) {
		k := ms / testStep
		if i >= regular {
			return noise(i, ms), true
		}
		phase := float64(k%30) / 30
		if k >= odd && k < odd+30 {
			phase = 1 - phase
		}
		return 100 + 10*math.Sin(2*math.Pi*phase) + 5*math.Sin(4*math.Pi*phase) + noise(i, ms)/8, true
	}}
}

// promoting returns a core of the model auto with that much memory for promoted
// models.
func promoting(deepMemory int64) *core {
	d := testDetector(func(d *model.Detector) { d.Model, d.Parameters, d.FalseAlarmsPerWeek = "auto", nil, 1000 })
	c := newCore(newDefinition(d, Config{DeepBytesPerDetector: deepMemory}.withDefaults()), 1, 0)
	c.prove = true
	return c
}

// Property: which series are promoted when, and all scores with it, does not
// depend on how many steps a core is given at once, nor on being stored and
// restored; and a replay of one series, from any snapshot or from the beginning,
// gives what was scored live.
func TestPromotionReplayEqualsLive(t *testing.T) {
	t.Parallel()
	const n, end, odd = 4, 9750, 9600
	src := rhythms(n, 1, odd)
	r := rand.New(rand.NewPCG(11, 1))
	live := promoting(64 << 20)
	want := record(live)
	var kept []model.Snapshot
	for live.watermark < end*testStep {
		if live.watermark/testStep%1500 == 0 {
			kept = append(kept, live.snapshot(time.UnixMilli(live.watermark)))
		}
		feed(live, src, live.watermark+250*testStep, 0)
	}
	regular := live.find(hashKey([]byte(src.series[0].Key())), []byte(src.series[0].Key()))
	if d := detect.DepthOf(regular.model); !d.InForce || live.deep.inForce != 1 {
		t.Fatalf("at the end the series with a rhythm is %+v, %+v", d, live.deep)
	}
	if len(live.past.deep) < 3 {
		t.Fatalf("only %d promotions and demotions", len(live.past.deep))
	}

	again := promoting(64 << 20)
	got := record(again)
	for again.watermark < end*testStep {
		feed(again, src, min(end*testStep, again.watermark+(1+r.Int64N(900))*testStep), 0)
		restored, lost, err := restoreCore(again.def, again.snapshot(time.Time{}))
		if err != nil || lost > 0 {
			t.Fatal(lost, err)
		}
		again = restored
		again.prove = true
		again.watch = func(s *series, p model.ScoredPoint) { got.points[s.key] = append(got.points[s.key], p) }
	}
	if d := want.equal(got); d != "" {
		t.Errorf("restarts: %s", d)
	}
	if !slices.Equal(live.past.deep, again.past.deep) {
		t.Errorf("restarts: promotions %v, want %v", again.past.deep, live.past.deep)
	}

	for i, snap := range append([]model.Snapshot{{}}, kept...) {
		for _, labels := range src.series {
			key, c := labels.Key(), newCore(live.def, 1, 0)
			if i > 0 {
				one, err := restoreSeries(live.def, snap, key)
				if err != nil {
					t.Fatal(err)
				}
				if one == nil {
					continue // there was nothing yet
				}
				c = one
			}
			from := c.watermark
			past := live.past.after(from)
			c.follow = &past
			replayed := record(c)
			only := &fakeSource{series: []model.Labels{labels}, value: func(_ int, ms int64) (float64, bool) {
				return src.value(slices.IndexFunc(src.series, func(l model.Labels) bool { return l.Key() == key }), ms)
			}}
			feed(c, only, end*testStep, 0)
			tail := slices.DeleteFunc(slices.Clone(want.points[key]), func(p model.ScoredPoint) bool { return p.T <= from })
			if d := diffPoints(tail, replayed.points[key]); d != "" {
				t.Errorf("replay of %s from %d: %s", key, from/testStep, d)
			}
		}
	}

	// Control: without the promotions of the past the replay differs.
	c := newCore(live.def, 1, 0)
	past := live.past.after(0)
	past.deep = nil
	c.follow = &past
	plain := record(c)
	feed(c, &fakeSource{series: src.series[:1], value: src.value}, end*testStep, 0)
	if key := src.series[0].Key(); diffPoints(want.points[key], plain.points[key]) == "" {
		t.Error("a replay without promotions gives the same: nothing was compared")
	}
}

// The evidence of a promoted series gives the same score again, and names the
// pattern.
func TestPromotedEvidenceIsReproduced(t *testing.T) {
	t.Parallel()
	const odd = 6000
	src := rhythms(1, 1, odd)
	c := promoting(64 << 20)
	var found []*model.Evidence
	c.emit = func(s *series, tr transition, at int64, note string) {
		if at >= odd*testStep && detect.DepthOf(s.model).InForce {
			if ev := c.evidence(s, "anm_test"); ev != nil {
				found = append(found, ev)
			}
		}
	}
	for c.watermark < (odd+300)*testStep {
		feed(c, src, c.watermark+100*testStep, 0)
	}
	if len(found) == 0 {
		t.Fatal("the odd beat of a promoted series raised nothing")
	}
	for _, ev := range found {
		res, err := Recompute(*ev)
		if err != nil || !res.Reproduced {
			t.Fatalf("%+v, %v", res, err)
		}
	}
	if !slices.ContainsFunc(found[0].Contributions, func(c model.Contribution) bool { return c.Name == "pattern" && c.Share > 0.5 }) {
		t.Errorf("the pattern is not what the score is made of: %+v", found[0].Contributions)
	}
}

// Promoted models stay within the memory of the detector and within a share of
// its series, also when the share becomes smaller, and give back what they do
// not need.
func TestPromotionBudget(t *testing.T) {
	t.Parallel()
	const n = 100
	src := rhythms(n, n, 1<<40)
	for _, tc := range []struct {
		memory int64
		most   int
	}{
		{detect.DeepBytes * 2, 2},
		{1 << 40, (n + deepTimes - 1) / deepTimes},
		{detect.DeepBytes - 1, 0},
	} {
		c := promoting(tc.memory)
		reached := 0
		for c.watermark < 1300*testStep {
			feed(c, src, c.watermark+deepEvery*testStep, 0)
			promoted, size := 0, int64(0)
			for _, s := range c.series {
				if s != nil && detect.DepthOf(s.model).Promoted {
					promoted++
					detached := c.restoreModel(s, s.model.AppendSnapshot(nil))
					detect.Demote(detached)
					size += int64(s.model.SizeBytes() - detached.SizeBytes())
				}
			}
			if promoted > tc.most || size > tc.memory {
				t.Fatalf("%d bytes allowed: %d series promoted with %d bytes", tc.memory, promoted, size)
			}
			reached = max(reached, promoted)
		}
		if reached != tc.most || c.deep.trials+c.deep.inForce != tc.most {
			t.Errorf("%d bytes allowed: at most %d series promoted, %+v, want %d", tc.memory, reached, c.deep, tc.most)
		}
		def := *c.def
		def.deepBytes = 0 // the configuration allows none any more
		c.def = &def
		feed(c, src, c.watermark+2*deepEvery*testStep, 0)
		if c.deep.trials+c.deep.inForce != 0 {
			t.Errorf("without memory: %+v", c.deep)
		}
	}
}

// A backtest promotes what live evaluation does, so that it finds the same alarms,
// among them one that only a promoted model sees.
func TestPromotionBacktestEqualsLive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := testDetector(func(d *model.Detector) { d.Model, d.Parameters, d.FalseAlarmsPerWeek = "auto", nil, 50 })
		run := func(memory int64) (live, again []model.Anomaly) {
			g := newRig(t, 4, d)
			g.cfg.History, g.cfg.DeepBytesPerDetector = model.Duration(24*time.Hour), memory
			begin := time.Now()
			g.src.value = rhythms(4, 1, begin.UnixMilli()/testStep+200).value
			g.start()
			defer g.stop()
			elapse(time.Hour + time.Second)
			live = g.store.list(func(a model.Anomaly) bool { return !a.FiredAt.IsZero() })
			r, err := g.engine.Backtest(t.Context(), d, begin, begin.Add(time.Hour), nil)
			if err != nil {
				t.Fatal(err)
			}
			return live, r.Anomalies
		}
		live, again := run(1 << 20)
		byID := map[string]model.Anomaly{}
		for _, a := range again {
			byID[a.ID] = a
		}
		for _, a := range live {
			if b := byID[a.ID]; math.Float64bits(a.Score) != math.Float64bits(b.Score) || !b.PeakAt.Equal(a.PeakAt) {
				t.Errorf("live %+v\nbacktest %+v", a, b)
			}
		}
		if len(live) == 0 || len(live) != len(again) {
			t.Errorf("%d alarms live, %d in the backtest", len(live), len(again))
		}
		key := labelled(4)[0].Key()
		odd := func(list []model.Anomaly) bool {
			return slices.ContainsFunc(list, func(a model.Anomaly) bool { return a.Series.Key() == key })
		}
		if !odd(live) {
			t.Error("the odd beat raised nothing")
		}
		if plain, _ := run(0); odd(plain) { // the control
			t.Error("without promotion the odd beat is an alarm too: nothing was promoted")
		}
	})
}
