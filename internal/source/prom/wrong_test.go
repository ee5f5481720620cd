package prom

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
)

// The range that the tests ask for: three times.
var (
	t0   = time.Unix(1_700_000_000, 0)
	t2   = t0.Add(2 * time.Minute)
	step = time.Minute
)

// fake is a source that does what a test scripted.
type fake struct {
	*httptest.Server
	requests atomic.Int64
}

// serve starts a source that answers every request with handle.
func serve(t *testing.T, handle http.HandlerFunc) *fake {
	t.Helper()
	f := &fake{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.requests.Add(1)
		handle(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

// connect makes a client of a source at url.
func connect(t *testing.T, url string, change func(*Config)) *Client {
	t.Helper()
	cfg := Config{Source: model.Source{Name: "main", URL: url, Timeout: 30 * time.Second}}
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

func ask(c *Client) ([]model.SeriesData, error) {
	return c.QueryRange(context.Background(), "up", t0, t2, step, 0)
}

func sendJSON(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func matrix(series ...string) string {
	return `{"status":"success","data":{"resultType":"matrix","result":[` + strings.Join(series, ",") + `]}}`
}

func seriesJSON(instance string, points string) string {
	return fmt.Sprintf(`{"metric":{"__name__":"up","instance":%q},"values":[%s]}`, instance, points)
}

const goodPoints = `[1700000000,"1"],[1700000060,"2"],[1700000120,"3"]`

// printAnswer writes an answer on one line.
func printAnswer(series []model.SeriesData) string {
	var b strings.Builder
	for _, s := range series {
		fmt.Fprintf(&b, "%s", s.Labels.Value("instance"))
		for _, p := range s.Samples {
			fmt.Fprintf(&b, " %d=%g", (p.T-t0.UnixMilli())/1000, p.V)
		}
		b.WriteString("; ")
	}
	return strings.TrimSuffix(b.String(), "; ")
}

// trickle writes body one byte at a time until the client has gone.
func trickle(w http.ResponseWriter, r *http.Request, body string, pause time.Duration) {
	w.Header().Set("Content-Type", "application/json")
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for i := range len(body) {
		if _, err := io.WriteString(w, body[i:i+1]); err != nil {
			return
		}
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

// Ways in which a source can be wrong, and what a query makes of each. The
// number of requests shows what is repeated: the budget starts empty, so a
// client that just started repeats nothing.
func TestWrongSources(t *testing.T) {
	t.Parallel()
	short := func(c *Config) { c.Source.Timeout = 300 * time.Millisecond }
	for _, tc := range []struct {
		name   string
		change func(*Config)
		handle http.HandlerFunc

		kind  model.Kind // "none" means that there is an answer
		wants string     // within the message, or the answer as printed
		state model.HealthState
	}{
		{name: "good", kind: "none", wants: "a 0=1 60=2 120=3", state: model.SourceUp,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				sendJSON(w, 200, matrix(seriesJSON("a", goodPoints)))
			}},
		{name: "hung", change: short, kind: model.KindSourceUnavailable, wants: "did not answer within", state: model.SourceDown,
			handle: func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
			}},
		{name: "one byte now and then", change: short, kind: model.KindSourceUnavailable, wants: "did not answer within", state: model.SourceDown,
			handle: func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				trickle(w, r, matrix(seriesJSON("a", goodPoints)), 50*time.Millisecond)
			}},
		{name: "slow, but in time", kind: "none", wants: "a 0=1 60=2 120=3", state: model.SourceUp,
			handle: func(w http.ResponseWriter, r *http.Request) {
				trickle(w, r, matrix(seriesJSON("a", goodPoints)), time.Millisecond)
			}},
		{name: "HTML with 200", kind: model.KindSourceUnavailable, wants: "answers with text/html instead of JSON", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				_, _ = io.WriteString(w, "<html><script>alert(1)</script>")
			}},
		{name: "HTML called JSON", kind: model.KindSourceUnavailable, wants: "not that of a Prometheus API", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request) { sendJSON(w, 200, "<html>") }},
		{name: "another API's JSON", kind: model.KindSourceUnavailable, wants: "not that of a Prometheus API", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request) { sendJSON(w, 200, `{"items":[]}`) }},
		{name: "empty", kind: model.KindSourceUnavailable, wants: "broke off", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request) { sendJSON(w, 200, "") }},
		{name: "cut-off JSON", kind: model.KindSourceUnavailable, wants: "broke off in the middle", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				full := matrix(seriesJSON("a", goodPoints))
				sendJSON(w, 200, full[:len(full)-9])
			}},
		{name: "cut-off connection", kind: model.KindSourceUnavailable, wants: "broke off in the middle", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "1000")
				sendJSON(w, 200, `{"status":"success","data":{"resultType":"matrix","result":[`)
			}},
		{name: "reset", kind: model.KindSourceUnavailable, wants: "the connection to the source broke", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				conn, _, err := w.(http.Hijacker).Hijack()
				if err == nil {
					_ = conn.(*net.TCPConn).SetLinger(0)
					_ = conn.Close()
				}
			}},
		{name: "data after the end", kind: model.KindSourceUnavailable, wants: "not that of a Prometheus API", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request) { sendJSON(w, 200, matrix()+"{}") }},
		{name: "NaN and infinities", kind: "none", wants: "a 0=NaN 60=+Inf 120=-Inf", state: model.SourceUp,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				sendJSON(w, 200, matrix(seriesJSON("a", `[1700000000,"NaN"],[1700000060,"+Inf"],[1700000120,"-Inf"]`)))
			}},
		{name: "beyond a float", kind: "none", wants: "a 0=+Inf", state: model.SourceUp,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				sendJSON(w, 200, matrix(seriesJSON("a", `[1700000000,"1e999"]`)))
			}},
		{name: "duplicate samples", kind: "none", wants: "a 0=9 60=2", state: model.SourceUp,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				sendJSON(w, 200, matrix(seriesJSON("a", `[1700000000,"1"],[1700000000,"9"],[1700000060,"2"]`)))
			}},
		{name: "samples out of order", kind: "none", wants: "a 0=1 60=2 120=3", state: model.SourceUp,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				sendJSON(w, 200, matrix(seriesJSON("a", `[1700000120,"3"],[1700000000,"1"],[1700000060,"2"]`)))
			}},
		{name: "samples at other times", kind: "none", wants: "a 60=2", state: model.SourceUp,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				sendJSON(w, 200, matrix(seriesJSON("a", `[1600000000,"1"],[1700000030.5,"1"],[1700000060,"2"],[1700000180,"1"]`)))
			}},
		{name: "duplicate series", kind: "none", wants: "a 0=1 60=9 120=3; b 0=1", state: model.SourceUp,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				sendJSON(w, 200, matrix(seriesJSON("a", goodPoints), seriesJSON("b", `[1700000000,"1"]`), seriesJSON("a", `[1700000060,"9"]`)))
			}},
		{name: "ten times the samples", kind: "none", wants: "a 0=10 60=10 120=10", state: model.SourceUp,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				var points []string
				for i := 1; i <= 10; i++ {
					points = append(points, strings.NewReplacer(`"1"`, fmt.Sprintf(`"%d"`, i), `"2"`, fmt.Sprintf(`"%d"`, i), `"3"`, fmt.Sprintf(`"%d"`, i)).Replace(goodPoints))
				}
				sendJSON(w, 200, matrix(seriesJSON("a", strings.Join(points, ","))))
			}},
		{name: "too many series", change: func(c *Config) { c.MaxSeries = 100 }, kind: model.KindQuery, wants: "yields 1000 series; at most 100 are allowed", state: model.SourceUp,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				var all []string
				for i := range 1000 {
					all = append(all, seriesJSON(fmt.Sprint(i), goodPoints))
				}
				sendJSON(w, 200, matrix(all...))
			}},
		{name: "endless series", change: func(c *Config) { c.MaxSeries, c.MaxBytes = 100, 1<<20 }, kind: model.KindQuery, wants: "series; at most 100 are allowed", state: model.SourceUp,
			handle: func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"matrix","result":[`)
				for i := 0; r.Context().Err() == nil && i < 100_000; i++ {
					_, _ = io.WriteString(w, seriesJSON(fmt.Sprint(i), goodPoints)+",")
				}
			}},
		{name: "too many bytes", change: func(c *Config) { c.MaxBytes = 1 << 20 }, kind: model.KindQuery, wants: "larger than 1 MiB", state: model.SourceUp,
			handle: func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				for i := 0; r.Context().Err() == nil && i < 10_000; i++ {
					_, _ = io.WriteString(w, strings.Repeat(" ", 1<<10))
				}
			}},
		{name: "gzip bomb", change: func(c *Config) { c.MaxBytes = 1 << 20 }, kind: model.KindQuery, wants: "larger than 1 MiB", state: model.SourceUp,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				var b bytes.Buffer
				z := gzip.NewWriter(&b)
				_, _ = z.Write(bytes.Repeat([]byte(" "), 3<<20))
				_ = z.Close()
				w.Header().Set("Content-Encoding", "gzip")
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write(b.Bytes())
			}},
		{name: "deep JSON", kind: model.KindSourceUnavailable, wants: "not that of a Prometheus API", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				sendJSON(w, 200, `{"x":`+strings.Repeat("[", 100_000))
			}},
		{name: "partial answer", kind: "none", wants: "a 0=1 60=2 120=3", state: model.SourceDegraded,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				sendJSON(w, 200, `{"warnings":["store 3 is away"],`+matrix(seriesJSON("a", goodPoints))[1:])
			}},
		{name: "partial answer of VictoriaMetrics", kind: "none", wants: "a 0=1 60=2 120=3", state: model.SourceDegraded,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				sendJSON(w, 200, `{"isPartial":true,`+matrix(seriesJSON("a", goodPoints))[1:])
			}},
		{name: "401", kind: model.KindSourceAuth, wants: "refuses our credentials (HTTP 401)", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 401) }},
		{name: "403", kind: model.KindSourceAuth, wants: "refuses our credentials (HTTP 403)", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 403) }},
		{name: "404", kind: model.KindSourceUnavailable, wants: "no Prometheus API at the source's URL", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 404) }},
		{name: "redirect", kind: model.KindSourceUnavailable, wants: "redirect (HTTP 307), which is not followed", state: model.SourceDown,
			handle: func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
			}},
		{name: "400 with a reason", kind: model.KindQuery, wants: "the source refuses the query: invalid parameter <secret>", state: model.SourceUp,
			change: func(c *Config) { c.Source.Auth.BearerToken = "tok-123" },
			handle: func(w http.ResponseWriter, _ *http.Request) {
				sendJSON(w, 400, `{"status":"error","errorType":"bad_data","error":"invalid\n\u0007parameter tok-123"}`)
			}},
		{name: "422 of VictoriaMetrics", kind: model.KindQuery, wants: "the source refuses the query: too complex", state: model.SourceUp,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				sendJSON(w, 422, `{"status":"error","errorType":"422","error":"too complex"}`)
			}},
		{name: "an error with 200", kind: model.KindQuery, wants: "the source refuses the query: many-to-many", state: model.SourceUp,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				sendJSON(w, 200, `{"status":"error","errorType":"execution","error":"many-to-many"}`)
			}},
		{name: "400 of something else", kind: model.KindSourceUnavailable, wants: "HTTP 400, which a Prometheus API does not", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", 400) }},
		{name: "query timed out", kind: model.KindTimeout, wants: "takes longer than the source allows", state: model.SourceUp,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				sendJSON(w, 503, `{"status":"error","errorType":"timeout","error":"query timed out in expression evaluation"}`)
			}},
		{name: "429", kind: model.KindSourceUnavailable, wants: "asks for fewer requests", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "30")
				http.Error(w, "slow down", 429)
			}},
		{name: "500", kind: model.KindSourceUnavailable, wants: "the source fails (HTTP 500): disk broken", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				sendJSON(w, 500, `{"status":"error","errorType":"internal","error":"disk broken"}`)
			}},
		{name: "502 of a proxy", kind: model.KindSourceUnavailable, wants: "the source fails (HTTP 502)", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>bad gateway", 502) }},
		{name: "native histograms", kind: model.KindQuery, wants: "native histograms", state: model.SourceUp,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				sendJSON(w, 200, `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"histograms":[[1700000000,{"count":"1"}]]}]}}`)
			}},
		{name: "labels that are no text", kind: model.KindSourceUnavailable, wants: "not that of a Prometheus API", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				sendJSON(w, 200, `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":1},"values":[]}]}}`)
			}},
		{name: "a time beyond calendars", kind: model.KindSourceUnavailable, wants: "not that of a Prometheus API", state: model.SourceDown,
			handle: func(w http.ResponseWriter, _ *http.Request) {
				sendJSON(w, 200, matrix(seriesJSON("a", `[1e300,"1"]`)))
			}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := serve(t, tc.handle)
			c := connect(t, f.URL, tc.change)
			series, err := ask(c)
			if tc.kind == "none" {
				if err != nil {
					t.Fatal(err)
				}
				if got := printAnswer(series); got != tc.wants {
					t.Errorf("answer %q, want %q", got, tc.wants)
				}
			} else {
				requireError(t, err, tc.kind, tc.wants)
			}
			if got := c.Health().State; got != tc.state {
				t.Errorf("health %s, want %s", got, tc.state)
			}
			if n := f.requests.Load(); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
		})
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
	if e.Subject != model.SubjectPrometheus {
		t.Errorf("error about %q, want %q", e.Subject, model.SubjectPrometheus)
	}
	for _, secret := range []string{"127.0.0.1", "localhost", "tok-123", "hunter2", "<html>", "<script>"} {
		if strings.Contains(e.Message, secret) {
			t.Errorf("the message shows %q: %s", secret, e.Message)
		}
	}
}

func TestSourcesThatCannotBeReached(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(secure.Close)
	plain := serve(t, func(http.ResponseWriter, *http.Request) {})
	for _, tc := range []struct{ name, url, wants string }{
		{"down", gone.URL, "refuses the connection"},
		{"no such host", "http://no-such-host.invalid", "host name cannot be resolved"},
		{"certificate of nobody we know", secure.URL, "certificate is not trusted"},
		{"TLS to a plain server", "https" + strings.TrimPrefix(plain.URL, "http"), "does not speak TLS"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := connect(t, tc.url, nil)
			_, err := ask(c)
			requireError(t, err, model.KindSourceUnavailable, tc.wants)
			if got := c.Health().State; got != model.SourceDown {
				t.Errorf("health %s, want down", got)
			}
		})
	}
}

// Twice the same address is asked: what AllowAddress refuses gets no connection.
func TestAddressesThatAreNotAllowed(t *testing.T) {
	t.Parallel()
	f := serve(t, func(w http.ResponseWriter, _ *http.Request) { sendJSON(w, 200, matrix()) })
	allowed := connect(t, f.URL, nil)
	if _, err := ask(allowed); err != nil {
		t.Fatal(err)
	}
	c := connect(t, f.URL, func(c *Config) { c.AllowAddress = func(a netip.AddrPort) bool { return !a.Addr().IsLoopback() } })
	_, err := ask(c)
	requireError(t, err, model.KindSourceUnavailable, "not among those that may be reached")
	if n := f.requests.Load(); n != 1 {
		t.Errorf("%d requests arrived, want 1", n)
	}
}

func TestInstantQueries(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, body, wants string }{
		{"vector", `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"instance":"a"},"value":[1700000000,"4"]}]}}`, "a 0=4"},
		{"scalar", `{"status":"success","data":{"resultType":"scalar","result":[1700000000.000,"4"]}}`, " 0=4"},
		{"result before its type", `{"data":{"result":[1700000000,"4"],"resultType":"scalar"},"status":"success"}`, " 0=4"},
		{"nothing", `{"status":"success","data":{"resultType":"vector","result":[]}}`, ""},
		{"null", `{"status":"success","data":{"resultType":"vector","result":null},"warnings":null}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/prometheus/api/v1/query" || r.PostFormValue("time") != "1700000000.000" {
					t.Errorf("asked %s for %s", r.URL, r.PostForm)
				}
				sendJSON(w, 200, tc.body)
			})
			got, err := connect(t, f.URL+"/prometheus/", nil).Query(context.Background(), "up", t0, 0)
			if err != nil {
				t.Fatal(err)
			}
			if printAnswer(got) != tc.wants {
				t.Errorf("answer %q, want %q", printAnswer(got), tc.wants)
			}
		})
	}
}

func TestStaleMarkersAreNotNumbers(t *testing.T) {
	t.Parallel()
	// JSON cannot carry the marker's bits; a NaN that arrives is an ordinary one.
	f := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		sendJSON(w, 200, matrix(seriesJSON("a", `[1700000000,"NaN"]`)))
	})
	got, err := ask(connect(t, f.URL, nil))
	if err != nil {
		t.Fatal(err)
	}
	if v := got[0].Samples[0].V; math.Float64bits(v) != math.Float64bits(math.NaN()) {
		t.Errorf("NaN arrived as %x", math.Float64bits(v))
	}
}
