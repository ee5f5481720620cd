package builtin

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"aiops/internal/model"
)

// exporter serves metrics until the test ends.
func exporter(t *testing.T, handle http.HandlerFunc) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(handle)
	t.Cleanup(srv.Close)
	return srv
}

func text(metrics string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = fmt.Fprint(w, metrics)
	}
}

// newest evaluates a query now, without waiting for a round.
func newest(t *testing.T, s *Source, query string) []model.SeriesData {
	t.Helper()
	got, err := s.Query(context.Background(), query, time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func target(job string, urls ...string) Target {
	return Target{Job: job, URLs: urls, Interval: model.Duration(time.Second), Timeout: model.Duration(500 * time.Millisecond)}
}

func TestTargets(t *testing.T) {
	t.Parallel()
	var seen atomic.Value
	good := exporter(t, func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r.URL.String() + " " + r.Header.Get("Authorization") + " " + r.Header.Get("X-Key"))
		text("# TYPE a counter\na{n=\"1\"} 5\nb 6\n")(w, r)
	})
	broken := exporter(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 500) })
	huge := exporter(t, text(strings.Repeat("c 1\n", 1<<16)))
	many := exporter(t, func(w http.ResponseWriter, r *http.Request) {
		var b strings.Builder
		for i := range 200 {
			fmt.Fprintf(&b, "d{n=\"%d\"} 1\n", i)
		}
		text(b.String())(w, r)
	})
	redirect := exporter(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, good.URL, http.StatusFound) })
	one := target("good", good.URL+"/x?module=m")
	one.BearerToken, one.Labels, one.Headers = "tok-123", map[string]string{"team": "shop"}, map[string]model.Secret{"X-Key": "hunter2"}
	limited := target("huge", huge.URL)
	limited.MaxBytes = 1000
	counted := target("many", many.URL)
	counted.MaxSamples = 100
	s := setup(t, func(c *Config) {
		c.Interval = model.Duration(time.Second)
		c.Targets = []Target{one, limited, counted, target("broken", broken.URL, "http://127.0.0.1:1"), target("redirect", redirect.URL)}
	})
	run(t, s)
	wants := map[string]string{"good": "up 2", "huge": "down 0", "many": "down 0", "broken": "down 0", "redirect": "down 0"}
	eventually(t, func() string {
		list, err := s.Collectors(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if len(list) != 7 {
			t.Fatalf("%d collectors, want 6 targets and the receiver", len(list))
		}
		for _, c := range list[:6] {
			job, _, _ := strings.Cut(c.Name, "/")
			if c.Kind != "target" {
				t.Errorf("%+v is no target", c)
			}
			got := fmt.Sprintf("%s %d", c.State, c.Samples)
			if job == "many" && got == "down 200" {
				continue // the limit is noticed when all was read
			}
			if got != wants[job] {
				return fmt.Sprintf("%s is %s, want %s: %s", c.Name, got, wants[job], c.Error)
			}
			for _, secret := range []string{"tok-123", "hunter2"} {
				if strings.Contains(c.Error, secret) {
					t.Errorf("%s shows a secret: %s", c.Name, c.Error)
				}
			}
		}
		return ""
	})
	if got := seen.Load(); got != "/x?module=m Bearer tok-123 hunter2" {
		t.Errorf("the target was asked %q", got)
	}
	if got := newest(t, s, `a{job="good", team="shop", n="1"}`); len(got) != 1 || got[0].Samples[0].V != 5 {
		t.Errorf("scraped %v", got)
	}
	for query, want := range map[string]int{`up == 1`: 1, `up == 0`: 5, "c": 0, "d": 0, `scrape_duration_seconds`: 6} {
		if got := newest(t, s, query); len(got) != want {
			t.Errorf("%s gives %d series, want %d: %v", query, len(got), want, got)
		}
	}
}

// Targets can be changed while Run scrapes, and be added when there were none.
func TestSetTargets(t *testing.T) {
	t.Parallel()
	first, second := exporter(t, text("first 1\n")), exporter(t, text("second 1\n"))
	s := setup(t, func(c *Config) { c.Interval = model.Duration(time.Second) })
	run(t, s)
	if err := s.SetTargets([]Target{{Job: "aiops", URLs: []string{"http://x"}}}); model.KindOf(err) != model.KindInvalid {
		t.Errorf("a reserved job: %v", err)
	}
	has := func(query string, want int) {
		t.Helper()
		eventually(t, func() string {
			if got := newest(t, s, query); len(got) != want {
				return fmt.Sprintf("%s gives %d series, want %d", query, len(got), want)
			}
			return ""
		})
	}
	if err := s.SetTargets([]Target{target("a", first.URL)}); err != nil {
		t.Fatal(err)
	}
	has("first", 1)
	if err := s.SetTargets([]Target{target("a", first.URL), target("b", second.URL)}); err != nil {
		t.Fatal(err)
	}
	has("second", 1)
	// Series of a target that is gone end by a stale marker, not by the lookback.
	if err := s.SetTargets([]Target{target("b", second.URL)}); err != nil {
		t.Fatal(err)
	}
	has("first", 0)
	has("second", 1)
}

// The cap on series holds for targets too: known series go on.
func TestTargetsBeyondTheCap(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	n.Store(5)
	srv := exporter(t, func(w http.ResponseWriter, r *http.Request) {
		var b strings.Builder
		for i := range n.Load() {
			fmt.Fprintf(&b, "x{n=\"%d\"} %d\n", i, n.Load())
		}
		text(b.String())(w, r)
	})
	s := setup(t, func(c *Config) {
		c.Interval, c.MaxSeries = model.Duration(time.Second), 20
		c.Targets = []Target{target("shop", srv.URL)}
	})
	run(t, s)
	eventually(t, func() string {
		if got := newest(t, s, "x"); len(got) != 5 {
			return fmt.Sprintf("%d series", len(got))
		}
		return ""
	})
	n.Store(1000)
	eventually(t, func() string {
		got := newest(t, s, "x == 1000")
		if len(got) < 5 {
			return fmt.Sprintf("%d series have the new value", len(got))
		}
		if len(got) > 20 {
			t.Fatalf("%d series beyond the cap", len(got))
		}
		return ""
	})
	if got := newest(t, s, `up{job="shop"}`); len(got) != 1 || got[0].Samples[0].V != 1 {
		t.Errorf("up is %v", got)
	}
}
