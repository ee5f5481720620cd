package api

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"time"

	"aiops/internal/model"
)

// ShadowEngine scores a second definition beside the live one of a detector.
type ShadowEngine interface {
	// StartShadow begins with the whole changed definition d; a modelVersion
	// other than 0 is a stored one of the live definition.
	StartShadow(ctx context.Context, id string, d model.Detector, modelVersion int64, reason string) (model.Shadow, error)
	Shadow(ctx context.Context, id string) (model.ShadowReport, error)
	PromoteShadow(ctx context.Context, id string, expect int64) (model.Detector, error)
	DiscardShadow(ctx context.Context, id string, expect int64) error
}

// VersionStore knows every definition that a detector had.
type VersionStore interface {
	DetectorVersions(ctx context.Context, id string) ([]model.Detector, error) // newest first
	DetectorVersion(ctx context.Context, id string, version int64) (model.Detector, error)
}

func (s *server) registerLifecycle() {
	base := detectorsPath + "/{id}"
	missing := codes(writeCodes, CodeNotFound, CodeDetectorNotFound, CodeDetectorConflict, CodeQuery)
	change := codes(missing, CodePreconditionFailed)
	register(s, operation{id: "start-shadow", method: http.MethodPost, path: base + "/shadow", tag: tagModels, summary: "Let a changed definition score in the shadow",
		description: "A changed definition, or another stored model version, scores the same samples as the live one, in the same rounds, and tells nobody. " +
			"Give definition (a merge patch of the live one) or version. Source, query and step stay as they are. A detector has at most one shadow. If-Match takes the ETag of the detector.",
		status: http.StatusCreated, codes: change, request: `{"definition": {"min_deviation": {"relative": 0.2}, "for": "2m"}, "reason": "fewer small ones"}`}, s.startShadow)
	register(s, operation{id: "get-shadow", method: http.MethodGet, path: base + "/shadow", tag: tagModels, summary: "Compare the shadow with the live definition",
		description: "Alarms gained, lost and shared since it began, and how often both agree.", fresh: true, codes: codes(readCodes, CodeNotFound, CodeDetectorNotFound)}, s.getShadow)
	register(s, operation{id: "promote-shadow", method: http.MethodPost, path: base + "/shadow/promote", tag: tagModels, summary: "Make the shadow the live definition",
		description: "As a new version of the detector, with the models as they are: nothing is learned again. revert-detector undoes it. If-Match takes the ETag of the shadow.",
		codes:       codes(change, CodeDetectorRuntime, CodeDetectorTraining), timeout: longTimeout}, s.promoteShadow)
	register(s, operation{id: "discard-shadow", method: http.MethodDelete, path: base + "/shadow", tag: tagModels, summary: "Discard the shadow",
		status: http.StatusNoContent, codes: change}, s.discardShadow)
	register(s, operation{id: "list-detector-versions", method: http.MethodGet, path: base + "/versions", tag: tagDetectors, summary: "List the versions of a definition",
		description: "Newest first, each with what it changed of the version before.", codes: codes(readCodes, CodeDetectorNotFound)}, s.listVersions)
	register(s, operation{id: "get-detector-version", method: http.MethodGet, path: base + "/versions/{version}", tag: tagDetectors, summary: "Get a version of a definition",
		codes: codes(readCodes, CodeNotFound, CodeDetectorNotFound)}, s.getVersion)
	register(s, operation{id: "diff-detector-versions", method: http.MethodGet, path: base + "/versions/{version}/diff", tag: tagDetectors, summary: "Compare two versions of a definition",
		description: "What changed from the version against to this one.", codes: codes(readCodes, CodeNotFound, CodeDetectorNotFound)}, s.diffVersions)
	register(s, operation{id: "revert-detector", method: http.MethodPost, path: base + "/revert", tag: tagDetectors, summary: "Go back to an earlier version of a definition",
		description: "It becomes a new version. Models that were trained for it and are still stored go on from where they were; only the time since is learned. Without a version, the one before the current. " +
			"Name, labels and whether it is enabled stay as they are.",
		codes: change, request: `{"version": 6}`}, s.revertDetector)
}

// Shadow is a definition that scores beside the live one, and how they compare.
type Shadow struct {
	DetectorID   string         `json:"detector_id"`
	State        string         `json:"state" enum:"learning,running,waiting,failed" doc:"learning: it learns from history and does not compare yet; waiting: its detector is stopped or held"`
	Error        string         `json:"error,omitempty" doc:"Why it is not scored"`
	Definition   DetectorInput  `json:"definition" doc:"What it scores by"`
	Changes      []FieldChange  `json:"changes" doc:"What differs from the version it is based on"`
	BasedOn      int64          `json:"based_on" doc:"Version of the detector that it was derived from"`
	ModelVersion int64          `json:"model_version"`
	Reason       string         `json:"reason"`
	Since        *time.Time     `json:"since,omitempty" doc:"First step that both scored; absent while it learns"`
	ScoredTo     *time.Time     `json:"scored_to,omitempty" doc:"Last step that it scored"`
	Progress     float64        `json:"progress" minimum:"0" maximum:"1" doc:"Of learning"`
	Series       int            `json:"series"`
	Learning     int            `json:"series_learning"`
	MemoryBytes  int64          `json:"memory_bytes" doc:"Of its models; counted with those of the detector"`
	Threshold    Number         `json:"threshold" doc:"null while unknown"`
	Agreement    Agreement      `json:"agreement"`
	Gained       []Anomaly      `json:"gained" doc:"Alarms that it would have raised and the live definition did not, newest first"`
	Lost         []Anomaly      `json:"lost" doc:"Alarms of the live definition that it would not have raised, newest first"`
	Shared       []SharedAlarms `json:"shared" doc:"Alarms of both on the same series at the same time"`
	Truncated    bool           `json:"truncated" doc:"There are more than the 2,000 newest alarms that are compared"`
	CreatedAt    time.Time      `json:"created_at"`
	Version      int64          `json:"version"`
}

// SharedAlarms is an alarm that both raised.
type SharedAlarms struct {
	Live   Anomaly `json:"live"`
	Shadow Anomaly `json:"shadow"`
}

// Agreement counts samples that both scored.
type Agreement struct {
	Samples    int64  `json:"samples"`
	Both       int64  `json:"both" doc:"Anomalous for both"`
	OnlyLive   int64  `json:"only_live"`
	OnlyShadow int64  `json:"only_shadow"`
	Share      Number `json:"share" doc:"Of the samples that either called anomalous, those that both did; null without any"`
}

// FieldChange is one field that differs between two definitions.
type FieldChange struct {
	Field string `json:"field" example:"min_deviation"`
	From  any    `json:"from" doc:"null when it was not set"`
	To    any    `json:"to" doc:"null when it is not set"`
}

// changesOf compares two definitions as clients write them, by field.
func changesOf(from, to model.Detector) []FieldChange {
	a, b := definitionFields(from), definitionFields(to)
	names := slices.Collect(maps.Keys(a))
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	out := []FieldChange{}
	for _, name := range names {
		if !bytes.Equal(a[name], b[name]) {
			out = append(out, FieldChange{Field: name, From: valueOf(a[name]), To: valueOf(b[name])})
		}
	}
	return out
}

func valueOf(text json.RawMessage) any {
	if text == nil {
		return nil
	}
	return text
}

func definitionFields(d model.Detector) map[string]json.RawMessage {
	text, err := json.Marshal(inputOf(d))
	if err != nil {
		panic("BUG: a definition cannot be written as JSON: " + err.Error())
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		panic("BUG: a definition cannot be read back: " + err.Error())
	}
	return fields
}

func (s *server) shadowOf(ctx context.Context, r model.ShadowReport) Shadow {
	sh := r.Shadow
	out := Shadow{DetectorID: sh.DetectorID, State: string(r.State), Error: clip(r.Error, maxDetail), Definition: inputOf(sh.Definition), Changes: []FieldChange{},
		BasedOn: sh.BasedOn, ModelVersion: sh.ModelVersion, Reason: sh.Reason, Since: timeOf(sh.Since), ScoredTo: timeOf(r.Watermark), Progress: min(max(r.Progress, 0), 1),
		Series: r.Series, Learning: r.Learning, MemoryBytes: r.MemoryBytes, Threshold: Number(r.Threshold), Gained: anomaliesOf(r.Gained), Lost: anomaliesOf(r.Lost),
		Shared: make([]SharedAlarms, len(r.Shared)), Truncated: r.Truncated, CreatedAt: sh.CreatedAt.UTC(), Version: sh.Version}
	if r.Threshold <= 0 {
		out.Threshold = unknown()
	}
	a := r.Agreement
	out.Agreement = Agreement{Samples: a.Samples, Both: a.Both, OnlyLive: a.OnlyLive, OnlyShadow: a.OnlyShadow, Share: unknown()}
	if n := a.Both + a.OnlyLive + a.OnlyShadow; n > 0 {
		out.Agreement.Share = Number(float64(a.Both) / float64(n))
	}
	for i, p := range r.Shared {
		out.Shared[i] = SharedAlarms{Live: anomalyOf(p.Live), Shadow: anomalyOf(p.Shadow)}
	}
	if s.opts.Versions != nil {
		if base, err := s.opts.Versions.DetectorVersion(ctx, sh.DetectorID, sh.BasedOn); err == nil {
			out.Changes = changesOf(base, sh.Definition)
		}
	}
	return out
}

type startShadowInput struct {
	DetectorPath
	Precondition
	Body ShadowInput
}

// ShadowInput asks for a shadow.
type ShadowInput struct {
	Definition *DetectorPatch `json:"definition,omitempty" doc:"A merge patch of the live definition"`
	Version    int64          `json:"version,omitempty" minimum:"1" doc:"A stored model version of the live definition; not together with definition"`
	Reason     string         `json:"reason,omitempty" maxLength:"200" doc:"Why, for people"`
}

type shadowAnswer struct {
	Tagged
	Body Shadow
}

func (s *server) startShadow(ctx context.Context, in *startShadowInput) (*shadowAnswer, error) {
	if s.opts.Shadows == nil {
		return nil, errNoLifecycle("shadows")
	}
	expect, err := in.version()
	if err != nil {
		return nil, err
	}
	d, err := s.opts.Detectors.Detector(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if expect != 0 && d.Version != expect {
		return nil, stale(d.Version)
	}
	if (in.Body.Definition == nil) == (in.Body.Version == 0) {
		var v model.Invalid
		v.Add("/definition", "one_of", "give definition or version, one of the two")
		return nil, v.Err("")
	}
	changed := d
	if in.Body.Definition != nil {
		merged, form, err := s.mergeDetector(inputOf(d), *in.Body.Definition)
		if err != nil {
			return nil, under("/definition", err)
		}
		changed, err = s.checkDetector(ctx, merged)
		err = under("/definition", err)
		form = append(form, takeFaults(&err)...)
		if len(form) > 0 {
			return nil, humaError(ctx, http.StatusUnprocessableEntity, "", form...)
		}
		if err != nil {
			return nil, err
		}
	}
	sh, err := s.opts.Shadows.StartShadow(ctx, in.ID, changed, in.Body.Version, in.Body.Reason)
	if err != nil {
		return nil, err
	}
	return &shadowAnswer{Tagged: tagVersion(sh.Version), Body: s.shadowOf(ctx, model.ShadowReport{Shadow: sh, State: model.ShadowLearning})}, nil
}

func (s *server) getShadow(ctx context.Context, in *DetectorPath) (*shadowAnswer, error) {
	if s.opts.Shadows == nil {
		return nil, model.NotFound(model.SubjectShadow, in.ID)
	}
	if _, err := s.opts.Detectors.Detector(ctx, in.ID); err != nil {
		return nil, err
	}
	r, err := s.opts.Shadows.Shadow(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &shadowAnswer{Tagged: tagVersion(r.Shadow.Version), Body: s.shadowOf(ctx, r)}, nil
}

type changeShadowInput struct {
	DetectorPath
	Precondition
}

func (s *server) promoteShadow(ctx context.Context, in *changeShadowInput) (*detectorAnswer, error) {
	if s.opts.Shadows == nil {
		return nil, errNoLifecycle("shadows")
	}
	expect, err := in.version()
	if err != nil {
		return nil, err
	}
	if _, err := s.opts.Detectors.Detector(ctx, in.ID); err != nil {
		return nil, err
	}
	d, err := s.opts.Shadows.PromoteShadow(ctx, in.ID, expect)
	if err != nil {
		return nil, err
	}
	return s.answerDetector(d), nil
}

func (s *server) discardShadow(ctx context.Context, in *changeShadowInput) (*struct{}, error) {
	if s.opts.Shadows == nil {
		return nil, errNoLifecycle("shadows")
	}
	expect, err := in.version()
	if err != nil {
		return nil, err
	}
	if _, err := s.opts.Detectors.Detector(ctx, in.ID); err != nil {
		return nil, err
	}
	return nil, s.opts.Shadows.DiscardShadow(ctx, in.ID, expect)
}

func errNoLifecycle(what string) error {
	return model.Errorf(model.KindConflict, "", "This program keeps no %s.", what)
}

// DetectorVersion is one stored definition of a detector.
type DetectorVersion struct {
	Version    int64         `json:"version"`
	CreatedAt  time.Time     `json:"created_at"`
	Definition DetectorInput `json:"definition"`
	Changes    []FieldChange `json:"changes" doc:"What differs from the version before; empty for the first"`
}

// DetectorVersionList is every stored definition of a detector.
type DetectorVersionList struct {
	Items      []DetectorVersion `json:"items"`
	NextCursor string            `json:"next_cursor" doc:"Always empty"`
}

type listVersionsOutput struct {
	Tagged
	Body DetectorVersionList
}

// maxVersionsShown is how many definitions a list holds.
const maxVersionsShown = 500

func (s *server) versions(ctx context.Context, id string) ([]model.Detector, error) {
	d, err := s.opts.Detectors.Detector(ctx, id)
	if err != nil {
		return nil, err
	}
	if s.opts.Versions == nil {
		return []model.Detector{d}, nil
	}
	return s.opts.Versions.DetectorVersions(ctx, id)
}

func (s *server) listVersions(ctx context.Context, in *DetectorPath) (*listVersionsOutput, error) {
	found, err := s.versions(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	out := &listVersionsOutput{Body: DetectorVersionList{Items: []DetectorVersion{}}}
	for i, d := range found[:min(len(found), maxVersionsShown)] {
		v := DetectorVersion{Version: d.Version, CreatedAt: d.UpdatedAt.UTC(), Definition: inputOf(d), Changes: []FieldChange{}}
		if i+1 < len(found) {
			v.Changes = changesOf(found[i+1], d)
		}
		out.Body.Items = append(out.Body.Items, v)
	}
	return out, nil
}

// VersionPath is the path parameters of operations on one version.
type VersionPath struct {
	DetectorPath
	Version int64 `path:"version" minimum:"1" doc:"Version of the definition" example:"6"`
}

func (s *server) oneVersion(ctx context.Context, id string, version int64) (model.Detector, error) {
	found, err := s.versions(ctx, id)
	if err != nil {
		return model.Detector{}, err
	}
	for _, d := range found {
		if d.Version == version {
			return d, nil
		}
	}
	e := model.Errorf(model.KindNotFound, "", "The detector has no version %d of its definition. List them at versions.", version)
	e.Context = map[string]any{"id": id, "version": version}
	return model.Detector{}, e
}

type versionAnswer struct {
	Tagged
	Body DetectorVersion
}

func (s *server) getVersion(ctx context.Context, in *VersionPath) (*versionAnswer, error) {
	d, err := s.oneVersion(ctx, in.ID, in.Version)
	if err != nil {
		return nil, err
	}
	v := DetectorVersion{Version: d.Version, CreatedAt: d.UpdatedAt.UTC(), Definition: inputOf(d), Changes: []FieldChange{}}
	if before, err := s.oneVersion(ctx, in.ID, in.Version-1); err == nil {
		v.Changes = changesOf(before, d)
	}
	return &versionAnswer{Body: v}, nil
}

type diffInput struct {
	VersionPath
	Against int64 `query:"against" minimum:"1" doc:"The version to compare with; default the one before" example:"5"`
}

// VersionDiff is what differs between two versions of a definition.
type VersionDiff struct {
	From    int64         `json:"from"`
	To      int64         `json:"to"`
	Changes []FieldChange `json:"changes"`
}

type diffOutput struct {
	Tagged
	Body VersionDiff
}

func (s *server) diffVersions(ctx context.Context, in *diffInput) (*diffOutput, error) {
	to, err := s.oneVersion(ctx, in.ID, in.Version)
	if err != nil {
		return nil, err
	}
	against := in.Against
	if against == 0 {
		against = max(1, in.Version-1)
	}
	from, err := s.oneVersion(ctx, in.ID, against)
	if err != nil {
		return nil, err
	}
	return &diffOutput{Body: VersionDiff{From: from.Version, To: to.Version, Changes: changesOf(from, to)}}, nil
}

type revertInput struct {
	DetectorPath
	Precondition
	Body *RevertInput
}

// RevertInput says which version to go back to.
type RevertInput struct {
	Version int64 `json:"version,omitempty" minimum:"1" doc:"Default: the one before the current"`
}

func (s *server) revertDetector(ctx context.Context, in *revertInput) (*detectorAnswer, error) {
	expect, err := in.version()
	if err != nil {
		return nil, err
	}
	now, err := s.unlockedDetector(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	version := now.Version - 1
	if in.Body != nil && in.Body.Version != 0 {
		version = in.Body.Version
	}
	if version < 1 {
		return nil, model.Errorf(model.KindConflict, model.SubjectDetector, "This is the first version; there is none to go back to.")
	}
	old, err := s.oneVersion(ctx, in.ID, version)
	if err != nil {
		return nil, err
	}
	old.Name, old.Labels, old.Enabled = now.Name, now.Labels, now.Enabled
	if s.opts.ValidateDetector != nil {
		if err := s.opts.ValidateDetector(old); err != nil {
			return nil, model.WrapError(model.KindConflict, model.SubjectDetector, err, "Version %d is no valid definition any more: %s", version, err)
		}
	}
	if expect == 0 {
		expect = now.Version
	}
	return s.saveDetector(ctx, now, old, expect)
}
