package store

import (
	"sync"
	"sync/atomic"
)

// broadcast wakes any number of waiting goroutines. The zero value is ready.
type broadcast struct {
	wakes atomic.Uint64 // so far

	mu   sync.Mutex
	subs map[chan struct{}]struct{}
}

// subscribe returns a channel that holds one token after each wake, and a
// function that ends it. Tokens do not queue: one stands for all wakes since
// it was last taken.
func (b *broadcast) subscribe() (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	b.mu.Lock()
	if b.subs == nil {
		b.subs = make(map[chan struct{}]struct{})
	}
	b.subs[c] = struct{}{}
	b.mu.Unlock()
	return c, func() {
		b.mu.Lock()
		delete(b.subs, c)
		b.mu.Unlock()
	}
}

func (b *broadcast) wake() {
	b.wakes.Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.subs {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
