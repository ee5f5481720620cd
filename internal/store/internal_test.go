package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
	"aiops/internal/store/migrations"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// TestNoPlaintextOnDisk writes secrets, rotates them, and looks for them in
// every byte of the data directory, in the forms that they could take.
func TestNoPlaintextOnDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := Config{DataDir: dir}
	s, err := Open(t.Context(), cfg, quiet(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var canaries []string
	canary := func() model.Secret {
		c := fmt.Sprintf("canary/%d+secret?%x", len(canaries), time.Now().UnixNano())
		canaries = append(canaries, c)
		return model.Secret(c)
	}
	secrets := func(src *model.Source) {
		src.Auth.Password, src.Auth.BearerToken = canary(), canary()
		src.Headers = map[string]model.Secret{"X-Key": canary()}
	}
	for i := range 10 {
		src := model.Source{Name: fmt.Sprint("visible-", i), Type: model.SourcePrometheus, URL: "http://x"}
		secrets(&src)
		if src, err = s.CreateSource(t.Context(), src); err != nil {
			t.Fatal(err)
		}
		secrets(&src)
		if _, err = s.UpdateSource(t.Context(), src, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Backup(t.Context(), filepath.Join(dir, "backup")); err != nil {
		t.Fatal(err)
	}
	look := func(when string) {
		t.Helper()
		all := readAll(t, dir)
		if !bytes.Contains(all, []byte("visible-3")) {
			t.Fatalf("%s: the control is not found: this looks in the wrong place", when)
		}
		for _, c := range canaries {
			for _, form := range []string{c, base64.StdEncoding.EncodeToString([]byte(c)), base64.RawURLEncoding.EncodeToString([]byte(c)),
				hex.EncodeToString([]byte(c)), url.QueryEscape(c), fmt.Sprintf("%q", c)} {
				if bytes.Contains(all, []byte(form)) {
					t.Errorf("%s: %q is on disk", when, form)
				}
			}
		}
	}
	look("while open")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	look("closed")
	if st, err := os.Stat(filepath.Join(dir, "master.key")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key file: %v %v", st.Mode(), err)
	}
	if err := os.Chmod(filepath.Join(dir, "master.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), cfg, quiet(), nil); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others can read: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "master.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), cfg, quiet(), nil); model.KindOf(err) != model.KindConflict || !strings.Contains(err.Error(), "master.key") {
		t.Errorf("a lost key: %v", err)
	}
}

func readAll(t *testing.T, dir string) []byte {
	t.Helper()
	var all []byte
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "master.key" {
			return err
		}
		b, err := os.ReadFile(path)
		all = append(all, b...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestSealedSecrets(t *testing.T) {
	t.Parallel()
	k, err := openKeyring(Config{MasterKey: "a key of at least 32 characters, one"})
	if err != nil {
		t.Fatal(err)
	}
	other, err := openKeyring(Config{MasterKey: "a key of at least 32 characters, two"})
	if err != nil {
		t.Fatal(err)
	}
	sealed := k.encrypt("secret", "here")
	if again := k.encrypt("secret", "here"); again == sealed {
		t.Error("two ciphertexts of one text are equal: the nonce repeats")
	}
	if v, err := k.decrypt(sealed, "here"); err != nil || v != "secret" {
		t.Errorf("opened %q, %v", v, err)
	}
	if _, err := k.decrypt(sealed, "elsewhere"); err == nil {
		t.Error("a ciphertext opens at another place")
	}
	if _, err := other.decrypt(sealed, "here"); err == nil {
		t.Error("a ciphertext opens with another key")
	}
	raw, _ := base64.StdEncoding.DecodeString(sealed)
	for i := range raw {
		raw[i] ^= 1
		if _, err := k.decrypt(base64.StdEncoding.EncodeToString(raw), "here"); err == nil {
			t.Errorf("altered at byte %d it opens", i)
		}
		raw[i] ^= 1
	}
	for _, bad := range []string{"", "!", "AAAA"} {
		if _, err := k.decrypt(bad, "here"); err == nil {
			t.Errorf("%q opens", bad)
		}
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	s := setup(t)
	_, err := Open(t.Context(), Config{DataDir: s.cfg.DataDir}, quiet(), nil)
	var locked *LockedError
	if model.KindOf(err) != model.KindConflict || !errors.As(err, &locked) {
		t.Fatalf("opening twice: %v", err)
	}
	if locked.Path != filepath.Join(s.cfg.DataDir, "lock") || locked.PID != os.Getpid() || !strings.Contains(err.Error(), locked.Path) {
		t.Errorf("the error is %q, of %+v", err, locked)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("the first one is disturbed: %v", err)
	}
}

// TestMigration upgrades a database with data by a step that works, by one
// that fails, and opens a newer one with an older program.
func TestMigration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := Config{DataDir: dir}
	s, err := Open(t.Context(), cfg, quiet(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateDetector(t.Context(), model.Detector{Name: "kept"}); err != nil {
		t.Fatal(err)
	}
	steps := func(extra ...string) []*goose.Migration {
		all, err := migrations.Load("sqlite")
		if err != nil {
			t.Fatal(err)
		}
		for i, text := range extra {
			all = append(all, goose.NewGoMigration(int64(1000+i), &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
				_, err := tx.ExecContext(ctx, text)
				return err
			}}, nil))
		}
		return all
	}
	err = s.migrate(t.Context(), steps("CREATE TABLE a (x INT)", "CREATE TABLE b (x INT); SELECT no_such_function()"))
	if err == nil {
		t.Fatal("a failing step succeeds")
	}
	var tables string
	if err := s.read.DB.QueryRowContext(t.Context(), `SELECT coalesce(group_concat(name), '') FROM sqlite_master WHERE name IN ('a', 'b')`).Scan(&tables); err != nil {
		t.Fatal(err)
	}
	if tables != "a" {
		t.Errorf("after a failed step there are the tables %q", tables)
	}
	extra := []string{"CREATE TABLE a (x INT)"}
	for i := range 5 {
		extra = append(extra, fmt.Sprintf("CREATE TABLE c%d (x INT)", i))
		if err := s.migrate(t.Context(), steps(extra...)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.DetectorByName(t.Context(), "kept"); err != nil {
		t.Error(err)
	}
	copies, err := filepath.Glob(filepath.Join(dir, "aiops.db.before-*"))
	if err != nil || len(copies) != 3 || filepath.Base(copies[2]) != "aiops.db.before-01004" {
		t.Errorf("copies are %q, %v", copies, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), cfg, quiet(), nil)
	if model.KindOf(err) != model.KindConflict || !strings.Contains(err.Error(), "newer program") {
		t.Fatalf("an older program opens it: %v", err)
	}
	// The way back: the copy from before is a whole database.
	first := filepath.Join(dir, "aiops.db.before-01002")
	if _, err := os.Stat(first); err != nil {
		t.Fatal(err)
	}
	back, err := Open(t.Context(), Config{DataDir: t.TempDir(), SQLite: SQLiteConfig{Path: first}}, quiet(), nil)
	if err == nil || !strings.Contains(err.Error(), "newer program") { // it still is at 1002
		t.Errorf("%v %v", back, err)
	}
}

// TestFullDatabase meets the limit on pages, which acts as a full disk does.
func TestFullDatabase(t *testing.T) {
	t.Parallel()
	s := setup(t)
	limit := func(pages int) {
		t.Helper()
		var got int
		if err := s.write.DB.QueryRowContext(t.Context(), fmt.Sprintf("PRAGMA max_page_count(%d)", pages)).Scan(&got); err != nil {
			t.Fatal(err)
		}
	}
	var used int
	if err := s.read.DB.QueryRowContext(t.Context(), "PRAGMA page_count").Scan(&used); err != nil {
		t.Fatal(err)
	}
	limit(used + 20)
	big := strings.Repeat("x", 200_000)
	if _, err := s.CreateDetector(t.Context(), model.Detector{Name: "big", Query: big}); model.KindOf(err) != model.KindStorageFull {
		t.Fatalf("beyond the limit: %v", err)
	}
	// In one batch with others, the large one fails alone.
	var wg sync.WaitGroup
	var full, stored atomic.Int32
	for i := range 40 {
		wg.Go(func() {
			d := model.Detector{Name: fmt.Sprint("d", i)}
			if i%10 == 0 {
				d.Query = big
			}
			_, err := s.CreateDetector(t.Context(), d)
			switch {
			case err == nil:
				stored.Add(1)
			case model.KindOf(err) == model.KindStorageFull && i%10 == 0:
				full.Add(1)
			default:
				t.Errorf("detector %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if stored.Load() != 36 || full.Load() != 4 {
		t.Errorf("%d were stored, %d refused", stored.Load(), full.Load())
	}
	if s.Err() != nil {
		t.Fatalf("a full disk made the store fail: %v", s.Err())
	}
	limit(1 << 20)
	if _, err := s.CreateDetector(t.Context(), model.Detector{Name: "big", Query: big}); err != nil {
		t.Errorf("with space again: %v", err)
	}
	if n, err := s.LastEventID(t.Context()); err != nil || n != 37 {
		t.Errorf("%d events, %v", n, err)
	}
}

// TestDamage overwrites the database under the store: it fails, by name, and
// acknowledges nothing more.
func TestDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := Open(t.Context(), Config{DataDir: dir}, quiet(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		if _, err := s.CreateDetector(t.Context(), model.Detector{Name: fmt.Sprint("d", i), Query: strings.Repeat("x", 3000)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "aiops.db")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 40 * 4096; at+4096 < len(b); at += 4096 { // every page but those of the schema
		copy(b[at:], bytes.Repeat([]byte{0xa5}, 512))
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err = Open(t.Context(), Config{DataDir: dir}, quiet(), nil)
	if err == nil {
		defer s.Close()
		if err = s.IntegrityCheck(t.Context()); model.KindOf(err) != model.KindDatabase {
			t.Errorf("the check says %v", err)
		}
		_, err = s.AllDetectors(t.Context())
		if err == nil {
			_, err = s.Events(t.Context(), 0, nil, 0)
		}
	}
	if err == nil {
		t.Fatal("damage is not noticed")
	}
	if s == nil {
		return // it did not even open
	}
	if !errors.Is(err, ErrFailed) || s.Err() == nil {
		t.Fatalf("reading damage: %v, the store says %v", err, s.Err())
	}
	<-s.Failed()
	if err := s.SetMeta(t.Context(), "a", "b"); !errors.Is(err, ErrFailed) || model.KindOf(err) != model.KindDatabase {
		t.Errorf("a failed store acknowledges: %v", err)
	}
	// A file that never was a database.
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "aiops.db"), bytes.Repeat([]byte("not a database. "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{DataDir: other}, quiet(), nil); err == nil || !strings.Contains(err.Error(), "restore a backup") {
		t.Errorf("a foreign file: %v", err)
	}
}

// TestQueueIsBounded holds the writer: beyond the queue, callers block until
// their context ends, and what they gave up is never written.
func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Config{DataDir: t.TempDir(), WriteQueue: 2, WriteBatch: 1}, quiet(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	held, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.commit(t.Context(), "holding", func(context.Context, *tx) error { close(held); <-release; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-held
	queued, cancel := context.WithCancel(t.Context())
	errs := make(chan error, 2)
	for range 2 {
		wg.Go(func() { errs <- s.SetMeta(queued, "given up", "x") })
	}
	for len(s.queue) < 2 {
		runtime.Gosched()
	}
	short, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	if err := s.SetMeta(short, "too many", "x"); model.KindOf(err) != model.KindTimeout {
		t.Errorf("a full queue: %v", err)
	}
	cancel()
	for range 2 {
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("a queued write whose caller gave up: %v", err)
		}
	}
	close(release)
	wg.Wait()
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	for _, key := range []string{"given up", "too many"} {
		if _, found, err := s.Meta(t.Context(), key); err != nil || found {
			t.Errorf("%q was written: %v", key, err)
		}
	}
}

// TestBatchesShareCommits holds the writer while callers queue up: they then
// share one transaction.
func TestBatchesShareCommits(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	s, err := Open(t.Context(), Config{DataDir: t.TempDir()}, quiet(), reg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	held, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = s.commit(context.Background(), "holding", func(context.Context, *tx) error { close(held); <-release; return nil })
	})
	<-held
	for i := range 100 {
		wg.Go(func() {
			if err := s.SetMeta(t.Context(), fmt.Sprint(i), "x"); err != nil {
				t.Error(err)
			}
		})
	}
	for len(s.queue) < 100 {
		runtime.Gosched()
	}
	close(release)
	wg.Wait()
	got := map[string]float64{}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if h := f.GetMetric()[0].GetHistogram(); h != nil {
			got[f.GetName()] = h.GetSampleSum()
			got[f.GetName()+"_count"] = float64(h.GetSampleCount())
		} else {
			got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	if got["aiops_store_commit_batch_writes"] != 101 || got["aiops_store_commit_batch_writes_count"] != 2 {
		t.Errorf("101 writes took %v transactions of %v writes", got["aiops_store_commit_batch_writes_count"], got["aiops_store_commit_batch_writes"])
	}
	if got["aiops_store_queue_capacity_writes"] != 1024 || got["aiops_store_failed"] != 0 {
		t.Errorf("metrics are %v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if families, err := reg.Gather(); err != nil || len(families) != 0 {
		t.Errorf("%d metrics are left after closing, %v", len(families), err)
	}
}

func TestConfigFaultsAreToldAtOnce(t *testing.T) {
	t.Parallel()
	err := Config{SQLite: SQLiteConfig{Path: "x", Readers: -1}, Postgres: PostgresConfig{URL: "mysql://u:hidden@h/d", MaxConnections: 1},
		MasterKey: "short", WriteQueue: -1, WriteBatch: 1 << 20}.Validate()
	var e *model.Error
	if !errors.As(err, &e) || e.Kind != model.KindInvalid || len(e.Fields) != 7 {
		t.Fatalf("faults are %+v", err)
	}
	if strings.Contains(fmt.Sprintf("%+v", e), "hidden") {
		t.Error("a fault shows the password")
	}
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("the zero value: %v", err)
	}
}
