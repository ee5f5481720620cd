package detect

import (
	"math"
	"testing"
	"time"
)

// A fault soon after the start must be seen and go on being seen: neither may
// the tail assumed beforehand swallow it, nor may its first samples teach the
// calibrator that such values are usual.
func TestAFaultSoonAfterTheStartStaysAnAnomaly(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"robust_zscore", "ewma", "iqr"} {
		m, err := New(Spec{Model: name, Step: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		threshold := Threshold(1, time.Second, 1)
		m.SetThreshold(threshold)
		at := int64(1_000_000)
		calm := func() float64 {
			x := float64(at) / 1000
			return 100 + 2*math.Sin(x) + 1.3*math.Sin(7.1*x)
		}
		for range 90 {
			if r := Step(m, at, calm()); r.Score > threshold {
				t.Errorf("%s: a calm sample scores %.1f", name, r.Score)
			}
			at += 1000
		}
		seen := 0
		for range 10 {
			if r := Step(m, at, calm()+200); r.Score > threshold {
				seen++
			}
			at += 1000
		}
		if seen < 5 {
			t.Errorf("%s: %d of 10 samples of a fault a hundred times the noise are anomalous, want 5 at least", name, seen)
		}
	}
}
