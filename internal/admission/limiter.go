package admission

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// shares is how much of the limit may be in use for a request of a class to be
// let in. What is above a class's share is the headroom of those before it.
var shares = [classes]float64{Ingest: 1, UI: 0.8, Read: 0.65, Batch: 0.5}

const (
	maxControl = 256 // of Control in flight

	// While requests wait, the limit is looked at this often.
	pulse = 10 * time.Millisecond
	// A request that has held its place for this long waits for something
	// else than a CPU, or takes its turns with others: it counts no longer
	// against the limit, only against the most that may be in flight.
	longHeld = 500 * time.Millisecond
	// Requests of which one is served in less do not wait for a look at the
	// network before they run: many of them do not keep it waiting for long.
	quick = turn / 8
	// How long one takes to be served, before that is known.
	firstInterval = 2 * time.Millisecond
	// The limit goes back to where it rests when nobody has waited for this long.
	restAfter = time.Second

	// While this process uses that share of the CPUs, work may wait for one of
	// them for that part of the target.
	ownShare = 0.75
	ownPart  = 10
)

// limiter bounds the requests in flight and those that wait for a place.
//
// Every request stands in the queue of its class and lets all others that can
// run go first, once, before it takes a place. Without that, requests which
// need nothing but a CPU would run to their ends one after the other, and
// those that came with them would wait in the scheduler, where nobody sees
// them.
//
// The limit of those in flight follows how long work waits for a CPU: down in
// proportion when that is longer than it may, up by a quarter each pulse while
// requests wait for a place although there is CPU left. So few requests run
// together that only compute, and many that wait for a network.
//
// Work may wait for target, and for a tenth of it while this process itself keeps
// the CPUs busy: then requests wait for each other, and as many are served,
// sooner, when fewer run at a time. Where other processes take the CPUs so short
// a wait says nothing of the requests. It brings the limit back to where it
// rests and not below, for those that wait for a network meanwhile.
type limiter struct {
	floor, rest, most int
	target            time.Duration // how long work may wait for a CPU
	cpus              int
	used              func() time.Duration // CPU that this process has used; it does not grow: not known
	yield             func()               // lets all others that can run go first
	lookout           lookout              // wakes those that are let in
	tickets           sync.Pool            // of *ticket, to be used again

	mu       sync.Mutex
	limit    float64
	inFlight int // those that count against the limit
	total    int // all
	running  list
	queued   int
	queues   [classes]queue
	interval time.Duration // that it takes to serve one, with others beside it, smoothed
	served   time.Time     // when the last one was
	waiting  time.Time     // since when the queues are not empty
	longest  time.Duration // wait of those let in since the last look
	shed     uint64        // refusals so far

	timer   *time.Timer
	due     time.Time // of the next pulse
	pulsing bool
	last    time.Duration // used at the last pulse,
	lastAt  time.Time     // when that was
	stopped time.Time     // when the last pulse found nobody waiting
}

// ticket is one request on its way through the limiter.
type ticket struct {
	class      Class
	since      time.Time     // in the queue, then in its place
	ready      chan struct{} // told that out or in was set, when parked is
	parked     bool
	in, out    bool // let in, refused
	watched    bool // woken by the lookout
	longHeld   bool // counts no longer
	prev, next *ticket
}

// list is the tickets that hold places, the longest first.
type list struct{ first, last *ticket }

func (l *list) push(t *ticket) {
	if t.prev = l.last; l.last != nil {
		l.last.next = t
	} else {
		l.first = t
	}
	l.last = t
}

func (l *list) remove(t *ticket) {
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		l.first = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	} else {
		l.last = t.prev
	}
	t.prev, t.next = nil, nil
}

func newLimiter(most int, target time.Duration) *limiter {
	l := &limiter{floor: floorOf(), most: most, target: target, cpus: runtime.GOMAXPROCS(0), used: cpuTime, yield: runtime.Gosched, interval: firstInterval}
	l.rest = min(most, 2*l.floor)
	l.limit = float64(l.rest)
	l.tickets.New = func() any { return &ticket{ready: make(chan struct{}, 1)} }
	return l
}

// floorOf is the least limit of requests in flight: below it a CPU stands
// still while one of them waits.
func floorOf() int { return 2 * runtime.GOMAXPROCS(0) }

// roomFor reports whether a place is free for a class; mu is held.
func (l *limiter) roomFor(c Class) bool {
	return l.inFlight < max(1, int(shares[c]*l.limit)) && l.total < l.most
}

// fits reports whether a request of class c may wait: its queue has room, and
// none that goes first turns requests away; mu is held.
func (l *limiter) fits(c Class, now time.Time) bool {
	for before := Ingest; before < c; before++ {
		if q := &l.queues[before]; q.len() > 0 && !q.calmed(now) {
			return false
		}
	}
	q := &l.queues[c]
	return q.len() < q.room(now, l.interval)
}

// turnAway reports whether a request of class c would be refused at once, and
// counts it as refused then.
func (l *limiter) turnAway(c Class, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fits(c, now) {
		return false
	}
	l.queues[c].refused(now)
	l.shed++
	return true
}

// acquire waits for a place. It returns nil when there is none to be had in
// time, or ctx ended; otherwise release has to be called with what it returns.
func (l *limiter) acquire(ctx context.Context, c Class) *ticket {
	now := time.Now()
	l.mu.Lock()
	if !l.fits(c, now) {
		l.queues[c].refused(now)
		l.shed++
		l.mu.Unlock()
		return nil
	}
	t := l.tickets.Get().(*ticket)
	t.class, t.since = c, now
	if l.queued == 0 {
		l.waiting = now
	}
	l.queues[c].push(t)
	l.queued++
	if l.interval > quick && (l.pulsing || l.total >= l.floor/2) {
		// Others wait or run: t does not run before the lookout wakes it.
		t.parked = true
		l.admit(now)
		if !t.in {
			l.beat()
		}
	} else {
		l.mu.Unlock()
		l.yield() // all that came with it get here before the first one runs
		l.mu.Lock()
		alone := !t.in && !t.out
		if alone {
			l.admit(time.Now())
		}
		switch {
		case t.out, t.in && (alone || l.interval <= quick):
			l.mu.Unlock()
			return l.settle(t)
		case t.in:
			// It was let in by one that came with it: without this all of them
			// would run to their ends before the network is looked at again.
			t.watched = true
			l.lookout.wake(t, l.interval)
		default:
			l.beat()
		}
		t.parked = true
	}
	l.mu.Unlock()
	select {
	case <-t.ready:
	case <-ctx.Done():
		l.mu.Lock()
		told := t.in || t.out
		if !told {
			l.queues[c].remove(t)
			l.queued--
			t.out = true
		}
		l.mu.Unlock()
		if told {
			<-t.ready
		}
	}
	if t.in {
		l.yield() // t was woken before all others
		if t.watched {
			l.lookout.next()
		}
	}
	return l.settle(t)
}

// settle returns t when it was let in, nil when it was not.
func (l *limiter) settle(t *ticket) *ticket {
	if t.in {
		return t
	}
	l.drop(t)
	return nil
}

func (l *limiter) drop(t *ticket) {
	*t = ticket{ready: t.ready}
	l.tickets.Put(t)
}

// release gives up the place of t, which must not be used again.
func (l *limiter) release(t *ticket) {
	now := time.Now()
	l.mu.Lock()
	l.running.remove(t)
	took := now.Sub(t.since) / time.Duration(l.total)
	if l.queued > 0 {
		took = min(now.Sub(l.served), now.Sub(l.waiting))
	}
	// A moment in which the machine stood still is not how fast it is.
	l.interval += (min(took, 4*l.interval+time.Millisecond) - l.interval) / 16
	l.total--
	if !t.longHeld {
		l.inFlight--
	}
	l.served = now
	l.admit(now)
	l.mu.Unlock()
	l.drop(t)
}

// admit lets waiting requests in, the most important class first; mu is held.
func (l *limiter) admit(now time.Time) {
	for c := Ingest; c < classes && l.queued > 0; c++ {
		for q := &l.queues[c]; q.len() > 0 && l.roomFor(c); {
			if q.overdue(now) {
				l.turnOut(q, q.pop(), now)
				continue
			}
			t := q.pop()
			l.queued--
			l.longest = max(l.longest, now.Sub(t.since))
			t.in, t.since = true, now
			l.inFlight++
			l.total++
			l.running.push(t)
			if t.parked && l.interval > quick {
				t.watched = true
				l.lookout.wake(t, l.interval)
			} else if t.parked {
				t.ready <- struct{}{}
			}
		}
	}
}

// beat starts the pulses when nobody did; mu is held.
func (l *limiter) beat() {
	if l.pulsing {
		return
	}
	now := time.Now()
	if now.Sub(l.stopped) > restAfter {
		l.limit = float64(l.rest)
	}
	l.pulsing, l.due = true, now.Add(pulse)
	l.last, l.lastAt = l.used(), now
	if l.timer == nil {
		l.timer = time.AfterFunc(pulse, l.pulse)
		return
	}
	l.timer.Reset(pulse)
}

// pulse refuses those whose patience has ended and moves the limit. How late
// it comes itself is how long work waits for a CPU.
func (l *limiter) pulse() {
	l.yield() // to the end of the line: a timer goes before all others
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.adjust(max(now.Sub(l.due), l.lookout.behind(now)), l.mayWait(now))
	for t := l.running.first; t != nil && now.Sub(t.since) > longHeld; t = t.next {
		if !t.longHeld {
			t.longHeld = true
			l.inFlight--
		}
	}
	l.admit(now)
	for c := range l.queues {
		q := &l.queues[c]
		for q.overdue(now) {
			l.turnOut(q, q.pop(), now)
		}
		if q.flood(now) {
			for room := floodRoom(l.interval); q.len() > room; {
				l.turnOut(q, q.pop(), now)
			}
		}
		q.pulsed()
	}
	if l.queued == 0 {
		l.pulsing, l.stopped = false, now
		return
	}
	l.due = now.Add(pulse)
	l.timer.Reset(pulse)
}

// turnOut refuses t, which was taken out of q; mu is held.
func (l *limiter) turnOut(q *queue, t *ticket, now time.Time) {
	l.queued--
	l.shed++
	q.refused(now)
	t.out = true
	if t.parked {
		t.ready <- struct{}{}
	}
}

// mayWait is how long work may wait for a CPU, by what this process has used of
// them since the last pulse; mu is held.
func (l *limiter) mayWait(now time.Time) time.Duration {
	used, since := l.used(), now.Sub(l.lastAt)
	own := float64(used-l.last) > ownShare*float64(since)*float64(l.cpus)
	l.last, l.lastAt = used, now
	if own {
		return l.target / ownPart
	}
	return l.target
}

// adjust moves the limit by how long work waited for a CPU while requests
// waited for a place; mu is held.
func (l *limiter) adjust(delay, may time.Duration) {
	switch {
	case delay > l.target:
		l.limit *= max(0.5, float64(l.target)/float64(delay))
	case delay > may:
		l.limit = max(l.limit*max(0.5, float64(may)/float64(delay)), min(l.limit, float64(l.rest)))
	case delay < may/2 && l.queued > 0:
		l.limit = 1.25*l.limit + 0.5
	}
	l.limit = min(max(l.limit, float64(l.floor)), float64(l.most))
}

// limiterState is what the limiter is doing.
type limiterState struct {
	limit, inFlight, queued int
	shed                    uint64
}

func (l *limiter) state() limiterState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return limiterState{limit: int(l.limit), inFlight: l.total, queued: l.queued, shed: l.shed}
}

// waited returns how long the longest of those waited that were let in since
// the last call, or wait still.
func (l *limiter) waited(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	longest := l.longest
	for c := range l.queues {
		if q := &l.queues[c]; q.len() > 0 {
			longest = max(longest, now.Sub(q.oldest().since))
		}
	}
	l.longest = 0
	return longest
}
