package detect

import (
	"fmt"
	"math"
	"time"
)

const (
	changeClip = 4  // usual changes that are learned at most
	changeGap  = 16 // steps that a gap counts for at most
)

// rateOfChange is the model "rate_of_change": the difference from the sample
// before, in units of the usual size of such differences (the moving range of
// Shewhart charts; Montgomery, "Introduction to Statistical Quality Control").
// The usual size is an exponentially weighted mean of their absolute values;
// after a gap of k steps it is √k times that, as of a random walk.
//
// Cost per point: one square root. Memory: one struct. A lasting shift alarms
// once, and so does a return. It fails on what comes slowly, and on noise that
// is as large as the jumps: there a model of the level sees twice as much.
type rateOfChange struct {
	alpha float64
	step  int64 // ms
	least int

	last  float64
	lastT int64
	usual float64 // mean absolute change over a step
	n     uint64
}

func rateOfChangeParameters() []Parameter { return []Parameter{halfLifeParameter(shiftHalfLife)} }

func newRateOfChange(c config) (Model, error) {
	h := c.params.number("half_life")
	return newStandard(c, &rateOfChange{alpha: decay(h), least: ewmaLeast(h),
		step: max(int64(c.step/time.Millisecond), 1)}), nil
}

// steps returns the root of how many steps before t the last sample was.
func (m *rateOfChange) steps(t int64) float64 {
	return math.Sqrt(min(max(float64(t-m.lastT)/float64(m.step), 1), changeGap))
}

func (m *rateOfChange) predict(t int64) prediction {
	if m.n < minWindow {
		return prediction{}
	}
	s := mul(mul(meanToDeviation, m.usual), m.steps(t))
	return prediction{center: m.last, scale: [2]float64{s, s}, ok: true}
}

func (m *rateOfChange) learn(t int64, v float64, p prediction) {
	if m.n > 0 {
		change := math.Abs(v - m.last)
		if p.ok {
			change = math.Abs(p.clip(v, changeClip) - m.last)
		}
		m.usual += mul(max(m.alpha, 1/float64(m.n)), change/m.steps(t)-m.usual)
	}
	m.last, m.lastT = v, t
	m.n++
}

func (m *rateOfChange) missing() int {
	if m.n >= uint64(m.least) {
		return 0
	}
	return m.least - int(m.n)
}

func (m *rateOfChange) why() string {
	return fmt.Sprintf("difference from the sample before, against %d earlier ones", max(m.n, 1)-1)
}

func (m *rateOfChange) sizeBytes() int { return int(sizeOf[rateOfChange]()) }

func (m *rateOfChange) append(w *writer) {
	w.f64(m.last)
	w.i64(m.lastT)
	w.f64(m.usual)
	w.uvarint(m.n)
}

func (m *rateOfChange) read(d *reader) {
	n := *m
	n.last, n.lastT, n.usual, n.n = d.value(), d.i64(), d.value(), d.uvarint(math.MaxInt64)
	d.check(n.usual >= 0)
	if d.close() == nil {
		*m = n
	}
}
