package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/gob"
	"errors"
	"fmt"

	"aiops/internal/model"
)

// logStateName is the only row of log_state.
const logStateName = "templates"

// LogState returns what SaveLogState kept last, or nil when nothing was.
func (s *Store) LogState(ctx context.Context) ([]byte, error) {
	var data []byte
	err := s.read.DB.QueryRowContext(ctx, `SELECT data FROM log_state WHERE name = $1`, logStateName).Scan(&data)
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

// SaveLogState keeps the state of the log templates, in place of the one
// before. It is compressed before the writer is involved, and writes no event.
func (s *Store) SaveLogState(ctx context.Context, state []byte) error {
	packed := s.codec.pack(state)
	return s.commit(ctx, "saving the state of the log templates", func(ctx context.Context, tx *tx) error {
		return tx.exec(ctx, `INSERT INTO log_state (name, updated_at, data) VALUES ($1, $2, $3)
			ON CONFLICT (name) DO UPDATE SET updated_at = excluded.updated_at, data = excluded.data`, logStateName, tx.now, packed)
	})
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
