package api

import (
	"context"

	"aiops/internal/model"
)

// shadowFake has a shadow for every detector that exists.
type shadowFake struct{ *world }

func (f shadowFake) report(id string) model.ShadowReport {
	d := f.detectors[id]
	d.For = 120e9
	a := f.anomalies["an_1"]
	return model.ShadowReport{Shadow: model.Shadow{DetectorID: id, Definition: d, BasedOn: d.Version, ModelVersion: 3, Since: testTime, Reason: "try", CreatedAt: testTime, UpdatedAt: testTime, Version: 1},
		State: model.ShadowRunning, Progress: 1, Series: 2, Threshold: 4, Watermark: testTime, Agreement: model.Agreement{Samples: 100, Both: 3, OnlyLive: 1},
		Lost: []model.Anomaly{a}, Shared: []model.ShadowPair{{Live: a, Shadow: a}}}
}

func (f shadowFake) StartShadow(_ context.Context, id string, d model.Detector, version int64, reason string) (model.Shadow, error) {
	defer f.lock()()
	if f.fail != nil {
		return model.Shadow{}, f.fail
	}
	s := f.report(id).Shadow
	s.Definition, s.Reason = d, reason
	if version != 0 {
		s.ModelVersion = version
	}
	return s, nil
}

func (f shadowFake) Shadow(_ context.Context, id string) (model.ShadowReport, error) {
	defer f.lock()()
	return f.report(id), f.fail
}

func (f shadowFake) PromoteShadow(_ context.Context, id string, expect int64) (model.Detector, error) {
	defer f.lock()()
	if expect > 1 {
		return model.Detector{}, &model.Error{Kind: model.KindPrecondition, Subject: model.SubjectShadow, Message: "It was changed meanwhile."}
	}
	d := f.report(id).Shadow.Definition
	d.Version++
	f.detectors[id] = d
	return d, f.fail
}

func (f shadowFake) DiscardShadow(_ context.Context, _ string, expect int64) error {
	defer f.lock()()
	if expect > 1 {
		return &model.Error{Kind: model.KindPrecondition, Subject: model.SubjectShadow, Message: "It was changed meanwhile."}
	}
	return f.fail
}

// versionFake knows one earlier version of each detector, the one with another
// budget, and all below it.
type versionFake struct{ *world }

func (f versionFake) DetectorVersions(_ context.Context, id string) ([]model.Detector, error) {
	defer f.lock()()
	d, ok := f.detectors[id]
	if !ok {
		return nil, model.NotFound(model.SubjectDetector, id)
	}
	var out []model.Detector
	for v := d.Version; v > 0; v-- {
		old := d
		old.Version = v
		if v < d.Version {
			old.FalseAlarmsPerWeek = 0.5
		}
		out = append(out, old)
	}
	return out, f.fail
}

func (f versionFake) DetectorVersion(ctx context.Context, id string, version int64) (model.Detector, error) {
	all, err := f.DetectorVersions(ctx, id)
	for _, d := range all {
		if d.Version == version {
			return d, err
		}
	}
	return model.Detector{}, model.NotFound(model.SubjectDetector, id)
}

type knownFake struct{ *world }

func (f knownFake) event(id string) (model.KnownEvent, error) {
	if id != "evt_1" {
		return model.KnownEvent{}, model.NotFound(model.SubjectKnownEvent, id)
	}
	return model.KnownEvent{ID: id, Name: "deploy", Matchers: map[string]string{"job": "shop"}, From: testTime, To: testTime, CreatedAt: testTime, UpdatedAt: testTime, Version: 2}, f.fail
}

func (f knownFake) CreateKnownEvent(_ context.Context, e model.KnownEvent) (model.KnownEvent, error) {
	e.ID, e.Version, e.CreatedAt, e.UpdatedAt = "evt_new", 1, testTime, testTime
	return e, f.fail
}

func (f knownFake) UpdateKnownEvent(_ context.Context, e model.KnownEvent, expect int64) (model.KnownEvent, error) {
	old, err := f.event(e.ID)
	if err != nil {
		return e, err
	}
	if expect != 0 && expect != old.Version {
		return e, &model.Error{Kind: model.KindPrecondition, Subject: model.SubjectKnownEvent, Message: "It was changed meanwhile."}
	}
	e.Version, e.CreatedAt, e.UpdatedAt = old.Version+1, testTime, testTime
	return e, nil
}

func (f knownFake) DeleteKnownEvent(_ context.Context, id string, expect int64) error {
	old, err := f.event(id)
	if err == nil && expect != 0 && expect != old.Version {
		return &model.Error{Kind: model.KindPrecondition, Subject: model.SubjectKnownEvent, Message: "It was changed meanwhile."}
	}
	return err
}

func (f knownFake) KnownEvent(_ context.Context, id string) (model.KnownEvent, error) {
	return f.event(id)
}

func (f knownFake) KnownEvents(_ context.Context, q model.KnownEventFilter) ([]model.KnownEvent, string, error) {
	e, err := f.event("evt_1")
	if err != nil {
		return nil, "", err
	}
	return paged([]model.KnownEvent{e}, q.Cursor, max(q.Limit, 1))
}

func (f trainerFake) Retrain(_ context.Context, id, reason string, _ func(float64)) (model.ModelVersion, error) {
	return model.ModelVersion{DetectorID: id, Version: 4, State: model.ModelShadow, Reason: reason}, f.err
}

func (f trainerFake) Suggest(_ context.Context, id string, _ model.TuneLimits, _ func(float64)) (model.TuneResult, error) {
	base := model.TuneTrial{Definition: model.Detector{ID: id, Version: 7}, Counts: model.TuneCounts{False: 3}}
	best := base
	best.Definition.For = 120e9
	return model.TuneResult{Base: base, Best: best, Improved: true, Trials: []model.TuneTrial{best, base}, Stopped: "done", Summary: "removes 3 of 3 false"}, f.err
}

func (f trainerFake) Search(ctx context.Context, id string, _ model.TuneSpace, limits model.TuneLimits, progress func(float64)) (model.TuneResult, error) {
	return f.Suggest(ctx, id, limits, progress)
}
