package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"aiops/internal/model"
)

func fingerprint(k model.IdempotencyKey) string {
	return cleanText(fmt.Sprintf("%d:%s %s", len(k.Operation), k.Operation, k.BodyHash))
}

// idempotencyKept is how long a key is remembered, and idempotencyStale how
// long an unfinished one of another process blocks its repetition: that process
// has ended long before, or its request has timed out.
const (
	idempotencyKept  = 24 * time.Hour
	idempotencyStale = 2 * time.Minute
)

// maxStoredBody bounds the body of an answer that is stored for replay.
const maxStoredBody = 1 << 20

// unanswered is the status of a key whose request was carried out, but has no
// answer that could be sent again.
const unanswered = -1

// abandonedAfter is how long after the last try to end a claim it counts as
// left behind.
const abandonedAfter = 10 * time.Second

// claims are those of this process. The zero value is ready.
type claims struct {
	mu     sync.Mutex
	failed map[[2]string]time.Time // by principal and key: when ending it failed; zero while it is served
}

// claiming is one call of BeginIdempotent. The fields belong to the lock of claims.
type claiming struct {
	got  bool // the writer has given it the claim, perhaps in vain
	left bool // its caller was told that it failed, perhaps before
}

// serve notes that a request with the key is being served, if its caller still waits for that.
func (c *claims) serve(by *claiming, principal, key string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed == nil {
		c.failed = map[[2]string]time.Time{}
	}
	by.got = true
	at := time.Time{}
	if by.left {
		at = now
	}
	c.failed[[2]string{principal, key}] = at
}

// leave notes that the caller was told that it got no claim. It may be written all the same,
// also later; then nobody serves it.
func (c *claims) leave(by *claiming, principal, key string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	by.left = true
	if by.got {
		c.failed[[2]string{principal, key}] = now
	}
}

// end notes how ending a claim went.
func (c *claims) end(principal, key string, now time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := [2]string{principal, key}
	if _, ok := c.failed[id]; !ok {
		return
	}
	if err == nil || model.KindOf(err) == model.KindConflict {
		delete(c.failed, id)
		return
	}
	c.failed[id] = now
}

// left reports whether nobody serves a request with the key any more.
func (c *claims) left(principal, key string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.failed[[2]string{principal, key}]
	return !ok || !at.IsZero() && now.Sub(at) >= abandonedAfter
}

// prune forgets the claims that nobody asked for since.
func (c *claims) prune(before time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.failed, func(_ [2]string, at time.Time) bool { return !at.IsZero() && at.Before(before) })
}

type claimKey struct{}

// WithClaim returns a context for the work of a request that claimed k. Every
// write with it marks the claim in its own transaction, so that what was
// written and that it was written are known together, and fails with
// KindConflict when another process has taken the claim over.
func (s *Store) WithClaim(ctx context.Context, k model.IdempotencyKey) context.Context {
	return context.WithValue(ctx, claimKey{}, k)
}

// claimed adds to fn that the claim of ctx, if it has one, has an effect.
func (s *Store) claimed(ctx context.Context, fn writeFunc) writeFunc {
	k, ok := ctx.Value(claimKey{}).(model.IdempotencyKey)
	if !ok {
		return fn
	}
	return func(ctx context.Context, tx *tx) error {
		n, err := tx.affected(ctx, `UPDATE idempotency SET effect = 1 WHERE principal = $1 AND key = $2 AND owner = $3`,
			cleanText(k.Principal), cleanText(k.Key), s.instance)
		if err != nil {
			return fmt.Errorf("marking the key: %w", err)
		}
		if n == 0 {
			return model.Errorf(model.KindConflict, "", "another request with this Idempotency-Key has taken the place of this one, which took too long")
		}
		return fn(ctx, tx)
	}
}

// BeginIdempotent claims a key for one request. Of any number of callers with
// the same key, one gets IdempotencyFresh; it serves the request, with the
// context that WithClaim gives, and then calls FinishIdempotent. Keys belong to
// a principal and are remembered for 24 hours. A claim that a crashed process
// left behind is given to the next caller with the same request, unless that
// process had written something for it: then it is IdempotencyUnanswered.
func (s *Store) BeginIdempotent(ctx context.Context, k model.IdempotencyKey) (model.IdempotencyState, *model.StoredAnswer, error) {
	var state model.IdempotencyState
	var answer *model.StoredAnswer
	by := &claiming{}
	principal, key := cleanText(k.Principal), cleanText(k.Key)
	err := s.commit(ctx, "claiming an idempotency key", func(ctx context.Context, tx *tx) (err error) {
		state, answer, err = s.beginIdempotent(ctx, tx, by, principal, key, fingerprint(k))
		return err
	})
	if err != nil {
		s.claims.leave(by, principal, key, s.now())
		return 0, nil, err
	}
	if answer != nil && answer.Body != nil {
		if answer.Body, err = s.codec.unpack(answer.Body); err != nil {
			return 0, nil, model.WrapError(model.KindDatabase, "", err, "a stored answer cannot be read")
		}
	}
	return state, answer, nil
}

func (s *Store) beginIdempotent(ctx context.Context, tx *tx, by *claiming, principal, key, fingerprint string) (model.IdempotencyState, *model.StoredAnswer, error) {
	// The insert comes first: of two nodes with the same key, the second waits
	// for the first here and then sees its row.
	n, err := tx.affected(ctx, `INSERT INTO idempotency (principal, key, fingerprint, owner, status, header, body, created_at)
		VALUES ($1, $2, $3, $4, 0, '', NULL, $5) ON CONFLICT (principal, key) DO NOTHING`, principal, key, fingerprint, s.instance, tx.now)
	if err != nil || n == 1 {
		s.claims.serve(by, principal, key, s.now())
		return model.IdempotencyFresh, nil, err
	}
	var oldPrint, owner, header string
	var status, created, effect int64
	var body []byte
	err = tx.QueryRowContext(ctx, `SELECT fingerprint, owner, status, header, body, created_at, effect FROM idempotency
		WHERE principal = $1 AND key = $2`+tx.forUpdate, principal, key).Scan(&oldPrint, &owner, &status, &header, &body, &created, &effect)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, nil, fmt.Errorf("reading the key: %w", err)
	}
	age := time.Duration(tx.now-created) * time.Millisecond
	expired := age >= idempotencyKept
	// SQLite has one process: a claim of another instance is one of a past life.
	left := status == 0 && owner != s.instance && (s.eng.NotifySQL() == "" || age >= idempotencyStale) ||
		status == 0 && owner == s.instance && s.claims.left(principal, key, s.now())
	switch {
	case expired || left && oldPrint == fingerprint && effect == 0:
		s.claims.serve(by, principal, key, s.now())
		return model.IdempotencyFresh, nil, tx.exec(ctx, `UPDATE idempotency SET fingerprint = $3, owner = $4, status = 0, header = '', body = NULL,
			effect = 0, created_at = $5 WHERE principal = $1 AND key = $2`, principal, key, fingerprint, s.instance, tx.now)
	case oldPrint != fingerprint:
		return model.IdempotencyMismatch, nil, nil
	case status == unanswered || left:
		return model.IdempotencyUnanswered, nil, nil
	case status == 0:
		return model.IdempotencyInProgress, nil, nil
	}
	answer := &model.StoredAnswer{Status: int(status), Body: body}
	if err := json.Unmarshal([]byte(header), &answer.Header); err != nil {
		return 0, nil, model.WrapError(model.KindDatabase, "", err, "a stored answer cannot be read")
	}
	return model.IdempotencyReplay, answer, nil
}

// FinishIdempotent stores the answer to a claimed key for its repetitions, or
// gives the claim back when answer is nil, so that the request can be sent
// again: after a failure that a repetition can overcome. A claim with an effect
// is not given back but becomes IdempotencyUnanswered. One that could not be
// ended is given to the next caller 10 s after the last try. A body above 1 MiB is
// KindTooLarge; a key that this process has not claimed is a KindConflict.
func (s *Store) FinishIdempotent(ctx context.Context, k model.IdempotencyKey, answer *model.StoredAnswer) error {
	principal, key := cleanText(k.Principal), cleanText(k.Key)
	err := s.finishIdempotent(ctx, principal, key, answer)
	s.claims.end(principal, key, s.now(), err)
	return err
}

func (s *Store) finishIdempotent(ctx context.Context, principal, key string, answer *model.StoredAnswer) error {
	if answer == nil {
		return s.commit(ctx, "giving back an idempotency key", func(ctx context.Context, tx *tx) error {
			if err := tx.exec(ctx, `DELETE FROM idempotency WHERE principal = $1 AND key = $2 AND owner = $3 AND status = 0 AND effect = 0`,
				principal, key, s.instance); err != nil {
				return err
			}
			return tx.exec(ctx, `UPDATE idempotency SET status = $4 WHERE principal = $1 AND key = $2 AND owner = $3 AND status = 0`,
				principal, key, s.instance, unanswered)
		})
	}
	if len(answer.Body) > maxStoredBody {
		return model.Errorf(model.KindTooLarge, "", "an answer of %d bytes is too large to be kept; at most %d are possible", len(answer.Body), maxStoredBody)
	}
	header, err := json.Marshal(answer.Header)
	if err != nil {
		return fmt.Errorf("encoding an answer: %w", err)
	}
	body := s.codec.pack(answer.Body)
	return s.commit(ctx, "storing an answer", func(ctx context.Context, tx *tx) error {
		n, err := tx.affected(ctx, `UPDATE idempotency SET status = $3, header = $4, body = $5
			WHERE principal = $1 AND key = $2 AND owner = $6 AND status = 0`,
			principal, key, max(answer.Status, 1), string(header), body, s.instance)
		if err == nil && n == 0 {
			return model.Errorf(model.KindConflict, "", "the idempotency key is not claimed by this process")
		}
		return err
	})
}

// PruneIdempotency forgets the keys that are older than 24 hours as of now.
func (s *Store) PruneIdempotency(ctx context.Context, now time.Time) (int64, error) {
	s.claims.prune(now.Add(-idempotencyKept))
	return s.prune(ctx, "pruning idempotency keys", func(ctx context.Context, tx *tx) (int64, error) {
		return tx.affected(ctx, `DELETE FROM idempotency WHERE (principal, key) IN (
			SELECT principal, key FROM idempotency WHERE created_at < $1 LIMIT $2)`, toMillis(now.Add(-idempotencyKept)), pruneStep)
	})
}
