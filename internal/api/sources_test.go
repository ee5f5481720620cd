package api

import (
	"strings"
	"testing"

	"aiops/internal/model"
)

func TestSecretsAreWriteOnly(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, target := range []string{"/api/v1/sources", "/api/v1/sources/src_main"} {
		text := f.do("GET", target, "").Body.String()
		if strings.Contains(text, "canary") || strings.Contains(text, "<secret>") || !strings.Contains(text, `"password_set":true`) || !strings.Contains(text, `"header_names":["X-Scope-OrgID"]`) {
			t.Errorf("%s: %s", target, text)
		}
	}
	put := func(body string) (model.Source, string) {
		t.Helper()
		rec := f.do("PUT", "/api/v1/sources/src_main", body)
		if rec.Code != 200 {
			t.Fatalf("%s: %d %s", body, rec.Code, rec.Body.String())
		}
		return f.world.sources["src_main"], rec.Body.String()
	}
	const head = `{"name": "main", "type": "prometheus", "url": "http://prometheus:9090"`
	s, text := put(head + `}`)
	if s.Auth.Password.Reveal() != "hunter2-canary" || s.Auth.Username != "reader" || s.Headers["X-Scope-OrgID"].Reveal() != "tenant-canary" || strings.Contains(text, "canary") {
		t.Errorf("left out: %+v %s", s, text)
	}
	if s, _ = put(head + `, "auth": {"username": "writer"}, "headers": {"X-Scope-OrgID": null, "X-New": "v"}}`); s.Auth.Password.Reveal() != "hunter2-canary" || s.Auth.Username != "writer" ||
		s.Headers["X-Scope-OrgID"].Reveal() != "tenant-canary" || s.Headers["X-New"].Reveal() != "v" {
		t.Errorf("kept in part: %+v", s)
	}
	if s, _ = put(head + `, "headers": {}}`); len(s.Headers) != 0 {
		t.Errorf("headers removed: %+v", s)
	}
	if s, _ = put(head + `, "auth": {"bearer_token": "tok"}}`); s.Auth.BearerToken.Reveal() != "tok" || s.Auth.Password != "" || s.Auth.Username != "" {
		t.Errorf("a token replaces a password: %+v", s)
	}
	if s, _ = put(head + `, "auth": {}}`); s.Auth.BearerToken.Reveal() != "tok" {
		t.Errorf("a token left out: %+v", s)
	}
	if s, _ = put(head + `, "auth": {"username": "u", "password": "p"}}`); s.Auth.BearerToken != "" || s.Auth.Password.Reveal() != "p" {
		t.Errorf("a password replaces a token: %+v", s)
	}
	if s, _ = put(head + `, "auth": {"username": "u", "password": ""}}`); s.Auth.Password != "" {
		t.Errorf("an empty password removes it: %+v", s)
	}
}

// TestSecretsDoNotFollowTheAddress: whoever may change a source must not be
// able to send its secrets to a host of their own.
func TestSecretsDoNotFollowTheAddress(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, body := range []string{
		`{"name": "main", "type": "prometheus", "url": "http://evil:9090"}`,
		`{"name": "main", "type": "prometheus", "url": "http://evil:9090", "auth": {"username": "reader"}, "headers": {}}`,
		`{"name": "main", "type": "prometheus", "url": "http://prometheus:9091", "auth": {"username": "", "password": ""}, "headers": {"X-Scope-OrgID": null}}`,
		`{"name": "main", "type": "prometheus", "url": "https://prometheus:9090"}`,
	} {
		p := wantProblem(t, f.do("PUT", "/api/v1/sources/src_main", body), 422, CodeValidation)
		if len(p.Errors) != 1 || p.Errors[0].Code != "secret_required" {
			t.Errorf("%s: %+v", body, p.Errors)
		}
	}
	if rec := f.do("PUT", "/api/v1/sources/src_main", `{"name": "main", "type": "prometheus", "url": "http://new:9090", "auth": {"username": "reader", "password": "again"}, "headers": {}}`); rec.Code != 200 {
		t.Errorf("%d %s", rec.Code, rec.Body.String())
	}
	if rec := f.do("PUT", "/api/v1/sources/src_main", `{"name": "main", "type": "prometheus", "url": "http://new:9090/prometheus/"}`); rec.Code != 200 {
		t.Errorf("a path is no other address: %d %s", rec.Code, rec.Body.String())
	}
}

func TestSourceFaults(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, c := range []struct{ fields, pointer, code string }{
		{`"url": "ftp://x"`, "/url", "url"}, {`"url": "prometheus:9090"`, "/url", "url"}, {`"url": "http://u:p@x"`, "/url", "credentials"}, {`"url": "http://x?a=b"`, "/url", "url"},
		{`"url": "http://x", "late_data": "2h"`, "/late_data", "out_of_range"}, {`"url": "http://x", "timeout": "6m"`, "/timeout", "out_of_range"},
		{`"url": "http://x", "headers": {"Authorization": "x"}`, "/headers/Authorization", "header"}, {`"url": "http://x", "headers": {"A B": "x"}`, "/headers/A B", "header"},
		{`"url": "http://x", "headers": {"A": "x\ny"}`, "/headers/A", "header"}, {`"url": "http://x", "headers": {"A": null}`, "/headers/A", "required"},
		{`"url": "http://x", "auth": {"username": "u", "bearer_token": "t"}`, "/auth", "one_of"}, {`"url": "http://x", "tls": {"cert_file": "a"}`, "/tls/key_file", "required"},
	} {
		p := wantProblem(t, f.do("POST", "/api/v1/sources", `{"name": "new", "type": "prometheus", `+c.fields+`}`), 422, CodeValidation)
		if len(p.Errors) != 1 || p.Errors[0].Pointer != c.pointer || p.Errors[0].Code != c.code {
			t.Errorf("%s: %+v", c.fields, p.Errors)
		}
	}
	wantProblem(t, f.do("POST", "/api/v1/sources", `{"name": "new", "type": "builtin", "url": "http://x"}`), 422, CodeValidation)
	wantProblem(t, f.do("POST", "/api/v1/sources", `{"name": "main", "type": "loki", "url": "http://x"}`), 409, CodeConflict)
	wantProblem(t, f.do("DELETE", "/api/v1/sources/src_main", ""), 409, CodeConflict)
	wantProblem(t, f.do("PUT", "/api/v1/sources/src_main", `{"name": "renamed", "type": "prometheus", "url": "http://prometheus:9090"}`), 409, CodeConflict)
	if rec := f.do("DELETE", "/api/v1/sources/src_free", ""); rec.Code != 204 {
		t.Errorf("%d %s", rec.Code, rec.Body.String())
	}
}

func TestSourceLiveSide(t *testing.T) {
	t.Parallel()
	f := setup(t)
	s := decode[map[string]any](t, f.do("GET", "/api/v1/sources/builtin", ""))
	if h := s["health"].(map[string]any); s["name"] != "builtin" || h["state"] != "up" || h["latency_ms"] != 12.0 {
		t.Errorf("%v", s)
	}
	if h := decode[SourceHealth](t, f.do("POST", "/api/v1/sources/src_main/test", "")); h.State != "down" || h.LastError == "" {
		t.Errorf("%+v", h)
	}
	if l := decode[CollectorList](t, f.do("GET", "/api/v1/sources/src_main/collectors", "")); len(l.Items) != 2 || l.Items[1].State != "unknown" || l.Items[1].LastScrape != nil {
		t.Errorf("%+v", l)
	}
}

func TestQuerySpan(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ask := func(body string) map[string]any {
		t.Helper()
		rec := f.do("POST", "/api/v1/sources/src_main/query", body)
		if rec.Code != 200 {
			t.Fatalf("%s: %d %s", body, rec.Code, rec.Body.String())
		}
		return decode[map[string]any](t, rec)
	}
	one := ask(`{"query": "up"}`)
	points := one["series"].([]any)[0].(map[string]any)["points"].([]any)
	if one["step_seconds"] != 0.0 || len(points) != 1 || points[0].(map[string]any)["t"] != "2026-11-08T12:00:00Z" || points[0].(map[string]any)["value"] != nil {
		t.Errorf("%v", one)
	}
	span := ask(`{"query": "up", "from": "2026-11-08T00:00:13Z", "to": "2026-11-08T00:10:00Z", "step": "1m"}`)
	points = span["series"].([]any)[0].(map[string]any)["points"].([]any)
	if span["step_seconds"] != 60.0 || len(points) != 11 || points[0].(map[string]any)["t"] != "2026-11-08T00:00:00Z" {
		t.Errorf("%v", span)
	}
	if span = ask(`{"query": "up", "from": "2026-11-07T12:00:00Z"}`); span["step_seconds"] != 346.0 {
		t.Errorf("the default step is %v", span["step_seconds"])
	}
	for _, body := range []string{`{"query": "up", "step": "1m"}`, `{"query": "up", "time": "2026-11-08T00:00:00Z", "from": "2026-11-07T00:00:00Z"}`, `{"query": "up", "from": "2026-11-09T00:00:00Z"}`,
		`{"query": "up", "from": "2026-11-07T00:00:00Z", "step": "1ms"}`, `{"query": ""}`, `{"query": "up", "limit": 5000}`} {
		wantProblem(t, f.do("POST", "/api/v1/sources/src_main/query", body), 422, CodeValidation)
	}
	wantProblem(t, f.do("POST", "/api/v1/sources/src_main/query", `{"query": "up", "from": "2026-01-01T00:00:00Z", "step": "1s"}`), 400, CodeQuery)
}

// TestEmbeddedSource: the embedded source is there although nobody stored it,
// until its client is not.
func TestEmbeddedSource(t *testing.T) {
	t.Parallel()
	f := setup(t, realDefinitions)
	delete(f.world.sources, "src_builtin")
	l := decode[SourceList](t, f.do("GET", "/api/v1/sources", ""))
	if s := l.Items[0]; len(l.Items) != 4 || s.ID != "builtin" || s.Name != "builtin" || s.Type != "builtin" || !s.Provisioned || s.Health.State != "up" {
		t.Errorf("%+v", l.Items)
	}
	for _, target := range []string{"", "/health", "/collectors"} {
		if rec := f.do("GET", "/api/v1/sources/builtin"+target, ""); rec.Code != 200 {
			t.Errorf("%s: %d %s", target, rec.Code, rec.Body.String())
		}
	}
	if rec := f.do("POST", "/api/v1/detectors", `{"name": "on builtin", "query": "x", "source": "builtin"}`); rec.Code != 201 {
		t.Errorf("%d %s", rec.Code, rec.Body.String())
	}
	wantProblem(t, f.do("DELETE", "/api/v1/sources/builtin", ""), 409, CodeConflict)
	off := setup(t, func(o *Options) { o.Clients = noEmbedded{o.Clients} })
	delete(off.world.sources, "src_builtin")
	if l := decode[SourceList](t, off.do("GET", "/api/v1/sources", "")); len(l.Items) != 3 {
		t.Errorf("%+v", l.Items)
	}
	wantProblem(t, off.do("GET", "/api/v1/sources/builtin", ""), 404, CodeNotFound)
}

type noEmbedded struct{ SourceClients }

func (noEmbedded) Health(name string) (model.SourceHealth, bool) {
	return model.SourceHealth{}, name != model.BuiltinSource
}
