package store

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"aiops/internal/model"
)

// keyring encrypts what must not be readable in the database, and signs
// cursors. Each value has a nonce of its own, and is bound to the place it
// belongs to: a ciphertext that was moved to another row does not open.
type keyring struct {
	seal     cipher.AEAD
	previous cipher.AEAD // nil when there is none
	cursor   []byte      // key of the MACs of cursors
}

const keyFile = "master.key"

// openKeyring takes the configured key, or the one in the data directory, which
// is made when it is missing.
func openKeyring(cfg Config) (*keyring, error) {
	master := []byte(cfg.MasterKey.Reveal())
	if len(master) == 0 {
		var err error
		if master, err = readOrMakeKey(filepath.Join(cfg.DataDir, keyFile)); err != nil {
			return nil, err
		}
	}
	k := &keyring{}
	var err error
	if k.seal, err = newAEAD(master); err != nil {
		return nil, err
	}
	if p := cfg.PreviousMasterKey.Reveal(); p != "" {
		if k.previous, err = newAEAD([]byte(p)); err != nil {
			return nil, err
		}
	}
	if k.cursor, err = hkdf.Key(sha256.New, master, nil, "aiops cursors v1", 32); err != nil {
		return nil, fmt.Errorf("deriving a key: %w", err)
	}
	return k, nil
}

func newAEAD(master []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, master, nil, "aiops secrets v1", 32)
	if err != nil {
		return nil, fmt.Errorf("deriving a key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("preparing encryption: %w", err)
	}
	return cipher.NewGCM(block)
}

func readOrMakeKey(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the master key: %w", err)
	}
	if st, err := os.Stat(path); err == nil && st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("the master key %s can be read by others; run: chmod 600 %s", path, path)
	}
	key := bytes.TrimSpace(b)
	if len(key) < minMasterKey {
		return nil, fmt.Errorf("the master key %s is damaged; restore it from a backup, or remove it and enter the secrets of the sources again", path)
	}
	return key, nil
}

// makeKey writes a new key. It reaches its name only when it is complete and
// on disk: a crash leaves no half of a key.
func makeKey(path string) ([]byte, error) {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails: it ends the program instead
	key := []byte(base64.StdEncoding.EncodeToString(raw[:]))
	tmp := path + ".part"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("making the master key: %w", err)
	}
	_, err = f.Write(append(key, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, fmt.Errorf("making the master key: %w", err)
	}
	return key, nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// encrypt returns plain, sealed for the place where it is kept.
func (k *keyring) encrypt(plain model.Secret, place string) string {
	nonce := make([]byte, k.seal.NonceSize())
	_, _ = rand.Read(nonce)
	return base64.StdEncoding.EncodeToString(k.seal.Seal(nonce, nonce, []byte(plain.Reveal()), []byte(place)))
}

// decrypt opens what encrypt sealed for the same place.
func (k *keyring) decrypt(sealed, place string) (model.Secret, error) {
	return open64(k.seal, sealed, place)
}

var errSealed = errors.New("a stored secret cannot be decrypted: it was written with another master key, or is damaged")

func open64(aead cipher.AEAD, sealed, place string) (model.Secret, error) {
	b, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil || len(b) < aead.NonceSize() {
		return "", errSealed
	}
	plain, err := aead.Open(nil, b[:aead.NonceSize()], b[aead.NonceSize():], []byte(place))
	if err != nil {
		return "", errSealed
	}
	return model.Secret(plain), nil
}

// mac returns the first bytes of a keyed hash, enough that nobody guesses it.
func (k *keyring) mac(b []byte) []byte {
	h := hmac.New(sha256.New, k.cursor)
	h.Write(b)
	return h.Sum(nil)[:8]
}

const (
	keyCheckMeta  = "key_check"
	keyCheckPlace = "meta/key_check"
	keyCheckPlain = "aiops"
)

// checkKey makes sure that the master key is the one the database was written
// with, and encrypts everything anew when it is the previous one. One node at a
// time runs it.
func (s *Store) checkKey(ctx context.Context) error {
	var sealed string
	sealed, ok, err := s.Meta(ctx, keyCheckMeta)
	if err != nil {
		return err
	}
	if ok {
		if _, err := s.keys.decrypt(sealed, keyCheckPlace); err == nil {
			return nil
		}
		if s.keys.previous == nil {
			return wrongKey("set master_key to the key in use before, or put the file %s back", keyFile)
		}
		if _, err := open64(s.keys.previous, sealed, keyCheckPlace); err != nil {
			return wrongKey("neither master_key nor previous_master_key opens it")
		}
	}
	// The writer does not run yet: nothing else uses the connection.
	sqltx, err := s.write.DB.BeginTx(ctx, nil)
	if err != nil {
		return s.wrap(err, "checking the master key")
	}
	t := s.newTx(sqltx)
	if err := s.adoptKey(ctx, t, ok); err != nil {
		return errors.Join(s.wrap(err, "checking the master key"), sqltx.Rollback())
	}
	if err := sqltx.Commit(); err != nil {
		return s.wrap(err, "checking the master key")
	}
	if ok {
		s.log.Info("encrypted the stored secrets with the new master key")
	}
	return nil
}

func wrongKey(format string, args ...any) error {
	return model.Errorf(model.KindConflict, "", "the database was written with another master key: "+format, args...)
}

func (s *Store) adoptKey(ctx context.Context, t *tx, rotate bool) error {
	if rotate {
		if err := s.reencryptSources(ctx, t); err != nil {
			return err
		}
	}
	return t.exec(ctx, `INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
		keyCheckMeta, s.keys.encrypt(keyCheckPlain, keyCheckPlace))
}
