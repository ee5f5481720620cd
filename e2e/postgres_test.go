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
// starts it again (R19); see outage. It takes 5 s; AIOPS_OUTAGE=60s is the full form.
func TestPostgresGoesAndComesBack(t *testing.T) {
	t.Parallel()
	pg := testkit.RequirePostgres(t)
	outage(t, pg, 5*time.Second, 10*time.Second, pg.Kill, pg.Start)
}

// TestPostgresFreezesAndThaws stops all processes of the database below a running
// program and lets them go on: connections are taken, and nothing is answered. It
// takes 12 s, because a request is given up after 10 s.
func TestPostgresFreezesAndThaws(t *testing.T) {
	t.Parallel()
	pg := testkit.RequirePostgres(t)
	outage(t, pg, 12*time.Second, 13*time.Second, pg.Freeze, func() error { pg.Thaw(); return nil })
}

// outage takes the database away from a running program for a time: requests are
// answered within a time, and say that they can be repeated; probes tell the truth;
// afterwards everything works again without a restart, and nothing acknowledged is
// gone. Live points of a chart go on all the while, on the connection of before.
func outage(t *testing.T, pg *testkit.Postgres, length, answered time.Duration, away func(), back func() error) {
	if text := os.Getenv("AIOPS_OUTAGE"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		length = d
	}
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
	away()
	gone := time.Now()
	var asking sync.WaitGroup
	over := make(chan struct{})
	var reads, writes asked
	asking.Go(func() {
		reads = s.askWithoutDatabase(over, func(int) (int, []byte) { return s.get("/api/v1/anomalies") })
	})
	asking.Go(func() {
		writes = s.askWithoutDatabase(over, func(i int) (int, []byte) {
			return s.send(http.MethodPost, "/api/v1/detectors", map[string]any{"name": fmt.Sprint("during ", i), "query": "up"})
		})
	})
	notReady := s.probesWithoutDatabase(gone, length)
	// The first step after the begin may still be one that the database had seen.
	if err := live.during(gone.Add(time.Second), time.Now(), int(time.Since(gone)/time.Second)/2); err != nil {
		t.Errorf("live points without a database: %v", err)
	}
	close(over)
	if err := back(); err != nil {
		t.Fatal(err)
	}
	returned := time.Now()
	asking.Wait()
	if reads.refused == 0 || writes.refused == 0 {
		t.Errorf("control: %d reads and %d writes met the outage", reads.refused, writes.refused)
	}
	s.eventually(30*time.Second, "writes work again", func() error {
		if acknowledged["after"] = create(s.url, "after"); acknowledged["after"] == "" {
			return errors.New("refused")
		}
		return nil
	})
	recovered := time.Since(returned)
	s.eventually(30*time.Second, "the program is ready again", func() error {
		if status, body := s.get("/readyz"); status != http.StatusOK {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	s.eventually(30*time.Second, "the detector runs", func() error {
		var page list[detector]
		s.json(http.MethodGet, "/api/v1/detectors?limit=100", nil, &page)
		for _, d := range page.Items {
			if d.Name == "watched" && d.Status.State != "running" {
				return fmt.Errorf("%+v", d.Status)
			}
		}
		return nil
	})
	verify(t, s, acknowledged)
	t.Logf("outage %s: %d reads refused, the slowest after %s, and %d writes, %s; /readyz false after %s; writes again %s after the return",
		length, reads.refused, reads.slowest, writes.refused, writes.slowest, notReady, recovered)
	if slowest := max(reads.slowest, writes.slowest); slowest > answered {
		t.Errorf("a request was answered after %s only", slowest)
	}
}

// probesWithoutDatabase asks the probes for a time, and longer until /readyz says
// that the program is not ready. It returns after which time it did.
func (s *server) probesWithoutDatabase(gone time.Time, length time.Duration) (notReady time.Duration) {
	s.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for time.Since(gone) < length || notReady == 0 && time.Since(gone) < length+20*time.Second {
		if status, body := s.get("/livez"); status != http.StatusOK {
			s.t.Errorf("/livez without a database: %d %s", status, body)
		}
		if status, _ := s.get("/readyz"); status == http.StatusServiceUnavailable && notReady == 0 {
			notReady = time.Since(gone)
		}
		<-tick.C
	}
	if notReady == 0 {
		s.t.Error("/readyz never said that the database is away")
	}
	return notReady
}

// asked says how requests fared without a database.
type asked struct {
	refused int
	slowest time.Duration
}

// askWithoutDatabase sends requests until over is closed.
func (s *server) askWithoutDatabase(over <-chan struct{}, send func(i int) (int, []byte)) (out asked) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		began := time.Now()
		status, body := send(i)
		out.slowest = max(out.slowest, time.Since(began))
		if status < 200 || status > 399 { // else a cached answer, or the database is back
			var p problem
			if err := json.Unmarshal(body, &p); err != nil || status < 500 || p.Retryable == nil || !*p.Retryable {
				s.t.Errorf("without a database: %d %s", status, body)
			}
			out.refused++
		}
		select {
		case <-over:
			return out
		case <-tick.C:
		}
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
