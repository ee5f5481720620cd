package detect

import (
	"fmt"
	"math"
	"time"
)

const (
	flatHistory = 60   // samples before it judges
	flatMoves   = 16   // movements before it judges
	flatMean    = 1024 // samples that the usual movement is the mean of
	flatClip    = 8    // usual movements that one counts for at most
	flatGrowth  = 4    // times the longest stretch of before, as which a longer one is learned
	flatMost    = 1e12 // samples of a stretch that are told apart
)

// flat is the model "flat_line": a series that stops moving though it used to
// move, such as a sensor that is stuck, an exporter that repeats its last answer,
// a queue that nobody works on. (A stretch of equal values is the "persistence
// test" of quality control of measured data; World Meteorological Organization,
// "Guide to Climatological Practices", 2011.)
//
// A sample moves when it differs from the value at which the present stretch began by
// more than the parameter tolerance allows, a share of the usual movement. The
// oddness is the length of the stretch in units of the longest one of late, which is
// remembered for four to eight weeks; stretches shorter than the parameter
// samples are not odd at all. So a series that is flat each night is not odd at
// night. A stretch is learned as at most four times the longest one
// before it, and the calibrator turns the ratio into a probability.
//
// Cost per point: a few comparisons. Memory: one struct. An alarm lasts as long as
// the stretch. It fails on series that seldom move (fewer than 16 movements:
// it does not judge), and on a stuck value by day where nights are flat and
// longer. Samples that are missing are not its business: a gap neither ends a
// stretch nor is part of one.
type flat struct {
	least     float64 // samples of a stretch that can be odd
	tolerance float64
	epoch     uint64

	anchor  float64 // where the present stretch began
	last    float64
	usual   float64    // mean movement
	run     float64    // samples of the stretch behind its first
	longest [2]float64 // stretch that ended, in this epoch and in the one before
	n       uint64
	moves   uint64

	length float64 // scratch: of the stretch of the last oddness
}

func flatParameters() []Parameter {
	return []Parameter{
		{Name: "samples", Type: TypeInteger, Default: 5, Min: 2, Max: maxWindow,
			Summary: "samples without movement from which on they can be odd"},
		{Name: "tolerance", Type: TypeNumber, Default: 0.01, Min: 0, Max: 1,
			Summary: "share of the usual movement that is no movement"},
	}
}

func flatMinHistory(time.Duration) int { return flatHistory }

func newFlat(c config) (Model, error) {
	memory := min(max(float64(4*week)/float64(c.step), leastMemory), mostMemory)
	return newPattern(c, &flat{least: float64(c.params.integer("samples")),
		tolerance: c.params.number("tolerance"), epoch: uint64(memory)}), nil
}

func (m *flat) expect() (center float64, ok bool) { return math.NaN(), m.n > 0 }

// still reports whether v does not move.
func (m *flat) still(v float64) bool {
	return m.n > 0 && math.Abs(v-m.anchor) <= mul(m.tolerance, m.usual)
}

func (m *flat) oddness(v, _ float64) float64 {
	m.length = 0
	if !m.still(v) {
		return 0
	}
	m.length = m.run + 1
	if m.moves < flatMoves || m.length < m.least {
		return 0
	}
	return m.length / m.record()
}

// record is the longest stretch that is usual.
func (m *flat) record() float64 { return max(m.longest[0], m.longest[1], m.least) }

func (m *flat) side() (side int, sided bool) { return sideAbove, false }

func (m *flat) reason(int) Reason { return ReasonFlat }

func (m *flat) due() bool { return true }

func (m *flat) note() string {
	return fmt.Sprintf("no movement in %.0f samples, at most %.0f are usual", m.length, m.record())
}

func (m *flat) learn(v float64) {
	if m.n == 0 {
		m.anchor, m.last = v, v
	}
	still := m.still(v)
	m.n++
	if m.n%m.epoch == 0 {
		m.longest[1], m.longest[0] = m.longest[0], 0
	}
	step := math.Abs(v - m.last)
	if m.moves >= flatMoves {
		step = min(step, mul(flatClip, m.usual))
	}
	m.usual += (step - m.usual) / float64(min(m.n, flatMean))
	m.last = v
	switch {
	case still:
		m.run = min(m.run+1, flatMost)
	case m.n > 1:
		m.moves++
		m.longest[0] = max(m.longest[0], min(m.run, mul(flatGrowth, m.record())))
		m.anchor, m.run = v, 0
	}
}

func (m *flat) missing() int { return max(0, flatHistory-int(min(m.n, flatHistory))) }

func (m *flat) why() string {
	if m.moves < flatMoves {
		return fmt.Sprintf("moved %d times in %d samples, too seldom to say that it stopped", m.moves, m.n)
	}
	return fmt.Sprintf("moved %d times in %d samples, without a movement for at most %.0f", m.moves, m.n, m.record())
}

func (m *flat) sizeBytes() int { return int(sizeOf[flat]()) }

func (m *flat) append(w *writer) {
	for _, v := range [...]float64{m.anchor, m.last, m.usual, m.run, m.longest[0], m.longest[1]} {
		w.f64(v)
	}
	w.uvarint(m.n)
	w.uvarint(m.moves)
}

func (m *flat) read(d *reader) {
	r := *m
	for _, v := range [...]*float64{&r.anchor, &r.last, &r.usual} {
		*v = d.value()
	}
	for _, v := range [...]*float64{&r.run, &r.longest[0], &r.longest[1]} {
		*v = d.finite()
		d.check(*v >= 0 && *v <= flatGrowth*flatMost)
	}
	r.n, r.moves = d.uvarint(math.MaxInt64), d.uvarint(math.MaxInt64)
	d.check(r.usual >= 0 && r.moves <= r.n)
	if d.close() == nil {
		*m = r
	}
}
