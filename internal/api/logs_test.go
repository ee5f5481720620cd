package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"aiops/internal/model"
	"aiops/internal/pipeline"
)

// TestHostileLinesAreData reads what a line can hold through every operation
// that shows lines: the answer is valid JSON in UTF-8 in which nothing but text
// is left of it.
func TestHostileLinesAreData(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, path := range []string{logPatternsPath, logPatternsPath + "/" + testPattern, logLinesPath} {
		rec := f.do("GET", path, "")
		body := rec.Body.String()
		if rec.Code != http.StatusOK || !utf8.ValidString(body) || !json.Valid(rec.Body.Bytes()) || strings.ContainsAny(body, "\x00\x1b") {
			t.Errorf("%s: status %d, %q", path, rec.Code, body)
		}
		if !strings.Contains(rec.Header().Get("Content-Type"), "json") || rec.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers %v", path, rec.Header())
		}
	}
}

func TestUpdateLogPattern(t *testing.T) {
	t.Parallel()
	f := setup(t)
	path := logPatternsPath + "/" + testPattern
	rec := f.do("PATCH", path, `{"name": "refused", "severity": "critical", "pinned": true}`, "If-Match", `"4"`)
	p := decode[LogPattern](t, rec)
	if rec.Code != http.StatusOK || p.Name != "refused" || p.Severity != "critical" || !p.Pinned || rec.Header().Get("ETag") != `"5"` {
		t.Errorf("status %d: %s", rec.Code, rec.Body)
	}
	for body, want := range map[string]int{
		`{"severity": "loud"}`:                http.StatusUnprocessableEntity,
		`{"split_at": -1}`:                    http.StatusUnprocessableEntity,
		`{"colour": "red"}`:                   http.StatusUnprocessableEntity,
		`{"name": 7}`:                         http.StatusUnprocessableEntity,
		`{"merge_with": "00000000000000fff"}`: http.StatusUnprocessableEntity,
		`{`:                                   http.StatusBadRequest,
	} {
		if rec := f.do("PATCH", path, body); rec.Code != want {
			t.Errorf("%s: status %d, want %d: %s", body, rec.Code, want, rec.Body)
		}
	}
	if rec := f.do("PATCH", path, `{"name": "x"}`, "If-Match", `"3"`); rec.Code != http.StatusPreconditionFailed {
		t.Errorf("an old version: status %d", rec.Code)
	}
	if rec := f.do("PATCH", logPatternsPath+"/none", `{"name": "x"}`); rec.Code != http.StatusNotFound {
		t.Errorf("an unknown id: status %d", rec.Code)
	}
	first := f.do("PATCH", path, `{"name": "again"}`, "Idempotency-Key", "k1")
	if second := f.do("PATCH", path, `{"name": "again"}`, "Idempotency-Key", "k1"); second.Body.String() != first.Body.String() {
		t.Error("a repeated request has another answer")
	}
}

func TestAnalyzeLogs(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for body, want := range map[string]int{
		``: http.StatusAccepted,
		`{"selector": "{service=\"cart\"}", "from": "2026-11-08T00:00:00Z", "to": "2026-11-08T01:00:00Z"}`: http.StatusAccepted,
		`{"source": "free", "selector": "{app=\"a\"} |= \"b\""}`:                                           http.StatusAccepted,
		`{"selector": "service"}`: http.StatusBadRequest,
		`{"source": "none"}`:      http.StatusNotFound,
		`{"from": "2026-11-08T02:00:00Z", "to": "2026-11-08T01:00:00Z"}`: http.StatusUnprocessableEntity,
		`{"from": "2020-11-08T02:00:00Z"}`:                               http.StatusUnprocessableEntity,
	} {
		if rec := f.do("POST", logAnalyzePath, body); rec.Code != want {
			t.Errorf("%s: status %d, want %d: %s", body, rec.Code, want, rec.Body)
		}
	}
	task := decode[Task](t, f.do("POST", logAnalyzePath, ""))
	result, err := TaskFuncs(trainerFake{}, analyzerFake{})[task.Kind](context.Background(), f.world.tasks[task.ID], func(float64) {})
	must(t, err)
	text, err := json.Marshal(result)
	must(t, err)
	if !strings.Contains(string(text), `"p50_seconds":1`) || !utf8.Valid(text) {
		t.Errorf("%s", text)
	}
	if _, err := TaskFuncs(trainerFake{}, analyzerFake{model.Errorf(model.KindQuery, "", "x")})[task.Kind](context.Background(), f.world.tasks[task.ID], func(float64) {}); model.KindOf(err) != model.KindQuery {
		t.Errorf("%v", err)
	}
}

func TestDetectorsOnLogs(t *testing.T) {
	t.Parallel()
	f := setup(t, func(o *Options) { o.DefaultDetector, o.ValidateDetector = pipeline.Defaults, pipeline.Validate })
	made := f.do("POST", "/api/v1/detectors", `{"name": "new lines", "signal": "logs", "query": "{service=\"cart\"}", "log": {"kind": "new_template"}}`)
	d := decode[Detector](t, made)
	if made.Code != http.StatusCreated || d.Signal != "logs" || d.Model != "surprise" || d.Direction != "above" || d.Log == nil || d.Log.Kind != "new_template" {
		t.Fatalf("status %d: %s", made.Code, made.Body)
	}
	patched := decode[Detector](t, f.do("PATCH", "/api/v1/detectors/"+d.ID, `{"log": {"severity": "critical"}}`))
	if patched.Log == nil || patched.Log.Severity != "critical" || patched.Log.Kind != "new_template" {
		t.Errorf("patched: %+v", patched)
	}
	for body, want := range map[string]string{
		`{"name": "a", "signal": "logs", "query": "{}"}`:                                                           "/log",
		`{"name": "a", "signal": "metrics", "query": "up", "log": {"kind": "rate"}}`:                               "/log",
		`{"name": "a", "query": "{}", "log": {"kind": "pattern"}}`:                                                 "/log/pattern",
		`{"name": "a", "query": "{}", "log": {"kind": "pattern", "pattern": "("}}`:                                 "/log/pattern",
		`{"name": "a", "query": "{}", "log": {"kind": "rate", "pattern": "x"}}`:                                    "/log/pattern",
		`{"name": "a", "query": "{}", "log": {"kind": "loud"}}`:                                                    "/log/kind",
		`{"name": "a", "query": "{}", "log": {"kind": "template", "template": "x"}}`:                               "/log/template",
		`{"name": "a", "query": "{}", "log": {"kind": "rate"}, "step": "7s"}`:                                      "/step",
		`{"name": "a", "query": "{}", "log": {"kind": "pattern", "pattern": "` + strings.Repeat("x", 1025) + `"}}`: "/log/pattern",
	} {
		rec := f.do("POST", "/api/v1/detectors", body)
		if rec.Code != http.StatusUnprocessableEntity || !strings.Contains(rec.Body.String(), `"pointer":"`+want+`"`) {
			t.Errorf("%.80s: status %d: %s", body, rec.Code, rec.Body)
		}
	}
	if rec := f.do("POST", "/api/v1/detectors", `{"name": "b", "query": "rate(up[5m])", "log": {"kind": "rate"}}`); rec.Code != http.StatusBadRequest {
		t.Errorf("PromQL for streams: status %d: %s", rec.Code, rec.Body)
	}
}

func TestWithoutLogs(t *testing.T) {
	t.Parallel()
	f := setup(t, func(o *Options) { o.Logs = nil })
	for _, path := range []string{logPatternsPath, logPatternsPath + "/" + testPattern, logLinesPath} {
		if rec := f.do("GET", path, ""); rec.Code != http.StatusConflict {
			t.Errorf("%s: status %d", path, rec.Code)
		}
	}
}
