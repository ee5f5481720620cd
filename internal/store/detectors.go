package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"aiops/internal/model"
)

// detectorRow is a detector as it is kept: what is searched has a column, the
// whole definition is JSON.
type detectorRow struct {
	ID         string `bun:"id"`
	Version    int64  `bun:"version"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	Definition string `bun:"definition"`
}

// detectorDoc is the stored form of a definition. Its names never change;
// fields are only added.
type detectorDoc struct {
	Name               string             `json:"name"`
	Source             string             `json:"source"`
	Query              string             `json:"query"`
	Log                *model.LogRule     `json:"log,omitempty"`
	Step               time.Duration      `json:"step_ns"`
	Model              string             `json:"model"`
	Parameters         json.RawMessage    `json:"parameters,omitempty"`
	FalseAlarmsPerWeek float64            `json:"false_alarms_per_week"`
	Direction          model.Direction    `json:"direction,omitempty"`
	MinDeviation       model.MinDeviation `json:"min_deviation"`
	For                time.Duration      `json:"for_ns,omitempty"`
	KeepFiringFor      time.Duration      `json:"keep_firing_for_ns,omitempty"`
	Refractory         time.Duration      `json:"refractory_ns,omitempty"`
	MissingData        model.MissingData  `json:"missing_data,omitempty"`
	TimeZone           string             `json:"time_zone,omitempty"`
	Holidays           []string           `json:"holidays,omitempty"`
	Joint              *model.Joint       `json:"joint,omitempty"`
	Retrain            *model.Retrain     `json:"retrain,omitempty"`
	Labels             map[string]string  `json:"labels,omitempty"`
	Provisioned        bool               `json:"provisioned,omitempty"`
	Enabled            bool               `json:"enabled,omitempty"`
}

func encodeDetector(d model.Detector) (string, error) {
	var retrain *model.Retrain
	if d.Retrain != (model.Retrain{}) {
		retrain = &d.Retrain
	}
	b, err := json.Marshal(detectorDoc{
		Refractory: d.Refractory, Joint: d.Joint, Retrain: retrain,
		Name: d.Name, Source: d.Source, Query: d.Query, Log: d.Log, Step: d.Step, Model: d.Model, Parameters: d.Parameters,
		FalseAlarmsPerWeek: d.FalseAlarmsPerWeek, Direction: d.Direction, MinDeviation: d.MinDeviation,
		For: d.For, KeepFiringFor: d.KeepFiringFor, MissingData: d.MissingData, TimeZone: d.TimeZone, Holidays: d.Holidays,
		Labels: d.Labels, Provisioned: d.Provisioned, Enabled: d.Enabled,
	})
	if err != nil {
		return "", model.WrapError(model.KindInvalid, model.SubjectDetector, err, "the definition of the detector cannot be stored")
	}
	return string(b), nil
}

func (r detectorRow) detector() (model.Detector, error) {
	var c detectorDoc
	if err := json.Unmarshal([]byte(r.Definition), &c); err != nil {
		return model.Detector{}, model.WrapError(model.KindDatabase, model.SubjectDetector, err, "the stored definition of detector %s cannot be read", r.ID)
	}
	var retrain model.Retrain
	if c.Retrain != nil {
		retrain = *c.Retrain
	}
	return model.Detector{
		Refractory: c.Refractory, Joint: c.Joint, Retrain: retrain,
		ID: r.ID, Name: c.Name, Source: c.Source, Query: c.Query, Log: c.Log, Step: c.Step, Model: c.Model, Parameters: c.Parameters,
		FalseAlarmsPerWeek: c.FalseAlarmsPerWeek, Direction: c.Direction, MinDeviation: c.MinDeviation,
		For: c.For, KeepFiringFor: c.KeepFiringFor, MissingData: c.MissingData, TimeZone: c.TimeZone, Holidays: c.Holidays,
		Labels: c.Labels, Provisioned: c.Provisioned, Enabled: c.Enabled,
		Version: r.Version, CreatedAt: fromMillis(r.CreatedAt), UpdatedAt: fromMillis(r.UpdatedAt),
	}, nil
}

// detectorEvent is the data of the events of a detector.
type detectorEvent struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Source  string `json:"source"`
	Enabled bool   `json:"enabled"`
	Version int64  `json:"version"`
}

func (t *tx) emitDetector(typ model.EventType, d model.Detector) error {
	_, err := t.emit(typ, "detectors/"+d.ID, detectorEvent{ID: d.ID, Name: d.Name, Source: d.Source, Enabled: d.Enabled, Version: d.Version})
	return err
}

const detectorColumns = `id, version, created_at, updated_at, definition`

// CreateDetector stores a new detector at version 1 with the event
// detector.created, and returns it as stored. An empty ID becomes a random one;
// CreatedAt and UpdatedAt are set here. A name or id in use is a KindConflict.
func (s *Store) CreateDetector(ctx context.Context, d model.Detector) (model.Detector, error) {
	if d.ID == "" {
		d.ID = newID("det")
	}
	d.Version = 1
	doc, err := encodeDetector(d)
	if err != nil {
		return model.Detector{}, err
	}
	err = s.commit(ctx, "creating a detector", func(ctx context.Context, tx *tx) error {
		d.CreatedAt, d.UpdatedAt = fromMillis(tx.now), fromMillis(tx.now)
		if err := tx.detectorNameFree(ctx, d); err != nil {
			return err
		}
		if err := tx.exec(ctx, `INSERT INTO detectors (id, name, source, enabled, provisioned, version, created_at, updated_at, definition)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)`, d.ID, cleanText(d.Name), cleanText(d.Source), bit(d.Enabled), bit(d.Provisioned),
			d.Version, tx.now, doc); err != nil {
			return fmt.Errorf("inserting the detector: %w", err)
		}
		if err := tx.keepDetectorVersion(ctx, d, doc); err != nil {
			return err
		}
		return tx.emitDetector(model.EventDetectorCreated, d)
	})
	if err != nil {
		return model.Detector{}, err
	}
	return d, nil
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// detectorNameFree makes sure that no other detector has the name or id of d.
// The unique indexes catch what two nodes do at the same moment.
func (t *tx) detectorNameFree(ctx context.Context, d model.Detector) error {
	var id string
	err := t.QueryRowContext(ctx, `SELECT id FROM detectors WHERE (name = $1 AND id <> $2) OR (id = $2 AND $3 = 1) LIMIT 1`,
		cleanText(d.Name), d.ID, bit(d.Version == 1)).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for the name: %w", err)
	}
	e := model.Errorf(model.KindConflict, model.SubjectDetector, "a detector named %q exists already; choose another name", d.Name)
	if id == d.ID {
		e.Message = fmt.Sprintf("a detector with id %q exists already", d.ID)
	}
	e.Context = map[string]any{"id": id}
	return e
}

func (t *tx) keepDetectorVersion(ctx context.Context, d model.Detector, doc string) error {
	if err := t.exec(ctx, `INSERT INTO detector_versions (detector_id, version, created_at, definition) VALUES ($1, $2, $3, $4)`,
		d.ID, d.Version, t.now, doc); err != nil {
		return fmt.Errorf("keeping the version: %w", err)
	}
	return nil
}

// UpdateDetector replaces the definition of the detector d.ID and writes the
// event ev: detector.updated, .started, .stopped or .trained. Whether it is
// enabled is part of the definition. When expect is not 0 and not the current
// version, the error is a KindPrecondition. The stored detector is returned,
// its version grown by one; when nothing differs from what is stored, nothing
// is written, except for the event detector.trained.
func (s *Store) UpdateDetector(ctx context.Context, d model.Detector, expect int64, ev model.EventType) (model.Detector, error) {
	doc, err := encodeDetector(d)
	if err != nil {
		return model.Detector{}, err
	}
	var out model.Detector
	err = s.commit(ctx, "updating a detector", func(ctx context.Context, tx *tx) error {
		row, err := tx.detectorRow(ctx, d.ID, expect)
		if err != nil {
			return err
		}
		if row.Definition == doc {
			if out, err = row.detector(); err != nil || ev != model.EventDetectorTrained {
				return err
			}
			return tx.emitDetector(ev, out)
		}
		out = d
		out.Version, out.CreatedAt, out.UpdatedAt = row.Version+1, fromMillis(row.CreatedAt), fromMillis(tx.now)
		if err := tx.detectorNameFree(ctx, out); err != nil {
			return err
		}
		if err := tx.exec(ctx, `UPDATE detectors SET name = $2, source = $3, enabled = $4, provisioned = $5, version = $6,
			updated_at = $7, definition = $8 WHERE id = $1`, d.ID, cleanText(d.Name), cleanText(d.Source), bit(d.Enabled),
			bit(d.Provisioned), out.Version, tx.now, doc); err != nil {
			return fmt.Errorf("updating the detector: %w", err)
		}
		if err := tx.keepDetectorVersion(ctx, out, doc); err != nil {
			return err
		}
		if ev == "" {
			return nil
		}
		return tx.emitDetector(ev, out)
	})
	if err != nil {
		return model.Detector{}, err
	}
	return out, nil
}

// detectorRow reads and locks a detector, and compares its version with expect.
func (t *tx) detectorRow(ctx context.Context, id string, expect int64) (detectorRow, error) {
	found, err := rows[detectorRow](ctx, t.bun, t, `SELECT `+detectorColumns+` FROM detectors WHERE id = $1`+t.forUpdate, id)
	if err != nil {
		return detectorRow{}, fmt.Errorf("reading the detector: %w", err)
	}
	if len(found) == 0 {
		return detectorRow{}, model.NotFound(model.SubjectDetector, id)
	}
	return found[0], expectVersion(model.SubjectDetector, id, found[0].Version, expect)
}

// expectVersion compares the version that a caller saw with the current one.
func expectVersion(subject, id string, current, expect int64) error {
	if expect == 0 || expect == current {
		return nil
	}
	return &model.Error{Kind: model.KindPrecondition, Subject: subject,
		Message: fmt.Sprintf("the %s has changed: you saw version %d, it is at %d; read it again and repeat the change", subject, expect, current),
		Context: map[string]any{"id": id, "version": current}}
}

// DeleteDetector removes a detector with its models and writes the event
// detector.deleted. Its anomalies and the history of its definition stay
// readable; open anomalies are resolved in the same transaction. When expect
// is not 0 and not the current version, the error is a KindPrecondition.
func (s *Store) DeleteDetector(ctx context.Context, id string, expect int64) error {
	return s.commit(ctx, "deleting a detector", func(ctx context.Context, tx *tx) error {
		// Before the detector is locked, in the order of its owner's writes.
		if err := tx.exec(ctx, `DELETE FROM leases WHERE detector_id = $1`, id); err != nil {
			return fmt.Errorf("deleting the lease: %w", err)
		}
		row, err := tx.detectorRow(ctx, id, expect)
		if err != nil {
			return err
		}
		d, err := row.detector()
		if err != nil {
			return err
		}
		if err := tx.resolveOpen(ctx, id, "detector deleted"); err != nil {
			return err
		}
		for _, stmt := range []string{
			`DELETE FROM model_snapshots WHERE detector_id = $1`,
			`DELETE FROM model_versions WHERE detector_id = $1`,
			`DELETE FROM shadows WHERE detector_id = $1`,
			`DELETE FROM detectors WHERE id = $1`,
		} {
			if err := tx.exec(ctx, stmt, id); err != nil {
				return fmt.Errorf("deleting the detector: %w", err)
			}
		}
		return tx.emitDetector(model.EventDetectorDeleted, d)
	})
}

// Detector returns the detector with the given id, or a KindNotFound error.
func (s *Store) Detector(ctx context.Context, id string) (model.Detector, error) {
	return s.oneDetector(ctx, "id", id)
}

// DetectorByName returns the detector with the given name, or a KindNotFound
// error.
func (s *Store) DetectorByName(ctx context.Context, name string) (model.Detector, error) {
	return s.oneDetector(ctx, "name", name)
}

func (s *Store) oneDetector(ctx context.Context, column, value string) (model.Detector, error) {
	found, err := rows[detectorRow](ctx, s.read, s.read.DB, `SELECT `+detectorColumns+` FROM detectors WHERE `+column+` = $1`, cleanText(value))
	if err != nil {
		return model.Detector{}, s.wrap(err, "reading a detector")
	}
	if len(found) == 0 {
		if column == "name" {
			return model.Detector{}, &model.Error{Kind: model.KindNotFound, Subject: model.SubjectDetector,
				Message: fmt.Sprintf("no detector is named %q", value), Context: map[string]any{"name": value}}
		}
		return model.Detector{}, model.NotFound(model.SubjectDetector, value)
	}
	return found[0].detector()
}

var detectorSorts = map[string]sortKey{
	"name":       {column: "name", text: true},
	"created_at": {column: "created_at"},
	"updated_at": {column: "updated_at"},
}

// Detectors returns one page of the detectors that f selects, and the cursor of
// the page after it, "" on the last one. What is created or deleted meanwhile
// makes no other detector appear twice or not at all.
func (s *Store) Detectors(ctx context.Context, f model.DetectorFilter) ([]model.Detector, string, error) {
	var bad model.Invalid
	if checkQuery(&bad, f.Query); bad.Err("") != nil {
		return nil, "", bad.Err(model.SubjectDetector)
	}
	p, err := s.newPage("detectors", detectorSorts, "name", f.Sort, f.Cursor, f.Limit,
		f.Query, f.Source, optional(f.Enabled), optional(f.Provisioned))
	if err != nil {
		return nil, "", err
	}
	if f.Query != "" {
		p.where("lower(name) LIKE " + p.arg(likePattern(f.Query)) + ` ESCAPE '\'`)
	}
	if f.Source != "" {
		p.where("source = " + p.arg(cleanText(f.Source)))
	}
	if f.Enabled != nil {
		p.where("enabled = " + p.arg(bit(*f.Enabled)))
	}
	if f.Provisioned != nil {
		p.where("provisioned = " + p.arg(bit(*f.Provisioned)))
	}
	found, err := rows[detectorRow](ctx, s.read, s.read.DB, p.query("SELECT "+detectorColumns+" FROM detectors"), p.args...)
	if err != nil {
		return nil, "", s.wrap(err, "listing detectors")
	}
	out, err := toDetectors(found[:min(len(found), p.limit)])
	if err != nil || len(found) <= p.limit {
		return out, "", err
	}
	last := out[len(out)-1]
	switch p.key.column {
	case "created_at":
		return out, p.next(toMillis(last.CreatedAt), last.ID), nil
	case "updated_at":
		return out, p.next(toMillis(last.UpdatedAt), last.ID), nil
	}
	return out, p.next(cleanText(last.Name), last.ID), nil
}

// AllDetectors returns every detector, enabled or not, by name.
func (s *Store) AllDetectors(ctx context.Context) ([]model.Detector, error) {
	found, err := rows[detectorRow](ctx, s.read, s.read.DB, `SELECT `+detectorColumns+` FROM detectors ORDER BY name`)
	if err != nil {
		return nil, s.wrap(err, "listing detectors")
	}
	return toDetectors(found)
}

func toDetectors(found []detectorRow) ([]model.Detector, error) {
	out := make([]model.Detector, len(found))
	for i, r := range found {
		var err error
		if out[i], err = r.detector(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// likePattern turns a piece of text into a LIKE pattern that finds it anywhere
// in text that lower() was applied to. Both engines change only ASCII there.
func likePattern(s string) string {
	ascii := strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, cleanText(s))
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(ascii) + "%"
}

func optional(b *bool) string {
	if b == nil {
		return ""
	}
	return fmt.Sprint(*b)
}

// DetectorVersions returns every stored definition of a detector, newest
// first, also after it was deleted. An id that never existed is KindNotFound.
func (s *Store) DetectorVersions(ctx context.Context, id string) ([]model.Detector, error) {
	return s.detectorVersions(ctx, id, `detector_id = $1 ORDER BY version DESC`, id)
}

// DetectorVersion returns one stored definition of a detector, or a
// KindNotFound error.
func (s *Store) DetectorVersion(ctx context.Context, id string, version int64) (model.Detector, error) {
	ds, err := s.detectorVersions(ctx, id, `detector_id = $1 AND version = $2`, id, version)
	if err != nil {
		return model.Detector{}, err
	}
	return ds[0], nil
}

func (s *Store) detectorVersions(ctx context.Context, id, where string, args ...any) ([]model.Detector, error) {
	found, err := rows[detectorRow](ctx, s.read, s.read.DB, `SELECT detector_id AS id, version, created_at AS updated_at, definition,
		(SELECT min(f.created_at) FROM detector_versions AS f WHERE f.detector_id = v.detector_id) AS created_at
		FROM detector_versions AS v WHERE `+where, args...)
	if err != nil {
		return nil, s.wrap(err, "reading the versions of a detector")
	}
	if len(found) == 0 {
		e := model.NotFound(model.SubjectDetector, id)
		if len(args) > 1 {
			e.Message = fmt.Sprintf("no version %d of detector %q", args[1], id)
		}
		return nil, e
	}
	return toDetectors(found)
}
