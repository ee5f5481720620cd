package source

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aiops/internal/model"
)

// clock is a time that a test moves by hand.
type clock struct{ at time.Time }

func (c *clock) now() time.Time          { return c.at }
func (c *clock) advance(d time.Duration) { c.at = c.at.Add(d) }

func newClock() *clock { return &clock{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

// play runs a script of observations, one a line, and returns the states that
// listeners heard of. Each line is a word and a duration by which the clock
// moves before it: ok, fail, slow (a check that takes 3 s), fresh (a check that
// sees a sample of now), old (a check that sees no newer sample), partial, tick.
func play(t *testing.T, cfg TrackerConfig, script string) (heard []model.HealthState, tracker *Tracker, c *clock) {
	t.Helper()
	c = newClock()
	tracker = NewTracker(cfg, c.now)
	tracker.OnChange(func(old, now model.SourceHealth) {
		if len(heard) > 0 && heard[len(heard)-1] != old.State {
			t.Errorf("heard of a change from %s, but the state was %s", old.State, heard[len(heard)-1])
		}
		heard = append(heard, now.State)
	})
	var newest time.Time
	for line := range strings.Lines(script) {
		var word, wait string
		if n, _ := fmt.Sscan(line, &word, &wait); n < 2 {
			continue
		}
		d, err := time.ParseDuration(wait)
		if err != nil {
			t.Fatal(err)
		}
		c.advance(d)
		switch word {
		case "ok":
			tracker.Succeeded()
		case "fail":
			tracker.Failed("no answer")
		case "slow":
			tracker.Checked(3*time.Second, time.Time{})
		case "quick":
			tracker.Checked(time.Millisecond, time.Time{})
		case "fresh":
			newest = c.now()
			tracker.Checked(time.Millisecond, newest)
		case "old":
			tracker.Checked(time.Millisecond, newest)
		case "partial":
			tracker.Partial("one store did not answer")
		case "tick":
			tracker.Tick()
		default:
			t.Fatalf("no such word: %s", word)
		}
		tracker.Deliver()
	}
	return heard, tracker, c
}

func TestTracker(t *testing.T) {
	t.Parallel()
	const up, down, stale, degraded = model.SourceUp, model.SourceDown, model.SourceStale, model.SourceDegraded
	for _, tc := range []struct {
		name   string
		cfg    TrackerConfig
		script string
		wants  []model.HealthState
	}{
		{"nothing observed stays unknown", TrackerConfig{}, "tick 1h\n", nil},
		{"first success", TrackerConfig{}, "ok 1s\n", []model.HealthState{up}},
		{"first failure", TrackerConfig{}, "fail 1s\n", []model.HealthState{down}},
		{"one failure is not down", TrackerConfig{}, "ok 1s\nfail 5s\nok 5s\n", []model.HealthState{up}},
		{"two in a row are", TrackerConfig{}, "ok 1s\nfail 5s\nfail 5s\nfail 5s\n", []model.HealthState{up, down}},
		{"a burst counts as one", TrackerConfig{}, "ok 1s\nfail 5s\nfail 1ms\nfail 1ms\nfail 1ms\n", []model.HealthState{up}},
		{"one success does not end down", TrackerConfig{}, "fail 1s\nok 5s\nfail 5s\nok 5s\n", []model.HealthState{down}},
		{"two in a row do", TrackerConfig{}, "fail 1s\nok 5s\nok 2s\n", []model.HealthState{down, up}},
		{"slow", TrackerConfig{}, "ok 1s\nslow 5s\nslow 5s\nslow 5s\nquick 5s\nquick 5s\nquick 5s\n", []model.HealthState{up, degraded, up}},
		{"now and then slow is not", TrackerConfig{}, "ok 1s\nslow 5s\nslow 5s\nquick 5s\nslow 5s\nslow 5s\n", []model.HealthState{up}},
		{"partial passes", TrackerConfig{}, "ok 1s\npartial 1s\ntick 59s\ntick 1s\n", []model.HealthState{up, degraded, up}},
		{"every third fails", TrackerConfig{}, strings.Repeat("ok 5s\nok 5s\nfail 5s\n", 4), []model.HealthState{up, degraded}},
		{"flapping is forgotten", TrackerConfig{}, strings.Repeat("ok 5s\nok 5s\nfail 5s\n", 4) + "ok 10m\n", []model.HealthState{up, degraded, up}},
		{"falling three times", TrackerConfig{}, strings.Repeat("ok 30s\nok 30s\nfail 30s\nfail 5s\n", 3) + "ok 5s\nok 5s\nok 10m\n",
			[]model.HealthState{up, down, up, down, up, down, degraded, up}},
		{"stale", TrackerConfig{Interval: 10 * time.Second}, "fresh 1s\nold 10s\nold 10s\nold 1s\nold 1s\nfresh 1s\n", []model.HealthState{up, stale, up}},
		{"stale without a check", TrackerConfig{Interval: 10 * time.Second}, "fresh 1s\ntick 20s\ntick 1s\n", []model.HealthState{up, stale}},
		{"late data may be late", TrackerConfig{Interval: 10 * time.Second, LateData: time.Minute}, "fresh 1s\nold 80s\nold 1s\n", []model.HealthState{up, stale}},
		{"down hides stale", TrackerConfig{Interval: 10 * time.Second}, "fresh 1s\nfail 5s\nfail 5s\ntick 1h\n", []model.HealthState{up, down}},
		{"back with old data is stale", TrackerConfig{Interval: 10 * time.Second}, "fresh 1s\nfail 5s\nfail 5s\nold 1m\nold 1s\n", []model.HealthState{up, down, stale}},
		{"longer intervals are learned", TrackerConfig{Interval: 10 * time.Second, Learn: true},
			"fresh 1s\nfresh 15s\nfresh 15s\nfresh 15s\nold 29s\nold 2s\n", []model.HealthState{up, stale}},
		{"nor is one while down", TrackerConfig{Interval: 10 * time.Second, Learn: true},
			"fresh 1s\nfresh 5s\nfresh 5s\nfresh 5s\nfail 5s\nfail 1s\nfresh 1h\nfresh 1s\nold 9s\nold 2s\n", []model.HealthState{up, down, up, stale}},
		{"an outage is not an interval", TrackerConfig{Interval: 10 * time.Second, Learn: true},
			"fresh 1s\nfresh 5s\nfresh 5s\nfresh 5s\nold 1h\nfresh 1s\nold 9s\nold 2s\n", []model.HealthState{up, stale, up, stale}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if heard, _, _ := play(t, tc.cfg, tc.script); !slices.Equal(heard, tc.wants) {
				t.Errorf("heard %v, want %v", heard, tc.wants)
			}
		})
	}
}

func TestTrackerHealth(t *testing.T) {
	t.Parallel()
	_, tracker, c := play(t, TrackerConfig{Interval: 10 * time.Second}, "fresh 1s\n")
	since := c.now()
	if h := tracker.Health(); h.State != model.SourceUp || h.Since != since || h.CheckedAt != since || h.Latency != time.Millisecond || h.LastError != "" {
		t.Errorf("health = %+v, want up since %s", h, since)
	}
	c.advance(21 * time.Second)
	if h := tracker.Health(); h.State != model.SourceStale || !strings.Contains(h.LastError, "21s old") {
		t.Errorf("health = %+v, want stale although nothing was observed since", h)
	}
	tracker.Failed("refused")
	tracker.Failed("refused")
	c.advance(time.Second)
	tracker.Failed("refused")
	if h := tracker.Health(); h.State != model.SourceDown || h.LastError != "refused" || h.Since != c.now() {
		t.Errorf("health = %+v, want down with the last reason", h)
	}
}

// Run delivers what happens, and time passing alone makes a source stale. A
// listener that blocks holds up nobody who observes.
func TestTrackerRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tracker := NewTracker(TrackerConfig{Interval: 10 * time.Second}, nil)
		heard := make(chan model.HealthState)
		tracker.OnChange(func(_, now model.SourceHealth) { heard <- now.State })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); tracker.Run(ctx) }()
		tracker.Checked(time.Millisecond, time.Now())
		tracker.Failed("x")
		<-time.After(time.Second)
		tracker.Failed("x")
		for _, want := range []model.HealthState{model.SourceUp, model.SourceDown} {
			if got := <-heard; got != want {
				t.Errorf("heard %s, want %s", got, want)
			}
		}
		tracker.Checked(time.Millisecond, time.Now())
		tracker.Checked(time.Millisecond, time.Now())
		begin := time.Now()
		for _, want := range []model.HealthState{model.SourceUp, model.SourceStale} {
			if got := <-heard; got != want {
				t.Errorf("heard %s, want %s", got, want)
			}
		}
		if waited := time.Since(begin); waited < 20*time.Second || waited > 22*time.Second {
			t.Errorf("stale after %s, want 20 s", waited)
		}
		cancel()
		<-ended
	})
}

func TestTrackerMemoryIsBounded(t *testing.T) {
	t.Parallel()
	c := newClock()
	tracker := NewTracker(TrackerConfig{Interval: time.Second, Learn: true}, c.now)
	for i := range 10_000 {
		c.advance(time.Second)
		if i/5%2 == 0 {
			tracker.Failed("x")
		} else {
			tracker.Checked(time.Millisecond, c.now())
		}
	}
	if len(tracker.outcomes) > recentOutcomes || len(tracker.falls) > fallsToFlap || len(tracker.gaps) > gapsKept || len(tracker.pending) > changesKept {
		t.Errorf("the tracker keeps %d outcomes, %d falls, %d gaps", len(tracker.outcomes), len(tracker.falls), len(tracker.gaps))
	}
}
