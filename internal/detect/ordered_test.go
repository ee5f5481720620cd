package detect

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The window against sorting it anew each time.
func TestOrderedWindowIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.IntRange(minWindow, 70).Draw(rt, "limit")
		values := rapid.SliceOfN(rapid.OneOf(
			rapid.Float64Range(-5, 5), rapid.SampledFrom([]float64{0, 1, 2, 2, -1e150, 1e150, 1e-300})), 1, 300).Draw(rt, "values")
		o := newOrdered(limit)
		for i, v := range values {
			var foreseen []float64
			with := o.with(v)
			for k := range min(i+1, limit) {
				foreseen = append(foreseen, with.at(k))
			}
			o.push(v)
			last := values[max(0, i+1-limit) : i+1]
			sorted := slices.Clone(last)
			slices.Sort(sorted)
			for k := range sorted {
				if o.at(k) != sorted[k] {
					rt.Fatalf("after %d values the %d-th smallest is %v, want %v", i+1, k, o.at(k), sorted[k])
				}
			}
			if !slices.Equal(foreseen, sorted) {
				rt.Fatalf("before value %d the window with it was foreseen as %v, it is %v", i+1, foreseen, sorted)
			}
			center := middleOf(sorted)
			if got := o.median(); got != center {
				rt.Fatalf("after %d values the median is %v, want %v", i+1, got, center)
			}
			distances := make([]float64, len(last))
			for k, x := range last {
				distances[k] = math.Abs(x - center)
			}
			slices.Sort(distances)
			if got, want := o.mad(center), middleOf(distances); got != want {
				rt.Fatalf("after %d values the median absolute deviation is %v, want %v", i+1, got, want)
			}
			if lo, hi := o.quantile(0), o.quantile(1); lo != sorted[0] || hi != sorted[len(sorted)-1] {
				rt.Fatalf("the extreme quantiles are %v and %v", lo, hi)
			}
		}
		if size := o.sizeBytes(); size > 10*max(limit, minWindow) {
			rt.Fatalf("%d bytes for a window of %d", size, limit)
		}
	})
}

func middleOf(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Moments of the queue of two stacks against those of the window computed
// anew, over a long time and past values that would ruin running sums.
func TestSlidingMomentsDoNotDrift(t *testing.T) {
	t.Parallel()
	const window = 48
	m := &sliding{limit: window, least: windowLeast(window)}
	r := splitmix{state: 1}
	var values []float64
	for i := range 1_000_000 {
		v := 1e6 + r.float()
		if i%100_000 == 50_000 {
			v = 1e140
		}
		m.learn(0, v, prediction{})
		values = append(values, v)
		if len(values) > window {
			values = values[1:]
		}
		if i%9973 != 0 || len(values) < window {
			continue
		}
		var sum, square float64
		for _, x := range values {
			sum += x - 1e6
		}
		mean := 1e6 + sum/window
		for _, x := range values {
			square += (x - mean) * (x - mean)
		}
		p := m.predict(0)
		want := math.Sqrt(square / (window - 1))
		if math.Abs(p.center-mean) > 1e-9 || math.Abs(p.scale[0]-want) > 1e-6*want {
			t.Fatalf("after %d values: mean %v and deviation %v, want %v and %v", i+1, p.center, p.scale[0], mean, want)
		}
	}
}
