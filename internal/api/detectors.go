package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"aiops/internal/model"
)

const detectorsPath = "/api/v1/detectors"

// DetectorPath is the path parameter of operations on one detector.
type DetectorPath struct {
	ID string `path:"id" minLength:"1" maxLength:"128" doc:"Id of the detector" example:"det_4f9k2m"`
}

// Precondition is the header of a change that must not undo another.
type Precondition struct {
	IfMatch string `header:"If-Match" maxLength:"256" doc:"ETag of the version that the change is based on; without it the current version is changed"`
}

type detectorAnswer struct {
	Tagged
	Body Detector
}

func (s *server) answerDetector(d model.Detector) *detectorAnswer {
	return &detectorAnswer{Tagged: tagVersion(d.Version), Body: s.detectorOf(d)}
}

func (s *server) registerDetectors() {
	register(s, operation{id: "list-detectors", method: http.MethodGet, path: detectorsPath, tag: tagDetectors,
		summary: "List detectors", description: "Definitions with their live status, a page at a time.",
		codes: readCodes}, s.listDetectors)
	register(s, operation{id: "create-detector", method: http.MethodPost, path: detectorsPath, tag: tagDetectors,
		summary: "Create a detector", description: "It starts learning at once unless enabled is false. " + sensitivityText,
		status: http.StatusCreated, codes: codes(writeCodes, CodeDetectorConflict, CodeQuery), request: exampleDetector}, s.createDetector)
	register(s, operation{id: "validate-detector", method: http.MethodPost, path: detectorsPath + "/validate", tag: tagDetectors,
		summary: "Check a definition without saving it", description: "Answers with the definition as it would be saved, defaults filled in, or with every fault at once.",
		codes: codes(inputCodes, CodeQuery), request: exampleDetector, changesNothing: true}, s.validateDetector)
	register(s, operation{id: "get-detector", method: http.MethodGet, path: detectorsPath + "/{id}", tag: tagDetectors,
		summary: "Get a detector", codes: codes(readCodes, CodeDetectorNotFound)}, s.getDetector)
	register(s, operation{id: "replace-detector", method: http.MethodPut, path: detectorsPath + "/{id}", tag: tagDetectors,
		summary: "Replace a definition", description: "Fields that are left out take their defaults, except enabled, which stays as it is. " + sensitivityText,
		codes: codes(changeCodes, CodeDetectorNotFound, CodeDetectorConflict, CodeQuery), request: exampleDetector}, s.replaceDetector)
	register(s, operation{id: "update-detector", method: http.MethodPatch, path: detectorsPath + "/{id}", tag: tagDetectors,
		summary: "Change parts of a definition", description: "A JSON merge patch (RFC 7386): what is left out stays, null restores the default. " + sensitivityText,
		codes: codes(changeCodes, CodeDetectorNotFound, CodeDetectorConflict, CodeQuery), request: `{"false_alarms_per_week": 0.5, "for": "2m"}`, mergePatch: true}, s.patchDetector)
	register(s, operation{id: "delete-detector", method: http.MethodDelete, path: detectorsPath + "/{id}", tag: tagDetectors,
		summary: "Delete a detector", description: "Its anomalies stay readable; open ones are resolved.", status: http.StatusNoContent,
		codes: codes(changeCodes, CodeDetectorNotFound, CodeDetectorConflict)}, s.deleteDetector)
}

type listDetectorsInput struct {
	Page
	Q           string `query:"q" maxLength:"200" doc:"Part of the name"`
	Source      string `query:"source" maxLength:"200" doc:"Only those on the source of this name"`
	Enabled     string `query:"enabled" enum:"true,false" doc:"Only those that are enabled, or not"`
	Provisioned string `query:"provisioned" enum:"true,false" doc:"Only those of the configuration file, or not"`
	Sort        string `query:"sort" enum:"name,-name,created_at,-created_at,updated_at,-updated_at" default:"name" doc:"Order; with - descending"`
}

// DetectorList is a page of detectors.
type DetectorList struct {
	Items      []Detector `json:"items"`
	NextCursor string     `json:"next_cursor" doc:"For the next page; empty on the last"`
}

type listDetectorsOutput struct {
	Tagged
	Body DetectorList
}

func (s *server) listDetectors(ctx context.Context, in *listDetectorsInput) (*listDetectorsOutput, error) {
	found, next, err := s.opts.Detectors.Detectors(ctx, model.DetectorFilter{
		Query: in.Q, Source: in.Source, Enabled: optionalBool(in.Enabled), Provisioned: optionalBool(in.Provisioned),
		Cursor: in.Cursor, Limit: in.Limit, Sort: in.Sort,
	})
	if err != nil {
		return nil, err
	}
	out := &listDetectorsOutput{Body: DetectorList{Items: make([]Detector, 0, len(found)), NextCursor: next}}
	for _, d := range found {
		out.Body.Items = append(out.Body.Items, s.detectorOf(d))
	}
	return out, nil
}

type createDetectorInput struct {
	Body    DetectorInput
	checked checkedDetector
}

// Resolve checks the definition while huma checks its form, so that all faults
// are told at once.
func (in *createDetectorInput) Resolve(ctx huma.Context) []error {
	return in.checked.check(ctx.Context(), in.Body)
}

// checkedDetector is what became of a definition: a detector, or the reason
// why there is none.
type checkedDetector struct {
	detector model.Detector
	err      error
}

// check returns faults of the input; any other error is kept for the handler.
func (c *checkedDetector) check(ctx context.Context, in DetectorInput) []error {
	s := requestOf(ctx).server
	c.detector, c.err = s.checkDetector(ctx, in)
	return takeFaults(&c.err)
}

type createdDetector struct {
	Tagged
	Location string `header:"Location" doc:"Path of the new detector"`
	Body     Detector
}

func (s *server) createDetector(ctx context.Context, in *createDetectorInput) (*createdDetector, error) {
	if in.checked.err != nil {
		return nil, in.checked.err
	}
	d, err := s.opts.Detectors.CreateDetector(ctx, in.checked.detector)
	if err != nil {
		return nil, err
	}
	s.syncEngine(ctx)
	return &createdDetector{Tagged: tagVersion(d.Version), Location: detectorsPath + "/" + d.ID, Body: s.detectorOf(d)}, nil
}

// ValidDetector is a definition that can be saved.
type ValidDetector struct {
	Valid    bool          `json:"valid" doc:"Always true; a definition with faults is answered with a problem"`
	Detector DetectorInput `json:"detector" doc:"The definition with its defaults filled in"`
}

type validateDetectorOutput struct{ Body ValidDetector }

func (s *server) validateDetector(_ context.Context, in *createDetectorInput) (*validateDetectorOutput, error) {
	if in.checked.err != nil {
		return nil, in.checked.err
	}
	return &validateDetectorOutput{Body: ValidDetector{Valid: true, Detector: inputOf(in.checked.detector)}}, nil
}

func (s *server) getDetector(ctx context.Context, in *DetectorPath) (*detectorAnswer, error) {
	d, err := s.opts.Detectors.Detector(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return s.answerDetector(d), nil
}

type replaceDetectorInput struct {
	DetectorPath
	Precondition
	Body    DetectorInput
	checked checkedDetector
}

// Resolve checks the definition while huma checks its form.
func (in *replaceDetectorInput) Resolve(ctx huma.Context) []error {
	return in.checked.check(ctx.Context(), in.Body)
}

func (s *server) replaceDetector(ctx context.Context, in *replaceDetectorInput) (*detectorAnswer, error) {
	expect, err := in.version()
	if err != nil {
		return nil, err
	}
	old, err := s.unlockedDetector(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if in.checked.err != nil {
		return nil, in.checked.err
	}
	d := in.checked.detector
	if in.Body.Enabled == nil {
		d.Enabled = old.Enabled
	}
	return s.saveDetector(ctx, old, d, expect)
}

type patchDetectorInput struct {
	DetectorPath
	Precondition
	Body DetectorPatch
}

func (s *server) patchDetector(ctx context.Context, in *patchDetectorInput) (*detectorAnswer, error) {
	expect, err := in.version()
	if err != nil {
		return nil, err
	}
	const tries = 3 // without If-Match a change that came between is merged with, not undone
	for try := 1; ; try++ {
		old, err := s.unlockedDetector(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		merged, form, err := s.mergeDetector(inputOf(old), in.Body)
		if err != nil {
			return nil, err
		}
		d, err := s.checkDetector(ctx, merged)
		form = append(form, takeFaults(&err)...)
		if len(form) > 0 {
			return nil, humaError(ctx, http.StatusUnprocessableEntity, "", form...)
		}
		if err != nil {
			return nil, err
		}
		base := expect
		if base == 0 {
			base = old.Version
		}
		out, err := s.saveDetector(ctx, old, d, base)
		if model.KindOf(err) == model.KindPrecondition && expect == 0 && try < tries {
			continue
		}
		return out, err
	}
}

type deleteDetectorInput struct {
	DetectorPath
	Precondition
}

func (s *server) deleteDetector(ctx context.Context, in *deleteDetectorInput) (*struct{}, error) {
	expect, err := in.version()
	if err != nil {
		return nil, err
	}
	if _, err := s.unlockedDetector(ctx, in.ID); err != nil {
		return nil, err
	}
	if err := s.opts.Detectors.DeleteDetector(ctx, in.ID, expect); err != nil {
		return nil, err
	}
	s.syncEngine(ctx)
	return nil, nil
}

// unlockedDetector reads a detector that may be changed here.
func (s *server) unlockedDetector(ctx context.Context, id string) (model.Detector, error) {
	d, err := s.opts.Detectors.Detector(ctx, id)
	if err != nil {
		return d, err
	}
	if d.Provisioned {
		return d, &model.Error{Kind: model.KindConflict, Subject: model.SubjectDetector,
			Message: "This detector is defined by the configuration file. Change it there and reload.",
			Context: map[string]any{"id": id, "provisioned": true}}
	}
	return d, nil
}

// saveDetector writes d over old.
func (s *server) saveDetector(ctx context.Context, old, d model.Detector, expect int64) (*detectorAnswer, error) {
	d.ID, d.Provisioned, d.CreatedAt, d.Version = old.ID, old.Provisioned, old.CreatedAt, old.Version
	saved, err := s.opts.Detectors.UpdateDetector(ctx, d, expect, model.EventDetectorUpdated)
	if err != nil {
		return nil, err
	}
	s.syncEngine(ctx)
	return s.answerDetector(saved), nil
}

// checkDetector turns input into a definition that can be saved, or returns
// all of its faults at once. When the query is the only fault, the source's
// own error with its position is returned.
func (s *server) checkDetector(ctx context.Context, in DetectorInput) (model.Detector, error) {
	var v model.Invalid
	d := in.definition(&v)
	if s.opts.DefaultDetector != nil {
		s.opts.DefaultDetector(&d)
	}
	if s.opts.ValidateDetector != nil {
		addFaults(&v, s.opts.ValidateDetector(d))
	}
	src, err := s.sourceByName(ctx, d.Source)
	if err != nil {
		return d, err
	}
	var query error
	if src == nil {
		addFaults(&v, &model.Error{Fields: []model.FieldError{{Pointer: "/source", Code: "unknown_source",
			Detail: fmt.Sprintf("there is no source called %q; list them at /api/v1/sources", clip(d.Source, 64))}}})
	} else if d.Query != "" {
		query = s.parseQuery(src.Name, d)
	}
	switch kind := model.KindOf(query); {
	case query == nil:
		return d, v.Err(model.SubjectDetector)
	case v.Err("") == nil || kind != model.KindQuery && kind != model.KindInvalid:
		return d, query
	}
	addFaults(&v, query)
	return d, v.Err(model.SubjectDetector)
}

// parseQuery checks the query of a definition in the language of its signal.
func (s *server) parseQuery(source string, d model.Detector) error {
	if d.Log == nil {
		return s.opts.Clients.ParseQuery(source, d.Query)
	}
	if s.opts.Logs == nil {
		return noLogs()
	}
	return s.opts.Logs.CheckQuery(source, d.Query)
}

// syncEngine makes the engine take up a change that is stored already. A
// failure is logged, not answered: the change itself succeeded.
func (s *server) syncEngine(ctx context.Context) { s.sync(ctx, "engine", s.opts.Engine.Sync) }

func (s *server) sync(ctx context.Context, what string, sync func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), defaultTimeout)
	defer cancel()
	if err := sync(ctx); err != nil {
		s.log.LogAttrs(ctx, slog.LevelError, "stored change not taken up", slog.String("by", what), slog.Any("err", err), slog.String("request_id", RequestID(ctx)))
	}
}

func optionalBool(s string) *bool {
	if s == "" {
		return nil
	}
	b := s == "true"
	return &b
}

func tagVersion(v int64) Tagged { return Tagged{ETag: `"` + strconv.FormatInt(v, 10) + `"`} }

// version reads the version out of an ETag of ours; 0 stands for any.
func (m Precondition) version() (int64, error) {
	tag := strings.TrimSpace(m.IfMatch)
	if tag == "" || tag == "*" {
		return 0, nil
	}
	tag = strings.TrimPrefix(tag, "W/") // made weak by compression on its way
	text, ok := strings.CutPrefix(tag, `"`)
	text, closed := strings.CutSuffix(text, `"`)
	number, _, _ := strings.Cut(text, ".")
	v, err := strconv.ParseInt(number, 10, 64)
	if !ok || !closed || err != nil || v <= 0 {
		return 0, &model.Error{Kind: model.KindPrecondition, Message: "If-Match is not the ETag of any version. Send the ETag of a GET answer as it is, quotes included."}
	}
	return v, nil
}
