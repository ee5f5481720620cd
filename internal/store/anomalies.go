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

// anomalyRow is an anomaly as it is kept.
type anomalyRow struct {
	ID              string `bun:"id"`
	DetectorID      string `bun:"detector_id"`
	DetectorName    string `bun:"detector_name"`
	Series          string `bun:"series"`
	State           string `bun:"state"`
	Severity        string `bun:"severity"`
	StartedAt       int64  `bun:"started_at"`
	FiredAt         int64  `bun:"fired_at"`
	ResolvedAt      int64  `bun:"resolved_at"`
	PeakAt          int64  `bun:"peak_at"`
	Value           real   `bun:"value"`
	Expected        real   `bun:"expected"`
	Lower           real   `bun:"lower"`
	Upper           real   `bun:"upper"`
	Score           real   `bun:"score"`
	OnceInSeconds   real   `bun:"once_in_seconds"`
	Reason          string `bun:"reason"`
	Label           int    `bun:"label"`
	AcknowledgedBy  string `bun:"acknowledged_by"`
	AcknowledgedAt  int64  `bun:"acknowledged_at"`
	ResolvedBy      string `bun:"resolved_by"`
	DetectorVersion int64  `bun:"detector_version"`
	ModelVersion    int64  `bun:"model_version"`
	Version         int64  `bun:"version"`
	UpdatedAt       int64  `bun:"updated_at"`
}

// The values of the column label.
const (
	labelNone  = 0
	labelTrue  = 1
	labelFalse = 2
)

const anomalyColumns = `id, detector_id, detector_name, series, state, severity, started_at, fired_at, resolved_at, peak_at,
	value, expected, lower, upper, score, once_in_seconds, reason, label, acknowledged_by, acknowledged_at, resolved_by,
	detector_version, model_version, version, updated_at`

const anomalyColumnCount = 25

func (r anomalyRow) args() []any {
	return []any{r.ID, r.DetectorID, r.DetectorName, r.Series, r.State, r.Severity, r.StartedAt, r.FiredAt, r.ResolvedAt, r.PeakAt,
		r.Value.arg(), r.Expected.arg(), r.Lower.arg(), r.Upper.arg(), float64(r.Score), r.OnceInSeconds.arg(), r.Reason, r.Label,
		r.AcknowledgedBy, r.AcknowledgedAt, r.ResolvedBy, r.DetectorVersion, r.ModelVersion, r.Version, r.UpdatedAt}
}

func labelNumber(l *bool) int {
	switch {
	case l == nil:
		return labelNone
	case *l:
		return labelTrue
	}
	return labelFalse
}

func newAnomalyRow(a model.Anomaly) (anomalyRow, error) {
	series, err := json.Marshal(a.Series)
	if err != nil {
		return anomalyRow{}, fmt.Errorf("encoding the labels of %s: %w", a.ID, err)
	}
	if a.Score != a.Score {
		a.Score = 0 // sorted by: must be a number
	}
	return anomalyRow{
		ID: a.ID, DetectorID: a.DetectorID, DetectorName: cleanText(a.DetectorName), Series: string(series),
		State: string(a.State), Severity: string(a.Severity), StartedAt: toMillis(a.StartedAt), FiredAt: toMillis(a.FiredAt),
		ResolvedAt: toMillis(a.ResolvedAt), PeakAt: toMillis(a.PeakAt), Value: real(a.Value), Expected: real(a.Expected),
		Lower: real(a.Lower), Upper: real(a.Upper), Score: real(a.Score), OnceInSeconds: real(a.OnceInSeconds),
		Reason: cleanText(a.Reason), Label: labelNumber(a.Label), AcknowledgedBy: cleanText(a.AcknowledgedBy),
		AcknowledgedAt: toMillis(a.AcknowledgedAt), ResolvedBy: cleanText(a.ResolvedBy), DetectorVersion: a.DetectorVersion,
		ModelVersion: a.ModelVersion, Version: a.Version, UpdatedAt: toMillis(a.UpdatedAt),
	}, nil
}

func (r anomalyRow) anomaly() (model.Anomaly, error) {
	a := model.Anomaly{
		ID: r.ID, DetectorID: r.DetectorID, DetectorName: r.DetectorName, State: model.AnomalyState(r.State),
		Severity: model.Severity(r.Severity), StartedAt: fromMillis(r.StartedAt), FiredAt: fromMillis(r.FiredAt),
		ResolvedAt: fromMillis(r.ResolvedAt), PeakAt: fromMillis(r.PeakAt), Value: float64(r.Value), Expected: float64(r.Expected),
		Lower: float64(r.Lower), Upper: float64(r.Upper), Score: float64(r.Score), OnceInSeconds: float64(r.OnceInSeconds),
		Reason: r.Reason, AcknowledgedBy: r.AcknowledgedBy, AcknowledgedAt: fromMillis(r.AcknowledgedAt), ResolvedBy: r.ResolvedBy,
		DetectorVersion: r.DetectorVersion, ModelVersion: r.ModelVersion, Version: r.Version, UpdatedAt: fromMillis(r.UpdatedAt),
	}
	if r.Label != labelNone {
		l := r.Label == labelTrue
		a.Label = &l
	}
	if err := json.Unmarshal([]byte(r.Series), &a.Series); err != nil {
		return model.Anomaly{}, model.WrapError(model.KindDatabase, model.SubjectAnomaly, err, "the stored anomaly %s cannot be read", r.ID)
	}
	return a, nil
}

// anomalyEvent is the data of the events of an anomaly: its shape as the API
// shows it.
type anomalyEvent struct {
	ID             string             `json:"id"`
	DetectorID     string             `json:"detector_id"`
	DetectorName   string             `json:"detector_name"`
	Series         json.RawMessage    `json:"series"`
	State          model.AnomalyState `json:"state"`
	Severity       model.Severity     `json:"severity"`
	StartedAt      *time.Time         `json:"started_at"`
	FiredAt        *time.Time         `json:"fired_at"`
	ResolvedAt     *time.Time         `json:"resolved_at"`
	PeakAt         *time.Time         `json:"peak_at"`
	Value          model.Float        `json:"value"`
	Expected       model.Float        `json:"expected"`
	Lower          model.Float        `json:"lower"`
	Upper          model.Float        `json:"upper"`
	Score          model.Float        `json:"score"`
	OnceInSeconds  model.Float        `json:"once_in_seconds"`
	Reason         string             `json:"reason"`
	Label          *bool              `json:"label"`
	LabelledBy     string             `json:"labelled_by,omitempty"`
	AcknowledgedBy string             `json:"acknowledged_by,omitempty"`
	AcknowledgedAt *time.Time         `json:"acknowledged_at"`
	ResolvedBy     string             `json:"resolved_by,omitempty"`
	Version        int64              `json:"version"`
}

func optionalTime(ms int64) *time.Time {
	if ms == 0 {
		return nil
	}
	t := fromMillis(ms)
	return &t
}

func (t *tx) emitAnomaly(typ model.EventType, r anomalyRow, labelledBy string) error {
	e := anomalyEvent{ID: r.ID, DetectorID: r.DetectorID, DetectorName: r.DetectorName, Series: json.RawMessage(r.Series),
		State: model.AnomalyState(r.State), Severity: model.Severity(r.Severity), StartedAt: optionalTime(r.StartedAt),
		FiredAt: optionalTime(r.FiredAt), ResolvedAt: optionalTime(r.ResolvedAt), PeakAt: optionalTime(r.PeakAt),
		Value: model.Float(r.Value), Expected: model.Float(r.Expected), Lower: model.Float(r.Lower), Upper: model.Float(r.Upper),
		Score: model.Float(r.Score), OnceInSeconds: model.Float(r.OnceInSeconds), Reason: r.Reason, LabelledBy: labelledBy,
		AcknowledgedBy: r.AcknowledgedBy, AcknowledgedAt: optionalTime(r.AcknowledgedAt), ResolvedBy: r.ResolvedBy, Version: r.Version}
	if r.Label != labelNone {
		l := r.Label == labelTrue
		e.Label = &l
	}
	_, err := t.emit(typ, "anomalies/"+r.ID, e)
	return err
}

// CommitAnomalies writes changes of episodes, all or none, each with its event
// and its evidence in the same transaction. It is idempotent, so that a stretch
// of time can be replayed after a crash: a change that alters nothing, and one
// that is older than what is stored, write nothing. The rules:
//
//   - An episode only moves forward: pending, firing, resolved. A resolved one
//     is final. Within a state its peak only grows.
//   - Its start, series and detector never change.
//   - What people said stays: label, acknowledgement, and an end by hand.
//   - Version grows by one with each change that is written; the Version and
//     UpdatedAt of the argument are ignored.
//
// A change that would open an anomaly of a detector that does not exist is
// KindNotFound with the subject detector.
func (s *Store) CommitAnomalies(ctx context.Context, changes []model.AnomalyChange) error {
	if len(changes) == 0 {
		return nil
	}
	prepared := make([]anomalyChange, len(changes))
	var bad model.Invalid
	for i, c := range changes {
		checkAnomaly(&bad, i, c.Anomaly)
		row, err := newAnomalyRow(c.Anomaly)
		if err != nil {
			return err
		}
		prepared[i] = anomalyChange{row: row, labels: c.Anomaly.Series, event: c.Event}
		if c.Evidence != nil {
			if prepared[i].evidence, err = s.codec.packEvidence(*c.Evidence); err != nil {
				return err
			}
		}
	}
	if err := bad.Err(model.SubjectAnomaly); err != nil {
		return err
	}
	return s.commit(ctx, "writing anomalies", func(ctx context.Context, tx *tx) error {
		stored, err := tx.anomaliesByID(ctx, prepared)
		if err != nil {
			return err
		}
		known := make(map[string]bool)
		for _, c := range prepared {
			if _, exists := stored[c.row.ID]; !exists && !known[c.row.DetectorID] {
				if err := tx.detectorExists(ctx, c.row.DetectorID); err != nil {
					return err
				}
				known[c.row.DetectorID] = true
			}
			if err := tx.commitAnomaly(ctx, stored, c); err != nil {
				return err
			}
		}
		return nil
	})
}

type anomalyChange struct {
	row      anomalyRow
	labels   model.Labels
	event    model.EventType
	evidence []byte
}

func checkAnomaly(bad *model.Invalid, i int, a model.Anomaly) {
	if a.ID == "" || a.DetectorID == "" {
		bad.Add(fmt.Sprintf("/%d/id", i), "required", "an anomaly needs an id and a detector")
	}
	if a.StartedAt.IsZero() {
		bad.Add(fmt.Sprintf("/%d/started_at", i), "required", "anomaly %q has no start", a.ID)
	}
	if stateRank(string(a.State)) == 0 {
		bad.Add(fmt.Sprintf("/%d/state", i), "unknown_state", "anomaly %q has the unknown state %q", a.ID, a.State)
	}
}

func stateRank(state string) int {
	switch model.AnomalyState(state) {
	case model.AnomalyPending:
		return 1
	case model.AnomalyFiring:
		return 2
	case model.AnomalyResolved:
		return 3
	}
	return 0
}

// anomaliesByID reads and locks the stored rows of a set of changes.
func (t *tx) anomaliesByID(ctx context.Context, changes []anomalyChange) (map[string]anomalyRow, error) {
	const step = 500
	stored := make(map[string]anomalyRow, len(changes))
	for len(changes) > 0 {
		part := changes[:min(step, len(changes))]
		changes = changes[len(part):]
		var q strings.Builder
		q.WriteString(`SELECT ` + anomalyColumns + ` FROM anomalies WHERE id IN `)
		writePlaceholders(&q, 1, len(part))
		q.WriteString(t.forUpdate)
		args := make([]any, len(part))
		for i, c := range part {
			args[i] = c.row.ID
		}
		found, err := rows[anomalyRow](ctx, t.bun, t, q.String(), args...)
		if err != nil {
			return nil, fmt.Errorf("reading anomalies: %w", err)
		}
		for _, r := range found {
			stored[r.ID] = r
		}
	}
	return stored, nil
}

func (t *tx) commitAnomaly(ctx context.Context, stored map[string]anomalyRow, c anomalyChange) error {
	old, exists := stored[c.row.ID]
	row := c.row
	row.UpdatedAt = t.now
	if !exists {
		row.Version = 1
		if err := t.insertAnomaly(ctx, row, c.labels); err != nil {
			return err
		}
	} else {
		var changed bool
		if row, changed = mergeAnomaly(old, row); !changed {
			return nil
		}
		if err := t.updateAnomaly(ctx, row); err != nil {
			return err
		}
	}
	stored[row.ID] = row
	if c.evidence != nil {
		if err := t.exec(ctx, `INSERT INTO anomaly_evidence (anomaly_id, data) VALUES ($1, $2)
			ON CONFLICT (anomaly_id) DO UPDATE SET data = excluded.data`, row.ID, c.evidence); err != nil {
			return fmt.Errorf("writing evidence: %w", err)
		}
	}
	if c.event == "" {
		return nil
	}
	return t.emitAnomaly(c.event, row, "")
}

// mergeAnomaly applies a change of the pipeline to what is stored, and reports
// whether anything is left to write.
func mergeAnomaly(old, row anomalyRow) (anomalyRow, bool) {
	if old.State == string(model.AnomalyResolved) || stateRank(row.State) < stateRank(old.State) {
		return old, false
	}
	if row.State == old.State && row.Score < old.Score {
		return old, false
	}
	row.DetectorID, row.DetectorName, row.Series, row.StartedAt = old.DetectorID, old.DetectorName, old.Series, old.StartedAt
	row.Label, row.AcknowledgedBy, row.AcknowledgedAt, row.ResolvedBy = old.Label, old.AcknowledgedBy, old.AcknowledgedAt, old.ResolvedBy
	row.Version = old.Version
	now := row.UpdatedAt
	row.UpdatedAt = old.UpdatedAt
	if sameAnomaly(old, row) {
		return old, false
	}
	row.Version++
	row.UpdatedAt = now
	return row, true
}

func sameAnomaly(a, b anomalyRow) bool {
	for _, p := range [][2]*real{{&a.Value, &b.Value}, {&a.Expected, &b.Expected}, {&a.Lower, &b.Lower},
		{&a.Upper, &b.Upper}, {&a.Score, &b.Score}, {&a.OnceInSeconds, &b.OnceInSeconds}} {
		if !p[0].same(*p[1]) {
			return false
		}
		*p[0], *p[1] = 0, 0 // NaN is not equal to itself
	}
	return a == b
}

// detectorExists makes sure that a detector exists, and goes on to until the
// commit.
func (t *tx) detectorExists(ctx context.Context, id string) error {
	var one int
	err := t.QueryRowContext(ctx, `SELECT 1 FROM detectors WHERE id = $1`+t.forShare, id).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return model.NotFound(model.SubjectDetector, id)
	}
	if err != nil {
		return fmt.Errorf("looking for the detector: %w", err)
	}
	return nil
}

func (t *tx) insertAnomaly(ctx context.Context, r anomalyRow, labels model.Labels) error {
	var q strings.Builder
	q.WriteString(`INSERT INTO anomalies (` + anomalyColumns + `) VALUES `)
	writePlaceholders(&q, 1, anomalyColumnCount)
	if err := t.exec(ctx, q.String(), r.args()...); err != nil {
		return fmt.Errorf("inserting an anomaly: %w", err)
	}
	if len(labels) == 0 {
		return nil
	}
	q.Reset()
	q.WriteString(`INSERT INTO anomaly_labels (name, value, started_at, anomaly_id) VALUES `)
	args := make([]any, 0, 4*len(labels))
	for i, l := range labels {
		if i > 0 {
			q.WriteByte(',')
		}
		writePlaceholders(&q, len(args)+1, 4)
		args = append(args, cleanText(l.Name), cleanText(l.Value), r.StartedAt, r.ID)
	}
	if err := t.exec(ctx, q.String(), args...); err != nil {
		return fmt.Errorf("inserting labels: %w", err)
	}
	return nil
}

func (t *tx) updateAnomaly(ctx context.Context, r anomalyRow) error {
	if err := t.exec(ctx, `UPDATE anomalies SET state = $2, severity = $3, fired_at = $4, resolved_at = $5, peak_at = $6, value = $7,
		expected = $8, lower = $9, upper = $10, score = $11, once_in_seconds = $12, reason = $13, label = $14, acknowledged_by = $15,
		acknowledged_at = $16, resolved_by = $17, detector_version = $18, model_version = $19, version = $20, updated_at = $21
		WHERE id = $1`, r.ID, r.State, r.Severity, r.FiredAt, r.ResolvedAt, r.PeakAt, r.Value.arg(), r.Expected.arg(), r.Lower.arg(),
		r.Upper.arg(), float64(r.Score), r.OnceInSeconds.arg(), r.Reason, r.Label, r.AcknowledgedBy, r.AcknowledgedAt, r.ResolvedBy,
		r.DetectorVersion, r.ModelVersion, r.Version, r.UpdatedAt); err != nil {
		return fmt.Errorf("updating an anomaly: %w", err)
	}
	return nil
}

// resolveOpen ends the open anomalies of a detector for a reason of ours.
func (t *tx) resolveOpen(ctx context.Context, detectorID, reason string) error {
	open, err := rows[anomalyRow](ctx, t.bun, t, `SELECT `+anomalyColumns+` FROM anomalies
		WHERE detector_id = $1 AND state <> 'resolved' ORDER BY started_at, id`+t.forUpdate, detectorID)
	if err != nil {
		return fmt.Errorf("reading open anomalies: %w", err)
	}
	for _, r := range open {
		r.State, r.ResolvedAt, r.UpdatedAt, r.Reason = string(model.AnomalyResolved), t.now, t.now, reason
		r.Version++
		if err := t.updateAnomaly(ctx, r); err != nil {
			return err
		}
		if err := t.emitAnomaly(model.EventAnomalyResolved, r, ""); err != nil {
			return err
		}
	}
	return nil
}

// editAnomaly changes one anomaly on behalf of a person. change returns the
// event of what it altered, "" when it altered nothing.
func (s *Store) editAnomaly(ctx context.Context, doing, id string, expect int64, by string,
	change func(r *anomalyRow, now int64) (model.EventType, error)) (model.Anomaly, error) {
	var out anomalyRow
	err := s.commit(ctx, doing, func(ctx context.Context, tx *tx) error {
		found, err := rows[anomalyRow](ctx, tx.bun, tx, `SELECT `+anomalyColumns+` FROM anomalies WHERE id = $1`+tx.forUpdate, id)
		if err != nil {
			return fmt.Errorf("reading the anomaly: %w", err)
		}
		if len(found) == 0 {
			return model.NotFound(model.SubjectAnomaly, id)
		}
		out = found[0]
		if err := expectVersion(model.SubjectAnomaly, id, out.Version, expect); err != nil {
			return err
		}
		ev, err := change(&out, tx.now)
		if err != nil || ev == "" {
			return err
		}
		out.Version++
		out.UpdatedAt = tx.now
		if err := tx.updateAnomaly(ctx, out); err != nil {
			return err
		}
		labelledBy := ""
		if ev == model.EventAnomalyLabelled {
			labelledBy = by
		}
		return tx.emitAnomaly(ev, out, labelledBy)
	})
	if err != nil {
		return model.Anomaly{}, err
	}
	return out.anomaly()
}

// AcknowledgeAnomaly notes that by takes care of an anomaly, since at (zero:
// now), with the event anomaly.acknowledged. The first acknowledgement counts:
// a second one changes nothing. When expect is not 0 and not the current
// version, the error is a KindPrecondition.
func (s *Store) AcknowledgeAnomaly(ctx context.Context, id, by string, at time.Time, expect int64) (model.Anomaly, error) {
	return s.editAnomaly(ctx, "acknowledging an anomaly", id, expect, by, func(r *anomalyRow, now int64) (model.EventType, error) {
		if r.AcknowledgedAt != 0 {
			return "", nil
		}
		r.AcknowledgedBy, r.AcknowledgedAt = cleanText(by), orNow(at, now)
		return model.EventAnomalyAcknowledged, nil
	})
}

func orNow(at time.Time, now int64) int64 {
	if at.IsZero() {
		return now
	}
	return toMillis(at)
}

// ResolveAnomaly ends an anomaly by hand at the time at (zero: now), with the
// event anomaly.resolved. That is final: the pipeline does not open it again.
// One that is resolved already stays as it is. When expect is not 0 and not the
// current version, the error is a KindPrecondition.
func (s *Store) ResolveAnomaly(ctx context.Context, id, by string, at time.Time, expect int64) (model.Anomaly, error) {
	return s.editAnomaly(ctx, "resolving an anomaly", id, expect, by, func(r *anomalyRow, now int64) (model.EventType, error) {
		if r.State == string(model.AnomalyResolved) {
			return "", nil
		}
		r.State, r.ResolvedBy, r.ResolvedAt = string(model.AnomalyResolved), cleanText(by), orNow(at, now)
		return model.EventAnomalyResolved, nil
	})
}

// LabelAnomaly notes that an anomaly was a true or a false alarm, nil takes the
// label away, with the event anomaly.labelled, which also tells who said so.
// The same label again changes nothing. When expect is not 0 and not the
// current version, the error is a KindPrecondition.
func (s *Store) LabelAnomaly(ctx context.Context, id string, label *bool, by string, expect int64) (model.Anomaly, error) {
	return s.editAnomaly(ctx, "labelling an anomaly", id, expect, by, func(r *anomalyRow, _ int64) (model.EventType, error) {
		n := labelNumber(label)
		if r.Label == n {
			return "", nil
		}
		r.Label = n
		return model.EventAnomalyLabelled, nil
	})
}

// Anomaly returns the anomaly with the given id, or a KindNotFound error.
func (s *Store) Anomaly(ctx context.Context, id string) (model.Anomaly, error) {
	found, err := s.anomalies(ctx, `WHERE id = $1`, cleanText(id))
	if err != nil {
		return model.Anomaly{}, err
	}
	if len(found) == 0 {
		return model.Anomaly{}, model.NotFound(model.SubjectAnomaly, id)
	}
	return found[0], nil
}

// OpenAnomalies returns all pending and firing anomalies of a detector, or of
// every detector when detectorID is "", oldest first.
func (s *Store) OpenAnomalies(ctx context.Context, detectorID string) ([]model.Anomaly, error) {
	if detectorID == "" {
		return s.anomalies(ctx, `WHERE state <> 'resolved' ORDER BY started_at, id`)
	}
	return s.anomalies(ctx, `WHERE state <> 'resolved' AND detector_id = $1 ORDER BY started_at, id`, cleanText(detectorID))
}

func (s *Store) anomalies(ctx context.Context, rest string, args ...any) ([]model.Anomaly, error) {
	found, err := rows[anomalyRow](ctx, s.read, s.read.DB, `SELECT `+anomalyColumns+` FROM anomalies `+rest, args...)
	if err != nil {
		return nil, s.wrap(err, "reading anomalies")
	}
	return toAnomalies(found)
}

func toAnomalies(found []anomalyRow) ([]model.Anomaly, error) {
	out := make([]model.Anomaly, len(found))
	for i, r := range found {
		var err error
		if out[i], err = r.anomaly(); err != nil {
			return nil, err
		}
	}
	return out, nil
}
