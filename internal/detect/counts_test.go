package detect_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"aiops/internal/detect"
)

// poisson draws a count.
func poisson(r *rand.Rand, mean float64) float64 {
	n, sum := 0.0, r.ExpFloat64()
	for ; sum < mean; sum += r.ExpFloat64() {
		n++
	}
	return n
}

// Counts keep the budget, and what whole numbers leave of it unused is less
// than one step of the distribution.
func TestCountsKeepTheBudget(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		mean  float64
		over  bool    // the mean itself varies
		least float64 // times the budget
	}{
		{"poisson 50", 50, false, 0.5}, {"poisson 3", 3, false, 0.3}, {"poisson 0.2", 0.2, false, 0},
		{"negative binomial 3", 3, true, 0.3}, {"negative binomial 30", 30, true, 0.5},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			threshold, warm, n := 3.0, 30_000, 150_000
			if raceEnabled {
				threshold, warm, n = 2.3, 6_000, 24_000
			}
			data := clean{c.name, func(r *rand.Rand) func(int) float64 {
				return func(int) float64 {
					mean := c.mean
					if c.over {
						mean *= (r.ExpFloat64() + r.ExpFloat64()) / 2
					}
					return poisson(r, mean)
				}
			}}
			m := learner(t, "counts")
			rate := realised(data, threshold, warm, n, func(at int64, v float64) float64 { return detect.Step(m, at, v).Score })
			if rate < c.least || rate > 1.5 {
				t.Errorf("%.2f times the false alarms that were promised", rate)
			}
			t.Logf("%.2f times the budget", rate)
		})
	}
}

// A handful of events where there is one in a hundred samples, silence where
// there are ten in each, and the same silence where there is hardly ever one.
func TestCountsAtLowTraffic(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mean, value float64
		odd         bool
	}{
		{0.01, 6, true}, {0.01, 0, false}, {0.01, 1, false}, {20, 0, true}, {10, 10, false}, {10, 40, true}, {0.5, 0, false}, {3, -100, true},
	} {
		m := learner(t, "counts")
		r := rand.New(rand.NewPCG(8, 1))
		var at int64
		feed(m, &at, 10_000, func(int) float64 { return poisson(r, c.mean) })
		if got := m.Score(at+minute, c.value); (got.Score > 4) != c.odd {
			t.Errorf("%v where the mean is %v scores %.2f", c.value, c.mean, got.Score)
		}
	}
}

// The series that a model of values cannot judge: counts of any size, and
// negative ones, give finite scores and bands around what is expected.
func TestCountsTakeAnyValue(t *testing.T) {
	t.Parallel()
	for _, unit := range []float64{1e-9, 1, 1e6, 1e12, 1e150, -1} {
		m := learner(t, "counts")
		r := rand.New(rand.NewPCG(9, 1))
		for i := range 500 {
			got := detect.Step(m, int64(i)*minute, unit*poisson(r, 5))
			if got.Score < 0 || math.IsNaN(got.Score) || got.Score > 300 || got.Lower > got.Expected || got.Upper < got.Expected {
				t.Fatalf("in units of %g: %s", unit, fmt.Sprintf("%+v", got))
			}
		}
	}
}

// A shift alarms for the first samples only, a spike moves no level, and a
// ramp is followed.
func TestLevelShiftAdaptsAndDoesNotScream(t *testing.T) {
	t.Parallel()
	m := learner(t, "level_shift")
	r := rand.New(rand.NewPCG(10, 1))
	var at int64
	feed(m, &at, 3000, func(int) float64 { return 10 + r.NormFloat64() })
	at += minute
	detect.Step(m, at, 500)
	at += minute
	if got := detect.Step(m, at, 10); math.Abs(got.Expected-10) > 0.5 {
		t.Errorf("after a spike %v is expected", got.Expected)
	}
	alarms := 0
	for range 500 {
		at += minute
		if detect.Step(m, at, 20+r.NormFloat64()).Score > 4.3 {
			alarms++
		}
	}
	if alarms < 3 || alarms > 12 {
		t.Errorf("a shift by ten deviations alarmed for %d samples", alarms)
	}
	if got := m.Score(at+minute, 10); got.Score < 4.3 || math.Abs(got.Expected-20) > 0.5 {
		t.Errorf("back at the old level: %+v", got)
	}
}

// What comes back after a gap may have gone further than in one step.
func TestRateOfChangeAcrossAGap(t *testing.T) {
	t.Parallel()
	m := mustNew(t, detect.Spec{Model: "rate_of_change", Step: time.Minute})
	r := rand.New(rand.NewPCG(11, 1))
	var at int64
	x := 0.0
	feed(m, &at, 5000, func(int) float64 { x += r.NormFloat64(); return x })
	at0, at9 := m.Score(at+minute, x+9).Score, m.Score(at+9*minute, x+9).Score
	if at0 < 6 || at9 > 3 || at9 < 1 {
		t.Errorf("a step of nine deviations scores %.1f, after nine steps %.1f", at0, at9)
	}
}
