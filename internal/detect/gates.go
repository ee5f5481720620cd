package detect

import (
	"fmt"
	"math"

	"aiops/internal/model"
)

// Gate says whether a scored sample counts as anomalous and, if not, what held
// it back.
type Gate uint8

// The answers of Gates. Only GateOpen makes a sample anomalous.
const (
	GateOpen       Gate = iota // anomalous
	GateScore                  // the score does not exceed the threshold
	GateLearning               // the model has too little history
	GateNotANumber             // the value is not finite
	GateDirection              // the deviation is on the side that is not watched
	GateAbsolute               // closer to the expected value than the least absolute deviation
	GateRelative               // closer than the least relative deviation
)

// String returns a few words for people.
func (g Gate) String() string {
	switch g {
	case GateOpen:
		return "anomalous"
	case GateScore:
		return "the score does not exceed the threshold"
	case GateLearning:
		return "the model is still learning"
	case GateNotANumber:
		return "the value is not a number"
	case GateDirection:
		return "the deviation is on the side that is not watched"
	case GateAbsolute:
		return "the deviation is smaller than the least absolute deviation"
	case GateRelative:
		return "the deviation is smaller than the least relative deviation"
	}
	return fmt.Sprintf("gate %d", uint8(g))
}

// Gates decides whether value v with result r is anomalous: its score exceeds
// the threshold, the model has learned enough, the deviation is on a side that
// is watched, and it is at least as large as both deviations of m that are
// set. The answer names the first gate that is shut, in the order of the
// constants. Relative is a share of the expected value's size; from an
// expected value of 0 every deviation is infinitely large in that sense and
// passes. While the expected value is unknown, direction and size do not hold
// anything back.
func Gates(r Result, v, threshold float64, d model.Direction, m model.MinDeviation) Gate {
	switch {
	case !finite(v):
		return GateNotANumber
	case r.Learning:
		return GateLearning
	case !(r.Score > threshold):
		return GateScore
	}
	deviation := v - r.Expected
	if math.IsNaN(deviation) {
		return GateOpen
	}
	switch {
	case d == model.DirectionAbove && deviation < 0, d == model.DirectionBelow && deviation > 0:
		return GateDirection
	case math.Abs(deviation) < m.Absolute:
		return GateAbsolute
	case math.Abs(deviation) < mul(m.Relative, math.Abs(r.Expected)):
		return GateRelative
	}
	return GateOpen
}
