package app

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"aiops/internal/model"
	"aiops/internal/source"
)

// lineFollower is a source whose new lines can be followed. Follow hands over
// the lines of a query from a time on, those that are there already first, and
// returns when ctx ends or it cannot go on.
type lineFollower interface {
	Follow(ctx context.Context, query string, from time.Time, sink source.LineSink) error
}

// followKey is one query that detectors on logs watch on a source.
type followKey struct{ source, query string }

// follower follows one query and says up to when its lines have come.
type follower struct {
	cancel context.CancelFunc
	done   chan struct{}

	since   atomic.Int64 // when it began to follow, nanoseconds; 0: it does not
	newest  atomic.Int64 // time of the newest line
	lastAt  atomic.Int64 // when a line came last
	arrived atomic.Int64 // up to when all lines have come
}

// How a follower knows that what was there already has come: a line from just
// now, or nothing for a while.
const (
	recentLine  = 10 * time.Second
	quietFollow = 5 * time.Second
	retryFollow = 5 * time.Second
)

// upTo is called with the time in nanoseconds, and returns up to when all lines
// have come. It never goes back, and stands still while the source is not
// followed.
func (f *follower) upTo(now int64) int64 {
	since := f.since.Load()
	if since == 0 {
		return f.arrived.Load()
	}
	newest, quiet := f.newest.Load(), now-max(since, f.lastAt.Load())
	at := newest
	if now-newest < int64(recentLine) || quiet > int64(quietFollow) {
		at = now
	}
	for {
		old := f.arrived.Load()
		if at <= old || f.arrived.CompareAndSwap(old, at) {
			return max(at, old)
		}
	}
}

// follow starts and stops followers so that they match the detectors.
func (w *logWork) follow(detectors []model.Detector) {
	wanted := map[followKey]bool{}
	for _, d := range detectors {
		if d.Enabled && d.Source != model.BuiltinSource {
			wanted[followKey{d.Source, d.Query}] = true
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.base == nil {
		return
	}
	for key, f := range w.followers {
		if !wanted[key] {
			f.cancel()
			<-f.done
			delete(w.followers, key)
			w.Unfollow(key.source, key.query)
		}
	}
	for key := range wanted {
		if w.followers[key] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(w.base)
		f := &follower{cancel: cancel, done: make(chan struct{})}
		w.followers[key] = f
		go func() {
			defer close(f.done)
			w.followOne(ctx, key, f)
		}()
	}
}

func (w *logWork) stopFollowers() {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all sync.WaitGroup
	for _, f := range w.followers {
		f.cancel()
		all.Go(func() { <-f.done })
	}
	all.Wait()
}

// followOne follows a query until ctx ends, with pauses after failures.
func (w *logWork) followOne(ctx context.Context, key followKey, f *follower) {
	for ctx.Err() == nil {
		if err := w.followOnce(ctx, key, f); err != nil && ctx.Err() == nil {
			w.log.Warn("log lines are not followed; trying again", "source", key.source, "err", err)
		}
		f.since.Store(0)
		timer := time.NewTimer(retryFollow)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

func (w *logWork) followOnce(ctx context.Context, key followKey, f *follower) error {
	c, err := w.sources.find(key.source)
	if err != nil {
		return err
	}
	lines, ok := c.(lineFollower)
	if !ok {
		return model.Errorf(model.KindConflict, model.SubjectSource, "the source %q has no log lines", key.source)
	}
	late := int64(c.LateData())
	from, err := w.Follow(key.source, key.query, func(now int64) int64 {
		if !c.Health().State.Usable() {
			return f.arrived.Load() - late
		}
		return f.upTo(now) - late
	})
	if err != nil {
		return err
	}
	f.arrived.CompareAndSwap(0, from.UnixNano())
	f.lastAt.Store(0)
	f.since.Store(time.Now().UnixNano())
	return lines.Follow(ctx, key.query, from, func(ctx context.Context, name string, found []model.LogLine) error {
		f.lastAt.Store(time.Now().UnixNano())
		newest := int64(0)
		for i := range found {
			newest = max(newest, found[i].T)
		}
		err := w.TakeFollowed(ctx, key.source, key.query, found)
		if err == nil && newest > f.newest.Load() {
			f.newest.Store(newest)
		}
		return err
	})
}
