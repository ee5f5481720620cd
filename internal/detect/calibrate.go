package detect

import (
	"fmt"
	"math"
)

// The sides of a deviation.
const (
	sideAbove = 0
	sideBelow = 1
)

// The bins of a calibrator by absolute deviation: the first ends at 2^-6, then
// come 2 bins per octave to 1/2, 8 to 64, 4 to 4096, 2 to 2^20, and the last
// has no end. An index follows from the bits of the number, without a
// logarithm.
const (
	lowExp, midExp, highExp, farExp, endExp = -6, -1, 6, 12, 20

	midBin  = 1 + (midExp-lowExp)*2
	highBin = midBin + (highExp-midExp)*8
	farBin  = highBin + (farExp-highExp)*4
	lastBin = farBin + (endExp-farExp)*2
	binsN   = lastBin + 1
)

const (
	// priorWeight is how many samples the prior tail counts for. With it alone
	// the first deviation ever seen after n quiet samples has a probability of
	// about 1/n, as in the rule of succession.
	priorWeight = 4

	// evidence: a probability below 1/(evidence*n) is more than n samples can
	// tell of.
	evidence = 2

	// rarest: a deviation rarer than once in rarest*n is learned as one of that
	// rarity.
	rarest = 10

	// Where leastCounted samples lie in a bin and beyond, a deviation in that
	// bin has at least 1/countedShare of their probability, whatever the fit
	// says. In an ensemble so few are enough: its sum falls in steps on whole
	// numbers, which no smooth tail follows.
	leastCounted  = 20
	leastEnsemble = 6
	countedShare  = 3

	firstFit     = 8     // samples after which extremes are learned as less than they are
	leastPeaks   = 12    // fewer peaks make no fit
	shapePrior   = 0.15  // of the generalised Pareto tail
	shapeWeight  = 50    // peaks that the prior shape counts for
	shapeBeyond  = 0.2   // least shape beyond the evidence
	shapeLeast   = -0.1  // of an ensemble
	shapeMargin  = 0.5   // in 1/√peaks, so half a standard error: how much the shape is taken too large
	shapeUnsure  = 2     // and how much more so beyond the evidence,
	shapeMore    = 0.12  // but no more than that
	maxDeviation = 1e100 // a larger one counts as this
)

// The memory of a calibrator in samples: four weeks, within these limits.
const (
	leastMemory = 8192
	mostMemory  = 65535

	earliestHalving = 512

	// youngHalvings is how often an ensemble's counts are halved at the first
	// time: its components know little of what is usual yet, and what they said
	// then would be the tail for a year of hourly samples.
	youngHalvings = 5
)

// calibrator turns standardised deviations into tail probabilities, for each
// side on its own.
//
// The body is empirical: a histogram of the deviations seen, read one bin too
// high, so that a value that occurs often is not taken for rare wherever in
// its bin it lies. The tail follows extreme value theory, as in SPOT (Siffer,
// Fouque, Termier, Largouët, "Anomaly detection in streams with extreme value
// theory", KDD 2017): what exceeds a high quantile is close to a generalised
// Pareto distribution (Pickands 1975). Its two parameters come from probability-weighted moments
// (Hosking and Wallis 1987), which have a closed form and, as integrals of the
// survival function and its square, need the histogram only. The shape is
// drawn towards a prior while the peaks are few, and where several peaks were
// counted the fit cannot contradict them by more than a factor of three.
//
// Two parametric tails take over where data cannot speak. Before there are
// enough peaks the survival function is that of Student's t with 4 degrees of
// freedom, weighted as priorWeight samples. Beyond 1/(evidence*n) the Pareto
// tail goes on with a larger shape, at least shapeBeyond, joined without a kink:
// of shapes that err either way, those that are too small are exceeded far more
// often than those that are too large are missed, so that a tail goes beyond
// what was fitted, on average, the more the farther out.
// Both are heavier than what they stand in for as a rule, so that they err
// towards fewer alarms; lnExceed reports when one was used.
//
// Contamination: a deviation rarer than once in rarest*n is learned as one
// of just that rarity, and in an unbroken run of such deviations only the
// first, second, fourth, eighth, … and every 64th are learned at all. So one
// spike or one long incident moves the tail by a bounded amount, while a tail
// that was too light corrects itself. Drift: all counts are halved
// when the memory is full and each time that the number of samples ever learned
// has doubled from 512 on, so that the clumsy beginning of a model and what a
// series was long ago weigh little.
//
// It is deterministic: counts are integers, and halving carries remainders
// from bin to bin. Cost per point: one or two logarithms and the sum of at
// most 108 small integers; the tail is fitted again after a sixteenth more
// samples, at most every 1024. Memory: about 600 bytes. It fails for
// deviations whose distribution depends on time, which the model in front of
// it has to remove.
type calibrator struct {
	counts  [2][binsN]uint16
	tails   [2]tail
	n       uint32   // weight of all samples, zero deviations included
	memory  uint32   // n at which the counts are halved
	learned uint32   // samples ever, modulo 2^32
	run     uint32   // length of the present run of extremes
	refit   uint32   // samples until the next fit
	top     [2]uint8 // last bin of a side that is not empty

	// ensemble is set for the sum of many components: what was learned first is
	// forgotten quickly, and no tail ends soon. It is not part of the state.
	ensemble bool
}

// tail is the fitted part of one side. Probabilities in it are relative to
// that of exceeding its start, which is where its bin begins.
type tail struct {
	scale float64
	shape float64
	end   float64 // excess over the start at which the evidence ends
	lnEnd float64 // logarithm of the probability there
	limit float64 // larger deviations are learned as this one; 0: no limit yet
	bin   uint8   // the first of the peaks; 0: no fit
}

// beyond returns the tail that goes on where the evidence ends.
func (t *tail) beyond() (scale, shape float64) {
	peaks := exp(-t.lnEnd) / evidence
	return t.scale + mul(t.shape, t.end), max(t.shape+min(shapeUnsure/math.Sqrt(peaks), shapeMore), shapeBeyond)
}

func newCalibrator(samplesInFourWeeks float64) calibrator {
	return calibrator{memory: uint32(min(max(samplesInFourWeeks, leastMemory), mostMemory)), refit: firstFit}
}

// binOf returns the bin of a deviation, which must not be negative.
func binOf(z float64) int {
	bits := math.Float64bits(z)
	e := int(bits>>52) - 1023
	switch {
	case e < lowExp:
		return 0
	case e < midExp:
		return 1 + (e-lowExp)<<1 + int(bits>>51&1)
	case e < highExp:
		return midBin + (e-midExp)<<3 + int(bits>>49&7)
	case e < farExp:
		return highBin + (e-highExp)<<2 + int(bits>>50&3)
	case e < endExp:
		return farBin + (e-farExp)<<1 + int(bits>>51&1)
	}
	return lastBin
}

// binStart returns where a bin begins. Bin lastBin+1 begins at infinity.
func binStart(b int) float64 {
	switch {
	case b <= 0:
		return 0
	case b < midBin:
		return octave(b-1, 1, lowExp)
	case b < highBin:
		return octave(b-midBin, 3, midExp)
	case b < farBin:
		return octave(b-highBin, 2, highExp)
	case b <= lastBin:
		return octave(b-farBin, 1, farExp)
	}
	return math.Inf(1)
}

// octave returns the start of the i-th bin of a stretch that begins at 2^exp
// and has 2^shift bins per octave.
func octave(i, shift, exp int) float64 {
	e := uint64(i>>shift+exp+1023) << 52
	sub := uint64(i&(1<<shift-1)) << (52 - shift)
	return math.Float64frombits(e | sub)
}

// priorTail is the probability that Student's t with 4 degrees of freedom
// exceeds z, in a form that keeps its precision for large z.
func priorTail(z float64) float64 {
	r2 := 4 + mul(z, z)
	e, c := 4/r2, z/math.Sqrt(r2)
	return mul(mul(e, e), 2+c) / mul(4, mul(1+c, 1+c))
}

// lnFloor is the logarithm of the probability that the prior tail alone gives
// to a deviation of 1.
func (c *calibrator) lnFloor() float64 {
	return ln(priorWeight * priorTail(1) / (float64(c.n) + priorWeight))
}

// beyond returns how many samples of one side lie in bin b and above.
func (c *calibrator) beyond(side, b int) uint32 {
	var sum uint32
	if end := int(c.top[side]) + 1; b < end {
		for _, k := range c.counts[side][b:end] {
			sum += uint32(k)
		}
	}
	return sum
}

// findTop finds the last bins that are not empty.
func (c *calibrator) findTop() {
	for side := range c.counts {
		b := lastBin
		for b > 0 && c.counts[side][b] == 0 {
			b--
		}
		c.top[side] = uint8(b)
	}
}

// mass is the smoothed weight of what is in bin b and above, of which seen
// samples were counted.
func mass(b int, seen uint32) float64 {
	return float64(seen) + mul(priorWeight, priorTail(binStart(b)))
}

// enough is how many counted samples the fit cannot contradict.
func (c *calibrator) enough() uint32 {
	if c.ensemble {
		return leastEnsemble
	}
	return leastCounted
}

// lnExceed returns the logarithm of the probability that a deviation on a side
// is at least z, and whether the evidence ends before z.
func (c *calibrator) lnExceed(side int, z float64) (lnP float64, extrapolated bool) {
	if z == 0 {
		return 0, false // every deviation is at least 0
	}
	z = min(z, maxDeviation)
	total := float64(c.n) + priorWeight
	b := binOf(z)
	here := c.beyond(side, b)
	m := mass(b, here)
	if t := &c.tails[side]; t.bin > 0 && b >= int(t.bin) {
		l, beyond := t.lnExceed(z - binStart(int(t.bin)))
		l += ln(mass(int(t.bin), c.beyond(side, int(t.bin))) / total)
		if here >= c.enough() {
			if least := ln(m / mul(countedShare, total)); least > l {
				return least, false
			}
		}
		return l, beyond
	}
	switch b {
	case 0:
	case lastBin:
		r := binStart(lastBin) / z
		r = mul(r, r)
		m = mul(m, mul(r, r))
	default:
		lo, hi := binStart(b), binStart(b+1)
		high := mass(b-1, here+uint32(c.counts[side][b-1]))
		m += mul(high-m, (hi-z)/(hi-lo))
	}
	return ln(m / total), mul(m, evidence) < 1
}

// lnExceed returns the logarithm of the probability of an excess of at least x
// over the start, given that there is one, and whether that is beyond the
// evidence.
func (t *tail) lnExceed(x float64) (lnP float64, extrapolated bool) {
	if x > t.end {
		scale, shape := t.beyond()
		return t.lnEnd + lnPareto(x-t.end, scale, shape), true
	}
	return lnPareto(x, t.scale, t.shape), false
}

// lnPareto is the logarithm of the survival function of the generalised Pareto
// distribution.
func lnPareto(x, scale, shape float64) float64 {
	if shape == 0 {
		return -x / scale
	}
	return -ln1p(mul(shape, x/scale)) / shape
}

// paretoQuantile is the inverse of lnPareto.
func paretoQuantile(lnP, scale, shape float64) float64 {
	if shape == 0 {
		return -mul(scale, lnP)
	}
	return mul(scale, expm1(-mul(shape, lnP))/shape)
}

// deviation is the inverse of lnExceed: the deviation on a side that is
// exceeded with the probability e^lnP.
func (c *calibrator) deviation(side int, lnP float64) float64 {
	total := float64(c.n) + priorWeight
	want := mul(exp(lnP), total)
	if t := &c.tails[side]; t.bin > 0 {
		l := lnP - ln(mass(int(t.bin), c.beyond(side, int(t.bin)))/total)
		switch {
		case l <= t.lnEnd:
			scale, shape := t.beyond()
			z := binStart(int(t.bin)) + t.end + paretoQuantile(l-t.lnEnd, scale, shape)
			return unlimited(max(z, c.counted(side, want)))
		case l <= 0:
			z := binStart(int(t.bin)) + paretoQuantile(l, t.scale, t.shape)
			return max(z, c.counted(side, want))
		}
	}
	top := lastBin
	if t := &c.tails[side]; t.bin > 0 {
		top = int(t.bin) - 1
	}
	here := c.beyond(side, top)
	m := mass(top, here)
	if want < m {
		if top < lastBin {
			return binStart(top + 1) // the tail begins below what the body ends with
		}
		return unlimited(mul(binStart(lastBin), math.Sqrt(math.Sqrt(m/want))))
	}
	for b := top; b > 0; b-- {
		here += uint32(c.counts[side][b-1])
		high := mass(b-1, here)
		if want < high {
			lo, hi := binStart(b), binStart(b+1)
			if b == lastBin {
				return lo
			}
			return hi - mul(hi-lo, (want-m)/(high-m))
		}
		m = high
	}
	return 0
}

// counted returns up to where the counts in the fitted part of a side forbid a
// weight as low as want.
func (c *calibrator) counted(side int, want float64) float64 {
	var here uint32
	for b := int(c.top[side]); b >= int(c.tails[side].bin); b-- {
		here += uint32(c.counts[side][b])
		if here >= c.enough() && mass(b, here) > mul(countedShare, want) {
			return binStart(b + 1)
		}
	}
	return 0
}

// unlimited returns z, or infinity when no deviation reaches z.
func unlimited(z float64) float64 {
	if z < maxDeviation {
		return z
	}
	return math.Inf(1)
}

// learn counts a deviation; side is where it lies.
func (c *calibrator) learn(side int, z float64) {
	if limit := c.tails[side].limit; limit > 0 && z > limit {
		c.run++
		if c.run&(c.run-1) != 0 && c.run%64 != 0 {
			return
		}
		z = limit
	} else {
		c.run = 0
	}
	if z > 0 {
		b := binOf(z)
		c.counts[side][b]++
		c.top[side] = max(c.top[side], uint8(b))
	}
	c.n++
	c.learned++
	if c.n >= c.memory || c.learned&(c.learned-1) == 0 && c.learned >= earliestHalving {
		c.halve()
		if c.ensemble && c.learned == earliestHalving {
			for range youngHalvings - 1 {
				c.halve()
			}
		}
	}
	c.refit--
	if c.refit == 0 {
		c.fit(sideAbove)
		c.fit(sideBelow)
		c.refit = min(max(c.n/16, 8), 1024)
	}
}

// halve halves all weights. Remainders go to the next lower bin, so that the
// tail as a whole keeps half of its weight, within one.
func (c *calibrator) halve() {
	c.n = (c.n + 1) / 2
	for side := range c.counts {
		var carry uint16
		for b := lastBin; b >= 0; b-- {
			k := c.counts[side][b] + carry
			c.counts[side][b], carry = k/2, k&1
		}
	}
	c.findTop()
}

// fit fits the tail of one side to the counts.
func (c *calibrator) fit(side int) {
	t := tail{}
	b, peaks := c.peaks(side)
	if b > 0 {
		t = c.fitPeaks(side, b, peaks)
	}
	c.tails[side] = t
	c.tails[side].limit = min(c.deviation(side, -ln(mul(rarest, float64(c.n)))), maxDeviation)
}

// peaks chooses the bin at which the peaks begin and counts them: about
// 1.6*n^0.6, never more than a fifth of all samples. It returns bin 0 when
// there are too few, or when most of them lie in one bin, as with whole
// numbers, and nothing can be said of how they fall off.
func (c *calibrator) peaks(side int) (bin int, peaks uint32) {
	want := max(uint32(mul(1.6, exp(mul(0.6, ln(float64(c.n)))))), 2*leastPeaks)
	var sum uint32
	for b := lastBin; b > 0; b-- {
		k := uint32(c.counts[side][b])
		if sum+k > c.n/5 {
			break
		}
		sum += k
		if sum >= leastPeaks && k > 0 && k <= sum-sum/5 {
			bin, peaks = b, sum
		}
		if sum >= want {
			break
		}
	}
	return bin, peaks
}

// fitPeaks estimates the tail from the peaks that begin at bin b.
func (c *calibrator) fitPeaks(side, b int, peaks uint32) tail {
	// a0 and a1 are the moments E[X] and E[X S(X)] of the excess X with the
	// survival function S: the integrals of S and of S²/2. Between the ends of
	// a bin S falls exponentially, in the last bin that has peaks linearly.
	var a0, a1 float64
	left := peaks
	for i := b; i < lastBin && left > 0; i++ {
		width := binStart(i+1) - binStart(i)
		p := float64(left) / float64(peaks)
		left -= uint32(c.counts[side][i])
		q := float64(left) / float64(peaks)
		switch {
		case p == q:
			a0 += mul(width, p)
			a1 += mul(mul(width, mul(p, p)), 1.0/2)
		case left == 0:
			a0 += mul(mul(width, p), 1.0/2)
			a1 += mul(mul(width, mul(p, p)), 1.0/6)
		default:
			slope := ln(p / q)
			a0 += mul(width, (p-q)/slope)
			a1 += mul(mul(width, mul(p-q, p+q)/slope), 1.0/4)
		}
	}
	shape := 0.9
	if d := a0 - 2*a1; d > 0 {
		shape = min(max(2-a0/d, -0.5), 0.9)
	}
	shape = (mul(float64(peaks), shape) + shapeWeight*shapePrior) / (float64(peaks) + shapeWeight)
	shape += shapeMargin / math.Sqrt(float64(peaks))
	if c.ensemble {
		shape = max(shape, shapeLeast)
	}
	if math.Abs(shape) < 1e-6 {
		shape = 0
	}
	t := tail{bin: uint8(b), shape: shape, scale: mul(a0, 1-shape)}
	t.lnEnd = min(-ln(mul(evidence, mass(b, peaks))), 0)
	t.end = paretoQuantile(t.lnEnd, t.scale, shape)
	return t
}

// describe says in words what a probability on a side rests on.
func (c *calibrator) describe(side int, extrapolated bool) string {
	t := &c.tails[side]
	switch {
	case t.bin == 0 && extrapolated:
		return fmt.Sprintf("rarer than %d samples can show: from a heavy tail assumed beforehand", c.n)
	case t.bin == 0:
		return fmt.Sprintf("counted among %d samples", c.n)
	case extrapolated:
		return fmt.Sprintf("rarer than %d samples can show: the fitted tail, made heavier", c.n)
	}
	return fmt.Sprintf("tail fitted to %d of %d samples", c.beyond(side, int(t.bin)), c.n)
}

// append writes the state. Most bins are empty: counts are written as pairs of
// a bin and its count.
func (c *calibrator) append(w *writer) {
	w.uvarint(uint64(c.n))
	w.u32(c.learned)
	w.uvarint(uint64(c.run))
	w.uvarint(uint64(c.refit))
	for side := range c.counts {
		used := 0
		for _, k := range c.counts[side] {
			if k > 0 {
				used++
			}
		}
		w.u8(uint8(used))
		for b, k := range c.counts[side] {
			if k > 0 {
				w.u8(uint8(b))
				w.uvarint(uint64(k))
			}
		}
		t := &c.tails[side]
		w.f64(t.limit)
		w.u8(t.bin)
		if t.bin > 0 {
			for _, v := range [...]float64{t.scale, t.shape, t.end, t.lnEnd} {
				w.f64(v)
			}
		}
	}
}

// read reads the state; memory stays.
func (c *calibrator) read(d *reader) {
	c.n = uint32(d.uvarint(uint64(c.memory)))
	c.learned = d.u32()
	c.run = uint32(d.uvarint(math.MaxUint32))
	c.refit = uint32(d.uvarint(1024))
	d.check(c.refit > 0)
	var sum uint64
	for side := range c.counts {
		next := 0
		for used := int(d.u8()); used > 0 && d.err == nil; used-- {
			b := int(d.u8())
			d.check(b >= next && b <= lastBin)
			if d.err != nil {
				return
			}
			k := d.uvarint(mostMemory)
			d.check(k > 0)
			c.counts[side][b] = uint16(k)
			sum += k
			next = b + 1
		}
		t := &c.tails[side]
		t.limit = d.finite()
		t.bin = d.u8()
		d.check(t.bin <= lastBin && t.limit >= 0)
		if t.bin > 0 {
			for _, v := range [...]*float64{&t.scale, &t.shape, &t.end, &t.lnEnd} {
				*v = d.finite()
			}
			d.check(t.scale > 0 && t.shape >= -0.6 && t.shape <= 1.2 && t.end >= 0 && t.lnEnd <= 0)
			scale, _ := t.beyond()
			d.check(scale > 0)
		}
	}
	d.check(sum <= mostMemory)
	c.findTop()
}
