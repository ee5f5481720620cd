package detect_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"aiops/internal/detect"
)

// learners are the models of this file's tests: those that learn a level.
var learners = []string{"robust_zscore", "ewma", "iqr", "window", "seasonal", "holt_winters", "level_shift", "isolation_forest", "random_cut_forest"}

// slow are the models that cost tens of microseconds a sample.
var slow = map[string]bool{"isolation_forest": true, "random_cut_forest": true, "matrix_profile": true}

const minute = int64(time.Minute / time.Millisecond)

// feed teaches n samples of f that follow at.
func feed(m detect.Model, at *int64, n int, f func(i int) float64) {
	for i := range n {
		*at += minute
		m.Learn(*at, f(i))
	}
}

func learner(t *testing.T, name string) detect.Model {
	t.Helper()
	return mustNew(t, detect.Spec{Model: name, Step: time.Minute, Seed: 1})
}

// A series that never varied: the first tiny change is nothing, an enormous one
// is an anomaly, and neither is infinitely surprising.
func TestConstantSeries(t *testing.T) {
	t.Parallel()
	for _, name := range learners {
		for _, level := range []float64{1, 100, -7, 16e9, 1e-6} {
			m := learner(t, name)
			var at int64
			feed(m, &at, 4000, func(int) float64 { return level })
			tiny := m.Score(at+minute, level*(1+1e-4))
			if tiny.Score > 2 {
				t.Errorf("%s: a change of a ten-thousandth of %v scores %.1f", name, level, tiny.Score)
			}
			if same := m.Score(at+minute, level); same.Score != 0 {
				t.Errorf("%s: the same value again scores %v", name, same.Score)
			}
			huge := m.Score(at+minute, level*1000)
			if huge.Score < 6 || huge.Score > 100 {
				t.Errorf("%s: a thousandfold %v scores %.1f", name, level, huge.Score)
			}
		}
	}
}

// Zero for long, then something: once is not sure, a large number is.
func TestSeriesOfZeros(t *testing.T) {
	t.Parallel()
	for _, name := range learners {
		m := learner(t, name)
		var at int64
		feed(m, &at, 10_000, func(int) float64 { return 0 })
		if r := m.Score(at+minute, 0.3); r.Score > 4 {
			t.Errorf("%s: the first 0.3 after zeros scores %.1f", name, r.Score)
		}
		if r := m.Score(at+minute, 5000); r.Score < 6 {
			t.Errorf("%s: 5000 after zeros scores %.1f", name, r.Score)
		}
	}
}

// Whole numbers that are 0 nearly always: ones are part of it, fifty is not.
func TestRareWholeNumbers(t *testing.T) {
	t.Parallel()
	for _, name := range learners {
		m := learner(t, name)
		r := rand.New(rand.NewPCG(1, 1))
		var at int64
		feed(m, &at, 10_000, func(int) float64 {
			if r.IntN(40) == 0 {
				return float64(1 + r.IntN(2))
			}
			return 0
		})
		if got := m.Score(at+minute, 1); got.Score > 2.5 {
			t.Errorf("%s: a one, seen once in forty samples, scores %.1f", name, got.Score)
		}
		if got := m.Score(at+minute, 50); got.Score < 4 {
			t.Errorf("%s: fifty where at most two were seen scores %.1f", name, got.Score)
		}
	}
}

// Scaling or shifting a series changes nothing but the unit of the band, over
// all magnitudes that occur.
func TestUnitsDoNotMatter(t *testing.T) {
	t.Parallel()
	for _, name := range learners {
		for _, unit := range []float64{1e-140, 1e-9, 1e9, 1e140, -1} {
			if (name == "seasonal" || name == "holt_winters") && (unit > 1e37 || unit == 1e-140) {
				continue // its profile is kept in float32
			}
			a, b := learner(t, name), learner(t, name)
			r := rand.New(rand.NewPCG(3, 1))
			var at int64
			for i := range 2000 {
				at += minute
				v := r.NormFloat64()
				if i == 1800 {
					v = 30
				}
				if slow[name] && i != 1800 {
					a.Learn(at, v)
					b.Learn(at, v*unit)
					continue
				}
				p, q := detect.Step(a, at, v), detect.Step(b, at, v*unit)
				if math.Abs(p.Score-q.Score) > 1e-6*(1+p.Score) && !slow[name] {
					t.Fatalf("%s: sample %d scores %v, in units of %v %v", name, i, p.Score, 1/unit, q.Score)
				}
				if i == 1800 && (p.Score < 5 || q.Score < 5) && unit > 1e-38 && math.Abs(unit) < 1e38 {
					t.Errorf("%s: a value of 30 deviations scores %.1f and %.1f", name, p.Score, q.Score)
				}
			}
		}
	}
}

// After a lasting shift each model stops alarming within the time that its
// documentation states.
func TestModelsAdaptToLastingShifts(t *testing.T) {
	t.Parallel()
	limits := map[string]int{ // samples, with default parameters
		"robust_zscore": 120, "ewma": 180, "iqr": 120, "window": 120, "seasonal": 240, "holt_winters": 200, "level_shift": 16, "isolation_forest": 256, "random_cut_forest": 256,
	}
	for _, name := range learners {
		m := learner(t, name)
		r := rand.New(rand.NewPCG(4, 1))
		var at int64
		feed(m, &at, 6000, func(int) float64 { return 10 + r.NormFloat64() })
		last, first := -1, -1
		for i := range 1200 {
			at += minute
			if got := detect.Step(m, at, 40+r.NormFloat64()); got.Score > 4.3 {
				last = i
				if first < 0 {
					first = i
				}
			}
		}
		if first != 0 {
			t.Errorf("%s: a shift of 30 deviations was first seen after %d samples", name, first)
		}
		if last > limits[name] {
			t.Errorf("%s: alarmed for %d samples after a shift, its documentation says at most %d", name, last+1, limits[name])
		}
		t.Logf("%s: last alarm %d samples after the shift", name, last)
	}
}

// A raw counter: its steady growth is nothing unusual, the return to zero is
// seen, and after it the models settle again.
func TestCounterThatStartsAgain(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"robust_zscore", "ewma", "iqr", "window", "holt_winters"} {
		m := learner(t, name)
		var at int64
		v, alarms := 1e6, 0
		step := func() float64 {
			at += minute
			v += 10 + float64(at/minute*7919%5)
			return detect.Step(m, at, v).Score
		}
		for i := range 8000 {
			if step() > 4.3 && i > 3000 {
				alarms++
			}
		}
		if alarms > 3 {
			t.Errorf("%s: %d alarms while the counter grew", name, alarms)
		}
		v = 0
		if first := step(); first < 4.3 {
			t.Errorf("%s: the return to zero scores %.1f", name, first)
		}
		for range 1000 {
			step()
		}
		alarms = 0
		for range 1000 {
			if step() > 4.3 {
				alarms++
			}
		}
		if alarms > 3 {
			t.Errorf("%s: %d alarms long after the counter began again", name, alarms)
		}
	}
}

// The seasonal model expects the rhythm, at the hour on the wall on both sides
// of a change of clocks, and sees a value that is usual only at another hour.
func TestSeasonalKnowsTheHour(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	shape := func(at time.Time) float64 {
		local := at.In(berlin)
		if local.Weekday() == time.Saturday || local.Weekday() == time.Sunday {
			return 20
		}
		if h := local.Hour(); h >= 8 && h < 18 {
			return 100
		}
		return 30
	}
	m := mustNew(t, detect.Spec{Model: "seasonal", Step: 5 * time.Minute, TimeZone: "Europe/Berlin"})
	utc := mustNew(t, detect.Spec{Model: "seasonal", Step: 5 * time.Minute})
	r := rand.New(rand.NewPCG(5, 1))
	at := time.Date(2026, time.February, 23, 0, 0, 0, 0, time.UTC)
	change := time.Date(2026, time.March, 29, 1, 0, 0, 0, time.UTC)
	var alarms, alarmsUTC int
	threshold := detect.Threshold(1, 5*time.Minute, 1)
	for end := change.Add(5 * 24 * time.Hour); at.Before(end); at = at.Add(5 * time.Minute) {
		v := shape(at) + r.NormFloat64()
		local, blind := detect.Step(m, at.UnixMilli(), v), detect.Step(utc, at.UnixMilli(), v)
		if at.Before(change) {
			continue
		}
		if local.Score > threshold {
			alarms++
		}
		if blind.Score > threshold {
			alarmsUTC++
		}
		if h := at.In(berlin).Hour(); at.Minute() == 30 && (h == 3 || h == 12) && math.Abs(local.Expected-shape(at)) > 6 {
			t.Errorf("%v: expected %.1f, the rhythm says %v", at.In(berlin), local.Expected, shape(at))
		}
	}
	if alarms > 3 {
		t.Errorf("%d alarms in the days after the change of clocks", alarms)
	}
	if alarmsUTC < 30 {
		t.Errorf("the control, which does not know the time zone, alarmed %d times only: the test proves nothing", alarmsUTC)
	}
	night := time.Date(2026, time.April, 3, 2, 30, 0, 0, berlin)
	if got := m.Score(night.UnixMilli(), 100); got.Score < 4 {
		t.Errorf("a value of noon at night scores %.1f", got.Score)
	}
	if got := m.Score(night.Add(10*time.Hour).UnixMilli(), 30); got.Score < 4 {
		t.Errorf("a value of night at noon scores %.1f", got.Score)
	}
}

// What the doc comments promise of memory, with default parameters.
func TestSizesAreBounded(t *testing.T) {
	t.Parallel()
	limits := map[string][2]int{ // resident, snapshot
		"threshold": {256, 64}, "surprise": {256, 64}, "ewma": {1200, 700}, "robust_zscore": {4096, 2800}, "iqr": {4096, 2800},
		"window": {8192, 5000}, "seasonal": {2048, 2048}, "holt_winters": {3072, 2048},
		"level_shift": {1200, 700}, "rate_of_change": {1200, 700}, "counts": {1200, 700}, "flat_line": {1200, 700}, "spread": {2048, 1200}, "relative_entropy": {8192, 6144}, "spectral_residual": {2048, 1200}, "isolation_forest": {32768, 3500}, "random_cut_forest": {200_000, 9216},
		"matrix_profile": {256 << 10, 256 << 10},
	}
	for name, limit := range limits {
		s := detect.Spec{Model: name, Step: time.Minute}
		if name == "threshold" {
			s.Parameters = json.RawMessage(`{"above": 1}`)
		}
		m := mustNew(t, s)
		r := rand.New(rand.NewPCG(6, 1))
		var at int64
		feed(m, &at, 20_000, func(int) float64 { return r.NormFloat64() })
		resident, snapshot := m.SizeBytes(), len(m.AppendSnapshot(nil))
		feed(m, &at, 5000, func(int) float64 { return 1e6 * r.NormFloat64() })
		if m.SizeBytes() != resident {
			t.Errorf("%s grew from %d to %d bytes", name, resident, m.SizeBytes())
		}
		if resident > limit[0] || snapshot > limit[1] {
			t.Errorf("%s: %d bytes resident, %d in a snapshot; at most %v", name, resident, snapshot, limit)
		}
		t.Logf("%-17s %5d bytes resident, %5d in a snapshot", name, resident, snapshot)
	}
}

// A step allocates nothing once the window is full.
func TestStepsAllocateNothing(t *testing.T) {
	for _, name := range learners {
		m := learner(t, name)
		r := rand.New(rand.NewPCG(7, 1))
		var at int64
		next := func(int) float64 { return 10 + r.NormFloat64() }
		feed(m, &at, 5000, next)
		if n := testing.AllocsPerRun(500, func() { at += minute; detect.Step(m, at, next(0)) }); n > 0 {
			t.Errorf("%s: %v allocations per step", name, n)
		}
	}
}

// A year of samples takes no more memory than its first third, and no more than
// what is promised of auto and deep.
func TestAYearDoesNotGrow(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		step             time.Duration
		resident, stored int // bytes at most
	}{
		"auto": {5 * time.Minute, 4 << 10, 4 << 10}, "deep": {15 * time.Minute, 256 << 10, 256 << 10},
		"level_shift": {5 * time.Minute, 1200, 700}, "rate_of_change": {5 * time.Minute, 1200, 700}, "counts": {15 * time.Minute, 1200, 700},
		"flat_line": {15 * time.Minute, 1200, 700}, "spread": {15 * time.Minute, 2048, 1200},
		"relative_entropy": {15 * time.Minute, 8192, 6144}, "spectral_residual": {15 * time.Minute, 2048, 1200}, "matrix_profile": {15 * time.Minute, 256 << 10, 256 << 10},
	} {
		if raceEnabled && (name == "deep" || slow[name]) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := mustNew(t, detect.Spec{Model: name, Step: c.step, Seed: 1})
			r := rand.New(rand.NewPCG(12, 1))
			day := int(24 * time.Hour / c.step)
			var third int
			for i := range 365 * day {
				m.Learn(int64(i)*c.step.Milliseconds(), 50+30*math.Sin(2*math.Pi*float64(i)/float64(day))+r.NormFloat64())
				if i == 120*day {
					third = m.SizeBytes()
				}
			}
			size, stored := m.SizeBytes(), len(m.AppendSnapshot(nil))
			if size != third || size > c.resident || stored > c.stored {
				t.Errorf("%d bytes after 120 days, %d and %d in a snapshot after a year; at most %d and %d", third, size, stored, c.resident, c.stored)
			}
		})
	}
}
