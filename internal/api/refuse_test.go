package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"aiops/internal/model"
)

// TestAGateRefuses: a request that is turned away before anything is done for
// it is answered as the contract says, counted, and not logged.
func TestAGateRefuses(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	var seen []Request
	passed := 0
	f := setup(t, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		o.OnRequest = func(_ context.Context, r Request) { seen = append(seen, r) }
		o.Gate = func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if ClassOf(r.Method, r.URL.Path) == ClassRead {
					Refuse(w, r, &model.Error{Kind: model.KindOverloaded, Message: "Busy.", RetryAfter: 1200 * time.Millisecond})
					return
				}
				passed++
				next.ServeHTTP(w, r)
			})
		}
		o.Middleware = []func(http.Handler) http.Handler{func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/refused" {
					Refuse(w, r, &model.Error{Kind: model.KindRateLimit, Message: "Too often.", RetryAfter: time.Second})
					return
				}
				next.ServeHTTP(w, r)
			})
		}}
	})
	const given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	rec := f.do("GET", "/api/v1/detectors/a%22b", "", "X-Request-Id", "my-request-1", "Traceparent", given)
	p := wantProblem(t, rec, 503, CodeOverloaded)
	h := rec.Header()
	if p.RequestID != "my-request-1" || p.Instance != "/api/v1/detectors/a%22b" || p.RetryAfterMS != 1200 || h.Get("Retry-After") != "2" || p.Detail != "Busy." ||
		!strings.HasPrefix(h.Get("Traceparent"), given[:35]) || h.Get("Content-Security-Policy") == "" || h.Get("Cache-Control") != "no-store" {
		t.Errorf("%+v %v", p, h)
	}
	if len(seen) != 1 || seen[0].Status != 503 || seen[0].Class != ClassRead || log.Len() > 0 {
		t.Errorf("counted %+v, logged %q", seen, log.String())
	}
	if rec := f.do("GET", "/livez", ""); rec.Code != 200 || passed != 1 {
		t.Errorf("a probe: %d", rec.Code)
	}
	wantProblem(t, f.do("GET", "/refused", ""), 429, CodeRateLimit)
	if len(seen) != 3 {
		t.Errorf("%d requests are counted, want 3", len(seen))
	}
}

// TestARefusalOfAConnection compares the answer that a connection gives by
// itself with the one that the gate gives.
func TestARefusalOfAConnection(t *testing.T) {
	t.Parallel()
	busy := &model.Error{Kind: model.KindOverloaded, Message: "Busy.", RetryAfter: 1200 * time.Millisecond}
	f := setup(t, func(o *Options) {
		o.Gate = func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { Refuse(w, r, busy) })
		}
	})
	const id, parent = "my-request-1", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	want := f.do("GET", "/api/v1/detectors", "", "X-Request-Id", id, "Traceparent", parent)
	refusal := NewRefusal(busy)
	sent := refusal.Append(nil, []byte(id), []byte(parent), []byte("/api/v1/detectors"))
	got, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(sent)), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(got.Body)
	if err != nil || got.StatusCode != want.Code || string(body) != want.Body.String() {
		t.Errorf("%d %v %s, want %d %s", got.StatusCode, err, body, want.Code, want.Body.String())
	}
	if date, err := http.ParseTime(got.Header.Get("Date")); err != nil || time.Since(date) > time.Minute {
		t.Errorf("date %q", got.Header.Get("Date"))
	}
	got.Header.Del("Date")
	for _, h := range []http.Header{got.Header, want.Header()} {
		h.Set("Traceparent", h.Get("Traceparent")[:35]) // the rest is by chance
	}
	if !maps.EqualFunc(got.Header, want.Header(), slices.Equal) {
		t.Errorf("%v\nwant %v", got.Header, want.Header())
	}
	for _, id := range []string{"", "short", "a\r\nSet-Cookie: x=y", strings.Repeat("x", 500)} {
		r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(refusal.Append(nil, []byte(id), []byte("\r\n\r\n"), []byte("/\"<&")))), nil)
		if err != nil {
			t.Fatal(err)
		}
		var p Problem
		if err := json.NewDecoder(r.Body).Decode(&p); err != nil || p.RequestID != r.Header.Get("X-Request-Id") || !strings.HasPrefix(p.RequestID, "req_") || p.Instance != "/\"<&" || len(r.Cookies()) > 0 {
			t.Errorf("%q: %v %+v %v", id, err, p, r.Header)
		}
	}
}

// TestRefusalsAllocateNothing: in a flood each allocation of one has a part of
// the garbage collector's work to pay, before the answer is sent.
func TestRefusalsAllocateNothing(t *testing.T) {
	refusal := NewRefusal(&model.Error{Kind: model.KindOverloaded, Message: "Busy.", RetryAfter: time.Second})
	b, id, path := make([]byte, 0, 4096), []byte("my-request-1"), []byte("/api/v1/detectors")
	if n := testing.AllocsPerRun(100, func() { b = refusal.Append(b[:0], nil, nil, path) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { b = refusal.Append(b[:0], id, nil, path) }); n > 0 {
		t.Errorf("%v allocations with an id", n)
	}
	r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(refusal.Append(nil, id, nil, bytes.Repeat([]byte("/path"), 1000)))), nil)
	if err != nil {
		t.Fatal(err)
	}
	var p Problem
	if err := json.NewDecoder(r.Body).Decode(&p); err != nil || len(p.Instance) > maxInstance || !strings.HasPrefix(p.Instance, "/path/path") {
		t.Errorf("a long path: %v, %d bytes of it are told", err, len(p.Instance))
	}
}

// TestProblemsAreWrittenAsJSON compares the quick way with the plain one.
func TestProblemsAreWrittenAsJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[ -~]{0,40}`))
		p := newProblem(rapid.SampledFrom([]Code{CodeOverloaded, CodeRateLimit, CodeNotFound}).Draw(t, "code"), 0, text.Draw(t, "detail"))
		p.Instance, p.RequestID = text.Draw(t, "instance"), text.Draw(t, "id")
		if rapid.Bool().Draw(t, "more") {
			p.Context, p.Errors = map[string]any{"limit": 3}, []ProblemField{{Pointer: text.Draw(t, "pointer")}}
		}
		want, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.append(nil); !bytes.Equal(got, want) {
			t.Fatalf("%s\n%s", got, want)
		}
	})
}

// TestFaultsAreProblems: what could not be read as a request is answered with a
// whole problem document too.
func TestFaultsAreProblems(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status       int
		text, detail string
		code         Code
	}{
		{http.StatusRequestHeaderFieldsTooLarge, "Request Header Fields Too Large", "", CodePayloadTooLarge},
		{http.StatusBadRequest, "missing required Host header", "missing required Host header", CodeValidation},
		{http.StatusNotImplemented, "Not Implemented", "", CodeValidation},
	} {
		answer, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(AppendFault(nil, c.status, c.text))), nil)
		if err != nil {
			t.Fatal(err)
		}
		var p Problem
		err = json.NewDecoder(answer.Body).Decode(&p)
		_ = answer.Body.Close()
		if err != nil || answer.StatusCode != c.status || p.Status != c.status || p.Code != c.code || p.Retryable || c.detail != "" && p.Detail != c.detail || p.Detail == "" ||
			!answer.Close || answer.Header.Get("Content-Type") != problemType || p.RequestID == "" || answer.Header.Get("X-Request-Id") != p.RequestID || answer.Header.Get("Traceparent") == "" {
			t.Errorf("%d: %v %+v %v", c.status, answer.Header, p, err)
		}
	}
}
