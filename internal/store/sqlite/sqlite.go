// Package sqlite is the embedded engine of package store: how its file is
// opened, checked, copied and kept small, and what its errors mean.
//
// One connection writes, so that nothing ever waits for a lock inside the
// process; a pool reads beside it. The log is written with synchronous=FULL:
// a commit that returned has been synced. Checkpoints run explicitly, because
// the automatic ones hide an I/O error, and a sync that failed once must never
// be repeated and believed.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/schema"
	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"aiops/internal/model"
)

// Options say how a database file is opened.
type Options struct {
	Path        string
	Readers     int    // connections of the reading pool; 0 is 8
	Synchronous string // PRAGMA synchronous; "" is FULL. Less than FULL loses acknowledged writes in a power cut.
}

// DB is an open database file. All methods are safe for concurrent use.
type DB struct {
	path   string
	writer *sql.DB
	reader *sql.DB
}

// The lengths of the write-ahead log, in pages, at which AfterCommit copies it
// into the database beside the readers, and at which it waits for them so that
// the log can begin anew.
const (
	pageBytes       = 4096
	checkpointPages = 2000
	truncatePages   = 16000
)

// Open opens the file, creating it when it is missing, and recovers what a
// crash left in its log.
func Open(ctx context.Context, o Options) (*DB, error) {
	if o.Readers <= 0 {
		o.Readers = 8
	}
	if o.Synchronous == "" {
		o.Synchronous = "FULL"
	}
	// fdatasync leaves out the time stamps of the file, which halves the time
	// of a commit on journaling file systems and loses nothing. Where it does
	// not exist, fsync stays in use.
	if _, err := sqlite.Fdatasync(true); err != nil && !errors.Is(err, sqlite.ErrFdatasyncUnavailable) {
		return nil, fmt.Errorf("choosing the sync call: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o750); err != nil {
		return nil, fmt.Errorf("making the directory of the database: %w", err)
	}
	_, statErr := os.Stat(o.Path)
	// Made here, so that only the owner may read it; the log takes its mode.
	f, err := os.OpenFile(o.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	d := &DB{path: o.Path}
	if d.writer, err = open(o.Path, "_txlock", "immediate", "_busy_timeout", "10000", "_auto_vacuum", "2",
		"_journal_mode", "WAL", "_synchronous", o.Synchronous, "_foreign_keys", "1", "_pragma", "wal_autocheckpoint(0)",
		"_pragma", "journal_size_limit(67108864)", "_pragma", "temp_store(2)", "_pragma", "cache_size(-32768)"); err != nil {
		return nil, err
	}
	d.writer.SetMaxOpenConns(1)
	d.writer.SetMaxIdleConns(1)
	if err := d.writer.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the database %s: %w", o.Path, explainOpen(err)), d.writer.Close())
	}
	if errors.Is(statErr, os.ErrNotExist) {
		// The name of a new file is durable only after its directory is synced.
		if err := syncDir(filepath.Dir(o.Path)); err != nil {
			return nil, errors.Join(err, d.writer.Close())
		}
	}
	if d.reader, err = open(o.Path, "_busy_timeout", "10000", "_query_only", "1", "_pragma", "temp_store(2)",
		"_pragma", "cache_size(-8192)"); err != nil {
		return nil, errors.Join(err, d.writer.Close())
	}
	d.reader.SetMaxOpenConns(max(o.Readers, runtime.NumCPU()))
	d.reader.SetMaxIdleConns(max(o.Readers, runtime.NumCPU()))
	return d, nil
}

func open(path string, params ...string) (*sql.DB, error) {
	q := make(url.Values)
	for i := 0; i < len(params); i += 2 {
		q.Add(params[i], params[i+1])
	}
	q.Set("_dqs", "0")
	q.Set("_defensive", "1")
	q.Set("_error_rc", "1")
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening the database %s: %w", path, err)
	}
	c, err := sqlite.NewConnector((&url.URL{Scheme: "file", Path: abs, RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("opening the database %s: %w", path, err)
	}
	return sql.OpenDB(c), nil
}

func explainOpen(err error) error {
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff {
		case lib.SQLITE_NOTADB:
			return fmt.Errorf("the file is not a SQLite database or is damaged; restore a backup: %w", err)
		case lib.SQLITE_CORRUPT:
			return fmt.Errorf("the file is damaged; restore a backup: %w", err)
		}
	}
	return err
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	return nil
}

// Name returns "sqlite".
func (d *DB) Name() string { return "sqlite" }

// Writer returns the pool of the one connection that writes.
func (d *DB) Writer() *sql.DB { return d.writer }

// Reader returns the pool that reads; it cannot write.
func (d *DB) Reader() *sql.DB { return d.reader }

// Dialect returns the dialect of the query layer.
func (d *DB) Dialect() schema.Dialect { return sqlitedialect.New() }

// ForUpdate returns "": the writer has the database for itself.
func (d *DB) ForUpdate() string { return "" }

// ForShare returns "": the writer has the database for itself.
func (d *DB) ForShare() string { return "" }

// IndexHint returns the clause that makes a table use an index.
func (d *DB) IndexHint(index string) string { return " INDEXED BY " + index }

// ReadTx returns the options of a transaction that reads one state.
func (d *DB) ReadTx() *sql.TxOptions { return &sql.TxOptions{ReadOnly: true} }

// BatchContext returns a context without an end: a file does not hang, and
// watching a context costs more than many statements do.
func (d *DB) BatchContext() (context.Context, context.CancelFunc) {
	return context.Background(), func() {}
}

// Classify says what kind of failure err is. Fatal ones are I/O errors and
// damage: nothing may be acknowledged after them.
func (d *DB) Classify(err error) (kind model.Kind, fatal bool) {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return model.KindInternal, false
	}
	code := e.Code()
	switch code & 0xff {
	case lib.SQLITE_FULL:
		return model.KindStorageFull, false
	case lib.SQLITE_IOERR:
		switch code {
		case lib.SQLITE_IOERR_SHMSIZE: // the index of the log cannot grow: the disk is full
			return model.KindStorageFull, false
		case lib.SQLITE_IOERR_NOMEM:
			return model.KindDatabase, false
		}
		return model.KindDatabase, true
	case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
		return model.KindDatabase, true
	case lib.SQLITE_READONLY:
		return model.KindDatabase, code == lib.SQLITE_READONLY_DBMOVED
	case lib.SQLITE_CONSTRAINT:
		if code == lib.SQLITE_CONSTRAINT_UNIQUE || code == lib.SQLITE_CONSTRAINT_PRIMARYKEY {
			return model.KindConflict, false
		}
		return model.KindInternal, false
	case lib.SQLITE_INTERRUPT:
		return model.KindTimeout, false
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED, lib.SQLITE_PROTOCOL, lib.SQLITE_NOMEM, lib.SQLITE_CANTOPEN:
		return model.KindDatabase, false
	}
	return model.KindInternal, false
}

// AfterCommit copies the write-ahead log into the database when it has grown
// long. It is called by the writer between two transactions.
func (d *DB) AfterCommit(ctx context.Context) error {
	waiting, err := d.checkpoint(ctx, "NOOP") // only asks
	if err != nil || waiting < checkpointPages {
		return err
	}
	if waiting >= truncatePages {
		_, err = d.checkpoint(ctx, "TRUNCATE")
	} else {
		_, err = d.checkpoint(ctx, "PASSIVE")
	}
	return err
}

// checkpoint returns how many pages of the log are not in the database yet.
func (d *DB) checkpoint(ctx context.Context, mode string) (waiting int, err error) {
	var busy, log, done int
	if err := d.writer.QueryRowContext(ctx, "PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &log, &done); err != nil {
		return 0, fmt.Errorf("copying the log into the database: %w", err)
	}
	return log - done, nil
}

// AnnounceSQL returns "": there are no other nodes.
func (d *DB) AnnounceSQL() string { return "" }

// Listen does nothing until ctx ends: one process has the file, and wakes its
// own readers.
func (d *DB) Listen(ctx context.Context, _ []string, _ func(channel, text string)) error {
	<-ctx.Done()
	return ctx.Err()
}

// Exclusively runs f: the lock on the data directory keeps others away.
func (d *DB) Exclusively(_ context.Context, f func() error) error { return f() }

// NowSQL returns the time of this machine's clock in milliseconds.
func (d *DB) NowSQL() string { return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)" }

// BlobType names the type of bytes.
func (d *DB) BlobType() string { return "BLOB" }

// NotifySQL returns "": there is nobody else to wake.
func (d *DB) NotifySQL() string { return "" }

// Backup writes a consistent copy to path while writers go on. The copy
// appears under its name only when it is complete and synced. An existing file
// is an error.
func (d *DB) Backup(ctx context.Context, path string) error { return Backup(ctx, d.path, path) }

// Backup copies the database at from, which this or another process may be
// using, as the method does.
func Backup(ctx context.Context, from, path string) error {
	if _, err := os.Stat(from); err != nil {
		return model.WrapError(model.KindNotFound, "", err, "there is no database to back up")
	}
	if _, err := os.Stat(path); err == nil {
		return model.Errorf(model.KindConflict, "", "the file %s exists already; choose another name for the backup", filepath.Base(path))
	}
	return copyTo(ctx, from, path)
}

func copyTo(ctx context.Context, from, path string) error {
	tmp := path + ".part"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing an unfinished copy: %w", err)
	}
	if err := vacuumInto(ctx, from, tmp); err != nil {
		return errors.Join(fmt.Errorf("copying the database to %s: %w", path, err), removeQuiet(tmp))
	}
	f, err := os.OpenFile(tmp, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("copying the database to %s: %w", path, err)
	}
	err = errors.Join(f.Chmod(0o600), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("copying the database to %s: %w", path, err), removeQuiet(tmp))
	}
	return nil
}

// vacuumInto uses a connection of its own: the readers refuse to write, even
// to another file, and the writer has other things to do.
func vacuumInto(ctx context.Context, from, to string) error {
	db, err := open(from, "_busy_timeout", "10000", "_pragma", "temp_store(2)")
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, "VACUUM INTO $1", to)
	return err
}

func removeQuiet(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

const keepSnapshots = 3

// SnapshotBefore copies the database to a file beside it, named after the
// schema version it holds, and keeps the newest three of such files. It returns
// the name of the copy.
func (d *DB) SnapshotBefore(ctx context.Context, version int64) (string, error) {
	name := fmt.Sprintf("%s.before-%05d", d.path, version)
	if err := copyTo(ctx, d.path, name); err != nil {
		return "", err
	}
	old, err := filepath.Glob(globEscape(d.path) + ".before-[0-9][0-9][0-9][0-9][0-9]")
	if err != nil {
		return "", fmt.Errorf("listing old copies: %w", err)
	}
	slices.Sort(old)
	for len(old) > keepSnapshots {
		if err := os.Remove(old[0]); err != nil {
			return "", fmt.Errorf("removing an old copy: %w", err)
		}
		old = old[1:]
	}
	return name, nil
}

func globEscape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// IntegrityCheck reads the whole database and returns an error that holds
// what is wrong with it.
func (d *DB) IntegrityCheck(ctx context.Context) error {
	for _, pragma := range []string{"integrity_check", "foreign_key_check"} {
		rows, err := d.reader.QueryContext(ctx, "PRAGMA "+pragma)
		if err != nil {
			return fmt.Errorf("checking the database: %w", err)
		}
		var faults []string
		for rows.Next() && len(faults) < 10 {
			var text, rowid, parent, fk sql.NullString
			dest := []any{&text, &rowid, &parent, &fk}
			if pragma == "integrity_check" {
				dest = dest[:1]
			}
			if err := rows.Scan(dest...); err != nil {
				return errors.Join(fmt.Errorf("checking the database: %w", err), rows.Close())
			}
			if pragma != "integrity_check" {
				text.String = "a row of " + text.String + " refers to nothing in " + parent.String
			}
			if text.String != "ok" {
				faults = append(faults, text.String)
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return fmt.Errorf("checking the database: %w", err)
		}
		if len(faults) > 0 {
			return model.WrapError(model.KindDatabase, "", errors.New(strings.Join(faults, "; ")),
				"the database is damaged; stop the program and restore a backup")
		}
	}
	return nil
}

// SizeBytes returns what the database and its log take on disk.
func (d *DB) SizeBytes(context.Context) (int64, error) {
	var n int64
	for _, suffix := range []string{"", "-wal", "-shm"} {
		st, err := os.Stat(d.path + suffix)
		if errors.Is(err, os.ErrNotExist) && suffix != "" {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("measuring the database: %w", err)
		}
		n += st.Size()
	}
	return n, nil
}

// Conflicted reports false: there is one writer.
func (d *DB) Conflicted(error) bool { return false }

// SpaceDir returns the directory whose file system holds the data.
func (d *DB) SpaceDir() string { return filepath.Dir(d.path) }

// Maintain gives free pages back to the file system, refreshes what the query
// planner knows, and shortens the log.
func (d *DB) Maintain(ctx context.Context) error {
	if _, err := d.writer.ExecContext(ctx, "PRAGMA incremental_vacuum("+strconv.Itoa(checkpointPages)+")"); err != nil {
		return fmt.Errorf("giving back free pages: %w", err)
	}
	if _, err := d.writer.ExecContext(ctx, "PRAGMA analysis_limit=1000"); err != nil {
		return fmt.Errorf("refreshing statistics: %w", err)
	}
	if _, err := d.writer.ExecContext(ctx, "PRAGMA optimize=0x10002"); err != nil {
		return fmt.Errorf("refreshing statistics: %w", err)
	}
	_, err := d.checkpoint(ctx, "PASSIVE")
	return err
}

// Close copies the log into the database and closes the file.
func (d *DB) Close() error {
	return errors.Join(d.reader.Close(), d.writer.Close())
}
