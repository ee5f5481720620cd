package outward

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"aiops/internal/model"
)

const checkAgain = 2 * time.Second // between checks of a source that is not well

// Watch calls check every interval, and more often while the source is down,
// and tells of changes of its health, until ctx ends. It returns nil. A check
// notes in the health what it finds; its error is for the log.
func (p *Peer) Watch(ctx context.Context, interval time.Duration, check func(context.Context) error) error {
	var telling sync.WaitGroup
	telling.Go(func() { p.tracker.Run(ctx) })
	defer telling.Wait()
	for {
		if err := check(ctx); err != nil && ctx.Err() == nil {
			p.log.Debug("health check failed", "err", err)
		}
		wait := interval
		if s := p.tracker.Health().State; s == model.SourceDown || s == model.SourceUnknown {
			wait = min(wait, checkAgain)
		}
		// A little jitter keeps several sources, or processes, out of step.
		timer := time.NewTimer(wait - wait/20 + rand.N(wait/10+1))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}
