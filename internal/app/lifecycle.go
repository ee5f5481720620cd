package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// lifecycle is the list of what was started and has to be stopped, in reverse
// order. A failure during set-up takes the same path as a stop.
type lifecycle struct {
	log   *slog.Logger
	stops []stop

	mu     sync.Mutex
	failed chan error // the first component that ended by itself
}

type stop struct {
	name string
	f    func(ctx context.Context) error
}

func newLifecycle(log *slog.Logger) *lifecycle {
	return &lifecycle{log: log, failed: make(chan error, 1)}
}

// onStop registers how to stop what was just started.
func (l *lifecycle) onStop(name string, f func(ctx context.Context) error) {
	l.stops = append(l.stops, stop{name, f})
}

// run starts a component. When it returns before it was stopped, the program
// stops with its error. Its stop cancels it and waits for it to return.
func (l *lifecycle) run(name string, f func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := guard(name, ctx, f)
		if ctx.Err() == nil {
			if err == nil {
				err = errors.New("it ended by itself")
			}
			l.fail(fmt.Errorf("running %s: %w", name, err))
		}
		done <- err
	}()
	l.onStop(name, func(bound context.Context) error {
		cancel()
		select {
		case err := <-done:
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		case <-bound.Done():
			return fmt.Errorf("%s did not stop in time", name)
		}
	})
}

// guard turns a panic of a component into an error, so that the others are
// stopped in order and what they hold is written.
func guard(name string, ctx context.Context, f func(ctx context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("BUG: %s panicked: %v", name, p)
			panicked(name, p)
		}
	}()
	return f(ctx)
}

// fail notes the first failure of a component.
func (l *lifecycle) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.failed <- err:
	default:
	}
}

// unwind stops everything, last started first, within the bound of ctx, and
// joins the errors.
func (l *lifecycle) unwind(ctx context.Context) error {
	var errs []error
	for i := len(l.stops) - 1; i >= 0; i-- {
		s := l.stops[i]
		began := time.Now()
		if err := s.f(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stopping %s: %w", s.name, err))
		}
		l.log.Debug("stopped", "part", s.name, "duration_ms", time.Since(began).Milliseconds())
	}
	l.stops = nil
	return errors.Join(errs...)
}
