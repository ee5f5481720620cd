package prom

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"aiops/internal/model"
)

func TestWhatIsSent(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(*Config)
		auth   string
	}{
		{"nothing", func(*Config) {}, ""},
		{"basic", func(c *Config) { c.Source.Auth = model.SourceAuth{Username: "u", Password: "hunter2"} }, "Basic dTpodW50ZXIy"},
		{"bearer", func(c *Config) { c.Source.Auth = model.SourceAuth{BearerToken: "tok-123"} }, "Bearer tok-123"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := serve(t, func(w http.ResponseWriter, r *http.Request) {
				form := map[string]string{"query": "up", "start": "1700000000.000", "end": "1700000120.000", "step": "60.000", "nocache": "1"}
				for name, want := range form {
					if got := r.PostFormValue(name); got != want {
						t.Errorf("%s = %q, want %q", name, got, want)
					}
				}
				if d, err := time.ParseDuration(r.PostFormValue("timeout")); err != nil || d > 30*time.Second || d < 10*time.Second {
					t.Errorf("timeout = %q, want what is left of 30 s", r.PostFormValue("timeout"))
				}
				if r.Method != http.MethodPost || r.URL.Path != "/api/v1/query_range" || r.URL.RawQuery != "" {
					t.Errorf("asked %s %s", r.Method, r.URL)
				}
				for name, want := range map[string]string{"Authorization": tc.auth, "X-Scope-Orgid": "team-a", "Accept-Encoding": "gzip", "Traceparent": "", "X-Idempotency-Key": ""} {
					if got := r.Header.Get(name); got != want {
						t.Errorf("header %s = %q, want %q", name, got, want)
					}
				}
				sendJSON(w, 200, matrix())
			})
			c := connect(t, f.URL, func(c *Config) {
				c.Source.Headers = map[string]model.Secret{"X-Scope-OrgID": "team-a"}
				tc.change(c)
			})
			if _, err := ask(c); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestCredentialsDoNotFollowARedirect(t *testing.T) {
	t.Parallel()
	thief := serve(t, func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the redirect was followed, with Authorization %q", r.Header.Get("Authorization"))
	})
	for _, status := range []int{301, 302, 303, 307, 308} {
		f := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, thief.URL, status) })
		c := connect(t, f.URL, func(c *Config) { c.Source.Auth.BearerToken = "tok-123" })
		_, err := ask(c)
		requireError(t, err, model.KindSourceUnavailable, fmt.Sprintf("redirect (HTTP %d)", status))
	}
}

func TestLongRangesAreSplit(t *testing.T) {
	t.Parallel()
	const points = 25_000
	start := time.Unix(1_700_000_000, 0)
	f := serve(t, func(w http.ResponseWriter, r *http.Request) {
		from, _ := strconv.ParseFloat(r.PostFormValue("start"), 64)
		to, _ := strconv.ParseFloat(r.PostFormValue("end"), 64)
		if n := (to-from)/5 + 1; n > 11_000 {
			t.Errorf("asked for %v points at once", n)
		}
		var list []string
		for at := from; at <= to; at += 5 {
			list = append(list, fmt.Sprintf(`[%.0f,"%.0f"]`, at, at))
		}
		sendJSON(w, 200, matrix(seriesJSON("a", strings.Join(list, ","))))
	})
	got, err := connect(t, f.URL, nil).QueryRange(context.Background(), "up", start, start.Add((points-1)*5*time.Second), 5*time.Second, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || len(got[0].Samples) != points || f.requests.Load() != 3 {
		t.Fatalf("%d series in %d requests", len(got), f.requests.Load())
	}
	for i, s := range got[0].Samples {
		if want := start.Add(time.Duration(i) * 5 * time.Second).UnixMilli(); s.T != want || s.V != float64(want)/1000 {
			t.Fatalf("sample %d is %+v, want one at %d", i, s, want)
		}
	}
}

func TestSomethingTransientIsRepeated(t *testing.T) {
	t.Parallel()
	for name, wrong := range map[string]http.HandlerFunc{
		"503":     func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", 503) },
		"cut off": func(w http.ResponseWriter, _ *http.Request) { sendJSON(w, 200, `{"status":"succ`) },
		"429 with a time to wait": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "", 429)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const before = 10 // calls that save up one repetition
			var n atomic.Int64
			var first time.Time
			f := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if n.Add(1) == before+1 {
					first = time.Now()
					wrong(w, r)
					return
				}
				if strings.HasPrefix(name, "429") && time.Since(first) < time.Second {
					t.Errorf("repeated after %s, before the second it was told", time.Since(first))
				}
				sendJSON(w, 200, matrix(seriesJSON("a", goodPoints)))
			})
			c := connect(t, f.URL, nil)
			for range before {
				if _, err := ask(c); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := ask(c); err != nil || len(got) != 1 {
				t.Fatalf("%v, %v", got, err)
			}
			if n.Load() != before+2 {
				t.Errorf("%d requests, want %d", n.Load(), before+2)
			}
		})
	}
}

func TestCallersThatGiveUp(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 2)
	f := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	c := connect(t, f.URL, nil)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-arrived; cancel() }()
	if _, err := c.QueryRange(ctx, "up", t0, t2, step, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err := c.QueryRange(ctx, "up", t0, t2, step, 0)
	requireError(t, err, model.KindTimeout, "in the time that the caller allowed")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v does not tell of the caller's deadline", err)
	}
	if got := c.Health().State; got != model.SourceUnknown {
		t.Errorf("health %s: impatience is not the source's fault", got)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) == 0 || r.ProtoMajor != 2 {
			t.Errorf("%d client certificates over %s", len(r.TLS.PeerCertificates), r.Proto)
		}
		sendJSON(w, 200, matrix())
	}))
	srv.EnableHTTP2 = true
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	cert := srv.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := model.TLSOptions{
		CAFile:   write("ca.pem", "CERTIFICATE", cert.Certificate[0]),
		CertFile: write("cert.pem", "CERTIFICATE", cert.Certificate[0]),
		KeyFile:  write("key.pem", "PRIVATE KEY", key),
	}
	use := func(o model.TLSOptions) func(*Config) { return func(c *Config) { c.Source.TLS = o } }
	if _, err := ask(connect(t, srv.URL, use(good))); err != nil {
		t.Errorf("with everything: %v", err)
	}
	named := good
	named.ServerName = "example.com"
	if _, err := ask(connect(t, srv.URL, use(named))); err != nil {
		t.Errorf("under the name in the certificate: %v", err)
	}
	named.ServerName = "example.org"
	_, err = ask(connect(t, srv.URL, use(named)))
	requireError(t, err, model.KindSourceUnavailable, "certificate is not trusted")
	blind := good
	blind.CAFile, blind.InsecureSkipVerify = "", true
	if _, err := ask(connect(t, srv.URL, use(blind))); err != nil {
		t.Errorf("without verification: %v", err)
	}
	for _, tc := range []struct {
		name, pointer string
		o             model.TLSOptions
	}{
		{"no such authority", "/tls/ca_file", model.TLSOptions{CAFile: filepath.Join(dir, "none")}},
		{"a key for an authority", "/tls/ca_file", model.TLSOptions{CAFile: good.KeyFile}},
		{"no key", "/tls", model.TLSOptions{CertFile: good.CertFile}},
		{"a wrong key", "/tls/cert_file", model.TLSOptions{CertFile: good.CertFile, KeyFile: good.CAFile}},
	} {
		_, err := New(Config{Source: model.Source{Name: "x", URL: "https://x", TLS: tc.o}}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		var e *model.Error
		if !errors.As(err, &e) || e.Kind != model.KindInvalid || e.Fields[0].Pointer != tc.pointer || strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v, want KindInvalid at %s without a path", tc.name, err, tc.pointer)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	var e *model.Error
	err := Config{
		Source: model.Source{
			URL:     "ftp://u:hunter2@x/?a=b",
			Auth:    model.SourceAuth{BearerToken: "a\n", Password: "hunter2"},
			Headers: map[string]model.Secret{"Host": "x", "a b": "c"},
			TLS:     model.TLSOptions{CertFile: "x"}, Timeout: -1,
		},
		MaxConnections: 101,
	}.Validate()
	if !errors.As(err, &e) || e.Kind != model.KindInvalid {
		t.Fatalf("%v, want KindInvalid", err)
	}
	got := map[string]bool{}
	for _, f := range e.Fields {
		got[f.Pointer] = true
		if strings.Contains(f.Detail, "hunter2") {
			t.Errorf("the error tells a password: %s", f.Detail)
		}
	}
	for _, want := range []string{"/name", "/url", "/auth", "/auth/username", "/auth/bearer_token", "/headers", "/headers/Host", "/tls", "/timeout", "/max_connections"} {
		if !got[want] {
			t.Errorf("no fault at %s; got %v", want, e.Fields)
		}
	}
	for _, url := range []string{"", "http://", "http://:9090", "x", "http://a\x00b", "http://u:p@h", "http://h/#f", "http://h?", "file:///etc/passwd", "unix:///x"} {
		if err := (Config{Source: model.Source{Name: "x", URL: url}}).Validate(); model.KindOf(err) != model.KindInvalid {
			t.Errorf("URL %q: %v, want KindInvalid", url, err)
		}
	}
	if err := (Config{Source: model.Source{Name: "x", URL: "https://h:1/prometheus/"}}).Validate(); err != nil {
		t.Error(err)
	}
}

// Secrets must not appear in anything that is written or shown, whatever the
// source answers.
func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	var logs bytes.Buffer
	f := serve(t, func(w http.ResponseWriter, r *http.Request) {
		sendJSON(w, 400, fmt.Sprintf(`{"status":"error","errorType":"bad_data","error":"you sent %s and %s"}`, r.Header.Get("Authorization"), r.Header.Get("X-Key")))
	})
	reg := prometheus.NewRegistry()
	c, err := New(Config{Source: model.Source{Name: "main", URL: f.URL,
		Auth: model.SourceAuth{BearerToken: "tok-123"}, Headers: map[string]model.Secret{"X-Key": "hunter2"}}},
		slog.New(slog.NewJSONHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug})), reg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = ask(c)
	requireError(t, err, model.KindQuery, "you sent Bearer <secret> and <secret>")
	_ = c.Check(context.Background())
	shown := fmt.Sprintf("%v %+v %v", err, c.Health(), c.Details()) + logs.String()
	for _, secret := range []string{"tok-123", "hunter2"} {
		if strings.Contains(shown, secret) {
			t.Errorf("%q is shown in %s", secret, shown)
		}
	}
	if !strings.Contains(logs.String(), "request failed") {
		t.Error("nothing was logged, so the test proves nothing")
	}
}

func TestCloseRemovesMetrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	cfg := Config{Source: model.Source{Name: "main", URL: "http://127.0.0.1:1"}}
	for range 2 {
		c, err := New(cfg, slog.New(slog.DiscardHandler), reg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(cfg, slog.New(slog.DiscardHandler), reg); err == nil {
			t.Error("two clients of one name share a registry")
		}
		if n, err := testutil.GatherAndCount(reg); n == 0 || err != nil {
			t.Errorf("%d metrics: %v", n, err)
		}
		if problems, err := testutil.GatherAndLint(reg); len(problems) > 0 || err != nil {
			t.Errorf("lint: %v, %v", problems, err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if n, _ := testutil.GatherAndCount(reg); n != 0 {
			t.Errorf("%d metrics after Close", n)
		}
	}
}

func TestCollectors(t *testing.T) {
	t.Parallel()
	f := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.String() != "/api/v1/targets?state=active" {
			t.Errorf("asked %s %s", r.Method, r.URL)
		}
		sendJSON(w, 200, `{"status":"success","data":{"activeTargets":[
			{"labels":{"job":"node","instance":"a:1"},"scrapePool":"p","health":"up","lastScrape":"2026-01-02T03:04:05Z","lastScrapeDuration":0.25},
			{"labels":{},"scrapePool":"p","health":"down","lastError":"connection\nrefused"},
			{"health":"unknown"}]}}`)
	})
	got, err := connect(t, f.URL, nil).Collectors(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	want := []model.Collector{
		{Name: "node/a:1", Kind: "target", State: model.CollectorUp, LastScrape: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Duration: 250 * time.Millisecond},
		{Name: "p", Kind: "target", State: model.CollectorDown, Error: "connection refused"},
		{Name: "unnamed", Kind: "target", State: model.CollectorUnknown},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("collectors %+v, want %+v", got, want)
	}
	none := serve(t, func(w http.ResponseWriter, _ *http.Request) { http.NotFound(w, nil) })
	if _, err := connect(t, none.URL, nil).Collectors(context.Background()); model.KindOf(err) != model.KindNotFound {
		t.Errorf("without a list: %v", err)
	}
}
