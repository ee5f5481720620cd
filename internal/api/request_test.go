package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"aiops/internal/model"
)

// logged collects log lines as maps.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) lines(t *testing.T) []map[string]any {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []map[string]any
	for line := range strings.Lines(l.text.String()) {
		var v map[string]any
		must(t, json.Unmarshal([]byte(line), &v))
		out = append(out, v)
	}
	return out
}

func withLog(l *logged) func(*Options) {
	return func(o *Options) {
		o.Logger = slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
}

func TestRequestIdentity(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	rec := f.do("GET", "/api/v1/errors", "", "X-Request-Id", "client-id.42", "Traceparent", parent)
	if got := rec.Header().Get("X-Request-Id"); got != "client-id.42" {
		t.Errorf("request id %q", got)
	}
	got := rec.Header().Get("Traceparent")
	if !strings.HasPrefix(got, parent[:36]) || !strings.HasSuffix(got, "-01") || got == parent {
		t.Errorf("traceparent %q does not continue %q", got, parent)
	}
	for _, bad := range []string{"", "short", strings.Repeat("x", 129), "with space", "new\nline", "<script>alert(1)</script>", "ümlaut-id"} {
		rec := f.do("GET", "/api/v1/errors", "", "X-Request-Id", bad)
		if got := rec.Header().Get("X-Request-Id"); got == bad || !strings.HasPrefix(got, "req_") {
			t.Errorf("%q is answered with %q", bad, got)
		}
	}
	for _, bad := range []string{"", "00", strings.ToUpper(parent), "ff" + parent[2:], "00-" + strings.Repeat("0", 32) + parent[35:], parent[:36] + strings.Repeat("0", 16) + "-01", parent + "-x", strings.Replace(parent, "-", "_", 3)} {
		got := traceparent(bad)
		if len(got) != 55 || strings.HasPrefix(got, parent[:36]) {
			t.Errorf("%q is continued as %q", bad, got)
		}
	}
	if got := traceparent("01" + parent[2:] + "-future"); !strings.HasPrefix(got, parent[:36]) {
		t.Errorf("a later version is not continued: %q", got)
	}
}

// Who asks for a parameter that does not exist is told those that do.
func TestUnknownParameterNamesTheOthers(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for path, want := range map[string]string{
		"/api/v1/logs/lines?query=x": "there is no such parameter; use contains, cursor, from, level, limit, order, selector, source, template, to",
		"/api/v1/logs/patterns?q=x":  "",
	} {
		rec := f.do("GET", path, "")
		var p struct {
			Errors []struct{ Code, Detail string }
		}
		must(t, json.Unmarshal(rec.Body.Bytes(), &p))
		switch {
		case want == "" && rec.Code != http.StatusOK:
			t.Errorf("%s gave %d %s", path, rec.Code, rec.Body)
		case want != "" && (rec.Code != http.StatusUnprocessableEntity || len(p.Errors) != 1 || p.Errors[0].Detail != want):
			t.Errorf("%s gave %d %s", path, rec.Code, rec.Body)
		}
	}
}

func TestAccessLog(t *testing.T) {
	t.Parallel()
	var l logged
	var seen []Request
	f := setup(t, withLog(&l), func(o *Options) {
		o.OnRequest = func(_ context.Context, r Request) { seen = append(seen, r) }
	})
	f.do("GET", "/api/v1/detectors/det_1", "", "X-Request-Id", "request-1")
	f.do("GET", "/livez", "")
	f.do("POST", "/api/v1/anomalies/an_1/acknowledge", "")
	f.do("GET", "/api/v1/wp-login.php", "")
	f.do("GET", "/some/page", "")
	f.world.fail = model.WrapError(model.KindDatabase, "", errors.New("disk I/O error"), "The database failed.")
	f.do("GET", "/api/v1/detectors/det_1", "")
	lines := l.lines(t)
	want := []struct {
		class, route, level string
		status              float64
	}{
		{"read", "/api/v1/detectors/{id}", "INFO", 200}, {"probe", "/livez", "DEBUG", 200}, {"control", "/api/v1/anomalies/{id}/acknowledge", "INFO", 200},
		{"read", "unmatched", "INFO", 404}, {"ui", "/*", "INFO", 200}, {"read", "/api/v1/detectors/{id}", "WARN", 500},
	}
	if len(lines) != len(want) || len(seen) != len(want) {
		t.Fatalf("%d lines, %d calls, want %d", len(lines), len(seen), len(want))
	}
	for i, w := range want {
		line := lines[i]
		if line["class"] != w.class || line["route"] != w.route || line["level"] != w.level || line["status"] != w.status || line["client"] != "192.0.2.1" {
			t.Errorf("line %d: %v, want %+v", i, line, w)
		}
		for _, key := range []string{"duration_ms", "bytes", "request_id", "traceparent", "method"} {
			if line[key] == nil {
				t.Errorf("line %d lacks %s", i, key)
			}
		}
		if seen[i].Route != w.route || string(seen[i].Class) != w.class {
			t.Errorf("call %d: %+v", i, seen[i])
		}
	}
	if lines[0]["request_id"] != "request-1" {
		t.Errorf("the request id is not in the log: %v", lines[0])
	}
	if cause, _ := lines[5]["err"].(string); !strings.Contains(cause, "disk I/O error") {
		t.Errorf("the cause is not in the log: %v", lines[5])
	}
}

func TestPanicIsAnswered(t *testing.T) {
	t.Parallel()
	var l logged
	var routes []string
	f := setup(t, withLog(&l), func(o *Options) { o.OnPanic = func(r string) { routes = append(routes, r) } })
	f.world.panics = true
	rec := f.do("GET", "/api/v1/detectors/det_1/replay", "")
	wantProblem(t, rec, 500, CodeInternal)
	if strings.Contains(rec.Body.String(), "canary") || strings.Contains(rec.Body.String(), "goroutine") {
		t.Errorf("the answer tells internals: %s", rec.Body.String())
	}
	if len(routes) != 1 || routes[0] != "/api/v1/detectors/{id}/replay" {
		t.Errorf("counted as %v", routes)
	}
	stacks := 0
	for _, line := range l.lines(t) {
		if stack, _ := line["stack"].(string); stack != "" {
			stacks++
			if line["panic"] != "the engine broke: canary-panic" || !strings.Contains(stack, "engineFake") || line["request_id"] != rec.Header().Get("X-Request-Id") {
				t.Errorf("the line of the panic: %v", line)
			}
		}
	}
	if stacks != 1 {
		t.Errorf("%d stacks in the log, want 1", stacks)
	}
}

func TestClientThatLeft(t *testing.T) {
	t.Parallel()
	var l logged
	f := setup(t, withLog(&l))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	req := httptest.NewRequest("GET", "/api/v1/detectors/det_1/replay", nil).WithContext(ctx)
	req.Host = "localhost"
	f.h.ServeHTTP(httptest.NewRecorder(), req)
	if lines := l.lines(t); len(lines) != 1 || lines[0]["status"] != float64(statusClientGone) || lines[0]["level"] != "INFO" {
		t.Errorf("log: %v", lines)
	}
}

func TestSecurityHeaders(t *testing.T) {
	t.Parallel()
	f := setup(t, func(o *Options) { o.UI = builtPages() })
	for _, target := range []string{"/", "/some/page", "/assets/app-1a2b.js", "/missing.png", "/api/docs", "/api/docs/page.js", "/api/openapi.json", "/api/v1/detectors", "/api/v1/detectors/none", "/api/v1/nothing", "/livez", "/metrics"} {
		h := f.do("GET", target, "").Header()
		csp := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: the policy %q lacks %s", target, csp, want)
			}
		}
		if strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") || strings.Contains(csp, "http") {
			t.Errorf("%s: the policy is weak: %s", target, csp)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") == "" || h.Get("Strict-Transport-Security") != "" || h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: headers %v", target, h)
		}
	}
	req := httptest.NewRequest("GET", "/api/v1/errors", nil)
	req.Host, req.TLS = "localhost", &tls.ConnectionState{}
	rec := httptest.NewRecorder()
	f.h.ServeHTTP(rec, req)
	if rec.Header().Get("Strict-Transport-Security") == "" {
		t.Error("no HSTS over TLS")
	}
}

func TestForeignRequestsAreRefused(t *testing.T) {
	t.Parallel()
	guarded := setup(t, func(o *Options) { o.Guarded, o.Hosts = true, []string{"Aiops.Example"} })
	open := setup(t)
	for _, c := range []struct {
		f       *fixture
		method  string
		host    string
		headers []string
		allowed bool
	}{
		{guarded, "GET", "localhost:8080", nil, true}, {guarded, "GET", "127.0.0.1:8080", nil, true}, {guarded, "GET", "[::1]:8080", nil, true}, {guarded, "GET", "127.9.9.9", nil, true},
		{guarded, "GET", "aiops.example:8080", nil, true}, {guarded, "GET", "LOCALHOST.", nil, true}, {guarded, "GET", "app.localhost", nil, true},
		{guarded, "GET", "evil.example", nil, false}, {guarded, "GET", "localhost.evil.example", nil, false}, {guarded, "GET", "127.0.0.1.evil.example:8080", nil, false},
		{guarded, "GET", "192.168.1.4:8080", nil, false}, {guarded, "GET", "notlocalhost", nil, false},
		{guarded, "POST", "evil.example", []string{"Origin", "http://evil.example"}, false},
		{open, "POST", "aiops.internal", nil, true}, {open, "POST", "aiops.internal", []string{"Sec-Fetch-Site", "same-origin"}, true},
		{open, "POST", "aiops.internal", []string{"Sec-Fetch-Site", "cross-site"}, false}, {open, "POST", "aiops.internal", []string{"Sec-Fetch-Site", "same-site"}, false},
		{open, "POST", "aiops.internal", []string{"Origin", "https://evil.example"}, false}, {open, "POST", "aiops.internal", []string{"Origin", "null"}, false},
		{open, "GET", "aiops.internal", []string{"Sec-Fetch-Site", "cross-site"}, true},
	} {
		target := "/api/v1/detectors/det_1/start"
		if c.method == "GET" {
			target = "/api/v1/detectors"
		}
		req := httptest.NewRequest(c.method, target, nil)
		req.Host = c.host
		for i := 0; i+1 < len(c.headers); i += 2 {
			req.Header.Set(c.headers[i], c.headers[i+1])
		}
		rec := httptest.NewRecorder()
		c.f.h.ServeHTTP(rec, req)
		if c.allowed && rec.Code != http.StatusOK {
			t.Errorf("%s with Host %s %v: %d %s", c.method, c.host, c.headers, rec.Code, rec.Body.String())
		}
		if !c.allowed {
			wantProblem(t, rec, http.StatusForbidden, CodeForbidden)
		}
	}
}

func TestMethodNotAllowedNamesMethods(t *testing.T) {
	t.Parallel()
	f := setup(t)
	rec := f.do("POST", "/api/v1/detectors/det_1", "{}")
	wantProblem(t, rec, 405, CodeMethodNotAllowed)
	if got := rec.Header().Get("Allow"); got != "GET, HEAD, PUT, PATCH, DELETE" {
		t.Errorf("Allow: %q", got)
	}
	for _, m := range []string{"OPTIONS", "TRACE", "BREW"} {
		wantProblem(t, f.do(m, "/api/v1/detectors", ""), 405, CodeMethodNotAllowed)
	}
	wantProblem(t, f.do("POST", "/nothing/here", ""), 404, CodeNotFound)
	wantProblem(t, f.do("GET", "/api/v1/detectors/", ""), 404, CodeNotFound)
}

func TestHead(t *testing.T) {
	t.Parallel()
	f := setup(t)
	server := httptest.NewServer(f.h)
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}} // else only GET asks for it
	defer client.CloseIdleConnections()
	get, err := client.Get(server.URL + "/api/v1/detectors")
	must(t, err)
	defer get.Body.Close()
	head, err := client.Head(server.URL + "/api/v1/detectors")
	must(t, err)
	defer head.Body.Close()
	body, err := io.ReadAll(head.Body)
	must(t, err)
	if head.StatusCode != 200 || head.Header.Get("ETag") != get.Header.Get("ETag") || head.ContentLength != get.ContentLength || len(body) != 0 {
		t.Errorf("HEAD: %d %v", head.StatusCode, head.Header)
	}
}

func TestMountedHandlers(t *testing.T) {
	t.Parallel()
	f := setup(t, func(o *Options) {
		o.Mounts = map[string]http.Handler{
			"/api/v1/events": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				_, _ = io.WriteString(w, "id: 1\n\n")
				must(t, http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute)))
				w.(http.Flusher).Flush()
			}),
			"/api/v1/ws": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				conn, rw, err := w.(http.Hijacker).Hijack()
				if err != nil {
					http.Error(w, err.Error(), http.StatusInternalServerError)
					return
				}
				defer conn.Close()
				_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\n\r\nhello")
				_ = rw.Flush()
			}),
			"/api/v1/write": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "snappy: corrupt input\xff", http.StatusBadRequest)
			}),
			"/loki/api/v1/push": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "canary: /var/lib is read-only", http.StatusInternalServerError)
			}),
			"/prometheus/*": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, `{"status":"error","path":"`+r.URL.Path+`"}`)
			}),
			"/v1/logs": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(http.StatusServiceUnavailable)
			}),
		}
	})
	server := httptest.NewServer(f.h)
	defer server.Close()

	rec := f.do("POST", "/api/v1/write", "x", "Content-Type", "application/x-protobuf")
	if p := wantProblem(t, rec, 400, CodeValidation); p.Detail != "snappy: corrupt input\uFFFD" {
		t.Errorf("the detail is %q", p.Detail)
	}
	rec = f.do("POST", "/loki/api/v1/push", "x")
	wantProblem(t, rec, 500, CodeInternal)
	if strings.Contains(rec.Body.String(), "canary") {
		t.Errorf("internals are shown: %s", rec.Body.String())
	}
	if p := wantProblem(t, f.do("POST", "/v1/logs", ""), 503, CodeServiceUnavailable); p.RetryAfterMS != 7000 {
		t.Errorf("retry after %d ms", p.RetryAfterMS)
	}
	rec = f.do("GET", "/prometheus/api/v1/query", "")
	if rec.Code != 400 || rec.Body.String() != `{"status":"error","path":"/prometheus/api/v1/query"}` {
		t.Errorf("a protocol of its own is changed: %d %s", rec.Code, rec.Body.String())
	}

	events, err := server.Client().Get(server.URL + "/api/v1/events")
	must(t, err)
	defer events.Body.Close()
	if text, _ := io.ReadAll(events.Body); string(text) != "id: 1\n\n" {
		t.Errorf("events: %q", text)
	}

	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	must(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET /api/v1/ws HTTP/1.1\r\nHost: localhost\r\n\r\n")
	must(t, err)
	text, err := io.ReadAll(bufio.NewReader(conn))
	must(t, err)
	if !strings.HasPrefix(string(text), "HTTP/1.1 101") || !strings.HasSuffix(string(text), "hello") {
		t.Errorf("upgrade: %q", text)
	}
}

func TestClassOf(t *testing.T) {
	t.Parallel()
	for request, want := range map[string]Class{
		"GET /livez": ClassProbe, "GET /ready": ClassProbe, "GET /health": ClassProbe, "GET /health/database": ClassProbe, "GET /metrics": ClassProbe,
		"POST /api/v1/anomalies/x/acknowledge": ClassControl, "POST /api/v1/detectors/x/stop": ClassControl, "POST /-/reload": ClassControl, "POST /api/v1/session": ClassControl, "GET /api/v1/session": ClassRead, "POST /api/v1/tasks/x/cancel": ClassControl,
		"POST /api/v1/write": ClassIngest, "POST /loki/api/v1/push": ClassIngest, "POST /v1/logs": ClassIngest,
		"GET /": ClassUI, "GET /assets/a.js": ClassUI, "GET /api/v1/ws": ClassStream, "GET /api/v1/events": ClassStream,
		"GET /api/v1/detectors": ClassRead, "POST /api/v1/detectors": ClassRead, "GET /prometheus/api/v1/query": ClassRead,
		"POST /api/v1/detectors/x/backtest": ClassBatch, "POST /api/v1/detectors/x/train": ClassBatch, "GET /api/v1/detectors/x/replay": ClassBatch,
	} {
		method, path, _ := strings.Cut(request, " ")
		if got := ClassOf(method, path); got != want {
			t.Errorf("%s: %s, want %s", request, got, want)
		}
	}
}

func TestNewNeedsItsParts(t *testing.T) {
	t.Parallel()
	if _, err := New(Options{}); err == nil {
		t.Fatal("New works on nothing")
	}
}
