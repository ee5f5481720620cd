package outward

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/retrypolicy"

	"aiops/internal/model"
)

const (
	maxAttempts   = 3
	retryBase     = 200 * time.Millisecond
	retryMax      = 2 * time.Second
	longestWait   = 5 * time.Second // a Retry-After beyond this ends the call instead
	retryShare    = 0.1             // retries per call
	retrySavings  = 3               // retries that good times save up
	breakerPeriod = 30 * time.Second
	breakerLeast  = 5 // executions in the period before the breaker may open
	breakerRate   = 0.5
	breakerDelay  = 5 * time.Second
	breakerProbes = 1
	queueFactor   = 32 // waiting calls per place in the bulkhead
)

// guard stands between callers and a source: it bounds how many requests run,
// stops asking a source that fails, and repeats requests within a budget.
type guard struct {
	retry   failsafe.Executor[any]
	breaker circuitbreaker.CircuitBreaker[any]
	places  bulkhead.Bulkhead[any]
	queue   chan struct{} // a slot per call that waits for a place or runs
	waiting atomic.Int64  // requests that wait for a place
	running atomic.Int64  // requests that have one
	budget  budget
	now     func() time.Time
	onRetry func()
	subject string

	mu        sync.Mutex
	notBefore time.Time // nothing is sent earlier
	lastError string
}

func newGuard(subject string, concurrency int, now func() time.Time, onRetry func()) *guard {
	g := &guard{
		now:     now,
		onRetry: onRetry,
		subject: subject,
		places:  bulkhead.New[any](uint(concurrency)),
		queue:   make(chan struct{}, concurrency*queueFactor),
		// The rate is a share of 1. The delay is fixed, because failsafe asks a
		// delay function with a nil execution when a result is recorded by hand.
		breaker: circuitbreaker.NewBuilder[any]().
			WithFailureRateThreshold(breakerRate, breakerLeast, breakerPeriod).
			WithSuccessThreshold(breakerProbes).
			WithDelay(breakerDelay).
			Build(),
	}
	policy := retrypolicy.NewBuilder[any]().
		HandleIf(func(_ any, err error) bool {
			var f *Failure
			return errors.As(err, &f) && f.Retry
		}).
		WithMaxAttempts(maxAttempts).
		ReturnLastFailure().
		WithDelayFunc(retryDelay).
		Build()
	g.retry = failsafe.With(policy)
	return g
}

// retryDelay is full jitter: a random part of a bound that doubles. A
// Retry-After comes on top, so that clients told the same time spread.
func retryDelay(exec failsafe.ExecutionAttempt[any]) time.Duration {
	bound := min(retryBase<<min(exec.Attempts()-1, 8), retryMax)
	delay := rand.N(bound)
	var f *Failure
	if errors.As(exec.LastError(), &f) {
		delay += f.Err.RetryAfter
	}
	return delay
}

// sendFunc sends one request and reads its answer.
type sendFunc func(ctx context.Context) error

// do runs send under all guards, repeatedly only if it is safe. The error is a
// *Failure, what send returned, or the caller's own context's.
func (g *guard) do(ctx context.Context, safe bool, send sendFunc) error {
	select {
	case g.queue <- struct{}{}:
		defer func() { <-g.queue }()
	default:
		return &Failure{
			Err:     model.Errorf(model.KindOverloaded, g.subject, "%d queries wait for the source already; ask again later, or give it fewer detectors", cap(g.queue)),
			Outcome: OutcomeRefused,
		}
	}
	g.budget.deposit()
	var last *Failure
	err := g.retry.WithContext(ctx).RunWithExecution(func(exec failsafe.Execution[any]) error {
		if exec.Retries() > 0 {
			g.onRetry()
		}
		err := g.once(exec.Context(), send)
		var f *Failure
		if errors.As(err, &f) {
			last = f
			if f.Retry && !(safe && g.mayRetry(ctx, exec, f)) {
				final := *f
				final.Retry = false
				err = &final
			}
		}
		return err
	})
	if last != nil && ctx.Err() != nil && errors.Is(context.Cause(ctx), errOwnTimeout) {
		// failsafe puts the context's error in place of the attempt's.
		return last
	}
	return err
}

// mayRetry decides whether a failed attempt is worth another one, and takes it
// from the budget if so.
func (g *guard) mayRetry(ctx context.Context, exec failsafe.Execution[any], f *Failure) bool {
	if !f.Err.Kind.Transient() || exec.Attempts() >= maxAttempts || f.Err.RetryAfter > longestWait {
		return false
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < f.Err.RetryAfter+retryMax {
		return false
	}
	return g.budget.withdraw()
}

// once waits for a place and sends, if the source is to be asked at all.
func (g *guard) once(ctx context.Context, send sendFunc) error {
	g.waiting.Add(1)
	err := g.places.AcquirePermit(ctx)
	g.waiting.Add(-1)
	if err != nil {
		return ctx.Err()
	}
	g.running.Add(1)
	defer func() {
		g.running.Add(-1)
		g.places.ReleasePermit()
	}()
	if err := g.mayAsk(); err != nil {
		return err
	}
	if !g.breaker.TryAcquirePermit() {
		return g.refused(g.breaker.RemainingDelay(), "the source is not asked for now, because it kept failing: ")
	}
	err = send(ctx)
	g.record(ctx, err)
	return err
}

// askedToWait is how long a Retry-After still runs.
func (g *guard) askedToWait() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(g.notBefore.Sub(g.now()), 0)
}

// mayAsk refuses while a Retry-After runs; nil says that the source may be
// asked.
func (g *guard) mayAsk() *Failure {
	if wait := g.askedToWait(); wait > 0 {
		return g.refused(wait, "the source is not asked for now, because it asked for time: ")
	}
	return nil
}

func (g *guard) refused(wait time.Duration, why string) *Failure {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := model.Errorf(model.KindSourceUnavailable, g.subject, "%s%s", why, g.lastError)
	e.RetryAfter = wait
	return &Failure{Err: e, Outcome: OutcomeRefused}
}

// record tells the breaker how a permitted request went. A request that the
// caller cancelled says nothing about the source; it still has to give its
// permit back when it was the one probe of a half-open breaker.
func (g *guard) record(ctx context.Context, err error) {
	var f *Failure
	switch {
	case errors.As(err, &f) && f.Fault:
		g.note(f)
		g.breaker.RecordFailure()
	case f != nil:
		g.note(f)
		g.breaker.RecordSuccess()
	case err != nil && ctx.Err() != nil:
		if g.breaker.IsHalfOpen() {
			g.breaker.RecordFailure()
		}
	default:
		g.breaker.RecordSuccess()
	}
}

// note keeps what a failure says about the next request.
func (g *guard) note(f *Failure) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lastError = f.Err.Message
	if f.Err.RetryAfter > 0 {
		g.notBefore = g.now().Add(f.Err.RetryAfter)
	}
}

// revive lets the next query probe a source that a health check found well.
func (g *guard) revive() {
	if g.breaker.IsOpen() {
		g.breaker.HalfOpen()
	}
}

// budget allows one retry for every ten calls, so that a source which fails
// altogether gets at most 1.1 requests per call. It starts empty and saves up a
// few in good times. failsafe's own budget counts requests under way: it would
// allow every call a retry as long as few run at once.
type budget struct {
	mu    sync.Mutex
	saved float64
}

func (b *budget) deposit() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.saved = min(b.saved+retryShare, retrySavings)
}

func (b *budget) withdraw() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	// Ten deposits of a tenth are a little less than one.
	if b.saved < 1-1e-9 {
		return false
	}
	b.saved--
	return true
}

func (b *budget) left() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.saved
}
