// Package postgres is the shared engine of package store: how it is reached,
// how it wakes readers on other nodes, how it is copied and checked, and what
// its errors mean.
package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/schema"

	"aiops/internal/model"
)

// Options say how a database is reached.
type Options struct {
	URL            model.Secret
	MaxConnections int // of this node, without the one that asks whether the server is there; least 4; 0 is 20
}

// DB is a database. All methods are safe for concurrent use.
type DB struct {
	config  *pgx.ConnConfig // of connections that are not watched
	watched *pgx.ConnConfig
	writer  *sql.DB
	reader  *sql.DB
	long    *sql.DB // for what may take minutes; its connections are not watched

	stopWatch context.CancelFunc
	watching  sync.WaitGroup
}

// The limits that keep a database which hangs from holding us for ever.
const (
	connectTimeout   = 3 * time.Second
	statementTimeout = 30 * time.Second
	idleTimeout      = 10 * time.Second // in a transaction, after which the server gives its locks back: we may be gone without a word
	batchTimeout     = 15 * time.Second
	openTimeout      = 10 * time.Second
)

// Open connects to the database. The error names what is wrong without the
// password.
func Open(ctx context.Context, o Options) (*DB, error) {
	cfg, err := pgx.ParseConfig(o.URL.Reveal())
	if err != nil {
		// The cause repeats the URL.
		return nil, model.Errorf(model.KindInvalid, "", "the PostgreSQL URL cannot be read; its form is postgres://user:password@host:5432/database")
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "aiops"
	}
	// A peer that is gone without a word is noticed on an idle connection after 11 s.
	cfg.DialFunc = (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}}).DialContext
	// A cluster may be set otherwise; what is acknowledged here is on disk.
	cfg.RuntimeParams["synchronous_commit"] = "on"
	cfg.RuntimeParams["statement_timeout"] = fmt.Sprint(statementTimeout.Milliseconds())
	cfg.RuntimeParams["idle_in_transaction_session_timeout"] = fmt.Sprint(idleTimeout.Milliseconds())
	if o.MaxConnections == 0 {
		o.MaxConnections = 20
	}
	w := newWatch(cfg)
	watched := w.watched()
	g := gate{Connector: stdlib.GetConnector(*watched), state: &gateState{}}
	d := &DB{config: cfg, watched: watched, writer: sql.OpenDB(g), reader: sql.OpenDB(g), long: openLong(cfg)}
	// The writer of the store uses one connection of its pool, the runner of
	// tasks the others; one more listens. That which asks whether the server
	// answers is not counted.
	writers := max(2, o.MaxConnections/4)
	readers := max(1, o.MaxConnections-writers-1)
	for pool, n := range map[*sql.DB]int{d.writer: writers, d.reader: readers} {
		pool.SetMaxOpenConns(n)
		pool.SetMaxIdleConns(n)
		pool.SetConnMaxIdleTime(5 * time.Minute)
		pool.SetConnMaxLifetime(time.Hour)
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stopWatch = stop
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := d.writer.PingContext(ctx); err != nil {
		return nil, errors.Join(explainConnect(err), d.Close())
	}
	d.watching.Go(func() { w.run(run) })
	return d, nil
}

// openLong returns a pool for copies and checks of the whole database: its
// statements have no limit of time, and no connection stays.
func openLong(cfg *pgx.ConnConfig) *sql.DB {
	cfg = cfg.Copy()
	cfg.RuntimeParams["statement_timeout"] = "0"
	pool := stdlib.OpenDB(*cfg)
	pool.SetMaxIdleConns(-1)
	return pool
}

// explainConnect says what to do about a connection that cannot be made.
func explainConnect(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case "28P01", "28000":
			return model.WrapError(model.KindDatabase, "", err, "PostgreSQL refuses the user or the password; check the URL")
		case "3D000":
			return model.WrapError(model.KindDatabase, "", err, "the PostgreSQL database does not exist; create it, or correct the URL")
		case full:
			return model.WrapError(model.KindDatabase, "", err, "PostgreSQL has no connection left; lower max_connections of the nodes, or raise that of the server")
		}
	}
	return model.WrapError(model.KindDatabase, "", err, "PostgreSQL does not answer; check that it runs and that the URL is right")
}

// Name returns "postgres".
func (d *DB) Name() string { return "postgres" }

// Writer returns the pool of the writer and of the runner of tasks.
func (d *DB) Writer() *sql.DB { return d.writer }

// Reader returns the pool that reads.
func (d *DB) Reader() *sql.DB { return d.reader }

// Dialect returns the dialect of the query layer.
func (d *DB) Dialect() schema.Dialect { return pgdialect.New() }

// ForUpdate returns the clause that locks selected rows against other nodes.
func (d *DB) ForUpdate() string { return " FOR UPDATE" }

// ForShare returns the clause that keeps selected rows from being deleted by
// other nodes.
func (d *DB) ForShare() string { return " FOR KEY SHARE" }

// IndexHint returns "": PostgreSQL knows no such clause.
func (d *DB) IndexHint(string) string { return "" }

// ReadTx returns the options of a transaction that reads one state.
func (d *DB) ReadTx() *sql.TxOptions {
	return &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead}
}

// BatchContext returns a context that ends in 15 s, so that one connection that is
// dead does not hold every writer for longer.
func (d *DB) BatchContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), batchTimeout)
}

// Classify says what kind of failure err is: KindUnavailable when the server was
// not reached, or the connection to it broke. Fatal ones are damage: nothing
// may be acknowledged after them. An I/O error of the server is its own to
// survive: it ends, and comes back with what it had acknowledged.
func (d *DB) Classify(err error) (kind model.Kind, fatal bool) {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case "53100":
			return model.KindStorageFull, false
		case "23505":
			return model.KindConflict, false
		case "57014":
			return model.KindTimeout, false
		case full, "57P01", "57P02", "57P03": // shut down, crashed, starting
			return model.KindUnavailable, false
		case "XX001", "XX002":
			return model.KindDatabase, true
		}
		switch pg.Code[:min(2, len(pg.Code))] {
		case "08": // connection
			return model.KindUnavailable, false
		case "40", "53", "55", "57", "58": // rollback, resources, locks, operator, system
			return model.KindDatabase, false
		}
		return model.KindInternal, false
	}
	var connect *pgconn.ConnectError
	var network net.Error
	if errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err) || pgconn.Timeout(err) || isClosed(err) {
		return model.KindUnavailable, false
	}
	return model.KindInternal, false
}

// Conflicted reports whether err is a deadlock or a failure to serialize, after
// which nothing of the transaction is written.
func (d *DB) Conflicted(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40P01" || pg.Code == "40001")
}

func isClosed(err error) bool {
	var lock interface{ SafeToRetry() bool }
	return errors.Is(err, errSilent) || errors.Is(err, driver.ErrBadConn) || errors.As(err, &lock) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded)
}

// AfterCommit does nothing: the server looks after its log.
func (d *DB) AfterCommit(context.Context) error { return nil }

// Maintain does nothing: the server cleans up after us.
func (d *DB) Maintain(context.Context) error { return nil }

// NowSQL returns the time of the server's clock in milliseconds.
func (d *DB) NowSQL() string { return "(extract(epoch FROM clock_timestamp()) * 1000)::bigint" }

// BlobType names the type of bytes.
func (d *DB) BlobType() string { return "BYTEA" }

// NotifySQL returns the statement that wakes readers on other nodes when the
// transaction commits.
func (d *DB) NotifySQL() string { return "SELECT pg_notify('aiops_events', $1)" }

// AnnounceSQL returns the statement that sends a text to every node that
// listens, which must be shorter than 8,000 bytes.
func (d *DB) AnnounceSQL() string { return "SELECT pg_notify('aiops_live', $1)" }

// Listen calls hear for every announcement on some channels, until ctx ends or
// the connection breaks, and once for each of them when it begins to listen:
// something may have been announced before. It uses a connection of its own.
func (d *DB) Listen(ctx context.Context, channels []string, hear func(channel, text string)) error {
	conn, err := pgx.ConnectConfig(ctx, d.watched.Copy())
	if err != nil {
		return fmt.Errorf("connecting to listen: %w", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing) // it only listened
	}()
	for _, channel := range channels {
		if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
			return fmt.Errorf("listening: %w", err)
		}
		hear(channel, "")
	}
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("waiting for announcements: %w", err)
		}
		hear(n.Channel, n.Payload)
	}
}

// migrationLock is the number of the advisory lock of Exclusively.
const migrationLock = 0x61696f7073

// Exclusively runs f while no other node runs a function of its own here: it
// waits for them. A node that ends meanwhile gives way.
func (d *DB) Exclusively(ctx context.Context, f func() error) error {
	cfg := d.config.Copy()
	cfg.RuntimeParams["statement_timeout"] = "0"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("waiting for other nodes: %w", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing) // which gives the lock back
	}()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(migrationLock)); err != nil {
		return fmt.Errorf("waiting for other nodes: %w", err)
	}
	return f()
}

// SizeBytes returns what the database takes on the server.
func (d *DB) SizeBytes(ctx context.Context) (int64, error) {
	var n int64
	if err := d.reader.QueryRowContext(ctx, `SELECT pg_database_size(current_database())`).Scan(&n); err != nil {
		return 0, fmt.Errorf("measuring the database: %w", err)
	}
	return n, nil
}

// SpaceDir returns "": the data is on the server.
func (d *DB) SpaceDir() string { return "" }

// Close ends the watch and closes the pools.
func (d *DB) Close() error {
	d.stopWatch()
	d.watching.Wait()
	return errors.Join(d.long.Close(), d.reader.Close(), d.writer.Close())
}
