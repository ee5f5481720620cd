package store

import (
	"context"
	"database/sql"
)

// stmtCache keeps the writer's statements prepared, because parsing takes the
// embedded database longer than many of them run. Only the writer's goroutine
// uses it. A statement cannot be prepared while the transaction holds the one
// connection, so what was missed is prepared between two transactions.
type stmtCache struct {
	ready  map[string]*sql.Stmt
	missed map[string]int // how often
}

const (
	maxStmts       = 200
	missesToCache  = 2
	maxMissedStmts = 1000
)

func newStmtCache() *stmtCache {
	return &stmtCache{ready: make(map[string]*sql.Stmt), missed: make(map[string]int)}
}

// find returns the prepared form of a statement, nil when there is none.
func (c *stmtCache) find(query string) *sql.Stmt {
	if c == nil {
		return nil
	}
	if s := c.ready[query]; s != nil {
		return s
	}
	if len(c.missed) < maxMissedStmts {
		c.missed[query]++
	}
	return nil
}

// fill prepares what was missed more than once. What cannot be prepared is
// left to fail where it is used.
func (c *stmtCache) fill(ctx context.Context, db *sql.DB) {
	if c == nil {
		return
	}
	for query, n := range c.missed {
		if n < missesToCache || len(c.ready) >= maxStmts {
			continue
		}
		delete(c.missed, query)
		if s, err := db.PrepareContext(ctx, query); err == nil {
			c.ready[query] = s
		}
	}
	if len(c.missed) >= maxMissedStmts {
		clear(c.missed)
	}
}

func (c *stmtCache) close() {
	if c == nil {
		return
	}
	for _, s := range c.ready {
		_ = s.Close() // the connection is closed next
	}
}

// ExecContext runs a statement, prepared when it is run often.
func (t *tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if s := t.stmts.find(query); s != nil {
		return t.Tx.StmtContext(ctx, s).ExecContext(ctx, args...)
	}
	return t.Tx.ExecContext(ctx, query, args...)
}

// QueryContext runs a query, prepared when it is run often.
func (t *tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if s := t.stmts.find(query); s != nil {
		return t.Tx.StmtContext(ctx, s).QueryContext(ctx, args...)
	}
	return t.Tx.QueryContext(ctx, query, args...)
}

// QueryRowContext runs a query for one row, prepared when it is run often.
func (t *tx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if s := t.stmts.find(query); s != nil {
		return t.Tx.StmtContext(ctx, s).QueryRowContext(ctx, args...)
	}
	return t.Tx.QueryRowContext(ctx, query, args...)
}
