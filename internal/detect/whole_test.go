package detect_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"aiops/internal/detect"
)

// outcome feeds n samples of f through m and returns how many exceed the
// threshold and the first that does, -1: none.
func outcome(m detect.Model, at *int64, n int, threshold float64, f func(i int) float64) (alarms, first int) {
	first = -1
	for i := range n {
		*at += minute
		if detect.Step(m, *at, f(i)).Score > threshold {
			if alarms++; first < 0 {
				first = i
			}
		}
	}
	return alarms, first
}

// A series that stops is found within some samples, the alarm lasts as long as
// it is stuck and ends when it moves. A model of values, the control, cannot
// see that.
func TestFlatLineIsFound(t *testing.T) {
	t.Parallel()
	run := func(name string) (first, during, after int) {
		m := learner(t, name)
		r := rand.New(rand.NewPCG(21, 1))
		noise := func(int) float64 { return 10 + r.NormFloat64() }
		var at int64
		feed(m, &at, 10_000, noise)
		during, first = outcome(m, &at, 300, 4, func(int) float64 { return 10.25 })
		after, _ = outcome(m, &at, 300, 4, noise)
		return first, during, after
	}
	first, during, after := run("flat_line")
	if first < 3 || first > 15 || during < 280 || after > 0 {
		t.Errorf("stuck for 300 samples: first alarm after %d, %d in all, %d afterwards", first, during, after)
	}
	if _, during, _ := run("ewma"); during > 0 {
		t.Errorf("the control sees a stuck value %d times: the test proves nothing", during)
	}
}

// Flat stretches that are usual do not alarm: nights, values that repeat, a
// series that never moved. One that is much longer does.
func TestUsualFlatLinesAreUsual(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		value  func(r *rand.Rand) func(i int) float64
		stuck  int // samples of a stretch at the end that have to alarm; 0: none
		alarms int // before, after four days, at most
	}{
		{"nights", func(r *rand.Rand) func(int) float64 {
			return func(i int) float64 {
				if i%1440 < 480 {
					return 0
				}
				return 10 + r.NormFloat64()
			}
		}, 4000, 2},
		{"constant", func(*rand.Rand) func(int) float64 { return func(int) float64 { return 42 } }, 0, 0},
		{"a step now and then", func(*rand.Rand) func(int) float64 { return func(i int) float64 { return float64(i / 4000) } }, 0, 0},
		{"repeats", func(r *rand.Rand) func(int) float64 {
			v := 0.0
			return func(int) float64 {
				if r.IntN(10) < 3 {
					v = r.NormFloat64()
				}
				return v
			}
		}, 300, 5},
	} {
		m := learner(t, "flat_line")
		next := c.value(rand.New(rand.NewPCG(22, 1)))
		var at int64
		feed(m, &at, 4*1440, next)
		if alarms, _ := outcome(m, &at, 20*1440, 4, func(i int) float64 { return next(4*1440 + i) }); alarms > c.alarms {
			t.Errorf("%s: %d alarms on what is usual", c.name, alarms)
		}
		if c.stuck > 0 {
			if alarms, _ := outcome(m, &at, c.stuck, 4, func(int) float64 { return 7 }); alarms < c.stuck/4 {
				t.Errorf("%s: stuck for %d samples alarmed %d times", c.name, c.stuck, alarms)
			}
		}
	}
}

// The budget of flat_line, on series of which samples often repeat.
func TestFlatLineKeepsTheBudget(t *testing.T) {
	t.Parallel()
	warm, n := 30_000, 150_000
	if raceEnabled {
		warm, n = 10_000, 40_000
	}
	for _, stay := range []int{0, 50, 80, 95} {
		data := clean{"sticky", func(r *rand.Rand) func(int) float64 {
			v := 0.0
			return func(int) float64 {
				if r.IntN(100) >= stay {
					v = r.NormFloat64()
				}
				return v
			}
		}}
		m := learner(t, "flat_line")
		rate := realised(data, 2.5, warm, n, func(at int64, v float64) float64 { return detect.Step(m, at, v).Score })
		least := 0.4
		if stay < 80 { // stretches of so few samples, whose probabilities come in steps
			least = 0
		}
		if rate < least || rate > 1.5 {
			t.Errorf("%d %% of the samples repeat: %.2f times the false alarms that were promised", stay, rate)
		}
		t.Logf("%d %% repeat: %.2f times the budget", stay, rate)
	}
}

// A gap is neither a movement nor part of a flat stretch.
func TestFlatLineAcrossAGap(t *testing.T) {
	t.Parallel()
	m := mustNew(t, detect.Spec{Model: "flat_line", Step: time.Minute})
	r := rand.New(rand.NewPCG(23, 1))
	var at int64
	feed(m, &at, 10_000, func(int) float64 { return r.NormFloat64() })
	last := r.NormFloat64()
	m.Learn(at+minute, last)
	if got := m.Score(at+500*minute, last); got.Score > 1 || !math.IsNaN(got.Expected) {
		t.Errorf("the same value behind a long gap: %+v", got)
	}
}

// heartbeat is a wave with a sharp beat and an echo, of a period of 50 samples.
func heartbeat(i int, r *rand.Rand) float64 {
	v := 0.3*r.NormFloat64() + 4*math.Sin(2*math.Pi*float64(i)/50)
	switch i % 50 {
	case 10, 11:
		v += 20
	case 30:
		v += 8
	}
	return v
}

// A beat in the wrong order, of which each value is usual, is a discord. A
// model of values, the control, cannot see it.
func TestMatrixProfileFindsADiscord(t *testing.T) {
	t.Parallel()
	run := func(name string) (before, during, after int) {
		m := learner(t, name)
		r := rand.New(rand.NewPCG(24, 1))
		var at int64
		feed(m, &at, 6000, func(i int) float64 { return heartbeat(i, r) })
		before, _ = outcome(m, &at, 2000, 4, func(i int) float64 { return heartbeat(i, r) })
		during, _ = outcome(m, &at, 50, 4, func(i int) float64 { return heartbeat(49-i, r) })
		after, _ = outcome(m, &at, 1000, 4, func(i int) float64 { return heartbeat(i, r) })
		return before, during, after
	}
	before, during, after := run("matrix_profile")
	if before > 1 || during < 5 || after > 60 {
		t.Errorf("%d alarms before, %d in the odd period, %d in the twenty periods behind it", before, during, after)
	}
	if _, during, _ := run("robust_zscore"); during > 0 {
		t.Errorf("the control sees the odd period %d times: the test proves nothing", during)
	}
}

// A gap does not shift the phase. The control is taught the same samples
// without the gap in time.
func TestMatrixProfileBridgesAGap(t *testing.T) {
	t.Parallel()
	run := func(gap int64) (alarms int) {
		m := learner(t, "matrix_profile")
		r := rand.New(rand.NewPCG(25, 1))
		var at int64
		feed(m, &at, 6000, func(i int) float64 { return heartbeat(i, r) })
		at += gap * minute
		alarms, _ = outcome(m, &at, 200, 4, func(i int) float64 { return heartbeat(i+23, r) })
		return alarms
	}
	if alarms := run(23); alarms > 1 {
		t.Errorf("%d alarms behind a gap", alarms)
	}
	if alarms := run(0); alarms < 5 {
		t.Errorf("the control, whose phase is cut, alarms %d times: the test proves nothing", alarms)
	}
}
