package pipeline

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"aiops/internal/model"
)

// maxEvents is how many known events a core remembers; the oldest are
// forgotten first.
const maxEvents = 1000

// eventSpan is a known event as far as it was in force: an event that people
// enter for the past changes nothing that was scored before, so its span
// begins with the first step that was scored while it was known. Replaying a
// series therefore treats each step as it was treated then.
type eventSpan struct {
	id       string
	version  int64
	from, to int64 // milliseconds, both included
	mute     bool
	matchers []eventMatcher
}

type eventMatcher struct {
	name, value string
	missing     bool // a series without the label matches: its detector has the value
}

func (e *eventSpan) matches(labels model.Labels) bool {
	for _, m := range e.matchers {
		got := labels.Value(m.name)
		if got == "" && m.missing {
			continue
		}
		if got != m.value {
			return false
		}
	}
	return true
}

// knownFlags is what known events say of a series at a step.
type knownFlags uint8

const (
	knownUnlearned knownFlags = 1 << iota // its samples are not learned
	knownMute                             // and are no alarms
)

func (f knownFlags) unlearned() bool { return f&knownUnlearned != 0 }
func (f knownFlags) mute() bool      { return f&knownMute != 0 }

// eventClock knows which events are in force at the step that is being scored.
type eventClock struct {
	now   []int  // places in the list of spans
	until int64  // first step at which that may differ; 0: not looked up yet
	epoch uint32 // grows with each difference; a series looks its flags up once in each
}

// turn moves the clock to step t. Times of one core only grow.
func (k *eventClock) turn(spans []eventSpan, t int64) {
	if t < k.until {
		return
	}
	k.now, k.until = k.now[:0], math.MaxInt64
	k.epoch++
	for i := range spans {
		switch s := &spans[i]; {
		case t < s.from:
			k.until = min(k.until, s.from)
		case t <= s.to:
			k.now = append(k.now, i)
			k.until = min(k.until, s.to+1)
		}
	}
}

// changed makes the next turn look the events up again.
func (k *eventClock) changed() { k.until = 0 }

// knownOf returns what known events say of s at the step that is being scored.
func (c *core) knownOf(s *series) knownFlags {
	if len(c.events.now) == 0 {
		return 0
	}
	if s.epoch == c.events.epoch {
		return s.known
	}
	s.epoch, s.known = c.events.epoch, 0
	labels, err := model.ParseSeriesKey(s.key)
	if err != nil {
		panic("BUG: a series key cannot be read back: " + err.Error())
	}
	for _, i := range c.events.now {
		if e := &c.past.events[i]; e.matches(labels) {
			s.known |= knownUnlearned
			if e.mute {
				s.known |= knownMute
			}
		}
	}
	return s.known
}

// knowEvents puts the known events in force for the steps behind the
// watermark: those that are gone or changed end there, new ones begin there,
// in a core that runs live not before they were entered, so that a gap is
// scored as it would have been without one.
func (c *core) knowEvents(list []model.KnownEvent, live bool) {
	current := map[string]int64{}
	for _, e := range list {
		current[e.ID] = e.Version
	}
	next := c.watermark + c.def.step
	spans := slices.Clone(c.past.events)
	known := map[string]int64{}
	for i := range spans {
		s := &spans[i]
		if v, ok := current[s.id]; ok && v == s.version {
			known[s.id] = s.version
		} else {
			s.to = min(s.to, c.watermark)
		}
	}
	spans = slices.DeleteFunc(spans, func(s eventSpan) bool { return s.to < s.from })
	for _, e := range list {
		if known[e.ID] == e.Version || e.DetectorID != "" && e.DetectorID != c.def.detector.ID {
			continue
		}
		s := eventSpan{id: e.ID, version: e.Version, from: max(e.From.UnixMilli(), next), to: e.To.UnixMilli(), mute: e.Mute}
		if live {
			s.from = max(s.from, c.def.floor(e.UpdatedAt.UnixMilli())+c.def.step)
		}
		if s.to < s.from {
			continue
		}
		for name, value := range e.Matchers {
			s.matchers = append(s.matchers, eventMatcher{name, value, c.def.detector.Labels[name] == value})
		}
		slices.SortFunc(s.matchers, func(a, b eventMatcher) int { return cmp.Compare(a.name, b.name) })
		spans = append(spans, s)
	}
	if len(spans) > maxEvents {
		slices.SortStableFunc(spans, func(a, b eventSpan) int { return cmp.Compare(b.to, a.to) })
		spans = spans[:maxEvents]
	}
	c.past.events = spans
	c.events.changed()
}

func (w *frame) events(list []eventSpan) {
	w.uint(uint64(len(list)))
	for _, e := range list {
		w.text(e.id)
		w.i64(e.version)
		w.i64(e.from)
		w.i64(e.to)
		w.bool(e.mute)
		w.uint(uint64(len(e.matchers)))
		for _, m := range e.matchers {
			w.text(m.name)
			w.text(m.value)
			w.bool(m.missing)
		}
	}
}

func (r *parser) events() []eventSpan {
	var list []eventSpan
	for range r.count(maxEvents, 27) {
		e := eventSpan{id: r.text(), version: r.i64(), from: r.i64(), to: r.i64(), mute: r.bool()}
		for range r.count(1024, 3) {
			e.matchers = append(e.matchers, eventMatcher{r.text(), r.text(), r.bool()})
		}
		list = append(list, e)
	}
	return list
}

// eventsBack is how far back known events matter: as far as anybody may train.
const eventsBack = 400 * 24 * time.Hour

// learnEvents notes the known events that are stored; e.mu is held.
func (e *Engine) learnEvents(events []model.KnownEvent) {
	same := func(a, b model.KnownEvent) bool { return a.ID == b.ID && a.Version == b.Version }
	if e.generation != 0 && slices.EqualFunc(e.events, events, same) {
		return
	}
	e.events = events
	e.generation++
}

// eventsOf returns the known events of a detector.
func (e *Engine) eventsOf(d model.Detector) []model.KnownEvent {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(e.events), func(k model.KnownEvent) bool { return k.DetectorID != "" && k.DetectorID != d.ID })
}

func (r *runner) knownEvents() []model.KnownEvent { return r.e.eventsOf(r.detectorNow()) }

// detectorNow is the definition that is wanted, for any goroutine.
func (r *runner) detectorNow() model.Detector {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.want
}

// learnOfEvents puts changed known events in force, from the next step on.
func (r *runner) learnOfEvents(ctx context.Context) {
	r.e.mu.Lock()
	generation := r.e.generation
	r.e.mu.Unlock()
	if generation == r.events || r.core == nil {
		return
	}
	list := r.knownEvents()
	r.turn.do(func() {
		r.core.knowEvents(list, true)
		if r.shadow != nil && r.shadow.core != nil {
			r.shadow.core.knowEvents(list, true)
		}
	})
	r.events = generation
	if len(list) == 0 {
		return
	}
	r.snapshotSoon = true
	if err := r.snapshotLive(ctx, false); err != nil {
		r.log.Warn("a snapshot was not written", "err", err)
	}
}
