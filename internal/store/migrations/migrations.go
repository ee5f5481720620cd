// Package migrations holds the schema of package store as numbered steps, and
// turns them into what goose runs. Steps only go forward: the way back is the
// copy that the store takes before it migrates.
//
// One text serves both engines; where they differ, it has a place holder that
// Load fills in.
package migrations

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"fmt"
	"path"
	"strconv"
	"strings"
	"text/template"

	"github.com/pressly/goose/v3"
)

//go:embed *.sql
var files embed.FS

// Words are the places where the engines differ.
type Words struct {
	Key          string // type of a text that is compared and sorted byte by byte
	Blob         string // type of bytes
	WithoutRowid string // a clause after a table that is its own index
}

// The words of the engines, by name.
var (
	sqliteWords   = Words{Key: "TEXT", Blob: "BLOB", WithoutRowid: "WITHOUT ROWID"}
	postgresWords = Words{Key: `TEXT COLLATE "C"`, Blob: "BYTEA"}
)

// Load returns the steps for an engine, "sqlite" or "postgres", in order.
func Load(engine string) ([]*goose.Migration, error) {
	words := sqliteWords
	if engine == "postgres" {
		words = postgresWords
	}
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("reading migrations: %w", err)
	}
	var steps []*goose.Migration
	for _, e := range entries {
		number, _, _ := strings.Cut(e.Name(), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("migration %s: its name starts with no number", e.Name())
		}
		text, err := files.ReadFile(path.Clean(e.Name()))
		if err != nil {
			return nil, fmt.Errorf("reading migration %s: %w", e.Name(), err)
		}
		t, err := template.New(e.Name()).Option("missingkey=error").Parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("reading migration %s: %w", e.Name(), err)
		}
		var stmts bytes.Buffer
		if err := t.Execute(&stmts, words); err != nil {
			return nil, fmt.Errorf("reading migration %s: %w", e.Name(), err)
		}
		steps = append(steps, goose.NewGoMigration(version, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, stmts.String())
			return err
		}}, nil))
	}
	return steps, nil
}
