package detect_test

import (
	"math"
	"testing"
	"time"

	"aiops/internal/detect"
)

// TestOnsetsRankWhatLasts feeds strengths that get used to a deviation and
// distances that do not: an onset, then a stretch that ranks above quiet times.
func TestOnsetsRankWhatLasts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		distance float64 // while it lasts
		onset    bool    // its first sample is one
		above    bool    // its end ranks above what is as strong before it
	}{
		"with distance":    {8, true, true},
		"without":          {0, true, false},
		"a usual distance": {1, false, false},
	} {
		o := detect.NewOnsets(5, time.Minute)
		at := int64(0)
		rank := func(strength, distance float64) float64 {
			if c.distance == 0 {
				distance = 0
			}
			at += minute
			return o.Next(at, strength, distance)
		}
		var quiet, last float64
		for range 500 {
			quiet = rank(1, 1)
		}
		if first := rank(9, c.distance); (first >= 5) != c.onset {
			t.Errorf("%s: the first sample ranks %v", name, first)
		}
		for range 300 {
			last = rank(1, c.distance)
		}
		if got := last > 1.5*quiet; got != c.above || last >= 5 {
			t.Errorf("%s: after 300 samples it ranks %v, quiet times %v", name, last, quiet)
		}
	}
}

func TestOnsetsHoldBackRepeatedAlarms(t *testing.T) {
	t.Parallel()
	o := detect.NewOnsets(5, time.Minute)
	var ranks []float64
	for i := range 500 {
		strength := 1.0
		if i%50 == 10 { // the first five are too early
			strength = 9
		}
		if r := o.Next(int64(i)*24*60*minute, strength, strength); r >= 5 {
			ranks = append(ranks, r)
		}
	}
	if len(ranks) != 3 || !(ranks[0] > ranks[1] && ranks[1] > ranks[2]) {
		t.Errorf("onsets %v: want three, each less than the one before", ranks)
	}
}

// TestOnsetsNeedMostVoters puts single strengths near the level to the voters: six
// of seven make an onset, five do not, and votes of late samples count on.
func TestOnsetsNeedMostVoters(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		strengths []float64 // in levels, one after the other
		onsets    int
	}{
		"four voters":             {[]float64{1}, 0},
		"five voters":             {[]float64{1.02}, 0},
		"six voters":              {[]float64{1.03}, 1},
		"all":                     {[]float64{1.1}, 1},
		"five, then the others":   {[]float64{1.02, 1.05}, 1},
		"all, and again the same": {[]float64{1.1, 1.1}, 1},
		"all, and again by 1.3":   {[]float64{1.1, 1.43}, 2},
	} {
		o := detect.NewOnsets(5, time.Minute)
		for range 300 {
			o.Next(0, 1, 1)
		}
		onsets, last := 0, 0.0
		for i, s := range c.strengths {
			if r := o.Next(int64(i+1)*minute, 5*s, 9); r >= 5 {
				if onsets++; r <= last {
					t.Errorf("%s: an onset of rank %v follows one of %v", name, r, last)
				}
				last = r
			}
		}
		if onsets != c.onsets {
			t.Errorf("%s: %d onsets, want %d", name, onsets, c.onsets)
		}
	}
}

func TestOnsetsTakeAnyInput(t *testing.T) {
	t.Parallel()
	o := detect.NewOnsets(5, 0)
	inputs := []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, 0, 1e300, 1e-300, 5}
	times := []int64{0, math.MaxInt64, math.MinInt64, -1, 1}
	for range 3 {
		for i, s := range inputs {
			for _, d := range inputs {
				if r := o.Next(times[i%len(times)], s, d); !(r >= 0 && r <= math.MaxFloat64) {
					t.Fatalf("strength %v and distance %v rank %v", s, d, r)
				}
			}
		}
	}
}

// TestOnsetsRankByAge lets the same sample begin an episode at several ages of a
// series: it is an onset at each, and ranks the higher the older the series is, in
// days that were seen, whatever the step and the epoch.
func TestOnsetsRankByAge(t *testing.T) {
	t.Parallel()
	const samples = 300
	rank := func(from, step, gap int64) float64 {
		o := detect.NewOnsets(5, time.Duration(step)*time.Millisecond)
		at := from
		for i := range samples {
			at = from + int64(i)*step
			o.Next(at, 1, 1)
		}
		return o.Next(at+gap, 9, 9)
	}
	const day = 24 * 60 * minute
	young, week, old := rank(0, minute, minute), rank(0, 30*minute, 30*minute), rank(0, 120*minute, 120*minute)
	if !(young >= 5 && week > 1.5*young && old > 1.2*week) {
		t.Errorf("ranks %v, %v and %v: want onsets that rank by the age of the series", young, week, old)
	}
	if later := rank(1e12, 30*minute, 30*minute); later != week {
		t.Errorf("rank %v with another epoch, want %v", later, week)
	}
	if once, year := rank(0, minute, day), rank(0, minute, 365*day); once != year || once <= young {
		t.Errorf("rank %v after a gap of a day and %v after one of a year: want the same, above %v", once, year, young)
	}
}
