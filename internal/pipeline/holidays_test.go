package pipeline

import (
	"slices"
	"testing"
	"time"

	"aiops/internal/model"
)

// Changed holidays keep what was learned, count from the step at which they are entered, and
// are part of the snapshot and of the script that a replay follows.
func TestHolidaysChange(t *testing.T) {
	t.Parallel()
	before := testDetector(func(d *model.Detector) { d.Model, d.Parameters, d.Holidays = "auto", nil, []string{"12-25"} })
	after := before
	after.Holidays = []string{"1970-01-01=sunday", "12-26"}
	if fingerprintOf(before) != fingerprintOf(after) {
		t.Fatal("changed holidays begin a new model version")
	}
	src := rhythms(2, 1, 1<<40)
	c := newCore(newDefinition(before, Config{}.withDefaults()), 1, 0)
	want := record(c)
	feed(c, src, 300*testStep, 0)
	c.redefine(after, c.watermark)
	if got := c.def.detector.Holidays; !slices.Equal(got, before.Holidays) {
		t.Fatalf("before the next step %v are in force", got)
	}
	feed(c, src, 600*testStep, 0)
	if got := c.def.detector.Holidays; !slices.Equal(got, after.Holidays) || c.def.holidays == nil {
		t.Fatalf("afterwards %v are in force", got)
	}
	restored, lost, err := restoreCore(newDefinition(before, Config{}.withDefaults()), c.snapshot(time.UnixMilli(0)))
	if err != nil || lost > 0 || !slices.Equal(restored.def.detector.Holidays, after.Holidays) {
		t.Fatalf("restored: %v, %d lost, %v", restored, lost, err)
	}
	replay := newCore(newDefinition(before, Config{}.withDefaults()), 1, 0)
	past := c.past.after(0)
	replay.follow = &past
	got := record(replay)
	feed(replay, src, 600*testStep, 0)
	for _, labels := range src.series {
		if d := diffPoints(want.points[labels.Key()], got.points[labels.Key()]); d != "" {
			t.Errorf("replay of %s: %s", labels.Key(), d)
		}
	}
	if n := len(c.past.tunings); n != 2 {
		t.Errorf("%d tunings", n)
	}
}
