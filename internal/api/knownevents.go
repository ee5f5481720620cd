package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"aiops/internal/model"
)

const knownEventsPath = "/api/v1/known-events"

// KnownEventStore keeps stretches of time that people know about.
type KnownEventStore interface {
	CreateKnownEvent(ctx context.Context, e model.KnownEvent) (model.KnownEvent, error)
	UpdateKnownEvent(ctx context.Context, e model.KnownEvent, expect int64) (model.KnownEvent, error)
	DeleteKnownEvent(ctx context.Context, id string, expect int64) error
	KnownEvent(ctx context.Context, id string) (model.KnownEvent, error)
	KnownEvents(ctx context.Context, f model.KnownEventFilter) ([]model.KnownEvent, string, error)
}

const exampleKnownEvent = `{"name": "database upgrade", "from": "2026-11-08T22:00:00Z", "to": "2026-11-08T23:00:00Z", "matchers": {"job": "shop"}, "mute": true}`

func (s *server) registerKnownEvents() {
	change := codes(changeCodes, CodeNotFound, CodeDetectorNotFound)
	register(s, operation{id: "list-known-events", method: http.MethodGet, path: knownEventsPath, tag: tagDetectors, summary: "List known events",
		description: "Maintenance, deploys and the like; those that begin latest first.", codes: readCodes}, s.listKnownEvents)
	register(s, operation{id: "create-known-event", method: http.MethodPost, path: knownEventsPath, tag: tagDetectors, summary: "Enter a known event",
		description: "Samples inside are not learned and, with mute, raise no alarm. What was scored before it was entered stays as it is; trainings and backtests leave all of it out.",
		status:      http.StatusCreated, codes: codes(writeCodes, CodeDetectorNotFound), request: exampleKnownEvent}, s.createKnownEvent)
	register(s, operation{id: "get-known-event", method: http.MethodGet, path: knownEventsPath + "/{id}", tag: tagDetectors, summary: "Get a known event",
		codes: codes(readCodes, CodeNotFound)}, s.getKnownEvent)
	register(s, operation{id: "replace-known-event", method: http.MethodPut, path: knownEventsPath + "/{id}", tag: tagDetectors, summary: "Replace a known event",
		codes: change, request: exampleKnownEvent}, s.replaceKnownEvent)
	register(s, operation{id: "delete-known-event", method: http.MethodDelete, path: knownEventsPath + "/{id}", tag: tagDetectors, summary: "Delete a known event",
		description: "Its samples count again from the next step on.", status: http.StatusNoContent, codes: codes(changeCodes, CodeNotFound)}, s.deleteKnownEvent)
}

// KnownEventInput is a known event as clients write it.
type KnownEventInput struct {
	Name       string            `json:"name" minLength:"1" maxLength:"200" doc:"What it is" example:"database upgrade"`
	From       time.Time         `json:"from" doc:"Begin, RFC 3339"`
	To         time.Time         `json:"to" doc:"End, included; at most 90 days after from"`
	DetectorID string            `json:"detector_id,omitempty" maxLength:"128" doc:"Only this detector; absent: every one"`
	Matchers   map[string]string `json:"matchers,omitempty" maxProperties:"16" doc:"Labels that a series, or else its detector, must have; none: every series"`
	Mute       bool              `json:"mute,omitempty" doc:"Samples inside raise no alarm"`

	ID        any `json:"id,omitempty" hidden:"true"`
	CreatedBy any `json:"created_by,omitempty" hidden:"true"`
	CreatedAt any `json:"created_at,omitempty" hidden:"true"`
	UpdatedAt any `json:"updated_at,omitempty" hidden:"true"`
	Version   any `json:"version,omitempty" hidden:"true"`
}

// KnownEvent is a stretch of time that people know about.
type KnownEvent struct {
	ID         string            `json:"id" example:"evt_4f9k2m"`
	Name       string            `json:"name"`
	From       time.Time         `json:"from"`
	To         time.Time         `json:"to"`
	DetectorID string            `json:"detector_id,omitempty"`
	Matchers   map[string]string `json:"matchers"`
	Mute       bool              `json:"mute"`
	CreatedBy  string            `json:"created_by,omitempty"`
	CreatedAt  time.Time         `json:"created_at"`
	UpdatedAt  time.Time         `json:"updated_at"`
	Version    int64             `json:"version"`
}

func knownEventOf(e model.KnownEvent) KnownEvent {
	matchers := e.Matchers
	if matchers == nil {
		matchers = map[string]string{}
	}
	return KnownEvent{ID: e.ID, Name: e.Name, From: e.From.UTC(), To: e.To.UTC(), DetectorID: e.DetectorID, Matchers: matchers, Mute: e.Mute,
		CreatedBy: e.CreatedBy, CreatedAt: e.CreatedAt.UTC(), UpdatedAt: e.UpdatedAt.UTC(), Version: e.Version}
}

// maxKnownEvent is how long a known event may last.
const maxKnownEvent = 90 * 24 * time.Hour

// event checks what a client wrote.
func (s *server) event(ctx context.Context, in KnownEventInput) (model.KnownEvent, error) {
	var v model.Invalid
	switch {
	case in.From.Year() < 1970 || in.To.Year() > 2200:
		v.Add("/from", "out_of_range", "the range must lie between 1970 and 2200")
	case in.To.Before(in.From):
		v.Add("/to", "out_of_range", "the event ends before it begins")
	case in.To.Sub(in.From) > maxKnownEvent:
		v.Add("/to", "out_of_range", "an event lasts at most 90 days")
	}
	for name, value := range in.Matchers {
		if name == "" || len(name) > 256 || len(value) > 256 {
			v.Add("/matchers", "invalid", "names have 1 to 256 bytes and values at most 256")
		}
	}
	if err := v.Err(model.SubjectKnownEvent); err != nil {
		return model.KnownEvent{}, err
	}
	if in.DetectorID != "" {
		if _, err := s.opts.Detectors.Detector(ctx, in.DetectorID); err != nil {
			return model.KnownEvent{}, err
		}
	}
	return model.KnownEvent{Name: in.Name, DetectorID: in.DetectorID, Matchers: in.Matchers, From: in.From.UTC(), To: in.To.UTC(), Mute: in.Mute,
		CreatedBy: identityOf(ctx).Name}, nil
}

type listKnownEventsInput struct {
	Page
	Detector string    `query:"detector" maxLength:"128" doc:"Only those that count for this detector"`
	From     time.Time `query:"from" doc:"Only those that end at this time or later"`
	To       time.Time `query:"to" doc:"Only those that begin at this time or before"`
}

// KnownEventList is a page of known events.
type KnownEventList struct {
	Items      []KnownEvent `json:"items"`
	NextCursor string       `json:"next_cursor" doc:"For the next page; empty on the last"`
}

type listKnownEventsOutput struct {
	Tagged
	Body KnownEventList
}

func (s *server) listKnownEvents(ctx context.Context, in *listKnownEventsInput) (*listKnownEventsOutput, error) {
	out := &listKnownEventsOutput{Body: KnownEventList{Items: []KnownEvent{}}}
	if s.opts.KnownEvents == nil {
		return out, nil
	}
	found, next, err := s.opts.KnownEvents.KnownEvents(ctx, model.KnownEventFilter{DetectorID: in.Detector, From: in.From, To: in.To, Cursor: in.Cursor, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	for _, e := range found {
		out.Body.Items = append(out.Body.Items, knownEventOf(e))
	}
	out.Body.NextCursor = next
	return out, nil
}

// KnownEventPath is the path parameter of operations on one known event.
type KnownEventPath struct {
	ID string `path:"id" minLength:"1" maxLength:"128" doc:"Id of the event" example:"evt_4f9k2m"`
}

type knownEventAnswer struct {
	Tagged
	Body KnownEvent
}

func answerKnownEvent(e model.KnownEvent) *knownEventAnswer {
	return &knownEventAnswer{Tagged: tagVersion(e.Version), Body: knownEventOf(e)}
}

func (s *server) getKnownEvent(ctx context.Context, in *KnownEventPath) (*knownEventAnswer, error) {
	if s.opts.KnownEvents == nil {
		return nil, model.NotFound(model.SubjectKnownEvent, in.ID)
	}
	e, err := s.opts.KnownEvents.KnownEvent(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return answerKnownEvent(e), nil
}

type createKnownEventInput struct {
	Body KnownEventInput
}

type createdKnownEvent struct {
	Tagged
	Location string `header:"Location" doc:"Path of the new event"`
	Body     KnownEvent
}

func (s *server) createKnownEvent(ctx context.Context, in *createKnownEventInput) (*createdKnownEvent, error) {
	if s.opts.KnownEvents == nil {
		return nil, errNoLifecycle("known events")
	}
	e, err := s.event(ctx, in.Body)
	if err != nil {
		return nil, err
	}
	if e, err = s.opts.KnownEvents.CreateKnownEvent(ctx, e); err != nil {
		return nil, err
	}
	s.syncEngine(ctx)
	return &createdKnownEvent{Tagged: tagVersion(e.Version), Location: fmt.Sprintf("%s/%s", knownEventsPath, e.ID), Body: knownEventOf(e)}, nil
}

type replaceKnownEventInput struct {
	KnownEventPath
	Precondition
	Body KnownEventInput
}

func (s *server) replaceKnownEvent(ctx context.Context, in *replaceKnownEventInput) (*knownEventAnswer, error) {
	if s.opts.KnownEvents == nil {
		return nil, model.NotFound(model.SubjectKnownEvent, in.ID)
	}
	expect, err := in.version()
	if err != nil {
		return nil, err
	}
	e, err := s.event(ctx, in.Body)
	if err != nil {
		return nil, err
	}
	e.ID = in.ID
	if e, err = s.opts.KnownEvents.UpdateKnownEvent(ctx, e, expect); err != nil {
		return nil, err
	}
	s.syncEngine(ctx)
	return answerKnownEvent(e), nil
}

type deleteKnownEventInput struct {
	KnownEventPath
	Precondition
}

func (s *server) deleteKnownEvent(ctx context.Context, in *deleteKnownEventInput) (*struct{}, error) {
	if s.opts.KnownEvents == nil {
		return nil, model.NotFound(model.SubjectKnownEvent, in.ID)
	}
	expect, err := in.version()
	if err != nil {
		return nil, err
	}
	if err := s.opts.KnownEvents.DeleteKnownEvent(ctx, in.ID, expect); err != nil {
		return nil, err
	}
	s.syncEngine(ctx)
	return nil, nil
}
