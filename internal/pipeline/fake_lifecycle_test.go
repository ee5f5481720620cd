package pipeline

import (
	"context"
	"fmt"
	"slices"
	"time"

	"aiops/internal/model"
)

// fakeLifecycle is the part of the fake store that keeps shadows, known events
// and versions of definitions.
type fakeLifecycle struct {
	shadow  *model.Shadow
	own     bool
	shadows map[string]model.Anomaly
	known   []model.KnownEvent
	past    []model.Detector // definitions that were in force before, newest first
}

func (s *fakeStore) StartShadow(_ context.Context, start model.ShadowStart) (model.Shadow, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return model.Shadow{}, s.fail
	}
	if s.shadow != nil {
		return model.Shadow{}, model.Errorf(model.KindConflict, model.SubjectShadow, "there is one")
	}
	v := start.ModelVersion
	if s.own = v == 0; s.own {
		for _, o := range s.versions {
			v = max(v, o.Version)
		}
		v++
		s.versions = append(s.versions, model.ModelVersion{DetectorID: start.DetectorID, Version: v, State: model.ModelShadow, DetectorVersion: start.BasedOn})
	}
	s.shadow = &model.Shadow{DetectorID: start.DetectorID, Definition: start.Definition, BasedOn: start.BasedOn, ModelVersion: v, Reason: start.Reason,
		CreatedAt: time.Now(), Version: 1}
	s.shadows = map[string]model.Anomaly{}
	s.events = append(s.events, string(model.EventShadowStarted))
	return *s.shadow, nil
}

func (s *fakeStore) Shadow(_ context.Context, id string) (model.Shadow, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shadow == nil {
		return model.Shadow{}, model.NotFound(model.SubjectShadow, id)
	}
	return *s.shadow, nil
}

func (s *fakeStore) Shadows(context.Context) ([]model.Shadow, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shadow == nil {
		return nil, nil
	}
	return []model.Shadow{*s.shadow}, nil
}

func (s *fakeStore) ShadowBegan(_ context.Context, _ string, _ int64, since time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shadow.Since.IsZero() {
		s.shadow.Since = since
	}
	return nil
}

func (s *fakeStore) CommitShadow(_ context.Context, id string, alarms []model.Anomaly) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shadow == nil {
		return model.NotFound(model.SubjectShadow, id)
	}
	for _, a := range alarms {
		if old, ok := s.shadows[a.ID]; ok && (old.State == model.AnomalyResolved || rank(a.State) < rank(old.State)) {
			continue
		}
		s.shadows[a.ID] = a
	}
	return nil
}

func (s *fakeStore) ShadowAnomalies(_ context.Context, _ string, limit int) ([]model.Anomaly, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []model.Anomaly
	for _, a := range s.shadows {
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b model.Anomaly) int { return b.StartedAt.Compare(a.StartedAt) })
	return out[:min(limit, len(out))], nil
}

func (s *fakeStore) PromoteShadow(_ context.Context, d model.Detector, detector, expect int64) (model.Detector, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.detectors[d.ID]
	if s.fail != nil {
		return d, s.fail
	}
	if old.Version != detector || expect != 0 && expect != s.shadow.Version {
		return d, &model.Error{Kind: model.KindPrecondition, Message: "changed"}
	}
	s.past = slices.Insert(s.past, 0, old)
	d.Version, d.UpdatedAt = old.Version+1, time.Now()
	s.detectors[d.ID] = d
	for i := range s.versions {
		switch v := &s.versions[i]; {
		case v.Version == s.shadow.ModelVersion:
			v.State, v.DetectorVersion = model.ModelActive, d.Version
		case v.State == model.ModelActive:
			v.State = model.ModelRetired
		}
	}
	s.shadow, s.shadows = nil, nil
	s.events = append(s.events, string(model.EventShadowPromoted))
	return d, nil
}

func (s *fakeStore) DiscardShadow(_ context.Context, id string, expect int64, reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shadow == nil {
		return model.NotFound(model.SubjectShadow, id)
	}
	if s.own {
		n := s.shadow.ModelVersion
		s.versions = slices.DeleteFunc(s.versions, func(v model.ModelVersion) bool { return v.Version == n })
		s.snapshots = slices.DeleteFunc(s.snapshots, func(v model.Snapshot) bool { return v.ModelVersion == n })
	}
	s.shadow, s.shadows = nil, nil
	s.events = append(s.events, fmt.Sprintf("%s %s", model.EventShadowDiscarded, reason))
	return nil
}

func (s *fakeStore) RecentKnownEvents(_ context.Context, since time.Time) ([]model.KnownEvent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.known), func(e model.KnownEvent) bool { return e.To.Before(since) }), nil
}

func (s *fakeStore) DetectorVersions(_ context.Context, id string) ([]model.Detector, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]model.Detector{s.detectors[id]}, s.past...), nil
}

// change makes d the definition in force.
func (s *fakeStore) change(d model.Detector) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.detectors[d.ID]
	s.past = slices.Insert(s.past, 0, old)
	d.Version, d.UpdatedAt = old.Version+1, time.Now()
	s.detectors[d.ID] = d
}
