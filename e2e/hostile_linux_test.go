package e2e

import (
	"bytes"
	"compress/gzip"

	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang/snappy"
)

// The race detector multiplies the memory of a program, so that a bound on
// memory says little in its presence; make hostile runs without it.
const racedMemory = 8

// latency asks n times, one after the other, and returns the 99th percentile.
func (s *server) latency(path string, n int) (time.Duration, error) {
	times := make([]time.Duration, n)
	for i := range times {
		began := time.Now()
		if status, body := s.get(path); status != http.StatusOK {
			return 0, fmt.Errorf("%s: %d %s", path, status, body)
		}
		times[i] = time.Since(began)
	}
	slices.Sort(times)
	return times[n*99/100], nil
}

// A bomb is a request that costs the sender little and a careless receiver much.
type bomb struct {
	name, path, mediaType, encoding string
	body                            []byte
	chunked                         bool
}

func zipped(body []byte, times int) []byte {
	for range times {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write(body)
		_ = w.Close()
		body = b.Bytes()
	}
	return body
}

func bombs() []bomb {
	const protobuf, jsonType = "application/x-protobuf", "application/json"
	declares := []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0} // a snappy block of 4 GiB in ten bytes
	zeros := zipped(make([]byte, 128<<20), 1)
	nested := zipped(make([]byte, 128<<20), 2)
	most := zipped(make([]byte, 15<<20), 1)
	packed := snappy.Encode(nil, make([]byte, 15<<20))
	var keys bytes.Buffer
	for i := range 60_000 {
		fmt.Fprintf(&keys, `,"k%d":1`, i)
	}
	many := append(append([]byte(`{"name":"x","query":"up"`), keys.Bytes()...), '}')
	deep := bytes.Repeat([]byte("["), 1<<20-1)
	out := []bomb{
		{"five million brackets", "/api/v1/detectors", jsonType, "", bytes.Repeat([]byte("["), 5_000_000), false},
		{"a million brackets, no length", "/api/v1/detectors", jsonType, "", deep, true},
		{"sixty thousand keys", "/api/v1/detectors", jsonType, "", many, true},
		{"a key twice", "/api/v1/detectors", jsonType, "", []byte(`{"name":"a","name":"b","query":"up"}`), false},
		{"zipped JSON", "/api/v1/detectors", jsonType, "gzip", zeros, false},
		{"nonsense", "/api/v1/write", protobuf, "snappy", []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), false},
		{"a zipped push", "/loki/api/v1/push", jsonType, "gzip", zeros, true},
		{"a push zipped twice", "/loki/api/v1/push", jsonType, "gzip", nested, false},
		{"zipped records", "/v1/logs", protobuf, "gzip", zeros, true},
		{"a push of the most bytes", "/loki/api/v1/push", jsonType, "gzip", most, false},
		{"records of the most bytes", "/v1/logs", protobuf, "gzip", most, false},
		{"samples of the most bytes", "/api/v1/write", protobuf, "snappy", packed, false},
		{"records zipped twice", "/v1/logs", protobuf, "gzip", nested, false},
	}
	for _, path := range []string{"/api/v1/write", "/loki/api/v1/push"} {
		out = append(out, bomb{"4 GiB declared in ten bytes", path, protobuf, "snappy", declares, false})
	}
	return out
}

// fault says what is wrong with the answer to a bomb.
func (b bomb) fault(status int, body []byte) string {
	var p problem
	switch {
	case status == 0:
		return "" // it was cut off, which is an answer to a sender that does not stop
	case status < 400:
		return fmt.Sprintf("%s was taken: %d", b.name, status)
	case json.Unmarshal(body, &p) != nil || p.Code == "":
		return fmt.Sprintf("%s: %d without a problem document: %.200s", b.name, status, body)
	case status >= 500 && (p.Retryable == nil || !*p.Retryable || p.Code == "INTERNAL_ERROR"):
		return fmt.Sprintf("%s: %d %s", b.name, status, p.Code)
	}
	return ""
}

func (b bomb) send(client *http.Client, url string) (int, []byte) {
	var body io.Reader = bytes.NewReader(b.body)
	if b.chunked {
		body = io.MultiReader(body) // of a length that the client does not know
	}
	r, err := http.NewRequest(http.MethodPost, url+b.path, body)
	if err != nil {
		return 0, nil
	}
	r.Header.Set("Content-Type", b.mediaType)
	if b.encoding != "" {
		r.Header.Set("Content-Encoding", b.encoding)
	}
	resp, err := client.Do(r)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil
	}
	return resp.StatusCode, text
}

// TestBodyBombs throws a thousand bodies at the program that unpack, nest or
// declare far more than they are: each is refused, memory stays bounded and
// probes are answered meanwhile.
func TestBodyBombs(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), "serve")
	if _, err := s.latency("/api/v1/detectors", 50); err != nil {
		t.Fatal(err)
	}
	idle := s.memory("VmHWM")
	total, atOnce, limit := 1000, 200, int64(128<<20)
	if raced {
		total, atOnce, limit = 112, 28, limit*racedMemory
	}
	all := bombs()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: atOnce}, Timeout: 60 * time.Second}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	faults, answers := map[string]int{}, map[string]int{}
	stop := make(chan struct{})
	var watching sync.WaitGroup
	var times []time.Duration
	var bad int
	watching.Go(func() { times, bad = s.livez(stop) })
	var senders sync.WaitGroup
	var next atomic.Int64
	for range atOnce {
		senders.Go(func() {
			for i := int(next.Add(1)); i <= total; i = int(next.Add(1)) {
				b := all[i%len(all)]
				status, body := b.send(client, s.url)
				mu.Lock()
				answers[fmt.Sprintf("%s: %d", b.name, status)]++
				if f := b.fault(status, body); f != "" {
					faults[f]++
				}
				mu.Unlock()
			}
		})
	}
	senders.Wait()
	close(stop)
	watching.Wait()
	if bad > 0 {
		t.Errorf("/livez was not 200 %d times", bad)
	}
	for f, n := range faults {
		t.Errorf("%d times: %s", n, f)
	}
	grown := s.memory("VmHWM") - idle
	if grown > limit {
		t.Errorf("memory grew by %d MiB, at most %d are allowed", grown>>20, limit>>20)
	}
	t.Logf("%d bombs, memory grew by %d MiB, /livez p99 %s; answers: %v", total, grown>>20, times[len(times)*99/100], answers)
	if status, _ := s.get("/readyz"); status != http.StatusOK {
		t.Errorf("/readyz is %d afterwards", status)
	}
	if all[0].fault(http.StatusCreated, nil) == "" || all[0].fault(http.StatusInternalServerError, []byte(`{"code":"INTERNAL_ERROR"}`)) == "" {
		t.Error("control: a bomb that was taken, or broke something, was not noticed")
	}
}

// TestSlowClients holds many connections open that send a byte now and then or
// do not read their answers. Others are served as before, and the slow ones are
// cut off.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), "serve", configured(t, "builtin: {host: {disabled: true}}\n")...)
	n, samples := 1000, 1000
	if raced {
		n, samples = 300, 200
	}
	before, err := s.latency("/api/v1/detectors", samples)
	if err != nil {
		t.Fatal(err)
	}
	goroutines := func() float64 { return s.metric("go_goroutines") - s.metric("aiops_pipeline_detectors") }
	baseline := goroutines()
	address := strings.TrimPrefix(s.url, "http://")
	var open atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i := range n {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		open.Add(1)
		how := []int{slowHeader, slowBody}[i%2]
		if i < n/20 {
			how = doNotRead
		}
		clients.Go(func() {
			defer open.Add(-1)
			slowly(conn, how, stop)
		})
		if how == doNotRead {
			<-time.After(10 * time.Millisecond) // what they ask for is work, and must not be refused
		}
	}
	allowed := 2*before + 50*time.Millisecond
	if raced {
		allowed += time.Second // other tests take the processors at the same time
	}
	// What they asked for at once is work of its own, which is soon done.
	var during time.Duration
	s.eventually(9*time.Second, "others are served as before", func() error {
		if during, err = s.latency("/api/v1/detectors", samples); err != nil {
			return err
		}
		if during > allowed {
			return fmt.Errorf("p99 is %s beside %d slow clients, and %s without", during, open.Load(), before)
		}
		return nil
	})
	if still := open.Load(); still < int64(n) {
		t.Errorf("control: only %d of %d slow clients were there at the time", still, n)
	}
	held := goroutines()
	if held < baseline+float64(n)/2 {
		t.Errorf("control: only %v goroutines serve %d slow clients, so they were not there", held-baseline, n)
	}
	s.eventually(60*time.Second, "the slow clients are cut off", func() error {
		if left := open.Load(); left > 0 {
			return fmt.Errorf("%d are still connected", left)
		}
		return nil
	})
	close(stop)
	clients.Wait()
	s.eventually(30*time.Second, "their goroutines are gone", func() error {
		http.DefaultClient.CloseIdleConnections()
		if left := goroutines(); left > baseline+30 { // the queue of tasks starts its upkeep some seconds after the rest
			return fmt.Errorf("%v goroutines, %v before", left, baseline)
		}
		return nil
	})
	t.Logf("%d slow clients: p99 %s before, %s beside them", n, before, during)
}

// Ways to be slow.
const (
	slowHeader = iota
	slowBody
	doNotRead
)

// slowly behaves badly until it is cut off: it sends a header or a body a byte
// at a time, or asks for pages without end and reads none.
func slowly(conn net.Conn, how int, stop <-chan struct{}) {
	head := "POST /api/v1/detectors HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n"
	switch how {
	case slowBody:
		head += "\r\n{"
	case doNotRead:
		_ = conn.(*net.TCPConn).SetReadBuffer(4096)
		page := "GET /api/openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
		_, _ = conn.Write([]byte(strings.Repeat(page, 20)))
		for { // a byte now and then tells whether the connection is still open
			_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
			_, err := conn.Write([]byte("x"))
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
			select {
			case <-stop:
				return
			case <-time.After(500 * time.Millisecond):
			}
		}
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, conn)
	}()
	_, _ = conn.Write([]byte(head))
	for {
		select {
		case <-gone:
			return
		case <-stop:
			return
		case <-time.After(time.Second):
			_, _ = conn.Write([]byte{'x'})
		}
	}
}

// listeners are the addresses on which a process takes connections.
func listeners(t *testing.T, pid int) []string {
	t.Helper()
	owned := map[string]bool{}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if to, err := os.Readlink(f); err == nil && strings.HasPrefix(to, "socket:[") {
			owned[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
		}
	}
	var out []string
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			continue // a machine without IPv6
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			// state 0A listens; a UDP socket without a peer (07) takes what comes
			if len(f) > 9 && owned[f[9]] && (f[3] == "0A" || f[3] == "07") {
				_, port, _ := strings.Cut(f[1], ":")
				number, err := strconv.ParseUint(port, 16, 16)
				if err != nil {
					t.Fatal(err)
				}
				kind := "other"
				if strings.HasPrefix(f[1], "0100007F:") {
					kind = "127.0.0.1"
				}
				out = append(out, fmt.Sprintf("%s %s:%d", strings.TrimSuffix(table, "6"), kind, number))
			}
		}
	}
	return out
}

// TestNothingElseListens looks at every way to run the program: it listens
// where it was told to and nowhere else, and shows no insides.
func TestNothingElseListens(t *testing.T) {
	t.Parallel()
	here, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	if !slices.Contains(listeners(t, os.Getpid()), "tcp "+here.Addr().String()) {
		t.Fatal("control: the listener of this test was not found")
	}
	want := map[string]int{"demo": 4}
	for name, run := range map[string]func() *server{
		"serve":                     func() *server { return start(t, t.TempDir(), "serve") },
		"serve with authentication": func() *server { return start(t, t.TempDir(), "serve", configured(t, "auth: {enabled: true}\n")...) },
		"demo":                      func() *server { return start(t, t.TempDir(), "demo") },
	} {
		s := run()
		got := listeners(t, s.cmd.Process.Pid)
		own := "tcp " + strings.TrimPrefix(s.url, "http://")
		// The services of the demo's shop have a port each, for this machine alone.
		others := slices.DeleteFunc(slices.Clone(got), func(l string) bool { return l == own })
		if len(others) != want[name] || len(got) != len(others)+1 || slices.ContainsFunc(others, func(l string) bool { return !strings.HasPrefix(l, "tcp 127.0.0.1:") }) {
			t.Errorf("%s: it listens on %v; it was told %s, and %d more are known", name, got, own, want[name])
		}
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/vars", "/debug/requests", "/prometheus/api/v1/admin/tsdb/snapshot"} {
			if status, body := s.get(path); status < 400 && !bytes.Contains(body, []byte("<title>AIOps</title>")) {
				t.Errorf("%s: %s is %d and not the page: %.100s", name, path, status, body)
			}
		}
		s.kill()
	}
}

// TestProbesBesideAHungSource asks for readiness without pause while a source
// takes connections and never answers: the probes are quick and true, and the
// source is not asked more often for it.
func TestProbesBesideAHungSource(t *testing.T) {
	t.Parallel()
	hung, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	var asked atomic.Int64
	go func() {
		for {
			conn, err := hung.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buf := make([]byte, 4096)
				for {
					n, err := conn.Read(buf)
					if err != nil {
						return
					}
					asked.Add(int64(bytes.Count(buf[:n], []byte(" HTTP/1.1\r\n"))))
				}
			}()
		}
	}()
	s := start(t, t.TempDir(), "serve", configured(t, fmt.Sprintf("sources: [{name: hung, type: prometheus, url: \"http://%s\"}]\n", hung.Addr()))...)
	s.eventually(30*time.Second, "the source was asked", func() error {
		if asked.Load() == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	began, first := time.Now(), asked.Load()
	var probes int
	var slowest time.Duration
	var times []time.Duration
	for time.Since(began) < 4*time.Second {
		for _, path := range []string{"/readyz", "/livez", "/readyz?verbose", "/readyz/database"} {
			at := time.Now()
			if status, body := s.get(path); status != http.StatusOK {
				t.Fatalf("%s: %d\n%s", path, status, body)
			}
			times = append(times, time.Since(at))
			probes++
		}
	}
	slices.Sort(times)
	slowest = times[len(times)*99/100]
	if slowest > 100*time.Millisecond && !raced {
		t.Errorf("p99 of %d probes is %s", probes, slowest)
	}
	if n := float64(asked.Load() - first); n > time.Since(began).Seconds()/2+2 {
		t.Errorf("the source was asked %v times in %s during %d probes", n, time.Since(began), probes)
	}
	if probes < 50 {
		t.Errorf("control: only %d probes", probes)
	}
	var h struct {
		Components map[string]struct {
			Status string `json:"status"`
		} `json:"components"`
	}
	s.eventually(30*time.Second, "the source shows as failed", func() error {
		_, body := s.get("/health")
		if err := json.Unmarshal(body, &h); err != nil {
			return err
		}
		if state := h.Components["prometheus"].Status; state == "healthy" || state == "" {
			return fmt.Errorf("prometheus is %q: %s", state, body)
		}
		return nil
	})
	t.Logf("%d probes, p99 %s, the source was asked %d times", probes, slowest, asked.Load()-first)
}
