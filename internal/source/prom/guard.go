package prom

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
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
	retry   failsafe.Executor[*answer]
	breaker circuitbreaker.CircuitBreaker[any]
	places  bulkhead.Bulkhead[any]
	waiting chan struct{} // a slot per call that waits for a place or runs
	budget  budget
	now     func() time.Time
	onRetry func()

	mu        sync.Mutex
	notBefore time.Time // nothing is sent earlier
	lastError string
}

func newGuard(concurrency int, now func() time.Time, onRetry func()) *guard {
	g := &guard{
		now:     now,
		onRetry: onRetry,
		places:  bulkhead.New[any](uint(concurrency)),
		waiting: make(chan struct{}, concurrency*queueFactor),
		// The rate is a share of 1. The delay is fixed, because failsafe asks a
		// delay function with a nil execution when a result is recorded by hand.
		breaker: circuitbreaker.NewBuilder[any]().
			WithFailureRateThreshold(breakerRate, breakerLeast, breakerPeriod).
			WithSuccessThreshold(breakerProbes).
			WithDelay(breakerDelay).
			Build(),
	}
	policy := retrypolicy.NewBuilder[*answer]().
		HandleIf(func(_ *answer, err error) bool {
			var f *failure
			return errors.As(err, &f) && f.retry
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
func retryDelay(exec failsafe.ExecutionAttempt[*answer]) time.Duration {
	bound := min(retryBase<<min(exec.Attempts()-1, 8), retryMax)
	delay := rand.N(bound)
	var f *failure
	if errors.As(exec.LastError(), &f) {
		delay += f.err.RetryAfter
	}
	return delay
}

// sendFunc sends one request and decodes its answer.
type sendFunc func(ctx context.Context) (*answer, error)

// do runs send under all guards. The error is a *failure or the caller's own
// context's.
func (g *guard) do(ctx context.Context, send sendFunc) (*answer, error) {
	select {
	case g.waiting <- struct{}{}:
		defer func() { <-g.waiting }()
	default:
		return nil, &failure{
			err:   model.Errorf(model.KindOverloaded, model.SubjectPrometheus, "%d queries wait for the source already; ask again later, or give it fewer detectors", cap(g.waiting)),
			label: outcomeRefused,
		}
	}
	g.budget.deposit()
	var last *failure
	ans, err := g.retry.WithContext(ctx).GetWithExecution(func(exec failsafe.Execution[*answer]) (*answer, error) {
		if exec.Retries() > 0 {
			g.onRetry()
		}
		ans, err := g.once(exec.Context(), send)
		var f *failure
		if errors.As(err, &f) {
			last = f
			if f.retry && !g.mayRetry(ctx, exec, f) {
				final := *f
				final.retry = false
				err = &final
			}
		}
		return ans, err
	})
	if last != nil && ctx.Err() != nil && errors.Is(context.Cause(ctx), errOwnTimeout) {
		// failsafe puts the context's error in place of the attempt's.
		return nil, last
	}
	return ans, err
}

// mayRetry decides whether a failed attempt is worth another one, and takes it
// from the budget if so.
func (g *guard) mayRetry(ctx context.Context, exec failsafe.Execution[*answer], f *failure) bool {
	if exec.Attempts() >= maxAttempts || f.err.RetryAfter > longestWait {
		return false
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < f.err.RetryAfter+retryMax {
		return false
	}
	return g.budget.withdraw()
}

// once waits for a place and sends, if the source is to be asked at all.
func (g *guard) once(ctx context.Context, send sendFunc) (*answer, error) {
	if err := g.places.AcquirePermit(ctx); err != nil {
		return nil, ctx.Err()
	}
	defer g.places.ReleasePermit()
	if err := g.mayAsk(); err != nil {
		return nil, err
	}
	if !g.breaker.TryAcquirePermit() {
		return nil, g.refused(g.breaker.RemainingDelay(), "the source is not asked for now, because it kept failing: ")
	}
	ans, err := send(ctx)
	g.record(err)
	return ans, err
}

// mayAsk refuses while a Retry-After runs.
func (g *guard) mayAsk() error {
	g.mu.Lock()
	wait := g.notBefore.Sub(g.now())
	g.mu.Unlock()
	if wait <= 0 {
		return nil
	}
	return g.refused(wait, "the source is not asked for now, because it asked for time: ")
}

func (g *guard) refused(wait time.Duration, why string) *failure {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := model.Errorf(model.KindSourceUnavailable, model.SubjectPrometheus, "%s%s", why, g.lastError)
	e.RetryAfter = wait
	return &failure{err: e, label: outcomeRefused}
}

// record tells the breaker how a permitted request went. A request that the
// caller cancelled says nothing about the source; it still has to give its
// permit back when it was the one probe of a half-open breaker.
func (g *guard) record(err error) {
	var f *failure
	switch {
	case err == nil:
		g.breaker.RecordSuccess()
	case !errors.As(err, &f):
		if g.breaker.IsHalfOpen() {
			g.breaker.RecordFailure()
		}
	case f.fault:
		g.note(f)
		g.breaker.RecordFailure()
	default:
		g.note(f)
		g.breaker.RecordSuccess()
	}
}

// note keeps what a failure says about the next request.
func (g *guard) note(f *failure) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lastError = f.err.Message
	if f.err.RetryAfter > 0 {
		g.notBefore = g.now().Add(f.err.RetryAfter)
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
