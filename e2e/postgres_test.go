package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aiops/client"
	"aiops/internal/testkit"
)

// answeredWithin is how soon a request is answered without a database. 2 s are
// promised, which the full form looks at with half a second for this client. A machine that is busy with other tests is
// given longer, by the program too; where nobody notices, it takes 10 s.
func answeredWithin(full bool) time.Duration {
	if full {
		return 2500 * time.Millisecond
	}
	return 8 * time.Second
}

// TestPostgresGoesAndComesBack kills the database below a running program and
// starts it again (R19); see outage. It takes 8 s; AIOPS_OUTAGE=60s is the full form.
func TestPostgresGoesAndComesBack(t *testing.T) {
	t.Parallel()
	pg := testkit.RequirePostgres(t)
	outage(t, pg, func(*faultyNetwork) { pg.Kill() }, func(*faultyNetwork) error { return pg.Start() })
}

// TestPostgresFreezesAndThaws stops all processes of the database below a running
// program and lets them go on: connections are taken, and nothing is answered.
func TestPostgresFreezesAndThaws(t *testing.T) {
	t.Parallel()
	pg := testkit.RequirePostgres(t)
	outage(t, pg, func(*faultyNetwork) { pg.Freeze() }, func(*faultyNetwork) error { pg.Thaw(); return nil })
}

// TestPostgresIsSlow adds 2 s to each answer of the database.
func TestPostgresIsSlow(t *testing.T) {
	t.Parallel()
	outage(t, testkit.RequirePostgres(t), func(n *faultyNetwork) { n.mode.Store("slow") },
		func(n *faultyNetwork) error { n.mode.Store("pass"); return nil })
}

// TestPostgresHasNoConnectionLeft cuts the connections to the database while others
// take all that it has.
func TestPostgresHasNoConnectionLeft(t *testing.T) {
	t.Parallel()
	pg := testkit.RequirePostgres(t)
	var others *others
	outage(t, pg, func(n *faultyNetwork) {
		n.mode.Store("refuse")
		n.cut()
		others = takeConnections(t, n.target)
		others.full(t)
		n.mode.Store("pass")
	}, func(*faultyNetwork) error { others.stop(); return nil })
}

const enoughRefusals = 20

// others take every connection that a database has, again and again.
type others struct {
	stop    func()
	refused atomic.Int64 // since the last that was given
}

func takeConnections(t *testing.T, address string) *others {
	ctx, cancel := context.WithCancel(t.Context())
	o := &others{}
	var conns []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if conn := connection(address); conn != nil {
				conns = append(conns, conn)
				o.refused.Store(0)
				continue
			}
			pause := 5 * time.Millisecond
			if o.refused.Add(1) >= enoughRefusals {
				pause = 100 * time.Millisecond // each costs the server a process
			}
			idle(ctx, pause)
		}
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	o.stop = func() { cancel(); <-done }
	t.Cleanup(o.stop)
	return o
}

// full returns when nothing was left for a while.
func (o *others) full(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for o.refused.Load() < enoughRefusals {
		if time.Now().After(deadline) {
			t.Fatal("control: there is always another connection")
		}
		idle(t.Context(), 5*time.Millisecond)
	}
}

// connection begins a session, and returns nil when it is refused.
func connection(address string) net.Conn {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil
	}
	const parameters = "user\x00aiops\x00database\x00outage\x00\x00"
	message := append([]byte{0, 0, 0, 8 + byte(len(parameters)), 0, 3, 0, 0}, parameters...) // its length, and version 3.0
	kind := make([]byte, 1)
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err = c.Write(message); err == nil {
		_, err = io.ReadFull(c, kind)
	}
	if err != nil || kind[0] != 'R' { // of the message that says that it is let in
		_ = c.Close()
		return nil
	}
	return c
}

// outage takes the database away from a running program for a time (8 s, or
// AIOPS_OUTAGE): requests are answered soon with 503, and a time after which to repeat
// them; probes tell the truth; afterwards everything works again without a restart, and
// nothing acknowledged is gone. Live points of a chart go on all the while, on the
// connection of before. The database is reached by a network that away and back get.
func outage(t *testing.T, pg *testkit.Postgres, away func(*faultyNetwork), back func(*faultyNetwork) error) {
	length, text := 8*time.Second, os.Getenv("AIOPS_OUTAGE")
	if text != "" {
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
	address := strings.SplitN(strings.SplitN(url, "@", 2)[1], "/", 2)[0]
	network := startFaultyNetwork(t, address)
	url = strings.Replace(url, address, network.Addr().String(), 1)
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
	idle(t.Context(), 5*time.Second) // until the program knows how soon this database answers
	away(network)
	gone := time.Now()
	var asking sync.WaitGroup
	over := make(chan struct{})
	var reads, writes asked
	crowd := s.crowdWithoutDatabase(&asking)
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
	if err := back(network); err != nil {
		t.Fatal(err)
	}
	returned := time.Now()
	asking.Wait()
	if reads.refused == 0 || writes.refused == 0 || crowd.refused == 0 {
		t.Errorf("control: %d reads, %d of a crowd and %d writes met the outage", reads.refused, crowd.refused, writes.refused)
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
	t.Logf("outage %s: %d reads refused, the slowest after %s, %d of a crowd, %s, and %d writes, %s; /readyz false after %s; writes again %s after the return",
		length, reads.refused, reads.slowest, crowd.refused, crowd.slowest, writes.refused, writes.slowest, notReady, recovered)
	if slowest := max(reads.slowest, writes.slowest, crowd.slowest); slowest > answeredWithin(text != "") {
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

// note takes the answer to a request that began at a time.
func (a *asked) note(t *testing.T, began time.Time, status int, body []byte) {
	a.slowest = max(a.slowest, time.Since(began))
	if status >= 200 && status <= 399 {
		return // a cached answer, or the database is back
	}
	a.refused++
	var p problem
	if err := json.Unmarshal(body, &p); err != nil || status != http.StatusServiceUnavailable || p.Retryable == nil || !*p.Retryable || p.RetryAfter <= 0 {
		t.Errorf("without a database: %d %s", status, body)
	}
}

// askWithoutDatabase sends requests until over is closed.
func (s *server) askWithoutDatabase(over <-chan struct{}, send func(i int) (int, []byte)) (out asked) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		began := time.Now()
		status, body := send(i)
		out.note(s.t, began, status, body)
		select {
		case <-over:
			return out
		case <-tick.C:
		}
	}
}

// crowdWithoutDatabase sends more requests at once than there are connections to the
// database. What comes of them is known when asking is over.
func (s *server) crowdWithoutDatabase(asking *sync.WaitGroup) *asked {
	var mu sync.Mutex
	out := &asked{}
	for i := range 40 {
		asking.Go(func() {
			began := time.Now()
			status, body := s.get(fmt.Sprintf("/api/v1/tasks?limit=%d", i+1))
			mu.Lock()
			defer mu.Unlock()
			out.note(s.t, began, status, body)
		})
	}
	return out
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
