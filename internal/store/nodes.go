package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"aiops/internal/model"
)

// nodeKept is how long the row of a node that is gone stays, and with it the
// time at which its data directory joined.
const nodeKept = 30 * day

type nodeRow struct {
	Name      string `bun:"name"`
	Instance  string `bun:"instance"`
	Host      string `bun:"host"`
	JoinedAt  int64  `bun:"joined_at"`
	StartedAt int64  `bun:"started_at"`
	Leaving   int    `bun:"leaving"`
	Live      int    `bun:"live"`
}

type leaseRow struct {
	DetectorID string `bun:"detector_id"`
	Instance   string `bun:"instance"`
	Token      int64  `bun:"token"`
	Report     []byte `bun:"report"`
	ReportedAt int64  `bun:"reported_at"`
	Now        int64  `bun:"now"`
}

// Node returns the name of this node and of this life of it.
func (s *Store) Node() (name, instance string) { return s.node, s.instance }

// aside runs fn in a transaction of its own where several connections can write,
// so that a lease never waits for a large snapshot in the queue of the writer.
// fn must not emit events.
func (s *Store) aside(ctx context.Context, doing string, fn writeFunc) error {
	if s.eng.NotifySQL() == "" {
		return s.commit(ctx, doing, fn)
	}
	if err := s.writable(); err != nil {
		return err
	}
	sqltx, err := s.write.DB.BeginTx(ctx, nil)
	if err != nil {
		return s.wrap(err, doing)
	}
	if err := fn(ctx, s.newTx(sqltx)); err != nil {
		_ = sqltx.Rollback() // a rollback that fails has nothing to add
		return s.wrap(err, doing)
	}
	return s.wrap(sqltx.Commit(), doing)
}

// RenewNode says that this node lives for the time of lease from now on, by the
// database's clock. A node that is first takes the place of an earlier life of
// its data directory, whose lock proves that it has ended: what that life owned
// is free at once. Later, false means that another process has taken the place
// of this one; what it owned is lost then. The host is shown to people.
func (s *Store) RenewNode(ctx context.Context, host string, lease time.Duration, first bool) (bool, error) {
	var mine bool
	err := s.aside(ctx, "renewing the lease of this node", func(ctx context.Context, tx *tx) error {
		mine = false
		var instance string
		var live int
		err := tx.QueryRowContext(ctx, `SELECT instance, CASE WHEN expires_at > `+tx.nowSQL+` AND instance <> '' THEN 1 ELSE 0 END FROM nodes
			WHERE name = $1`+tx.forUpdate, s.node).Scan(&instance, &live)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("reading the node: %w", err)
		}
		if live == 1 && instance != s.instance && !first {
			return nil
		}
		mine = true
		if live == 1 && instance == s.instance {
			return tx.exec(ctx, `UPDATE nodes SET expires_at = `+tx.nowSQL+` + $2 WHERE name = $1`, s.node, lease.Milliseconds())
		}
		// Joining, or back after its lease had expired.
		if err := tx.exec(ctx, `INSERT INTO nodes (name, instance, host, joined_at, started_at, expires_at, leaving)
			VALUES ($1, $2, $3, `+tx.nowSQL+`, `+tx.nowSQL+`, `+tx.nowSQL+` + $4, 0)
			ON CONFLICT (name) DO UPDATE SET instance = excluded.instance, host = excluded.host, expires_at = excluded.expires_at, leaving = 0,
			started_at = CASE WHEN nodes.instance = excluded.instance THEN nodes.started_at ELSE excluded.started_at END`,
			s.node, s.instance, cleanText(host), lease.Milliseconds()); err != nil {
			return fmt.Errorf("writing the node: %w", err)
		}
		if err := tx.exec(ctx, `DELETE FROM nodes WHERE expires_at < `+tx.nowSQL+` - $1`, nodeKept.Milliseconds()); err != nil {
			return fmt.Errorf("forgetting nodes: %w", err)
		}
		return tx.nodesChanged(ctx)
	})
	return mine, err
}

// LeavingNode says that this node gives its detectors away and takes none. Its
// leases stay valid until they are released.
func (s *Store) LeavingNode(ctx context.Context) error {
	return s.aside(ctx, "leaving the other nodes", func(ctx context.Context, tx *tx) error {
		if err := tx.exec(ctx, `UPDATE nodes SET leaving = 1 WHERE name = $1 AND instance = $2`, s.node, s.instance); err != nil {
			return err
		}
		return tx.nodesChanged(ctx)
	})
}

// LeaveNode ends the lease of this node and releases all that it owned.
func (s *Store) LeaveNode(ctx context.Context) error {
	return s.aside(ctx, "ending the lease of this node", func(ctx context.Context, tx *tx) error {
		if err := tx.exec(ctx, `UPDATE leases SET instance = '' WHERE instance = $1`, s.instance); err != nil {
			return fmt.Errorf("releasing leases: %w", err)
		}
		if err := tx.exec(ctx, `UPDATE nodes SET instance = '' WHERE name = $1 AND instance = $2`, s.node, s.instance); err != nil {
			return fmt.Errorf("writing the node: %w", err)
		}
		return tx.nodesChanged(ctx)
	})
}

// nodesChanged makes the other nodes look again.
func (t *tx) nodesChanged(ctx context.Context) error {
	if err := t.exec(ctx, `UPDATE counters SET value = value + 1 WHERE name = 'nodes'`); err != nil {
		return fmt.Errorf("counting a change of the nodes: %w", err)
	}
	return nil
}

// NodesState returns a text that differs as soon as a node came, went or
// expired, or a lease changed hands. It is cheap enough to be asked for every
// second.
func (s *Store) NodesState(ctx context.Context) (string, error) {
	var changes, live int64
	err := s.read.DB.QueryRowContext(ctx, `SELECT value, (SELECT count(*) FROM nodes WHERE instance <> '' AND expires_at > `+s.eng.NowSQL()+`)
		FROM counters WHERE name = 'nodes'`).Scan(&changes, &live)
	if err != nil {
		return "", s.wrap(err, "looking at the other nodes")
	}
	return fmt.Sprintf("%d/%d", changes, live), nil
}

// Cluster returns who shares the database and which node evaluates what.
func (s *Store) Cluster(ctx context.Context) (model.Cluster, error) {
	var out model.Cluster
	nodes, err := rows[nodeRow](ctx, s.read, s.read.DB, `SELECT name, instance, host, joined_at, started_at, leaving,
		CASE WHEN expires_at > `+s.eng.NowSQL()+` AND instance <> '' THEN 1 ELSE 0 END AS live FROM nodes ORDER BY name`)
	if err != nil {
		return out, s.wrap(err, "reading the nodes")
	}
	leases, err := rows[leaseRow](ctx, s.read, s.read.DB, `SELECT detector_id, instance, token, report, reported_at, `+s.eng.NowSQL()+` AS now
		FROM leases ORDER BY detector_id`)
	if err != nil {
		return out, s.wrap(err, "reading the leases")
	}
	for _, r := range nodes {
		out.Nodes = append(out.Nodes, model.Node{Name: r.Name, Instance: r.Instance, Host: r.Host, JoinedAt: fromMillis(r.JoinedAt),
			StartedAt: fromMillis(r.StartedAt), Live: r.Live == 1, Leaving: r.Leaving == 1})
	}
	for _, r := range leases {
		out.Leases = append(out.Leases, model.Lease{DetectorID: r.DetectorID, Instance: r.Instance, Token: r.Token, Report: r.Report,
			ReportAge: time.Duration(max(0, r.Now-r.ReportedAt)) * time.Millisecond})
	}
	return out, nil
}

// TakeLeases takes the detectors of ids that no live node owns and returns the
// token of each that was taken: greater than any before it. A node whose own
// lease has expired takes none, which is a KindConflict with the subject lease.
func (s *Store) TakeLeases(ctx context.Context, ids []string) (map[string]int64, error) {
	sorted := slices.Sorted(slices.Values(ids)) // nodes that meet lock in one order
	var taken map[string]int64
	err := s.aside(ctx, "taking leases", func(ctx context.Context, tx *tx) error {
		taken = make(map[string]int64, len(sorted))
		var live int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM nodes WHERE name = $1 AND instance = $2 AND expires_at > `+tx.nowSQL,
			s.node, s.instance).Scan(&live); err != nil {
			return fmt.Errorf("reading the node: %w", err)
		}
		if live == 0 {
			return deposed("the lease of this node has expired")
		}
		for _, id := range sorted {
			var token int64
			err := tx.QueryRowContext(ctx, `INSERT INTO leases (detector_id, instance, token, taken_at, reported_at)
				SELECT id, $2, 1, `+tx.nowSQL+`, 0 FROM detectors WHERE id = $1
				ON CONFLICT (detector_id) DO UPDATE SET instance = excluded.instance, token = leases.token + 1, taken_at = excluded.taken_at
				WHERE NOT EXISTS (SELECT 1 FROM nodes WHERE nodes.instance = leases.instance AND nodes.instance <> '' AND nodes.expires_at > `+tx.nowSQL+`)
				RETURNING token`, id, s.instance).Scan(&token)
			switch {
			case errors.Is(err, sql.ErrNoRows): // owned, or the detector is gone
			case err != nil:
				return fmt.Errorf("taking a lease: %w", err)
			default:
				taken[id] = token
			}
		}
		if len(taken) == 0 {
			return nil
		}
		return tx.nodesChanged(ctx)
	})
	if err != nil {
		return nil, err
	}
	return taken, nil
}

// ReleaseLeases gives detectors that this node owns under these tokens to
// whoever takes them. One that it does not own any more is left alone.
func (s *Store) ReleaseLeases(ctx context.Context, tokens map[string]int64) error {
	ids := make([]string, 0, len(tokens))
	for id := range tokens {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return s.aside(ctx, "releasing leases", func(ctx context.Context, tx *tx) error {
		for _, id := range ids {
			if err := tx.exec(ctx, `UPDATE leases SET instance = '' WHERE detector_id = $1 AND instance = $2 AND token = $3`, id, s.instance, tokens[id]); err != nil {
				return fmt.Errorf("releasing a lease: %w", err)
			}
		}
		return tx.nodesChanged(ctx)
	})
}

// reportsPerUpdate bounds the arguments of one statement.
const reportsPerUpdate = 200

// ReportLeases keeps what this node tells of detectors that it owns, in place of
// what was told before. What it owns no more is left alone.
func (s *Store) ReportLeases(ctx context.Context, reports []model.LeaseReport) error {
	sorted := slices.SortedFunc(slices.Values(reports), func(a, b model.LeaseReport) int { return strings.Compare(a.DetectorID, b.DetectorID) })
	return s.aside(ctx, "reporting on detectors", func(ctx context.Context, tx *tx) error {
		for part := range slices.Chunk(sorted, reportsPerUpdate) {
			var q strings.Builder
			args := []any{s.instance}
			q.WriteString(`WITH told (id, token, report) AS (VALUES `)
			for i, r := range part {
				if i > 0 {
					q.WriteByte(',')
				}
				fmt.Fprintf(&q, "(CAST($%d AS TEXT), CAST($%d AS BIGINT), CAST($%d AS %s))", len(args)+1, len(args)+2, len(args)+3, tx.blob)
				args = append(args, r.DetectorID, r.Token, r.Report)
			}
			q.WriteString(`) UPDATE leases SET report = told.report, reported_at = ` + tx.nowSQL + ` FROM told
				WHERE leases.detector_id = told.id AND leases.token = told.token AND leases.instance = $1`)
			if err := tx.exec(ctx, q.String(), args...); err != nil {
				return fmt.Errorf("writing reports: %w", err)
			}
		}
		return nil
	})
}

type fenceKey struct{}

type fence struct {
	detectorID string
	token      int64
}

// WithFence returns a context for the writes of a detector's owner. Each of
// them is refused, and nothing of it is written, once the lease has a newer
// token: the error is one that model.IsDeposed knows. The lease is locked until
// the write is committed, so whoever takes it over sees the write.
func (s *Store) WithFence(ctx context.Context, detectorID string, token int64) context.Context {
	return context.WithValue(ctx, fenceKey{}, fence{detectorID, token})
}

// fenced puts the fence of ctx, if it has one, in front of fn.
func fenced(ctx context.Context, fn writeFunc) writeFunc {
	f, ok := ctx.Value(fenceKey{}).(fence)
	if !ok {
		return fn
	}
	return func(ctx context.Context, tx *tx) error {
		var token int64
		err := tx.QueryRowContext(ctx, `SELECT token FROM leases WHERE detector_id = $1`+tx.forUpdate, f.detectorID).Scan(&token)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("reading the lease: %w", err)
		}
		if token != f.token || token == 0 { // 0: the detector is gone, or nobody ever had it
			return deposed("another node has taken the detector over")
		}
		return fn(ctx, tx)
	}
}

func deposed(message string) error {
	return model.Errorf(model.KindConflict, model.SubjectLease, "%s", message)
}
