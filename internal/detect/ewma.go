package detect

import (
	"fmt"
	"math"
	"time"
)

// ewmaClip is how many standard deviations of a value are learned at most.
const ewmaClip = 4

// ewma is the model "ewma": the distance from an exponentially weighted mean
// in units of the exponentially weighted standard deviation (Roberts 1959 for
// the chart; the recursion is West's, as in Finch, "Incremental calculation of
// weighted mean and variance", 2009). Until as many samples as the weight
// spans were seen, all weigh the same. A value is learned as at most four
// standard deviations away, so that a spike does not drag the mean.
//
// Cost per point: one square root. Memory: one struct, whatever the half-life.
// After a sustained shift the standard deviation grows until the mean can
// follow: alarms end within about three half-lives. It fails on rhythms, and
// on skewed series it wastes one side of the band.
type ewma struct {
	alpha float64
	least int // samples before it judges

	mean     float64
	variance float64
	n        uint64
}

// The limits of a half-life, in samples.
const (
	minHalfLife     = 2
	maxHalfLife     = 100_000
	defaultHalfLife = 60
)

func halfLifeParameter(def float64) Parameter {
	return Parameter{Name: "half_life", Type: TypeNumber, Default: def, Min: minHalfLife, Max: maxHalfLife,
		Summary: "samples after which the weight of a sample has fallen to one half"}
}

func ewmaLeast(halfLife float64) int { return max(minWindow, int(min(halfLife, 1000))) }

func ewmaMinHistory(time.Duration) int { return ewmaLeast(defaultHalfLife) }

func newEWMA(c config) (Model, error) {
	h := c.params.number("half_life")
	return newStandard(c, newEWMAPredictor(h)), nil
}

func newEWMAPredictor(halfLife float64) *ewma {
	return &ewma{alpha: decay(halfLife), least: ewmaLeast(halfLife)}
}

// decay returns the weight of a new sample so that its weight has halved after
// halfLife more.
func decay(halfLife float64) float64 { return -expm1(-(ln2Hi + ln2Lo) / halfLife) }

func (m *ewma) predict(int64) prediction {
	if m.n < minWindow {
		return prediction{}
	}
	s := math.Sqrt(m.variance)
	return prediction{center: m.mean, scale: [2]float64{s, s}, ok: true}
}

func (m *ewma) learn(_ int64, v float64, p prediction) {
	m.n++
	if p.ok {
		v = p.clip(v, ewmaClip)
	}
	w := max(m.alpha, 1/float64(m.n))
	d := v - m.mean
	step := mul(w, d)
	m.mean += step
	m.variance = mul(1-w, m.variance+mul(d, step))
}

func (m *ewma) missing() int {
	if m.n >= uint64(m.least) {
		return 0
	}
	return m.least - int(m.n)
}

func (m *ewma) why() string {
	return fmt.Sprintf("exponentially weighted mean and deviation of %d samples", m.n)
}

func (m *ewma) sizeBytes() int { return int(sizeOf[ewma]()) }

func (m *ewma) append(w *writer) {
	w.f64(m.mean)
	w.f64(m.variance)
	w.uvarint(m.n)
}

func (m *ewma) read(d *reader) {
	mean, variance, n := d.value(), d.finite(), d.uvarint(math.MaxInt64)
	d.check(variance >= 0 && variance <= 1e306)
	if d.close() == nil {
		m.mean, m.variance, m.n = mean, variance, n
	}
}
