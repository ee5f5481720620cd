package detect

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestBinsCoverEveryDeviation(t *testing.T) {
	t.Parallel()
	for b := range binsN {
		lo, hi := binStart(b), binStart(b+1)
		if !(lo < hi) {
			t.Fatalf("bin %d is [%v, %v)", b, lo, hi)
		}
		for _, z := range []float64{lo, math.Nextafter(hi, 0)} {
			if got := binOf(min(z, maxDeviation)); got != b {
				t.Errorf("%v is in bin %d, want %d", z, got, b)
			}
		}
	}
}

// drawCalibrator teaches a calibrator a random mixture.
func drawCalibrator(rt *rapid.T) *calibrator {
	c := newCalibrator(rapid.Float64Range(0, 1e5).Draw(rt, "memory"))
	r := splitmix{state: rapid.Uint64().Draw(rt, "seed")}
	for range rapid.IntRange(1, 4).Draw(rt, "regimes") {
		n := rapid.IntRange(0, 3000).Draw(rt, "n")
		scale := exp(rapid.Float64Range(-8, 8).Draw(rt, "scale"))
		heavy := rapid.Float64Range(0.1, 3).Draw(rt, "heavy")
		grid := rapid.SampledFrom([]float64{0, 0.3, 1}).Draw(rt, "grid")
		for range n {
			z := scale * math.Pow(-math.Log(1-r.float()), heavy)
			if grid > 0 {
				z = grid * math.Floor(z/grid)
			}
			c.learn(int(r.next()&1), z)
		}
	}
	return &c
}

// Probabilities fall as deviations grow, stay between 0 and 1, and deviation
// is the inverse of lnExceed.
func TestCalibratorIsMonotoneAndInvertible(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		c := drawCalibrator(rt)
		for side := range c.counts {
			before := 0.0
			for z := 1e-4; z < 1e9; z *= 1.07 {
				lnP, _ := c.lnExceed(side, z)
				if lnP > before+1e-12 || lnP > 0 || math.IsNaN(lnP) || math.IsInf(lnP, 0) {
					rt.Fatalf("side %d: the logarithm at %v is %v, before it %v", side, z, lnP, before)
				}
				before = lnP
			}
			for lnP := -0.3; lnP > -40; lnP -= 0.37 {
				z := c.deviation(side, lnP)
				if z == 0 || math.IsInf(z, 0) {
					continue
				}
				below, _ := c.lnExceed(side, z*(1-1e-9))
				above, _ := c.lnExceed(side, z*(1+1e-9))
				if below < lnP-1e-6 || above > lnP+1e-6 {
					rt.Fatalf("side %d: deviation %v of %v: around it %v and %v", side, z, lnP, below, above)
				}
			}
		}
	})
}

// A value that makes up a share of all samples must never look rarer than a
// third of that share, wherever it lies in its bin.
func TestAtomsAreNotRare(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		c := newCalibrator(0)
		atom := exp(rapid.Float64Range(-3, 6).Draw(rt, "atom"))
		every := rapid.IntRange(2, 60).Draw(rt, "every")
		r := splitmix{state: rapid.Uint64().Draw(rt, "seed")}
		for i := range 8000 {
			z := atom / 8 * r.float()
			if i%every == 0 {
				z = atom
			}
			c.learn(sideAbove, z)
		}
		lnP, _ := c.lnExceed(sideAbove, atom)
		if p := math.Exp(lnP); p < 0.8/float64(countedShare*every) {
			rt.Fatalf("%v is one sample in %d and gets the probability %v", atom, every, p)
		}
	})
}

func TestHalvingKeepsShares(t *testing.T) {
	t.Parallel()
	c := newCalibrator(0)
	r := splitmix{state: 3}
	for range 8000 {
		c.learn(int(r.next()&1), -math.Log(1-r.float()))
	}
	var before, after [2]uint32
	n := c.n
	for side := range before {
		before[side] = c.beyond(side, 0)
	}
	c.halve()
	for side := range after {
		after[side] = c.beyond(side, 0)
		if d := int(before[side]/2) - int(after[side]); d < -1 || d > 1 {
			t.Errorf("side %d: %d samples were halved to %d", side, before[side], after[side])
		}
	}
	if c.n != (n+1)/2 {
		t.Errorf("%d samples were halved to %d", n, c.n)
	}
}

// A long incident and a few enormous spikes move the threshold of a trained
// calibrator by a bounded amount; the control learns them all.
func TestContaminationIsBounded(t *testing.T) {
	t.Parallel()
	trained := func() (calibrator, splitmix) {
		c, r := newCalibrator(20_000), splitmix{state: 5}
		for range 15_000 {
			c.learn(int(r.next()&1), math.Abs(normal(&r)))
		}
		return c, r
	}
	clean, _ := trained()
	dirty, r := trained()
	control, _ := trained()
	spoil := func(z float64) {
		dirty.learn(sideAbove, z)
		control.counts[sideAbove][binOf(z)]++
		control.n++
		control.findTop()
	}
	for range 300 {
		spoil(50) // one incident
	}
	for range 4 {
		for range 500 {
			z := math.Abs(normal(&r))
			dirty.learn(sideBelow, z)
			control.learn(sideBelow, z)
		}
		spoil(1e6) // spikes apart from each other
	}
	for range 1100 {
		z := math.Abs(normal(&r))
		dirty.learn(sideBelow, z)
		control.learn(sideBelow, z)
	}
	lnP := math.Log(1e-4)
	before, after, all := clean.deviation(sideAbove, lnP), dirty.deviation(sideAbove, lnP), control.deviation(sideAbove, lnP)
	if after > 1.6*before {
		t.Errorf("the threshold rose from %.2f to %.2f", before, after)
	}
	if all < 10*before {
		t.Errorf("the control, which learns everything, rose only from %.2f to %.2f: the test proves nothing", before, all)
	}
}

// When the spread of deviations doubles for good, the calibrator follows
// within about one memory.
func TestCalibratorFollowsDrift(t *testing.T) {
	t.Parallel()
	c, r := newCalibrator(0), splitmix{state: 9}
	for range 20_000 {
		c.learn(int(r.next()&1), math.Abs(normal(&r)))
	}
	before := c.deviation(sideAbove, math.Log(1e-3))
	for range 2 * leastMemory {
		c.learn(int(r.next()&1), 2*math.Abs(normal(&r)))
	}
	if after := c.deviation(sideAbove, math.Log(1e-3)); after < 1.8*before || after > 2.3*before {
		t.Errorf("the deviation exceeded once in a thousand went from %.2f to %.2f, want about twice", before, after)
	}
}

// normal draws from the standard normal distribution.
func normal(r *splitmix) float64 {
	return math.Sqrt(-2*math.Log(1-r.float())) * math.Cos(2*math.Pi*r.float())
}

// Of many series with the same heavy tail, which is Student's t with 3 degrees of
// freedom, those whose shape came out too small exceed what is rare most of the
// time, and all of them together many times as often as promised. Beyond the
// evidence tails are made heavier, which leaves a third of that. The control
// goes on with the shapes as they were fitted.
func TestTailsOfManyHeavySeries(t *testing.T) {
	t.Parallel()
	const series, samples, rare = 200, 6000, 1e-7
	survival := func(x float64) float64 {
		u := x / math.Sqrt(3)
		return 0.5 - (u/(1+u*u)+math.Atan(u))/math.Pi
	}
	r := splitmix{state: 3}
	var real, control float64
	for range series {
		c := newCalibrator(samples)
		for range samples {
			z := normal(&r) / math.Sqrt((square(normal(&r))+square(normal(&r))+square(normal(&r)))/3)
			side := 0
			if z < 0 {
				side = 1
			}
			c.learn(side, math.Abs(z))
		}
		real += survival(c.deviation(0, math.Log(rare)))
		f := &c.tails[0]
		above := math.Log(float64(mass(int(f.bin), c.beyond(0, int(f.bin)))) / (float64(c.n) + priorWeight))
		control += survival(binStart(int(f.bin)) + paretoQuantile(math.Log(rare)-above, f.scale, f.shape))
	}
	real, control = real/(series*rare), control/(series*rare)
	t.Logf("exceeded %.1f times as often as promised, %.1f times with the shapes as fitted", real, control)
	if real < 0.5 || real > 8 {
		t.Errorf("exceeded %.1f times as often as promised", real)
	}
	if control < 12 {
		t.Errorf("control: %.1f times only", control)
	}
}

func square(x float64) float64 { return x * x }
