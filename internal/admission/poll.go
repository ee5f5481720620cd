package admission

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"
)

// lookout wakes requests that were let in, each not before all others that can
// run had their turn and what came over the network meanwhile was looked at.
//
// While there is something to run, Go's scheduler looks at the network every
// 10 to 20 ms only, and takes at most 128 events each time. Requests that are
// let in one after the other, and need nothing but a CPU, are always something
// to run, so probes would wait that long, and refusals in a flood for ever
// longer. A byte in a pipe is seen when the network is looked at and not before,
// so whoever waits for one lets that happen first:
//
//	wake ──► byte in the pipe ──► network looked at ──► requests for a millisecond run
//	               ▲                                          │
//	               └───────── next, while others wait ────────┘
//
// Each look costs two system calls. Without watch running, requests are woken
// at once.
type lookout struct {
	mu      sync.Mutex
	in      *os.File  // the end that is written to; nil: nobody reads
	waiting queue     // let in, not woken
	woken   int       // that did not call next yet
	atOnce  int       // are woken, or as many as there are CPUs
	rung    time.Time // when the byte was put into the pipe that is still there; zero: none is
}

const (
	// turn is how long requests may run between two looks at the network: as
	// many as are served in that time, and one for each CPU at least.
	turn = time.Millisecond
	// Where other work keeps the network waiting, more requests are woken at a
	// time, as many again after each of these, or they would get no more than
	// one turn of many.
	perTurn = 10 * time.Millisecond
)

// wake wakes t, soon, which then calls next, where one is served each
// interval. It does not block.
func (l *lookout) wake(t *ticket, interval time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.atOnce = min(max(1, int(turn/max(interval, time.Microsecond))), mostQueued)
	l.waiting.push(t)
	if l.in == nil {
		l.let(1)
	} else if l.woken == 0 {
		l.ring()
	}
}

// next has the next ones woken.
func (l *lookout) next() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.woken--; l.woken == 0 && l.waiting.len() > 0 {
		l.ring()
	}
}

// ring puts a byte into the pipe unless there is one; mu is held.
func (l *lookout) ring() {
	if !l.rung.IsZero() {
		return
	}
	l.rung = time.Now()
	if _, err := l.in.Write([]byte{0}); err != nil {
		l.rung = time.Time{}
		l.let(l.waiting.len())
	}
}

// let wakes the first n that wait; mu is held.
func (l *lookout) let(n int) {
	for range min(n, l.waiting.len()) {
		l.woken++
		l.waiting.pop().ready <- struct{}{}
	}
}

// behind returns how long ago the first of those that wait was let in.
func (l *lookout) behind(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting.len() == 0 {
		return 0
	}
	return now.Sub(l.waiting.oldest().since)
}

// watch works until ctx ends.
func (l *lookout) watch(ctx context.Context) error {
	out, in, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("making a pipe: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = out.Close() })
	defer stop()
	l.mu.Lock()
	l.in = in
	l.mu.Unlock()
	cpus, buffer := runtime.GOMAXPROCS(0), make([]byte, 1)
	for {
		if _, err = out.Read(buffer); err != nil {
			break
		}
		l.mu.Lock()
		l.let(max(cpus, l.atOnce) * (1 + int(time.Since(l.rung)/perTurn)))
		l.rung = time.Time{}
		l.mu.Unlock()
	}
	l.mu.Lock()
	l.in, l.rung = nil, time.Time{}
	l.let(l.waiting.len())
	l.mu.Unlock()
	_ = in.Close()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("reading a pipe: %w", err)
}
