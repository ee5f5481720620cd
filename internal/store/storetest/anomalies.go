package storetest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"aiops/internal/model"
	"aiops/internal/store"
)

func anomaliesIdempotent(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	d := newDetector(t, s, "a")
	a := newAnomaly(d, "an_1", 0, map[string]string{"instance": "x"})
	before := last(t, s)
	commit(t, s, model.EventAnomalyOpened, a)
	got := must(s.Anomaly(ctx, a.ID))(t)
	if got.Version != 1 || got.UpdatedAt.IsZero() {
		t.Fatalf("stored %+v", got)
	}
	same(t, got, a, cmpopts.IgnoreFields(model.Anomaly{}, "Version", "UpdatedAt"))

	commit(t, s, model.EventAnomalyOpened, a, a)
	same(t, must(s.Anomaly(ctx, a.ID))(t), got)

	peak := a
	peak.Value, peak.Score, peak.Severity, peak.PeakAt = 20, 8, model.SeverityCritical, base.Add(time.Minute)
	commit(t, s, model.EventAnomalyUpdated, peak, peak)
	commit(t, s, "", func() model.Anomaly { p := peak; p.Reason = "quietly"; return p }())
	got = must(s.Anomaly(ctx, a.ID))(t)
	if got.Version != 3 || got.Score != 8 || got.Reason != "quietly" {
		t.Fatalf("stored %+v", got)
	}
	same(t, types(t, s, before), []string{"anomaly.opened anomalies/an_1", "anomaly.updated anomalies/an_1"})

	evs := must(s.Events(ctx, before, nil, 0))(t)
	var data struct {
		ID        string            `json:"id"`
		Series    map[string]string `json:"series"`
		Value     float64           `json:"value"`
		StartedAt time.Time         `json:"started_at"`
		Version   int64             `json:"version"`
	}
	ok(t, json.Unmarshal(evs[1].Data, &data))
	if data.ID != a.ID || data.Series["instance"] != "x" || data.Value != 20 || !data.StartedAt.Equal(a.StartedAt) || data.Version != 2 {
		t.Fatalf("event data %s", evs[1].Data)
	}
	_, err := s.Anomaly(ctx, "an_none")
	wantKind(t, err, model.KindNotFound)
}

func anomaliesForward(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	d := newDetector(t, s, "a")
	a := newAnomaly(d, "an_1", 0, nil)
	pending, firing, resolved := a, a, a
	pending.State, pending.FiredAt, pending.Score = model.AnomalyPending, time.Time{}, 4
	resolved.State, resolved.ResolvedAt = model.AnomalyResolved, base.Add(time.Hour)
	lower := firing
	lower.Score, lower.Value = 4.5, 7
	// A whole stretch, then the same stretch again, as after a crash.
	for range 2 {
		for _, step := range []struct {
			a  model.Anomaly
			ev model.EventType
		}{{pending, ""}, {firing, model.EventAnomalyOpened}, {lower, model.EventAnomalyUpdated}, {resolved, model.EventAnomalyResolved}} {
			commit(t, s, step.ev, step.a)
		}
	}
	moved := resolved
	moved.State, moved.Score, moved.StartedAt, moved.Series = model.AnomalyFiring, 99, base.Add(time.Hour), model.Labels{{Name: "x", Value: "y"}}
	commit(t, s, model.EventAnomalyOpened, moved)
	got := must(s.Anomaly(ctx, a.ID))(t)
	if got.State != model.AnomalyResolved || got.Version != 3 || got.Score != firing.Score || !got.StartedAt.Equal(a.StartedAt) {
		t.Fatalf("stored %+v", got)
	}
	same(t, types(t, s, 1), []string{"anomaly.opened anomalies/an_1", "anomaly.resolved anomalies/an_1"})
	for _, bad := range []model.Anomaly{{DetectorID: d.ID, StartedAt: base, State: model.AnomalyFiring}, {ID: "x", StartedAt: base, State: model.AnomalyFiring},
		{ID: "x", DetectorID: d.ID, State: model.AnomalyFiring}, {ID: "x", DetectorID: d.ID, StartedAt: base, State: "odd"}} {
		wantKind(t, s.CommitAnomalies(ctx, []model.AnomalyChange{{Anomaly: bad}}), model.KindInvalid)
	}
}

func anomaliesPeople(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	d := newDetector(t, s, "a")
	a := newAnomaly(d, "an_1", 0, nil)
	commit(t, s, model.EventAnomalyOpened, a)
	before := last(t, s)
	yes, no := true, false

	acked := must(s.AcknowledgeAnomaly(ctx, a.ID, "ada", base.Add(time.Minute), 1))(t)
	if acked.AcknowledgedBy != "ada" || !acked.AcknowledgedAt.Equal(base.Add(time.Minute)) || acked.Version != 2 {
		t.Fatalf("acknowledged %+v", acked)
	}
	same(t, must(s.AcknowledgeAnomaly(ctx, a.ID, "bob", time.Time{}, 0))(t), acked)
	labelled := must(s.LabelAnomaly(ctx, a.ID, &no, "ada", 2))(t)
	if labelled.Label == nil || *labelled.Label || labelled.Version != 3 {
		t.Fatalf("labelled %+v", labelled)
	}
	same(t, must(s.LabelAnomaly(ctx, a.ID, &no, "bob", 0))(t), labelled)

	// The pipeline goes on, knowing nothing of that.
	peak := a
	peak.Score, peak.Label = 9, &yes
	commit(t, s, model.EventAnomalyUpdated, peak)
	got := must(s.Anomaly(ctx, a.ID))(t)
	if got.Score != 9 || got.AcknowledgedBy != "ada" || got.Label == nil || *got.Label || got.Version != 4 {
		t.Fatalf("stored %+v", got)
	}

	resolved := must(s.ResolveAnomaly(ctx, a.ID, "ada", time.Time{}, 4))(t)
	if resolved.State != model.AnomalyResolved || resolved.ResolvedBy != "ada" || resolved.ResolvedAt.IsZero() {
		t.Fatalf("resolved %+v", resolved)
	}
	peak.Score = 12
	commit(t, s, model.EventAnomalyUpdated, peak)
	same(t, must(s.Anomaly(ctx, a.ID))(t), resolved)
	same(t, must(s.ResolveAnomaly(ctx, a.ID, "bob", time.Time{}, 0))(t), resolved)
	unlabelled := must(s.LabelAnomaly(ctx, a.ID, nil, "ada", 0))(t)
	if unlabelled.Label != nil {
		t.Fatalf("label %v", *unlabelled.Label)
	}
	_, err := s.LabelAnomaly(ctx, a.ID, &yes, "ada", 1)
	wantKind(t, err, model.KindPrecondition)
	_, err = s.ResolveAnomaly(ctx, "an_none", "ada", time.Time{}, 0)
	wantKind(t, err, model.KindNotFound)
	const topic = " anomalies/an_1"
	same(t, types(t, s, before), []string{"anomaly.acknowledged" + topic, "anomaly.labelled" + topic, "anomaly.updated" + topic,
		"anomaly.resolved" + topic, "anomaly.labelled" + topic})
	for _, e := range must(s.Events(ctx, before, nil, 0))(t) {
		if e.Type == model.EventAnomalyLabelled && !strings.Contains(string(e.Data), `"labelled_by":"ada"`) {
			t.Errorf("event %s does not say who labelled", e.Data)
		}
	}
}

func anomaliesFloats(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	d := newDetector(t, s, "a")
	r := rand.New(rand.NewPCG(1, 2))
	values := []float64{0, math.Copysign(0, -1), math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, math.SmallestNonzeroFloat64,
		0.1, 1.0 / 3, 2.2250738585072011e-308, 9007199254740993, -1e300, 123456789.123456789}
	for range 200 {
		v := math.Float64frombits(r.Uint64())
		if v == v {
			values = append(values, v)
		}
	}
	for i, v := range values {
		a := newAnomaly(d, fmt.Sprintf("an_%d", i), i, nil)
		a.Value, a.Expected, a.Lower, a.Upper, a.OnceInSeconds = v, v, v, v, v
		if v == v {
			a.Score = v
		}
		commit(t, s, model.EventAnomalyOpened, a, a)
		got := must(s.Anomaly(ctx, a.ID))(t)
		if got.Version != 1 {
			t.Errorf("%v (%x) is not the same when written again", v, math.Float64bits(v))
		}
		for _, g := range []float64{got.Value, got.Expected, got.Lower, got.Upper, got.OnceInSeconds} {
			if math.Float64bits(g) != math.Float64bits(v) && !(g != g && v != v) && v != 0 { // zero may lose its sign
				t.Errorf("%v (%x) came back as %v (%x)", v, math.Float64bits(v), g, math.Float64bits(g))
			}
		}
	}
	// Pages by score go through all of them, infinities included.
	for _, sort := range []string{"score", "-score"} {
		seen := map[string]bool{}
		f := model.AnomalyFilter{Sort: sort, Limit: 7}
		for {
			page, next, err := s.Anomalies(ctx, f)
			ok(t, err)
			for _, a := range page {
				seen[a.ID] = true
			}
			if next == "" {
				break
			}
			f.Cursor = next
		}
		if len(seen) != len(values) {
			t.Errorf("sort %q lists %d of %d", sort, len(seen), len(values))
		}
	}
}

func evidence(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	d := newDetector(t, s, "a")
	a := newAnomaly(d, "an_1", 0, nil)
	_, err := s.Evidence(ctx, a.ID)
	wantKind(t, err, model.KindNotFound)
	nan := math.Float64frombits(0x7ff8000000000123)
	e := model.Evidence{AnomalyID: a.ID, Model: "auto", Definition: []byte("{}"), ModelState: make([]byte, 100_000), Threshold: 4.5, SeriesActive: 3,
		Peak: model.Sample{T: 5, V: math.Inf(1)}, Context: []model.ScoredPoint{{T: 4, Value: nan, Expected: math.Inf(-1), Score: 1}},
		Contributions: []model.Contribution{{Name: "x", Score: 2, Share: 1}}, Counterfactual: "below 412", DetectorVersion: 1, ModelVersion: 2}
	for i := range e.ModelState {
		e.ModelState[i] = byte(i * i)
	}
	ok(t, s.CommitAnomalies(ctx, []model.AnomalyChange{{Anomaly: a, Event: model.EventAnomalyOpened, Evidence: &e}}))
	got := must(s.Evidence(ctx, a.ID))(t)
	same(t, got, e)
	if math.Float64bits(got.Context[0].Value) != math.Float64bits(nan) {
		t.Errorf("a NaN came back as %x", math.Float64bits(got.Context[0].Value))
	}
	// No new evidence keeps the old; newer evidence replaces it.
	peak := a
	peak.Score = 9
	commit(t, s, model.EventAnomalyUpdated, peak)
	same(t, must(s.Evidence(ctx, a.ID))(t), e)
	peak.Score = 10
	e2 := e
	e2.Counterfactual = "below 400"
	ok(t, s.CommitAnomalies(ctx, []model.AnomalyChange{{Anomaly: peak, Evidence: &e2}}))
	same(t, must(s.Evidence(ctx, a.ID))(t), e2)
	// An old change does not bring old evidence.
	ok(t, s.CommitAnomalies(ctx, []model.AnomalyChange{{Anomaly: a, Evidence: &e}}))
	same(t, must(s.Evidence(ctx, a.ID))(t), e2)
}

func anomaliesAtomic(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	d := newDetector(t, s, "a")
	before := last(t, s)
	foreign := newAnomaly(model.Detector{ID: "det_none"}, "an_2", 0, nil)
	err := s.CommitAnomalies(ctx, []model.AnomalyChange{
		{Anomaly: newAnomaly(d, "an_1", 0, nil), Event: model.EventAnomalyOpened}, {Anomaly: foreign, Event: model.EventAnomalyOpened}})
	wantKind(t, err, model.KindNotFound)
	var typed *model.Error
	if !errors.As(err, &typed) || typed.Subject != model.SubjectDetector {
		t.Errorf("the subject of %v is not the detector", err)
	}
	_, err = s.Anomaly(ctx, "an_1")
	wantKind(t, err, model.KindNotFound)
	if last(t, s) != before {
		t.Errorf("a refused batch wrote events")
	}
	many := make([]model.Anomaly, 1200)
	for i := range many {
		many[i] = newAnomaly(d, fmt.Sprintf("an_m%04d", i), i, map[string]string{"i": fmt.Sprint(i % 7)})
	}
	commit(t, s, model.EventAnomalyOpened, many...)
	commit(t, s, model.EventAnomalyOpened, many...)
	if got := last(t, s) - before; got != 1200 {
		t.Errorf("%d events for 1200 anomalies", got)
	}
	if got := must(s.OpenAnomalies(ctx, d.ID))(t); len(got) != 1200 || got[0].ID != "an_m0000" {
		t.Errorf("%d are open", len(got))
	}
}

func deleteResolves(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	d, other := newDetector(t, s, "a"), newDetector(t, s, "b")
	open, done, theirs := newAnomaly(d, "an_1", 0, nil), newAnomaly(d, "an_2", 1, nil), newAnomaly(other, "an_3", 2, nil)
	done.State, done.ResolvedAt, done.Reason = model.AnomalyResolved, base.Add(time.Hour), "over"
	commit(t, s, "", open, done, theirs)
	ok(t, s.SaveSnapshot(ctx, model.Snapshot{DetectorID: d.ID, ModelVersion: 1, Watermark: 1, Parts: [][]byte{{1}}}))
	before := last(t, s)
	ok(t, s.DeleteDetector(ctx, d.ID, 0))
	same(t, types(t, s, before), []string{"anomaly.resolved anomalies/an_1", "detector.deleted detectors/" + d.ID})
	got := must(s.Anomaly(ctx, "an_1"))(t)
	if got.State != model.AnomalyResolved || got.Reason != "detector deleted" || got.ResolvedAt.IsZero() || got.ResolvedBy != "" {
		t.Errorf("the open anomaly is %+v", got)
	}
	if got := must(s.Anomaly(ctx, "an_2"))(t); got.Reason != "over" {
		t.Errorf("the resolved anomaly is %+v", got)
	}
	if got := must(s.OpenAnomalies(ctx, ""))(t); len(got) != 1 || got[0].ID != "an_3" {
		t.Errorf("open are %+v", got)
	}
	_, err := s.LatestSnapshot(ctx, d.ID, 1)
	wantKind(t, err, model.KindNotFound)
	// A late change of the deleted detector does not open anything.
	commit(t, s, model.EventAnomalyUpdated, open)
	wantKind(t, s.CommitAnomalies(ctx, []model.AnomalyChange{{Anomaly: newAnomaly(d, "an_4", 3, nil)}}), model.KindNotFound)
	if got := must(s.OpenAnomalies(ctx, d.ID))(t); len(got) != 0 {
		t.Errorf("open are %+v", got)
	}
}

// anomaliesFilters compares every combination of filters with a plain loop.
func anomaliesFilters(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	ds := []model.Detector{newDetector(t, s, "cpu"), newDetector(t, s, "Disk 100%")}
	r := rand.New(rand.NewPCG(7, 7))
	var all []model.Anomaly
	states := []model.AnomalyState{model.AnomalyPending, model.AnomalyFiring, model.AnomalyResolved, model.AnomalyResolved}
	for i := range 300 {
		a := newAnomaly(ds[r.IntN(2)], fmt.Sprintf("an_%03d", i), r.IntN(100), map[string]string{"job": fmt.Sprint("j", r.IntN(2)), "host": fmt.Sprint("h", r.IntN(9))})
		a.State = states[r.IntN(4)]
		a.Severity = []model.Severity{model.SeverityInfo, model.SeverityWarning, model.SeverityCritical}[r.IntN(3)]
		a.Score = float64(r.IntN(8))
		if a.State == model.AnomalyResolved {
			a.ResolvedAt = a.StartedAt.Add(time.Duration(1+r.IntN(600)) * time.Second)
		}
		all = append(all, a)
	}
	commit(t, s, "", all...)
	for i := range all {
		if r.IntN(3) == 0 {
			l := r.IntN(2) == 0
			all[i] = must(s.LabelAnomaly(ctx, all[i].ID, &l, "ada", 0))(t)
		}
		if r.IntN(3) == 0 {
			all[i] = must(s.AcknowledgeAnomaly(ctx, all[i].ID, "ada", base, 0))(t)
		}
	}
	yes, no := true, false
	pick := func(n int) int { return r.IntN(n) }
	for range 150 {
		f := model.AnomalyFilter{
			DetectorID:   []string{"", "", ds[0].ID, ds[1].ID, "det_none"}[pick(5)],
			State:        [][]model.AnomalyState{nil, {model.AnomalyFiring}, {model.AnomalyResolved}, {model.AnomalyPending, model.AnomalyFiring}, {model.AnomalyFiring, model.AnomalyResolved}}[pick(5)],
			Severity:     [][]model.Severity{nil, nil, {model.SeverityCritical}, {model.SeverityInfo, model.SeverityCritical}}[pick(4)],
			Label:        []string{"", "", "true", "false", "none"}[pick(5)],
			Acknowledged: []*bool{nil, nil, &yes, &no}[pick(4)],
			Matchers:     []map[string]string{nil, nil, {"job": "j1"}, {"job": "j0", "host": "h3"}, {"host": "none"}}[pick(5)],
			Query:        []string{"", "", "CPU", "100%", "h3", "too_high"}[pick(6)],
			Sort:         []string{"", "started_at", "-started_at", "score", "-score"}[pick(5)],
			Limit:        []int{0, 1, 10, 1000}[pick(4)],
		}
		if pick(3) == 0 {
			f.From = base.Add(time.Duration(pick(100)) * time.Minute)
		}
		if pick(3) == 0 {
			f.To = base.Add(time.Duration(pick(100)) * time.Minute)
		}
		want := expected(all, f)
		got := walk(t, s, f)
		if !slices.Equal(got, want) {
			t.Fatalf("%+v\n got %q\nwant %q", f, got, want)
		}
	}
	for _, f := range []model.AnomalyFilter{{State: []model.AnomalyState{"odd"}}, {Severity: []model.Severity{"odd"}}, {Label: "odd"}, {Sort: "odd"}, {Limit: 1001}} {
		_, _, err := s.Anomalies(ctx, f)
		wantKind(t, err, model.KindInvalid)
	}
	between := must(s.AnomaliesBetween(ctx, ds[0].ID, base.Add(10*time.Minute), base.Add(20*time.Minute), 7))(t)
	want := expected(all, model.AnomalyFilter{DetectorID: ds[0].ID, From: base.Add(10 * time.Minute), To: base.Add(20*time.Minute + time.Millisecond)})
	if got := idsOf(between); !slices.Equal(got, want[:min(7, len(want))]) {
		t.Errorf("between are %q, want %q", got, want)
	}
}

func idsOf(as []model.Anomaly) []string {
	var out []string
	for _, a := range as {
		out = append(out, a.ID)
	}
	return out
}

// walk reads all pages.
func walk(t *testing.T, s *store.Store, f model.AnomalyFilter) []string {
	t.Helper()
	var out []string
	for {
		page, next, err := s.Anomalies(t.Context(), f)
		ok(t, err)
		out = append(out, idsOf(page)...)
		if next == "" {
			return out
		}
		f.Cursor = next
	}
}

// expected is what a list should be, the slow way.
func expected(all []model.Anomaly, f model.AnomalyFilter) []string {
	var hits []model.Anomaly
	for _, a := range all {
		text := strings.ToLower(a.DetectorName + "\n" + a.Reason + "\n" + a.Series.Key())
		label := "none"
		if a.Label != nil {
			label = fmt.Sprint(*a.Label)
		}
		hit := (f.DetectorID == "" || a.DetectorID == f.DetectorID) &&
			(len(f.State) == 0 || slices.Contains(f.State, a.State)) &&
			(len(f.Severity) == 0 || slices.Contains(f.Severity, a.Severity)) &&
			(f.Label == "" || f.Label == label) &&
			(f.Acknowledged == nil || *f.Acknowledged == !a.AcknowledgedAt.IsZero()) &&
			(f.Query == "" || strings.Contains(text, strings.ToLower(f.Query))) &&
			(f.From.IsZero() || a.ResolvedAt.IsZero() || !a.ResolvedAt.Before(f.From)) &&
			(f.To.IsZero() || a.StartedAt.Before(f.To))
		for n, v := range f.Matchers {
			hit = hit && a.Series.Value(n) == v
		}
		if hit {
			hits = append(hits, a)
		}
	}
	slices.SortFunc(hits, func(a, b model.Anomaly) int {
		var c int
		if strings.HasSuffix(f.Sort, "score") {
			c = int(a.Score - b.Score)
		} else {
			c = a.StartedAt.Compare(b.StartedAt)
		}
		if c == 0 {
			c = strings.Compare(a.ID, b.ID)
		}
		if f.Sort == "" || f.Sort[0] == '-' {
			return -c
		}
		return c
	})
	return idsOf(hits)
}

func anomaliesPages(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	d := newDetector(t, s, "a")
	var first []string
	for i := range 40 {
		commit(t, s, "", newAnomaly(d, fmt.Sprintf("an_%03d", i), i/4*10, map[string]string{"job": "a"}))
		first = append(first, fmt.Sprintf("an_%03d", i))
	}
	slices.Reverse(first)
	for _, f := range []model.AnomalyFilter{{Limit: 7}, {Limit: 7, Matchers: map[string]string{"job": "a"}}, {Limit: 7, DetectorID: d.ID, Query: "too high"}} {
		var got []string
		for n := 0; ; n++ {
			page, next, err := s.Anomalies(ctx, f)
			ok(t, err)
			for _, id := range idsOf(page) {
				if !strings.HasPrefix(id, "an_x") {
					got = append(got, id)
				}
			}
			// Newer, older and equally old ones arrive between the pages.
			for _, minute := range []int{-5, 20, 50, 500} {
				commit(t, s, "", newAnomaly(d, fmt.Sprintf("an_x%d_%d_%s%d", n, minute, f.Query, len(f.Matchers)), minute, map[string]string{"job": "a"}))
			}
			must(s.ResolveAnomaly(ctx, first[n], "ada", time.Time{}, 0))(t)
			if next == "" {
				break
			}
			f.Cursor = next
		}
		if !slices.Equal(got, first) {
			t.Errorf("%+v: pages hold\n%q, want\n%q", f, got, first)
		}
	}
}

func cursors(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	d := newDetector(t, s, "a")
	for i := range 3 {
		commit(t, s, "", newAnomaly(d, fmt.Sprintf("an_%d", i), i, nil))
	}
	f := model.AnomalyFilter{Limit: 1}
	_, cursor, err := s.Anomalies(ctx, f)
	ok(t, err)
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	ok(t, err)
	bad := map[string]model.AnomalyFilter{
		"garbage":      {Limit: 1, Cursor: "garbage!"},
		"empty":        {Limit: 1, Cursor: "AA"},
		"other filter": {Limit: 1, Cursor: cursor, Query: "x"},
		"other sort":   {Limit: 1, Cursor: cursor, Sort: "score"},
		"padded":       {Limit: 1, Cursor: cursor + "="},
	}
	for i := range raw {
		b := slices.Clone(raw)
		b[i] ^= 1 << (i % 8)
		bad[fmt.Sprint("bit ", i)] = model.AnomalyFilter{Limit: 1, Cursor: base64.RawURLEncoding.EncodeToString(b)}
		bad[fmt.Sprint("cut ", i)] = model.AnomalyFilter{Limit: 1, Cursor: base64.RawURLEncoding.EncodeToString(raw[:i+1-1])}
	}
	delete(bad, "cut 0") // no cursor at all is the first page
	for name, f := range bad {
		_, _, err := s.Anomalies(ctx, f)
		wantKind(t, err, model.KindInvalid)
		var typed *model.Error
		if !errors.As(err, &typed) || typed.Fields[0].Pointer != "/cursor" {
			t.Errorf("%s: %v has no pointer /cursor", name, err)
		}
	}
	_, _, err = s.Detectors(ctx, model.DetectorFilter{Limit: 1, Cursor: cursor})
	wantKind(t, err, model.KindInvalid)
	f.Cursor, f.Limit = cursor, 2 // another limit is fine
	page, next, err := s.Anomalies(ctx, f)
	ok(t, err)
	if got := idsOf(page); !slices.Equal(got, []string{"an_1", "an_0"}) || next != "" {
		t.Errorf("the second page holds %q, next %q", got, next)
	}
}

func strangeText(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	for i, text := range []string{"'; DROP TABLE anomalies; --", "a\x00b", "\xff\xfe", "\u202e\U0001F600", `\'"%_`, "$1 ?1 :x", strings.Repeat("x", 100_000), strings.Repeat("é", 1000), "\n\r\t"} {
		d := must(s.CreateDetector(ctx, model.Detector{Name: fmt.Sprint(i, " ", text), Source: text, Query: text, Labels: map[string]string{"x": text}}))(t)
		a := newAnomaly(d, fmt.Sprint("an_", i), i, nil)
		a.Series, a.Reason = model.Labels{{Name: "l", Value: text}}, text
		commit(t, s, model.EventAnomalyOpened, a)
		got := must(s.Anomaly(ctx, a.ID))(t)
		clean := strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
		if got.Reason != clean {
			t.Errorf("the reason %.40q came back as %.40q", text, got.Reason)
		}
		if text != clean && strings.ContainsRune(text, 0) && got.Series.Value("l") != text {
			t.Errorf("the label %.40q came back as %.40q", text, got.Series.Value("l"))
		}
		page, _, err := s.Anomalies(ctx, model.AnomalyFilter{Matchers: map[string]string{"l": text}})
		ok(t, err)
		if len(page) != 1 || page[0].ID != a.ID {
			t.Errorf("%d anomalies match the label %.40q", len(page), text)
		}
		_, _, err = s.Anomalies(ctx, model.AnomalyFilter{Query: text})
		if long := len(text) > 2000; long != (model.KindOf(err) == model.KindInvalid) {
			t.Errorf("searching for %.40q: %.100v", text, err)
		}
		if _, err := s.Events(ctx, 0, []string{text}, 1); err != nil {
			t.Errorf("events of topic %.40q: %v", text, err)
		}
		ok(t, s.SetMeta(ctx, text, text))
	}
}
