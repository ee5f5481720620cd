package detect

import (
	"math"
	"sort"
)

// ordered is a window of the last samples with their order: the i-th smallest
// is found in constant time. Adding one costs two binary searches and moving
// at most 2 bytes per sample of the window. Memory: 10 bytes per sample.
type ordered struct {
	values []float64 // a ring once full
	order  []uint16  // positions in values by value; equal values from old to new
	oldest int       // position of the oldest value, once full
	limit  int       // size of the full window
}

func newOrdered(limit int) ordered { return ordered{limit: limit} }

func (o *ordered) len() int { return len(o.values) }

// at returns the i-th smallest value.
func (o *ordered) at(i int) float64 { return o.values[o.order[i]] }

// first returns the rank of the first value that is not less than v, or with
// after the first that is greater.
func (o *ordered) first(v float64, after bool) int {
	lo, hi := 0, len(o.order)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		x := o.values[o.order[mid]]
		if x < v || after && x == v {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// push adds v, in place of the oldest value when the window is full.
func (o *ordered) push(v float64) {
	to := o.first(v, true)
	if len(o.values) < o.limit {
		o.grow()
		o.order = append(o.order, 0)
		copy(o.order[to+1:], o.order[to:])
		o.order[to] = uint16(len(o.values))
		o.values = append(o.values, v)
		return
	}
	// The oldest of all is the oldest among its equals too, which come first.
	from := o.first(o.values[o.oldest], false)
	if from < to {
		to--
		copy(o.order[from:to], o.order[from+1:to+1])
	} else {
		copy(o.order[to+1:from+1], o.order[to:from])
	}
	o.order[to] = uint16(o.oldest)
	o.values[o.oldest] = v
	o.oldest++
	if o.oldest == o.limit {
		o.oldest = 0
	}
}

// grow makes room for one more value, doubling up to the limit.
func (o *ordered) grow() {
	if len(o.values) < cap(o.values) {
		return
	}
	size := min(max(2*len(o.values), minWindow), o.limit)
	o.values = append(make([]float64, 0, size), o.values...)
	o.order = append(make([]uint16, 0, size), o.order...)
}

// median returns the middle value, or the mean of the two. The window must not
// be empty.
func (o *ordered) median() float64 {
	n := len(o.order)
	if n%2 == 1 {
		return o.at(n / 2)
	}
	return (o.at(n/2-1) + o.at(n/2)) / 2
}

// quantile returns the value at a share q of the way through the window,
// between neighbours linearly.
func (o *ordered) quantile(q float64) float64 {
	pos := mul(q, float64(len(o.order)-1))
	i := int(pos)
	if i+1 >= len(o.order) {
		return o.at(len(o.order) - 1)
	}
	a, b := o.at(i), o.at(i+1)
	return a + mul(b-a, pos-float64(i))
}

// replaced is a window as it would be with one more value.
type replaced struct {
	*ordered
	v        float64
	from, to int // ranks: of the value that left, of v
}

// with returns the window as it would be after push(v), of which it keeps a
// reference.
func (o *ordered) with(v float64) replaced {
	r := replaced{ordered: o, v: v, from: len(o.order), to: o.first(v, true)}
	if len(o.values) == o.limit {
		if r.from = o.first(o.values[o.oldest], false); r.from < r.to {
			r.to--
		}
	}
	return r
}

// at returns the i-th smallest value.
func (r *replaced) at(i int) float64 {
	switch {
	case i == r.to:
		return r.v
	case i > r.to:
		i--
	}
	if i >= r.from {
		i++
	}
	return r.ordered.at(i)
}

// quantile is that of ordered.
func (r *replaced) quantile(q float64) float64 {
	n := min(len(r.order)+1, r.limit)
	pos := mul(q, float64(n-1))
	i := int(pos)
	if i+1 >= n {
		return r.at(n - 1)
	}
	a, b := r.at(i), r.at(i+1)
	return a + mul(b-a, pos-float64(i))
}

// mad returns the exact median of the distances from center.
func (o *ordered) mad(center float64) float64 {
	n := len(o.order)
	if n%2 == 1 {
		return o.distance(center, n/2+1)
	}
	return (o.distance(center, n/2) + o.distance(center, n/2+1)) / 2
}

// distance returns the k-th smallest distance from center. The k nearest
// values are neighbours in order; binary search finds the first of them.
func (o *ordered) distance(center float64, k int) float64 {
	lo, hi := 0, len(o.order)-k
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if center-o.at(mid) > o.at(mid+k)-center {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return max(center-o.at(lo), o.at(lo+k-1)-center)
}

func (o *ordered) sizeBytes() int { return 8*cap(o.values) + 2*cap(o.order) }

// append writes the values from old to new.
func (o *ordered) append(w *writer) {
	w.uvarint(uint64(len(o.values)))
	for i := range o.values {
		w.f64(o.values[(o.oldest+i)%len(o.values)])
	}
}

// readOrdered reads a window of at most limit values.
func readOrdered(d *reader, limit int) ordered {
	o := newOrdered(limit)
	n := int(d.uvarint(uint64(limit)))
	if !d.need(8 * n) {
		return o
	}
	for o.cap(n) {
	}
	for i := range n {
		o.values = append(o.values, d.finite())
		o.order = append(o.order, uint16(i))
		d.check(math.Abs(o.values[i]) <= maxValue)
	}
	sort.SliceStable(o.order, func(i, j int) bool { return o.values[o.order[i]] < o.values[o.order[j]] })
	return o
}

// cap makes room for n values in steps, and reports whether it did one.
func (o *ordered) cap(n int) bool {
	if cap(o.values) >= n {
		return false
	}
	size := min(max(2*cap(o.values), minWindow), o.limit)
	o.values, o.order = make([]float64, 0, size), make([]uint16, 0, size)
	return true
}
