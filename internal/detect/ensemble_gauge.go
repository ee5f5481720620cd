package detect

import "math"

const (
	gaugeWarm  = 32      // readings that only set the gauge
	gaugeUp    = 1.10407 // e^0.099: what a reading above the quantile moves it by
	gaugeDown  = 0.99899 // e^-0.00101: the same for one below; together they hold 99 %
	gaugeFade  = 1e-6    // share of its lead over the quantile that the record loses per reading
	gaugeLeast = 0.1     // of the quantile: least distance between it and the record
	gaugeMost  = 6       // most that a reading beyond the record adds
	gaugeNone  = 1e-3    // share of the first reading above a quantile of 0 that it takes
)

// gauge says how unusual a reading of one component is among its own past: 2
// at the past 99 % quantile, log10 of the number of samples at the record, and
// beyond it more in proportion to how far the record lies beyond the quantile.
// Between these marks it is linear. So components of any unit and tail can be
// added up, and a component that is often large has to be larger to count.
//
// The quantile moves by a factor per reading (stochastic approximation in the
// logarithm, Robbins and Monro 1951), which makes the gauge independent of the
// unit. Cost: a few multiplications. It fails for readings whose usual size
// changes quickly, which it takes for records.
type gauge struct {
	quantile float64
	record   float64
	n        uint8 // readings, at most gaugeWarm
}

// read returns how unusual c >= 0 is when top is what the record counts for.
func (g *gauge) read(c, top float64) float64 {
	if g.n < gaugeWarm || !(c >= 0) {
		return 0
	}
	if c > g.record {
		lead := max(g.record-g.quantile, mul(gaugeLeast, g.quantile))
		if lead > 0 {
			return top + min((c-g.record)/lead, gaugeMost)
		}
		return top
	}
	if c > g.quantile {
		return 2 + mul(top-2, (c-g.quantile)/(g.record-g.quantile))
	}
	if g.quantile > 0 {
		return 2 * c / g.quantile
	}
	return 0
}

// learn takes a reading in; NaN is none.
func (g *gauge) learn(c float64) {
	if !(c >= 0) {
		return
	}
	if g.n < gaugeWarm {
		g.n++
		if c > g.record {
			g.quantile, g.record = g.record, c
		} else if c > g.quantile {
			g.quantile = c
		}
		return
	}
	switch {
	case c > g.quantile && g.quantile <= 0:
		g.quantile = mul(gaugeNone, c)
	case c > g.quantile:
		g.quantile = mul(g.quantile, gaugeUp)
	default:
		g.quantile = mul(g.quantile, gaugeDown)
	}
	g.record = max(g.record, c, g.quantile)
	g.record -= mul(g.record-g.quantile, gaugeFade)
}

// inverse returns the smallest reading that counts for s.
func (g *gauge) inverse(s, top float64) float64 {
	switch {
	case g.n < gaugeWarm || s > top+gaugeMost:
		return math.Inf(1)
	case s <= 2:
		return mul(g.quantile, s/2)
	case s <= top:
		return g.quantile + mul(g.record-g.quantile, (s-2)/(top-2))
	}
	return g.record + mul(s-top, max(g.record-g.quantile, mul(gaugeLeast, g.quantile)))
}

func (g *gauge) scale(f float64) {
	g.quantile = mul(g.quantile, f)
	g.record = mul(g.record, f)
}

func (g *gauge) append(w *writer) {
	w.f64(g.quantile)
	w.f64(g.record)
	w.u8(g.n)
}

func (g *gauge) restore(d *reader) {
	g.quantile, g.record, g.n = d.finite(), d.finite(), d.u8()
	d.check(g.quantile >= 0 && g.record >= g.quantile && g.n <= gaugeWarm)
}
