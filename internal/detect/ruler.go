package detect

import "math"

// ruler measures values of any size and offset in units of a moderate one: in
// powers of two near the first difference that was seen, from the first value.
type ruler struct {
	anchor float64 // the first value
	unit   float64 // a power of two; 0: all values were equal so far
}

const (
	rulerGrow   = 1 << 40         // a value of so many units makes the unit larger
	rulerShrink = 1.0 / (1 << 30) // by the reciprocal of this
	rulerMost   = 1e30            // units that are told apart
)

// units returns v in units, relative to the anchor.
func (u *ruler) units(v float64) float64 {
	if u.unit == 0 {
		return 0
	}
	return min(max((clampValue(v)-u.anchor)/u.unit, -rulerMost), rulerMost)
}

func (u *ruler) value(x float64) float64 { return u.anchor + mul(x, u.unit) }

// measure sets the anchor and the unit and makes the unit larger when values
// outgrow it. It returns how often the caller has to multiply what it keeps in
// units by rulerShrink, and whether units changed at all.
func (u *ruler) measure(v float64, first bool) (shrinks int, changed bool) {
	if first {
		u.anchor = v
		return 0, false
	}
	d := math.Abs(v - u.anchor)
	if u.unit == 0 {
		if d > 0 {
			_, e := math.Frexp(d)
			u.unit = math.Ldexp(1, max(e, -1000))
		}
		return 0, d > 0
	}
	for d > mul(rulerGrow, u.unit) {
		u.unit /= rulerShrink
		shrinks++
	}
	return shrinks, shrinks > 0
}
