package detect

const (
	gaugeWarm  = 12      // readings that only set the gauge
	gaugeUp    = 1.10407 // e^0.099: what a reading above the quantile moves it by
	gaugeDown  = 0.99899 // e^-0.00101: the same for one below; together they hold 99 %
	gaugeLeast = 0.1     // of the quantile: least distance between it and the record
	gaugeTop   = 4       // what a reading counts for, free of the record, that lies
	gaugeNear  = 2       // so many quantiles above the quantile, or as far as the record if that is nearer
	gaugeMost  = 3       // most that a reading beyond the record adds
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
	quantile float32
	record   float32
	n        uint8 // readings, at most gaugeWarm
}

// read returns how unusual c >= 0 is, in two ways. limited is for ranking: top
// is what the record counts for, and what lies beyond it adds little, so that no
// component decides alone. free is for calibration: it depends on the quantile more
// than on the record, which a single value or the beginning of a series can
// have made useless, does not change with the number of samples, so that readings
// of different ages can be compared, and has no limit, so that enormous ones are
// told from new records by a hair.
func (g *gauge) read(c, top float64) (limited, free float64) {
	if g.n < gaugeWarm || !(c >= 0) {
		return 0, 0
	}
	quantile, record := float64(g.quantile), float64(g.record)
	if c <= quantile {
		if quantile > 0 {
			limited = 2 * c / quantile
		}
		return limited, limited
	}
	lead := max(record-quantile, mul(gaugeLeast, quantile))
	if !(lead > 0) {
		return top, gaugeTop
	}
	near := lead
	if quantile > 0 {
		near = min(lead, mul(gaugeNear, quantile))
	}
	free = 2 + min(mul(gaugeTop-2, (c-quantile)/near), largestReading)
	if c > record {
		return top + min((c-record)/lead, gaugeMost), free
	}
	return 2 + mul(top-2, (c-quantile)/(record-quantile)), free
}

// learn takes a reading in; NaN is none.
func (g *gauge) learn(reading float64) {
	if !(reading >= 0) {
		return
	}
	c := float32(reading)
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
		g.quantile = float32(c * gaugeNone)
	case c > g.quantile:
		g.quantile = float32(g.quantile * gaugeUp)
	default:
		g.quantile = float32(g.quantile * gaugeDown)
	}
	g.record = max(g.record, c, g.quantile)
}

func (g *gauge) scale(f float64) {
	g.quantile = float32(mul(float64(g.quantile), f))
	g.record = float32(mul(float64(g.record), f))
}

func (g *gauge) append(w *writer) {
	w.f32(g.quantile)
	w.f32(g.record)
	w.u8(g.n)
}

func (g *gauge) restore(d *reader) {
	g.quantile, g.record, g.n = d.f32(), d.f32(), d.u8()
	d.check(g.quantile >= 0 && finite(float64(g.record)) && g.record >= g.quantile && g.n <= gaugeWarm)
}
