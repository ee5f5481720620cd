package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"aiops/internal/health"
	"aiops/internal/model"
)

// nesting is how deep in values are nested, and whether in is JSON; written
// apart from checkJSON to judge it.
func nesting(in []byte) (depth int, valid bool) {
	if !json.Valid(in) {
		return 0, false
	}
	level, text, escaped := 0, false, false
	for _, c := range in {
		switch {
		case escaped:
			escaped = false
		case text:
			escaped, text = c == '\\', c != '"'
		case c == '"':
			text = true
		case c == '{' || c == '[':
			level++
			depth = max(depth, level)
		case c == '}' || c == ']':
			level--
		}
	}
	return depth, true
}

func (p panicAnomalies) ResolveAnomaly(context.Context, string, string, time.Time, int64) (model.Anomaly, error) {
	panic("on purpose")
}

func TestProbes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, target := range []string{"/livez", "/alive", "/readyz", "/ready", "/startupz", "/readyz?anything=1", "/livez?%zz"} {
		if rec := f.do("GET", target, ""); rec.Code != 200 || rec.Body.String() != "{\"status\":\"ok\"}\n" {
			t.Errorf("%s: %d %s", target, rec.Code, rec.Body.String())
		}
	}
	for _, target := range []string{"/readyz?verbose", "/readyz?verbose=true", "/readyz?x=1&verbose"} {
		if got := strings.Join(decode[Probe](t, f.do("GET", target, "")).Checks, ";"); got != "[+]database ok;[+]prometheus ok" {
			t.Errorf("%s: %s", target, got)
		}
	}
	for _, state := range []health.State{health.Unhealthy, health.Unknown} {
		f.world.health[0].Status = state
		p := wantProblem(t, f.do("GET", "/readyz", ""), 503, CodeServiceUnavailable)
		if !strings.Contains(p.Detail, "database") {
			t.Errorf("%+v", p)
		}
		wantProblem(t, f.do("GET", "/readyz/database", ""), 503, CodeServiceUnavailable)
		if rec := f.do("GET", "/readyz/prometheus", ""); rec.Code != 200 {
			t.Errorf("a component that is not critical: %d", rec.Code)
		}
		wantProblem(t, f.do("GET", "/readyz/none", ""), 404, CodeNotFound)
		if rec := f.do("GET", "/readyz?exclude=database", ""); rec.Code != 200 {
			t.Errorf("excluded: %d", rec.Code)
		}
		if rec := f.do("GET", "/livez", ""); rec.Code != 200 {
			t.Errorf("alive depends on the database: %d", rec.Code)
		}
	}
	f.world.health[0].Status = health.Degraded
	f.world.health[1].Status = health.Unhealthy
	if rec := f.do("GET", "/readyz", ""); rec.Code != 200 {
		t.Errorf("what is not critical makes the program not ready: %d", rec.Code)
	}
	starting := setup(t, func(o *Options) { o.Started = func() bool { return false } })
	wantProblem(t, starting.do("GET", "/startupz", ""), 503, CodeServiceUnavailable)
	wantProblem(t, starting.do("GET", "/readyz", ""), 503, CodeServiceUnavailable)
	stopping := setup(t, func(o *Options) {
		o.Ready = func() error { return errors.New("canary: draining") }
		o.Alive = func() error { return errors.New("canary: wedged") }
	})
	for target, status := range map[string]int{"/readyz": 503, "/livez": 500} {
		rec := stopping.do("GET", target, "")
		if rec.Code != status || strings.Contains(rec.Body.String(), "canary") {
			t.Errorf("%s: %d %s", target, rec.Code, rec.Body.String())
		}
	}
}

func TestHealthReport(t *testing.T) {
	t.Parallel()
	f := setup(t)
	h := decode[Health](t, f.do("GET", "/health", ""))
	if h.Status != "degraded" || len(h.Components) != 2 || h.Components["database"].Details != nil || h.History != nil || !h.Components["database"].Critical {
		t.Errorf("%+v", h)
	}
	h = decode[Health](t, f.do("GET", "/health?verbose&exclude=prometheus", ""))
	if h.Status != "healthy" || len(h.Components) != 1 || h.Components["database"].Details["rows"] != 1.0 || len(h.History) != 1 {
		t.Errorf("%+v", h)
	}
	if c := decode[ComponentHealth](t, f.do("GET", "/health/prometheus", "")); c.Status != "degraded" || c.Message != "slow" {
		t.Errorf("%+v", c)
	}
	wantProblem(t, f.do("GET", "/health/moon", ""), 404, CodeNotFound)
	f.world.health[0].Status = health.Unhealthy
	if rec := f.do("GET", "/health", ""); rec.Code != 200 || decode[Health](t, rec).Status != "unhealthy" {
		t.Errorf("%d %s", rec.Code, rec.Body.String())
	}
	if rec := setup(t, func(o *Options) { o.Health = nil }).do("GET", "/health", ""); rec.Code != 200 {
		t.Errorf("without a monitor: %d", rec.Code)
	}
}

// TestHealthCheck is the health in the words of the draft.
func TestHealthCheck(t *testing.T) {
	t.Parallel()
	f := setup(t)
	rec := f.do("GET", "/api/v1/health", "")
	h := decode[HealthCheck](t, rec)
	if rec.Code != 200 || rec.Header().Get("Content-Type") != "application/health+json" || h.Status != "warn" || len(h.Checks) != 2 {
		t.Errorf("%d %v %+v", rec.Code, rec.Header(), h)
	}
	if c := h.Checks["database:responseTime"]; len(c) != 1 || c[0].Status != "pass" || c[0].ComponentType != "datastore" || c[0].Output != "" || c[0].Time == nil {
		t.Errorf("the database: %+v", c)
	}
	if c := h.Checks["prometheus:responseTime"]; len(c) != 1 || c[0].Status != "warn" || c[0].Output != "slow" {
		t.Errorf("a slow source: %+v", c)
	}
	if h := decode[HealthCheck](t, f.do("GET", "/api/v1/health?exclude=prometheus", "")); h.Status != "pass" || len(h.Checks) != 1 {
		t.Errorf("without it: %+v", h)
	}
	f.world.health[0].Status = health.Unhealthy
	if p := wantProblem(t, f.do("GET", "/api/v1/health", ""), 503, CodeServiceUnavailable); !p.Retryable {
		t.Errorf("with a broken database: %+v", p)
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	none := setup(t)
	wantProblem(t, none.do("POST", "/-/reload", ""), 409, CodeConflict)
	var called int
	f := setup(t, func(o *Options) {
		o.Reload = func(context.Context) error {
			called++
			if called > 1 {
				return &model.Error{Kind: model.KindInvalid, Message: "aiops.yaml:3:5: unknown key.", Fields: []model.FieldError{{Pointer: "/detectors/0/nme", Code: "unknown_field", Detail: "unknown key"}}}
			}
			return nil
		}
	})
	if rec := f.do("POST", "/-/reload", ""); rec.Code != 204 || rec.Body.Len() != 0 {
		t.Errorf("%d %s", rec.Code, rec.Body.String())
	}
	if p := wantProblem(t, f.do("POST", "/-/reload", ""), 422, CodeValidation); len(p.Errors) != 1 {
		t.Errorf("%+v", p)
	}
}

func TestLogLevel(t *testing.T) {
	t.Parallel()
	level := new(slog.LevelVar)
	f := setup(t, func(o *Options) { o.LogLevel = level })
	if rec := f.do("GET", "/api/v1/log-level", ""); rec.Code != 200 || strings.TrimSpace(rec.Body.String()) != `{"level":"info"}` {
		t.Errorf("%d %s", rec.Code, rec.Body.String())
	}
	if rec := f.do("PUT", "/api/v1/log-level", `{"level":"debug"}`); rec.Code != 200 || level.Level() != slog.LevelDebug {
		t.Errorf("%d, level %s", rec.Code, level.Level())
	}
	wantProblem(t, f.do("PUT", "/api/v1/log-level", `{"level":"loud"}`), 422, CodeValidation)
	if level.Level() != slog.LevelDebug {
		t.Errorf("a wrong level changed it to %s", level.Level())
	}
	fixed := setup(t, func(o *Options) { o.LogLevel = nil })
	wantProblem(t, fixed.do("GET", "/api/v1/log-level", ""), 409, CodeConflict)
	wantProblem(t, fixed.do("PUT", "/api/v1/log-level", `{"level":"info"}`), 409, CodeConflict)
}

func TestDeploymentAndMetrics(t *testing.T) {
	t.Parallel()
	f := setup(t, func(o *Options) {
		o.Deployment = func() Deployment {
			return Deployment{Version: "1.2.3", Limits: map[string]any{"series": 5}, StartedAt: testTime}
		}
		o.Metrics = http.HandlerFunc(plainMetrics)
	})
	if d := decode[Deployment](t, f.do("GET", "/api/deployment", "")); d.Version != "1.2.3" || d.Features == nil || d.Limits["series"] != 5.0 {
		t.Errorf("%+v", d)
	}
	if rec := f.do("GET", "/metrics", ""); rec.Code != 200 || rec.Body.String() != "up 1\n" {
		t.Errorf("%d %s", rec.Code, rec.Body.String())
	}
	wantProblem(t, setup(t).do("GET", "/metrics", ""), 404, CodeNotFound)
}

// TestModelsWithoutAStore: what cannot be done is refused, not pretended.
func TestModelsWithoutAStore(t *testing.T) {
	t.Parallel()
	f := setup(t, func(o *Options) { o.Models, o.Shadows = nil, nil })
	if l := decode[ModelVersionList](t, f.do("GET", "/api/v1/detectors/det_1/models", "")); l.Items == nil || len(l.Items) != 0 {
		t.Errorf("%+v", l)
	}
	for _, c := range [][2]string{{"/models/1/promote", ""}, {"/models/rollback", ""}, {"/shadow", `{"version": 1}`}} {
		wantProblem(t, f.do("POST", "/api/v1/detectors/det_1"+c[0], c[1]), 409, CodeConflict)
	}
	with := setup(t)
	if v := decode[ModelVersion](t, with.do("POST", "/api/v1/detectors/det_1/models/rollback", "")); v.Version != 1 || v.State != "active" {
		t.Errorf("%+v", v)
	}
	wantProblem(t, with.do("POST", "/api/v1/detectors/det_1/models/9/promote", ""), 404, CodeNotFound)
}

func TestDocumentIsTheSameAsServed(t *testing.T) {
	t.Parallel()
	own, err := Document()
	must(t, err)
	served := setup(t, func(o *Options) { o.Version = "1" }).do("GET", "/api/openapi.json", "").Body.Bytes()
	if !bytes.Equal(own, served) {
		t.Error("Document differs from what a server of that version serves")
	}
}

func BenchmarkNew(b *testing.B) {
	opts := newWorld().options()
	for b.Loop() {
		if _, err := New(opts); err != nil {
			b.Fatal(err)
		}
	}
}

func TestStarting(t *testing.T) {
	t.Parallel()
	f := &fixture{t: t, h: Starting(nil)}
	for _, target := range []string{"/livez", "/alive"} {
		if rec := f.do("GET", target, ""); rec.Code != 200 || rec.Header().Get("X-Request-Id") == "" {
			t.Errorf("%s: %d", target, rec.Code)
		}
	}
	for _, target := range []string{"/readyz", "/startupz", "/api/v1/detectors", "/"} {
		if rec := f.do("GET", target, ""); rec.Header().Get("Retry-After") != "1" {
			t.Errorf("%s: %v", target, rec.Header())
		}
		wantProblem(t, f.do("GET", target, ""), 503, CodeServiceUnavailable)
	}
}

func BenchmarkGetDetectors(b *testing.B) {
	h, err := New(newWorld().options())
	if err != nil {
		b.Fatal(err)
	}
	req := httptest.NewRequest("GET", "/api/v1/detectors", nil)
	req.Host = "localhost"
	for b.Loop() {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		if rec.Code != 200 {
			b.Fatal(rec.Code)
		}
	}
}
