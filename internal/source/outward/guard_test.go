package outward

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"aiops/internal/model"
)

func fails(retryAfter time.Duration) error {
	f := unavailable(model.SubjectPrometheus, nil, true, "the source fails")
	f.Err.RetryAfter = retryAfter
	return f
}

// A source that fails altogether must not get more requests than there are
// calls, but for one in ten; the breaker makes it far fewer.
func TestNoAmplificationWhenAllFails(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		breaker bool
	}{{"breaker and budget", true}, {"budget alone", false}} {
		synctest.Test(t, func(t *testing.T) {
			g := newGuard(model.SubjectPrometheus, 8, time.Now, func() {})
			var sent atomic.Int64
			good := true
			calls := 0
			call := func() {
				calls++
				_ = g.do(t.Context(), true, func(context.Context) error {
					sent.Add(1)
					if good {
						return nil
					}
					return fails(0)
				})
				if !tc.breaker {
					g.breaker.Close()
				}
			}
			for range 1000 { // good times save up retries
				call()
			}
			good, calls = false, 0
			sent.Store(0)
			for begin := time.Now(); time.Since(begin) < 5*time.Minute; {
				call()
				<-time.After(time.Second)
			}
			limit := 1.1*float64(calls) + retrySavings
			if got := float64(sent.Load()); got > limit || got == 0 {
				t.Errorf("%s: %v requests for %d calls, want at most %v", tc.name, got, calls, limit)
			}
			if got := float64(sent.Load()); tc.breaker && got > float64(calls) {
				t.Errorf("%s: %v requests for %d calls, want fewer", tc.name, got, calls)
			}
		})
	}
}

func TestRetriesWithinTheBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		retries := 0
		g := newGuard(model.SubjectPrometheus, 8, time.Now, func() { retries++ })
		g.budget.saved = 3
		attempts := 0
		begin := time.Now()
		err := g.do(t.Context(), true, func(context.Context) error {
			if attempts++; attempts < maxAttempts {
				return fails(0)
			}
			return nil
		})
		if err != nil || attempts != 3 || retries != 2 {
			t.Errorf("%d attempts with %d retries: %v, want success at the third", attempts, retries, err)
		}
		if waited := time.Since(begin); waited > retryBase+2*retryBase {
			t.Errorf("waited %s", waited)
		}
		attempts = 0
		err = g.do(t.Context(), true, func(context.Context) error { attempts++; return fails(0) })
		if !errors.As(err, new(*Failure)) || attempts != 2 {
			t.Errorf("%d attempts: %v, want the failure itself after the budget's last retry", attempts, err)
		}
	})
}

// The delays are spread over the whole bound, not around its middle.
func TestFullJitter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const runs = 400
		early, late := 0, 0
		for range runs {
			g := newGuard(model.SubjectPrometheus, 8, time.Now, func() {})
			g.budget.saved = 1
			attempts := 0
			begin := time.Now()
			_ = g.do(t.Context(), true, func(context.Context) error {
				if attempts++; attempts > 1 {
					return nil
				}
				return fails(0)
			})
			switch waited := time.Since(begin); {
			case waited > retryBase:
				t.Fatalf("waited %s, more than %s", waited, retryBase)
			case waited < retryBase/4:
				early++
			case waited > retryBase*3/4:
				late++
			}
		}
		if early < runs/8 || late < runs/8 {
			t.Errorf("of %d delays %d are in the first quarter and %d in the last", runs, early, late)
		}
	})
}

func TestRetryAfterIsObeyed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(model.SubjectPrometheus, 8, time.Now, func() {})
		g.budget.saved = 3
		sent := 0
		begin := time.Now()
		err := g.do(t.Context(), true, func(context.Context) error { sent++; return fails(time.Minute) })
		if sent != 1 || err == nil {
			t.Fatalf("%d requests, want one: a long wait is for the caller to do", sent)
		}
		for time.Since(begin) < time.Minute-time.Second {
			err := g.do(t.Context(), true, func(context.Context) error { sent++; return nil })
			var f *Failure
			if !errors.As(err, &f) || f.Outcome != OutcomeRefused {
				t.Fatalf("after %s: %v, want a refusal", time.Since(begin), err)
			}
			if left := time.Minute - time.Since(begin); f.Err.RetryAfter != left {
				t.Fatalf("told to wait %s, want %s", f.Err.RetryAfter, left)
			}
			<-time.After(time.Second)
		}
		<-time.After(2 * time.Second)
		if err := g.do(t.Context(), true, func(context.Context) error { sent++; return nil }); err != nil || sent != 2 {
			t.Errorf("afterwards: %v, %d requests", err, sent)
		}

		// A short wait is done here.
		g.budget.saved = 3
		sent, begin = 0, time.Now()
		err = g.do(t.Context(), true, func(context.Context) error {
			if sent++; sent == 1 {
				return fails(3 * time.Second)
			}
			return nil
		})
		if err != nil || time.Since(begin) < 3*time.Second {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
	})
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(model.SubjectPrometheus, 8, time.Now, func() {})
		sent := 0
		failing := func(context.Context) error { sent++; return fails(0) }
		for range 20 {
			_ = g.do(t.Context(), true, failing)
		}
		if sent != breakerLeast || !g.breaker.IsOpen() {
			t.Fatalf("%d requests before the breaker opened, want %d", sent, breakerLeast)
		}
		err := g.do(t.Context(), true, failing)
		if e := requireError(t, err, model.KindSourceUnavailable, "kept failing: the source fails"); e.RetryAfter != breakerDelay {
			t.Errorf("told to wait %s, want %s", e.RetryAfter, breakerDelay)
		}

		// Half open, a probe that its caller cancels must neither close the
		// breaker nor keep the only permit.
		<-time.After(breakerDelay)
		ctx, cancel := context.WithCancel(t.Context())
		err = g.do(ctx, true, func(context.Context) error { cancel(); return ctx.Err() })
		if !errors.Is(err, context.Canceled) || g.breaker.IsClosed() {
			t.Fatalf("cancelled probe: %v, breaker %s", err, g.breaker.State())
		}
		<-time.After(breakerDelay)
		if err := g.do(t.Context(), true, func(context.Context) error { return nil }); err != nil || !g.breaker.IsClosed() {
			t.Errorf("good probe: %v, breaker %s", err, g.breaker.State())
		}

		// A health check that succeeds lets a probe through at once.
		for range 20 {
			_ = g.do(t.Context(), true, failing)
		}
		g.revive()
		if err := g.do(t.Context(), true, func(context.Context) error { return nil }); err != nil || !g.breaker.IsClosed() {
			t.Errorf("after revival: %v, breaker %s", err, g.breaker.State())
		}
	})
}

func TestBulkhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(model.SubjectPrometheus, 2, time.Now, func() {})
		release := make(chan struct{})
		var running, most, done atomic.Int64
		for range 2 * queueFactor {
			go func() {
				_ = g.do(t.Context(), true, func(context.Context) error {
					if n := running.Add(1); n > most.Load() {
						most.Store(n)
					}
					<-release
					running.Add(-1)
					done.Add(1)
					return nil
				})
			}()
		}
		synctest.Wait()
		err := g.do(t.Context(), true, func(context.Context) error { return nil })
		requireError(t, err, model.KindOverloaded, "64 queries wait for the source already")
		close(release)
		synctest.Wait()
		if most.Load() != 2 || done.Load() != 2*queueFactor {
			t.Errorf("%d at a time, %d done, want 2 and %d", most.Load(), done.Load(), 2*queueFactor)
		}

		// Waiting ends with the caller's context.
		release = make(chan struct{})
		for range 2 {
			go func() {
				_ = g.do(t.Context(), true, func(context.Context) error { <-release; return nil })
			}()
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.do(ctx, true, func(context.Context) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting ended with %v", err)
		}
		close(release)
	})
}
