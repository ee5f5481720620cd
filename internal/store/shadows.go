package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"aiops/internal/model"
)

type shadowRow struct {
	DetectorID   string `bun:"detector_id"`
	Definition   string `bun:"definition"`
	BasedOn      int64  `bun:"based_on"`
	ModelVersion int64  `bun:"model_version"`
	Since        int64  `bun:"since"`
	Own          int    `bun:"own"` // its model version was made for it
	Reason       string `bun:"reason"`
	CreatedAt    int64  `bun:"created_at"`
	UpdatedAt    int64  `bun:"updated_at"`
	Version      int64  `bun:"version"`
}

const shadowColumns = `detector_id, definition, based_on, model_version, since, own, reason, created_at, updated_at, version`

// maxShadowAnomalies is how many alarms of a shadow are kept; what comes later
// is not.
const maxShadowAnomalies = 10_000

func (r shadowRow) shadow() (model.Shadow, error) {
	d, err := detectorRow{ID: r.DetectorID, Version: r.BasedOn, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, Definition: r.Definition}.detector()
	if err != nil {
		return model.Shadow{}, err
	}
	return model.Shadow{DetectorID: r.DetectorID, Definition: d, BasedOn: r.BasedOn, ModelVersion: r.ModelVersion, Since: fromMillis(r.Since),
		Reason: r.Reason, CreatedAt: fromMillis(r.CreatedAt), UpdatedAt: fromMillis(r.UpdatedAt), Version: r.Version}, nil
}

// shadowEvent is the data of the events of a shadow.
type shadowEvent struct {
	ID              string `json:"id"`
	Name            string `json:"name"`
	DetectorVersion int64  `json:"detector_version"`
	ModelVersion    int64  `json:"model_version"`
	Reason          string `json:"reason"`
}

func (t *tx) emitShadow(typ model.EventType, d model.Detector, r shadowRow, reason string) error {
	_, err := t.emit(typ, "detectors/"+d.ID, shadowEvent{ID: d.ID, Name: d.Name, DetectorVersion: d.Version, ModelVersion: r.ModelVersion, Reason: reason})
	return err
}

// lockedDetector reads and locks a detector.
func (t *tx) lockedDetector(ctx context.Context, id string, expect int64) (model.Detector, error) {
	row, err := t.detectorRow(ctx, id, expect)
	if err != nil {
		return model.Detector{}, err
	}
	return row.detector()
}

// shadowRow reads and locks the shadow of a detector, and compares its version
// with expect.
func (t *tx) shadowRow(ctx context.Context, detectorID string, expect int64) (shadowRow, error) {
	found, err := rows[shadowRow](ctx, t.bun, t, `SELECT `+shadowColumns+` FROM shadows WHERE detector_id = $1`+t.forUpdate, detectorID)
	if err != nil {
		return shadowRow{}, fmt.Errorf("reading the shadow: %w", err)
	}
	if len(found) == 0 {
		return shadowRow{}, noShadow(detectorID)
	}
	return found[0], expectVersion(model.SubjectShadow, detectorID, found[0].Version, expect)
}

func noShadow(detectorID string) error {
	e := model.NotFound(model.SubjectShadow, detectorID)
	e.Message = fmt.Sprintf("detector %q has no shadow", detectorID)
	return e
}

// StartShadow stores the shadow of a detector with the event
// detector.shadow_started. Without a model version it makes the next one, in
// the state shadow; a stored version becomes shadow and must not be the active
// one. A detector that has a shadow already is a KindConflict.
func (s *Store) StartShadow(ctx context.Context, start model.ShadowStart) (model.Shadow, error) {
	doc, err := encodeDetector(start.Definition)
	if err != nil {
		return model.Shadow{}, err
	}
	var r shadowRow
	err = s.commit(ctx, "starting a shadow", func(ctx context.Context, tx *tx) error {
		d, err := tx.lockedDetector(ctx, start.DetectorID, 0)
		if err != nil {
			return err
		}
		if _, err := tx.shadowRow(ctx, d.ID, 0); model.KindOf(err) != model.KindNotFound {
			if err != nil {
				return err
			}
			e := model.Errorf(model.KindConflict, model.SubjectShadow, "the detector has a shadow already; promote or discard it first")
			e.Context = map[string]any{"id": d.ID}
			return e
		}
		r = shadowRow{DetectorID: d.ID, Definition: doc, BasedOn: start.BasedOn, ModelVersion: start.ModelVersion, Reason: cleanText(start.Reason),
			CreatedAt: tx.now, UpdatedAt: tx.now, Version: 1}
		if err := tx.shadowVersion(ctx, &r, d); err != nil {
			return err
		}
		if err := tx.exec(ctx, `INSERT INTO shadows (`+shadowColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
			r.DetectorID, r.Definition, r.BasedOn, r.ModelVersion, r.Since, r.Own, r.Reason, r.CreatedAt, r.UpdatedAt, r.Version); err != nil {
			return fmt.Errorf("inserting the shadow: %w", err)
		}
		return tx.emitShadow(model.EventShadowStarted, d, r, r.Reason)
	})
	if err != nil {
		return model.Shadow{}, err
	}
	return r.shadow()
}

// shadowVersion finds or makes the model version of a shadow.
func (t *tx) shadowVersion(ctx context.Context, r *shadowRow, d model.Detector) error {
	if r.ModelVersion == 0 {
		var last sql.NullInt64
		if err := t.QueryRowContext(ctx, `SELECT max(version) FROM model_versions WHERE detector_id = $1`, d.ID).Scan(&last); err != nil {
			return fmt.Errorf("numbering the version: %w", err)
		}
		r.ModelVersion, r.Own = last.Int64+1, 1
		return t.exec(ctx, `INSERT INTO model_versions (`+modelVersionColumns+`) VALUES ($1, $2, $3, $4, 0, 0, 0, 0, $5, $6)`,
			d.ID, r.ModelVersion, r.BasedOn, string(model.ModelShadow), t.now, r.Reason)
	}
	found, err := rows[modelVersionRow](ctx, t.bun, t, `SELECT `+modelVersionColumns+` FROM model_versions
		WHERE detector_id = $1 AND version = $2`+t.forUpdate, d.ID, r.ModelVersion)
	if err != nil {
		return fmt.Errorf("reading the version: %w", err)
	}
	switch {
	case len(found) == 0:
		e := model.NotFound(model.SubjectModel, d.ID)
		e.Message = fmt.Sprintf("detector %q has no model version %d", d.ID, r.ModelVersion)
		return e
	case found[0].State == string(model.ModelActive):
		return model.Errorf(model.KindConflict, model.SubjectModel, "model version %d is the active one and scores already", r.ModelVersion)
	}
	return t.exec(ctx, `UPDATE model_versions SET state = $3 WHERE detector_id = $1 AND version = $2`, d.ID, r.ModelVersion, string(model.ModelShadow))
}

// Shadow returns the shadow of a detector, or a KindNotFound error with the
// subject shadow.
func (s *Store) Shadow(ctx context.Context, detectorID string) (model.Shadow, error) {
	found, err := rows[shadowRow](ctx, s.read, s.read.DB, `SELECT `+shadowColumns+` FROM shadows WHERE detector_id = $1`, cleanText(detectorID))
	if err != nil {
		return model.Shadow{}, s.wrap(err, "reading a shadow")
	}
	if len(found) == 0 {
		return model.Shadow{}, noShadow(detectorID)
	}
	return found[0].shadow()
}

// Shadows returns every shadow, by detector.
func (s *Store) Shadows(ctx context.Context) ([]model.Shadow, error) {
	found, err := rows[shadowRow](ctx, s.read, s.read.DB, `SELECT `+shadowColumns+` FROM shadows ORDER BY detector_id`)
	if err != nil {
		return nil, s.wrap(err, "reading the shadows")
	}
	out := make([]model.Shadow, len(found))
	for i, r := range found {
		if out[i], err = r.shadow(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// ShadowBegan notes that a shadow has learned and which step is the first that
// it scores beside the live definition. It writes no event.
func (s *Store) ShadowBegan(ctx context.Context, detectorID string, modelVersion int64, since time.Time) error {
	return s.commit(ctx, "noting the begin of a shadow", func(ctx context.Context, tx *tx) error {
		n, err := tx.affected(ctx, `UPDATE shadows SET since = $3, updated_at = $4 WHERE detector_id = $1 AND model_version = $2 AND since = 0`,
			detectorID, modelVersion, toMillis(since), tx.now)
		if err == nil && n == 0 {
			_, err = tx.shadowRow(ctx, detectorID, 0)
		}
		return err
	})
}

// CommitShadow writes alarms that a shadow would have raised, all or none,
// with the rules of CommitAnomalies, without any event. A shadow keeps its
// first 10,000; a detector without a shadow is KindNotFound.
func (s *Store) CommitShadow(ctx context.Context, detectorID string, alarms []model.Anomaly) error {
	changes := make([]anomalyRow, len(alarms))
	var bad model.Invalid
	for i, a := range alarms {
		checkAnomaly(&bad, i, a)
		row, err := newAnomalyRow(a)
		if err != nil {
			return err
		}
		changes[i] = row
	}
	if err := bad.Err(model.SubjectAnomaly); err != nil {
		return err
	}
	return s.commit(ctx, "storing the alarms of a shadow", func(ctx context.Context, tx *tx) error {
		if _, err := tx.shadowRow(ctx, detectorID, 0); err != nil {
			return err
		}
		var kept int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM shadow_anomalies WHERE detector_id = $1`, detectorID).Scan(&kept); err != nil {
			return fmt.Errorf("counting the alarms: %w", err)
		}
		for _, row := range changes {
			found, err := rows[anomalyRow](ctx, tx.bun, tx, `SELECT `+anomalyColumns+` FROM shadow_anomalies WHERE detector_id = $1 AND id = $2`, detectorID, row.ID)
			if err != nil {
				return fmt.Errorf("reading an alarm: %w", err)
			}
			row.UpdatedAt, row.Version = tx.now, 1
			if len(found) > 0 {
				merged, changed := mergeAnomaly(found[0], row)
				if !changed {
					continue
				}
				row = merged
				if err := tx.exec(ctx, `DELETE FROM shadow_anomalies WHERE detector_id = $1 AND id = $2`, detectorID, row.ID); err != nil {
					return fmt.Errorf("replacing an alarm: %w", err)
				}
			} else if kept++; kept > maxShadowAnomalies {
				continue
			}
			var q strings.Builder
			q.WriteString(`INSERT INTO shadow_anomalies (` + anomalyColumns + `) VALUES `)
			writePlaceholders(&q, 1, anomalyColumnCount)
			if err := tx.exec(ctx, q.String(), row.args()...); err != nil {
				return fmt.Errorf("inserting an alarm: %w", err)
			}
		}
		return nil
	})
}

// ShadowAnomalies returns the alarms of a detector's shadow, newest first, at
// most limit.
func (s *Store) ShadowAnomalies(ctx context.Context, detectorID string, limit int) ([]model.Anomaly, error) {
	found, err := rows[anomalyRow](ctx, s.read, s.read.DB, `SELECT `+anomalyColumns+` FROM shadow_anomalies
		WHERE detector_id = $1 ORDER BY started_at DESC, id LIMIT $2`, cleanText(detectorID), limit)
	if err != nil {
		return nil, s.wrap(err, "reading the alarms of a shadow")
	}
	return toAnomalies(found)
}

// PromoteShadow makes d, which was merged from the shadow, the definition of
// its detector as a new version, and the shadow's model version the active one,
// and ends the shadow, all at once, with the event detector.shadow_promoted.
// expect, when not 0, is the version of the shadow; detector is that of the
// detector which d was merged with. Either being another one is a
// KindPrecondition.
func (s *Store) PromoteShadow(ctx context.Context, d model.Detector, detector, expect int64) (model.Detector, error) {
	doc, err := encodeDetector(d)
	if err != nil {
		return model.Detector{}, err
	}
	var out model.Detector
	err = s.commit(ctx, "promoting a shadow", func(ctx context.Context, tx *tx) error {
		row, err := tx.detectorRow(ctx, d.ID, detector)
		if err != nil {
			return err
		}
		r, err := tx.shadowRow(ctx, d.ID, expect)
		if err != nil {
			return err
		}
		if out, err = row.detector(); err != nil {
			return err
		}
		if row.Definition != doc {
			out = d
			out.Version, out.CreatedAt, out.UpdatedAt = row.Version+1, fromMillis(row.CreatedAt), fromMillis(tx.now)
			if err := tx.exec(ctx, `UPDATE detectors SET version = $2, updated_at = $3, definition = $4 WHERE id = $1`, d.ID, out.Version, tx.now, doc); err != nil {
				return fmt.Errorf("updating the detector: %w", err)
			}
			if err := tx.keepDetectorVersion(ctx, out, doc); err != nil {
				return err
			}
		}
		if err := tx.retireActive(ctx, d.ID, r.ModelVersion); err != nil {
			return err
		}
		if err := tx.exec(ctx, `UPDATE model_versions SET state = $3, detector_version = $4, reason = $5 WHERE detector_id = $1 AND version = $2`,
			d.ID, r.ModelVersion, string(model.ModelActive), out.Version, "promoted from shadow"); err != nil {
			return fmt.Errorf("activating the version: %w", err)
		}
		if err := tx.exec(ctx, `DELETE FROM shadows WHERE detector_id = $1`, d.ID); err != nil {
			return fmt.Errorf("ending the shadow: %w", err)
		}
		return tx.emitShadow(model.EventShadowPromoted, out, r, r.Reason)
	})
	if err != nil {
		return model.Detector{}, err
	}
	return out, nil
}

// notOfShadow is a conflict when a model version belongs to the shadow of its
// detector, whose definition may be another one.
func (t *tx) notOfShadow(ctx context.Context, detectorID string, version int64) error {
	r, err := t.shadowRow(ctx, detectorID, 0)
	if model.KindOf(err) == model.KindNotFound || err == nil && r.ModelVersion != version {
		return nil
	}
	if err != nil {
		return err
	}
	return model.Errorf(model.KindConflict, model.SubjectModel, "model version %d belongs to the shadow; promote or discard the shadow instead", version)
}

// dropShadowVersion forgets the model version that was made for a shadow, and
// retires one that was there before.
func (t *tx) dropShadowVersion(ctx context.Context, r shadowRow) error {
	stmts := []string{`UPDATE model_versions SET state = 'retired' WHERE detector_id = $1 AND version = $2`}
	if r.Own != 0 {
		stmts = []string{`DELETE FROM model_snapshots WHERE detector_id = $1 AND model_version = $2`,
			`DELETE FROM model_versions WHERE detector_id = $1 AND version = $2`}
	}
	for _, stmt := range stmts {
		if err := t.exec(ctx, stmt, r.DetectorID, r.ModelVersion); err != nil {
			return fmt.Errorf("putting the version out of use: %w", err)
		}
	}
	return nil
}

// DiscardShadow ends the shadow of a detector with the event
// detector.shadow_discarded. Its model version retires, or is forgotten when it
// was made for it. When expect is not 0
// and not its version, the error is a KindPrecondition.
func (s *Store) DiscardShadow(ctx context.Context, detectorID string, expect int64, reason string) error {
	return s.commit(ctx, "discarding a shadow", func(ctx context.Context, tx *tx) error {
		d, err := tx.lockedDetector(ctx, detectorID, 0)
		if err != nil {
			return err
		}
		r, err := tx.shadowRow(ctx, detectorID, expect)
		if err != nil {
			return err
		}
		if err := tx.dropShadowVersion(ctx, r); err != nil {
			return err
		}
		if err := tx.exec(ctx, `DELETE FROM shadows WHERE detector_id = $1`, detectorID); err != nil {
			return fmt.Errorf("ending the shadow: %w", err)
		}
		return tx.emitShadow(model.EventShadowDiscarded, d, r, cleanText(reason))
	})
}
