package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"aiops/internal/model"
)

const (
	sourcesPath    = "/api/v1/sources"
	maxQuerySeries = 1000
)

func (s *server) registerSources() {
	one := sourcesPath + "/{id}"
	asks := codes(nil, CodeNotFound, CodePrometheus, CodeLoki, CodeSourceAuth, CodeNetwork)
	register(s, operation{id: "list-sources", method: http.MethodGet, path: sourcesPath, tag: tagSources, summary: "List sources",
		description: "All of them, with their health.", codes: readCodes}, s.listSources)
	register(s, operation{id: "create-source", method: http.MethodPost, path: sourcesPath, tag: tagSources, summary: "Create a source",
		status: http.StatusCreated, codes: writeCodes, request: exampleSource}, s.createSource)
	register(s, operation{id: "get-source", method: http.MethodGet, path: one, tag: tagSources, summary: "Get a source",
		codes: codes(readCodes, CodeNotFound)}, s.getSource)
	register(s, operation{id: "replace-source", method: http.MethodPut, path: one, tag: tagSources, summary: "Replace a source",
		description: "Secrets that are left out keep their value, except when the address changes: then they have to be sent again.",
		codes:       codes(changeCodes, CodeNotFound), request: exampleSource}, s.replaceSource)
	register(s, operation{id: "delete-source", method: http.MethodDelete, path: one, tag: tagSources, summary: "Delete a source",
		description: "Refused while detectors use it.", status: http.StatusNoContent, codes: codes(changeCodes, CodeNotFound)}, s.deleteSource)
	register(s, operation{id: "test-source", method: http.MethodPost, path: one + "/test", tag: tagSources, summary: "Test a source now",
		description: "A source that does not answer is a finding, not a failure: the state is down and last_error says why.", timeout: longTimeout, changesNothing: true,
		codes: codes(inputCodes, CodeNotFound)}, s.testSource)
	register(s, operation{id: "get-source-health", method: http.MethodGet, path: one + "/health", tag: tagSources, summary: "Get the health of a source",
		codes: codes(readCodes, CodeNotFound)}, s.sourceHealth)
	register(s, operation{id: "list-collectors", method: http.MethodGet, path: one + "/collectors", tag: tagSources, summary: "List what a source reads from",
		description: "Scrape targets, parts of the host, this process.", timeout: longTimeout, codes: codes(readCodes, asks...)}, s.listCollectors)
	register(s, operation{id: "query-source", method: http.MethodPost, path: one + "/query", tag: tagSources, summary: "Query a source",
		description: "At one time (time), or over a range (from, to and step). At most 1,000 series and 11,000 points of each.", timeout: longTimeout, changesNothing: true,
		codes: codes(codes(inputCodes, CodeQuery), asks...), request: `{"query": "up"}`}, s.querySource)
}

// SourceList is every source.
type SourceList struct {
	Items      []Source `json:"items"`
	NextCursor string   `json:"next_cursor" doc:"Always empty: there are few sources"`
}

type listSourcesOutput struct {
	Tagged
	Body SourceList
}

func (s *server) listSources(ctx context.Context, _ *struct{}) (*listSourcesOutput, error) {
	found, err := s.sources(ctx)
	if err != nil {
		return nil, err
	}
	out := &listSourcesOutput{Body: SourceList{Items: make([]Source, len(found))}}
	for i, src := range found {
		out.Body.Items[i] = s.sourceOf(src)
	}
	return out, nil
}

type createSourceInput struct {
	Body    SourceInput
	checked checkedSource
}

// Resolve checks the source while huma checks its form, so that all faults are
// told at once.
func (in *createSourceInput) Resolve(huma.Context) []error {
	in.checked.source, in.checked.err = in.Body.apply(model.Source{})
	return takeFaults(&in.checked.err)
}

// checkedSource is what became of an input: a source, or the reason why there
// is none.
type checkedSource struct {
	source model.Source
	err    error
}

type createdSource struct {
	Tagged
	Location string `header:"Location" doc:"Path of the new source"`
	Body     Source
}

func (s *server) createSource(ctx context.Context, in *createSourceInput) (*createdSource, error) {
	if in.checked.err != nil {
		return nil, in.checked.err
	}
	src, err := s.opts.Sources.CreateSource(ctx, in.checked.source)
	if err != nil {
		return nil, err
	}
	s.sync(ctx, "sources", s.opts.Clients.Sync)
	return &createdSource{Tagged: tagVersion(src.Version), Location: sourcesPath + "/" + src.ID, Body: s.sourceOf(src)}, nil
}

// SourcePath is the path parameter of operations on one source.
type SourcePath struct {
	ID string `path:"id" minLength:"1" maxLength:"200" doc:"Id of the source; builtin is also the name of the embedded one" example:"src_8h2k"`
}

type sourceAnswer struct {
	Tagged
	Body Source
}

// sources lists what is stored, and the embedded source before them: it is
// part of the program, so it need not be stored to be there.
func (s *server) sources(ctx context.Context) ([]model.Source, error) {
	stored, err := s.opts.Sources.Sources(ctx)
	if err != nil || slices.ContainsFunc(stored, func(src model.Source) bool { return src.Name == model.BuiltinSource }) {
		return stored, err
	}
	if _, ok := s.opts.Clients.Health(model.BuiltinSource); !ok {
		return stored, nil
	}
	embedded := model.Source{ID: model.BuiltinSource, Name: model.BuiltinSource, Type: model.SourceBuiltin, Provisioned: true, Version: 1,
		CreatedAt: s.began, UpdatedAt: s.began}
	return append([]model.Source{embedded}, stored...), nil
}

// sourceByName returns nil when there is none.
func (s *server) sourceByName(ctx context.Context, name string) (*model.Source, error) {
	all, err := s.sources(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Name == name {
			return &all[i], nil
		}
	}
	return nil, nil
}

// source reads a source by id; the embedded one also by its name, which never
// changes.
func (s *server) source(ctx context.Context, id string) (model.Source, error) {
	if id == model.BuiltinSource {
		if named, err := s.sourceByName(ctx, id); err != nil || named != nil {
			if err != nil {
				return model.Source{}, err
			}
			return *named, nil
		}
	}
	return s.opts.Sources.Source(ctx, id)
}

func (s *server) getSource(ctx context.Context, in *SourcePath) (*sourceAnswer, error) {
	src, err := s.source(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &sourceAnswer{Tagged: tagVersion(src.Version), Body: s.sourceOf(src)}, nil
}

type replaceSourceInput struct {
	SourcePath
	Precondition
	Body    SourceInput
	old     model.Source
	checked checkedSource
}

// Resolve checks the source against the stored one while huma checks its form.
func (in *replaceSourceInput) Resolve(ctx huma.Context) []error {
	s := requestOf(ctx.Context()).server
	if in.old, in.checked.err = s.unlockedSource(ctx.Context(), in.ID); in.checked.err != nil {
		return nil
	}
	in.checked.source, in.checked.err = in.Body.apply(in.old)
	return takeFaults(&in.checked.err)
}

func (s *server) replaceSource(ctx context.Context, in *replaceSourceInput) (*sourceAnswer, error) {
	expect, err := in.version()
	if err != nil {
		return nil, err
	}
	if in.checked.err != nil {
		return nil, in.checked.err
	}
	old, src := in.old, in.checked.source
	if src.Name != old.Name {
		if err := s.unusedSource(ctx, old, "renamed"); err != nil {
			return nil, err
		}
	}
	if expect == 0 {
		expect = old.Version // what apply has kept must still be there
	}
	src, err = s.opts.Sources.UpdateSource(ctx, src, expect)
	if err != nil {
		return nil, err
	}
	s.sync(ctx, "sources", s.opts.Clients.Sync)
	return &sourceAnswer{Tagged: tagVersion(src.Version), Body: s.sourceOf(src)}, nil
}

type deleteSourceInput struct {
	SourcePath
	Precondition
}

func (s *server) deleteSource(ctx context.Context, in *deleteSourceInput) (*struct{}, error) {
	expect, err := in.version()
	if err != nil {
		return nil, err
	}
	old, err := s.unlockedSource(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := s.unusedSource(ctx, old, "deleted"); err != nil {
		return nil, err
	}
	if err := s.opts.Sources.DeleteSource(ctx, old.ID, expect); err != nil {
		return nil, err
	}
	s.sync(ctx, "sources", s.opts.Clients.Sync)
	return nil, nil
}

// unlockedSource reads a source that may be changed here.
func (s *server) unlockedSource(ctx context.Context, id string) (model.Source, error) {
	src, err := s.source(ctx, id)
	switch {
	case err != nil:
		return src, err
	case src.Type == model.SourceBuiltin:
		return src, model.Errorf(model.KindConflict, model.SubjectSource, "The embedded source is part of the program. Change it in the configuration file, under builtin.")
	case src.Provisioned:
		return src, &model.Error{Kind: model.KindConflict, Subject: model.SubjectSource,
			Message: "This source is defined by the configuration file. Change it there and reload.",
			Context: map[string]any{"id": id, "provisioned": true}}
	}
	return src, nil
}

// unusedSource refuses when detectors depend on the source's name.
func (s *server) unusedSource(ctx context.Context, src model.Source, what string) error {
	users, _, err := s.opts.Detectors.Detectors(ctx, model.DetectorFilter{Source: src.Name, Limit: 1, Sort: "name"})
	if err != nil || len(users) == 0 {
		return err
	}
	return &model.Error{Kind: model.KindConflict, Subject: model.SubjectSource,
		Message: "Detectors use this source, so it cannot be " + what + ". Move or delete them first.",
		Context: map[string]any{"id": src.ID, "detector_id": users[0].ID}}
}

type sourceHealthOutput struct {
	Tagged
	Body SourceHealth
}

func (s *server) testSource(ctx context.Context, in *SourcePath) (*sourceHealthOutput, error) {
	src, err := s.source(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	h, err := s.opts.Clients.Test(ctx, src.Name)
	if err != nil {
		return nil, err
	}
	out := sourceHealthOf(h)
	out.Details = s.opts.Clients.Details(src.Name)
	return &sourceHealthOutput{Body: out}, nil
}

func (s *server) sourceHealth(ctx context.Context, in *SourcePath) (*sourceHealthOutput, error) {
	src, err := s.source(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	h, _ := s.opts.Clients.Health(src.Name)
	out := sourceHealthOf(h)
	out.Details = s.opts.Clients.Details(src.Name)
	return &sourceHealthOutput{Body: out}, nil
}

// Collector is one thing that a source reads its data from.
type Collector struct {
	Name       string     `json:"name"`
	Kind       string     `json:"kind" doc:"process, host, target or receiver"`
	State      string     `json:"state" enum:"up,down,unknown,disabled"`
	LastScrape *time.Time `json:"last_scrape,omitempty" doc:"Absent: never"`
	DurationMS float64    `json:"duration_ms"`
	Samples    int        `json:"samples" doc:"Taken in the last round"`
	Error      string     `json:"error,omitempty"`
}

// CollectorList is every collector of a source.
type CollectorList struct {
	Items      []Collector `json:"items"`
	NextCursor string      `json:"next_cursor" doc:"Always empty"`
}

type listCollectorsOutput struct {
	Tagged
	Body CollectorList
}

func (s *server) listCollectors(ctx context.Context, in *SourcePath) (*listCollectorsOutput, error) {
	src, err := s.source(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	found, err := s.opts.Clients.Collectors(ctx, src.Name)
	if err != nil {
		return nil, err
	}
	out := &listCollectorsOutput{Body: CollectorList{Items: make([]Collector, len(found))}}
	for i, c := range found {
		state := c.State
		if state == "" {
			state = model.CollectorUnknown
		}
		out.Body.Items[i] = Collector{Name: c.Name, Kind: c.Kind, State: string(state), LastScrape: timeOf(c.LastScrape),
			DurationMS: float64(c.Duration.Microseconds()) / 1000, Samples: c.Samples, Error: clip(c.Error, maxDetail)}
	}
	return out, nil
}
