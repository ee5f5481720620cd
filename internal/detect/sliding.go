package detect

import (
	"fmt"
	"math"
)

// moments are the mean of some values and the sum of their squared distances
// from it.
type moments struct {
	mean, square float64
}

// add takes in the n-th value (Welford 1962).
func (a *moments) add(v float64, n int) {
	d := v - a.mean
	a.mean += d / float64(n)
	a.square += mul(d, v-a.mean)
}

// join returns the moments of na and nb values together (Chan, Golub and
// LeVeque 1979).
func join(a moments, na int, b moments, nb int) moments {
	if na == 0 {
		return b
	}
	if nb == 0 {
		return a
	}
	share := float64(nb) / float64(na+nb)
	d := b.mean - a.mean
	return moments{
		mean:   a.mean + mul(d, share),
		square: a.square + b.square + mul(mul(d, d), mul(float64(na), share)),
	}
}

// sliding is the model "window": the distance from the mean of the last
// samples in units of their standard deviation, the classical z-score.
//
// The sums never lose accuracy, however long the series and however large a
// value that once passed: the window is a queue of two stacks (Tangwongsan,
// Hirzel and Schneider 2015), so that moments are only ever joined, never
// subtracted.
//
// Cost per point: two joins, and once per window a pass over it. Memory: 24
// bytes per sample of the window. A value leaves the window as suddenly as it
// came, so that a shift is learned completely within one window. It fails on
// contaminated windows: an outlier inflates the deviation and hides its
// successors (masking), which robust_zscore resists.
type sliding struct {
	limit int
	least int

	front  []moments // front[i] is of the values i and later in it
	popped int       // values of front that left the window
	back   []float64 // newer values
	sum    moments   // of back
}

func newSliding(c config) (Model, error) {
	w := c.params.integer("window")
	return newStandard(c, &sliding{limit: w, least: windowLeast(w)}), nil
}

func (m *sliding) len() int { return len(m.front) - m.popped + len(m.back) }

func (m *sliding) predict(int64) prediction {
	n := m.len()
	if n < minWindow {
		return prediction{}
	}
	all := m.sum
	if m.popped < len(m.front) {
		all = join(m.front[m.popped], len(m.front)-m.popped, m.sum, len(m.back))
	}
	s := math.Sqrt(all.square / float64(n-1))
	return prediction{center: all.mean, scale: [2]float64{s, s}, ok: true}
}

func (m *sliding) learn(_ int64, v float64, _ prediction) {
	if m.len() == m.limit {
		if m.popped == len(m.front) {
			m.turn()
		}
		m.popped++
	}
	m.push(v)
}

func (m *sliding) push(v float64) {
	if len(m.back) == cap(m.back) {
		m.back = append(make([]float64, 0, min(max(2*len(m.back), minWindow), m.limit)), m.back...)
	}
	m.back = append(m.back, v)
	m.sum.add(v, len(m.back))
}

// turn moves the back stack to the front.
func (m *sliding) turn() {
	n := len(m.back)
	if cap(m.front) < n {
		m.front = make([]moments, n)
	}
	m.front = m.front[:n]
	var sum moments
	for i := n - 1; i >= 0; i-- {
		sum.add(m.back[i], n-i)
		m.front[i] = sum
	}
	m.popped, m.back, m.sum = 0, m.back[:0], moments{}
}

func (m *sliding) missing() int   { return max(0, m.least-m.len()) }
func (m *sliding) sizeBytes() int { return int(sizeOf[sliding]()) + 16*cap(m.front) + 8*cap(m.back) }

func (m *sliding) why() string {
	return fmt.Sprintf("mean and standard deviation of the last %d samples", m.len())
}

func (m *sliding) append(w *writer) {
	w.uvarint(uint64(len(m.front) - m.popped))
	for _, a := range m.front[m.popped:] {
		w.f64(a.mean)
		w.f64(a.square)
	}
	w.uvarint(uint64(len(m.back)))
	for _, v := range m.back {
		w.f64(v)
	}
}

func (m *sliding) read(d *reader) {
	r := sliding{limit: m.limit, least: m.least}
	if n := int(d.uvarint(uint64(m.limit))); d.need(16*n) && n > 0 {
		r.front = make([]moments, 0, m.limit)
		for range n {
			a := moments{mean: d.value(), square: d.finite()}
			d.check(a.square >= 0 && a.square <= 1e306)
			r.front = append(r.front, a)
		}
	}
	if n := int(d.uvarint(uint64(m.limit - len(r.front)))); d.need(8 * n) {
		for range n {
			r.push(d.value())
		}
	}
	if d.close() == nil {
		*m = r
	}
}
