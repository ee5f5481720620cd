package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"aiops/internal/model"
)

func startOf(d model.Detector, change func(*model.Detector)) model.ShadowStart {
	s := model.ShadowStart{DetectorID: d.ID, Definition: d, BasedOn: d.Version, Reason: "try"}
	change(&s.Definition)
	return s
}

func shadows(t *testing.T, fresh FreshFunc) {
	cfg := fresh(t)
	s, ctx := open(t, cfg), t.Context()
	d := newDetector(t, s, "a")
	ok(t, s.SaveModelVersion(ctx, model.ModelVersion{DetectorID: d.ID, Version: 3, DetectorVersion: 1, State: model.ModelActive}))
	_, err := s.Shadow(ctx, d.ID)
	wantKind(t, err, model.KindNotFound)
	_, err = s.StartShadow(ctx, model.ShadowStart{DetectorID: "det_none"})
	wantKind(t, err, model.KindNotFound)
	taken := startOf(d, func(*model.Detector) {})
	taken.ModelVersion = 3
	_, err = s.StartShadow(ctx, taken)
	wantKind(t, err, model.KindConflict)
	taken.ModelVersion = 9
	_, err = s.StartShadow(ctx, taken)
	wantKind(t, err, model.KindNotFound)

	before := last(t, s)
	sh := must(s.StartShadow(ctx, startOf(d, func(d *model.Detector) { d.Model = "ewma" })))(t)
	if sh.ModelVersion != 4 || sh.Version != 1 || sh.Definition.Model != "ewma" || !sh.Since.IsZero() || sh.BasedOn != 1 {
		t.Fatalf("%+v", sh)
	}
	same(t, must(s.Shadow(ctx, d.ID))(t), sh)
	_, err = s.StartShadow(ctx, startOf(d, func(*model.Detector) {}))
	wantKind(t, err, model.KindConflict)
	_, err = s.PromoteModel(ctx, d.ID, 4)
	wantKind(t, err, model.KindConflict)

	ok(t, s.ShadowBegan(ctx, d.ID, 4, base))
	ok(t, s.ShadowBegan(ctx, d.ID, 4, base.Add(time.Hour))) // the first counts
	same(t, must(s.Shadows(ctx))(t), []model.Shadow{{DetectorID: d.ID, Definition: sh.Definition, BasedOn: 1, ModelVersion: 4, Since: base, Reason: "try", Version: 1}},
		cmpopts.IgnoreFields(model.Shadow{}, "CreatedAt", "UpdatedAt"), cmpopts.IgnoreFields(model.Detector{}, "CreatedAt", "UpdatedAt"))

	a, b := newAnomaly(d, "an_a", 0, map[string]string{"x": "1"}), newAnomaly(d, "an_b", 5, nil)
	ok(t, s.CommitShadow(ctx, d.ID, []model.Anomaly{a, b}))
	a.State, a.ResolvedAt, a.Score = model.AnomalyResolved, base.Add(time.Hour), 9
	ok(t, s.CommitShadow(ctx, d.ID, []model.Anomaly{a}))
	a2 := a
	a2.State = model.AnomalyFiring // older than what is stored
	ok(t, s.CommitShadow(ctx, d.ID, []model.Anomaly{a2}))
	same(t, must(s.ShadowAnomalies(ctx, d.ID, 10))(t), []model.Anomaly{b, a}, cmpopts.IgnoreFields(model.Anomaly{}, "Version", "UpdatedAt"))
	_, err = s.Anomaly(ctx, "an_a")
	wantKind(t, err, model.KindNotFound)
	wantKind(t, s.CommitShadow(ctx, "det_none", []model.Anomaly{a}), model.KindNotFound)
	wantKind(t, s.CommitShadow(ctx, d.ID, []model.Anomaly{{}}), model.KindInvalid)

	merged := sh.Definition
	merged.ID = d.ID
	_, err = s.PromoteShadow(ctx, merged, 7, 0)
	wantKind(t, err, model.KindPrecondition)
	_, err = s.PromoteShadow(ctx, merged, 1, 7)
	wantKind(t, err, model.KindPrecondition)
	p := must(s.PromoteShadow(ctx, merged, 1, 1))(t)
	if p.Version != 2 || p.Model != "ewma" {
		t.Fatalf("%+v", p)
	}
	same(t, must(s.Detector(ctx, d.ID))(t), p)
	if v := must(s.ActiveModelVersion(ctx, d.ID))(t); v.Version != 4 || v.DetectorVersion != 2 {
		t.Fatalf("active is %+v", v)
	}
	if len(must(s.DetectorVersions(ctx, d.ID))(t)) != 2 {
		t.Error("the promoted definition is no version")
	}
	_, err = s.PromoteShadow(ctx, merged, 2, 0)
	wantKind(t, err, model.KindNotFound)
	topic := " detectors/" + d.ID
	same(t, types(t, s, before), []string{"detector.shadow_started" + topic, "detector.shadow_promoted" + topic})
	again := must(s.StartShadow(ctx, startOf(p, func(d *model.Detector) { d.Model = "iqr" })))(t)
	if again.ModelVersion != 5 || len(must(s.ShadowAnomalies(ctx, d.ID, 10))(t)) != 0 {
		t.Fatalf("the alarms of the shadow before are left: %+v", again)
	}
	ok(t, s.DeleteDetector(ctx, d.ID, 0))
	if n := len(must(s.Shadows(ctx))(t)); n != 0 {
		t.Errorf("%d shadows of a deleted detector", n)
	}
}

func shadowsDiscarded(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	d := newDetector(t, s, "a")
	wantKind(t, s.DiscardShadow(ctx, d.ID, 0, ""), model.KindNotFound)
	for v := range int64(2) {
		ok(t, s.SaveModelVersion(ctx, model.ModelVersion{DetectorID: d.ID, Version: v + 1, DetectorVersion: 1, State: model.ModelActive}))
	}
	states := func() (out []string) {
		for _, v := range must(s.ModelVersions(ctx, d.ID))(t) {
			out = append(out, string(v.State))
		}
		return out
	}
	// A version of its own goes with it.
	sh := must(s.StartShadow(ctx, startOf(d, func(d *model.Detector) { d.Model = "ewma" })))(t)
	ok(t, s.SaveSnapshot(ctx, model.Snapshot{DetectorID: d.ID, ModelVersion: sh.ModelVersion, Watermark: 1, Parts: [][]byte{{1}}}))
	ok(t, s.CommitShadow(ctx, d.ID, []model.Anomaly{newAnomaly(d, "an_a", 0, nil)}))
	wantKind(t, s.DiscardShadow(ctx, d.ID, 9, ""), model.KindPrecondition)
	ok(t, s.DiscardShadow(ctx, d.ID, 1, "no good"))
	if got := states(); !slices.Equal(got, []string{"active", "retired"}) {
		t.Fatalf("%v", got)
	}
	_, err := s.LatestSnapshot(ctx, d.ID, sh.ModelVersion)
	wantKind(t, err, model.KindNotFound)
	// A version that was there before is kept.
	start := startOf(d, func(*model.Detector) {})
	start.ModelVersion = 1
	must(s.StartShadow(ctx, start))(t)
	if got := states(); !slices.Equal(got, []string{"active", "shadow"}) {
		t.Fatalf("%v", got)
	}
	ok(t, s.DiscardShadow(ctx, d.ID, 0, "no good"))
	if got := states(); !slices.Equal(got, []string{"active", "retired"}) {
		t.Fatalf("%v", got)
	}
}

func knownEvents(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	before := last(t, s)
	e := must(s.CreateKnownEvent(ctx, model.KnownEvent{Name: "deploy", Matchers: map[string]string{"job": "shop"}, From: base, To: base.Add(time.Hour), Mute: true, CreatedBy: "ada"}))(t)
	if e.ID == "" || e.Version != 1 || e.CreatedAt.IsZero() || !e.Mute || e.Matchers["job"] != "shop" {
		t.Fatalf("%+v", e)
	}
	same(t, must(s.KnownEvent(ctx, e.ID))(t), e)
	changed := e
	changed.To, changed.CreatedBy = base.Add(2*time.Hour), "bob"
	_, err := s.UpdateKnownEvent(ctx, changed, 5)
	wantKind(t, err, model.KindPrecondition)
	u := must(s.UpdateKnownEvent(ctx, changed, 1))(t)
	if u.Version != 2 || !u.To.Equal(changed.To) || u.CreatedBy != "ada" {
		t.Fatalf("%+v", u)
	}
	same(t, must(s.UpdateKnownEvent(ctx, changed, 2))(t), u) // changes nothing
	other := must(s.CreateKnownEvent(ctx, model.KnownEvent{Name: "sale", DetectorID: "det_x", From: base.Add(10 * time.Hour), To: base.Add(11 * time.Hour)}))(t)
	ids := func(f model.KnownEventFilter) (out []string) {
		found, next, err := s.KnownEvents(ctx, f)
		ok(t, err)
		for _, e := range found {
			out = append(out, e.ID)
		}
		if next != "" {
			f.Cursor = next
			rest, _, err := s.KnownEvents(ctx, f)
			ok(t, err)
			for _, e := range rest {
				out = append(out, e.ID)
			}
		}
		return out
	}
	same(t, ids(model.KnownEventFilter{}), []string{other.ID, e.ID})
	same(t, ids(model.KnownEventFilter{Limit: 1}), []string{other.ID, e.ID})
	same(t, ids(model.KnownEventFilter{DetectorID: "det_y"}), []string{e.ID})
	same(t, ids(model.KnownEventFilter{From: base.Add(3 * time.Hour)}), []string{other.ID})
	same(t, ids(model.KnownEventFilter{To: base.Add(3 * time.Hour)}), []string{e.ID})
	if got := must(s.RecentKnownEvents(ctx, base.Add(3*time.Hour)))(t); len(got) != 1 || got[0].ID != other.ID {
		t.Fatalf("%+v", got)
	}
	wantKind(t, s.DeleteKnownEvent(ctx, e.ID, 1), model.KindPrecondition)
	ok(t, s.DeleteKnownEvent(ctx, e.ID, 2))
	wantKind(t, s.DeleteKnownEvent(ctx, e.ID, 0), model.KindNotFound)
	_, err = s.KnownEvent(ctx, e.ID)
	wantKind(t, err, model.KindNotFound)
	_, err = s.UpdateKnownEvent(ctx, e, 0)
	wantKind(t, err, model.KindNotFound)
	same(t, types(t, s, before), []string{"known_event.changed system/known_events/" + e.ID, "known_event.changed system/known_events/" + e.ID,
		"known_event.changed system/known_events/" + other.ID, "known_event.changed system/known_events/" + e.ID})
}
