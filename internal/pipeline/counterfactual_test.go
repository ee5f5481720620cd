package pipeline

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"aiops/internal/detect"
	"aiops/internal/model"
)

// origin is the step that the tests of this file count from.
const origin = 10_000_000

func at(n int64) int64      { return (origin + n) * testStep }
func stepOf(ms int64) int64 { return ms/testStep - origin }

// evidenceOf scores a noisy series with deviations at random places and
// returns the evidence of its alarms.
func evidenceOf(t *testing.T, d model.Detector, seed uint64) []model.Evidence {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	odd := map[int64]float64{}
	for range 12 {
		odd[400+int64(rng.IntN(500))] = (rng.Float64() - 0.5) * 400
	}
	def := newDefinition(d, Config{}.withDefaults())
	c := newCore(def, 1, at(-1))
	c.prove = true
	var out []model.Evidence
	c.emit = func(s *series, tr transition, _ int64, _ string) {
		if tr == transitionPending || tr == transitionCancelled {
			return
		}
		if ev := c.evidence(s, "an"); ev != nil {
			out = append(out, *ev)
			c.dropProof(s.episode)
		}
	}
	src := &fakeSource{series: labelled(1), value: func(i int, ms int64) (float64, bool) {
		return noise(i, ms) + odd[stepOf(ms)], true
	}}
	feed(c, src, at(1000), -1)
	return out
}

// TestCounterfactualFlipsTheDecision scores both sides of each flip again from
// the stored state: the one is normal and the other is not.
func TestCounterfactualFlipsTheDecision(t *testing.T) {
	t.Parallel()
	sides, held := 0, 0
	for i, name := range []string{"robust_zscore", "ewma", "iqr", "window", "isolation_forest"} {
		for j, change := range []func(*model.Detector){
			func(*model.Detector) {},
			func(d *model.Detector) { d.Direction = model.DirectionAbove },
			func(d *model.Detector) { d.Direction, d.For = model.DirectionBelow, 0 },
			func(d *model.Detector) { d.MinDeviation.Absolute = 80 },
			func(d *model.Detector) { d.MinDeviation.Relative, d.Refractory = 1.1, time.Minute },
		} {
			d := testDetector(func(d *model.Detector) { d.Model, d.Parameters, d.FalseAlarmsPerWeek = name, nil, 50; change(d) })
			for _, ev := range evidenceOf(t, d, uint64(i*10+j)) {
				r, err := Recompute(ev)
				if err != nil || !r.Reproduced {
					t.Fatalf("%s %d: %v %s", name, j, err, r.Difference)
				}
				n, h := flipsAgain(t, ev, r.Counterfactual)
				sides, held = sides+n, held+h
			}
		}
	}
	if sides < 100 || held < 10 {
		t.Fatalf("only %d flips were checked, %d of them at a gate other than the score", sides, held)
	}
}

func flipsAgain(t *testing.T, ev model.Evidence, c Counterfactual) (sides, held int) {
	t.Helper()
	var d evidenceDefinition
	if err := json.Unmarshal(ev.Definition, &d); err != nil {
		t.Fatal(err)
	}
	gate := func(v float64) detect.Gate {
		m, err := detect.New(detect.Spec{Model: d.Model, Parameters: d.Parameters, Step: msDuration(d.StepMS), Direction: d.Direction, TimeZone: d.TimeZone, Seed: d.Seed})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Restore(ev.ModelState); err != nil {
			t.Fatal(err)
		}
		m.SetThreshold(ev.Threshold)
		return detect.Gates(m.Score(ev.Peak.T, v), v, ev.Threshold, d.Direction, d.MinDeviation)
	}
	if gate(ev.Peak.V) != detect.GateOpen {
		t.Fatalf("the peak itself is no anomaly")
	}
	for _, f := range []Flip{c.Lower, c.Upper} {
		if math.IsNaN(f.Normal) {
			continue
		}
		sides++
		if g := gate(f.Normal); g == detect.GateOpen || g.String() != f.Gate {
			t.Errorf("%s: %v is said to be normal because of %q; the gate is %v", d.Model, f.Normal, f.Gate, g)
		}
		if g := gate(f.Anomalous); g != detect.GateOpen {
			t.Errorf("%s: %v is said to be anomalous; the gate is %v", d.Model, f.Anomalous, g)
		}
		if f.Gate != detect.GateScore.String() {
			held++
		}
	}
	if sides == 0 && !strings.Contains(c.Text, "no single value") {
		t.Errorf("%s: no flip, and the text is %q", d.Model, c.Text)
	}
	return sides, held
}

func TestSimilarEpisodesAreRanked(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	a := model.Anomaly{Series: labelled(2)[0], Value: 100, Expected: 50, Score: 9, StartedAt: begin, ResolvedAt: begin.Add(time.Minute)}
	same, side, other := a, a, a
	side.Value = -400
	other.Series, other.Value = model.LabelsFromMap(map[string]string{"x": "y"}), -400
	ls, ws := likeness(a, same)
	l2, _ := likeness(a, side)
	l3, w3 := likeness(a, other)
	if !(ls > l2 && l2 > l3) || ls < 0.99 || ws != "same series, same side, similar size, similar surprise, similar length" || w3 != "similar surprise, similar length" {
		t.Fatal(ls, l2, l3, ws, w3)
	}
	ramp := func(sign float64) model.Evidence {
		ev := model.Evidence{Peak: model.Sample{T: 100, V: sign * 100}}
		for i := range int64(30) {
			ev.Context = append(ev.Context, model.ScoredPoint{T: i, Value: sign * float64(i*i)})
		}
		return ev
	}
	if r := correlation(shapeOf(ramp(1)), shapeOf(ramp(7))); r < 0.95 {
		t.Errorf("the same shape of another size correlates by %v", r)
	}
	if r := correlation(shapeOf(ramp(1)), shapeOf(ramp(-1))); r > -0.9 {
		t.Errorf("the opposite shape correlates by %v", r)
	}
	if got := probability(model.Anomaly{OnceInSeconds: 12 * 86400}, false); got != "about once in 12 days on this series at this step, if nothing is wrong" {
		t.Error(got)
	}
}

// TestRefractoryKeepsQuiet opens no second alarm while the quiet time runs.
func TestRefractoryKeepsQuiet(t *testing.T) {
	t.Parallel()
	count := func(quiet time.Duration) (fired int) {
		d := testDetector(func(d *model.Detector) { d.Refractory = quiet })
		def := newDefinition(d, Config{}.withDefaults())
		c := newCore(def, 1, at(-1))
		c.emit = func(_ *series, tr transition, _ int64, _ string) {
			if tr == transitionFired {
				fired++
			}
		}
		src := &fakeSource{series: labelled(1), value: func(i int, ms int64) (float64, bool) {
			v := noise(i, ms)
			if n := stepOf(ms); n >= 300 && n < 340 && n%10 == 0 || n == 600 {
				v += 2000
			}
			return v, true
		}}
		feed(c, src, at(700), -1)
		return fired
	}
	if loud, quiet := count(0), count(10*time.Minute); loud != 5 && loud != 4 && loud != 3 || quiet != 2 {
		t.Fatalf("%d alarms without and %d with a refractory time", loud, quiet)
	}
}

// TestKnownEvents neither learns nor tells of what happens inside, and counts
// only from the step on at which it was known.
func TestKnownEvents(t *testing.T) {
	t.Parallel()
	run := func(enter int64, e model.KnownEvent) (fired []int64, c *core, src *fakeSource) {
		d := testDetector(nil)
		c = newCore(newDefinition(d, Config{}.withDefaults()), 1, at(-1))
		c.emit = func(s *series, tr transition, t int64, _ string) {
			if tr == transitionFired {
				fired = append(fired, stepOf(t))
			}
		}
		src = &fakeSource{series: labelled(1), value: func(i int, ms int64) (float64, bool) {
			v := noise(i, ms)
			if n := stepOf(ms); n >= 300 && n < 400 {
				v += 500
			}
			return v, true
		}}
		feed(c, src, at(enter), -1)
		c.knowEvents([]model.KnownEvent{e}, true)
		feed(c, src, at(500), -1)
		return fired, c, src
	}
	e := model.KnownEvent{ID: "evt", Version: 1, From: msTime(at(290)), To: msTime(at(410)), Mute: true, Matchers: map[string]string{"job": "shop"}}
	fired, c, _ := run(100, e)
	if len(fired) != 0 {
		t.Errorf("alarms at %v inside a muted event", fired)
	}
	if c.series[0].last.Expected > 100 {
		t.Errorf("it learned the event: expects %v", c.series[0].last.Expected)
	}
	if fired, _, _ := run(350, e); len(fired) == 0 || fired[0] != 300 {
		t.Errorf("entered late: alarms at %v", fired)
	}
	loud := e
	loud.Mute = false
	if fired, _, _ := run(100, loud); len(fired) == 0 || fired[0] != 300 {
		t.Errorf("not muted: alarms at %v", fired)
	}
	other := e
	other.Matchers = map[string]string{"job": "bank"}
	if fired, _, _ := run(100, other); len(fired) == 0 || fired[0] != 300 {
		t.Errorf("of other series: alarms at %v", fired)
	}
	// The span survives a snapshot, and a deleted event ends where it was.
	back, _, err := restoreCore(c.def, c.snapshot(time.Now()))
	if err != nil || fmt.Sprint(back.past.events) != fmt.Sprint(c.past.events) || len(back.past.events) != 1 {
		t.Fatalf("%v: %+v, was %+v", err, back.past.events, c.past.events)
	}
	c.watermark = at(350)
	if c.knowEvents(nil, true); c.past.events[0].to != at(350) {
		t.Errorf("a deleted event ends at %d", stepOf(c.past.events[0].to))
	}
}

// TestDriftIsSeen stays quiet on scores that keep their promise and reports
// scores that no longer do.
func TestDriftIsSeen(t *testing.T) {
	t.Parallel()
	def := newDefinition(testDetector(nil), Config{}.withDefaults())
	run := func(share func(block int) float64) int {
		rng := rand.New(rand.NewPCG(7, 7))
		var d drift
		steps := time.Hour.Milliseconds() / testStep
		for n := range int64(1000) * steps {
			d.turn(def, n*testStep+1)
			score := 0.5
			if rng.Float64() < share(int(n/steps)) {
				score = 1.5
			}
			d.count(detect.Result{Score: score})
			if d.since != 0 {
				return int(n / steps)
			}
		}
		return 0
	}
	if block := run(func(b int) float64 { return 0.1 + 0.05*math.Sin(float64(b)) }); block != 0 {
		t.Errorf("drift reported at block %d of calibrated scores", block)
	}
	if block := run(func(b int) float64 {
		if b < 200 {
			return 0.1
		}
		return 0.25
	}); block < 200 || block > 220 {
		t.Errorf("drift from block 200 on was reported at %d", block)
	}
}

// Every model leaves evidence that scores the same again, with what the score
// was made of; the forest's says which sample of the run it was.
func TestEvidenceOfEveryModel(t *testing.T) {
	t.Parallel()
	found, attributed := map[string]bool{}, false
	for _, info := range detect.Names() {
		parameters := []byte(nil)
		if info.Name == "threshold" {
			parameters = []byte(`{"above": 100}`)
		}
		d := testDetector(func(d *model.Detector) {
			d.Model, d.Parameters, d.FalseAlarmsPerWeek = info.Name, parameters, 50
		})
		for _, ev := range evidenceOf(t, d, 7) {
			found[info.Name] = true
			r, err := Recompute(ev)
			if err != nil || !r.Reproduced || len(r.Contributions) == 0 || !slices.Equal(r.Contributions, ev.Contributions) {
				t.Errorf("%s: %v %s\nthen %+v\nnow  %+v", info.Name, err, r.Difference, ev.Contributions, r.Contributions)
			}
			attributed = attributed || info.Name == "random_cut_forest" && ev.Contributions[0].Name == "this sample"
		}
	}
	if len(found) < 12 || !attributed {
		t.Errorf("evidence of %d models only, attributed by the forest: %v", len(found), attributed)
	}
	t.Logf("%d models", len(found))
}
