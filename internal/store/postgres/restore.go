package postgres

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/klauspost/compress/zstd"

	"aiops/internal/model"
)

// Restore replaces the content of every table by that of a backup, in one
// transaction: afterwards either everything is as it was backed up, or nothing
// changed. The schema has to be the one that the backup was made with.
func (d *DB) Restore(ctx context.Context, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return model.WrapError(model.KindNotFound, "", err, "the backup cannot be read")
	}
	defer f.Close()
	z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return damagedBackup(err)
	}
	defer z.Close()
	in := bufio.NewReaderSize(z, 1<<16)
	if line, err := in.ReadString('\n'); err != nil || line != backupHeader {
		return damagedBackup(err)
	}
	conn, err := d.long.Conn(ctx)
	if err != nil {
		return fmt.Errorf("restoring the database: %w", err)
	}
	defer conn.Close()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("restoring the database: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if err := restoreTables(ctx, conn, tx, in); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("restoring the database: %w", err)
	}
	return nil
}

func damagedBackup(err error) error {
	return model.WrapError(model.KindInvalid, "", errors.Join(errors.New("reading the backup"), err), "the backup is damaged or is not one of this program's PostgreSQL backups")
}

func restoreTables(ctx context.Context, conn *sql.Conn, tx *sql.Tx, in *bufio.Reader) error {
	names, err := tables(ctx, tx)
	if err != nil {
		return err
	}
	mine := make(map[string]bool, len(names))
	quoted := make([]string, len(names))
	for i, n := range names {
		columns, err := columnsOf(ctx, tx, n)
		if err != nil {
			return err
		}
		quoted[i] = pgx.Identifier{n}.Sanitize()
		mine[fmt.Sprintf("table %s (%s)", quoted[i], columns)] = true
	}
	if _, err := tx.ExecContext(ctx, "TRUNCATE "+strings.Join(quoted, ", ")); err != nil {
		return fmt.Errorf("restoring the database: %w", err)
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return damagedBackup(err)
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "end" {
			break
		}
		// The line becomes part of a statement: only what we would have written
		// ourselves is taken.
		if !mine[line] {
			return model.Errorf(model.KindConflict, "", "the backup comes from another version of the program; restore it with that version, then upgrade")
		}
		delete(mine, line)
		section := &copySection{in: in}
		if err := conn.Raw(func(driver any) error {
			pg := driver.(*stdlib.Conn).Conn().PgConn()
			_, err := pg.CopyFrom(ctx, section, "COPY "+strings.TrimPrefix(line, "table ")+" FROM STDIN")
			return err
		}); err != nil {
			return fmt.Errorf("restoring the database: %w", err)
		}
		if !section.ended {
			return damagedBackup(io.ErrUnexpectedEOF)
		}
	}
	if len(mine) > 0 {
		return damagedBackup(fmt.Errorf("%d tables are missing", len(mine)))
	}
	return resetSequences(ctx, tx)
}

// copySection reads one COPY section, up to the line that ends it.
type copySection struct {
	in    *bufio.Reader
	rest  []byte
	start bool // rest continues a line
	ended bool
}

// Read implements io.Reader.
func (c *copySection) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		if c.ended {
			return 0, io.EOF
		}
		line, err := c.in.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return 0, io.ErrUnexpectedEOF
		}
		if !c.start && bytes.Equal(line, []byte("\\.\n")) {
			c.ended = true
			return 0, io.EOF
		}
		c.start = err != nil
		c.rest = line
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// resetSequences lets every sequence go on after the greatest value in use.
func resetSequences(ctx context.Context, tx *sql.Tx) error {
	rs, err := tx.QueryContext(ctx, `SELECT c.relname, a.attname, pg_get_serial_sequence(quote_ident(c.relname), a.attname)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE n.nspname = current_schema() AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
		AND pg_get_serial_sequence(quote_ident(c.relname), a.attname) IS NOT NULL`)
	if err != nil {
		return fmt.Errorf("listing sequences: %w", err)
	}
	defer rs.Close()
	var stmts []string
	for rs.Next() {
		var table, column, sequence string
		if err := rs.Scan(&table, &column, &sequence); err != nil {
			return fmt.Errorf("listing sequences: %w", err)
		}
		stmts = append(stmts, fmt.Sprintf("SELECT setval('%s', coalesce((SELECT max(%s) FROM %s), 0) + 1, false)",
			strings.ReplaceAll(sequence, "'", "''"), pgx.Identifier{column}.Sanitize(), pgx.Identifier{table}.Sanitize()))
	}
	if err := rs.Err(); err != nil {
		return fmt.Errorf("listing sequences: %w", err)
	}
	for _, stmt := range stmts {
		if _, err := tx.ExecContext(ctx, stmt); err != nil {
			return fmt.Errorf("resetting a sequence: %w", err)
		}
	}
	return nil
}
