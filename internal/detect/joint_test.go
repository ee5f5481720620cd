package detect

import (
	"fmt"
	"math"
	"testing"
)

func TestPeerDistances(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		values []float64
		median float64
		spread float64
	}{
		{[]float64{1, 2, 3, 4, 100}, 3, 1.4826},
		{[]float64{5, 5, 5, 5}, 5, 5e-9},
		{[]float64{0, 0, 0}, 0, 0},
		{[]float64{7, 7, 7, 7, 17}, 7, 0.5},
		{[]float64{1, 3, 5, 7}, 4, 1.4826 * 2},
	} {
		out := make([]float64, len(tc.values))
		median, spread, _ := PeerDistances(tc.values, out, nil)
		if median != tc.median || math.Abs(spread-tc.spread) > 1e-12 {
			t.Errorf("%v: median %v, spread %v", tc.values, median, spread)
		}
		for i, v := range tc.values {
			if want := (v - median) / spread; spread > 0 && out[i] != want || spread == 0 && out[i] != 0 {
				t.Errorf("%v: distance %d is %v", tc.values, i, out[i])
			}
		}
	}
	if got := GroupSurprise([]float64{1, 2, 300}); got != 3+GroupCap {
		t.Error(got)
	}
}

func ExamplePeerDistances() {
	out := make([]float64, 5)
	median, spread, _ := PeerDistances([]float64{10, 11, 9, 10, 40}, out, nil)
	fmt.Printf("%.0f %.2f %.1f\n", median, spread, out[4])
	// Output: 10 1.48 20.2
}
