package pipeline

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"aiops/internal/model"
)

// scored is a record of everything that a core said.
type scored struct {
	points      map[string][]model.ScoredPoint
	transitions []string
}

func record(c *core) *scored {
	r := &scored{points: map[string][]model.ScoredPoint{}}
	c.watch = func(s *series, p model.ScoredPoint) { r.points[s.key] = append(r.points[s.key], p) }
	c.emit = func(s *series, tr transition, t int64, note string) {
		a := c.anomaly(s, t, note)
		r.transitions = append(r.transitions, fmt.Sprintf("%d %s %s %s %x %s", t, a.ID, tr, a.Severity, math.Float64bits(a.Score), a.Reason))
	}
	return r
}

// equal reports the first difference of two records, "" when there is none.
func (r *scored) equal(o *scored) string {
	if len(r.points) != len(o.points) {
		return fmt.Sprintf("%d series, not %d", len(o.points), len(r.points))
	}
	for key, a := range r.points {
		if d := diffPoints(a, o.points[key]); d != "" {
			return key + ": " + d
		}
	}
	return ""
}

func diffPoints(a, b []model.ScoredPoint) string {
	for i := range a {
		if i >= len(b) {
			return fmt.Sprintf("%d points, not %d", len(b), len(a))
		}
		if a[i].T != b[i].T {
			return fmt.Sprintf("point %d is at %d, not %d", i, b[i].T, a[i].T)
		}
		if d := difference(a[i], b[i]); d != "" {
			return fmt.Sprintf("at %d %s", a[i].T, d)
		}
	}
	if len(b) > len(a) {
		return fmt.Sprintf("%d points, not %d", len(b), len(a))
	}
	return ""
}

// world draws a source whose series come, go, fall silent, jump and are not
// numbers, and the definition that watches them.
type world struct {
	src   *fakeSource
	d     model.Detector
	steps int64
	cap   int
}

func drawWorld(t *rapid.T) world {
	n := rapid.IntRange(1, 6).Draw(t, "series")
	steps := int64(rapid.IntRange(40, 400).Draw(t, "steps"))
	type life struct{ from, to, silentFrom, silentTo, spikeAt, spikeFor int64 }
	lives := make([]life, n)
	at := func(name string) int64 { return int64(rapid.IntRange(0, int(steps)).Draw(t, name)) }
	for i := range lives {
		l := life{from: at("from") / 2, to: at("to") + steps/2, silentFrom: at("silent"), spikeAt: at("spike")}
		l.silentTo = l.silentFrom + int64(rapid.IntRange(0, 150).Draw(t, "silent_for"))
		l.spikeFor = int64(rapid.IntRange(0, 20).Draw(t, "spike_for"))
		lives[i] = l
	}
	outageFrom := at("outage")
	outageTo := outageFrom + int64(rapid.IntRange(0, 30).Draw(t, "outage_for"))
	nanEvery := int64(rapid.IntRange(5, 100).Draw(t, "nan_every"))
	src := &fakeSource{series: labelled(n), value: func(i int, ms int64) (float64, bool) {
		k, l := ms/testStep, lives[i]
		switch {
		case k < l.from || k > l.to || k >= l.silentFrom && k < l.silentTo || k >= outageFrom && k < outageTo:
			return 0, false
		case (k+int64(i))%nanEvery == 0:
			return math.NaN(), true
		case k >= l.spikeAt && k < l.spikeAt+l.spikeFor:
			return noise(i, ms) + 60, true
		}
		return noise(i, ms), true
	}}
	d := testDetector(func(d *model.Detector) {
		d.Parameters = []byte(`{"window": 16}`)
		d.MissingData = rapid.SampledFrom([]model.MissingData{model.MissingIgnore, model.MissingZero, model.MissingLast, model.MissingAnomaly}).Draw(t, "missing")
		d.For = time.Duration(rapid.IntRange(0, 5).Draw(t, "for")) * d.Step
		d.KeepFiringFor = time.Duration(rapid.IntRange(0, 5).Draw(t, "keep")) * d.Step
		d.FalseAlarmsPerWeek = rapid.SampledFrom([]float64{1, 1000, 10000}).Draw(t, "budget")
		d.Model = rapid.SampledFrom([]string{"robust_zscore", "auto"}).Draw(t, "model")
		if d.Model == "auto" {
			d.Parameters = nil
		}
	})
	return world{src: src, d: d, steps: steps, cap: rapid.IntRange(1, 8).Draw(t, "cap")}
}

func (w world) core() *core {
	def := newDefinition(w.d, Config{MaxSeries: w.cap, SeriesTTL: model.Duration(time.Second)}.withDefaults())
	c := newCore(def, 1, 0)
	c.prove = true
	return c
}

// Property: what a core says does not depend on how many steps it is given at
// once, nor on being stored and restored in between.
func TestCoreIndependentOfBatches(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		gapUntil := int64(rapid.IntRange(0, int(w.steps)).Draw(t, "gap_until")) * testStep
		one := w.core()
		want := record(one)
		for one.watermark < w.steps*testStep {
			feed(one, w.src, one.watermark+testStep, gapUntil)
		}

		c := w.core()
		got := record(c)
		for c.watermark < w.steps*testStep {
			batch := int64(rapid.SampledFrom([]int{1, 1, 2, 7, 50, 400}).Draw(t, "batch"))
			feed(c, w.src, min(w.steps, c.watermark/testStep+batch)*testStep, gapUntil)
			if rapid.Bool().Draw(t, "restart") {
				restored, lost, err := restoreCore(c.def, c.snapshot(time.Time{}))
				if err != nil || lost != 0 {
					t.Fatalf("restoring: %d lost, %v", lost, err)
				}
				restored.prove, restored.watch = true, c.watch
				next := record(restored)
				next.points, next.transitions = got.points, got.transitions
				c, got = restored, next
			}
		}
		if d := want.equal(got); d != "" {
			t.Fatal(d)
		}
		slices.Sort(want.transitions) // within a step the order of series is free
		slices.Sort(got.transitions)
		if d := cmp.Diff(want.transitions, got.transitions); d != "" {
			t.Fatal(d)
		}
		if a, b := fmt.Sprint(one.past), fmt.Sprint(c.past); a != b {
			t.Fatalf("the past is %s, not %s", b, a)
		}
	})
}

// The control of the property above: a model that is a single sample behind is
// noticed.
func TestCoreDifferenceIsSeen(t *testing.T) {
	t.Parallel()
	src := &fakeSource{series: labelled(1), value: func(i int, ms int64) (float64, bool) { return noise(i, ms), true }}
	a, b := world{src: src, d: testDetector(nil), cap: 5}.core(), world{src: src, d: testDetector(nil), cap: 5}.core()
	want, got := record(a), record(b)
	feed(a, src, 200*testStep, 0)
	feed(b, src, 99*testStep, 0)
	b.watermark += testStep // loses one sample
	feed(b, src, 200*testStep, 0)
	for key := range got.points { // the lost point itself does not count
		got.points[key] = append(got.points[key][:99:99], append([]model.ScoredPoint{want.points[key][99]}, got.points[key][99:]...)...)
	}
	if want.equal(got) == "" {
		t.Fatal("a lost sample changed nothing, so the property test proves nothing")
	}
}

func TestThresholdFollowsActiveSeries(t *testing.T) {
	t.Parallel()
	n := 1
	src := &fakeSource{series: labelled(70), value: func(i int, ms int64) (float64, bool) { return noise(i, ms), i < n }}
	c := world{src: src, d: testDetector(nil), cap: 100}.core()
	feed(c, src, 10*testStep, 0)
	alone := c.threshold
	n = 65
	feed(c, src, 12*testStep, 0)
	if c.quota != 65 || !(c.threshold > alone) {
		t.Fatalf("with 65 series the budget is shared by %d at threshold %v, was %v", c.quota, c.threshold, alone)
	}
	changes := len(c.past.quotas)
	n = 67
	feed(c, src, 20*testStep, 0)
	if len(c.past.quotas) != changes {
		t.Fatalf("two more of 65 series changed the threshold: %v", c.past.quotas)
	}
	n = 2
	feed(c, src, 50*testStep, 0)
	if c.quota != 65 {
		t.Fatalf("series that were gone for a while made the budget that of %d at once", c.quota)
	}
	feed(c, src, 400*testStep, 0)
	if c.quota != 2 {
		t.Fatalf("2 of 67 series left share a budget of %d", c.quota)
	}
	if n := len(c.past.quotas); n > changes+400/turnSteps {
		t.Fatalf("%d changes of the threshold", n)
	}
	if err := c.advance(context.Background(), 401*testStep, nil, 0); err != nil {
		t.Fatal(err)
	}
}

func TestSeriesCapKeepsWhatIsWatched(t *testing.T) {
	t.Parallel()
	n := 3
	src := &fakeSource{series: labelled(10), value: func(i int, ms int64) (float64, bool) { return noise(i, ms), i < n }}
	c := world{src: src, d: testDetector(nil), cap: 5}.core()
	feed(c, src, 10*testStep, 0)
	if c.live != 3 || c.refused != 0 {
		t.Fatalf("%d series, %d refused", c.live, c.refused)
	}
	first := map[string]bool{}
	for _, s := range c.sorted() {
		first[s.key] = true
	}
	n = 10
	feed(c, src, 20*testStep, 0)
	if c.live != 5 || c.refused != 5 {
		t.Fatalf("%d series, %d refused, want 5 and 5", c.live, c.refused)
	}
	kept := 0
	for _, s := range c.sorted() {
		if first[s.key] {
			kept++
		}
	}
	if kept != 3 {
		t.Fatalf("%d of the 3 series that were watched are left", kept)
	}
}

func TestVanishedSeriesEndsItsEpisode(t *testing.T) {
	t.Parallel()
	for _, policy := range []model.MissingData{model.MissingIgnore, model.MissingAnomaly} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			gone := int64(300)
			src := &fakeSource{series: labelled(2), value: func(i int, ms int64) (float64, bool) {
				k := ms / testStep
				if i == 0 && k >= gone-3 && k < gone {
					return 500, true
				}
				return noise(i, ms), i == 1 || k < gone
			}}
			c := world{src: src, d: testDetector(func(d *model.Detector) { d.MissingData = policy; d.KeepFiringFor = time.Minute }), cap: 5}.core()
			got := record(c)
			feed(c, src, (gone+99)*testStep, 0)
			if c.live != 2 || c.open != 1 {
				t.Fatalf("before its time to live has passed: %d series, %d open", c.live, c.open)
			}
			feed(c, src, (gone+110)*testStep, 0)
			last := got.transitions[len(got.transitions)-1]
			if policy == model.MissingAnomaly { // its silence is the anomaly
				if c.live != 2 || c.open != 1 {
					t.Fatalf("after it: %d series, %d open, %s", c.live, c.open, last)
				}
				feed(c, src, (gone+710)*testStep, 0)
				last = got.transitions[len(got.transitions)-1]
			}
			if c.live != 1 || c.open != 0 || !strings.Contains(last, "the series vanished") {
				t.Fatalf("at the end: %d series, %d open, %s", c.live, c.open, last)
			}
		})
	}
}
