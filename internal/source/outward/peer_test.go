package outward

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
	"aiops/internal/source"
	"aiops/internal/telemetry"
)

// reach makes the way to a source at url.
func reach(t *testing.T, url string, change func(*Config)) *Peer {
	t.Helper()
	cfg := Config{Source: model.Source{Name: "main", URL: url}, API: "Prometheus", Path: "/api/v1", Subject: model.SubjectPrometheus}
	if change != nil {
		change(&cfg)
	}
	p, err := New(cfg, source.NewTracker(source.TrackerConfig{}, nil), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// tripFunc is a source without a network.
type tripFunc func(*http.Request) (*http.Response, error)

func (f tripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// plain takes 200 for good and explains everything else.
func plain(p *Peer) ReadFunc {
	return func(resp *http.Response) error {
		if resp.StatusCode == http.StatusOK {
			_, err := io.Copy(io.Discard, resp.Body)
			return err
		}
		return p.Status(resp, "")
	}
}

// What each status means for repeating a request: each is sent once, or three
// times when the budget allows it and the request is safe. 200 to 599, all.
func TestEveryStatus(t *testing.T) {
	t.Parallel()
	retried := map[int]bool{408: true, 425: true, 429: true}
	for code := 500; code <= 599; code++ {
		retried[code] = true
	}
	for _, never := range []int{501, 505, 506, 507, 508, 510, 511} {
		delete(retried, never)
	}
	for code := 200; code <= 599; code++ {
		for _, safe := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				p := reach(t, "http://source", nil)
				p.guard.budget.saved = retrySavings
				sent := 0
				p.http.Transport = tripFunc(func(*http.Request) (*http.Response, error) {
					sent++
					return &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(""))}, nil
				})
				err := p.Do(t.Context(), Request{Method: http.MethodPost, Form: url.Values{}, Safe: safe}, plain(p))
				want := 1
				if safe && retried[code] {
					want = maxAttempts
				}
				if sent != want {
					t.Errorf("HTTP %d, safe %t: sent %d times, want %d", code, safe, sent, want)
				}
				if (err == nil) != (code == 200) {
					t.Errorf("HTTP %d: %v", code, err)
				}
			})
		}
	}
}

// A kind that cannot succeed later is never repeated, whatever a client says.
func TestOnlyTransientKindsAreRepeated(t *testing.T) {
	t.Parallel()
	for _, kind := range []model.Kind{model.KindInternal, model.KindInvalid, model.KindNotFound, model.KindConflict, model.KindSourceAuth, model.KindQuery, model.KindForbidden} {
		synctest.Test(t, func(t *testing.T) {
			p := reach(t, "http://source", nil)
			p.guard.budget.saved = retrySavings
			sent := 0
			p.http.Transport = tripFunc(func(*http.Request) (*http.Response, error) {
				sent++
				return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody}, nil
			})
			_ = p.Do(t.Context(), Request{Safe: true}, func(*http.Response) error {
				return &Failure{Err: model.Errorf(kind, "", "no"), Retry: true, Fault: true, Outcome: OutcomeUnavailable}
			})
			if sent != 1 {
				t.Errorf("kind %q: sent %d times", kind, sent)
			}
		})
	}
}

// T1: a server that fails every request for five minutes, asked by ten callers.
// The control, the same retries without budget and breaker, must exceed the bar.
func TestAmplification(t *testing.T) {
	t.Parallel()
	const bar = 1.1
	run := func(t *testing.T, unbounded bool) (perCall float64) {
		synctest.Test(t, func(t *testing.T) {
			p := reach(t, "http://source", nil)
			var sent, calls atomic.Int64
			p.http.Transport = tripFunc(func(*http.Request) (*http.Response, error) {
				sent.Add(1)
				return &http.Response{StatusCode: 503, Header: http.Header{}, Body: http.NoBody}, nil
			})
			until := time.Now().Add(5 * time.Minute)
			for range 10 {
				go func() {
					for time.Now().Before(until) {
						if unbounded {
							p.guard.breaker.Close()
							for range maxAttempts {
								p.guard.budget.deposit()
							}
							p.guard.budget.saved = retrySavings
						}
						calls.Add(1)
						_ = p.Do(t.Context(), Request{Safe: true}, plain(p))
						<-time.After(time.Second)
					}
				}()
			}
			<-time.After(5*time.Minute + time.Minute)
			synctest.Wait()
			perCall = float64(sent.Load()) / float64(calls.Load())
		})
		return perCall
	}
	if got := run(t, false); got > bar || got == 0 {
		t.Errorf("%.3f requests for each call, want at most %.1f", got, bar)
	}
	if got := run(t, true); got <= bar {
		t.Errorf("control: %.3f requests for each call without budget; the test proves nothing", got)
	}
}

// T1: ten thousand clients that failed at the same moment come back spread over
// the whole bound, and nobody before the time it was told.
func TestRetriesDoNotComeInWaves(t *testing.T) {
	t.Parallel()
	const clients, slices = 10_000, 20
	for _, told := range []time.Duration{0, 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			var came [slices]atomic.Int64
			begin := time.Now()
			for range clients {
				go func() {
					g := newGuard(model.SubjectPrometheus, 1, time.Now, func() {})
					g.budget.saved = 1
					first := true
					_ = g.do(t.Context(), true, func(context.Context) error {
						if first {
							first = false
							return fails(told)
						}
						late := time.Since(begin) - told
						if late < 0 {
							t.Errorf("came %s early", -late)
							return nil
						}
						came[min(int(late*slices/retryBase), slices-1)].Add(1)
						return nil
					})
				}()
			}
			synctest.Wait()
			<-time.After(told + retryBase)
			synctest.Wait()
			sum, peak := int64(0), int64(0)
			for i := range came {
				sum, peak = sum+came[i].Load(), max(peak, came[i].Load())
			}
			if sum != clients || peak > 3*clients/slices {
				t.Errorf("told %s: %d came, the fullest of %d parts has %d, want at most three times the mean %d", told, sum, slices, peak, clients/slices)
			}
		})
	}
}

// T2: the source is told what is left, and nothing of a call goes on when its
// caller has left: the request ends at the source, and no goroutine stays.
func TestNothingGoesOnForNobody(t *testing.T) {
	t.Parallel()
	arrived, gone := make(chan time.Duration, 8), make(chan time.Time, 8)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, err := time.ParseDuration(r.FormValue("timeout"))
		if err != nil {
			t.Errorf("timeout %q: %v", r.FormValue("timeout"), err)
		}
		if strings.HasSuffix(r.URL.Path, "/half") {
			w.WriteHeader(http.StatusOK)
			_, _ = io.WriteString(w, "{")
			w.(http.Flusher).Flush()
		}
		arrived <- d
		<-r.Context().Done()
		gone <- time.Now()
	}))
	t.Cleanup(server.Close)
	p := reach(t, server.URL, nil)
	for _, path := range []string{"/whole", "/half"} {
		for _, form := range []url.Values{nil, {"query": {"up"}}} {
			method := http.MethodGet
			if form != nil {
				method = http.MethodPost
			}
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			ended := make(chan error, 1)
			go func() {
				ended <- p.Do(ctx, Request{Method: method, Path: path, Form: form, DeadlineField: "timeout", Safe: true}, plain(p))
			}()
			if told := <-arrived; told > 20*time.Second || told < 10*time.Second {
				t.Errorf("%s %s: told %s, want what is left of 20 s", method, path, told)
			}
			left := time.Now()
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("%s %s: %v", method, path, err)
			}
			if late := (<-gone).Sub(left); late > 5*time.Second {
				t.Errorf("%s %s: the source worked on for %s", method, path, late)
			}
		}
	}
	if n := p.pool.inUse.Load(); n != 0 {
		t.Errorf("%d connections in use after all callers left", n)
	}
}

// The pool never exceeds its bound, connections are kept and used again, and
// everything is counted and given back.
func TestConnectionPool(t *testing.T) {
	t.Parallel()
	var most atomic.Int64
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(server.Close)
	p := reach(t, server.URL, func(c *Config) { c.MaxConnections, c.Concurrency = 3, 10 })
	done := make(chan error, 10)
	for range 10 {
		go func() { done <- p.Do(context.Background(), Request{Safe: true}, plain(p)) }()
	}
	waitFor(t, "ten requests on three connections", func() bool {
		most.Store(max(most.Load(), p.pool.open.Load()))
		return p.guard.running.Load() == 10 && p.pool.inUse.Load() == 3
	})
	close(release)
	for range 10 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if most.Load() > 3 || p.pool.open.Load() > 3 {
		t.Errorf("%d connections at once, %d at the end, want at most 3", most.Load(), p.pool.open.Load())
	}
	if got := p.Details(); got["connections_in_use"] != int64(0) || got["in_flight"] != int64(0) {
		t.Errorf("after all ended: %v", got)
	}
	p.http.CloseIdleConnections()
	waitFor(t, "all connections closed", func() bool { return p.pool.open.Load() == 0 })
}

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline:
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

// E3: the trace and the request id of the caller go along.
func TestTraceAndRequestIDGoAlong(t *testing.T) {
	t.Parallel()
	got := make(chan http.Header, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header }))
	t.Cleanup(server.Close)
	p := reach(t, server.URL, nil)
	ctx := telemetry.WithRequestID(context.Background(), "req_abcdefgh")
	if err := p.Do(ctx, Request{}, plain(p)); err != nil {
		t.Fatal(err)
	}
	if h := <-got; h.Get("X-Request-Id") != "req_abcdefgh" || h.Get("Traceparent") != "" {
		t.Errorf("headers %v", h)
	}
}
