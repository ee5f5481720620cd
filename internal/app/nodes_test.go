package app

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"aiops/internal/model"
)

// eventTable is the events of a store, of which some were there before anybody followed.
type eventTable struct {
	signal chan struct{}
	last   atomic.Int64
}

func (e *eventTable) EventSignal() (<-chan struct{}, func())     { return e.signal, func() {} }
func (e *eventTable) LastEventID(context.Context) (int64, error) { return e.last.Load(), nil }
func (e *eventTable) Events(_ context.Context, since int64, _ []string, _ int) (out []model.Event, _ error) {
	for id := since + 1; id <= e.last.Load(); id++ {
		out = append(out, model.Event{ID: id, Topic: "detectors/a"})
	}
	return out, nil
}

func (e *eventTable) add() {
	e.last.Add(1)
	e.signal <- struct{}{}
}

// TestChangesOfOtherNodesAreTakenUp: what was changed after the parts of the
// program had read the store, and before anybody followed it, is taken up at once;
// so is what changes later, and what could not be taken up with the next change.
func TestChangesOfOtherNodesAreTakenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table := &eventTable{signal: make(chan struct{}, 1)}
		table.last.Store(7)
		var syncs atomic.Int64
		var away, other atomic.Bool // other: an event that needs nothing
		c := changes{store: table, takeUp: func(model.Event) bool { return !other.Load() }, log: slog.New(slog.DiscardHandler),
			sync: func(context.Context) error {
				if away.Load() {
					return errors.New("away")
				}
				syncs.Add(1)
				return nil
			}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.follow(ctx) }()
		want := func(n int64, after time.Duration, when string) {
			t.Helper()
			<-time.After(after)
			synctest.Wait()
			if got := syncs.Load(); got != n {
				t.Fatalf("%s: synced %d times, want %d", when, got, n)
			}
		}
		want(1, 0, "at the start")
		want(1, 30*time.Second, "nothing changed")
		table.add()
		want(2, followPause, "after a change")
		away.Store(true)
		table.add()
		want(2, followPause, "it fails")
		away.Store(false)
		other.Store(true)
		table.add()
		want(3, followPause, "after the next event, for what failed")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
