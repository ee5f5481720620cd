package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base32"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"

	"aiops/internal/model"
	"aiops/internal/space"
	"aiops/internal/store/migrations"
	"aiops/internal/store/postgres"
	"aiops/internal/store/sqlite"
)

// engine is what SQLite and PostgreSQL do differently.
type engine interface {
	Name() string
	Writer() *sql.DB
	Reader() *sql.DB
	Dialect() schema.Dialect
	ForUpdate() string             // clause that locks selected rows
	ForShare() string              // clause that keeps selected rows from being deleted
	IndexHint(index string) string // clause after a table that makes it use an index
	ReadTx() *sql.TxOptions        // a transaction that reads one state
	Conflicted(err error) bool     // a transaction was given up for the sake of another one, and can be run again
	NowSQL() string                // expression for the time of the database's clock, in milliseconds
	BlobType() string              // name of the type of bytes
	NotifySQL() string             // statement that wakes readers elsewhere; "" when there are none
	AnnounceSQL() string           // statement that sends a short text to every node; "" when there are no others
	Listen(ctx context.Context, channels []string, hear func(channel, text string)) error
	Exclusively(ctx context.Context, f func() error) error // among the nodes that share the database
	BatchContext() (context.Context, context.CancelFunc)   // bounds one transaction of the writer
	Classify(err error) (kind model.Kind, fatal bool)
	AfterCommit(ctx context.Context) error
	Maintain(ctx context.Context) error
	SnapshotBefore(ctx context.Context, version int64) (string, error)
	Backup(ctx context.Context, path string) error
	IntegrityCheck(ctx context.Context) error
	SizeBytes(ctx context.Context) (int64, error)
	SpaceDir() string
	Close() error
}

// Store is an open store. All methods are safe for concurrent use. Errors are
// *model.Error: KindNotFound, KindConflict, KindPrecondition and KindInvalid
// speak of the input; KindUnavailable (the database is not reached), KindDatabase,
// KindTimeout and KindStorageFull say that the same call can succeed later. A method that returned nil has its change
// on disk.
type Store struct {
	cfg      Config
	log      *slog.Logger
	eng      engine
	write    *bun.DB
	read     *bun.DB
	lock     *dirLock
	keys     *keyring
	codec    *codec
	stmts    *stmtCache // nil: the engine caches by itself
	metrics  *metrics
	now      func() time.Time
	scanStep int    // rows that one query of a list walks at most
	instance string // names this process among those that share the database
	logState string // the row of log_state of this node
	node     string // names the data directory among those that share the database

	queue   chan *write
	cancel  context.CancelFunc // ends the goroutines
	closed  chan struct{}      // closed by Close: no more writes are taken
	stopped chan struct{}      // closed by the writer when it ended
	done    sync.WaitGroup

	signal broadcast    // wakes readers of events
	heard  chan string  // what nodes announced
	claims claims       // of idempotency keys
	space  *space.Watch // nil where the data lives on another machine

	failOnce sync.Once
	failed   chan struct{}
	failure  error // why; read it after failed is closed

	closeOnce sync.Once
	closeErr  error
}

// Open locks the data directory, opens the database, migrates it (after taking
// a copy when it holds data), checks the master key and starts the writer. The
// caller must Close the store. A directory in use is a KindConflict whose cause
// is a *LockedError. reg may be nil: then nothing is measured.
func Open(ctx context.Context, cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	lock, err := lockDir(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	s, err := open(ctx, cfg, log.With("component", "store"), reg)
	if err != nil {
		return nil, errors.Join(err, lock.release())
	}
	s.lock = lock
	return s, nil
}

func open(ctx context.Context, cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Store, error) {
	eng, err := openEngine(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s := &Store{
		cfg: cfg, log: log, eng: eng, now: time.Now, instance: newID("node"), scanStep: scanStep,
		write:  bun.NewDB(eng.Writer(), eng.Dialect()),
		read:   bun.NewDB(eng.Reader(), eng.Dialect()),
		queue:  make(chan *write, cfg.WriteQueue),
		heard:  make(chan string, announcementsKept),
		closed: make(chan struct{}), stopped: make(chan struct{}),
		failed: make(chan struct{}),
	}
	if eng.Name() == "sqlite" {
		s.stmts = newStmtCache()
	}
	if err := s.setUp(ctx, reg); err != nil {
		return nil, errors.Join(err, eng.Close())
	}
	run, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.done.Go(s.runWriter)
	s.done.Go(func() { s.runListener(run) })
	return s, nil
}

func openEngine(ctx context.Context, cfg Config) (engine, error) {
	if url := cfg.Postgres.URL; url != "" {
		db, err := postgres.Open(ctx, postgres.Options{URL: url, MaxConnections: cfg.Postgres.MaxConnections})
		if err != nil {
			return nil, err
		}
		return db, nil
	}
	db, err := sqlite.Open(ctx, sqlite.Options{Path: cfg.SQLite.Path, Readers: cfg.SQLite.Readers, Synchronous: cfg.synchronous})
	if err != nil {
		return nil, err
	}
	return db, nil
}

func (s *Store) setUp(ctx context.Context, reg prometheus.Registerer) error {
	steps, err := migrations.Load(s.eng.Name())
	if err != nil {
		return err
	}
	if s.keys, err = openKeyring(s.cfg); err != nil {
		return err
	}
	if s.codec, err = newCodec(); err != nil {
		return err
	}
	if err := s.nameNode(); err != nil {
		return err
	}
	if dir := s.eng.SpaceDir(); dir != "" {
		s.space = space.New(dir)
	}
	if err := s.eng.Exclusively(ctx, func() error {
		if err := s.migrate(ctx, steps); err != nil {
			return err
		}
		return s.checkKey(ctx)
	}); err != nil {
		return s.wrap(err, "preparing the database")
	}
	if s.metrics, err = newMetrics(reg, s); err != nil {
		return err
	}
	return nil
}

// Close takes no more writes, finishes those that are queued, and closes the
// database. It may be called more than once. Stop whatever uses the store,
// Jobs included, before.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		close(s.closed)
		s.cancel()
		s.done.Wait()
		s.closeErr = errors.Join(s.metrics.unregister(), s.eng.Close(), s.lock.release())
	})
	return s.closeErr
}

// Engine returns "sqlite" or "postgres".
func (s *Store) Engine() string { return s.eng.Name() }

// Failed returns a channel that is closed when the store cannot go on: after
// an I/O error, a failed sync or damage. The program has to exit with an error.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Err returns why the store failed, or nil while it has not. Its chain holds
// ErrFailed.
func (s *Store) Err() error {
	select {
	case <-s.failed:
		return s.failure
	default:
		return nil
	}
}

// fail marks the store as failed, once.
func (s *Store) fail(cause error) {
	s.failOnce.Do(func() {
		s.failure = errors.Join(ErrFailed, cause)
		s.log.Error("the store has failed; nothing more is acknowledged", "err", cause)
		close(s.failed)
	})
}

// Ping writes a row and reads it back.
func (s *Store) Ping(ctx context.Context) error {
	const key = "ping" // the same for every node, which may write it at the same moment
	if err := s.SetMeta(ctx, key, strconv.FormatInt(s.now().UnixNano(), 10)); err != nil {
		return err
	}
	got, ok, err := s.Meta(ctx, key)
	if err != nil {
		return err
	}
	if !ok || got == "" {
		return model.Errorf(model.KindDatabase, "", "the database does not return what was written to it")
	}
	return nil
}

// SizeBytes returns what the database takes on disk.
func (s *Store) SizeBytes(ctx context.Context) (int64, error) {
	n, err := s.eng.SizeBytes(ctx)
	return n, s.wrap(err, "measuring the database")
}

// IntegrityCheck reads the whole database; it can take minutes. What it finds
// is a KindDatabase error whose cause lists the damage.
func (s *Store) IntegrityCheck(ctx context.Context) error {
	return s.wrap(s.eng.IntegrityCheck(ctx), "checking the database")
}

// Exclusively runs f while no other node that shares the database runs a function
// of its own here: it waits for them. f must not call it again.
func (s *Store) Exclusively(ctx context.Context, f func() error) error {
	var of error
	err := s.eng.Exclusively(ctx, func() error { of = f(); return of })
	if of != nil {
		return of
	}
	return s.wrap(err, "waiting for other nodes")
}

// Backup writes a consistent copy of the database to the file path, which must
// not exist, while everything goes on. Secrets in it stay encrypted: keep the
// master key apart from it.
func (s *Store) Backup(ctx context.Context, path string) error {
	return s.wrap(s.eng.Backup(ctx, path), "backing up the database")
}

// Meta returns the value kept under key; ok is false when there is none.
func (s *Store) Meta(ctx context.Context, key string) (value string, ok bool, err error) {
	err = s.read.DB.QueryRowContext(ctx, `SELECT value FROM meta WHERE key = $1`, cleanText(key)).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return "", false, nil
	}
	return value, err == nil, s.wrap(err, "reading meta data")
}

// SetMeta keeps value under key. It writes no event.
func (s *Store) SetMeta(ctx context.Context, key, value string) error {
	return s.commit(ctx, "writing meta data", func(ctx context.Context, tx *tx) error {
		return tx.exec(ctx, `INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
			cleanText(key), cleanText(value))
	})
}

// newID returns a random identifier such as det_2k4v6…: 20 characters of 5 bits.
func newID(prefix string) string {
	var b [13]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the program instead
	return prefix + "_" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))[:20]
}

// rows runs a query and returns its rows as values of T, never nil.
func rows[T any](ctx context.Context, db *bun.DB, q queryer, query string, args ...any) ([]T, error) {
	rs, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	out := []T{}
	if err := db.ScanRows(ctx, rs, &out); err != nil {
		return nil, err
	}
	return out, nil
}

// queryer is a *sql.DB or *sql.Tx.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}
