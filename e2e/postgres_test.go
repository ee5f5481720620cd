package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"aiops/client"
	"aiops/internal/testkit"
)

// TestPostgresGoesAndComesBack kills the database below a running program and
// starts it again (R19): requests are answered, and say that they can be
// repeated; probes tell the truth; afterwards everything works again without a
// restart, and nothing acknowledged is gone. Live points of a chart go on all the while, on the
// connection of before. The outage takes 5 s;
// AIOPS_OUTAGE=60s is the full form.
func TestPostgresGoesAndComesBack(t *testing.T) {
	t.Parallel()
	outage := 5 * time.Second
	if text := os.Getenv("AIOPS_OUTAGE"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		outage = d
	}
	pg := testkit.RequirePostgres(t)
	url, err := pg.CreateDatabase("outage")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := start(t, dir, "serve", "--config", withConfig(t, dir, fmt.Sprintf(`storage: {postgres: {url: %q}}
pipeline: {history: 2m}
sources: [{name: watched, type: prometheus, url: %q, late_data: 1s, timeout: 3s}]
detectors: [{name: watched, source: watched, query: calm, step: 1s, model: ewma}]
`, url, startAskedSource(t).URL)))
	live := followPoints(t, s, "watched")
	acknowledged := map[string]string{}
	for i := range 20 {
		name := fmt.Sprint("before ", i)
		if acknowledged[name] = create(s.url, name); acknowledged[name] == "" {
			t.Fatal("a write with a well database was refused")
		}
	}
	s.eventually(60*time.Second, "live points come", func() error { return live.during(time.Time{}, time.Now(), 1) })
	pg.Kill()
	gone := time.Now()
	notReady := time.Duration(0)
	slowest := time.Duration(0)
	asked := 0
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for time.Since(gone) < outage || notReady == 0 && time.Since(gone) < outage+20*time.Second {
		begin := time.Now()
		if status, body := s.get("/livez"); status != http.StatusOK {
			t.Errorf("/livez without a database: %d %s", status, body)
		}
		if status, _ := s.get("/readyz"); status == http.StatusServiceUnavailable && notReady == 0 {
			notReady = time.Since(gone)
		}
		for _, request := range []struct {
			method, path string
			body         any
		}{{http.MethodGet, "/api/v1/anomalies", nil}, {http.MethodPost, "/api/v1/detectors", map[string]any{"name": fmt.Sprint("during ", asked), "query": "up"}}} {
			began := time.Now()
			status, body := s.send(request.method, request.path, request.body)
			slowest = max(slowest, time.Since(began))
			var p problem
			if status == http.StatusOK || status == http.StatusNotModified {
				continue // a cached answer
			}
			if err := json.Unmarshal(body, &p); err != nil || status < 500 || p.Retryable == nil || !*p.Retryable {
				t.Errorf("%s %s without a database: %d %s", request.method, request.path, status, body)
			}
			asked++
		}
		if time.Since(begin) < 100*time.Millisecond {
			<-tick.C
		}
	}
	if notReady == 0 {
		t.Error("/readyz never said that the database is away")
	}
	if asked == 0 {
		t.Error("control: no request met the outage")
	}
	// The first step after the kill may still be one that the database had seen.
	if err := live.during(gone.Add(time.Second), time.Now(), int(time.Since(gone)/time.Second)/2); err != nil {
		t.Errorf("live points without a database: %v", err)
	}
	if err := pg.Start(); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	s.eventually(30*time.Second, "writes work again", func() error {
		if acknowledged["after"] = create(s.url, "after"); acknowledged["after"] == "" {
			return errors.New("refused")
		}
		return nil
	})
	recovered := time.Since(back)
	s.eventually(30*time.Second, "the program is ready again", func() error {
		if status, body := s.get("/readyz"); status != http.StatusOK {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	verify(t, s, acknowledged)
	t.Logf("outage %s: %d requests refused, the slowest after %s; /readyz false after %s; writes again %s after the return", outage, asked, slowest, notReady, recovered)
	if slowest > 10*time.Second {
		t.Errorf("a request was answered after %s only", slowest)
	}
}

// livePoints are those of the chart of one detector that came to a client.
type livePoints struct {
	mu   sync.Mutex
	came []time.Time
	lost []error // ends of the connection
}

func followPoints(t *testing.T, s *server, name string) *livePoints {
	t.Helper()
	var page list[detector]
	s.json(http.MethodGet, "/api/v1/detectors", nil, &page)
	l, topic := &livePoints{}, ""
	for _, d := range page.Items {
		if d.Name == name {
			topic = "series/" + d.ID + `/{__name__="load"}`
		}
	}
	if topic == "" {
		t.Fatalf("no detector is called %s", name)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	o := client.LiveOptions{URL: s.url, Topics: []string{topic}, OnState: func(state client.LiveState) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if state.Err != nil {
			l.lost = append(l.lost, state.Err)
		}
	}}
	go func() {
		defer close(done)
		_ = client.Follow(ctx, o, func(m client.LiveMessage) error {
			if m.Point != nil {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.came = append(l.came, time.Now())
			}
			return nil
		})
	}()
	return l
}

// during says whether fewer points than least came in a time, or the connection was ever lost.
func (l *livePoints) during(from, to time.Time, least int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, at := range l.came {
		if at.After(from) && at.Before(to) {
			n++
		}
	}
	if n < least || len(l.lost) > 0 {
		return fmt.Errorf("%d came, want %d at least; the connection ended %d times: %v", n, least, len(l.lost), l.lost)
	}
	return nil
}
