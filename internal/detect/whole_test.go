package detect_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"aiops/internal/detect"
	"aiops/internal/model"
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

// Noise that grows or dies away around the same level is found, and on the side
// that is watched only. A spike, a shift of the level and a ramp, the controls,
// are no change of the spread.
func TestSpreadSeesVariationOnly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		direction model.Direction
		value     func(i int, e float64) float64 // i samples after the change; e is usual noise
		found     bool
		reason    detect.Reason
	}{
		{"three times the noise", model.DirectionBoth, func(_ int, e float64) float64 { return 10 + 3*e }, true, detect.ReasonWider},
		{"a fifth of the noise", model.DirectionBoth, func(_ int, e float64) float64 { return 10 + 0.2*e }, true, detect.ReasonCalmer},
		{"no noise", model.DirectionBoth, func(int, float64) float64 { return 10 }, true, detect.ReasonCalmer},
		{"an oscillation", model.DirectionAbove, func(i int, e float64) float64 { return 10 + e + 8*float64(i/4%2) }, true, detect.ReasonWider},
		{"more, below watched", model.DirectionBelow, func(_ int, e float64) float64 { return 10 + 3*e }, false, 0},
		{"less, above watched", model.DirectionAbove, func(_ int, e float64) float64 { return 10 + 0.2*e }, false, 0},
		{"a spike", model.DirectionBoth, func(i int, e float64) float64 {
			if i == 20 {
				return 1e6
			}
			return 10 + e
		}, false, 0},
		{"a shift", model.DirectionBoth, func(_ int, e float64) float64 { return 30 + e }, false, 0},
		{"a ramp", model.DirectionBoth, func(i int, e float64) float64 { return 10 + e + 0.3*float64(i) }, false, 0},
	} {
		m := mustNew(t, detect.Spec{Model: "spread", Step: time.Minute, Direction: c.direction})
		r := rand.New(rand.NewPCG(26, 1))
		var at int64
		feed(m, &at, 15_000, func(int) float64 { return 10 + r.NormFloat64() })
		alarms := 0
		for i := range 80 {
			at += minute
			if got := detect.Step(m, at, c.value(i, r.NormFloat64())); got.Score > 4 {
				alarms++
				if got.Reason != c.reason {
					t.Errorf("%s: %v", c.name, got.Reason)
				}
			}
		}
		if c.found && alarms < 20 || !c.found && alarms > 0 {
			t.Errorf("%s: %d alarms in 80 samples", c.name, alarms)
		}
		if alarms > 0 {
			alarms, _ = outcome(m, &at, 3000, 4, func(int) float64 { return 10 + r.NormFloat64() })
			if alarms > 60 {
				t.Errorf("%s: %d alarms after the end", c.name, alarms)
			}
		}
	}
}

// A series that never varied is not judged, and what it first does is usual.
func TestSpreadOfAConstant(t *testing.T) {
	t.Parallel()
	m := learner(t, "spread")
	r := rand.New(rand.NewPCG(27, 1))
	var at int64
	feed(m, &at, 5000, func(int) float64 { return 100 })
	if alarms, _ := outcome(m, &at, 5000, 4, func(int) float64 { return 100 + 1e-3*r.NormFloat64() }); alarms > 10 {
		t.Errorf("%d alarms", alarms)
	}
}

// Values that are distributed in another way are found although each of them is
// usual, on the side to which they went. Models of values, the controls, see
// none of it.
func TestRelativeEntropySeesTheDistribution(t *testing.T) {
	t.Parallel()
	latency := func(r *rand.Rand, slow float64) float64 { // a fast mode at 10 and a slow one at 50
		if r.Float64() < slow {
			return 50 + 2*r.NormFloat64()
		}
		return 10 + r.NormFloat64()
	}
	for _, c := range []struct {
		name      string
		model     string
		direction model.Direction
		value     func(r *rand.Rand) float64
		found     bool
	}{
		{"half of them slow", "relative_entropy", model.DirectionBoth, func(r *rand.Rand) float64 { return latency(r, 0.5) }, true},
		{"half of them slow, above watched", "relative_entropy", model.DirectionAbove, func(r *rand.Rand) float64 { return latency(r, 0.5) }, true},
		{"half of them slow, below watched", "relative_entropy", model.DirectionBelow, func(r *rand.Rand) float64 { return latency(r, 0.5) }, false},
		{"capped", "relative_entropy", model.DirectionBoth, func(r *rand.Rand) float64 { return min(latency(r, 0.1), 10) }, true},
		{"one value", "relative_entropy", model.DirectionBoth, func(*rand.Rand) float64 { return 10.5 }, true},
		{"as before", "relative_entropy", model.DirectionBoth, func(r *rand.Rand) float64 { return latency(r, 0.1) }, false},
		{"half of them slow, robust_zscore", "robust_zscore", model.DirectionBoth, func(r *rand.Rand) float64 { return latency(r, 0.5) }, false},
		{"one value, ewma", "ewma", model.DirectionBoth, func(*rand.Rand) float64 { return 10.5 }, false},
	} {
		m := mustNew(t, detect.Spec{Model: c.model, Step: time.Minute, Direction: c.direction})
		r := rand.New(rand.NewPCG(28, 1))
		var at int64
		feed(m, &at, 10_000, func(int) float64 { return latency(r, 0.1) })
		alarms, first := outcome(m, &at, 120, 4, func(int) float64 { return c.value(r) })
		if c.found && (alarms < 30 || first > 60) || !c.found && alarms > 0 {
			t.Errorf("%s: %d alarms in 120 samples, the first after %d", c.name, alarms, first)
		}
	}
}

// wholes are the models that judge a stretch of a series.
var wholes = []string{"flat_line", "spread", "relative_entropy", "spectral_residual", "matrix_profile"}

// The unit and the sign of a series change nothing, and neither does adding a
// number to all of it. (The sign matters
// to relative_entropy, whose bins are half open, and to spectral_residual, where a
// value that equals the expected one counts as above.) The control is another
// series.
func TestUnitsDoNotMatterToWholes(t *testing.T) {
	t.Parallel()
	for _, name := range wholes {
		for _, c := range []struct{ scale, offset float64 }{{1.0 / (1 << 30), 0}, {1 << 30, 0}, {-1, 0}, {1, 1 << 10}, {1.5, 0}} {
			if c.scale < 0 && (name == "relative_entropy" || name == "spectral_residual") {
				continue
			}
			a, b := learner(t, name), learner(t, name)
			r := rand.New(rand.NewPCG(29, 1))
			var at int64
			worst := 0.0
			for i := range 3000 {
				at += minute
				v := heartbeat(i, r)
				switch {
				case i > 2950:
					v = 3
				case i > 2500 && i < 2600:
					v *= 3
				}
				if v = math.Round(v * 1024); c.scale != 1.5 {
					v /= 1024
				}
				w := v*c.scale + c.offset
				if c.scale == 1.5 {
					w = float64(i % 7)
				}
				worst = max(worst, math.Abs(detect.Step(a, at, v).Score-detect.Step(b, at, w).Score))
			}
			if c.scale == 1.5 && worst < 0.1 {
				t.Errorf("%s: the control, another series, scores the same: the test proves nothing", name)
			}
			if c.scale != 1.5 && worst > 0.02 {
				t.Errorf("%s: times %g plus %g the scores differ by %v", name, c.scale, c.offset, worst)
			}
		}
	}
}

// No value breaks a model of a stretch, nor does it stay broken: after hostile
// samples it judges again.
func TestWholesTakeAnyValue(t *testing.T) {
	t.Parallel()
	hostile := []float64{math.MaxFloat64, -math.MaxFloat64, 5e-324, -5e-324, 0, math.NaN(), math.Inf(1), math.Inf(-1), 1e150, -1e150, 1e-150}
	for _, name := range wholes {
		m := learner(t, name)
		r := rand.New(rand.NewPCG(30, 1))
		at := int64(-1 << 53)
		for i := range 4000 {
			at += minute * int64(1+r.IntN(3)*r.IntN(2))
			v := r.NormFloat64()
			if i < 300 || i%5 == 0 && i < 1500 {
				v = hostile[r.IntN(len(hostile))]
			}
			got := detect.Step(m, at, v)
			if !(got.Score >= 0 && got.Score <= detect.MaxScore) {
				t.Fatalf("%s: sample %d, %v: %+v", name, i, v, got)
			}
		}
		if got := m.Score(math.MaxInt64, 1); !(got.Score >= 0) {
			t.Errorf("%s: at the end of time: %+v", name, got)
		}
		m.Learn(math.MaxInt64, 1)
		if size := m.SizeBytes(); size > 256<<10 {
			t.Errorf("%s: %d bytes", name, size)
		}
	}
}

// A spike in the middle of a swing, below the swing's own top, is found at
// once; the swing is not. The control is a model of values. A slow drift, which
// has no edge, is not its business.
func TestSpectralResidualFindsWhatStandsOut(t *testing.T) {
	t.Parallel()
	swing := func(i int, r *rand.Rand) float64 {
		return 100 + 50*math.Sin(2*math.Pi*float64(i)/40) + r.NormFloat64()
	}
	run := func(name string, odd func(i int) float64, n int) (before, during int) {
		m := learner(t, name)
		r := rand.New(rand.NewPCG(32, 1))
		var at int64
		feed(m, &at, 10_000, func(i int) float64 { return swing(i, r) })
		before, _ = outcome(m, &at, 2000, 4, func(i int) float64 { return swing(i, r) })
		during, _ = outcome(m, &at, n, 4, func(i int) float64 { return swing(i, r) + odd(i) })
		return before, during
	}
	spike := func(i int) float64 {
		if i == 0 {
			return 40 // where the swing is at 100
		}
		return 0
	}
	if before, during := run("spectral_residual", spike, 1); before > 2 || during != 1 {
		t.Errorf("%d alarms before the spike, %d at it", before, during)
	}
	if _, during := run("robust_zscore", spike, 1); during != 0 {
		t.Error("the control sees the spike: the test proves nothing")
	}
	if _, during := run("spectral_residual", func(i int) float64 { return 0.02 * float64(i) }, 2000); during > 2 {
		t.Errorf("%d alarms in a drift", during)
	}
}

// The forest says which sample of a run makes it odd, and the pipeline's way
// (score, contributions, learn) sees it. In a usual run, the control, no sample
// stands out.
func TestCutForestAttributes(t *testing.T) {
	t.Parallel()
	m := learner(t, "random_cut_forest")
	r := rand.New(rand.NewPCG(34, 1))
	var at int64
	feed(m, &at, 3000, func(int) float64 { return 10 + r.NormFloat64() })
	check := func(v float64) []model.Contribution {
		got := m.Score(at+minute, v)
		parts := m.Contributions()
		var share, score float64
		for i, p := range parts {
			share, score = share+p.Share, score+p.Score
			if i > 0 && p.Share > parts[i-1].Share {
				t.Errorf("not in order: %+v", parts)
			}
		}
		if math.Abs(share-1) > 1e-9 || math.Abs(score-got.Score) > 1e-9 {
			t.Errorf("the shares of %v add up to %v, the scores to %v of %v", v, share, score, got.Score)
		}
		return parts
	}
	if p := check(60)[0]; p.Name != "this sample" || p.Share < 0.9 || !strings.Contains(p.Note, "above") {
		t.Errorf("a spike: %+v", p)
	}
	if p := check(-60)[0]; p.Name != "this sample" || p.Share < 0.9 || !strings.Contains(p.Note, "below") {
		t.Errorf("a fall: %+v", p)
	}
	at += minute
	m.Learn(at, 60)
	at += minute
	m.Learn(at, 10.5)
	if p := check(10)[0]; p.Name != "2 samples before" || p.Share < 0.8 {
		t.Errorf("two samples behind the spike: %+v", p)
	}
	feed(m, &at, 10, func(int) float64 { return 10 + r.NormFloat64() })
	if p := check(10)[0]; p.Name == "this sample" && p.Share > 0.9 {
		t.Errorf("the control, a usual value: %+v", p)
	}
}
