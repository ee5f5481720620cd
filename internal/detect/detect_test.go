package detect_test

import (
	"testing"
	"time"

	"aiops/internal/detect"
)

func TestSpikeIsFound(t *testing.T) {
	t.Parallel()
	m, err := detect.New(detect.Spec{Model: "robust_zscore", Step: 15 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		detect.Step(m, int64(i)*15000, float64(i*7919%101))
	}
	if r := m.Score(1000*15000, 1000); r.Score < 5 || r.Reason != detect.ReasonAbove || r.Learning {
		t.Errorf("a spike: %+v", r)
	}
	if r := m.Score(1000*15000, 50); r.Score > 1 || r.Reason != detect.ReasonNormal {
		t.Errorf("a usual value: %+v", r)
	}
}
