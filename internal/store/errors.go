package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"aiops/internal/model"
)

// Sentinels of this package.
var (
	// ErrClosed is in the chain of what a closed store answers.
	ErrClosed = errors.New("the store is closed")

	// ErrNotHere is what the function of a task of an owned kind returns when
	// another node has to do the work. The task is queued again, for the node that
	// owns its detector then, which does not count as a failed run.
	ErrNotHere = errors.New("another node has to do this")

	// ErrFailed is in the chain of what a failed store answers. The process has
	// to exit: what it would write now could be lost.
	ErrFailed = errors.New("the store has failed")
)

// LockedError says that another process uses the data directory.
type LockedError struct {
	Path string // of the lock
	PID  int    // of its holder, 0 when unknown
}

// Error names the lock, its holder and what to do.
func (e *LockedError) Error() string {
	holder := "another process"
	if e.PID > 0 {
		holder = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("the data directory is in use: %s holds the lock %s; stop it, or choose another directory with --data-dir", holder, e.Path)
}

// retryStorageFull is how long a client should wait for space to come back.
const retryStorageFull = 10 * time.Second

// unknownText is for a write whose COMMIT was sent and not answered.
const unknownText = "the database stopped answering while it wrote, and may have written this; " +
	"look before you send it again, unless it has an Idempotency-Key or may happen twice"

// wrap turns an error of the database into a typed one. Errors that are typed
// already pass through; doing says what was attempted ("reading detectors").
func (s *Store) wrap(err error, doing string) error {
	if err == nil {
		return nil
	}
	var typed *model.Error
	if errors.As(err, &typed) {
		return err
	}
	cause := fmt.Errorf("%s: %w", doing, err)
	var unknown *unknownOutcome
	late, notReached := "the database did not answer in the time allowed; try again", "the database is not reachable at the moment; try again"
	if errors.As(err, &unknown) {
		late, notReached = unknownText, unknownText
	}
	switch {
	case errors.Is(err, context.Canceled):
		return cause
	case errors.Is(err, context.DeadlineExceeded):
		return model.WrapError(model.KindTimeout, "", cause, "%s", late)
	case errors.Is(err, sql.ErrConnDone), errors.Is(err, sql.ErrTxDone):
		return model.WrapError(model.KindDatabase, "", cause, "the connection to the database ended; try again")
	}
	kind, fatal := s.eng.Classify(err)
	if fatal {
		s.fail(cause)
		return model.WrapError(model.KindDatabase, "", errors.Join(ErrFailed, cause), "the database cannot be written or read reliably; the program stops to protect what is stored")
	}
	switch kind {
	case model.KindUnavailable:
		return model.WrapError(kind, "", cause, "%s", notReached)
	case model.KindStorageFull:
		e := model.WrapError(kind, "", cause, "no space is left for the database; free space on its disk")
		e.RetryAfter = retryStorageFull
		return e
	case model.KindConflict:
		return model.WrapError(kind, "", cause, "something with this name or id exists already")
	case model.KindTimeout:
		return model.WrapError(kind, "", cause, "%s", late)
	case model.KindInternal:
		return model.WrapError(model.KindDatabase, "", cause, "the database refused a statement")
	}
	return model.WrapError(kind, "", cause, "the database is busy; try again")
}
