package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"aiops/internal/model"
)

type eventRow struct {
	ID    int64  `bun:"id"`
	Type  string `bun:"type"`
	Topic string `bun:"topic"`
	Time  int64  `bun:"time"`
	Data  string `bun:"data"`
}

// MaxEvents is the largest number of events that Events returns at once.
const MaxEvents = 1000

// AppendEvent writes an event that no other change carries, such as
// system.health_changed, and returns it with its number. Its ID and Time are
// set here; Data must be valid JSON, or empty for null.
func (s *Store) AppendEvent(ctx context.Context, e model.Event) (model.Event, error) {
	if e.Type == "" || e.Topic == "" {
		return model.Event{}, model.Errorf(model.KindInvalid, "", "an event needs a type and a topic")
	}
	if len(e.Data) > 0 && !json.Valid(e.Data) {
		return model.Event{}, model.Errorf(model.KindInvalid, "", "the data of an event is not valid JSON")
	}
	if len(e.Data) == 0 {
		e.Data = json.RawMessage("null")
	}
	var written *model.Event
	err := s.commit(ctx, "writing an event", func(_ context.Context, tx *tx) (err error) {
		written, err = tx.emit(e.Type, e.Topic, e.Data)
		return err
	})
	if err != nil {
		return model.Event{}, err
	}
	return *written, nil
}

// Events returns the events after number since, oldest first, at most limit
// and at most MaxEvents of them. A topic of the list matches itself and what
// lies below it: "anomalies" matches "anomalies" and "anomalies/{id}". An empty
// list matches everything. A reader that passes the last number it saw misses
// nothing and sees nothing twice; when since lies before OldestEventID-1, what
// was between is gone and the reader has to start over from the state itself.
func (s *Store) Events(ctx context.Context, since int64, topics []string, limit int) ([]model.Event, error) {
	if limit <= 0 || limit > MaxEvents {
		limit = MaxEvents
	}
	args := []any{since, limit}
	var where strings.Builder
	for i, t := range topics {
		if i == 0 {
			where.WriteString(" AND (")
		} else {
			where.WriteString(" OR ")
		}
		t = cleanText(t)
		// '0' is the byte after '/': a range of the index, and nothing to escape.
		args = append(args, t, t+"/", t+"0")
		fmt.Fprintf(&where, "topic = $%d OR (topic > $%d AND topic < $%d)", len(args)-2, len(args)-1, len(args))
	}
	if len(topics) > 0 {
		where.WriteByte(')')
	}
	found, err := rows[eventRow](ctx, s.read, s.read.DB,
		`SELECT id, type, topic, time, data FROM events WHERE id > $1`+where.String()+` ORDER BY id LIMIT $2`, args...)
	if err != nil {
		return nil, s.wrap(err, "reading events")
	}
	out := make([]model.Event, len(found))
	for i, r := range found {
		out[i] = model.Event{ID: r.ID, Type: model.EventType(r.Type), Topic: r.Topic,
			Time: fromMillis(r.Time), Data: json.RawMessage(r.Data)}
	}
	return out, nil
}

// LastEventID returns the number of the newest event, 0 when there was none.
func (s *Store) LastEventID(ctx context.Context) (int64, error) {
	var n int64
	err := s.read.DB.QueryRowContext(ctx, `SELECT value FROM counters WHERE name = 'events'`).Scan(&n)
	return n, s.wrap(err, "reading the last event")
}

// OldestEventID returns the number of the oldest event that is still kept. When
// none is, it is the number that the next one will get.
func (s *Store) OldestEventID(ctx context.Context) (int64, error) {
	var n int64
	err := s.read.DB.QueryRowContext(ctx, `SELECT coalesce((SELECT min(id) FROM events),
		(SELECT value + 1 FROM counters WHERE name = 'events'))`).Scan(&n)
	return n, s.wrap(err, "reading the oldest event")
}

// EventSignal returns a channel that holds a token whenever events may have
// been written since the token before was taken, by this process or another,
// and a function that unsubscribes. Read the events before the first wait.
func (s *Store) EventSignal() (signal <-chan struct{}, stop func()) { return s.signal.subscribe() }

// Changes returns a number that grows with each commit that holds an event:
// before the commit is acknowledged when it is this process's own, else within
// a moment. It costs nothing.
func (s *Store) Changes() uint64 { return s.signal.wakes.Load() }

// pruneStep bounds the rows deleted in one transaction, so that pruning never
// holds up the writers for long.
const pruneStep = 5000

// PruneEvents deletes the oldest events, up to the first one at or after the
// given time, and returns how many. The newest event stays.
func (s *Store) PruneEvents(ctx context.Context, before time.Time) (int64, error) {
	limit := toMillis(before)
	return s.prune(ctx, "pruning events", func(ctx context.Context, tx *tx) (int64, error) {
		// Only a prefix goes, whatever the clocks of several nodes said, so that
		// what is left has no gaps.
		oldest, err := rows[eventRow](ctx, tx.bun, tx, `SELECT id, time FROM events ORDER BY id LIMIT $1`, pruneStep)
		if err != nil {
			return 0, err
		}
		upTo := int64(0)
		for _, e := range oldest {
			if e.Time >= limit {
				break
			}
			upTo = e.ID
		}
		return tx.affected(ctx, `DELETE FROM events WHERE id <= $1 AND id < (SELECT value FROM counters WHERE name = 'events')`, upTo)
	})
}

// prune repeats a bounded deletion until it has nothing more to do.
func (s *Store) prune(ctx context.Context, doing string, step func(context.Context, *tx) (int64, error)) (int64, error) {
	var total int64
	for {
		var n int64
		if err := s.commit(ctx, doing, func(ctx context.Context, tx *tx) (err error) {
			n, err = step(ctx, tx)
			return err
		}); err != nil {
			return total, err
		}
		total += n
		if n < pruneStep {
			return total, nil
		}
	}
}

// runListener wakes the readers of events for what other processes wrote. It
// also looks at the counter now and then: an announcement can get lost with its
// connection.
func (s *Store) runListener(ctx context.Context) {
	s.done.Go(func() { s.pollEvents(ctx) })
	for ctx.Err() == nil {
		err := s.eng.Listen(ctx, []string{eventChannel, liveChannel}, s.hear)
		if ctx.Err() != nil {
			return
		}
		s.log.Warn("announcements of events are interrupted; polling goes on", "err", err)
		pause(ctx, listenRetry)
	}
}

// hear takes an announcement. It does not block.
func (s *Store) hear(channel, text string) {
	if channel != liveChannel {
		s.signal.wake()
		return
	}
	if text == "" {
		return
	}
	select {
	case s.heard <- text:
	default:
		s.metrics.unheard.Inc()
	}
}

const (
	eventChannel = "aiops_events"
	liveChannel  = "aiops_live"
	eventPoll    = time.Second
	listenRetry  = time.Second
)

func (s *Store) pollEvents(ctx context.Context) {
	if s.eng.NotifySQL() == "" {
		return // nobody else writes
	}
	var last int64
	for pause(ctx, eventPoll) {
		n, err := s.LastEventID(ctx)
		if err == nil && n != last {
			last = n
			s.signal.wake()
		}
	}
}

// pause waits for d; it returns false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
