package source

import (
	"context"
	"fmt"
	"sync"
	"time"

	"aiops/internal/model"
)

// TrackerConfig sets the rules of a Tracker. The zero value of each field but
// Interval stands for its default.
type TrackerConfig struct {
	Interval time.Duration // between the source's own samples; 0 leaves staleness out
	Learn    bool          // learn the interval from what is seen; Interval counts until then
	LateData time.Duration // how much older than that the newest sample may be

	FailuresToDown int           // consecutive failures that mean down; 2
	SuccessesToUp  int           // consecutive successes that end down; 2
	SlowAfter      time.Duration // a check that takes longer is slow; 2 s
	Burst          time.Duration // failures this close together count as one; 500 ms
	PartialHold    time.Duration // how long a partial answer means degraded; 1 min
	FlapWindow     time.Duration // how far back falls and failures count; 10 min
}

// The rules that are not configurable.
const (
	slowChecks     = 3   // consecutive slow, or quick, checks that change the mind
	fallsToFlap    = 3   // falls within the window that mean flapping
	recentOutcomes = 20  // outcomes that the share of failures is taken over
	failedShare    = 0.2 // share of failures that means flapping
	leastFailed    = 3   // and their least number
	gapsToLearn    = 3   // observed gaps before the learned interval counts
	gapsKept       = 8
	changesKept    = 64
	tickEvery      = time.Second
	longestGap     = 5 * time.Minute
)

// Tracker turns what happens at a source into its health. The rules, the first
// that applies wins:
//
//	unknown   nothing was observed yet
//	down      the very first observation failed, or FailuresToDown did in a row;
//	          until SuccessesToUp succeeded in a row
//	stale     it answers, but its newest sample is older than 2 intervals plus
//	          LateData; until a newer sample is recent again
//	degraded  3 checks in a row were slow (until 3 were not); or an answer within
//	          PartialHold was partial; or it flaps: of the last 20 outcomes within
//	          FlapWindow at least 3 and a fifth failed, or it fell (to down or
//	          stale) 3 times within FlapWindow
//	up        otherwise
//
// Failures within Burst of each other count as one, so that many queries that
// fail together are one observation. With Learn the interval is the longest of
// the last 8 distances between different newest samples that were seen while
// the source was fresh, at most 5 minutes and at least a quarter of Interval.
//
// A Tracker is safe for concurrent use, and observing never blocks on a
// listener: those run within Run or Deliver. Health applies the passing of time
// by itself.
type Tracker struct {
	cfg TrackerConfig
	now func() time.Time

	mu            sync.Mutex
	health        model.SourceHealth
	observed      bool
	fails         int // in a row
	oks           int // in a row, while down
	down          bool
	stale         bool
	lastFailure   time.Time
	lastError     string // of the last failure
	slow          int    // >0: slow checks in a row; <0: quick ones
	isSlow        bool
	partialAt     time.Time
	partialReason string
	outcomes      []outcome
	falls         []time.Time
	newest        time.Time
	staleNewest   time.Time // newest when staleness was declared
	gaps          []time.Duration
	listeners     []func(old, now model.SourceHealth)
	pending       []change // not delivered yet

	changed   chan struct{} // holds one token while pending is not empty
	delivered sync.Mutex    // keeps the calls of listeners in order
}

// change is a transition that listeners have to hear of.
type change struct{ old, now model.SourceHealth }

type outcome struct {
	at time.Time
	ok bool
}

// NewTracker makes a Tracker. Now is the clock; nil is time.Now.
func NewTracker(cfg TrackerConfig, now func() time.Time) *Tracker {
	if now == nil {
		now = time.Now
	}
	def := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&cfg.SlowAfter, 2*time.Second)
	def(&cfg.Burst, 500*time.Millisecond)
	def(&cfg.PartialHold, time.Minute)
	def(&cfg.FlapWindow, 10*time.Minute)
	if cfg.FailuresToDown <= 0 {
		cfg.FailuresToDown = 2
	}
	if cfg.SuccessesToUp <= 0 {
		cfg.SuccessesToUp = 2
	}
	return &Tracker{cfg: cfg, now: now, changed: make(chan struct{}, 1), health: model.SourceHealth{State: model.SourceUnknown, Since: now()}}
}

// OnChange registers a function that Run or Deliver calls after each change of
// the state, in order. While it blocks, further changes wait; of more than 64
// that wait the oldest are dropped.
func (t *Tracker) OnChange(f func(old, now model.SourceHealth)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.listeners = append(t.listeners, f)
}

// Health returns the health now.
func (t *Tracker) Health() model.SourceHealth {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	h := t.health
	state, reason := t.judge(now)
	if state != h.State {
		h.State, h.Since = state, now
	}
	h.LastError = reason
	return h
}

// Tick applies the passing of time, so that listeners hear of it.
func (t *Tracker) Tick() { t.observe(func(time.Time) {}) }

// Run delivers changes and applies the passing of time every second, until ctx
// ends. What is pending then is delivered before it returns.
func (t *Tracker) Run(ctx context.Context) {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			t.Deliver()
			return
		case <-ticker.C:
			t.Tick()
		case <-t.changed:
			t.Deliver()
		}
	}
}

// Deliver calls the listeners for all changes that they have not heard of.
func (t *Tracker) Deliver() {
	t.delivered.Lock()
	defer t.delivered.Unlock()
	for {
		t.mu.Lock()
		if len(t.pending) == 0 {
			t.mu.Unlock()
			return
		}
		c, listeners := t.pending[0], t.listeners
		t.pending = t.pending[1:]
		t.mu.Unlock()
		for _, f := range listeners {
			f(c.old, c.now)
		}
	}
}

// Succeeded notes a query that was answered. It says nothing about speed,
// because a query may be heavy by itself.
func (t *Tracker) Succeeded() {
	t.observe(func(now time.Time) { t.succeeded(now) })
}

// Checked notes a health check that was answered after latency, and the newest
// sample that it saw; the zero time means that it could not tell.
func (t *Tracker) Checked(latency time.Duration, newest time.Time) {
	t.observe(func(now time.Time) {
		t.health.CheckedAt, t.health.Latency = now, latency
		t.sawNewest(newest) // first: while down, a gap is the outage's
		t.succeeded(now)
		if latency > t.cfg.SlowAfter {
			t.slow = max(t.slow, 0) + 1
		} else {
			t.slow = min(t.slow, 0) - 1
		}
		if t.slow >= slowChecks || t.slow <= -slowChecks {
			t.isSlow = t.slow > 0
		}
	})
}

// Newest notes the time of a sample that the source has.
func (t *Tracker) Newest(newest time.Time) {
	t.observe(func(time.Time) { t.sawNewest(newest) })
}

// Partial notes an answer that was incomplete, for a reason safe to show.
func (t *Tracker) Partial(reason string) {
	t.observe(func(now time.Time) { t.partialAt, t.partialReason = now, reason })
}

// Failed notes a query or check that the source did not answer, for a reason
// safe to show.
func (t *Tracker) Failed(reason string) {
	t.observe(func(now time.Time) {
		t.lastError = reason
		burst := t.fails > 0 && now.Sub(t.lastFailure) < t.cfg.Burst
		t.oks = 0
		t.health.CheckedAt = now
		if burst {
			return
		}
		t.lastFailure = now
		t.fails++
		t.remember(outcome{now, false})
		if t.fails >= t.cfg.FailuresToDown || !t.observed {
			t.down = true
		}
		t.observed = true
	})
}

func (t *Tracker) succeeded(now time.Time) {
	t.fails = 0
	t.observed = true
	t.remember(outcome{now, true})
	if !t.down {
		return
	}
	t.oks++
	if t.oks >= t.cfg.SuccessesToUp {
		// One long outage is not flapping: only what comes after it counts.
		t.down, t.oks, t.outcomes = false, 0, nil
	}
}

func (t *Tracker) remember(o outcome) {
	if len(t.outcomes) >= recentOutcomes {
		t.outcomes = append(t.outcomes[:0], t.outcomes[1:]...)
	}
	t.outcomes = append(t.outcomes, o)
}

func (t *Tracker) sawNewest(newest time.Time) {
	if newest.IsZero() || !newest.After(t.newest) {
		return
	}
	if !t.newest.IsZero() && !t.stale && !t.down {
		if len(t.gaps) >= gapsKept {
			t.gaps = append(t.gaps[:0], t.gaps[1:]...)
		}
		t.gaps = append(t.gaps, min(newest.Sub(t.newest), longestGap))
	}
	t.newest = newest
}

// interval is the distance between the source's samples as far as is known.
func (t *Tracker) interval() time.Duration {
	if !t.cfg.Learn || len(t.gaps) < gapsToLearn {
		return t.cfg.Interval
	}
	longest := t.cfg.Interval / 4
	for _, g := range t.gaps {
		longest = max(longest, g)
	}
	return longest
}

// judge applies the rules as of now, without changing anything.
func (t *Tracker) judge(now time.Time) (model.HealthState, string) {
	if !t.observed {
		return model.SourceUnknown, ""
	}
	if t.down {
		return model.SourceDown, t.lastError
	}
	if age, limit, old := t.age(now); old {
		return model.SourceStale, fmt.Sprintf("its newest sample is %s old, more than the %s allowed; check that it still takes samples and that the clocks agree", age.Round(time.Second), limit.Round(time.Second))
	}
	if t.isSlow {
		return model.SourceDegraded, fmt.Sprintf("its checks take longer than %s", t.cfg.SlowAfter)
	}
	if !t.partialAt.IsZero() && now.Sub(t.partialAt) < t.cfg.PartialHold {
		return model.SourceDegraded, t.partialReason
	}
	if t.flaps(now) {
		return model.SourceDegraded, "it answers only some of the time: " + t.lastError
	}
	return model.SourceUp, ""
}

// age returns how old the newest sample is and may be, and whether that is too
// old. A stale source stays so until a newer sample came.
func (t *Tracker) age(now time.Time) (age, limit time.Duration, old bool) {
	if t.cfg.Interval <= 0 || t.newest.IsZero() {
		return 0, 0, false
	}
	age, limit = now.Sub(t.newest), 2*t.interval()+t.cfg.LateData
	return age, limit, age > limit || t.stale && !t.newest.After(t.staleNewest)
}

func (t *Tracker) flaps(now time.Time) bool {
	falls := 0
	for _, at := range t.falls {
		if now.Sub(at) < t.cfg.FlapWindow {
			falls++
		}
	}
	if falls >= fallsToFlap {
		return true
	}
	failed, all := 0, 0
	for _, o := range t.outcomes {
		if now.Sub(o.at) >= t.cfg.FlapWindow {
			continue
		}
		all++
		if !o.ok {
			failed++
		}
	}
	return failed >= leastFailed && float64(failed) >= failedShare*float64(all)
}

// observe applies an observation, judges again and notes a change for the
// listeners.
func (t *Tracker) observe(observation func(now time.Time)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	observation(now)
	old := t.health
	state, reason := t.judge(now)
	t.health.LastError = reason
	if state == old.State {
		return
	}
	t.health.State, t.health.Since = state, now
	t.stale = state == model.SourceStale
	if t.stale {
		t.staleNewest = t.newest
	}
	if fell := state == model.SourceDown || state == model.SourceStale; fell && old.State.Usable() {
		if len(t.falls) >= fallsToFlap {
			t.falls = append(t.falls[:0], t.falls[1:]...)
		}
		t.falls = append(t.falls, now)
	}
	if len(t.pending) >= changesKept {
		t.pending = append(t.pending[:0], t.pending[1:]...)
	}
	t.pending = append(t.pending, change{old, t.health})
	select {
	case t.changed <- struct{}{}:
	default:
	}
}
