package pipeline

import (
	"math"
	"testing"
	"time"

	"aiops/internal/detect"
	"aiops/internal/model"
)

// The threshold of a detector follows what its series show together: here
// pulses that come more often than the tail of any one of them says. A
// restart in between and the replay of one series see the same thresholds.
func TestThresholdFollowsWhatSeriesShow(t *testing.T) {
	t.Parallel()
	src := &fakeSource{series: labelled(40), value: func(i int, ms int64) (float64, bool) {
		v := noise(i, ms)
		if k := ms/testStep + 37*int64(i); k%900 == 0 {
			v += 700
		}
		return v, true
	}}
	d := testDetector(func(d *model.Detector) { d.FalseAlarmsPerWeek = 10 })
	def := newDefinition(d, Config{}.withDefaults())
	c := newCore(def, 1, 0)
	feed(c, src, 1300*testStep, 0)
	again, lost, err := restoreCore(def, c.snapshot(time.UnixMilli(1)))
	if err != nil || lost != 0 {
		t.Fatalf("%d lost, %v", lost, err)
	}
	feed(c, src, 2200*testStep, 0)
	feed(again, src, 2200*testStep, 0)
	asked, basis := c.asked()
	if basis == detect.BasisAssumed.String() || math.Abs(c.threshold-asked) < leastChange {
		t.Errorf("threshold %.2f for %.2f, %s: nothing was learned of the series", c.threshold, asked, basis)
	}
	if again.threshold != c.threshold || again.exceed != c.exceed || len(again.past.quotas) != len(c.past.quotas) {
		t.Errorf("after a restart the threshold is %.2f instead of %.2f", again.threshold, c.threshold)
	}
	if n := len(c.past.quotas); n > 2200/turnSteps+1 {
		t.Errorf("%d changes of the threshold", n)
	}
	// Scores that are taken at their word, the control.
	d.Model, d.Parameters = "threshold", []byte(`{"above": 1e9}`)
	c = newCore(newDefinition(d, Config{}.withDefaults()), 1, 0)
	feed(c, src, 2200*testStep, 0)
	if asked, basis = c.asked(); c.threshold != asked || basis != detect.BasisAssumed.String() {
		t.Errorf("fixed bounds: threshold %.2f for %.2f, %s", c.threshold, asked, basis)
	}
}
