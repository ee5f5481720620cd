package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aiops/internal/testkit"
)

// TestChaos does to a running program, at random and all at once, what breaks
// such programs: its database pauses and refuses, its source hangs, cuts off,
// lies and asks for time, clients flood it, stop reading and vanish, the
// configuration changes. Meanwhile and afterwards the invariants below hold. It
// takes 20 s; AIOPS_CHAOS=10m is the full form (make chaos).
//
//	nothing acknowledged is lost, nothing keyed happens twice
//	every failure is a problem document, and a 5xx is one that can be retried
//	/livez is always 200
//	an anomaly is not resolved because its data was away
//	no race, no panic, and the goroutines are back at the baseline
func TestChaos(t *testing.T) {
	t.Parallel()
	length := 20 * time.Second
	if text := os.Getenv("AIOPS_CHAOS"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		length = d
	}
	pg := testkit.RequirePostgres(t)
	url, err := pg.CreateDatabase("chaos")
	if err != nil {
		t.Fatal(err)
	}
	address := strings.SplitN(strings.SplitN(url, "@", 2)[1], "/", 2)[0]
	database := startFaultyNetwork(t, address)
	source := startSource(t)
	dir := t.TempDir()
	configure := func(extra int) string {
		var b strings.Builder
		fmt.Fprintf(&b, "storage: {postgres: {url: %q}}\n", strings.Replace(url, address, database.Addr().String(), 1))
		fmt.Fprintf(&b, "sources: [{name: chaos, type: prometheus, url: %q, late_data: 1s, timeout: 3s}]\n", source.URL)
		b.WriteString("detectors:\n  - {name: high, source: chaos, query: load, step: 1s, model: threshold, parameters: {above: 50}, for: 0s}\n")
		for i := range extra {
			fmt.Fprintf(&b, "  - {name: extra %d, source: chaos, query: load, step: 2s, model: ewma}\n", i)
		}
		return withConfig(t, dir, b.String())
	}
	s := start(t, filepath.Join(dir, "data"), "serve", "--config", configure(0))
	var firing anomaly
	s.eventually(60*time.Second, "the anomaly fires", func() error {
		var page list[anomaly]
		s.json(http.MethodGet, "/api/v1/anomalies?state=firing", nil, &page)
		for _, a := range page.Items {
			if a.DetectorName == "high" {
				firing = a
				return nil
			}
		}
		return fmt.Errorf("%d anomalies", len(page.Items))
	})
	// Each detector has a goroutine of its own, and the writers make detectors.
	goroutines := func() float64 { return s.metric("go_goroutines") - s.metric("aiops_pipeline_detectors") }
	baseline := goroutines()

	w := &witness{acknowledged: map[string]string{}, codes: map[string]int{}}
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var actors sync.WaitGroup
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	act := func(n int, pause time.Duration, f func(r *rand.Rand)) {
		for i := range n {
			seed++
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			actors.Go(func() {
				for ctx.Err() == nil {
					f(r)
					idle(ctx, time.Duration(r.Int64N(int64(2*pause)+1)))
				}
			})
		}
	}
	act(1, 2*time.Second, func(r *rand.Rand) { // the database
		database.mode.Store([]string{"refuse", "freeze"}[r.IntN(2)])
		idle(ctx, time.Duration(200+r.IntN(2800))*time.Millisecond)
		database.mode.Store("pass")
		database.cut()
	})
	act(1, time.Second, func(r *rand.Rand) { // the source
		source.mode.Store(sourceFaults[r.IntN(len(sourceFaults))])
		idle(ctx, time.Duration(200+r.IntN(3000))*time.Millisecond)
		source.mode.Store("good")
	})
	act(2, 20*time.Millisecond, func(*rand.Rand) { w.write(s.url) })
	act(4, 30*time.Millisecond, func(r *rand.Rand) {
		w.read(s.url, []string{"/api/v1/detectors", "/api/v1/anomalies", "/api/v1/sources", "/health?verbose", "/api/v1/errors", "/metrics", "/api/deployment"}[r.IntN(7)])
	})
	act(1, 100*time.Millisecond, func(*rand.Rand) { w.probe(s.url) })
	act(2, 200*time.Millisecond, func(r *rand.Rand) { killedClient(ctx, s.url, r) })
	act(1, 3*time.Second, func(r *rand.Rand) { // a flood
		var flood sync.WaitGroup
		for range 150 {
			flood.Go(func() { w.read(s.url, "/api/v1/detectors?limit=500") })
		}
		flood.Wait()
	})
	act(1, 4*time.Second, func(r *rand.Rand) { // the configuration
		configure(r.IntN(4))
		w.send(http.MethodPost, s.url, "/-/reload", "", "")
	})
	actors.Wait()

	database.mode.Store("pass")
	source.mode.Store("good")
	s.eventually(30*time.Second, "the program is ready again", func() error {
		if status, body := s.get("/readyz"); status != http.StatusOK {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	s.eventually(60*time.Second, "every write has its answer", func() error { return w.finish(s.url) })
	for _, fault := range w.faults(s) {
		t.Error(fault)
	}
	s.eventually(30*time.Second, "the anomaly is still there", func() error {
		var a anomaly
		s.json(http.MethodGet, "/api/v1/anomalies/"+firing.ID, nil, &a)
		if a.State != "firing" {
			t.Fatalf("the anomaly is %s, and its value never fell", a.State)
		}
		return nil
	})
	for _, name := range []string{"aiops_api_panics_total", "aiops_pipeline_panics_total"} {
		if n := s.metric(name); n != 0 {
			t.Errorf("%s is %v", name, n)
		}
	}
	s.eventually(45*time.Second, "the goroutines are back at the baseline", func() error {
		http.DefaultClient.CloseIdleConnections()
		if n := goroutines(); n > baseline+30 {
			return fmt.Errorf("%v goroutines, %v before", n, baseline)
		}
		return nil
	})
	w.mu.Lock()
	t.Logf("%s: %d writes acknowledged, %d answers, failures by code %v, /livez asked %d times, slowest %s",
		length, len(w.acknowledged), w.answers, w.codes, w.probes, w.slowest)
	w.mu.Unlock()
	if w.codes["DATABASE_ERROR"]+w.codes["SERVICE_UNAVAILABLE"]+w.codes["TIMEOUT"] == 0 {
		t.Error("control: no request ever met a failing database, so there was no chaos")
	}
	w.acknowledged["never written"] = "det_0"
	if len(w.faults(s)) == 0 {
		t.Error("control: a lost write was not noticed")
	}
}

// The witness has to notice what must not be.
func TestTheWitnessOfChaos(t *testing.T) {
	t.Parallel()
	const good = `{"type":"/api/v1/errors/X","title":"t","status":503,"code":"OVERLOADED","retryable":true,"retry_after_ms":1000,"request_id":"r"}`
	problemHeader := http.Header{"Content-Type": {"application/problem+json"}, "Retry-After": {"1"}, "X-Request-Id": {"r"}}
	for name, c := range map[string]struct {
		status int
		header http.Header
		body   string
		fine   bool
	}{
		"a success":               {200, http.Header{"X-Request-Id": {"r"}}, "{}", true},
		"a retryable problem":     {503, problemHeader, good, true},
		"no request id":           {200, http.Header{}, "{}", false},
		"no problem":              {503, http.Header{"Content-Type": {"text/plain"}, "X-Request-Id": {"r"}}, "no", false},
		"not retryable":           {500, problemHeader, strings.Replace(good, "true", "false", 1), false},
		"an internal error":       {500, problemHeader, strings.Replace(good, "OVERLOADED", "INTERNAL_ERROR", 1), false},
		"no time to wait":         {503, http.Header{"Content-Type": {"application/problem+json"}, "X-Request-Id": {"r"}}, good, false},
		"a refusal of the client": {409, problemHeader, strings.Replace(strings.Replace(good, "true", "false", 1), "OVERLOADED", "CONFLICT", 1), true},
	} {
		if _, fault := judge(c.status, c.header, []byte(c.body)); (fault == "") != c.fine {
			t.Errorf("%s: %q", name, fault)
		}
	}
}

// judge returns the code of a failure, and what is wrong with an answer.
func judge(status int, header http.Header, body []byte) (code, fault string) {
	if header.Get("X-Request-Id") == "" {
		return "", "an answer without a request id"
	}
	if status < 400 {
		return "", ""
	}
	var p problem
	if !strings.HasPrefix(header.Get("Content-Type"), "application/problem+json") || json.Unmarshal(body, &p) != nil || p.Code == "" || p.Retryable == nil || p.RequestID == "" {
		return "", fmt.Sprintf("%d without a problem document: %.200s", status, body)
	}
	switch {
	case status >= 500 && (!*p.Retryable || p.Code == "INTERNAL_ERROR"):
		fault = fmt.Sprintf("%d %s, which cannot be retried: %s", status, p.Code, p.Detail)
	case *p.Retryable && header.Get("Retry-After") == "":
		fault = fmt.Sprintf("%d %s without Retry-After", status, p.Code)
	}
	return p.Code, fault
}

// witness keeps what was seen.
type witness struct {
	mu           sync.Mutex
	acknowledged map[string]string // name to id
	unsure       []string          // names whose writes had no answer yet
	codes        map[string]int
	broken       []string
	answers      int
	probes       int
	slowest      time.Duration
	number       atomic.Int64
}

func (w *witness) note(fault string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if fault != "" && len(w.broken) < 20 {
		w.broken = append(w.broken, fault)
	}
}

// send sends one request and judges the answer. Status 0 is none at all.
func (w *witness) send(method, url, path, key, body string) (int, []byte) {
	ctx, cancel := context.WithTimeout(context.Background(), 45*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url+path, strings.NewReader(body))
	if err != nil {
		w.note(err.Error())
		return 0, nil
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.note(fmt.Sprintf("%s %s got no answer: %v", method, path, err))
		return 0, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.note(fmt.Sprintf("%s %s broke off: %v", method, path, err))
		return 0, nil
	}
	code, fault := judge(resp.StatusCode, resp.Header, text)
	if fault != "" {
		w.note(method + " " + path + ": " + fault)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers++
	if code != "" {
		w.codes[code]++
	}
	return resp.StatusCode, text
}

func (w *witness) read(url, path string) { w.send(http.MethodGet, url, path, "", "") }

// write creates a detector under a key of its own, or tries an old one again where
// many had no answer: a long run has to get through what it left open at its end.
func (w *witness) write(url string) {
	name := ""
	w.mu.Lock()
	if len(w.unsure) > mostUnsure {
		name, w.unsure = w.unsure[0], w.unsure[1:]
	}
	w.mu.Unlock()
	if name == "" {
		name = fmt.Sprint("chaos ", w.number.Add(1))
	}
	if !w.try(url, name) {
		w.mu.Lock()
		w.unsure = append(w.unsure, name)
		w.mu.Unlock()
	}
}

// try reports whether the write of name has an answer that stands.
func (w *witness) try(url, name string) bool {
	body, err := json.Marshal(map[string]any{"name": name, "query": "up", "enabled": false})
	if err != nil {
		w.note(err.Error())
		return true
	}
	status, text := w.send(http.MethodPost, url, "/api/v1/detectors", "key of "+name, string(body))
	switch {
	case status == http.StatusCreated:
		var d detector
		if err := json.Unmarshal(text, &d); err != nil {
			w.note(err.Error())
		}
		w.mu.Lock()
		w.acknowledged[name] = d.ID
		w.mu.Unlock()
		return true
	case status == http.StatusConflict && bytes.Contains(text, []byte("was carried out")):
		return true
	}
	return false
}

// mostUnsure is how many writes may be without an answer.
const mostUnsure = 100

// finish repeats what had no answer yet.
func (w *witness) finish(url string) error {
	w.mu.Lock()
	names := w.unsure
	w.unsure = nil
	w.mu.Unlock()
	var left []string
	for _, name := range names {
		if !w.try(url, name) {
			left = append(left, name)
		}
	}
	if len(left) > 0 {
		w.mu.Lock()
		w.unsure = left
		w.mu.Unlock()
		return fmt.Errorf("%d writes have no answer", len(left))
	}
	return nil
}

func (w *witness) probe(url string) {
	begin := time.Now()
	resp, err := http.Get(url + "/livez")
	if err != nil {
		w.note("/livez: " + err.Error())
		return
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		w.note(fmt.Sprint("/livez is ", resp.StatusCode))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.probes++
	w.slowest = max(w.slowest, time.Since(begin))
}

// faults returns everything that must not be.
func (w *witness) faults(s *server) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := slices.Clone(w.broken)
	if n := missing(s, w.acknowledged); n > 0 {
		out = append(out, fmt.Sprintf("%d of %d acknowledged writes are gone", n, len(w.acknowledged)))
	}
	if len(w.acknowledged) == 0 {
		out = append(out, "nothing was acknowledged, so nothing was proven")
	}
	if w.slowest > 5*time.Second {
		out = append(out, fmt.Sprintf("/livez took %s", w.slowest))
	}
	return out
}

// killedClient opens the live stream, reads a little or nothing, and vanishes.
func killedClient(ctx context.Context, url string, r *rand.Rand) {
	d := net.Dialer{}
	c, err := d.DialContext(ctx, "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = fmt.Fprintf(c, "GET /api/v1/events HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", strings.TrimPrefix(url, "http://"))
	if r.IntN(2) == 0 {
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		_, _ = io.CopyN(io.Discard, c, 4096)
	}
	idle(ctx, time.Duration(r.IntN(800))*time.Millisecond)
	_ = c.(*net.TCPConn).SetLinger(0)
}

func idle(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// chaosSource is a Prometheus whose one series is always 100.
type chaosSource struct {
	*httptest.Server
	mode atomic.Value
}

var sourceFaults = []string{"hang", "500", "cut", "html", "429", "slow", "reset"}

func startSource(t *testing.T) *chaosSource {
	t.Helper()
	s := &chaosSource{}
	s.mode.Store("good")
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// ServeHTTP implements http.Handler.
func (s *chaosSource) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	switch s.mode.Load() {
	case "hang":
		<-r.Context().Done()
		return
	case "500":
		http.Error(w, "no", http.StatusInternalServerError)
		return
	case "html":
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html>sign in</html>")
		return
	case "429":
		w.Header().Set("Retry-After", "1")
		http.Error(w, "slow down", http.StatusTooManyRequests)
		return
	case "slow":
		idle(r.Context(), 1500*time.Millisecond)
	case "reset":
		if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}
		return
	}
	w.Header().Set("Content-Type", "application/json")
	now := float64(time.Now().UnixMilli()) / 1000
	body := fmt.Sprintf(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[%s,"%.3f"]}]}}`, r.Form.Get("time"), now)
	if strings.HasSuffix(r.URL.Path, "/query_range") {
		number := func(name string) float64 {
			v, err := strconv.ParseFloat(r.Form.Get(name), 64)
			if err != nil {
				return 0
			}
			return v
		}
		var points []string
		for at, step := number("start"), max(number("step"), 0.1); at <= min(number("end"), now); at += step {
			points = append(points, fmt.Sprintf(`[%.3f,"100"]`, at))
		}
		body = `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"load","instance":"a"},"values":[` + strings.Join(points, ",") + `]}]}}`
	}
	if s.mode.Load() == "cut" {
		body = body[:len(body)/2]
	}
	_, _ = io.WriteString(w, body)
}

// faultyNetwork passes TCP on, or refuses, or stops in the middle, or takes 2 s for
// each way back.
type faultyNetwork struct {
	net.Listener
	target string
	mode   atomic.Value // pass, refuse, freeze or slow

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func startFaultyNetwork(t *testing.T, target string) *faultyNetwork {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &faultyNetwork{Listener: l, target: target, conns: map[net.Conn]bool{}}
	p.mode.Store("pass")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		p.mode.Store("refuse")
		p.cut()
	})
	return p
}

// cut ends every connection.
func (p *faultyNetwork) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *faultyNetwork) serve(c net.Conn) {
	defer c.Close()
	if p.mode.Load() == "refuse" {
		return
	}
	up, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer up.Close()
	p.mu.Lock()
	p.conns[c], p.conns[up] = true, true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, c)
		delete(p.conns, up)
	}()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{c, up}, {up, c}} {
		go func() {
			defer func() { done <- struct{}{} }()
			buf := make([]byte, 16<<10)
			for {
				n, err := way[0].Read(buf)
				for err == nil && p.mode.Load() == "freeze" {
					idle(context.Background(), 20*time.Millisecond)
				}
				if err == nil && way[0] == up && p.mode.Load() == "slow" {
					idle(context.Background(), 2*time.Second)
				}
				if err != nil || p.mode.Load() == "refuse" {
					return
				}
				if _, err := way[1].Write(buf[:n]); err != nil {
					return
				}
			}
		}()
	}
	<-done
}
