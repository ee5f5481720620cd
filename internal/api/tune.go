package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"aiops/internal/model"
)

// The kinds of tasks that look for better parameters.
const (
	TaskSuggest = "suggest"
	TaskSearch  = "search"
)

// TuneArgs are the arguments of tasks of the kinds TaskSuggest and TaskSearch.
type TuneArgs struct {
	DetectorID string           `json:"detector_id"`
	Version    int64            `json:"version"` // of the definition that was in force
	Space      model.TuneSpace  `json:"space"`
	Limits     model.TuneLimits `json:"limits"`
}

func (s *server) registerTune() {
	base := detectorsPath + "/{id}"
	missing := codes(writeCodes, CodeDetectorNotFound)
	register(s, operation{id: "suggest-detector", method: http.MethodPost, path: base + "/suggest", tag: tagDetectors, summary: "Suggest a better definition",
		description: "As a task: from the alarms that people labelled, looks for direction, least deviation, hold times, budget and model that remove the false ones and keep the true ones. " +
			"Every candidate is run by backtest. apply-suggestion puts the result in force; its patch can also be given to start-shadow.",
		status: http.StatusAccepted, codes: missing, request: `{"days": 30, "time": "10m", "evaluations": 24}`}, s.suggest)
	register(s, operation{id: "search-detector", method: http.MethodPost, path: base + "/search", tag: tagDetectors, summary: "Search parameters by backtest",
		description: "As a task: tries the given values one field after the other, each time keeping the best so far. With labelled alarms the measure is that of suggest-detector, without any it is how far the rate of alarms is from the budget.",
		status:      http.StatusAccepted, codes: missing, request: `{"space": {"models": ["auto", "ewma"], "false_alarms_per_week": [0.5, 1], "for": ["0s", "2m"]}, "evaluations": 10}`}, s.search)
	register(s, operation{id: "apply-suggestion", method: http.MethodPost, path: base + "/suggestions/{task}/apply", tag: tagDetectors, summary: "Apply what a suggestion or search found",
		description: "Makes it a new version of the definition. When the definition was changed since the task began, it is refused. If-Match takes the ETag of the detector.",
		codes:       codes(changeCodes, CodeNotFound, CodeDetectorNotFound, CodeDetectorConflict, CodeQuery)}, s.applySuggestion)
}

// TuneLimits bound a search.
type TuneLimits struct {
	Days        int      `json:"days,omitempty" minimum:"1" maximum:"90" doc:"Of the past that are tried; default 30, longer when older alarms are labelled"`
	Time        Duration `json:"time,omitempty" doc:"For all backtests together, at most 6h; default 10m"`
	Evaluations int      `json:"evaluations,omitempty" minimum:"2" maximum:"500" doc:"Backtests; default 24"`
}

func (l TuneLimits) limits(v *model.Invalid) model.TuneLimits {
	out := model.TuneLimits{Days: l.Days, Time: l.Time.parse(v, "/time"), Evaluations: l.Evaluations}
	if out.Time < 0 || out.Time > 6*time.Hour {
		v.Add("/time", "out_of_range", "time must be at most 6h")
	}
	return out
}

// TuneSpace is what a search may try, by field.
type TuneSpace struct {
	Models             []string   `json:"models,omitempty" maxItems:"16" doc:"Names of models, with their default parameters"`
	FalseAlarmsPerWeek []float64  `json:"false_alarms_per_week,omitempty" maxItems:"16"`
	Directions         []string   `json:"directions,omitempty" maxItems:"3" enum:"both,above,below"`
	MinAbsolute        []float64  `json:"min_deviation_absolute,omitempty" maxItems:"16"`
	MinRelative        []float64  `json:"min_deviation_relative,omitempty" maxItems:"16"`
	For                []Duration `json:"for,omitempty" maxItems:"16"`
	KeepFiringFor      []Duration `json:"keep_firing_for,omitempty" maxItems:"16"`
}

func (t TuneSpace) space(v *model.Invalid) model.TuneSpace {
	out := model.TuneSpace{Models: t.Models, FalseAlarmsPerWeek: t.FalseAlarmsPerWeek, MinAbsolute: t.MinAbsolute, MinRelative: t.MinRelative}
	for _, d := range t.Directions {
		out.Directions = append(out.Directions, model.Direction(d))
	}
	for i, d := range t.For {
		out.For = append(out.For, d.parse(v, fmt.Sprintf("/space/for/%d", i)))
	}
	for i, d := range t.KeepFiringFor {
		out.KeepFiringFor = append(out.KeepFiringFor, d.parse(v, fmt.Sprintf("/space/keep_firing_for/%d", i)))
	}
	return out
}

type suggestInput struct {
	DetectorPath
	Body *TuneLimits
}

func (s *server) suggest(ctx context.Context, in *suggestInput) (*Accepted, error) {
	d, err := s.opts.Detectors.Detector(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	args := TuneArgs{DetectorID: d.ID, Version: d.Version}
	if in.Body != nil {
		var v model.Invalid
		args.Limits = in.Body.limits(&v)
		if err := v.Err(""); err != nil {
			return nil, err
		}
	}
	return s.enqueue(ctx, TaskSuggest, args)
}

// SearchInput is what a search tries and how long.
type SearchInput struct {
	TuneLimits
	Space TuneSpace `json:"space"`
}

type searchInput struct {
	DetectorPath
	Body SearchInput
}

func (s *server) search(ctx context.Context, in *searchInput) (*Accepted, error) {
	d, err := s.opts.Detectors.Detector(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	var v model.Invalid
	args := TuneArgs{DetectorID: d.ID, Version: d.Version, Space: in.Body.Space.space(&v), Limits: in.Body.limits(&v)}
	if err := v.Err(""); err != nil {
		return nil, err
	}
	return s.enqueue(ctx, TaskSearch, args)
}

// Suggestion is the result of tasks of the kinds suggest and search.
type Suggestion struct {
	DetectorID   string        `json:"detector_id"`
	BasedOn      int64         `json:"based_on" doc:"Version of the definition that was in force"`
	Summary      string        `json:"summary" doc:"Such as: removes 12 of 14 false, keeps 5 of 5 true, changes 3 of 20 unlabelled, adds 0"`
	Improved     bool          `json:"improved" doc:"false: nothing better than the definition in force was found"`
	Changes      []FieldChange `json:"changes"`
	Patch        Object        `json:"patch" doc:"The changes as a merge patch"`
	From         time.Time     `json:"from"`
	To           time.Time     `json:"to"`
	Before       TuneCounts    `json:"before" doc:"Of the definition in force"`
	After        TuneCounts    `json:"after"`
	Unreproduced int           `json:"unreproduced" doc:"Labelled alarms that the definition in force does not raise again on what the source still has; they count nowhere"`
	Evaluations  int           `json:"evaluations"`
	Stopped      string        `json:"stopped" enum:"done,time,evaluations"`
	Trials       []TuneTrial   `json:"trials" doc:"The best 20 that were tried, best first"`
}

// TuneTrial is a definition that was tried.
type TuneTrial struct {
	Changes []FieldChange `json:"changes"`
	Counts  TuneCounts    `json:"counts"`
	Loss    Number        `json:"loss" doc:"What the search makes small"`
}

// TuneCounts is what a definition makes of the past.
type TuneCounts struct {
	False         int    `json:"false"`
	FalseRemoved  int    `json:"false_removed"`
	True          int    `json:"true"`
	TrueKept      int    `json:"true_kept"`
	Unlabelled    int    `json:"unlabelled" doc:"Of the last 30 days"`
	Changed       int    `json:"unlabelled_changed"`
	Added         int    `json:"added"`
	Alarms        int    `json:"alarms"`
	AlarmsPerWeek Number `json:"alarms_per_week"`
}

func tuneCountsOf(c model.TuneCounts) TuneCounts {
	return TuneCounts{False: c.False, FalseRemoved: c.FalseRemoved, True: c.True, TrueKept: c.TrueKept, Unlabelled: c.Unlabelled, Changed: c.Changed,
		Added: c.Added, Alarms: c.Alarms, AlarmsPerWeek: Number(c.PerWeek)}
}

// maxTrialsShown is how many trials a result names.
const maxTrialsShown = 20

func suggestionOf(args TuneArgs, r model.TuneResult) (Suggestion, error) {
	out := Suggestion{DetectorID: args.DetectorID, BasedOn: args.Version, Summary: r.Summary, Improved: r.Improved, Changes: changesOf(r.Base.Definition, r.Best.Definition),
		From: r.From.UTC(), To: r.To.UTC(), Before: tuneCountsOf(r.Base.Counts), After: tuneCountsOf(r.Best.Counts), Unreproduced: r.Unreproduced,
		Evaluations: r.Evaluations, Stopped: r.Stopped, Trials: []TuneTrial{}}
	patch := map[string]any{}
	for _, c := range out.Changes {
		patch[c.Field] = c.To
	}
	text, err := json.Marshal(patch)
	if err != nil {
		return out, fmt.Errorf("encoding a patch: %w", err)
	}
	out.Patch = text
	for _, t := range r.Trials[:min(len(r.Trials), maxTrialsShown)] {
		out.Trials = append(out.Trials, TuneTrial{Changes: changesOf(r.Base.Definition, t.Definition), Counts: tuneCountsOf(t.Counts), Loss: Number(t.Loss)})
	}
	return out, nil
}

// tuneTask carries out a suggestion or a search.
func tuneTask(run func(ctx context.Context, args TuneArgs, progress func(float64)) (model.TuneResult, error)) func(context.Context, model.Task, func(float64)) (any, error) {
	return func(ctx context.Context, task model.Task, progress func(float64)) (any, error) {
		var args TuneArgs
		if err := json.Unmarshal(task.Args, &args); err != nil {
			return nil, model.WrapError(model.KindInternal, model.SubjectTask, err, "The task's arguments cannot be read.")
		}
		r, err := run(ctx, args, progress)
		if err != nil {
			return nil, err
		}
		if v := r.Base.Definition.Version; v != 0 {
			args.Version = v // it may have been changed while the task was queued
		}
		return suggestionOf(args, r)
	}
}

type applyInput struct {
	DetectorPath
	Precondition
	Task string `path:"task" minLength:"1" maxLength:"128" doc:"Id of the task" example:"task_12"`
}

func (s *server) applySuggestion(ctx context.Context, in *applyInput) (*detectorAnswer, error) {
	expect, err := in.version()
	if err != nil {
		return nil, err
	}
	old, err := s.unlockedDetector(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	task, err := s.opts.Tasks.Task(ctx, in.Task)
	if err != nil {
		return nil, err
	}
	if task.Kind != TaskSuggest && task.Kind != TaskSearch {
		return nil, model.Errorf(model.KindConflict, model.SubjectTask, "This task is no suggestion and no search.")
	}
	if task.State != model.TaskSucceeded {
		return nil, model.Errorf(model.KindConflict, model.SubjectTask, "The task has not succeeded; its state is %s.", task.State)
	}
	var found struct {
		DetectorID string          `json:"detector_id"`
		BasedOn    int64           `json:"based_on"`
		Improved   bool            `json:"improved"`
		Patch      json.RawMessage `json:"patch"`
	}
	if err := json.Unmarshal(task.Result, &found); err != nil {
		return nil, model.WrapError(model.KindInternal, model.SubjectTask, err, "The result of the task cannot be read.")
	}
	switch {
	case found.DetectorID != in.ID:
		return nil, model.Errorf(model.KindConflict, model.SubjectTask, "The task belongs to another detector.")
	case !found.Improved:
		return nil, model.Errorf(model.KindConflict, model.SubjectTask, "The task found nothing better than the definition in force.")
	case expect != 0 && expect != old.Version || found.BasedOn != old.Version:
		return nil, stale(old.Version)
	}
	merged, form, err := s.mergeDetector(inputOf(old), DetectorPatch{text: found.Patch})
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
	return s.saveDetector(ctx, old, d, old.Version)
}
