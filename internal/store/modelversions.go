package store

import (
	"context"
	"database/sql"
	"fmt"

	"aiops/internal/model"
)

type modelVersionRow struct {
	DetectorID      string `bun:"detector_id"`
	Version         int64  `bun:"version"`
	DetectorVersion int64  `bun:"detector_version"`
	State           string `bun:"state"`
	TrainedFrom     int64  `bun:"trained_from"`
	TrainedTo       int64  `bun:"trained_to"`
	Series          int    `bun:"series"`
	SizeBytes       int64  `bun:"size_bytes"`
	CreatedAt       int64  `bun:"created_at"`
	Reason          string `bun:"reason"`
}

const modelVersionColumns = `detector_id, version, detector_version, state, trained_from, trained_to, series, size_bytes, created_at, reason`

func (r modelVersionRow) version() model.ModelVersion {
	return model.ModelVersion{DetectorID: r.DetectorID, Version: r.Version, DetectorVersion: r.DetectorVersion,
		State: model.ModelState(r.State), TrainedFrom: fromMillis(r.TrainedFrom), TrainedTo: fromMillis(r.TrainedTo),
		Series: r.Series, SizeBytes: r.SizeBytes, CreatedAt: fromMillis(r.CreatedAt), Reason: r.Reason}
}

// modelEvent is the data of the events that tell of a model version.
type modelEvent struct {
	ID           string           `json:"id"`
	Name         string           `json:"name"`
	ModelVersion int64            `json:"model_version"`
	State        model.ModelState `json:"state"`
	Reason       string           `json:"reason"`
}

func (t *tx) emitModel(ctx context.Context, typ model.EventType, r modelVersionRow) error {
	if typ == "" {
		return nil
	}
	row, err := t.detectorRow(ctx, r.DetectorID, 0)
	if err != nil {
		return err
	}
	d, err := row.detector()
	if err != nil {
		return err
	}
	_, err = t.emit(typ, "detectors/"+r.DetectorID, modelEvent{ID: r.DetectorID, Name: d.Name, ModelVersion: r.Version,
		State: model.ModelState(r.State), Reason: r.Reason})
	return err
}

// SaveModelVersion stores a model version, which replaces one with the same
// number, and tells of it with the event detector.trained. An active one
// retires the one that was active before. CreatedAt, when zero, is now. The
// detector must exist, else the error is KindNotFound.
func (s *Store) SaveModelVersion(ctx context.Context, v model.ModelVersion) error {
	var bad model.Invalid
	switch v.State {
	case model.ModelActive, model.ModelShadow, model.ModelRetired:
	default:
		bad.Add("/state", "unknown_state", "a model version cannot be in the state %q", v.State)
	}
	if v.Version < 1 {
		bad.Add("/version", "out_of_range", "model versions start at 1, not at %d", v.Version)
	}
	if err := bad.Err(model.SubjectModel); err != nil {
		return err
	}
	return s.commit(ctx, "saving a model version", func(ctx context.Context, tx *tx) error {
		r := modelVersionRow{DetectorID: v.DetectorID, Version: v.Version, DetectorVersion: v.DetectorVersion, State: string(v.State),
			TrainedFrom: toMillis(v.TrainedFrom), TrainedTo: toMillis(v.TrainedTo), Series: v.Series, SizeBytes: v.SizeBytes,
			CreatedAt: toMillis(v.CreatedAt), Reason: cleanText(v.Reason)}
		if r.CreatedAt == 0 {
			r.CreatedAt = tx.now
		}
		// The lock on the detector lets one node at a time change its versions.
		if _, err := tx.detectorRow(ctx, r.DetectorID, 0); err != nil {
			return err
		}
		if v.State == model.ModelActive {
			if err := tx.retireActive(ctx, r.DetectorID, r.Version); err != nil {
				return err
			}
		}
		if err := tx.exec(ctx, `INSERT INTO model_versions (`+modelVersionColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
			ON CONFLICT (detector_id, version) DO UPDATE SET detector_version = excluded.detector_version, state = excluded.state,
			trained_from = excluded.trained_from, trained_to = excluded.trained_to, series = excluded.series,
			size_bytes = excluded.size_bytes, reason = excluded.reason`,
			r.DetectorID, r.Version, r.DetectorVersion, r.State, r.TrainedFrom, r.TrainedTo, r.Series, r.SizeBytes, r.CreatedAt, r.Reason); err != nil {
			return fmt.Errorf("writing the version: %w", err)
		}
		return tx.emitModel(ctx, model.EventDetectorTrained, r)
	})
}

func (t *tx) retireActive(ctx context.Context, detectorID string, except int64) error {
	if err := t.exec(ctx, `UPDATE model_versions SET state = 'retired' WHERE detector_id = $1 AND state = 'active' AND version <> $2`,
		detectorID, except); err != nil {
		return fmt.Errorf("retiring the active version: %w", err)
	}
	return nil
}

// ModelVersions returns the model versions of a detector, newest first.
func (s *Store) ModelVersions(ctx context.Context, detectorID string) ([]model.ModelVersion, error) {
	return s.modelVersions(ctx, `detector_id = $1 ORDER BY version DESC`, detectorID)
}

// ActiveModelVersion returns the active model version of a detector, or a
// KindNotFound error with the subject model.
func (s *Store) ActiveModelVersion(ctx context.Context, detectorID string) (model.ModelVersion, error) {
	vs, err := s.modelVersions(ctx, `detector_id = $1 AND state = 'active'`, detectorID)
	if err != nil {
		return model.ModelVersion{}, err
	}
	if len(vs) == 0 {
		e := model.NotFound(model.SubjectModel, detectorID)
		e.Message = fmt.Sprintf("detector %q has no active model version", detectorID)
		return model.ModelVersion{}, e
	}
	return vs[0], nil
}

func (s *Store) modelVersions(ctx context.Context, where string, args ...any) ([]model.ModelVersion, error) {
	found, err := rows[modelVersionRow](ctx, s.read, s.read.DB, `SELECT `+modelVersionColumns+` FROM model_versions WHERE `+where, args...)
	if err != nil {
		return nil, s.wrap(err, "reading model versions")
	}
	out := make([]model.ModelVersion, len(found))
	for i, r := range found {
		out[i] = r.version()
	}
	return out, nil
}

// PromoteModel makes a version the active one and retires the one before, with
// the event detector.updated. A version that is active already stays as it is.
// A version that does not exist is KindNotFound with the subject model.
func (s *Store) PromoteModel(ctx context.Context, detectorID string, version int64) (model.ModelVersion, error) {
	return s.changeModelState(ctx, detectorID, version, model.ModelActive, "promoted")
}

// RollbackModel makes the newest retired version that is older than the active
// one the active one again, with the event detector.updated. When there is
// none, the error is a KindConflict.
func (s *Store) RollbackModel(ctx context.Context, detectorID string) (model.ModelVersion, error) {
	return s.changeModelState(ctx, detectorID, 0, model.ModelActive, "rolled back")
}

// RetireModel puts a version out of use, with the event detector.updated. The
// active one is a KindConflict: promote another before.
func (s *Store) RetireModel(ctx context.Context, detectorID string, version int64) (model.ModelVersion, error) {
	return s.changeModelState(ctx, detectorID, version, model.ModelRetired, "retired")
}

// previousVersion returns the version that a rollback leads to.
func (t *tx) previousVersion(ctx context.Context, detectorID string) (int64, error) {
	var n sql.NullInt64
	if err := t.QueryRowContext(ctx, `SELECT max(version) FROM model_versions WHERE detector_id = $1 AND state = 'retired'
		AND version < (SELECT version FROM model_versions WHERE detector_id = $1 AND state = 'active')`, detectorID).Scan(&n); err != nil {
		return 0, fmt.Errorf("looking for the version before: %w", err)
	}
	if !n.Valid {
		return 0, model.Errorf(model.KindConflict, model.SubjectModel, "there is no earlier model version to go back to")
	}
	return n.Int64, nil
}

func (s *Store) changeModelState(ctx context.Context, detectorID string, version int64, state model.ModelState, reason string) (model.ModelVersion, error) {
	var r modelVersionRow
	err := s.commit(ctx, "changing the state of a model version", func(ctx context.Context, tx *tx) error {
		if _, err := tx.detectorRow(ctx, detectorID, 0); err != nil {
			return err
		}
		version := version
		if version == 0 {
			var err error
			if version, err = tx.previousVersion(ctx, detectorID); err != nil {
				return err
			}
		}
		found, err := rows[modelVersionRow](ctx, tx.bun, tx, `SELECT `+modelVersionColumns+` FROM model_versions
			WHERE detector_id = $1 AND version = $2`+tx.forUpdate, detectorID, version)
		if err != nil {
			return fmt.Errorf("reading the version: %w", err)
		}
		if len(found) == 0 {
			e := model.NotFound(model.SubjectModel, detectorID)
			e.Message = fmt.Sprintf("detector %q has no model version %d", detectorID, version)
			return e
		}
		r = found[0]
		if r.State == string(state) {
			return nil
		}
		if err := tx.notOfShadow(ctx, detectorID, version); err != nil {
			return err
		}
		if r.State == string(model.ModelActive) {
			return model.Errorf(model.KindConflict, model.SubjectModel, "model version %d is the active one; promote another version before", version)
		}
		if state == model.ModelActive {
			if err := tx.retireActive(ctx, detectorID, version); err != nil {
				return err
			}
		}
		r.State, r.Reason = string(state), cleanText(reason)
		if err := tx.exec(ctx, `UPDATE model_versions SET state = $3, reason = $4 WHERE detector_id = $1 AND version = $2`,
			detectorID, version, r.State, r.Reason); err != nil {
			return fmt.Errorf("writing the version: %w", err)
		}
		return tx.emitModel(ctx, model.EventDetectorUpdated, r)
	})
	if err != nil {
		return model.ModelVersion{}, err
	}
	return r.version(), nil
}
