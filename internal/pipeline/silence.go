package pipeline

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"aiops/internal/model"
)

// A store that takes requests and never answers must not keep live detectors
// from being scored. Their loops therefore wait for it only a moment: a write
// that takes longer goes on beside the loop, a question that takes longer is
// given up, and for a while afterwards no loop waits for the store at all. See
// docs/pipeline.md, "A store that does not answer".
const (
	patienceAtLeast = time.Second
	patienceAtMost  = 5 * time.Second
	silenceLasts    = 5 * time.Second // in which no live detector waits for the store
)

// silence is what the engine knows of a store that does not answer.
type silence struct{ until atomic.Int64 } // nanoseconds of the engine's clock; 0: it answers

// silent reports whether the store is not worth waiting for now.
func (e *Engine) silent() bool {
	until, now := e.silence.until.Load(), e.now().UnixNano()
	// An end that is far away was set before the clock went back.
	return now < until && until-now <= int64(silenceLasts)
}

func (e *Engine) unanswered() { e.silence.until.Store(e.now().Add(silenceLasts).UnixNano()) }
func (e *Engine) answered()   { e.silence.until.Store(0) }

// patience is how long the loop waits for the store: about half a step.
func (r *runner) patience() time.Duration {
	return min(max(r.detector.Step/2, patienceAtLeast), patienceAtMost)
}

// scored reports whether there is something that is scored while the store is away.
func (r *runner) scored() bool { return r.core != nil && r.stage == stageLive }

func errSilent() error {
	return model.Errorf(model.KindTimeout, "", "the database does not answer at the moment; it is asked again in a few seconds")
}

// errUnderWay says that a write goes on beside the loop.
var errUnderWay = model.Errorf(model.KindTimeout, "", "the database takes long to answer")

// brief runs op, a question to the store or a small write, in the loop. A detector
// that runs live gives it little time, and none while the store is silent; any
// other waits until ctx ends.
func (r *runner) brief(ctx context.Context, op func(context.Context) error) error {
	if !r.scored() {
		return op(ctx)
	}
	if r.e.silent() {
		return errSilent()
	}
	bounded, cancel := context.WithTimeout(ctx, r.patience())
	defer cancel()
	err := op(bounded)
	switch {
	case err == nil:
		r.e.answered()
	case bounded.Err() != nil && ctx.Err() == nil:
		r.e.unanswered()
	}
	return err
}

// flight is a write that goes on beside the loop. A runner has one at most, so
// that what it writes stays in order.
type flight struct {
	done chan struct{} // closed when err is set
	err  error
	late atomic.Bool           // the loop does not wait for it any more
	land func(err error) error // takes the outcome over, in the loop; nil: it is dealt with
}

// write begins op beside the loop, bounded by within. op must use nothing that
// the loop changes. landed calls land in the loop when op is over; a write that was
// not heard of may have happened, so what is written has to be such that it can be
// written again. There must be no other write under way.
func (r *runner) write(ctx context.Context, within time.Duration, op func(context.Context) error, land func(error) error) {
	f := &flight{done: make(chan struct{}), land: land}
	r.flight = f
	bounded, cancel := context.WithTimeout(ctx, within)
	r.side.Go(func() {
		defer func() {
			close(f.done)
			if f.late.Load() {
				r.nudge() // to be taken over at once
			}
		}()
		defer cancel()
		defer func() {
			if p := recover(); p != nil {
				r.e.metrics.panics.Inc()
				r.log.Error("writing what was found panicked; it is tried again", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				f.err = model.Errorf(model.KindInternal, "", "an unexpected failure while writing")
			}
		}()
		f.err = op(bounded)
	})
}

// landed waits for the write that is under way, a moment or with wait until it is
// over, and takes its outcome over. errUnderWay says that it goes on, any other error
// that it failed; nil that nothing is under way any more.
func (r *runner) landed(wait bool) error {
	f := r.flight
	if f == nil {
		return nil
	}
	if wait {
		<-f.done // bounded by its own context
	} else if late := f.late.Load(); !f.over(r.patience()) {
		if !late {
			r.e.unanswered()
		}
		return errUnderWay
	}
	if f.err == nil {
		r.e.answered()
	}
	r.flight = nil
	return f.land(f.err)
}

// over waits for a write unless it is late already, and makes it late when it
// takes longer than patience.
func (f *flight) over(patience time.Duration) bool {
	if !f.late.Load() {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case <-f.done:
			return true
		case <-timer.C:
		}
		f.late.Store(true)
	}
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}
