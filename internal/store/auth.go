package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"aiops/internal/model"
)

type apiKeyRow struct {
	ID        string `bun:"id"`
	Name      string `bun:"name"`
	Role      string `bun:"role"`
	Prefix    string `bun:"prefix"`
	Hash      string `bun:"hash"`
	CreatedBy string `bun:"created_by"`
	CreatedAt int64  `bun:"created_at"`
	ExpiresAt int64  `bun:"expires_at"`
	RevokedAt int64  `bun:"revoked_at"`
}

const apiKeyColumns = `k.id, k.name, k.role, k.prefix, k.hash, k.created_by, k.created_at, k.expires_at, k.revoked_at`

func (r apiKeyRow) key() model.APIKey {
	return model.APIKey{ID: r.ID, Name: r.Name, Role: model.Role(r.Role), Prefix: r.Prefix, Hash: r.Hash, CreatedBy: r.CreatedBy,
		CreatedAt: fromMillis(r.CreatedAt), ExpiresAt: fromMillis(r.ExpiresAt), RevokedAt: fromMillis(r.RevokedAt)}
}

// CreateAPIKey writes a key under an id of its own. The name of a key that is
// not revoked, and a prefix, are unique: KindConflict otherwise.
func (s *Store) CreateAPIKey(ctx context.Context, k model.APIKey) (model.APIKey, error) {
	k.ID = newID("key")
	k.Name, k.CreatedBy = cleanText(k.Name), cleanText(k.CreatedBy)
	err := s.commit(ctx, "creating an API key", func(ctx context.Context, tx *tx) error {
		var n int64
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM api_keys WHERE name = $1 AND revoked_at = 0`, k.Name).Scan(&n); err != nil {
			return fmt.Errorf("reading the names: %w", err)
		}
		if n > 0 {
			return &model.Error{Kind: model.KindConflict, Message: "Another key has this name. Revoke it first, or choose another name.",
				Fields: []model.FieldError{{Pointer: "/name", Code: "duplicate", Detail: "the name is taken"}}}
		}
		k.CreatedAt = fromMillis(tx.now)
		return tx.exec(ctx, `INSERT INTO api_keys (id, name, role, prefix, hash, created_by, created_at, expires_at, revoked_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0)`, k.ID, k.Name, string(k.Role), k.Prefix, k.Hash, k.CreatedBy, tx.now, toMillis(k.ExpiresAt))
	})
	if err != nil {
		return model.APIKey{}, err
	}
	k.ExpiresAt = fromMillis(toMillis(k.ExpiresAt))
	return k, nil
}

// APIKeys lists every key, revoked ones included, the newest first.
func (s *Store) APIKeys(ctx context.Context) ([]model.APIKey, error) {
	found, err := rows[apiKeyRow](ctx, s.read, s.read.DB, `SELECT `+apiKeyColumns+` FROM api_keys k ORDER BY k.created_at DESC, k.id DESC`)
	if err != nil {
		return nil, s.wrap(err, "reading API keys")
	}
	out := make([]model.APIKey, len(found))
	for i, r := range found {
		out[i] = r.key()
	}
	return out, nil
}

// APIKeyByPrefix returns the key with a prefix, revoked or not.
func (s *Store) APIKeyByPrefix(ctx context.Context, prefix string) (model.APIKey, error) {
	return s.apiKey(ctx, `SELECT `+apiKeyColumns+` FROM api_keys k WHERE k.prefix = $1`, cleanText(prefix))
}

func (s *Store) apiKey(ctx context.Context, query string, args ...any) (model.APIKey, error) {
	found, err := rows[apiKeyRow](ctx, s.read, s.read.DB, query, args...)
	if err != nil {
		return model.APIKey{}, s.wrap(err, "reading an API key")
	}
	if len(found) == 0 {
		return model.APIKey{}, noKey()
	}
	return found[0].key(), nil
}

func noKey() error { return model.Errorf(model.KindNotFound, "", "There is no such API key.") }

// endAuth tells every node that something has ended.
func (t *tx) endAuth(ctx context.Context) error {
	return t.exec(ctx, `UPDATE counters SET value = value + 1 WHERE name = 'auth'`)
}

// RevokeAPIKey ends a key and its sessions. One that was revoked stays as it is.
func (s *Store) RevokeAPIKey(ctx context.Context, id string) (model.APIKey, error) {
	id = cleanText(id)
	err := s.commit(ctx, "revoking an API key", func(ctx context.Context, tx *tx) error {
		n, err := tx.affected(ctx, `UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at = 0`, id, tx.now)
		if err != nil || n == 0 {
			return err
		}
		if err := tx.exec(ctx, `DELETE FROM sessions WHERE key_id = $1`, id); err != nil {
			return fmt.Errorf("ending its sessions: %w", err)
		}
		return tx.endAuth(ctx)
	})
	if err != nil {
		return model.APIKey{}, err
	}
	return s.apiKey(ctx, `SELECT `+apiKeyColumns+` FROM api_keys k WHERE k.id = $1`, id)
}

// CreateSession writes a session of a key that is not revoked.
func (s *Store) CreateSession(ctx context.Context, v model.Session) (model.Session, error) {
	v.ID = newID("ses")
	err := s.commit(ctx, "creating a session", func(ctx context.Context, tx *tx) error {
		var id string
		err := tx.QueryRowContext(ctx, `SELECT id FROM api_keys WHERE id = $1 AND revoked_at = 0`+tx.forShare, v.KeyID).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			return noKey()
		}
		if err != nil {
			return fmt.Errorf("reading the key: %w", err)
		}
		v.CreatedAt = fromMillis(tx.now)
		return tx.exec(ctx, `INSERT INTO sessions (id, hash, key_id, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)`,
			v.ID, v.Hash, v.KeyID, tx.now, toMillis(v.ExpiresAt))
	})
	if err != nil {
		return model.Session{}, err
	}
	v.ExpiresAt = fromMillis(toMillis(v.ExpiresAt))
	return v, nil
}

// SessionByHash returns a session, expired or not, and the key it was made of.
func (s *Store) SessionByHash(ctx context.Context, hash string) (model.Session, model.APIKey, error) {
	type row struct {
		apiKeyRow
		SID      string `bun:"sid"`
		SCreated int64  `bun:"screated"`
		SExpires int64  `bun:"sexpires"`
	}
	found, err := rows[row](ctx, s.read, s.read.DB, `SELECT `+apiKeyColumns+`, s.id AS sid, s.created_at AS screated, s.expires_at AS sexpires
		FROM sessions s JOIN api_keys k ON k.id = s.key_id WHERE s.hash = $1`, cleanText(hash))
	if err != nil {
		return model.Session{}, model.APIKey{}, s.wrap(err, "reading a session")
	}
	if len(found) == 0 {
		return model.Session{}, model.APIKey{}, model.Errorf(model.KindNotFound, "", "There is no such session.")
	}
	r := found[0]
	return model.Session{ID: r.SID, Hash: hash, KeyID: r.ID, CreatedAt: fromMillis(r.SCreated), ExpiresAt: fromMillis(r.SExpires)}, r.key(), nil
}

// DeleteSession ends a session. One that does not exist has ended.
func (s *Store) DeleteSession(ctx context.Context, id string) error {
	return s.commit(ctx, "ending a session", func(ctx context.Context, tx *tx) error {
		n, err := tx.affected(ctx, `DELETE FROM sessions WHERE id = $1`, cleanText(id))
		if err != nil || n == 0 {
			return err
		}
		return tx.endAuth(ctx)
	})
}

// PruneSessions forgets the sessions that have expired as of now.
func (s *Store) PruneSessions(ctx context.Context, now time.Time) (int64, error) {
	return s.prune(ctx, "pruning sessions", func(ctx context.Context, tx *tx) (int64, error) {
		return tx.affected(ctx, `DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_at < $1 LIMIT $2)`, toMillis(now), pruneStep)
	})
}

// AuthVersion returns a number that grows whenever a key or a session is ended
// before its time.
func (s *Store) AuthVersion(ctx context.Context) (int64, error) {
	var n int64
	err := s.read.DB.QueryRowContext(ctx, `SELECT value FROM counters WHERE name = 'auth'`).Scan(&n)
	return n, s.wrap(err, "reading what has ended")
}
