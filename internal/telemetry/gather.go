package telemetry

import (
	"io"
	"sync"
	"time"
)

// The bounds of what a Gatherer keeps back.
const (
	gatherFor  = 10 * time.Millisecond
	gatherMost = 32 << 10
)

// Gatherer writes lines to a writer, one by one while they are few. Lines that
// come within 10 ms of the last write are kept back for as long and written in
// one go, because thousands of requests a second each have a line, and a write
// costs more than the line. So whoever ends the process without warning loses
// 10 ms of lines at most. Order is kept. Its methods are safe for concurrent
// use.
type Gatherer struct {
	mu      sync.Mutex
	w       io.Writer
	waiting []byte
	wrote   time.Time
	timer   *time.Timer // runs while something waits; nil before the first
}

// NewGatherer returns a Gatherer that writes to w.
func NewGatherer(w io.Writer) *Gatherer { return &Gatherer{w: w} }

// Write implements io.Writer. p is one line or more. A line that is kept back
// is lost when it cannot be written later, without an error.
func (g *Gatherer) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if len(g.waiting) == 0 && now.Sub(g.wrote) >= gatherFor {
		g.wrote = now
		return g.w.Write(p)
	}
	if len(g.waiting) == 0 {
		if g.timer == nil {
			g.timer = time.AfterFunc(gatherFor, g.Flush)
		} else {
			g.timer.Reset(gatherFor)
		}
	}
	if g.waiting = append(g.waiting, p...); len(g.waiting) >= gatherMost {
		g.flush(now)
	}
	return len(p), nil
}

// Flush writes what waits.
func (g *Gatherer) Flush() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.flush(time.Now())
}

// flush writes what waits; mu is held.
func (g *Gatherer) flush(now time.Time) {
	if len(g.waiting) == 0 {
		return
	}
	g.timer.Stop()
	g.wrote = now
	_, _ = g.w.Write(g.waiting) // a log that cannot be written has nowhere to say so
	if g.waiting = g.waiting[:0]; cap(g.waiting) > 2*gatherMost {
		g.waiting = nil // of one line that was very long
	}
}
