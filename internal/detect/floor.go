package detect

import "math"

const (
	floorEpoch   = 4096 // samples after which the grain of before is forgotten
	floorShare   = 0.25 // of the slow mean deviation
	floorUnknown = 0.01 // of the expected value, while nothing ever varied
	floorNoise   = 1e-9 // relative; less is rounding
	slowSamples  = 1024
	slowLimit    = 64 // times the slow mean deviation: more is learned as this
)

// floor knows how small a deviation can be and still mean something, so that a
// series that hardly ever varies does not make its first tiny change look
// enormous. The least scale is the largest of
//
//   - the grain: the smallest difference between a value and one of the three
//     other values before it, over the last 4096 to 8192 samples (1 for whole
//     numbers, 0.01 for percentages so rounded);
//   - a quarter of the mean deviation over about a thousand samples, for a
//     series that is quiet just now but was not;
//   - a billionth of the expected value;
//   - while no value ever differed from the one before: a hundredth of the
//     expected value, or 1 when that is 0.
type floor struct {
	recent [3]float64 // different values seen last, in turn
	known  uint8      // how many of them there are
	next   uint8      // the one to replace
	grain  float64    // least difference in this epoch; 0: none
	older  float64    // and in the one before
	slow   float64    // mean deviation
	n      uint64     // samples learned
}

// step returns the grain, 0 when no value ever differed from the one before.
func (f *floor) step() float64 {
	if f.grain == 0 || f.older > 0 && f.older < f.grain {
		return f.older
	}
	return f.grain
}

// constant reports whether no value ever differed from another.
func (f *floor) constant() bool { return f.step() == 0 && f.slow == 0 }

// at returns the least scale around an expected value. It is positive.
func (f *floor) at(center float64) float64 {
	grain := f.step()
	size := math.Abs(center)
	if f.constant() {
		if size == 0 {
			return 1
		}
		return mul(floorUnknown, size)
	}
	return max(grain, mul(floorShare, f.slow), mul(floorNoise, size), math.SmallestNonzeroFloat64)
}

// learn takes a value and its deviation, NaN when nothing was expected.
func (f *floor) learn(v, deviation float64) {
	f.compare(v)
	f.n++
	if f.n%floorEpoch == 0 && f.grain > 0 {
		f.older, f.grain = f.grain, 0
	}
	if d := math.Abs(deviation); d >= 0 {
		// One deviation, however large, changes the mean by a sixteenth of
		// itself at most. A much lower limit would let the mean of a series
		// that deviates rarely shrink to nothing.
		limit := mul(slowLimit, f.slow) + max(f.grain, f.older)
		if limit > 0 && d > limit {
			d = limit
		}
		f.slow += (d - f.slow) / float64(min(f.n, slowSamples))
	}
}

// compare notes how near v is to the values seen last.
func (f *floor) compare(v float64) {
	for _, r := range f.recent[:f.known] {
		d := math.Abs(v - r)
		if d <= mul(floorNoise, max(math.Abs(v), math.Abs(r))) {
			return
		}
		if f.grain == 0 || d < f.grain {
			f.grain = d
		}
	}
	f.recent[f.next] = v
	f.next = (f.next + 1) % uint8(len(f.recent))
	f.known = max(f.known, f.next)
	if f.next == 0 {
		f.known = uint8(len(f.recent))
	}
}

func (f *floor) append(w *writer) {
	w.u8(f.known)
	w.u8(f.next)
	for _, v := range f.recent[:f.known] {
		w.f64(v)
	}
	w.f64(f.grain)
	w.f64(f.older)
	w.f64(f.slow)
	w.uvarint(f.n)
}

func (f *floor) read(d *reader) {
	f.known, f.next = d.u8(), d.u8()
	d.check(f.known <= uint8(len(f.recent)) && f.next < uint8(len(f.recent)))
	for i := 0; d.err == nil && i < int(f.known); i++ {
		f.recent[i] = d.value()
	}
	f.grain = d.value()
	f.older = d.value()
	f.slow = d.value()
	f.n = d.uvarint(math.MaxInt64)
	d.check(f.grain >= 0 && f.older >= 0 && f.slow >= 0)
}
