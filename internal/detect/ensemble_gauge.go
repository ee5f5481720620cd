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
	mark
	n uint8 // readings, at most gaugeWarm
}

// mark is what a gauge knows of the size of readings.
type mark struct {
	quantile float32
	record   float32
}

// limited returns how unusual c >= 0 is for ranking: top is what the record counts
// for, and what lies beyond it adds little, so that no component decides alone.
func (g *gauge) limited(c, top float64) float64 {
	if g.n < gaugeWarm || !(c >= 0) {
		return 0
	}
	quantile, record := float64(g.quantile), float64(g.record)
	if c <= quantile {
		return usualReading(c, quantile)
	}
	lead := max(record-quantile, mul(gaugeLeast, quantile))
	switch {
	case !(lead > 0):
		return top
	case c > record:
		return top + min((c-record)/lead, gaugeMost)
	}
	return 2 + mul(top-2, (c-quantile)/(record-quantile))
}

// free returns how unusual c >= 0 is for calibration: it depends on the quantile more
// than on the record, which a single value or the beginning of a series can
// have made useless, does not change with the number of samples, so that readings
// of different ages can be compared, and has no limit, so that enormous ones are
// told from new records by a hair.
func (m mark) free(c float64) float64 {
	quantile, record := float64(m.quantile), float64(m.record)
	if c <= quantile {
		return usualReading(c, quantile)
	}
	near := max(record-quantile, mul(gaugeLeast, quantile))
	if !(near > 0) {
		return gaugeTop
	}
	if quantile > 0 {
		near = min(near, mul(gaugeNear, quantile))
	}
	return 2 + min(mul(gaugeTop-2, (c-quantile)/near), largestReading)
}

// usualReading is what a reading up to the quantile counts for.
func usualReading(c, quantile float64) float64 {
	if quantile > 0 {
		return 2 * c / quantile
	}
	return 0
}

// learn takes a reading in; NaN is none.
func (g *gauge) learn(reading float64) {
	if !(reading >= 0) {
		return
	}
	if g.n == gaugeWarm {
		g.move(float32(reading))
		return
	}
	c := float32(reading)
	g.n++
	if c > g.record {
		g.quantile, g.record = g.record, c
	} else if c > g.quantile {
		g.quantile = c
	}
}

// move takes a reading in that is not among the first.
func (m *mark) move(c float32) {
	switch {
	case c > m.quantile && m.quantile <= 0:
		m.quantile = float32(c * gaugeNone)
	case c > m.quantile:
		m.quantile = float32(m.quantile * gaugeUp)
	default:
		m.quantile = float32(m.quantile * gaugeDown)
	}
	m.record = max(m.record, c, m.quantile)
}

// raise makes the quantile at least so large.
func (m *mark) raise(least float32) {
	m.quantile = max(m.quantile, least)
	m.record = max(m.record, m.quantile)
}

func (m *mark) scale(f float64) {
	m.quantile = float32(mul(float64(m.quantile), f))
	m.record = float32(mul(float64(m.record), f))
}

func (m *mark) append(w *writer) {
	w.f32(m.quantile)
	w.f32(m.record)
}

func (m *mark) restore(d *reader) {
	m.quantile, m.record = d.f32(), d.f32()
	d.check(m.quantile >= 0 && finite(float64(m.record)) && m.record >= m.quantile)
}

func (g *gauge) append(w *writer) {
	g.mark.append(w)
	w.u8(g.n)
}

func (g *gauge) restore(d *reader) {
	g.mark.restore(d)
	g.n = d.u8()
	d.check(g.n <= gaugeWarm)
}
