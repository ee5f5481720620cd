package pipeline

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// class is the priority of a piece of work: lower goes first.
type class uint8

const (
	classLive       class = iota // a step that became due
	classCatchUp                 // a gap of a live detector, or somebody waits for an answer
	classBackground              // first learning from history, training, backtest
)

// pressureRecheck is how often work that waits because of pressure looks again.
const pressureRecheck = time.Second

// gate lets a bounded number of evaluations run at a time: at most workers in
// all, perSource for each source and half for background work. Waiting work is
// let in by class, then by step, then by arrival. A wedged evaluation can give
// its place back while it still runs, so that it harms no other.
type gate struct {
	workers    int
	perSource  int
	background int
	pressure   func() Level

	mu       sync.Mutex
	running  int
	sources  map[string]int
	inBack   int
	waiting  waitHeap
	arrivals uint64
}

type waiter struct {
	class   class
	step    time.Duration
	arrival uint64
	source  string
	ready   chan struct{}
	index   int // in the heap, -1: let in
}

func newGate(workers, perSource int, pressure func() Level) *gate {
	return &gate{workers: workers, perSource: perSource, background: max(1, workers/2), pressure: pressure, sources: map[string]int{}}
}

// enter waits for a place and returns the function that gives it back, which
// may be called more than once.
func (g *gate) enter(ctx context.Context, c class, step time.Duration, source string) (leave func(), err error) {
	w := &waiter{class: c, step: step, source: source, ready: make(chan struct{})}
	g.mu.Lock()
	w.arrival = g.arrivals
	g.arrivals++
	heap.Push(&g.waiting, w)
	g.admit()
	g.mu.Unlock()
	recheck := (<-chan time.Time)(nil)
	if c == classBackground {
		tick := time.NewTicker(pressureRecheck)
		defer tick.Stop()
		recheck = tick.C
	}
	for {
		select {
		case <-w.ready:
			return sync.OnceFunc(func() { g.leave(w) }), nil
		case <-recheck:
			g.mu.Lock()
			g.admit()
			g.mu.Unlock()
		case <-ctx.Done():
			g.mu.Lock()
			if w.index >= 0 {
				heap.Remove(&g.waiting, w.index)
				g.mu.Unlock()
				return nil, ctx.Err()
			}
			g.mu.Unlock()
			g.leave(w)
			return nil, ctx.Err()
		}
	}
}

func (g *gate) leave(w *waiter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	if g.sources[w.source]--; g.sources[w.source] <= 0 {
		delete(g.sources, w.source)
	}
	if w.class == classBackground {
		g.inBack--
	}
	g.admit()
}

// admit lets in whoever may go; mu is held.
func (g *gate) admit() {
	if g.running >= g.workers || len(g.waiting) == 0 {
		return
	}
	back := g.background
	switch g.pressure() {
	case PressureElevated:
		back = min(back, 1)
	case PressureSevere:
		back = 0
	}
	var held []*waiter
	for g.running < g.workers && len(g.waiting) > 0 {
		w := heap.Pop(&g.waiting).(*waiter)
		if g.sources[w.source] >= g.perSource || w.class == classBackground && g.inBack >= back {
			held = append(held, w)
			continue
		}
		g.running++
		g.sources[w.source]++
		if w.class == classBackground {
			g.inBack++
		}
		close(w.ready)
	}
	for _, w := range held {
		heap.Push(&g.waiting, w)
	}
}

// waitHeap orders waiters by class, step and arrival.
type waitHeap []*waiter

func (h waitHeap) Len() int { return len(h) }

func (h waitHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	if a.class != b.class {
		return a.class < b.class
	}
	if a.step != b.step {
		return a.step < b.step
	}
	return a.arrival < b.arrival
}

func (h waitHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *waitHeap) Push(x any) {
	w := x.(*waiter)
	w.index = len(*h)
	*h = append(*h, w)
}

func (h *waitHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	w.index = -1
	return w
}
