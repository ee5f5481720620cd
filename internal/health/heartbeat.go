package health

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// Heartbeat knows when something last moved. The zero value has never moved.
// Its methods are safe for concurrent use.
type Heartbeat struct{ last atomic.Int64 }

// Run calls pulse every interval and notes when it returned, until ctx ends. A
// pulse that hangs is what Stopped tells of; Run then waits for it.
func (h *Heartbeat) Run(ctx context.Context, interval time.Duration, pulse func()) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		pulse()
		h.last.Store(time.Now().UnixNano())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Stopped returns an error when nothing has moved for longer than limit.
func (h *Heartbeat) Stopped(limit time.Duration) error {
	last := h.last.Load()
	if last == 0 {
		return nil // not begun
	}
	if still := time.Since(time.Unix(0, last)); still > limit {
		return fmt.Errorf("nothing has moved for %s", still.Round(time.Second))
	}
	return nil
}
