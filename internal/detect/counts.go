package detect

import (
	"fmt"
	"math"
	"time"
)

const (
	countsClip  = 4    // deviations that are learned at most
	countsOver  = 1.05 // variance in means above which counts are no Poisson counts
	countsTiny  = 1e-3 // least mean: below, counts are as rare as of this one
	countsLarge = 1e9  // the largest count that is told from others
)

// counts is the model "counts", for events per step where they are few: how far
// a count is out in the tail of a negative binomial distribution, or a Poisson
// distribution while the counts do not vary more than those do. Mean and
// variance are exponentially weighted. The oddness is the exponent of
// Chernoff's bound of the tail ("A measure of asymptotic efficiency", 1952),
//
//	k ln(k/µ) - (k+r) ln((k+r)/(µ+r)),   for Poisson   k ln(k/µ) - k + µ,
//
// which is closed for any size and tells zero from one where a normal
// distribution does not. The calibrator turns it into a probability.
//
// Cost per point: some dozen logarithms, most for the ends of the band. Memory:
// one struct. A lasting shift is normal within about three half-lives. It fails
// on values that are no counts: negative ones are odd by their size, and on
// rhythms.
type counts struct {
	alpha float64
	least int

	mean     float64
	variance float64
	n        uint64
}

func countsParameters() []Parameter { return []Parameter{halfLifeParameter(defaultHalfLife)} }

func countsMinHistory(time.Duration) int { return ewmaLeast(defaultHalfLife) }

func newCounts(c config) (Model, error) {
	h := c.params.number("half_life")
	return newPattern(c, &counts{alpha: decay(h), least: ewmaLeast(h)}), nil
}

func (m *counts) expect() (center float64, ok bool) { return m.mean, m.n >= minWindow }

// size is r of the negative binomial distribution; infinite: Poisson.
func (m *counts) size(mean float64) float64 {
	if m.variance <= mul(countsOver, mean) {
		return math.Inf(1)
	}
	return mul(mean, mean/(m.variance-mean))
}

func (m *counts) oddness(v, _ float64) float64 {
	mean := min(max(m.mean, countsTiny), countsLarge)
	r := m.size(mean)
	below := max(-v, 0) // no count is below 0
	k := min(max(v, 0), countsLarge)
	rest := max(v-countsLarge, 0) / countsLarge
	var odd float64
	if k > 0 {
		odd = mul(k, ln(k/mean))
	}
	if r < countsLarge {
		odd -= mul(k+r, ln((k+r)/(mean+r)))
	} else {
		odd -= k - mean
	}
	return max(odd, 0) + below + rest
}

func (m *counts) learn(v float64) {
	m.n++
	if m.n > minWindow {
		// A burst is learned as a few deviations, and a single event always.
		most := mul(countsClip, math.Sqrt(max(m.variance, m.mean, 0))) + 1
		v = min(max(v, m.mean-most), m.mean+most)
	}
	w := max(m.alpha, 1/float64(m.n))
	d := v - m.mean
	step := mul(w, d)
	m.mean += step
	m.variance = mul(1-w, m.variance+mul(d, step))
}

func (m *counts) missing() int {
	if m.n >= uint64(m.least) {
		return 0
	}
	return m.least - int(m.n)
}

func (m *counts) why() string {
	mean := max(m.mean, 0)
	if r := m.size(max(mean, countsTiny)); !math.IsInf(r, 1) {
		return fmt.Sprintf("negative binomial counts with the mean %.3g and %.3g times its variance", mean, m.variance/max(mean, countsTiny))
	}
	return fmt.Sprintf("Poisson counts with the mean %.3g", mean)
}

func (m *counts) sizeBytes() int { return int(sizeOf[counts]()) }

func (m *counts) append(w *writer) {
	w.f64(m.mean)
	w.f64(m.variance)
	w.uvarint(m.n)
}

func (m *counts) read(d *reader) {
	mean, variance, n := d.value(), d.finite(), d.uvarint(math.MaxInt64)
	d.check(variance >= 0 && variance <= 1e306)
	if d.close() == nil {
		m.mean, m.variance, m.n = mean, variance, n
	}
}
