package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	"aiops/internal/model"
)

type sourceRow struct {
	ID         string `bun:"id"`
	Version    int64  `bun:"version"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	Definition string `bun:"definition"`
	Secrets    string `bun:"secrets"`
}

// sourceDoc is the stored form of a source without its secrets.
type sourceDoc struct {
	Name        string           `json:"name"`
	Type        model.SourceType `json:"type"`
	URL         string           `json:"url,omitempty"`
	Username    string           `json:"username,omitempty"`
	TLS         model.TLSOptions `json:"tls"`
	LateData    time.Duration    `json:"late_data_ns,omitempty"`
	Timeout     time.Duration    `json:"timeout_ns,omitempty"`
	Provisioned bool             `json:"provisioned,omitempty"`
}

// sealedSecrets maps the place of a secret in its source, such as "password"
// or "header/X-Scope-OrgID", to its ciphertext.
type sealedSecrets map[string]string

const sourceColumns = `id, version, created_at, updated_at, definition, secrets`

func secretsOf(src model.Source) map[string]model.Secret {
	m := make(map[string]model.Secret)
	if src.Auth.Password != "" {
		m["password"] = src.Auth.Password
	}
	if src.Auth.BearerToken != "" {
		m["bearer_token"] = src.Auth.BearerToken
	}
	for name, v := range src.Headers {
		m["header/"+name] = v
	}
	return m
}

func secretPlace(id, name string) string { return "sources/" + id + "/" + name }

func (s *Store) encodeSource(src model.Source) (doc, secrets, print string, err error) {
	if u, err := url.Parse(src.URL); err == nil && u.User != nil {
		var v model.Invalid
		v.Add("/url", "credentials", "the URL holds credentials; give them as username and password instead")
		return "", "", "", v.Err(model.SubjectSource)
	}
	b, err := json.Marshal(sourceDoc{Name: src.Name, Type: src.Type, URL: src.URL, Username: src.Auth.Username, TLS: src.TLS,
		LateData: src.LateData, Timeout: src.Timeout, Provisioned: src.Provisioned})
	if err != nil {
		return "", "", "", fmt.Errorf("encoding the source: %w", err)
	}
	plain := secretsOf(src)
	sealed := make(sealedSecrets, len(plain))
	for name, v := range plain {
		sealed[name] = s.keys.encrypt(v, secretPlace(src.ID, name))
	}
	sb, err := json.Marshal(sealed)
	if err != nil {
		return "", "", "", fmt.Errorf("encoding the source: %w", err)
	}
	return string(b), string(sb), s.printSecrets(src.ID, plain), nil
}

// printSecrets returns a keyed fingerprint of the secrets, which tells whether
// they changed without decrypting them: two ciphertexts of one text differ.
func (s *Store) printSecrets(id string, plain map[string]model.Secret) string {
	revealed := make(map[string]string, len(plain))
	for name, v := range plain {
		revealed[name] = v.Reveal()
	}
	b, err := json.Marshal(revealed) // keys are sorted
	if err != nil {
		panic("BUG: a map of strings does not encode: " + err.Error())
	}
	sum := sha256.Sum256(append([]byte(id+"\n"), b...))
	return base64.StdEncoding.EncodeToString(s.keys.mac(sum[:]))
}

func (s *Store) decodeSource(r sourceRow) (model.Source, error) {
	unreadable := func(err error) (model.Source, error) {
		return model.Source{}, model.WrapError(model.KindDatabase, model.SubjectSource, err, "the stored source %s cannot be read", r.ID)
	}
	var c sourceDoc
	if err := json.Unmarshal([]byte(r.Definition), &c); err != nil {
		return unreadable(err)
	}
	var sealed sealedSecrets
	if err := json.Unmarshal([]byte(r.Secrets), &sealed); err != nil {
		return unreadable(err)
	}
	src := model.Source{ID: r.ID, Name: c.Name, Type: c.Type, URL: c.URL, Auth: model.SourceAuth{Username: c.Username}, TLS: c.TLS,
		LateData: c.LateData, Timeout: c.Timeout, Provisioned: c.Provisioned,
		Version: r.Version, CreatedAt: fromMillis(r.CreatedAt), UpdatedAt: fromMillis(r.UpdatedAt)}
	for name, text := range sealed {
		v, err := s.keys.decrypt(text, secretPlace(r.ID, name))
		if err != nil {
			return unreadable(err)
		}
		switch name {
		case "password":
			src.Auth.Password = v
		case "bearer_token":
			src.Auth.BearerToken = v
		default:
			if src.Headers == nil {
				src.Headers = make(map[string]model.Secret)
			}
			src.Headers[name[len("header/"):]] = v
		}
	}
	return src, nil
}

// CreateSource stores a new source at version 1 and returns it as stored. An
// empty ID becomes a random one. Its secrets are encrypted; a URL with
// credentials is KindInvalid. A name or id in use is a KindConflict. It writes
// no event: what a source does is told by its health.
func (s *Store) CreateSource(ctx context.Context, src model.Source) (model.Source, error) {
	if src.ID == "" {
		src.ID = newID("src")
	}
	src.Version = 1
	doc, secrets, print, err := s.encodeSource(src)
	if err != nil {
		return model.Source{}, err
	}
	err = s.commit(ctx, "creating a source", func(ctx context.Context, tx *tx) error {
		src.CreatedAt, src.UpdatedAt = fromMillis(tx.now), fromMillis(tx.now)
		if err := tx.sourceNameFree(ctx, src); err != nil {
			return err
		}
		return tx.exec(ctx, `INSERT INTO sources (id, name, type, provisioned, version, created_at, updated_at, definition, secrets, secrets_print)
			VALUES ($1, $2, $3, $4, 1, $5, $5, $6, $7, $8)`, src.ID, cleanText(src.Name), string(src.Type), bit(src.Provisioned),
			tx.now, doc, secrets, print)
	})
	if err != nil {
		return model.Source{}, err
	}
	return src, nil
}

func (t *tx) sourceNameFree(ctx context.Context, src model.Source) error {
	var id string
	err := t.QueryRowContext(ctx, `SELECT id FROM sources WHERE (name = $1 AND id <> $2) OR (id = $2 AND $3 = 1) LIMIT 1`,
		cleanText(src.Name), src.ID, bit(src.Version == 1)).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for the name: %w", err)
	}
	return &model.Error{Kind: model.KindConflict, Subject: model.SubjectSource,
		Message: fmt.Sprintf("a source named %q exists already; choose another name", src.Name), Context: map[string]any{"id": id}}
}

// UpdateSource replaces the source src.ID, its secrets included, and returns
// it as stored, its version grown by one; when nothing differs, nothing is
// written. When expect is not 0 and not the current version, the error is a
// KindPrecondition.
func (s *Store) UpdateSource(ctx context.Context, src model.Source, expect int64) (model.Source, error) {
	doc, secrets, print, err := s.encodeSource(src)
	if err != nil {
		return model.Source{}, err
	}
	err = s.commit(ctx, "updating a source", func(ctx context.Context, tx *tx) error {
		var r sourceRow
		var oldPrint, oldName string
		err := tx.QueryRowContext(ctx, `SELECT version, created_at, updated_at, definition, secrets_print, name FROM sources WHERE id = $1`+tx.forUpdate,
			src.ID).Scan(&r.Version, &r.CreatedAt, &r.UpdatedAt, &r.Definition, &oldPrint, &oldName)
		if errors.Is(err, sql.ErrNoRows) {
			return model.NotFound(model.SubjectSource, src.ID)
		}
		if err != nil {
			return fmt.Errorf("reading the source: %w", err)
		}
		if err := expectVersion(model.SubjectSource, src.ID, r.Version, expect); err != nil {
			return err
		}
		src.Version, src.CreatedAt, src.UpdatedAt = r.Version, fromMillis(r.CreatedAt), fromMillis(r.UpdatedAt)
		if r.Definition == doc && oldPrint == print {
			return nil
		}
		src.Version, src.UpdatedAt = r.Version+1, fromMillis(tx.now)
		if err := tx.sourceNameFree(ctx, src); err != nil {
			return err
		}
		if err := tx.renameHealth(ctx, oldName, cleanText(src.Name)); err != nil {
			return err
		}
		return tx.exec(ctx, `UPDATE sources SET name = $2, type = $3, provisioned = $4, version = $5, updated_at = $6, definition = $7,
			secrets = $8, secrets_print = $9 WHERE id = $1`, src.ID, cleanText(src.Name), string(src.Type), bit(src.Provisioned),
			src.Version, tx.now, doc, secrets, print)
	})
	if err != nil {
		return model.Source{}, err
	}
	return src, nil
}

// DeleteSource removes a source and its health. While a detector uses it, the
// error is a KindConflict that names one. When expect is not 0 and not the
// current version, the error is a KindPrecondition.
func (s *Store) DeleteSource(ctx context.Context, id string, expect int64) error {
	return s.commit(ctx, "deleting a source", func(ctx context.Context, tx *tx) error {
		var name string
		var version int64
		err := tx.QueryRowContext(ctx, `SELECT name, version FROM sources WHERE id = $1`+tx.forUpdate, id).Scan(&name, &version)
		if errors.Is(err, sql.ErrNoRows) {
			return model.NotFound(model.SubjectSource, id)
		}
		if err != nil {
			return fmt.Errorf("reading the source: %w", err)
		}
		if err := expectVersion(model.SubjectSource, id, version, expect); err != nil {
			return err
		}
		var user string
		err = tx.QueryRowContext(ctx, `SELECT name FROM detectors WHERE source = $1 ORDER BY name LIMIT 1`, name).Scan(&user)
		if err == nil {
			return model.Errorf(model.KindConflict, model.SubjectSource, "the source %q is used by the detector %q; delete or change that first", name, user)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("looking for users of the source: %w", err)
		}
		if err := tx.deleteHealth(ctx, name); err != nil {
			return err
		}
		return tx.exec(ctx, `DELETE FROM sources WHERE id = $1`, id)
	})
}

// Source returns the source with the given id, its secrets decrypted, or a
// KindNotFound error.
func (s *Store) Source(ctx context.Context, id string) (model.Source, error) {
	return s.oneSource(ctx, "id", id)
}

// SourceByName returns the source with the given name, its secrets decrypted,
// or a KindNotFound error.
func (s *Store) SourceByName(ctx context.Context, name string) (model.Source, error) {
	return s.oneSource(ctx, "name", name)
}

func (s *Store) oneSource(ctx context.Context, column, value string) (model.Source, error) {
	found, err := s.sources(ctx, ` WHERE `+column+` = $1`, cleanText(value))
	if err != nil {
		return model.Source{}, err
	}
	if len(found) == 0 {
		return model.Source{}, &model.Error{Kind: model.KindNotFound, Subject: model.SubjectSource,
			Message: fmt.Sprintf("no source with %s %q", column, value), Context: map[string]any{column: value}}
	}
	return found[0], nil
}

// Sources returns all sources by name, their secrets decrypted. There are few:
// the list has no pages.
func (s *Store) Sources(ctx context.Context) ([]model.Source, error) {
	return s.sources(ctx, ` ORDER BY name`)
}

func (s *Store) sources(ctx context.Context, rest string, args ...any) ([]model.Source, error) {
	found, err := rows[sourceRow](ctx, s.read, s.read.DB, `SELECT `+sourceColumns+` FROM sources`+rest, args...)
	if err != nil {
		return nil, s.wrap(err, "reading sources")
	}
	out := make([]model.Source, len(found))
	for i, r := range found {
		if out[i], err = s.decodeSource(r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// reencryptSources seals every secret with the current key.
func (s *Store) reencryptSources(ctx context.Context, t *tx) error {
	found, err := rows[sourceRow](ctx, t.bun, t, `SELECT `+sourceColumns+` FROM sources`+t.forUpdate)
	if err != nil {
		return fmt.Errorf("reading sources: %w", err)
	}
	old := &Store{keys: &keyring{seal: s.keys.previous}}
	for _, r := range found {
		src, err := old.decodeSource(r)
		if err != nil {
			return err
		}
		_, secrets, print, err := s.encodeSource(src)
		if err != nil {
			return err
		}
		if err := t.exec(ctx, `UPDATE sources SET secrets = $2, secrets_print = $3 WHERE id = $1`, r.ID, secrets, print); err != nil {
			return fmt.Errorf("writing a source: %w", err)
		}
	}
	return nil
}
