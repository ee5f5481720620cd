package store

import (
	"context"
	"fmt"
	"time"

	"aiops/internal/model"
)

// sourceEvent is the data of the events of a source.
type sourceEvent struct {
	Name string `json:"name"`
	model.SourceHealth
	LatencyMS float64 `json:"latency_ms"`
}

type healthRow struct {
	Name      string `bun:"name"`
	Node      string `bun:"node"`
	Host      string `bun:"host"`
	Mine      int    `bun:"mine"`
	State     string `bun:"state"`
	Since     int64  `bun:"since"`
	CheckedAt int64  `bun:"checked_at"`
	LastError string `bun:"last_error"`
	LatencyNS int64  `bun:"latency_ns"`
}

func (r healthRow) health() model.SourceHealth {
	return model.SourceHealth{State: model.HealthState(r.State), Since: fromMillis(r.Since), CheckedAt: fromMillis(r.CheckedAt),
		LastError: r.LastError, Latency: time.Duration(r.LatencyNS)}
}

// healthOfNodes reads what this node and those that live say of sources; a
// clause may follow. What an earlier life of a node said does not count.
func healthOfNodes(nowSQL string) string {
	return `SELECT h.name, h.node, coalesce(n.host, '') AS host, CASE WHEN h.instance = $1 THEN 1 ELSE 0 END AS mine, h.state, h.since, h.checked_at,
		h.last_error, h.latency_ns FROM source_health_nodes h LEFT JOIN nodes n ON n.instance = h.instance AND n.instance <> '' AND n.expires_at > ` + nowSQL + `
		WHERE (h.instance = $1 OR n.instance IS NOT NULL)`
}

const keepHealth = ` ON CONFLICT (name) DO UPDATE SET state = excluded.state, since = excluded.since,
	checked_at = excluded.checked_at, last_error = excluded.last_error, latency_ns = excluded.latency_ns`

// SetSourceHealth keeps what this node knows of the health of the source called
// name. The health that is shown follows from what all nodes that live say, by
// model.JoinHealth. When its state differs from the one before, it writes an
// event: source.up, source.degraded, or source.down for down and stale; unknown
// writes none. A source need not be stored to have a health: the builtin one
// may not be.
func (s *Store) SetSourceHealth(ctx context.Context, name string, h model.SourceHealth) error {
	return s.commit(ctx, "writing the health of a source", func(ctx context.Context, tx *tx) error {
		if err := tx.exec(ctx, `INSERT INTO source_health_nodes (name, node, instance, state, since, checked_at, last_error, latency_ns)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (name, node) DO UPDATE SET instance = excluded.instance, state = excluded.state,
			since = excluded.since, checked_at = excluded.checked_at, last_error = excluded.last_error, latency_ns = excluded.latency_ns`,
			cleanText(name), s.node, s.instance, string(h.State), toMillis(h.Since), toMillis(h.CheckedAt), cleanText(h.LastError), int64(h.Latency)); err != nil {
			return fmt.Errorf("writing the health: %w", err)
		}
		return s.joinHealth(ctx, tx, name)
	})
}

// joinHealth keeps what follows from all nodes, and tells when that changes.
func (s *Store) joinHealth(ctx context.Context, tx *tx, name string) error {
	// The row is there and locked before the others are read, so that of two
	// nodes that write at once the later one sees both.
	if err := tx.exec(ctx, `INSERT INTO source_health (name, state, since, checked_at, last_error, latency_ns)
		VALUES ($1, $2, 0, 0, '', 0) ON CONFLICT (name) DO NOTHING`, cleanText(name), string(model.SourceUnknown)); err != nil {
		return fmt.Errorf("writing the health: %w", err)
	}
	var before string
	if err := tx.QueryRowContext(ctx, `SELECT state FROM source_health WHERE name = $1`+tx.forUpdate, cleanText(name)).Scan(&before); err != nil {
		return fmt.Errorf("reading the health: %w", err)
	}
	found, err := rows[healthRow](ctx, tx.bun, tx, healthOfNodes(tx.nowSQL)+` AND h.name = $2`, s.instance, cleanText(name))
	if err != nil {
		return fmt.Errorf("reading the health of nodes: %w", err)
	}
	h := model.JoinHealth(nodesHealth(found))
	if err := tx.exec(ctx, `INSERT INTO source_health (name, state, since, checked_at, last_error, latency_ns) VALUES ($1, $2, $3, $4, $5, $6)`+keepHealth,
		cleanText(name), string(h.State), toMillis(h.Since), toMillis(h.CheckedAt), cleanText(h.LastError), int64(h.Latency)); err != nil {
		return fmt.Errorf("writing the health: %w", err)
	}
	types := map[model.HealthState]model.EventType{model.SourceUp: model.EventSourceUp, model.SourceDegraded: model.EventSourceDegraded,
		model.SourceDown: model.EventSourceDown, model.SourceStale: model.EventSourceDown}
	typ, ok := types[h.State]
	if !ok || before == string(h.State) {
		return nil
	}
	_, err = tx.emit(typ, "sources/"+name, sourceEvent{Name: name, SourceHealth: h, LatencyMS: float64(h.Latency) / 1e6})
	return err
}

func nodesHealth(found []healthRow) []model.NodeHealth {
	out := make([]model.NodeHealth, len(found))
	for i, r := range found {
		out[i] = model.NodeHealth{Node: r.Node, Host: r.Host, Mine: r.Mine == 1, SourceHealth: r.health()}
	}
	return out
}

// NodesSourceHealth returns what this node and the others that live have kept
// of the health of sources, by the name of the source. When what follows from it
// is not what is kept, because a node ended, it is brought up to date.
func (s *Store) NodesSourceHealth(ctx context.Context) (map[string][]model.NodeHealth, error) {
	found, err := rows[healthRow](ctx, s.read, s.read.DB, healthOfNodes(s.eng.NowSQL())+` ORDER BY h.name, h.node`, s.instance)
	if err != nil {
		return nil, s.wrap(err, "reading the health of sources")
	}
	out := map[string][]model.NodeHealth{}
	for i, r := range found {
		out[r.Name] = append(out[r.Name], nodesHealth(found[i:i+1])...)
	}
	kept, err := rows[healthRow](ctx, s.read, s.read.DB, `SELECT name, state, since, checked_at, last_error, latency_ns FROM source_health`)
	if err != nil {
		return nil, s.wrap(err, "reading the health of sources")
	}
	for _, r := range kept {
		list := out[r.Name]
		if now := model.JoinHealth(list); len(list) == 0 || string(now.State) == r.State && now.LastError == r.LastError {
			continue
		}
		name := r.Name
		if err := s.commit(ctx, "writing the health of a source", func(ctx context.Context, tx *tx) error {
			return s.joinHealth(ctx, tx, name)
		}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// SourceHealth returns the health of the source called name that follows from
// what was kept last; its state is unknown when nothing was.
func (s *Store) SourceHealth(ctx context.Context, name string) (model.SourceHealth, error) {
	found, err := rows[healthRow](ctx, s.read, s.read.DB, `SELECT name, state, since, checked_at, last_error, latency_ns FROM source_health WHERE name = $1`, cleanText(name))
	if err != nil {
		return model.SourceHealth{}, s.wrap(err, "reading the health of a source")
	}
	if len(found) == 0 {
		return model.SourceHealth{State: model.SourceUnknown}, nil
	}
	return found[0].health(), nil
}

// renameHealth keeps the health of a source under its new name.
func (t *tx) renameHealth(ctx context.Context, from, to string) error {
	if from == to {
		return nil
	}
	for _, table := range []string{"source_health", "source_health_nodes"} {
		if err := t.exec(ctx, `DELETE FROM `+table+` WHERE name = $1`, to); err != nil {
			return fmt.Errorf("renaming the health: %w", err)
		}
		if err := t.exec(ctx, `UPDATE `+table+` SET name = $2 WHERE name = $1`, from, to); err != nil {
			return fmt.Errorf("renaming the health: %w", err)
		}
	}
	return nil
}

// deleteHealth forgets the health of a source.
func (t *tx) deleteHealth(ctx context.Context, name string) error {
	for _, table := range []string{"source_health", "source_health_nodes"} {
		if err := t.exec(ctx, `DELETE FROM `+table+` WHERE name = $1`, name); err != nil {
			return fmt.Errorf("deleting the health: %w", err)
		}
	}
	return nil
}

// pruneHealth forgets what nodes that are gone said of sources.
func (s *Store) pruneHealth(ctx context.Context) error {
	return s.commit(ctx, "forgetting the health that nodes saw", func(ctx context.Context, tx *tx) error {
		return tx.exec(ctx, `DELETE FROM source_health_nodes WHERE instance <> $1 AND NOT EXISTS (SELECT 1 FROM nodes WHERE nodes.instance = source_health_nodes.instance
			AND nodes.instance <> '' AND nodes.expires_at > `+tx.nowSQL+`)`, s.instance)
	})
}
