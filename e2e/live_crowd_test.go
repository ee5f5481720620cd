package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// crowdOf follows a topic with many streams, 20 from each loopback address,
// and keeps of each what it got.
type crowdOf struct {
	t       *testing.T
	arrived []atomic.Int64 // by client: events of the topic
	wrong   atomic.Int64   // events out of order or twice, streams that ended
	mu      sync.Mutex
	delays  []time.Duration // from the event's time, which is before its commit, to its arrival
	conns   []*websocket.Conn
}

func newCrowd(t *testing.T, s *server, n int, topic string) *crowdOf {
	c := &crowdOf{t: t, arrived: make([]atomic.Int64, n), conns: make([]*websocket.Conn, n)}
	began := time.Now()
	var dialling, reading sync.WaitGroup
	var leaving atomic.Bool
	turn := make(chan struct{}, 16)
	for i := range n {
		turn <- struct{}{}
		dialling.Go(func() {
			defer func() { <-turn }()
			at := i / 20
			from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(at/250), byte(1+at%250))}}
			dialer := websocket.Dialer{ReadBufferSize: 1024, WriteBufferSize: 256, HandshakeTimeout: 20 * time.Second, NetDialContext: from.DialContext}
			conn, response, err := dialer.Dial("ws"+strings.TrimPrefix(s.url, "http")+"/api/v1/ws", nil)
			for err != nil && response != nil && response.Header.Get("Retry-After") != "" && time.Since(began) < time.Minute {
				// Only so many are let in in a second.
				seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
				idle(t.Context(), time.Duration(seconds)*time.Second)
				conn, response, err = dialer.Dial("ws"+strings.TrimPrefix(s.url, "http")+"/api/v1/ws", nil)
			}
			if err == nil {
				err = conn.WriteJSON(map[string]any{"type": "subscribe", "topics": []string{topic}, "since": 0})
			}
			if err != nil {
				t.Errorf("stream %d: %v", i, err)
				return
			}
			c.conns[i] = conn
			reading.Go(func() { c.read(i, conn, &leaving) }) // at once: pings want answers
		})
	}
	dialling.Wait()
	t.Cleanup(func() {
		leaving.Store(true)
		for _, conn := range c.conns {
			if conn != nil {
				conn.Close()
			}
		}
		reading.Wait()
	})
	return c
}

func (c *crowdOf) read(i int, conn *websocket.Conn, leaving *atomic.Bool) {
	last := int64(0)
	for {
		_, data, err := conn.ReadMessage()
		if err != nil {
			if !leaving.Load() && c.wrong.Add(1) == 1 {
				c.t.Logf("stream %d ended: %v", i, err)
			}
			return
		}
		now := time.Now()
		var m struct {
			Type   string
			Events []struct {
				ID   int64
				Time time.Time
			}
		}
		if err := json.Unmarshal(data, &m); err != nil {
			c.wrong.Add(1)
			return
		}
		for _, e := range m.Events {
			if e.ID <= last {
				c.wrong.Add(1)
			}
			last = e.ID
			c.arrived[i].Add(1)
			if i%10 == 0 { // a tenth tells enough
				c.mu.Lock()
				c.delays = append(c.delays, now.Sub(e.Time))
				c.mu.Unlock()
			}
		}
	}
}

// least is how many events the slowest client has.
func (c *crowdOf) least() int64 {
	least := c.arrived[0].Load()
	for i := range c.arrived {
		least = min(least, c.arrived[i].Load())
	}
	return least
}

func at99(sorted []time.Duration) time.Duration { return sorted[len(sorted)*99/100] }

// TestACrowdOfStreams holds many streams on the whole program, tells all of
// them of two changes a second and meanwhile asks for a list and a probe (R23).
// AIOPS_STREAMS says how many streams, and AIOPS_STREAMS_FOR for how long; the
// full form, make live, has 10,000 and wants the machine for itself.
func TestACrowdOfStreams(t *testing.T) {
	streams, length, full := 200, 3*time.Second, false
	if text := os.Getenv("AIOPS_STREAMS"); text != "" {
		var err, err2 error
		streams, err = strconv.Atoi(text)
		length, err2 = time.ParseDuration(os.Getenv("AIOPS_STREAMS_FOR"))
		if err != nil || err2 != nil || streams < 1 {
			t.Fatalf("AIOPS_STREAMS=%s AIOPS_STREAMS_FOR=%s", text, os.Getenv("AIOPS_STREAMS_FOR"))
		}
		full = true
	} else {
		t.Parallel()
	}
	if runtime.GOOS != "linux" {
		t.Skip("other loopback addresses than 127.0.0.1 are for Linux alone")
	}
	s := start(t, t.TempDir(), "serve")
	const list = "/api/v1/detectors?limit=5"
	ask := func(length time.Duration, during func(context.Context)) (lists, probes []time.Duration) {
		ctx, cancel := context.WithTimeout(t.Context(), length)
		defer cancel()
		var asking sync.WaitGroup
		for path, took := range map[string]*[]time.Duration{list: &lists, "/readyz": &probes} {
			asking.Go(func() {
				var bad int
				if *took, bad = s.probe(path, ctx.Done()); bad > 0 {
					t.Errorf("%d bad answers of %s", bad, path)
				}
			})
		}
		during(ctx)
		asking.Wait()
		return lists, probes
	}
	wait := func(ctx context.Context) { <-ctx.Done() }
	lists, probes := ask(length, wait)
	t.Logf("no stream: list p50 %s p99 %s, /readyz p99 %s", lists[len(lists)/2], at99(lists), at99(probes))
	alone := at99(lists)

	var d struct{ ID string }
	s.json(http.MethodPost, "/api/v1/detectors", map[string]any{"name": "told of", "query": "up", "step": "30s", "enabled": false}, &d)
	idle, began := s.memory("VmRSS"), time.Now()
	crowd := newCrowd(t, s, streams, "detectors/"+d.ID)
	took := time.Since(began)
	sent := int64(1) // that it was made
	change := func() {
		sent++
		s.json(http.MethodPatch, "/api/v1/detectors/"+d.ID, map[string]any{"labels": map[string]string{"change": fmt.Sprint(sent)}}, nil)
	}
	everybody := func(what string) {
		t.Helper()
		s.eventually(60*time.Second, "everybody is told of "+what, func() error {
			if crowd.least() < sent && crowd.wrong.Load() == 0 {
				return fmt.Errorf("the slowest has %d of %d", crowd.least(), sent)
			}
			return nil
		})
		if n := crowd.wrong.Load(); n != 0 {
			t.Fatalf("%d events out of order or twice, or streams that ended", n)
		}
	}
	everybody("the making of it")
	each := float64(s.memory("VmRSS")-idle) / float64(streams) / 1024
	t.Logf("%d streams in %s, %.1f KiB each", streams, took.Round(time.Millisecond), each)
	lists, probes = ask(length, wait)
	t.Logf("with streams: list p50 %s p99 %s, /readyz p99 %s", lists[len(lists)/2], at99(lists), at99(probes))

	crowd.mu.Lock()
	crowd.delays = nil
	crowd.mu.Unlock()
	lists, probes = ask(length, func(ctx context.Context) {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				change()
			}
		}
	})
	everybody("every change")
	for i := range crowd.arrived {
		if n := crowd.arrived[i].Load(); n != sent {
			t.Fatalf("client %d got %d events of %d", i, n, sent)
		}
	}
	crowd.mu.Lock()
	delays := slices.Sorted(slices.Values(crowd.delays))
	crowd.mu.Unlock()
	t.Logf("two changes a second: list p50 %s p99 %s (%.1f times that without streams), /readyz p99 %s; from the change to the client p50 %s p99 %s",
		lists[len(lists)/2], at99(lists), float64(at99(lists))/float64(alone), at99(probes), delays[len(delays)/2], at99(delays))
	if !full || raced {
		return
	}
	if each > 20 {
		t.Errorf("%.1f KiB for each stream, want 20 at most", each)
	}
	if p := at99(delays); p > 250*time.Millisecond {
		t.Errorf("p99 from the change to the client %s, want 250 ms at most", p)
	}
	if p := at99(probes); p > 100*time.Millisecond {
		t.Errorf("p99 of /readyz %s, want 100 ms at most", p)
	}
}
