package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a server over a fresh world.
type fixture struct {
	t     *testing.T
	world *world
	h     http.Handler
}

func setup(t *testing.T, change ...func(*Options)) *fixture {
	t.Helper()
	w := newWorld()
	opts := w.options()
	for _, c := range change {
		c(&opts)
	}
	h, err := New(opts)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return &fixture{t: t, world: w, h: h}
}

// do sends a request. Headers are name, value pairs; a body is JSON unless a
// Content-Type is given.
func (f *fixture) do(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	f.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req := httptest.NewRequest(method, target, r)
	req.Host = "localhost:8080"
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	f.h.ServeHTTP(rec, req)
	return rec
}

func decode[T any](t *testing.T, rec *httptest.ResponseRecorder) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil {
		t.Fatalf("the answer is not JSON: %v\n%s", err, rec.Body.String())
	}
	return v
}

// wantProblem checks the invariants of every problem.
func wantProblem(t *testing.T, rec *httptest.ResponseRecorder, status int, code Code) Problem {
	t.Helper()
	if rec.Code != status {
		t.Fatalf("status %d, want %d\n%s", rec.Code, status, rec.Body.String())
	}
	if ct := rec.Header().Get("Content-Type"); ct != problemType {
		t.Fatalf("Content-Type %q, want %q\n%s", ct, problemType, rec.Body.String())
	}
	p := decode[Problem](t, rec)
	row, ok := LookupError(p.Code)
	switch {
	case !ok:
		t.Fatalf("code %q is not in the table", p.Code)
	case p.Code != code:
		t.Fatalf("code %q, want %q\n%s", p.Code, code, rec.Body.String())
	case p.Status != status:
		t.Fatalf("status in the body %d, want %d", p.Status, status)
	case p.Type != errorsPath+string(code) || p.Title != row.Title || p.Detail == "" || p.Instance == "":
		t.Fatalf("incomplete problem: %s", rec.Body.String())
	case p.Retryable != row.Retryable:
		t.Fatalf("retryable %v, want %v", p.Retryable, row.Retryable)
	case p.RequestID == "" || p.RequestID != rec.Header().Get("X-Request-Id"):
		t.Fatalf("request id %q, header %q", p.RequestID, rec.Header().Get("X-Request-Id"))
	case p.Retryable && (p.RetryAfterMS <= 0 || rec.Header().Get("Retry-After") == ""):
		t.Fatalf("a retryable problem does not say when: %v %s", rec.Header(), rec.Body.String())
	}
	return p
}

func reloadOK(context.Context) error { return nil }
