package detect

import (
	"math"
	"testing"
	"time"
)

// What ranks a sample is damped where it is not far from the time of day, and
// in auto, not in deep, while the series is young.
func TestStrengthIsDampedNearAndEarly(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		model    string
		samples  uint32
		distance float64
		share    float64
	}{
		{"auto", 1000, 6, 1},
		{"auto", 5000, 60, 1},
		{"auto", 5000, 3, 0.5},
		{"auto", 250, 6, 0.5},
		{"auto", 250, 3, 0.25},
		{"deep", 225, 6, 1},
		{"deep", 225, 3, 0.5},
		{"deep", 225, 0, 1}, // patterns decide, there is no distance
	} {
		made, err := New(Spec{Model: tc.model, Step: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		m := made.(*auto)
		m.parts.n, m.lastSum = tc.samples, 8
		if got, want := m.strength(tc.distance), 8*tc.share; math.Abs(got-want) > 1e-12 {
			t.Errorf("%s after %d samples, %g usual distances away: strength %g, want %g", tc.model, tc.samples, tc.distance, got, want)
		}
	}
}

// A stretch whose values are spread in another way counts for the strength of
// deep, through its view, and for nothing in its score.
func TestViewsRankAndDoNotScore(t *testing.T) {
	t.Parallel()
	made, err := New(Spec{Model: "deep", Step: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	m := made.(*auto)
	value := func(i int) float64 {
		if i >= 3000 {
			return float64(i%2*10) - 5 // two modes, each value usual by itself
		}
		return float64(i*7919%101)/10 - 5
	}
	var before, after float64
	for i := range 3100 {
		at := int64(i) * 60_000
		m.Score(at, value(i))
		if views := m.deep.view(at, value(i), m.top); i >= 2900 && i < 3000 {
			before = max(before, views)
		} else if i >= 3000 {
			after = max(after, views)
		}
		if plain, rare, _ := m.sum(&m.last, 0, &m.lastPart); m.lastRare != rare || m.lastSum < plain {
			t.Fatalf("sample %d: the views change what is calibrated, or take from the strength", i)
		}
		m.Learn(at, value(i))
	}
	if after <= 1.2*before {
		t.Errorf("the views say %.2f of a stretch of two modes and %.2f before, want more", after, before)
	}
}
