package detect

import "math"

const (
	floorEpoch   = 4096 // samples after which the grain of before is forgotten
	floorShare   = 0.25 // of the slow mean deviation
	floorUnknown = 0.01 // of the expected value, while nothing ever varied
	floorNoise   = 1e-9 // relative; less is rounding
	slowSamples  = 1024
)

// floor knows how small a deviation can be and still mean something, so that a
// series that hardly ever varies does not make its first tiny change look
// enormous. The least scale is the largest of
//
//   - the grain: the smallest step that the values took in the last 4096 to
//     8192 samples (1 for whole numbers, 0.01 for percentages so rounded);
//   - a quarter of the mean deviation over about a thousand samples, for a
//     series that is quiet just now but was not;
//   - a billionth of the expected value;
//   - while no value ever differed from the one before: a hundredth of the
//     expected value, or 1 when that is 0.
type floor struct {
	last  float64
	grain float64 // least difference in this epoch; 0: none
	older float64 // and in the one before
	slow  float64 // mean deviation
	n     uint64  // samples learned
}

// at returns the least scale around an expected value. It is positive.
func (f *floor) at(center float64) float64 {
	grain := f.grain
	if grain == 0 || f.older > 0 && f.older < grain {
		grain = f.older
	}
	size := math.Abs(center)
	if grain == 0 && f.slow == 0 {
		if size == 0 {
			return 1
		}
		return mul(floorUnknown, size)
	}
	return max(grain, mul(floorShare, f.slow), mul(floorNoise, size), math.SmallestNonzeroFloat64)
}

// learn takes a value and its deviation, NaN when nothing was expected.
func (f *floor) learn(v, deviation float64) {
	if f.n > 0 {
		d := math.Abs(v - f.last)
		if d > mul(floorNoise, max(math.Abs(v), math.Abs(f.last))) && (f.grain == 0 || d < f.grain) {
			f.grain = d
		}
	}
	f.last = v
	f.n++
	if f.n%floorEpoch == 0 && f.grain > 0 {
		f.older, f.grain = f.grain, 0
	}
	if d := math.Abs(deviation); d >= 0 {
		// A single deviation raises the mean to at most a multiple of itself.
		limit := mul(8, f.slow) + max(f.grain, f.older)
		if limit > 0 && d > limit {
			d = limit
		}
		f.slow += (d - f.slow) / float64(min(f.n, slowSamples))
	}
}

func (f *floor) append(w *writer) {
	w.f64(f.last)
	w.f64(f.grain)
	w.f64(f.older)
	w.f64(f.slow)
	w.uvarint(f.n)
}

func (f *floor) read(d *reader) {
	f.last = d.finite()
	f.grain = d.finite()
	f.older = d.finite()
	f.slow = d.finite()
	f.n = d.uvarint(math.MaxInt64)
	d.check(f.grain >= 0 && f.older >= 0 && f.slow >= 0)
}
