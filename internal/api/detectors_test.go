package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"testing"
	"time"

	"aiops/internal/model"
)

func TestDetectorLifeCycle(t *testing.T) {
	t.Parallel()
	f := setup(t, realDefinitions)
	rec := f.do("POST", "/api/v1/detectors", `{"name": "cpu", "query": "cpu", "for": "2m", "parameters": {"window": 12345678901234567890}}`)
	created := decode[Detector](t, rec)
	if rec.Code != 201 || rec.Header().Get("Location") != "/api/v1/detectors/"+created.ID || rec.Header().Get("ETag") != `"1"` {
		t.Fatalf("%d %v %s", rec.Code, rec.Header(), rec.Body.String())
	}
	if created.Step != "30s" || created.For != "2m" || created.FalseAlarmsPerWeek != 1 || !created.Enabled || created.Provisioned || created.Status.State != "learning" {
		t.Errorf("created: %+v", created)
	}
	if got := string(created.Parameters); got != `{"window":12345678901234567890}` && got != `{"window": 12345678901234567890}` {
		t.Errorf("parameters: %s", got)
	}
	rec = f.do("PUT", "/api/v1/detectors/"+created.ID, `{"name": "cpu", "query": "cpu2"}`, "If-Match", `"1"`)
	replaced := decode[Detector](t, rec)
	if rec.Code != 200 || replaced.Query != "cpu2" || replaced.For != "0s" || replaced.Version != 2 || rec.Header().Get("ETag") != `"2"` {
		t.Errorf("replaced: %d %+v", rec.Code, replaced)
	}
	wantProblem(t, f.do("PUT", "/api/v1/detectors/"+created.ID, `{"name": "cpu", "query": "x"}`, "If-Match", `"1"`), 412, CodePreconditionFailed)
	wantProblem(t, f.do("DELETE", "/api/v1/detectors/"+created.ID, "", "If-Match", "nonsense"), 412, CodePreconditionFailed)
	if rec := f.do("DELETE", "/api/v1/detectors/"+created.ID, "", "If-Match", `"2"`); rec.Code != 204 || rec.Body.Len() != 0 {
		t.Errorf("deleted: %d", rec.Code)
	}
	wantProblem(t, f.do("GET", "/api/v1/detectors/"+created.ID, ""), 404, CodeDetectorNotFound)
	if f.world.syncs != 3 {
		t.Errorf("the engine was told %d times, want 3", f.world.syncs)
	}
	wantProblem(t, f.do("POST", "/api/v1/detectors", `{"name": "latency", "query": "x"}`), 409, CodeDetectorConflict)
}

// TestReadThenWrite sends an answer back as it came.
func TestReadThenWrite(t *testing.T) {
	t.Parallel()
	f := setup(t, realDefinitions)
	before := f.do("GET", "/api/v1/detectors/det_1", "")
	rec := f.do("PUT", "/api/v1/detectors/det_1", before.Body.String(), "If-Match", before.Header().Get("ETag"))
	if rec.Code != 200 {
		t.Fatalf("%d %s", rec.Code, rec.Body.String())
	}
	a, b := decode[Detector](t, before), decode[Detector](t, rec)
	if b.Version != a.Version+1 {
		t.Errorf("version %d", b.Version)
	}
	b.Version, b.UpdatedAt = a.Version, a.UpdatedAt
	if !reflect.DeepEqual(a, b) {
		t.Errorf("before %+v\nafter  %+v", a, b)
	}
	source := f.do("GET", "/api/v1/sources/src_free", "")
	if rec := f.do("PUT", "/api/v1/sources/src_free", source.Body.String()); rec.Code != 200 {
		t.Errorf("%d %s", rec.Code, rec.Body.String())
	}
}

func TestMergePatch(t *testing.T) {
	t.Parallel()
	f := setup(t, realDefinitions)
	patch := func(body string, headers ...string) Detector {
		t.Helper()
		rec := f.do("PATCH", "/api/v1/detectors/det_1", body, append([]string{"Content-Type", "application/merge-patch+json"}, headers...)...)
		if rec.Code != 200 {
			t.Fatalf("%s: %d %s", body, rec.Code, rec.Body.String())
		}
		return decode[Detector](t, rec)
	}
	d := patch(`{"for": "2m", "labels": {"tier": "1"}, "min_deviation": {"relative": 0.2}, "parameters": {"a": {"b": 1, "c": 2}}}`)
	if d.For != "2m" || d.Labels["team"] != "shop" || d.Labels["tier"] != "1" || d.MinDeviation.Relative != 0.2 || d.Query != "latency" {
		t.Errorf("%+v", d)
	}
	d = patch(`{"for": null, "labels": {"team": null}, "sensitivity": "high", "parameters": {"a": {"b": null}}}`)
	if d.For != "0s" || len(d.Labels) != 1 || d.FalseAlarmsPerWeek != 10 || string(d.Parameters) != `{"a":{"c":2}}` {
		t.Errorf("%+v", d)
	}
	if d = patch(`{"false_alarms_per_week": null, "enabled": false}`); d.FalseAlarmsPerWeek != 1 || d.Enabled || d.Status.State != "stopped" {
		t.Errorf("%+v", d)
	}
	for body, pointer := range map[string]string{`{"name": null}`: "/name", `{"step": "x"}`: "/step", `{"new": 1}`: "/new", `{"step": "0s"}`: "/step", `{"model": "none"}`: "/model",
		`{"min_deviation": {"relative": "much"}}`: "/min_deviation/relative", `{"labels": {"a": 1}}`: "/labels/a", `{"sensitivity": "low", "false_alarms_per_week": 2}`: "/sensitivity"} {
		p := wantProblem(t, f.do("PATCH", "/api/v1/detectors/det_1", body), 422, CodeValidation)
		if len(p.Errors) != 1 || p.Errors[0].Pointer != pointer {
			t.Errorf("%s: %+v", body, p.Errors)
		}
	}
	wantProblem(t, f.do("PATCH", "/api/v1/detectors/det_1", `{}`, "If-Match", `"1"`), 412, CodePreconditionFailed)
	wantProblem(t, f.do("PATCH", "/api/v1/detectors/det_1", `{"query": "bad("}`), 400, CodeQuery)
}

// TestMergePatchAlgorithm holds the examples of RFC 7386, appendix A, that
// begin with an object.
func TestMergePatchAlgorithm(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`}, {`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`}, {`{"a":"b"}`, `{"a":null}`, `{}`}, {`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`}, {`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`}, {`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`}, {`{"e":null}`, `{"a":1}`, `{"a":1,"e":null}`}, {`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
	} {
		var target, patch any
		must(t, json.Unmarshal([]byte(c[0]), &target))
		must(t, json.Unmarshal([]byte(c[1]), &patch))
		got, err := json.Marshal(mergePatch(target, patch))
		must(t, err)
		if string(got) != c[2] {
			t.Errorf("%s with %s: %s, want %s", c[0], c[1], got, c[2])
		}
	}
}

// TestPatchMeetsAnotherChange lets someone else change the detector between
// the read and the write of a patch: both changes have to survive.
func TestPatchMeetsAnotherChange(t *testing.T) {
	t.Parallel()
	f := setup(t, realDefinitions)
	first := true
	f.world.before = func(context.Context) {
		f.world.mu.Lock()
		defer f.world.mu.Unlock()
		if first {
			first = false
			d := f.world.detectors["det_1"]
			d.Version, d.Query = d.Version+1, "other query"
			f.world.detectors["det_1"] = d
		}
	}
	d := decode[Detector](t, f.do("PATCH", "/api/v1/detectors/det_1", `{"for": "1m"}`))
	if d.For != "1m" || d.Query != "other query" || d.Version != 9 {
		t.Errorf("%+v", d)
	}
	first = true
	wantProblem(t, f.do("PATCH", "/api/v1/detectors/det_1", `{"for": "2m"}`, "If-Match", `"9"`), 412, CodePreconditionFailed)
}

func TestProvisionedIsLocked(t *testing.T) {
	t.Parallel()
	f := setup(t, realDefinitions)
	for _, c := range [][3]string{{"PUT", "/api/v1/detectors/det_file", `{"name": "x", "query": "x"}`}, {"PATCH", "/api/v1/detectors/det_file", `{}`}, {"DELETE", "/api/v1/detectors/det_file", ""}} {
		p := wantProblem(t, f.do(c[0], c[1], c[2]), 409, CodeDetectorConflict)
		if p.Context["provisioned"] != true {
			t.Errorf("%v: %+v", c, p)
		}
	}
	for _, id := range []string{"src_file", "src_builtin", "builtin"} {
		wantProblem(t, f.do("DELETE", "/api/v1/sources/"+id, ""), 409, CodeConflict)
		wantProblem(t, f.do("PUT", "/api/v1/sources/"+id, exampleSource), 409, CodeConflict)
	}
	if d := decode[Detector](t, f.do("POST", "/api/v1/detectors/det_file/stop", "")); d.Enabled || d.Status.State != "stopped" {
		t.Errorf("a provisioned detector cannot be stopped: %+v", d)
	}
}

func TestStartAndStop(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, c := range []struct {
		action  string
		version int64
		enabled bool
	}{{"stop", 8, false}, {"stop", 8, false}, {"start", 9, true}, {"start", 9, true}} {
		d := decode[Detector](t, f.do("POST", "/api/v1/detectors/det_1/"+c.action, ""))
		if d.Version != c.version || d.Enabled != c.enabled {
			t.Errorf("%s: version %d, enabled %v", c.action, d.Version, d.Enabled)
		}
	}
	if got := fmt.Sprint(f.world.events); got != "[detector.stopped detector.started]" || f.world.syncs != 2 {
		t.Errorf("events %s, syncs %d", got, f.world.syncs)
	}
	wantProblem(t, f.do("POST", "/api/v1/detectors/det_1/stop", "", "If-Match", `"2"`), 412, CodePreconditionFailed)
}

func TestSensitivity(t *testing.T) {
	t.Parallel()
	f := setup(t, realDefinitions)
	for given, want := range map[string]float64{"low": 0.1, "medium": 1, "high": 10} {
		v := decode[ValidDetector](t, f.do("POST", "/api/v1/detectors/validate", `{"name": "x", "query": "x", "sensitivity": "`+given+`"}`))
		if !v.Valid || v.Detector.FalseAlarmsPerWeek == nil || *v.Detector.FalseAlarmsPerWeek != want {
			t.Errorf("%s: %+v", given, v.Detector.FalseAlarmsPerWeek)
		}
	}
	if len(f.world.detectors) != 2 {
		t.Error("validating saves")
	}
}

func TestLongWork(t *testing.T) {
	t.Parallel()
	f := setup(t, realDefinitions)
	rec := f.do("POST", "/api/v1/detectors/det_1/train", "")
	task := decode[Task](t, rec)
	if rec.Code != 202 || rec.Header().Get("Location") != "/api/v1/tasks/"+task.ID || task.State != "queued" || task.DetectorID != "det_1" || task.Kind != "train" {
		t.Fatalf("%d %v %+v", rec.Code, rec.Header(), task)
	}
	var train TrainArgs
	must(t, json.Unmarshal(f.world.tasks[task.ID].Args, &train))
	if !train.To.Equal(testTime) || train.To.Sub(train.From) != 7*24*time.Hour {
		t.Errorf("range %v to %v", train.From, train.To)
	}
	task = decode[Task](t, f.do("POST", "/api/v1/detectors/backtest", `{"detector": {"name": "x", "query": "x", "step": "1m"}, "from": "2026-11-01T00:00:00+01:00", "to": "2026-11-02T00:00:00Z"}`))
	var backtest BacktestArgs
	must(t, json.Unmarshal(f.world.tasks[task.ID].Args, &backtest))
	if backtest.Definition.Step != time.Minute || backtest.From.Format(time.RFC3339) != "2026-10-31T23:00:00Z" || task.DetectorID != "" {
		t.Errorf("%+v", backtest)
	}
	p := wantProblem(t, f.do("POST", "/api/v1/detectors/backtest", `{"detector": {"name": "x", "query": "x", "step": "1000h"}, "from": "2026-12-01T00:00:00Z", "to": "2026-11-02T00:00:00Z"}`), 422, CodeValidation)
	if len(p.Errors) != 2 || p.Errors[0].Pointer != "/from" || p.Errors[1].Pointer != "/detector/step" {
		t.Errorf("%+v", p.Errors)
	}
	wantProblem(t, f.do("POST", "/api/v1/detectors/backtest", `{"detector": {"name": "x", "query": "bad("}}`), 400, CodeQuery)

	for id, want := range map[string]int{"det_1": 1, "det_none": 0} {
		if list := decode[TaskList](t, f.do("GET", "/api/v1/tasks?kind=train&state=queued&detector_id="+id, "")); len(list.Items) != want {
			t.Errorf("%d trainings of %s wait, want %d", len(list.Items), id, want)
		}
	}
	cancelled := decode[Task](t, f.do("POST", "/api/v1/tasks/task_1/cancel", ""))
	if cancelled.State != "cancelled" {
		t.Errorf("%+v", cancelled)
	}
	if rec := f.do("POST", "/api/v1/tasks/task_1/cancel", ""); rec.Code != 200 {
		t.Errorf("cancelling twice: %d", rec.Code)
	}
}

type trainerFake struct{ err error }

func (f trainerFake) Train(_ context.Context, id string, from, to time.Time, progress func(float64)) (model.ModelVersion, error) {
	progress(1)
	return model.ModelVersion{DetectorID: id, Version: 3, State: model.ModelActive, TrainedFrom: from, TrainedTo: to}, f.err
}

func (f trainerFake) Backtest(_ context.Context, d model.Detector, from, to time.Time, _ func(float64)) (model.BacktestResult, error) {
	return model.BacktestResult{From: from, To: to, Series: 2, AnomalyCount: 1, Anomalies: []model.Anomaly{{ID: d.ID}}, FalseAlarmsPerWeek: d.FalseAlarmsPerWeek}, f.err
}

// TestTaskFuncs carries enqueued arguments through to a task's result.
func TestTaskFuncs(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for action, want := range map[string]string{
		"train":    `{"detector_id":"det_1","version":3,"detector_version":0,"state":"active","trained_from":"2026-11-01T12:00:00Z","trained_to":"2026-11-08T12:00:00Z","series":0,"size_bytes":0,"created_at":"0001-01-01T00:00:00Z","reason":""}`,
		"backtest": "",
	} {
		task := decode[Task](t, f.do("POST", "/api/v1/detectors/det_1/"+action, ""))
		run := TaskFuncs(trainerFake{}, analyzerFake{})[task.Kind]
		result, err := run(context.Background(), f.world.tasks[task.ID], func(float64) {})
		must(t, err)
		text, err := json.Marshal(result)
		must(t, err)
		if want != "" && string(text) != want {
			t.Errorf("%s: %s", action, text)
		}
		if b, ok := result.(Backtest); ok && (b.DetectorID != "det_1" || b.Anomalies[0].ID != "det_1" || b.FalseAlarmsPerWeek != 1) {
			t.Errorf("%+v", b)
		}
		if _, err := run(context.Background(), model.Task{Args: json.RawMessage(`[`)}, nil); err == nil {
			t.Error("broken arguments are no error")
		}
		if _, err := TaskFuncs(trainerFake{model.Errorf(model.KindTooLittleData, "", "x")}, analyzerFake{})[task.Kind](context.Background(), f.world.tasks[task.ID], func(float64) {}); model.KindOf(err) != model.KindTooLittleData {
			t.Errorf("%v", err)
		}
	}
}

func TestListsArePaged(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, c := range []struct {
		path string
		want int
	}{{"/api/v1/detectors", 2}, {"/api/v1/detectors/det_1/series", 3}, {"/api/v1/tasks", 3}, {"/api/v1/anomalies", 1}} {
		seen, cursor := 0, ""
		for page := 0; page <= c.want; page++ {
			target := c.path + "?limit=1"
			if cursor != "" {
				target += "&cursor=" + cursor
			}
			rec := f.do("GET", target, "")
			if rec.Code != http.StatusOK {
				t.Fatalf("%s: %d %s", target, rec.Code, rec.Body.String())
			}
			l := decode[struct {
				Items      []json.RawMessage `json:"items"`
				NextCursor string            `json:"next_cursor"`
			}](t, rec)
			seen += len(l.Items)
			if cursor = l.NextCursor; cursor == "" {
				break
			}
		}
		if seen != c.want || cursor != "" {
			t.Errorf("%s: %d items, then the cursor %q", c.path, seen, cursor)
		}
		p := wantProblem(t, f.do("GET", c.path+"?cursor=%25%25", ""), 422, CodeValidation)
		if len(p.Errors) != 1 || p.Errors[0].In != "query" || p.Errors[0].Pointer != "/cursor" {
			t.Errorf("%s: %+v", c.path, p.Errors)
		}
	}
}

func TestAnomalies(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for query, want := range map[string]int{"": 1, "?state=firing&state=pending": 1, "?state=resolved": 0, "?severity=critical": 1, "?severity=info": 0, "?detector=latency": 1, "?detector=det_1": 1,
		"?detector=other": 0, "?detector_id=det_1": 1, "?detector=latency&detector_id=det_1": 1, "?matcher=instance%3Da": 1, "?matcher=instance%3Db": 0, "?matcher=a%3Db%3Dc": 0, "?acknowledged=true": 0, "?acknowledged=false": 1} {
		rec := f.do("GET", "/api/v1/anomalies"+query, "")
		if l := decode[AnomalyList](t, rec); rec.Code != 200 || len(l.Items) != want {
			t.Errorf("%s: %d, %d items, want %d", query, rec.Code, len(l.Items), want)
		}
	}
	for _, query := range []string{"?matcher=instance", "?matcher==x", "?matcher=a%3D1&matcher=a%3D2", "?state=gone", "?from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z", "?from=today", "?detector=latency&detector_id=det_2"} {
		wantProblem(t, f.do("GET", "/api/v1/anomalies"+query, ""), 422, CodeValidation)
	}
	acked := decode[Anomaly](t, f.do("POST", "/api/v1/anomalies/an_1/acknowledge", "", "If-Match", `"3"`))
	if acked.AcknowledgedBy != "anonymous" || acked.AcknowledgedAt == nil || acked.Version != 4 {
		t.Errorf("%+v", acked)
	}
	wantProblem(t, f.do("POST", "/api/v1/anomalies/an_1/resolve", "", "If-Match", `"3"`), 412, CodePreconditionFailed)
	for body, want := range map[string]string{`{"label": true}`: "true", `{"label": false}`: "false", `{"label": null}`: "null"} {
		got := decode[map[string]any](t, f.do("POST", "/api/v1/anomalies/an_1/label", body))
		if text, _ := json.Marshal(got["label"]); string(text) != want {
			t.Errorf("%s: %s", body, text)
		}
	}
	wantProblem(t, f.do("POST", "/api/v1/anomalies/an_1/label", `{}`), 422, CodeValidation)
	raw := decode[map[string]any](t, f.do("GET", "/api/v1/anomalies/an_1", ""))
	if raw["expected"] != nil || raw["lower"] != nil || raw["value"] != 12.0 || raw["series"].(map[string]any)["labels"].(map[string]any)["instance"] != "a" {
		t.Errorf("%v", raw)
	}
	if e := decode[ExplanationAnswer](t, f.do("GET", "/api/v1/anomalies/an_1/explain", "")); e.Summary != "latency was 12, which happens once in 12 days on this series." || !e.Reproduced || len(e.AlsoMoved) != 1 {
		t.Errorf("%+v", e)
	}
}

func TestReplayBounds(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := decode[map[string]any](t, f.do("GET", "/api/v1/detectors/det_1/replay", ""))
	point := r["points"].([]any)[0].(map[string]any)
	if r["step_seconds"] != 30.0 || point["t"] != "2026-11-08T10:20:00Z" || point["expected"] != nil || len(r["anomalies"].([]any)) != 1 {
		t.Errorf("%v", r)
	}
	wantProblem(t, f.do("GET", "/api/v1/detectors/det_1/replay?from=2026-01-01T00:00:00Z&to=2026-11-01T00:00:00Z", ""), 400, CodeQuery)
	for _, q := range []string{"?from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z", "?series=up", "?from=0001-01-01T00:00:00Z&to=1960-01-01T00:00:00Z"} {
		wantProblem(t, f.do("GET", "/api/v1/detectors/det_1/replay"+q, ""), 422, CodeValidation)
	}
}

// manyEvents are known events of another series, and one of the replayed series
// that began before them.
type manyEvents struct{ KnownEventStore }

func (manyEvents) KnownEvents(_ context.Context, f model.KnownEventFilter) ([]model.KnownEvent, string, error) {
	out := make([]model.KnownEvent, 500)
	for i := range out {
		out[i] = model.KnownEvent{ID: fmt.Sprint("evt_", i), Matchers: map[string]string{"instance": "other"}, From: testTime, To: testTime}
	}
	out[len(out)-1].Matchers = nil
	return out[:min(f.Limit, len(out))], "", nil
}

func TestReplayLooksThroughManyKnownEvents(t *testing.T) {
	t.Parallel()
	f := setup(t, func(o *Options) { o.KnownEvents = manyEvents{o.KnownEvents} })
	r := decode[Replay](t, f.do("GET", "/api/v1/detectors/det_1/replay", ""))
	if len(r.KnownEvents) != 1 || r.KnownEvents[0].ID != "evt_499" {
		t.Errorf("%+v", r.KnownEvents)
	}
}
