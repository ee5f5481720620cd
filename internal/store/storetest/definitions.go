package storetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"aiops/internal/model"
	"aiops/internal/store"
)

func fullDetector(name string) model.Detector {
	return model.Detector{Name: name, Source: "main", Query: `rate(x{a="b"}[5m])`, Step: 30 * time.Second, Model: "auto",
		Parameters: json.RawMessage(`{"window":100,"ratio":0.1}`), FalseAlarmsPerWeek: 0.1, Direction: model.DirectionAbove,
		MinDeviation: model.MinDeviation{Absolute: 0.3, Relative: 0.2}, For: 2 * time.Minute, KeepFiringFor: 5 * time.Minute, Refractory: 10 * time.Minute,
		Joint: &model.Joint{Peers: true, Groups: true, By: []string{"job"}}, Retrain: model.Retrain{Every: model.Duration(24 * time.Hour), OnDrift: true, Into: model.ModelShadow},
		MissingData: model.MissingZero, TimeZone: "Europe/Berlin", Holidays: []string{"12-25", "2026-12-24=saturday"}, Labels: map[string]string{"team": "a"}, Enabled: true}
}

func detectorsLifecycle(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	d := must(s.CreateDetector(ctx, fullDetector("checkout latency")))(t)
	if d.ID == "" || d.Version != 1 || d.CreatedAt.IsZero() || d.CreatedAt != d.UpdatedAt {
		t.Fatalf("created %+v", d)
	}
	same(t, d, fullDetector("checkout latency"), cmpopts.IgnoreFields(model.Detector{}, "ID", "Version", "CreatedAt", "UpdatedAt"))
	same(t, must(s.Detector(ctx, d.ID))(t), d)
	same(t, must(s.DetectorByName(ctx, d.Name))(t), d)

	changed := d
	changed.Query, changed.Enabled = "up", false
	updated := must(s.UpdateDetector(ctx, changed, 1, model.EventDetectorStopped))(t)
	if updated.Version != 2 || updated.CreatedAt != d.CreatedAt || updated.Enabled {
		t.Fatalf("updated %+v", updated)
	}
	same(t, must(s.Detector(ctx, d.ID))(t), updated)
	// The same again changes nothing and tells nothing.
	same(t, must(s.UpdateDetector(ctx, changed, 2, model.EventDetectorUpdated))(t), updated)
	same(t, must(s.UpdateDetector(ctx, updated, 0, model.EventDetectorTrained))(t), updated)

	ok(t, s.DeleteDetector(ctx, d.ID, 2))
	_, err := s.Detector(ctx, d.ID)
	wantKind(t, err, model.KindNotFound)
	_, err = s.DetectorByName(ctx, d.Name)
	wantKind(t, err, model.KindNotFound)
	wantKind(t, s.DeleteDetector(ctx, d.ID, 0), model.KindNotFound)
	_, err = s.UpdateDetector(ctx, d, 0, model.EventDetectorUpdated)
	wantKind(t, err, model.KindNotFound)
	topic := " detectors/" + d.ID
	same(t, types(t, s, 0), []string{"detector.created" + topic, "detector.stopped" + topic, "detector.trained" + topic, "detector.deleted" + topic})
}

func detectorsVersions(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	d := newDetector(t, s, "a")
	for i := range 3 {
		d.FalseAlarmsPerWeek = float64(i + 2)
		d = must(s.UpdateDetector(ctx, d, 0, model.EventDetectorUpdated))(t)
	}
	ok(t, s.DeleteDetector(ctx, d.ID, 0))
	vs := must(s.DetectorVersions(ctx, d.ID))(t)
	if len(vs) != 4 || vs[0].Version != 4 || vs[3].Version != 1 || vs[3].FalseAlarmsPerWeek != 1 || vs[0].FalseAlarmsPerWeek != 4 {
		t.Fatalf("versions %+v", vs)
	}
	same(t, vs[0], d)
	if v := must(s.DetectorVersion(ctx, d.ID, 2))(t); v.FalseAlarmsPerWeek != 2 {
		t.Fatalf("version 2 is %+v", v)
	}
	_, err := s.DetectorVersion(ctx, d.ID, 5)
	wantKind(t, err, model.KindNotFound)
	_, err = s.DetectorVersions(ctx, "det_none")
	wantKind(t, err, model.KindNotFound)
}

func detectorsUnique(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	a, b := newDetector(t, s, "a"), newDetector(t, s, "b")
	_, err := s.CreateDetector(ctx, model.Detector{Name: "a"})
	wantKind(t, err, model.KindConflict)
	_, err = s.CreateDetector(ctx, model.Detector{ID: a.ID, Name: "c"})
	wantKind(t, err, model.KindConflict)
	b.Name = "a"
	_, err = s.UpdateDetector(ctx, b, 0, model.EventDetectorUpdated)
	wantKind(t, err, model.KindConflict)
	if _, err := s.CreateDetector(ctx, model.Detector{Name: "A"}); err != nil {
		t.Fatalf("names differ by case: %v", err)
	}
}

func lostUpdate(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	d := newDetector(t, s, "a")
	mine, theirs := d, d
	mine.Query, theirs.Query = "mine", "theirs"
	must(s.UpdateDetector(ctx, mine, 1, model.EventDetectorUpdated))(t)
	before := last(t, s)
	_, err := s.UpdateDetector(ctx, theirs, 1, model.EventDetectorUpdated)
	wantKind(t, err, model.KindPrecondition)
	wantKind(t, s.DeleteDetector(ctx, d.ID, 1), model.KindPrecondition)
	if got := must(s.Detector(ctx, d.ID))(t); got.Query != "mine" || last(t, s) != before {
		t.Fatalf("a refused update left %+v, event %d", got, last(t, s))
	}
}

func detectorsPages(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	names := []string{"Zebra", "alpha", "beta 100%", "beta_x", "ähnlich", "Äpfel", "zeta", "émile", "10", "9"}
	for i, n := range names {
		d := fullDetector(n)
		d.Enabled, d.Provisioned = i%2 == 0, i%3 == 0
		d.Source = fmt.Sprintf("s%d", i%2)
		must(s.CreateDetector(ctx, d))(t)
	}
	all := must(s.AllDetectors(ctx))(t)
	byBytes := slices.Sorted(slices.Values(names))
	if got := namesOf(all); !slices.Equal(got, byBytes) {
		t.Fatalf("all are %q", got)
	}
	for _, sort := range []string{"", "name", "-name", "created_at", "-created_at", "updated_at"} {
		var got []string
		f := model.DetectorFilter{Sort: sort, Limit: 3}
		for {
			page, next, err := s.Detectors(ctx, f)
			ok(t, err)
			got = append(got, namesOf(page)...)
			if next == "" {
				break
			}
			f.Cursor = next
		}
		if len(got) != len(names) {
			t.Errorf("sort %q lists %q", sort, got)
		}
		if sort == "-name" {
			slices.Reverse(got)
		}
		if (sort == "name" || sort == "-name") && !slices.Equal(got, byBytes) {
			t.Errorf("sort %q lists %q", sort, got)
		}
	}
	yes, no := true, false
	for _, c := range []struct {
		f    model.DetectorFilter
		want []string
	}{
		{model.DetectorFilter{Query: "BETA"}, []string{"beta 100%", "beta_x"}},
		{model.DetectorFilter{Query: "100%"}, []string{"beta 100%"}},
		{model.DetectorFilter{Query: "_"}, []string{"beta_x"}},
		{model.DetectorFilter{Query: "\x00"}, nil},
		{model.DetectorFilter{Source: "s1", Enabled: &yes}, nil},
		{model.DetectorFilter{Source: "s1", Provisioned: &yes}, []string{"beta_x", "9"}},
		{model.DetectorFilter{Enabled: &no, Provisioned: &no, Query: "l"}, []string{"alpha", "émile", "Äpfel"}},
	} {
		page, _, err := s.Detectors(ctx, c.f)
		ok(t, err)
		want := slices.Sorted(slices.Values(c.want))
		if got := namesOf(page); !slices.Equal(got, want) {
			t.Errorf("%+v lists %q, want %q", c.f, got, want)
		}
	}
	for _, f := range []model.DetectorFilter{{Sort: "query"}, {Limit: -1}, {Limit: 1001}, {Cursor: "x"}} {
		_, _, err := s.Detectors(ctx, f)
		wantKind(t, err, model.KindInvalid)
	}
}

func namesOf(ds []model.Detector) []string {
	var out []string
	for _, d := range ds {
		out = append(out, d.Name)
	}
	return out
}

func fullSource(name string) model.Source {
	return model.Source{Name: name, Type: model.SourcePrometheus, URL: "https://example.org/prom",
		Auth:    model.SourceAuth{Username: "me", Password: "pa55 word", BearerToken: "t0ken"},
		TLS:     model.TLSOptions{CAFile: "/ca.pem", ServerName: "x", InsecureSkipVerify: true},
		Headers: map[string]model.Secret{"X-Scope-OrgID": "tenant-1", "X-Empty": ""}, LateData: time.Minute, Timeout: 10 * time.Second}
}

func sourcesLifecycle(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	src := must(s.CreateSource(ctx, fullSource("main")))(t)
	same(t, src, fullSource("main"), cmpopts.IgnoreFields(model.Source{}, "ID", "Version", "CreatedAt", "UpdatedAt"))
	same(t, must(s.Source(ctx, src.ID))(t), src)
	same(t, must(s.SourceByName(ctx, "main"))(t), src)
	same(t, must(s.UpdateSource(ctx, src, 1))(t), src) // nothing differs

	rotated := src
	rotated.Auth.Password = "another"
	rotated.Headers = nil
	rotated = must(s.UpdateSource(ctx, rotated, 1))(t)
	if rotated.Version != 2 {
		t.Fatalf("a new password gives version %d", rotated.Version)
	}
	same(t, must(s.Source(ctx, src.ID))(t), rotated)
	_, err := s.UpdateSource(ctx, src, 1)
	wantKind(t, err, model.KindPrecondition)

	other := must(s.CreateSource(ctx, model.Source{Name: "Another", Type: model.SourceLoki, URL: "http://x"}))(t)
	same(t, must(s.Sources(ctx))(t), []model.Source{other, rotated})
	_, err = s.CreateSource(ctx, fullSource("main"))
	wantKind(t, err, model.KindConflict)
	other.Name = "main"
	_, err = s.UpdateSource(ctx, other, 0)
	wantKind(t, err, model.KindConflict)
	_, err = s.CreateSource(ctx, model.Source{Name: "x", URL: "http://user:secret@x"})
	wantKind(t, err, model.KindInvalid)

	ok(t, s.DeleteSource(ctx, src.ID, 2))
	_, err = s.Source(ctx, src.ID)
	wantKind(t, err, model.KindNotFound)
	wantKind(t, s.DeleteSource(ctx, src.ID, 0), model.KindNotFound)
}

func sourcesInUse(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	src := must(s.CreateSource(ctx, fullSource("main")))(t)
	d := must(s.CreateDetector(ctx, fullDetector("a")))(t)
	wantKind(t, s.DeleteSource(ctx, src.ID, 0), model.KindConflict)
	ok(t, s.DeleteDetector(ctx, d.ID, 0))
	ok(t, s.DeleteSource(ctx, src.ID, 0))
}

func masterKeys(t *testing.T, fresh FreshFunc) {
	const first, second = model.Secret("first key of at least 32 characters"), model.Secret("second key of at least 32 characters")
	cfg := fresh(t)
	cfg.MasterKey = first
	s, err := store.Open(t.Context(), cfg, discard(), nil)
	ok(t, err)
	src := must(s.CreateSource(t.Context(), fullSource("main")))(t)
	ok(t, s.Close())

	cfg.MasterKey = second
	_, err = store.Open(t.Context(), cfg, discard(), nil)
	wantKind(t, err, model.KindConflict)

	cfg.PreviousMasterKey = first
	s, err = store.Open(t.Context(), cfg, discard(), nil)
	ok(t, err)
	same(t, must(s.Source(t.Context(), src.ID))(t), src)
	ok(t, s.Close())

	cfg.PreviousMasterKey = ""
	s = open(t, cfg)
	same(t, must(s.Source(t.Context(), src.ID))(t), src)
	same(t, must(s.UpdateSource(t.Context(), src, 1))(t), src) // re-encryption is no change

	cfg.MasterKey = "short"
	_, err = store.Open(t.Context(), cfg, discard(), nil)
	wantKind(t, err, model.KindInvalid)
}

func sourceHealth(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	same(t, must(s.SourceHealth(ctx, "main"))(t), model.SourceHealth{State: model.SourceUnknown})
	at := base
	for _, c := range []struct {
		state model.HealthState
		event string
	}{
		{model.SourceUnknown, ""}, {model.SourceUp, "source.up"}, {model.SourceUp, ""}, {model.SourceDegraded, "source.degraded"},
		{model.SourceDown, "source.down"}, {model.SourceStale, "source.down"}, {model.SourceStale, ""}, {model.SourceUp, "source.up"},
	} {
		before := last(t, s)
		at = at.Add(time.Second)
		h := model.SourceHealth{State: c.state, Since: at, CheckedAt: at, LastError: "no \x00route", Latency: 3 * time.Millisecond}
		ok(t, s.SetSourceHealth(ctx, "main", h))
		var want []string
		if c.event != "" {
			want = []string{c.event + " sources/main"}
		}
		same(t, types(t, s, before), want)
		h.LastError = "no \uFFFDroute"
		same(t, must(s.SourceHealth(ctx, "main"))(t), h)
	}
}
