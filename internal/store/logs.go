package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/gob"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"aiops/internal/model"
)

// The rows of log_state. What a node learnt from its lines belongs to the node,
// whose data directory has the lines and their counts: in a database of its own
// there is one row, in one that is shared a row for each data directory.
const (
	logStateName = "templates"
	nodeFile     = "node"              // names the data directory among the nodes
	nodeAlone    = "alone"             // the name where nobody shares the database
	logStateKept = 30 * 24 * time.Hour // how long the row of a node that is gone stays
)

// nameNode sets the name of this node and its row. It makes the name of the data directory
// when it has none.
func (s *Store) nameNode() error {
	s.logState, s.node = logStateName, nodeAlone
	if s.eng.NotifySQL() == "" { // nobody shares it
		return nil
	}
	path := filepath.Join(s.cfg.DataDir, nodeFile)
	name, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(name) == 0 {
		name = []byte(newID("node"))
		err = os.WriteFile(path, name, 0o600)
	}
	if err != nil {
		return model.WrapError(model.KindInternal, "", err, "the name of this node cannot be kept in the data directory; make %s readable and writable", path)
	}
	s.node = cleanText(string(name[:min(len(name), 64)]))
	s.logState += "/" + s.node
	return nil
}

// LogState returns what SaveLogState kept last, or nil when nothing was. A node
// that kept nothing so far begins with what any node kept last.
func (s *Store) LogState(ctx context.Context) ([]byte, error) {
	var data []byte
	err := s.read.DB.QueryRowContext(ctx, `SELECT data FROM log_state ORDER BY CASE WHEN name = $1 THEN 0 ELSE 1 END, updated_at DESC LIMIT 1`, s.logState).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, s.wrap(err, "reading the state of the log templates")
	}
	state, err := s.codec.unpack(data)
	if err != nil {
		return nil, model.WrapError(model.KindDatabase, "", err, "the stored state of the log templates cannot be read")
	}
	return state, nil
}

// SaveLogState keeps the state of this node's log templates, in place of the one
// before, and gives up those of nodes that kept none for a month. It is
// compressed before the writer is involved, and writes no event.
func (s *Store) SaveLogState(ctx context.Context, state []byte) error {
	packed := s.codec.pack(state)
	return s.commit(ctx, "saving the state of the log templates", func(ctx context.Context, tx *tx) error {
		if err := tx.exec(ctx, `DELETE FROM log_state WHERE name <> $1 AND updated_at < $2`, s.logState, tx.now-logStateKept.Milliseconds()); err != nil {
			return err
		}
		return tx.exec(ctx, `INSERT INTO log_state (name, updated_at, data) VALUES ($1, $2, $3)
			ON CONFLICT (name) DO UPDATE SET updated_at = excluded.updated_at, data = excluded.data`, s.logState, tx.now, packed)
	})
}

// MostLogDecisions is how many decisions are kept, the newest; and how many
// LogDecisions returns at once.
const (
	MostLogDecisions = 10_000
	logDecisionsRead = 100
)

// AppendLogDecision keeps what people decided about a log pattern and returns
// its number. Numbers grow by one in the order of the commits, on whichever
// node, so a reader that passes the last number it saw misses nothing. It
// writes no event.
func (s *Store) AppendLogDecision(ctx context.Context, data []byte) (int64, error) {
	packed := s.codec.pack(data)
	var id int64
	err := s.commit(ctx, "saving a decision about a log pattern", func(ctx context.Context, tx *tx) error {
		// The row of the counter stays locked until the commit.
		if err := tx.QueryRowContext(ctx, `UPDATE counters SET value = value + 1 WHERE name = 'log_decisions' RETURNING value`).Scan(&id); err != nil {
			return fmt.Errorf("numbering a decision: %w", err)
		}
		if err := tx.exec(ctx, `INSERT INTO log_decisions (id, time, data) VALUES ($1, $2, $3)`, id, tx.now, packed); err != nil {
			return err
		}
		return tx.exec(ctx, `DELETE FROM log_decisions WHERE id <= $1`, id-MostLogDecisions)
	})
	return id, err
}

// LogDecisions returns the decisions after number since, oldest first, a
// hundred at most.
func (s *Store) LogDecisions(ctx context.Context, since int64) ([]model.LogDecision, error) {
	found, err := rows[logDecisionRow](ctx, s.read, s.read.DB, `SELECT id, data FROM log_decisions WHERE id > $1 ORDER BY id LIMIT $2`, since, logDecisionsRead)
	if err != nil {
		return nil, s.wrap(err, "reading decisions about log patterns")
	}
	out := make([]model.LogDecision, len(found))
	for i, r := range found {
		data, err := s.codec.unpack(r.Data)
		if err != nil {
			return nil, model.WrapError(model.KindDatabase, model.SubjectLogPattern, err, "the stored decision %d about a log pattern cannot be read", r.ID)
		}
		out[i] = model.LogDecision{ID: r.ID, Data: data}
	}
	return out, nil
}

type logDecisionRow struct {
	ID   int64  `bun:"id"`
	Data []byte `bun:"data"`
}

// LogEvidence returns the lines that were kept of an anomaly, or a KindNotFound
// error when none were.
func (s *Store) LogEvidence(ctx context.Context, anomalyID string) (model.LogEvidence, error) {
	var data []byte
	err := s.read.DB.QueryRowContext(ctx, `SELECT data FROM anomaly_logs WHERE anomaly_id = $1`, cleanText(anomalyID)).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		e := model.NotFound(model.SubjectAnomaly, anomalyID)
		e.Message = fmt.Sprintf("no lines were kept of anomaly %q", anomalyID)
		return model.LogEvidence{}, e
	}
	if err != nil {
		return model.LogEvidence{}, s.wrap(err, "reading the lines of an anomaly")
	}
	raw, err := s.codec.unpack(data)
	var e model.LogEvidence
	if err == nil {
		err = gob.NewDecoder(bytes.NewReader(raw)).Decode(&e)
	}
	if err != nil {
		return model.LogEvidence{}, model.WrapError(model.KindDatabase, model.SubjectAnomaly, err, "the stored lines of anomaly %s cannot be read", anomalyID)
	}
	return e, nil
}

// SaveLogEvidence keeps the lines of an anomaly, in place of those before, for
// as long as the anomaly is kept. An anomaly that does not exist is KindNotFound.
// It writes no event.
func (s *Store) SaveLogEvidence(ctx context.Context, anomalyID string, e model.LogEvidence) error {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(e); err != nil {
		return model.WrapError(model.KindInternal, model.SubjectAnomaly, err, "the lines of anomaly %s cannot be stored", anomalyID)
	}
	packed := s.codec.pack(b.Bytes())
	return s.commit(ctx, "saving the lines of an anomaly", func(ctx context.Context, tx *tx) error {
		n, err := tx.affected(ctx, `INSERT INTO anomaly_logs (anomaly_id, data) SELECT id, $2 FROM anomalies WHERE id = $1
			ON CONFLICT (anomaly_id) DO UPDATE SET data = excluded.data`, cleanText(anomalyID), packed)
		if err == nil && n == 0 {
			return model.NotFound(model.SubjectAnomaly, anomalyID)
		}
		return err
	})
}
