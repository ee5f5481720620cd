package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"aiops/internal/model"
)

type knownEventRow struct {
	ID         string `bun:"id"`
	Name       string `bun:"name"`
	DetectorID string `bun:"detector_id"`
	Matchers   string `bun:"matchers"`
	FromTime   int64  `bun:"from_time"`
	ToTime     int64  `bun:"to_time"`
	Mute       int    `bun:"mute"`
	CreatedBy  string `bun:"created_by"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	Version    int64  `bun:"version"`
}

const knownEventColumns = `id, name, detector_id, matchers, from_time, to_time, mute, created_by, created_at, updated_at, version`

func newKnownEventRow(e model.KnownEvent) (knownEventRow, error) {
	matchers, err := json.Marshal(e.Matchers)
	if err != nil {
		return knownEventRow{}, fmt.Errorf("encoding the matchers of an event: %w", err)
	}
	return knownEventRow{ID: e.ID, Name: cleanText(e.Name), DetectorID: cleanText(e.DetectorID), Matchers: cleanText(string(matchers)),
		FromTime: toMillis(e.From), ToTime: toMillis(e.To), Mute: bit(e.Mute), CreatedBy: cleanText(e.CreatedBy)}, nil
}

func (r knownEventRow) event() (model.KnownEvent, error) {
	e := model.KnownEvent{ID: r.ID, Name: r.Name, DetectorID: r.DetectorID, From: fromMillis(r.FromTime), To: fromMillis(r.ToTime), Mute: r.Mute != 0,
		CreatedBy: r.CreatedBy, CreatedAt: fromMillis(r.CreatedAt), UpdatedAt: fromMillis(r.UpdatedAt), Version: r.Version}
	if err := json.Unmarshal([]byte(r.Matchers), &e.Matchers); err != nil {
		return e, model.WrapError(model.KindDatabase, model.SubjectKnownEvent, err, "the stored event %s cannot be read", r.ID)
	}
	return e, nil
}

// knownEventData is the data of the event known_event.changed.
type knownEventData struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	DetectorID string    `json:"detector_id"`
	From       time.Time `json:"from"`
	To         time.Time `json:"to"`
	Deleted    bool      `json:"deleted"`
	Version    int64     `json:"version"`
}

func (t *tx) emitKnownEvent(r knownEventRow, deleted bool) error {
	_, err := t.emit(model.EventKnownEventChanged, "system/known_events/"+r.ID, knownEventData{ID: r.ID, Name: r.Name, DetectorID: r.DetectorID,
		From: fromMillis(r.FromTime), To: fromMillis(r.ToTime), Deleted: deleted, Version: r.Version})
	return err
}

// CreateKnownEvent stores a known event at version 1 and returns it as stored,
// with the event known_event.changed.
func (s *Store) CreateKnownEvent(ctx context.Context, e model.KnownEvent) (model.KnownEvent, error) {
	r, err := newKnownEventRow(e)
	if err != nil {
		return e, err
	}
	r.ID, r.Version = newID("evt"), 1
	err = s.commit(ctx, "creating a known event", func(ctx context.Context, tx *tx) error {
		r.CreatedAt, r.UpdatedAt = tx.now, tx.now
		if err := tx.exec(ctx, `INSERT INTO known_events (`+knownEventColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
			r.ID, r.Name, r.DetectorID, r.Matchers, r.FromTime, r.ToTime, r.Mute, r.CreatedBy, r.CreatedAt, r.UpdatedAt, r.Version); err != nil {
			return fmt.Errorf("inserting the event: %w", err)
		}
		return tx.emitKnownEvent(r, false)
	})
	if err != nil {
		return e, err
	}
	return r.event()
}

func (t *tx) knownEventRow(ctx context.Context, id string, expect int64) (knownEventRow, error) {
	found, err := rows[knownEventRow](ctx, t.bun, t, `SELECT `+knownEventColumns+` FROM known_events WHERE id = $1`+t.forUpdate, id)
	if err != nil {
		return knownEventRow{}, fmt.Errorf("reading the event: %w", err)
	}
	if len(found) == 0 {
		return knownEventRow{}, model.NotFound(model.SubjectKnownEvent, id)
	}
	return found[0], expectVersion(model.SubjectKnownEvent, id, found[0].Version, expect)
}

// UpdateKnownEvent replaces a known event, with the event known_event.changed.
// When expect is not 0 and not its version, the error is a KindPrecondition.
func (s *Store) UpdateKnownEvent(ctx context.Context, e model.KnownEvent, expect int64) (model.KnownEvent, error) {
	want, err := newKnownEventRow(e)
	if err != nil {
		return e, err
	}
	var r knownEventRow
	err = s.commit(ctx, "changing a known event", func(ctx context.Context, tx *tx) error {
		old, err := tx.knownEventRow(ctx, e.ID, expect)
		if err != nil {
			return err
		}
		r = want
		r.CreatedBy, r.CreatedAt, r.UpdatedAt, r.Version = old.CreatedBy, old.CreatedAt, old.UpdatedAt, old.Version
		if r == old {
			return nil
		}
		r.UpdatedAt, r.Version = tx.now, old.Version+1
		if err := tx.exec(ctx, `UPDATE known_events SET name = $2, detector_id = $3, matchers = $4, from_time = $5, to_time = $6, mute = $7,
			updated_at = $8, version = $9 WHERE id = $1`, r.ID, r.Name, r.DetectorID, r.Matchers, r.FromTime, r.ToTime, r.Mute, r.UpdatedAt, r.Version); err != nil {
			return fmt.Errorf("updating the event: %w", err)
		}
		return tx.emitKnownEvent(r, false)
	})
	if err != nil {
		return e, err
	}
	return r.event()
}

// DeleteKnownEvent deletes a known event, with the event known_event.changed.
// When expect is not 0 and not its version, the error is a KindPrecondition.
func (s *Store) DeleteKnownEvent(ctx context.Context, id string, expect int64) error {
	return s.commit(ctx, "deleting a known event", func(ctx context.Context, tx *tx) error {
		r, err := tx.knownEventRow(ctx, id, expect)
		if err != nil {
			return err
		}
		if err := tx.exec(ctx, `DELETE FROM known_events WHERE id = $1`, id); err != nil {
			return fmt.Errorf("deleting the event: %w", err)
		}
		return tx.emitKnownEvent(r, true)
	})
}

// KnownEvent returns the known event with the given id, or a KindNotFound
// error.
func (s *Store) KnownEvent(ctx context.Context, id string) (model.KnownEvent, error) {
	found, err := rows[knownEventRow](ctx, s.read, s.read.DB, `SELECT `+knownEventColumns+` FROM known_events WHERE id = $1`, cleanText(id))
	if err != nil {
		return model.KnownEvent{}, s.wrap(err, "reading a known event")
	}
	if len(found) == 0 {
		return model.KnownEvent{}, model.NotFound(model.SubjectKnownEvent, id)
	}
	return found[0].event()
}

// KnownEvents returns one page of the known events that f selects, those that
// begin latest first, and the cursor of the page after it, "" on the last one.
func (s *Store) KnownEvents(ctx context.Context, f model.KnownEventFilter) ([]model.KnownEvent, string, error) {
	p, err := s.newPage("known_events", map[string]sortKey{"from": {column: "from_time"}}, "-from", "", f.Cursor, f.Limit,
		f.DetectorID, fmt.Sprint(toMillis(f.From)), fmt.Sprint(toMillis(f.To)))
	if err != nil {
		return nil, "", err
	}
	if f.DetectorID != "" {
		p.where("(detector_id = '' OR detector_id = " + p.arg(cleanText(f.DetectorID)) + ")")
	}
	if !f.From.IsZero() {
		p.where("to_time >= " + p.arg(toMillis(f.From)))
	}
	if !f.To.IsZero() {
		p.where("from_time <= " + p.arg(toMillis(f.To)))
	}
	found, err := rows[knownEventRow](ctx, s.read, s.read.DB, p.query("SELECT "+knownEventColumns+" FROM known_events"), p.args...)
	if err != nil {
		return nil, "", s.wrap(err, "listing known events")
	}
	next := ""
	if len(found) > p.limit {
		found = found[:p.limit]
		last := found[len(found)-1]
		next = p.next(last.FromTime, last.ID)
	}
	out := make([]model.KnownEvent, len(found))
	for i, r := range found {
		if out[i], err = r.event(); err != nil {
			return nil, "", err
		}
	}
	return out, next, nil
}

// RecentKnownEvents returns the known events that end at since or later, those
// that begin latest first, at most model.MaxKnownEvents.
func (s *Store) RecentKnownEvents(ctx context.Context, since time.Time) ([]model.KnownEvent, error) {
	events, _, err := s.KnownEvents(ctx, model.KnownEventFilter{From: since, Limit: model.MaxKnownEvents})
	return events, err
}
