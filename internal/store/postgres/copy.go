package postgres

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/klauspost/compress/zstd"

	"aiops/internal/model"
)

const (
	snapshotPrefix = "aiops_snapshot_"
	keepSnapshots  = 3
)

// tables lists our tables in the current schema, those that others refer to
// first.
func tables(ctx context.Context, tx *sql.Tx) ([]string, error) {
	rs, err := tx.QueryContext(ctx, `SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = current_schema() AND c.relkind = 'r'
		ORDER BY (SELECT count(*) FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f'), c.relname`)
	if err != nil {
		return nil, fmt.Errorf("listing tables: %w", err)
	}
	defer rs.Close()
	var names []string
	for rs.Next() {
		var n string
		if err := rs.Scan(&n); err != nil {
			return nil, fmt.Errorf("listing tables: %w", err)
		}
		names = append(names, n)
	}
	return names, rs.Err()
}

// SnapshotBefore copies every table into the schema aiops_snapshot_<version>
// in one transaction, and keeps the newest three of such schemas. It returns
// the name of the schema.
func (d *DB) SnapshotBefore(ctx context.Context, version int64) (string, error) {
	name := fmt.Sprintf("%s%05d", snapshotPrefix, version)
	quoted := pgx.Identifier{name}.Sanitize()
	tx, err := d.long.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return "", fmt.Errorf("copying the tables: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	names, err := tables(ctx, tx)
	if err != nil {
		return "", err
	}
	stmts := []string{"DROP SCHEMA IF EXISTS " + quoted + " CASCADE", "CREATE SCHEMA " + quoted}
	for _, t := range names {
		stmts = append(stmts, "CREATE TABLE "+pgx.Identifier{name, t}.Sanitize()+" AS TABLE "+pgx.Identifier{t}.Sanitize())
	}
	old, err := oldSnapshots(ctx, tx, name)
	if err != nil {
		return "", err
	}
	for _, s := range old {
		stmts = append(stmts, "DROP SCHEMA "+pgx.Identifier{s}.Sanitize()+" CASCADE")
	}
	for _, stmt := range stmts {
		if _, err := tx.ExecContext(ctx, stmt); err != nil {
			return "", fmt.Errorf("copying the tables: %w", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return "", fmt.Errorf("copying the tables: %w", err)
	}
	return name, nil
}

// oldSnapshots lists the copies that go when one called name is added.
func oldSnapshots(ctx context.Context, tx *sql.Tx, name string) ([]string, error) {
	rs, err := tx.QueryContext(ctx, `SELECT nspname FROM pg_namespace WHERE starts_with(nspname, $1) AND nspname <> $2 ORDER BY nspname`,
		snapshotPrefix, name)
	if err != nil {
		return nil, fmt.Errorf("listing old copies: %w", err)
	}
	defer rs.Close()
	var names []string
	for rs.Next() {
		var n string
		if err := rs.Scan(&n); err != nil {
			return nil, fmt.Errorf("listing old copies: %w", err)
		}
		names = append(names, n)
	}
	return names[:max(0, len(names)-(keepSnapshots-1))], rs.Err()
}

// Backup writes every table, as one transaction sees them, to a file of our
// own: zstd around a header line and one COPY section per table. Restore reads
// it. An existing file is an error.
func (d *DB) Backup(ctx context.Context, path string) error {
	if _, err := os.Stat(path); err == nil {
		return model.Errorf(model.KindConflict, "", "the file %s exists already; choose another name for the backup", filepath.Base(path))
	}
	tmp := path + ".part"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("writing a backup: %w", err)
	}
	err = d.dump(ctx, f)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing a backup: %w", err), os.RemoveAll(tmp))
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// backupHeader is the first line of a backup.
const backupHeader = "aiops postgres backup v1\n"

func (d *DB) dump(ctx context.Context, w io.Writer) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	out := bufio.NewWriter(z)
	if _, err := out.WriteString(backupHeader); err != nil {
		return err
	}
	conn, err := d.long.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	tx, err := conn.BeginTx(ctx, d.ReadTx())
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // only read
	names, err := tables(ctx, tx)
	if err != nil {
		return err
	}
	for _, name := range names {
		columns, err := columnsOf(ctx, tx, name)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "table %s (%s)\n", pgx.Identifier{name}.Sanitize(), columns); err != nil {
			return err
		}
		if err := conn.Raw(func(driver any) error {
			pg := driver.(*stdlib.Conn).Conn().PgConn()
			_, err := pg.CopyTo(ctx, out, fmt.Sprintf("COPY %s (%s) TO STDOUT", pgx.Identifier{name}.Sanitize(), columns))
			return err
		}); err != nil {
			return fmt.Errorf("copying %s: %w", name, err)
		}
		if _, err := out.WriteString("\\.\n"); err != nil {
			return err
		}
	}
	if _, err := out.WriteString("end\n"); err != nil {
		return err
	}
	return errors.Join(out.Flush(), z.Close())
}

// columnsOf lists the columns of a table that hold data of their own.
func columnsOf(ctx context.Context, tx *sql.Tx, table string) (string, error) {
	rs, err := tx.QueryContext(ctx, `SELECT a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
		JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = current_schema() AND c.relname = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
		ORDER BY a.attnum`, table)
	if err != nil {
		return "", fmt.Errorf("listing columns: %w", err)
	}
	defer rs.Close()
	var names []string
	for rs.Next() {
		var n string
		if err := rs.Scan(&n); err != nil {
			return "", fmt.Errorf("listing columns: %w", err)
		}
		names = append(names, pgx.Identifier{n}.Sanitize())
	}
	return strings.Join(names, ", "), rs.Err()
}

// IntegrityCheck reads every row and every index of our tables, as far as the
// server can check them itself: with the extension amcheck where it exists.
func (d *DB) IntegrityCheck(ctx context.Context) error {
	tx, err := d.long.BeginTx(ctx, &sql.TxOptions{})
	if err != nil {
		return fmt.Errorf("checking the database: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // only read
	names, err := tables(ctx, tx)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, n := range names {
		// The text of a row decodes every column, also those stored apart.
		var rows, bytes int64
		if err := tx.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(length(t::text)), 0) FROM `+pgx.Identifier{n}.Sanitize()+` AS t`).Scan(&rows, &bytes); err != nil {
			return model.WrapError(model.KindDatabase, "", fmt.Errorf("table %s: %w", n, err), "the database is damaged; restore a backup")
		}
	}
	var amcheck bool
	if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'amcheck')`).Scan(&amcheck); err != nil {
		return fmt.Errorf("checking the database: %w", err)
	}
	if !amcheck {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `SELECT bt_index_check(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		JOIN pg_am a ON a.oid = c.relam JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = current_schema() AND a.amname = 'btree' AND i.indisvalid`); err != nil {
		return model.WrapError(model.KindDatabase, "", err, "an index of the database is damaged; rebuild it with REINDEX")
	}
	return nil
}
