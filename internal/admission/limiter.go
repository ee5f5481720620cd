package admission

import (
	"context"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
)

// Class is how much a request matters under load.
type Class uint8

// The classes, the most important first. Probe and Control take no place among
// the requests in flight; neither does Stream, which lasts.
const (
	Probe Class = iota
	Control
	Stream
	Ingest
	UI
	Read
	Batch
	classes
)

// String returns the name of the class, as metrics show it.
func (c Class) String() string {
	return [...]string{"probe", "control", "stream", "ingest", "ui", "read", "batch"}[c]
}

// shares is how much of the limit may be in use for a request of a class to be
// let in. What is above a class's share is the headroom of those before it.
var shares = [classes]float64{Ingest: 1, UI: 0.8, Read: 0.65, Batch: 0.5}

const (
	patience   = 25 * time.Millisecond // how long a request waits for a place
	maxControl = 256                   // of Control in flight
)

// Requests that never wait for anything but a CPU are not in flight together,
// so that no bound on those in flight sees them pile up: they queue in the
// scheduler, before they get here. While work waits too long for a CPU and
// requests come in numbers, only a share of them is let in: a flood of fewer
// than floodTick in a tick is none.
const (
	floodTick  = 32
	leastShare = 0.04
)

// lean is the exponent with which a class feels the share.
var lean = [classes]float64{Ingest: 0.25, UI: 0.5, Read: 1, Batch: 2}

// limiter bounds the requests in flight. The limit is the smaller of two: the
// adaptive one, which follows how long requests take against how long they
// usually take, and a ceiling that follows at once how long work waits for a
// CPU. A request that finds no place waits a moment, in a queue as long as the
// limit, the most important class first.
type limiter struct {
	adaptive adaptivelimiter.AdaptiveLimiter[any]
	floor    int
	hardMax  int

	mu       sync.Mutex
	ceiling  float64
	share    float64          // of the requests that are let in; 1 is all
	due      [classes]float64 // how near the next one of a class is to being let in
	arrived  int              // since the last adjustment
	inFlight int
	peak     int // the most in flight since the last adjustment
	queued   int
	waiting  [classes][]*waiter
	shed     uint64 // refusals so far
}

type waiter struct{ ready chan struct{} }

func newLimiter(hardMax int) *limiter {
	floor := floorOf()
	// A quiet program keeps room for a page that asks for everything at once.
	resting := min(hardMax, max(32, 16*runtime.GOMAXPROCS(0)))
	return &limiter{
		floor: floor, hardMax: hardMax, ceiling: float64(hardMax), share: 1,
		adaptive: adaptivelimiter.NewBuilder[any]().
			WithLimits(uint(floor), uint(hardMax), uint(resting)).
			WithRecentWindow(time.Second, 30*time.Second, 50).
			WithMaxLimitFunc(func(inFlight int) float64 { return max(float64(resting), 5*float64(inFlight)) }).
			Build(),
	}
}

// limit is the limit in force; mu is held.
func (l *limiter) limit() int { return max(l.floor, min(l.adaptive.Limit(), int(l.ceiling))) }

func (l *limiter) roomFor(c Class, limit int) bool {
	return l.inFlight < max(1, int(shares[c]*float64(limit)))
}

// acquire waits for a place. ok is false when there was none in time, or ctx
// ended; otherwise release has to be called with whether the request ran to
// its end.
func (l *limiter) acquire(ctx context.Context, c Class) (release func(complete bool), ok bool) {
	l.mu.Lock()
	l.arrived++
	if !l.turn(c) {
		l.shed++
		l.mu.Unlock()
		return nil, false
	}
	limit := l.limit()
	if l.queueBefore(c) == 0 && l.roomFor(c, limit) {
		l.enter()
		l.mu.Unlock()
		return l.releaser(), true
	}
	if l.queued >= limit {
		l.shed++
		l.mu.Unlock()
		return nil, false
	}
	w := &waiter{ready: make(chan struct{})}
	l.waiting[c] = append(l.waiting[c], w)
	l.queued++
	l.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-w.ready:
		return l.releaser(), true
	case <-timer.C:
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting[c], w); i >= 0 {
		l.waiting[c] = slices.Delete(l.waiting[c], i, i+1)
		l.queued--
		l.shed++
		return nil, false
	}
	return l.releaser(), true // let in at the last moment
}

// turn lets the share of a class through, evenly; mu is held.
func (l *limiter) turn(c Class) bool {
	if l.share >= 1 {
		return true
	}
	l.due[c] += math.Pow(l.share, lean[c])
	if l.due[c] < 1 {
		return false
	}
	l.due[c]--
	return true
}

// queueBefore is how many wait that would go first; mu is held.
func (l *limiter) queueBefore(c Class) int {
	n := 0
	for before := Ingest; before <= c; before++ {
		n += len(l.waiting[before])
	}
	return n
}

func (l *limiter) enter() {
	l.inFlight++
	l.peak = max(l.peak, l.inFlight)
}

// releaser measures the request from now on.
func (l *limiter) releaser() func(complete bool) {
	permit, measured := l.adaptive.TryAcquirePermit()
	return func(complete bool) {
		switch {
		case measured && complete:
			permit.Record()
		case measured:
			permit.Drop()
		}
		l.mu.Lock()
		l.inFlight--
		l.admit()
		l.mu.Unlock()
	}
}

// admit lets waiting requests in, the most important first; mu is held.
func (l *limiter) admit() {
	if l.queued == 0 {
		return
	}
	limit := l.limit()
	for c := Ingest; c < classes; c++ {
		for len(l.waiting[c]) > 0 && l.roomFor(c, limit) {
			w := l.waiting[c][0]
			l.waiting[c] = l.waiting[c][1:]
			l.queued--
			l.enter()
			close(w.ready)
		}
	}
}

// adjust moves the ceiling and the share by how long work has waited for a CPU:
// the ceiling down to four fifths of what was in flight when that is too long,
// the share to three fifths; up by a tenth and by a quarter when it is short. It is called ten times a second.
func (l *limiter) adjust(delay, target time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case delay > target && l.peak >= l.floor:
		l.ceiling = max(float64(l.floor), 0.8*min(l.ceiling, float64(l.peak)))
	case delay < target/2:
		l.ceiling = min(float64(l.hardMax), 1.1*l.ceiling+1)
	}
	switch flood := l.arrived >= floodTick; {
	case flood && delay > target:
		l.share = max(leastShare, 0.6*l.share)
	case !flood || delay < target/2:
		l.share = min(1, 1.25*l.share+0.01)
	}
	l.arrived = 0
	l.peak = l.inFlight
	l.admit()
}

// limiterState is what the limiter is doing.
type limiterState struct {
	limit, inFlight, queued int
	shed                    uint64
}

func (l *limiter) state() limiterState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return limiterState{limit: l.limit(), inFlight: l.inFlight, queued: l.queued, shed: l.shed}
}
