package detect

import (
	"fmt"
	"math"

	"aiops/internal/model"
)

// bounds is the model "threshold": fixed bounds that people know. A value
// beyond a bound scores MaxScore, any other 0; a value on a bound is inside.
// Expected is the nearest value inside, so that the deviation is the distance
// from the bound.
//
// Cost per point: a few comparisons. Memory: one struct. It fails where the
// right bound depends on the time of day or on load; it never learns.
type bounds struct {
	ident        uint64
	below, above float64 // infinite: none
	last         Result
}

// checkBounds demands a bound that can be crossed in the direction watched.
func checkBounds(c config, bad *model.Invalid) {
	above, below := c.params.number("above"), c.params.number("below")
	switch {
	case math.IsNaN(above) && math.IsNaN(below):
		bad.Add("/parameters", "required", "the model threshold needs \"above\", \"below\" or both")
	case c.direction == model.DirectionAbove && math.IsNaN(above):
		bad.Add("/parameters/above", "required", "direction above needs the bound \"above\"")
	case c.direction == model.DirectionBelow && math.IsNaN(below):
		bad.Add("/parameters/below", "required", "direction below needs the bound \"below\"")
	case below > above:
		bad.Add("/parameters/below", "out_of_range", "\"below\" must not be greater than \"above\"")
	}
}

func newBounds(c config) (Model, error) {
	m := &bounds{ident: c.ident, below: math.Inf(-1), above: math.Inf(1)}
	if v := c.params.number("above"); !math.IsNaN(v) && c.direction != model.DirectionBelow {
		m.above = v
	}
	if v := c.params.number("below"); !math.IsNaN(v) && c.direction != model.DirectionAbove {
		m.below = v
	}
	return m, nil
}

func (m *bounds) Score(_ int64, v float64) Result {
	r := Result{Expected: math.NaN(), Lower: m.below, Upper: m.above}
	switch {
	case !finite(v):
		r.Reason = ReasonNotANumber
	case v > m.above:
		r.Score, r.Expected, r.Reason = MaxScore, m.above, ReasonAboveBound
	case v < m.below:
		r.Score, r.Expected, r.Reason = MaxScore, m.below, ReasonBelowBound
	default:
		r.Expected = v
	}
	m.last = r
	return r
}

func (m *bounds) Learn(int64, float64) {}

func (m *bounds) AppendSnapshot(dst []byte) []byte {
	w := openSnapshot(dst, m.ident)
	return w.close()
}

func (m *bounds) Restore(snapshot []byte) error {
	d := readSnapshot(snapshot, m.ident)
	if err := d.close(); err != nil {
		return err
	}
	m.last = Result{}
	return nil
}

func (m *bounds) SizeBytes() int       { return int(sizeOf[bounds]()) }
func (m *bounds) SetThreshold(float64) {}

func (m *bounds) Describe() (algorithm, why string) {
	switch {
	case math.IsInf(m.above, 1):
		return "threshold", fmt.Sprintf("fixed bound: not below %g", m.below)
	case math.IsInf(m.below, -1):
		return "threshold", fmt.Sprintf("fixed bound: not above %g", m.above)
	}
	return "threshold", fmt.Sprintf("fixed bounds: from %g to %g", m.below, m.above)
}

func (m *bounds) Contributions() []model.Contribution {
	if m.last == (Result{}) {
		return nil
	}
	_, why := m.Describe()
	return []model.Contribution{{Name: "threshold", Score: m.last.Score, Share: 1, Note: why}}
}
