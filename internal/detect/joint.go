package detect

import (
	"math"
	"slices"
)

// LeastPeers is how many members of a group need a value for any of them to
// be compared with the others.
const LeastPeers = 3

// JointModel is the model that calibrates what is made of several series: the
// distances of a member from its peers, and the surprise of a group.
const JointModel = "ewma"

// GroupCap is how much one member can add to the surprise of its group: a
// member that is odd by itself has its own alarm.
const GroupCap = 3.0

// PeerDistances writes to out[i] how far values[i] is from the median of all
// values, in units of their spread, and returns the median and the spread. The
// spread is 1.4826 times the median absolute deviation; where more than half of
// a group agree exactly, it is a quarter of the mean deviation. Up to half of the
// members may be wrong before the median misleads. out has the length of
// values, all of them finite; scratch may be nil. The cost is that of sorting.
//
// The distance is not calibrated: replicas differ for good reasons, so each
// member gets a model of its own distance, which learns what is usual for it.
// It fails where a group has fewer than LeastPeers members, and where most
// members fail in the same way at the same time; their own scores see that.
func PeerDistances(values, out, scratch []float64) (median, spread float64, _ []float64) {
	scratch = append(scratch[:0], values...)
	median = middle(scratch)
	sum := 0.0
	for i, v := range values {
		d := math.Abs(v - median)
		scratch[i] = d
		sum += d
	}
	mean := sum / float64(len(values))
	if spread = float64(1.4826 * middle(scratch)); spread <= float64(1e-9*math.Abs(median)) {
		spread = math.Max(float64(0.25*mean), float64(1e-9*math.Abs(median)))
	}
	for i, v := range values {
		out[i] = 0
		if spread > 0 {
			out[i] = (v - median) / spread
		}
	}
	return median, spread, scratch
}

// middle sorts v and returns its median.
func middle(v []float64) float64 {
	slices.Sort(v)
	n := len(v)
	if n%2 == 1 {
		return v[n/2]
	}
	return float64(0.5*v[n/2-1]) + float64(0.5*v[n/2])
}

// GroupSurprise returns the sum of the surprises of the members of a group,
// each at most GroupCap, in the order given. The scores of independent members
// add up like the logarithms of their probabilities (Fisher 1932); members of
// one group never are independent, so the sum is no probability itself. It is
// calibrated on its own past, which corrects for any lasting correlation.
func GroupSurprise(scores []float64) float64 {
	sum := 0.0
	for _, s := range scores {
		sum += math.Min(s, GroupCap)
	}
	return sum
}
