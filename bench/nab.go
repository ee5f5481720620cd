package bench

import (
	"math"
	"sort"
)

// NABProfile weighs the outcomes of the NAB score (Lavin and Ahmad 2015,
// "Evaluating Real-Time Anomaly Detection Algorithms").
type NABProfile struct {
	Name string
	TP   float64 // most that a detected window adds
	FP   float64 // most that an alarm outside every window costs
	FN   float64 // what a missed window costs
}

// NABProfiles returns the three published profiles in their usual order.
func NABProfiles() []NABProfile {
	return []NABProfile{
		{Name: "standard", TP: 1, FP: 0.11, FN: 1},
		{Name: "reward_low_fp", TP: 1, FP: 0.22, FN: 1},
		{Name: "reward_low_fn", TP: 1, FP: 0.11, FN: 2},
	}
}

// Span is a labelled window, as row indexes, both included.
type Span struct{ First, Last int }

// NABSeries is one scored file: a score per row, and its windows in order of
// time, not overlapping.
type NABSeries struct {
	Scores  []float64
	Windows []Span
}

// nabPoint is a row that counts: its score, what an alarm on it is worth
// before weighing, and the window it lies in, or -1.
type nabPoint struct {
	score  float64
	worth  float64
	window int
}

// nabProbation is the number of rows at the start of a file that are not
// scored: 15 %, but at most 15 % of 5,000.
func nabProbation(rows int) int {
	return int(math.Min(math.Floor(0.15*float64(rows)), 0.15*5000))
}

// nabSigmoid is the scaled sigmoid of NAB: about 1 at the left edge of a
// window (-1), 0 at its right edge, towards -1 behind it.
func nabSigmoid(position float64) float64 {
	if position > 3 {
		return -1
	}
	return 2/(1+math.Exp(5*position)) - 1
}

// nabPoints returns the rows of s that count. Windows are numbered from
// base. A window that lies wholly in the probation counts as one that cannot
// be detected, as in NAB.
func nabPoints(s NABSeries, base int) []nabPoint {
	probation := nabProbation(len(s.Scores))
	best := nabSigmoid(-1)
	points := make([]nabPoint, 0, len(s.Scores)-probation)
	next := 0
	previous := -1 // index of the window that ended last
	for i, score := range s.Scores {
		for next < len(s.Windows) && i > s.Windows[next].Last {
			previous = next
			next++
		}
		p := nabPoint{score: score, worth: -1, window: -1}
		switch {
		case next < len(s.Windows) && i >= s.Windows[next].First:
			w := s.Windows[next]
			width := float64(w.Last - w.First + 1)
			p.worth = nabSigmoid(-float64(w.Last-i+1)/width) / best
			p.window = base + next
		case previous >= 0:
			w := s.Windows[previous]
			p.worth = -1
			if w.Last > w.First {
				p.worth = nabSigmoid(float64(i-w.Last) / float64(w.Last-w.First))
			}
		}
		if i >= probation && !math.IsNaN(score) {
			points = append(points, p)
		}
	}
	return points
}

// NABScore returns the normalised score of the corpus when an alarm is a row
// whose score is at least threshold: 0 is the detector that says nothing, 100
// the perfect one.
func NABScore(corpus []NABSeries, profile NABProfile, threshold float64) float64 {
	var raw float64
	windows := 0
	for _, s := range corpus {
		best := make([]float64, len(s.Windows))
		for i := range best {
			best[i] = math.Inf(-1)
		}
		for _, p := range nabPoints(s, 0) {
			if p.score < threshold {
				continue
			}
			if p.window < 0 {
				raw += profile.FP * p.worth
			} else {
				best[p.window] = math.Max(best[p.window], profile.TP*p.worth)
			}
		}
		for _, b := range best {
			if math.IsInf(b, -1) {
				b = -profile.FN
			}
			raw += b
		}
		windows += len(s.Windows)
	}
	return nabNormalise(raw, windows, profile)
}

func nabNormalise(raw float64, windows int, profile NABProfile) float64 {
	if windows == 0 {
		return 0
	}
	null := -profile.FN * float64(windows)
	perfect := profile.TP * float64(windows)
	return 100 * (raw - null) / (perfect - null)
}

// NABOptimise returns the threshold that gives the corpus its best score
// under the profile, and that score. A detector without any useful score gets
// +Inf (never alarm) and 0. It costs a sort of all rows.
func NABOptimise(corpus []NABSeries, profile NABProfile) (threshold, score float64) {
	var points []nabPoint
	windows := 0
	for _, s := range corpus {
		points = append(points, nabPoints(s, windows)...)
		windows += len(s.Windows)
	}
	sort.SliceStable(points, func(i, j int) bool { return points[i].score > points[j].score })
	parts := make([]float64, windows)
	for i := range parts {
		parts[i] = -profile.FN
	}
	found := make([]bool, windows)
	raw := -profile.FN * float64(windows)
	best := raw
	threshold = math.Inf(1)
	for i := 0; i < len(points); {
		at := points[i].score
		for ; i < len(points) && points[i].score == at; i++ {
			p := points[i]
			if p.window < 0 {
				raw += profile.FP * p.worth
				continue
			}
			if worth := profile.TP * p.worth; !found[p.window] || worth > parts[p.window] {
				raw += worth - parts[p.window]
				parts[p.window] = worth
				found[p.window] = true
			}
		}
		if raw > best {
			best, threshold = raw, at
		}
	}
	return threshold, nabNormalise(best, windows, profile)
}
