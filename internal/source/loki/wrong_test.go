package loki

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"aiops/internal/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	t0   = time.Unix(1_700_000_000, 0)
	t2   = t0.Add(2 * time.Minute)
	step = time.Minute
)

// connect makes a client of a source at url.
func connect(t *testing.T, url string, change func(*Config)) *Client {
	t.Helper()
	cfg := Config{Source: model.Source{Name: "logs", URL: url, Timeout: 30 * time.Second}}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func sendJSON(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

const (
	goodNumbers = `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"app":"a"},"values":[[1700000000,"1"],[1700000060,"2"],[1700000120,"3"]]}],"stats":{"summary":{"x":1}}}}`
	goodLines   = `{"status":"success","data":{"resultType":"streams","result":[{"stream":{"app":"a"},"values":[["1700000000000000001","one"],["1700000000000000002","two"]]}],"stats":{"summary":{"x":1}}}}`
)

// asking is one way to ask, with what comes of a good answer.
type asking struct {
	name, good, wants string
	ask               func(c *Client) (string, error)
}

var askings = []asking{
	{"numbers", goodNumbers, `{app="a"} 1 2 3`, func(c *Client) (string, error) {
		series, err := c.QueryRange(context.Background(), `sum(rate({app="a"}[1m]))`, t0, t2, step, 0)
		var b strings.Builder
		for _, s := range series {
			b.WriteString(s.Labels.Key())
			for _, p := range s.Samples {
				fmt.Fprintf(&b, " %g", p.V)
			}
		}
		return b.String(), err
	}},
	{"lines", goodLines, `{app="a"} one; {app="a"} two; `, func(c *Client) (string, error) {
		lines, _, err := c.Lines(context.Background(), `{app="a"}`, model.LogFilter{From: t0.UnixNano(), To: t2.UnixNano(), OldestFirst: true})
		var b strings.Builder
		for _, l := range lines {
			b.WriteString(l.Stream.Key() + " " + l.Text + "; ")
		}
		return b.String(), err
	}},
}

// Ways in which a source can be wrong, and what both kinds of queries make of
// each. The budget starts empty, so nothing is repeated.
func TestWrongSources(t *testing.T) {
	t.Parallel()
	short := func(c *Config) { c.Source.Timeout = 300 * time.Millisecond }
	small := func(c *Config) { c.MaxBytes = 1 << 20 }
	for _, tc := range []struct {
		name   string
		change func(*Config)
		kind   model.Kind // "none": the good answer
		wants  string
		state  model.HealthState
		handle func(w http.ResponseWriter, r *http.Request, good string)
	}{
		{name: "well", kind: "none", state: model.SourceUp,
			handle: func(w http.ResponseWriter, _ *http.Request, good string) { sendJSON(w, 200, good) }},
		{name: "hung", change: short, kind: model.KindSourceUnavailable, wants: "did not answer within", state: model.SourceDown,
			handle: func(_ http.ResponseWriter, r *http.Request, _ string) {
				_, _ = io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
			}},
		{name: "slow", change: short, kind: model.KindSourceUnavailable, wants: "did not answer within", state: model.SourceDown,
			handle: func(w http.ResponseWriter, r *http.Request, good string) {
				sendJSON(w, 200, good[:len(good)/2])
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			}},
		{name: "HTML with 200", kind: model.KindSourceUnavailable, wants: "answers with text/html instead of JSON", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request, _ string) {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				_, _ = io.WriteString(w, "<html><script>alert(1)</script>")
			}},
		{name: "HTML called JSON", kind: model.KindSourceUnavailable, wants: "not that of a Loki API", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request, _ string) { sendJSON(w, 200, "<html>") }},
		{name: "another API's JSON", kind: model.KindSourceUnavailable, wants: "not that of a Loki API", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request, _ string) { sendJSON(w, 200, `{"items":[]}`) }},
		{name: "empty", kind: model.KindSourceUnavailable, wants: "broke off", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request, _ string) { sendJSON(w, 200, "") }},
		{name: "cut-off JSON", kind: model.KindSourceUnavailable, wants: "broke off in the middle", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request, good string) { sendJSON(w, 200, good[:len(good)-9]) }},
		{name: "cut-off connection", kind: model.KindSourceUnavailable, wants: "broke off in the middle", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request, good string) {
				w.Header().Set("Content-Length", "10000")
				sendJSON(w, 200, good[:40])
			}},
		{name: "reset", kind: model.KindSourceUnavailable, wants: "the connection to the source broke", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request, _ string) {
				conn, _, err := w.(http.Hijacker).Hijack()
				if err == nil {
					_ = conn.(*net.TCPConn).SetLinger(0)
					_ = conn.Close()
				}
			}},
		{name: "data after the end", kind: model.KindSourceUnavailable, wants: "not that of a Loki API", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request, good string) { sendJSON(w, 200, good+"{}") }},
		{name: "too many bytes", change: small, kind: model.KindQuery, wants: "larger than 1 MiB", state: model.SourceUp,
			handle: func(w http.ResponseWriter, r *http.Request, _ string) {
				w.Header().Set("Content-Type", "application/json")
				for i := 0; r.Context().Err() == nil && i < 10_000; i++ {
					_, _ = io.WriteString(w, strings.Repeat(" ", 1<<10))
				}
			}},
		{name: "gzip bomb", change: small, kind: model.KindQuery, wants: "larger than 1 MiB", state: model.SourceUp,
			handle: func(w http.ResponseWriter, _ *http.Request, _ string) {
				var b bytes.Buffer
				z := gzip.NewWriter(&b)
				_, _ = z.Write(bytes.Repeat([]byte(" "), 3<<20))
				_ = z.Close()
				w.Header().Set("Content-Encoding", "gzip")
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write(b.Bytes())
			}},
		{name: "deep JSON", kind: model.KindSourceUnavailable, wants: "not that of a Loki API", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request, _ string) {
				sendJSON(w, 200, `{"x":`+strings.Repeat("[", 100_000))
			}},
		{name: "partial answer", kind: "none", state: model.SourceDegraded,
			handle: func(w http.ResponseWriter, _ *http.Request, good string) {
				sendJSON(w, 200, `{"warnings":["an ingester is away"],`+good[1:])
			}},
		{name: "401 without a tenant", kind: model.KindSourceAuth, wants: "refuses our credentials (HTTP 401)", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request, _ string) { http.Error(w, "no org id", 401) }},
		{name: "403", kind: model.KindSourceAuth, wants: "refuses our credentials (HTTP 403)", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request, _ string) { http.Error(w, "no", 403) }},
		{name: "404", kind: model.KindSourceUnavailable, wants: "no Loki API at the source's URL", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request, _ string) { http.Error(w, "404 page not found", 404) }},
		{name: "redirect", kind: model.KindSourceUnavailable, wants: "redirect (HTTP 307), which is not followed", state: model.SourceDown,
			handle: func(w http.ResponseWriter, r *http.Request, _ string) {
				http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
			}},
		{name: "400 with a place", kind: model.KindQuery, wants: "line 1, column 5: syntax error: unexpected IDENTIFIER <secret>", state: model.SourceUp,
			change: func(c *Config) { c.Source.Auth.BearerToken = "tok-123" },
			handle: func(w http.ResponseWriter, _ *http.Request, _ string) {
				http.Error(w, "parse error at line 1, col 5: syntax error: unexpected IDENTIFIER\n\a tok-123", 400)
			}},
		{name: "400 as JSON", kind: model.KindQuery, wants: "the query time range exceeds the limit", state: model.SourceUp,
			handle: func(w http.ResponseWriter, _ *http.Request, _ string) {
				sendJSON(w, 400, `{"code":400,"status":"error","message":"the query time range exceeds the limit"}`)
			}},
		{name: "400 of something else", kind: model.KindSourceUnavailable, wants: "HTTP 400, which a Loki API does not", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request, _ string) { http.Error(w, "<html>", 400) }},
		{name: "query timed out", kind: model.KindTimeout, wants: "takes longer than the source allows", state: model.SourceUp,
			handle: func(w http.ResponseWriter, _ *http.Request, _ string) {
				http.Error(w, "request timed out, decrease the duration of the request", 504)
			}},
		{name: "429", kind: model.KindSourceUnavailable, wants: "asks for fewer requests", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request, _ string) {
				w.Header().Set("Retry-After", "30")
				http.Error(w, "too many outstanding requests", 429)
			}},
		{name: "500", kind: model.KindSourceUnavailable, wants: "the source fails (HTTP 500): empty ring", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request, _ string) { http.Error(w, "empty ring", 500) }},
		{name: "502 of a proxy", kind: model.KindSourceUnavailable, wants: "the source fails (HTTP 502)", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request, _ string) { http.Error(w, "bad gateway", 502) }},
		{name: "an error with 200", kind: model.KindSourceUnavailable, wants: "the source reports an error: boom", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request, _ string) {
				sendJSON(w, 200, `{"status":"error","error":"boom"}`)
			}},
		{name: "labels that are no text", kind: model.KindSourceUnavailable, wants: "not that of a Loki API", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request, good string) {
				sendJSON(w, 200, strings.Replace(good, `{"app":"a"}`, `{"app":7}`, 1))
			}},
	} {
		for _, way := range askings {
			t.Run(tc.name+", "+way.name, func(t *testing.T) {
				t.Parallel()
				var requests atomic.Int64
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					requests.Add(1)
					tc.handle(w, r, way.good)
				}))
				defer server.Close()
				c := connect(t, server.URL, tc.change)
				got, err := way.ask(c)
				if tc.kind == "none" {
					if err != nil || got != way.wants {
						t.Errorf("answer %q, %v, want %q", got, err, way.wants)
					}
				} else {
					requireError(t, err, tc.kind, tc.wants)
				}
				if got := c.Health().State; got != tc.state {
					t.Errorf("health %s, want %s", got, tc.state)
				}
				if n := requests.Load(); n != 1 {
					t.Errorf("%d requests, want 1", n)
				}
			})
		}
	}
}

// requireError checks an error's kind and message, and that it can be shown.
func requireError(t *testing.T, err error, kind model.Kind, wants string) {
	t.Helper()
	var e *model.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want a *model.Error", err)
	}
	if e.Kind != kind || !strings.Contains(e.Message, wants) {
		t.Errorf("error of kind %q: %s\nwant %q with %q", e.Kind, e.Message, kind, wants)
	}
	if e.Subject != model.SubjectLoki {
		t.Errorf("error about %q, want %q", e.Subject, model.SubjectLoki)
	}
	for _, secret := range []string{"127.0.0.1", "localhost", "tok-123", "<html>", "<script>"} {
		if strings.Contains(e.Message, secret) {
			t.Errorf("the message shows %q: %s", secret, e.Message)
		}
	}
}

// Lines where numbers were asked for, and the other way round.
func TestTheOtherKindOfAnswer(t *testing.T) {
	t.Parallel()
	for i, way := range askings {
		other := askings[1-i].good
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { sendJSON(w, 200, other) }))
		defer server.Close()
		_, err := way.ask(connect(t, server.URL, nil))
		requireError(t, err, model.KindQuery, "the query yields")
	}
}

// What is sent: credentials, the tenant and the categories.
func TestWhatIsSent(t *testing.T) {
	t.Parallel()
	var got *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		got = r
		sendJSON(w, 200, goodLines)
	}))
	defer server.Close()
	c := connect(t, server.URL+"/prefix/", func(c *Config) {
		c.Source.Auth = model.SourceAuth{Username: "u", Password: "p"}
		c.Source.Headers = map[string]model.Secret{"X-Scope-OrgID": "tenant"}
	})
	_, _, err := c.Lines(t.Context(), `{a="b"}`, model.LogFilter{From: 5, To: 9, Contains: `x"} |= "y`, Limit: 7})
	if err != nil {
		t.Fatal(err)
	}
	user, password, _ := got.BasicAuth()
	if user != "u" || password != "p" || got.Header.Get("X-Scope-OrgID") != "tenant" || got.Header.Get("X-Loki-Response-Encoding-Flags") != "categorize-labels" {
		t.Errorf("headers %v", got.Header)
	}
	want := map[string]string{"query": `{a="b"} |= "x\"} |= \"y"`, "start": "5", "end": "9", "limit": "7", "direction": "backward"}
	if got.URL.Path != "/prefix/loki/api/v1/query_range" {
		t.Errorf("path %s", got.URL.Path)
	}
	for name, value := range want {
		if got.Form.Get(name) != value {
			t.Errorf("%s is %q, want %q", name, got.Form.Get(name), value)
		}
	}
}

// Categories, and labels that differ from line to line, become fields.
func TestLinesHaveFields(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		sendJSON(w, 200, `{"status":"success","data":{"resultType":"streams","encodingFlags":["categorize-labels"],"result":[
			{"stream":{"app":"a"},"values":[["5","x",{"structuredMetadata":{"trace_id":"t1","detected_level":"warn"},"parsed":{"user":"7"}}]]},
			{"stream":{"app":"a","detected_level":"error","trace_id":"t2","span_id":"s"},"values":[["6","y\n"]]},
			{"stream":{"app":"a","detected_level":"unknown"},"values":[["7","z",{}]]}]}}`)
	}))
	defer server.Close()
	c := connect(t, server.URL, func(c *Config) {
		c.Describe = func(l *model.LogLine) { l.Message = strings.ToUpper(l.Text) }
	})
	lines, _, err := c.Lines(t.Context(), `{a="b"}`, model.LogFilter{From: 1, To: 9, OldestFirst: true})
	if err != nil || len(lines) != 3 {
		t.Fatal(lines, err)
	}
	for i, want := range []string{`x X warn t1 {app="a"}`, `y Y error t2 {app="a"}`, `z Z   {app="a"}`} {
		l := lines[i]
		if got := fmt.Sprint(l.Text, " ", l.Message, " ", l.Level, " ", l.TraceID, " ", l.Stream); got != want {
			t.Errorf("line %d is %q, want %q", i, got, want)
		}
	}
}

func TestParseQuery(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		switch q := r.URL.Query().Get("query"); {
		case r.URL.Path != "/loki/api/v1/format_query":
			http.Error(w, "no", 404)
		case strings.HasPrefix(q, "{"):
			sendJSON(w, 200, `{"status":"success","data":"formatted"}`)
		default:
			http.Error(w, "parse error at line 2, col 3: syntax error: unexpected IDENTIFIER", 400)
		}
	}))
	c := connect(t, server.URL, nil)
	for range 3 {
		if err := c.ParseQuery(`{app="a"}`); err != nil {
			t.Errorf("a good query: %v", err)
		}
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("a good query was checked %d times, want 1", n)
	}
	err := c.ParseQuery("süm(\n  oops)")
	requireError(t, err, model.KindQuery, "line 2, column 3: syntax error: unexpected IDENTIFIER")
	var e *model.Error
	errors.As(err, &e)
	if e.Context["line"] != 2 || e.Context["column"] != 3 || e.Context["caret"] != "  oops)\n  ^" || e.Fields[0].Pointer != "/query" || e.Fields[0].Code != "logql" {
		t.Errorf("the error has the context %v and the fields %v", e.Context, e.Fields)
	}
	for _, q := range []string{"", " \n", strings.Repeat("x", 40_000), "{a=\"\xff\"}"} {
		if err := c.ParseQuery(q); model.KindOf(err) != model.KindQuery {
			t.Errorf("ParseQuery(%.20q) = %v, want KindQuery", q, err)
		}
	}
	server.Close()
	if err := c.ParseQuery(`{app="other"}`); err != nil {
		t.Errorf("a source that does not answer has no objection, got %v", err)
	}
}

func TestLabelsAndSeries(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/loki/api/v1/labels":
			sendJSON(w, 200, `{"status":"success","data":["app","env"]}`)
		case "/loki/api/v1/label/a%2Fb/values", "/loki/api/v1/label/a/b/values":
			sendJSON(w, 200, `{"status":"success"}`)
		case "/loki/api/v1/series":
			if got := r.URL.Query().Get("match[]"); got != `{app="x\"y"}` {
				t.Errorf("the selector is sent as %s", got)
			}
			sendJSON(w, 200, `{"status":"success","data":[{"app":"a","env":"b"}]}`)
		}
	}))
	defer server.Close()
	c := connect(t, server.URL, nil)
	names, err := c.Labels(t.Context(), t0, t2)
	if err != nil || len(names) != 2 {
		t.Errorf("labels %v, %v", names, err)
	}
	if values, err := c.LabelValues(t.Context(), "a/b", t0, t2); err != nil || len(values) != 0 {
		t.Errorf("values %v, %v", values, err)
	}
	streams, err := c.Series(t.Context(), model.Selector{{Name: "app", Op: model.MatchEqual, Value: `x"y`}}, t0, t2)
	if err != nil || len(streams) != 1 || streams[0].Key() != `{app="a", env="b"}` {
		t.Errorf("series %v, %v", streams, err)
	}
	if err := c.Check(t.Context()); err != nil || c.Health().State != model.SourceUp {
		t.Errorf("check: %v, health %v", err, c.Health())
	}
}

func FuzzDecodeLines(f *testing.F) {
	f.Add([]byte(goodLines))
	f.Add([]byte(goodNumbers))
	f.Fuzz(func(t *testing.T, data []byte) { fuzzLines(t, data) })
}

func FuzzDecodeTail(f *testing.F) {
	f.Add([]byte(`{"streams":[{"stream":{"a":"b"},"values":[["1","x"]]}],"dropped_entries":[{"labels":{},"timestamp":"5"},{"timestamp":"2026-11-27T12:30:45Z"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) { fuzzTail(t, data) })
}
