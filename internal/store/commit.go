package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"

	"aiops/internal/model"
)

// writeFunc changes the database inside a transaction. It may run more than
// once, each time from scratch, and others may run in the same transaction
// before and after it; when it returns an error, what it did is undone.
type writeFunc func(ctx context.Context, tx *tx) error

// write is a writeFunc in the queue.
type write struct {
	fn     writeFunc
	taken  atomic.Bool // by the writer, or by the caller that gave up
	done   chan error  // capacity 1: the writer never waits for a caller
	queued time.Time
}

// tx is the transaction of a batch as a writeFunc sees it.
type tx struct {
	*sql.Tx
	now       int64 // milliseconds, the same for the whole batch
	forUpdate string
	forShare  string
	nowSQL    string // the database's clock
	blob      string // the type of bytes
	bun       *bun.DB
	stmts     *stmtCache // nil: the engine caches by itself

	events []*model.Event // to be numbered and written at the end of the batch
}

// exec runs a statement whose result does not matter.
func (t *tx) exec(ctx context.Context, query string, args ...any) error {
	_, err := t.ExecContext(ctx, query, args...)
	return err
}

// affected runs a statement and returns how many rows it changed.
func (t *tx) affected(ctx context.Context, query string, args ...any) (int64, error) {
	res, err := t.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// emit notes an event that is written with the transaction. Its number is
// known after the commit.
func (t *tx) emit(typ model.EventType, topic string, data any) (*model.Event, error) {
	b, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("encoding an event: %w", err)
	}
	e := &model.Event{Type: typ, Topic: cleanText(topic), Time: fromMillis(t.now), Data: b}
	t.events = append(t.events, e)
	return e, nil
}

// commit queues fn and waits until it is on disk. When ctx ends while fn is
// still queued, fn does not run. When it ends later, the outcome is unknown to
// the caller; the error says so. A full queue blocks.
func (s *Store) commit(ctx context.Context, doing string, fn writeFunc) error {
	if err := s.writable(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return s.wrap(err, doing)
	}
	w := &write{fn: s.claimed(ctx, fenced(ctx, fn)), done: make(chan error, 1), queued: time.Now()}
	select {
	case s.queue <- w:
	case <-ctx.Done():
		return s.wrap(ctx.Err(), doing)
	case <-s.closed:
		return closedError(doing)
	case <-s.failed:
		return s.wrap(s.failedError(), doing)
	}
	select {
	case err := <-w.done:
		return s.wrap(err, doing)
	case <-s.stopped:
		// The writer is gone. It may have answered just before.
		select {
		case err := <-w.done:
			return s.wrap(err, doing)
		default:
			return closedError(doing)
		}
	case <-ctx.Done():
		if w.taken.CompareAndSwap(false, true) {
			return s.wrap(ctx.Err(), doing)
		}
		return s.wrap(&unknownOutcome{ctx.Err()}, doing)
	}
}

func closedError(doing string) error {
	return model.WrapError(model.KindUnavailable, "", fmt.Errorf("%s: %w", doing, ErrClosed), "the program is stopping")
}

func (s *Store) failedError() error {
	return model.WrapError(model.KindDatabase, "", s.Err(), "the database has failed; the program stops to protect what is stored")
}

// writable answers at once when no write can succeed.
func (s *Store) writable() error {
	select {
	case <-s.failed:
		return s.failedError()
	default:
	}
	return s.space.Room()
}

// runWriter is the only goroutine that writes. It takes what is queued while
// the commit before was running: under load batches grow by themselves, and
// without load nothing waits.
func (s *Store) runWriter() {
	defer close(s.stopped)
	defer s.stmts.close()
	batch := make([]*write, 0, s.cfg.WriteBatch)
	for {
		select {
		case w := <-s.queue:
			batch = append(batch[:0], w)
		case <-s.closed:
			for { // what was queued before Close is still written
				batch = s.takeQueued(batch[:0])
				if len(batch) == 0 {
					return
				}
				s.runBatch(batch)
			}
		}
		batch = s.takeQueued(batch)
		s.runBatch(batch)
		clear(batch)
	}
}

func (s *Store) takeQueued(batch []*write) []*write {
	for len(batch) < s.cfg.WriteBatch {
		select {
		case w := <-s.queue:
			batch = append(batch, w)
		default:
			return batch
		}
	}
	return batch
}

// runBatch writes a batch and answers every caller in it.
func (s *Store) runBatch(batch []*write) {
	live := batch[:0]
	for _, w := range batch {
		if w.taken.CompareAndSwap(false, true) {
			live = append(live, w)
		}
	}
	if len(live) == 0 {
		return
	}
	if s.Err() != nil {
		answer(live, nil, s.failedError())
		return
	}
	if len(live) == 1 {
		results, err := s.tryAlone(live)
		answer(live, results, err)
		return
	}
	results, err := s.tryBatch(live)
	var unknown *unknownOutcome
	if err != nil && s.Err() == nil && !errors.As(err, &unknown) {
		// Something spoilt the whole transaction: a write too large for what is
		// left of the disk, a lost connection, a deadlock with another node. Alone,
		// the others may succeed.
		s.metrics.batchRetries.Inc()
		for _, w := range live {
			results, err := s.tryAlone([]*write{w})
			answer([]*write{w}, results, err)
		}
		return
	}
	answer(live, results, err)
}

// conflictTries is how often a write is tried that other nodes are in the way of.
const conflictTries = 5

// tryAlone is tryBatch for one write. Nodes that write the same things may wait
// for each other, of which the database gives one up: it is run again.
func (s *Store) tryAlone(one []*write) (results []error, err error) {
	for range conflictTries {
		if results, err = s.tryBatch(one); err == nil || !s.eng.Conflicted(err) {
			break
		}
	}
	return results, err
}

func answer(batch []*write, results []error, err error) {
	for i, w := range batch {
		if err != nil {
			w.done <- err
		} else {
			w.done <- results[i]
		}
	}
}

// unknownOutcome wraps the error of a COMMIT whose effect cannot be known, or of a
// caller that left while its write was under way.
type unknownOutcome struct{ err error }

func (e *unknownOutcome) Error() string { return "committing: " + e.err.Error() }
func (e *unknownOutcome) Unwrap() error { return e.err }

// tryBatch runs all functions of a batch in one transaction. It returns the
// error of each, or one error when nothing of the batch was written.
func (s *Store) tryBatch(batch []*write) (results []error, err error) {
	ctx, cancel := s.eng.BatchContext()
	defer cancel()
	start := time.Now()
	defer func() { s.observeBatch(batch, start, err) }()

	sqltx, err := s.write.DB.BeginTx(ctx, nil)
	if err != nil {
		return nil, s.note(fmt.Errorf("beginning: %w", err))
	}
	t := s.newTx(sqltx)
	t.stmts = s.stmts
	results, err = s.runFuncs(ctx, t, batch)
	if err == nil {
		err = s.writeEvents(ctx, t)
	}
	if err != nil {
		// A rollback that fails has nothing to add: the connection is discarded.
		_ = sqltx.Rollback()
		return nil, s.note(err)
	}
	if err := sqltx.Commit(); err != nil {
		return nil, s.note(&unknownOutcome{err})
	}
	if len(t.events) > 0 {
		s.signal.wake()
	}
	s.stmts.fill(ctx, s.write.DB)
	if err := s.eng.AfterCommit(ctx); err != nil {
		// The batch is on disk; only what follows may be refused.
		s.log.Warn("the log could not be copied into the database", "err", s.note(err))
	}
	return results, nil
}

func (s *Store) newTx(sqltx *sql.Tx) *tx {
	return &tx{Tx: sqltx, now: s.now().UnixMilli(), forUpdate: s.eng.ForUpdate(), forShare: s.eng.ForShare(), nowSQL: s.eng.NowSQL(), blob: s.eng.BlobType(), bun: s.write}
}

// note marks the store as failed when err says that it is.
func (s *Store) note(err error) error {
	if _, fatal := s.eng.Classify(err); fatal {
		s.fail(err)
	}
	return err
}

// runFuncs runs the functions of a batch, each behind a savepoint when there
// are several, so that one which fails does not undo the others.
func (s *Store) runFuncs(ctx context.Context, t *tx, batch []*write) ([]error, error) {
	results := make([]error, len(batch))
	for i, w := range batch {
		alone := len(batch) == 1
		if !alone {
			if err := t.exec(ctx, "SAVEPOINT w"); err != nil {
				return nil, err
			}
		}
		events := len(t.events)
		err := w.fn(ctx, t)
		if err != nil {
			t.events = t.events[:events]
			if alone || s.spoils(err) {
				return nil, err
			}
			results[i] = err
			if err := t.exec(ctx, "ROLLBACK TO SAVEPOINT w"); err != nil {
				return nil, err
			}
		}
		if !alone {
			if err := t.exec(ctx, "RELEASE SAVEPOINT w"); err != nil {
				return nil, err
			}
		}
	}
	return results, nil
}

// spoils reports whether err ends the whole transaction, not only the function
// that met it.
func (s *Store) spoils(err error) bool {
	var typed *model.Error
	if errors.As(err, &typed) {
		return false
	}
	kind, fatal := s.eng.Classify(err)
	return fatal || kind == model.KindStorageFull || kind == model.KindDatabase || kind == model.KindUnavailable || kind == model.KindTimeout ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, sql.ErrTxDone)
}

// eventsPerInsert bounds the arguments of one statement.
const eventsPerInsert = 100

// writeEvents numbers the events of a batch and writes them. The row of the
// counter stays locked until the commit, which makes the order of the numbers
// the order of the commits, and a rollback takes the numbers back.
func (s *Store) writeEvents(ctx context.Context, t *tx) error {
	if len(t.events) == 0 {
		return nil
	}
	var last int64
	if err := t.QueryRowContext(ctx, `UPDATE counters SET value = value + $1 WHERE name = 'events' RETURNING value`,
		len(t.events)).Scan(&last); err != nil {
		return fmt.Errorf("numbering events: %w", err)
	}
	first := last - int64(len(t.events)) + 1
	var query strings.Builder
	args := make([]any, 0, 5*eventsPerInsert)
	for i, e := range t.events {
		e.ID = first + int64(i)
		if len(args) == 0 {
			query.Reset()
			query.WriteString("INSERT INTO events (id, type, topic, time, data) VALUES ")
		} else {
			query.WriteByte(',')
		}
		writePlaceholders(&query, len(args)+1, 5)
		args = append(args, e.ID, string(e.Type), e.Topic, toMillis(e.Time), string(e.Data))
		if len(args) == cap(args) || i == len(t.events)-1 {
			if err := t.exec(ctx, query.String(), args...); err != nil {
				return fmt.Errorf("writing events: %w", err)
			}
			args = args[:0]
		}
	}
	if notify := s.eng.NotifySQL(); notify != "" {
		if err := t.exec(ctx, notify, strconv.FormatInt(last, 10)); err != nil {
			return fmt.Errorf("announcing events: %w", err)
		}
	}
	return nil
}

// writePlaceholders writes ($first,…) with n of them.
func writePlaceholders(b *strings.Builder, first, n int) {
	b.WriteByte('(')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(first + i))
	}
	b.WriteByte(')')
}
