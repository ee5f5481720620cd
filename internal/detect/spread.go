package detect

import (
	"fmt"
	"math"
	"time"
)

const (
	spreadLow, spreadHigh = 0.1, 0.9 // quantiles whose distance is the width
	spreadClip            = 1.1      // logarithm of the factor by which a width is learned as different at most
	spreadMost            = 200      // and of the largest ratio that is told from others
	spreadApart           = 4        // widths of a window that are calibrated
)

// spread is the model "spread": how widely the last samples vary, against how
// widely they usually do. It sees noise that grows or dies away around a level
// that stays (control charts for dispersion; Montgomery, "Introduction to
// Statistical Quality Control", chapter 6).
//
// The width of a window is the distance of its 10 % and 90 % quantiles, of the
// values or of the differences between neighbours divided by √2, whichever is
// less: a level that shifts widens the values only, and a ramp too. The oddness is the ratio
// of the width to the usual one, less one; on the other side its reciprocal. The
// usual width is the exponential of an exponentially weighted mean of logarithms;
// a width is learned as at most three times as large or small. Up to a tenth of
// the window may be spikes before they count.
//
// Direction above watches for more variation, below for less. There is no
// expected value and no band.
//
// Cost per point: four binary searches and two logarithms. Memory: 20 bytes per
// sample of the window. It sees a change after about a third of its window. A
// lasting one is normal after one to two half-lives. It fails where variation
// follows a rhythm, which it takes for usual in both extremes, and on swings
// slower than its window.
type spread struct {
	values ordered
	steps  ordered // differences between neighbours
	floor  floor   // knows the grain
	last   float64
	usual  float64 // logarithm of the width
	alpha  float64
	least  int
	n      uint64
	since  uint64 // samples since it first varied

	now float64 // scratch: width of the last oddness
	odd int     // and its side
}

func spreadParameters() []Parameter {
	return []Parameter{windowParameter(32), halfLifeParameter(spreadHalfLife)}
}

const spreadHalfLife = 1440

func spreadMinHistory(time.Duration) int { return spreadLeast(32) }

// spreadLeast is the samples before it judges: some windows.
func spreadLeast(window int) int { return 4 * window }

func newSpread(c config) (Model, error) {
	w := c.params.integer("window")
	return newPattern(c, &spread{values: newOrdered(w), steps: newOrdered(w), alpha: decay(c.params.number("half_life")),
		least: spreadLeast(w)}), nil
}

func (m *spread) expect() (center float64, ok bool) {
	return math.NaN(), m.since >= uint64(2*m.steps.limit)
}

// width returns the logarithm of the width of a window that ends with v. Less
// than half a grain is told from nothing.
func (m *spread) width(v float64) float64 {
	a, b := m.values.with(v), m.steps.with(clampValue(v-m.last))
	of := a.quantile(spreadHigh) - a.quantile(spreadLow)
	steps := mul(math.Sqrt2/2, b.quantile(spreadHigh)-b.quantile(spreadLow))
	return ln(max(min(of, steps), 0) + max(m.floor.step()/2, math.SmallestNonzeroFloat64))
}

func (m *spread) oddness(v, _ float64) float64 {
	m.now = m.width(v)
	m.odd = sideAbove
	d := m.now - m.usual
	if d < 0 {
		m.odd, d = sideBelow, -d
	}
	return expm1(min(d, spreadMost))
}

func (m *spread) side() (side int, sided bool) { return m.odd, true }

func (m *spread) reason(side int) Reason {
	if side == sideBelow {
		return ReasonCalmer
	}
	return ReasonWider
}

func (m *spread) due() bool { return m.n%uint64(max(1, m.values.limit/spreadApart)) == 0 }

func (m *spread) note() string {
	return fmt.Sprintf("the last %d samples vary %.3g times as much as usual", m.values.len(), exp(min(m.now-m.usual, spreadMost)))
}

func (m *spread) learn(v float64) {
	if m.n == 0 {
		m.last = v
	}
	if m.since > 0 || v != m.last {
		m.since++
	}
	// The first windows hold samples of before it varied.
	if limit := uint64(m.steps.limit); m.since > limit {
		w := m.width(v)
		if m.since > 2*limit {
			w = min(max(w, m.usual-spreadClip), m.usual+spreadClip)
		}
		m.usual += mul(max(m.alpha, 1/float64(m.since-limit)), w-m.usual)
	}
	m.n++
	m.values.push(v)
	m.steps.push(clampValue(v - m.last))
	m.last = v
	m.floor.learn(v, math.NaN())
}

func (m *spread) missing() int { return max(0, m.least-int(min(m.n, uint64(m.least)))) }

func (m *spread) why() string {
	if m.since == 0 {
		return fmt.Sprintf("%d samples that do not vary", m.n)
	}
	return fmt.Sprintf("eight in ten of %d samples lie usually within %.3g", m.values.len(), exp(min(m.usual, 700)))
}

func (m *spread) sizeBytes() int {
	return int(sizeOf[spread]()) + m.values.sizeBytes() + m.steps.sizeBytes()
}

func (m *spread) append(w *writer) {
	w.f64(m.last)
	w.f64(m.usual)
	w.uvarint(m.n)
	w.uvarint(m.since)
	m.floor.append(w)
	m.values.append(w)
	m.steps.append(w)
}

func (m *spread) read(d *reader) {
	r := *m
	r.last, r.usual, r.n, r.since = d.value(), d.finite(), d.uvarint(math.MaxInt64), d.uvarint(math.MaxInt64)
	d.check(math.Abs(r.usual) <= 1000 && r.since <= r.n)
	r.floor = floor{}
	r.floor.read(d)
	r.values, r.steps = readOrdered(d, m.values.limit), readOrdered(d, m.steps.limit)
	d.check(r.values.len() == int(min(r.n, uint64(m.values.limit))) && r.steps.len() == r.values.len())
	if d.close() == nil {
		*m = r
	}
}
