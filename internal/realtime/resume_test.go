package realtime

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"aiops/internal/health"
	"aiops/internal/model"
)

// TestResumeUnderWrites is the promise as a property: whatever the topics, the
// cursor, the memory and the moment, while several writers write, a client gets
// each event of its topics once and in order, also over a second connection
// that goes on where the first broke off.
func TestResumeUnderWrites(t *testing.T) {
	t.Parallel()
	all := []string{"anomalies", "anomalies/a", "anomalies/b", "detectors", "detectors/d", "system", "sources"}
	rapid.Check(t, func(rt *rapid.T) {
		o := &outbox{}
		before := rapid.IntRange(0, 900).Draw(rt, "before")
		for i := range before {
			o.add(all[i*i%len(all)], `{}`)
		}
		r := setup(t, Config{Recent: rapid.IntRange(1, 600).Draw(rt, "recent")}, o)
		defer r.stop()
		since := int64(rapid.IntRange(0, before).Draw(rt, "since"))
		topics := rapid.SliceOfNDistinct(rapid.SampledFrom(all), 1, 4, rapid.ID).Draw(rt, "topics")
		breakAfter := rapid.IntRange(0, 300).Draw(rt, "break")

		var writers sync.WaitGroup
		for w := range 3 {
			writers.Go(func() {
				for i := range 100 {
					o.add(all[(w+i)%len(all)], `{}`)
				}
			})
		}
		var got []int64
		last := since
		p := r.dial(nil)
		p.subscribe(&since, topics...)
		take := func() {
			for _, e := range p.expect("events").Events {
				got = append(got, e.ID)
				last = e.ID
			}
		}
		want := func() []int64 {
			o.mu.Lock()
			defer o.mu.Unlock()
			var ids []int64
			for _, e := range o.events {
				if e.ID > since && slices.ContainsFunc(topics, func(t string) bool { return covers(t, e.Topic) }) {
					ids = append(ids, e.ID)
				}
			}
			return ids
		}
		for len(got) < min(breakAfter, len(want())) {
			take()
		}
		_ = p.Close()
		p = r.dial(nil)
		p.subscribe(&last, topics...)
		writers.Wait()
		w := want()
		for len(got) < len(w) {
			take()
		}
		_ = p.Close()
		if !slices.Equal(got, w) {
			rt.Fatalf("got %v\nwant %v", got, w)
		}
	})
}

// TestSecondSubscription adds a topic from the past to a live stream: what the
// stream had is not repeated, and nothing of the new topic lacks.
func TestSecondSubscription(t *testing.T) {
	t.Parallel()
	for name, recent := range map[string]int{"from memory": 4096, "from the log": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &outbox{}
			for i := range 40 {
				o.add([]string{"anomalies/a", "detectors/d"}[i%2], `{}`)
			}
			r := setup(t, Config{Recent: recent}, o)
			p := r.dial(nil)
			p.subscribe(at(30), "anomalies")
			if got := ids(p.events(5)); !slices.Equal(got, []int64{31, 33, 35, 37, 39}) {
				t.Fatalf("first %v", got)
			}
			p.subscribe(at(20), "anomalies/a", "detectors") // the first of them is covered from 31 on
			o.add("anomalies/a", `{}`)
			want := []int64{21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 32, 34, 36, 38, 40, 41}
			if got := ids(p.events(len(want))); !slices.Equal(got, want) {
				t.Errorf("then %v\nwant %v", got, want)
			}
			// A third one while the second may still be under way, and leaving again.
			p.send(map[string]any{"type": "unsubscribe", "topics": []string{"anomalies", "anomalies/a"}})
			p.expect("unsubscribed")
			o.add("anomalies/a", `{}`)
			o.add("detectors/d", `{}`)
			if got := ids(p.events(1)); got[0] != 43 {
				t.Errorf("at last %v", got)
			}
		})
	}
}

// TestPongDuringAReplay: a pong promises only what was sent before it.
func TestPongDuringAReplay(t *testing.T) {
	t.Parallel()
	o := &outbox{}
	for range 100 {
		o.add("system", `{}`)
	}
	r := setup(t, Config{Recent: 1}, o)
	await(t, "the log is read", func() bool { return r.position.Load() == 100 })
	p := r.dial(nil)
	o.set(func() { // the log cannot be read meanwhile
		p.subscribe(at(0), "system")
		p.send(map[string]any{"type": "ping"})
		if m := p.expect("pong"); m.LastEventID != 0 {
			t.Errorf("a pong promises event %d, and nothing was sent", m.LastEventID)
		}
	})
	p.events(100)
	p.send(map[string]any{"type": "ping"})
	if m := p.expect("pong"); m.LastEventID != 100 {
		t.Errorf("a pong promises event %d, and 100 were sent", m.LastEventID)
	}
}

func TestReset(t *testing.T) {
	t.Parallel()
	o := &outbox{}
	for range 100 {
		o.add("anomalies/a", `{}`)
	}
	o.prune(51)
	r := setup(t, Config{Recent: 10}, o)
	for name, since := range map[string]int64{"pruned": 20, "just pruned": 49, "of the future": 1000} {
		p := r.dial(nil)
		p.subscribe(&since, "anomalies")
		m := p.expect("stream.reset")
		if m.LastEventID != 100 || !slices.Equal(m.Topics, []string{"anomalies"}) || since < 100 && m.OldestEventID != 51 {
			t.Errorf("%s: %+v", name, m)
		}
	}
	p := r.dial(nil)
	p.subscribe(at(50), "anomalies") // the oldest that is whole
	p.events(50)
	if n := testutil.ToFloat64(r.metrics.resets); n != 3 {
		t.Errorf("%v resets counted", n)
	}

	// Events that vanish before the gateway read them are no silent gap either.
	o.set(func() { o.deaf = true })
	o.set(func() { o.last += 10 })
	o.set(func() { o.deaf = false })
	o.add("anomalies/a", `{}`)
	if m := p.expect("stream.reset"); m.LastEventID != 110 || m.OldestEventID != 111 {
		t.Errorf("after a hole: %+v", m)
	}
	if got := p.events(1); got[0].ID != 111 {
		t.Errorf("then %v", ids(got))
	}
}

// TestLostSignalsAndBrokenLog reads on after trouble with the log.
func TestLostSignalsAndBrokenLog(t *testing.T) {
	t.Parallel()
	o := &outbox{deaf: true}
	r := setup(t, Config{Poll: model.Duration(20 * time.Millisecond)}, o)
	p := r.dial(nil)
	p.subscribe(nil, "system")
	o.add("system", `{}`)
	p.events(1)

	o.set(func() { o.broken = true })
	o.add("system", `{}`)
	await(t, "the trouble is noticed", func() bool { return testutil.ToFloat64(r.metrics.failures) > 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if c := r.Check(ctx); c.State != health.Unhealthy {
		t.Errorf("with a broken log: %+v", c)
	}
	o.set(func() { o.broken = false })
	if got := p.events(1); got[0].ID != 2 {
		t.Errorf("after the trouble %v", ids(got))
	}
	if c := r.Check(t.Context()); c.State != health.Healthy || c.Details["clients"] != 1 {
		t.Errorf("after the trouble: %+v", c)
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	r := setup(t, Config{}, nil)
	var peers []*peer
	for range 20 {
		p := r.dial(nil)
		p.subscribe(nil, "system")
		peers = append(peers, p)
	}
	stream := r.follow(t, "/events?topics=system", "")
	stream.expect(t, "hello")
	stream.expect(t, "subscribed")
	r.outbox.add("system", `{}`)
	for _, p := range peers {
		p.events(1)
	}
	var closing sync.WaitGroup
	delays := map[int64]bool{}
	var mu sync.Mutex
	for _, p := range peers {
		closing.Go(func() {
			e := p.closed()
			var why struct {
				Since            int64
				ReconnectAfterMS int64 `json:"reconnect_after_ms"`
			}
			if err := json.Unmarshal([]byte(e.Text), &why); err != nil || e.Code != websocket.CloseServiceRestart || why.Since != 1 || why.ReconnectAfterMS < 5000 || why.ReconnectAfterMS > 30_000 {
				t.Errorf("closed with %v (%v)", e, err)
			}
			mu.Lock()
			defer mu.Unlock()
			delays[why.ReconnectAfterMS] = true
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r.Drain(ctx)
	closing.Wait()
	if len(delays) < 10 {
		t.Errorf("20 clients are to come back at %d moments", len(delays))
	}
	if e := stream.expect(t, ""); e.id != "1" {
		t.Errorf("the stream got %+v", e)
	}
	if e := stream.expect(t, "close"); !strings.Contains(e.data, `"since":1`) || e.retry < 5000 || e.retry > 30_000 {
		t.Errorf("the stream ended with %+v", e)
	}
	if left, _ := r.Streams(); len(left) != 0 {
		t.Errorf("left are %+v", left)
	}
	if n := testutil.ToFloat64(r.metrics.closes.WithLabelValues("1012")); n != 21 {
		t.Errorf("%v closed with 1012", n)
	}
}

// sse is the client's end of server-sent events.
type sse struct {
	scanner *bufio.Scanner
	body    func() error
}

type sseEvent struct {
	id, name, data string
	retry          int
}

func (r *rig) follow(t *testing.T, path, lastID string) *sse {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url(path), nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastID != "" {
		request.Header.Set("Last-Event-ID", lastID)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	if ct := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || ct != "text/event-stream; charset=utf-8" {
		t.Fatalf("%s: %d %s", path, response.StatusCode, ct)
	}
	s := bufio.NewScanner(response.Body)
	s.Buffer(nil, 1<<20)
	return &sse{scanner: s, body: response.Body.Close}
}

// expect reads the next event, which has to be of a name.
func (s *sse) expect(t *testing.T, name string) sseEvent {
	t.Helper()
	var e sseEvent
	for s.scanner.Scan() {
		field, value, _ := strings.Cut(s.scanner.Text(), ": ")
		switch field {
		case "id":
			e.id = value
		case "event":
			e.name = value
		case "data":
			e.data = value
		case "retry":
			_, _ = fmt.Sscan(value, &e.retry)
		case "":
			if e.data == "" { // a hint or a heartbeat
				continue
			}
			if e.name != name {
				t.Fatalf("got %+v, want %q", e, name)
			}
			return e
		}
	}
	t.Fatalf("the stream ended before %q: %v", name, s.scanner.Err())
	return e
}

func TestServerSentEvents(t *testing.T) {
	t.Parallel()
	for name, recent := range map[string]int{"from memory": 4096, "from the log": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &outbox{}
			for i := range 600 {
				o.add([]string{"anomalies/a", "detectors/d"}[i%2], fmt.Sprintf(`{"n":%d,"line":"a\nb"}`, i+1))
			}
			r := setup(t, Config{Recent: recent}, o)
			s := r.follow(t, "/events?topics=anomalies,system&since=500", "101") // the header is the later word
			s.expect(t, "hello")
			s.expect(t, "subscribed")
			o.add("system", `{}`)
			want := []int64{}
			for id := int64(103); id <= 600; id += 2 {
				want = append(want, id)
			}
			want = append(want, 601)
			for _, id := range want {
				e := s.expect(t, "")
				var got model.Event
				if err := json.Unmarshal([]byte(e.data), &got); err != nil || got.ID != id || e.id != fmt.Sprint(id) {
					t.Fatalf("got %+v (%v), want event %d", e, err, id)
				}
			}
			if err := r.Publish("series/d/x", []byte(`{}`)); err != nil {
				t.Fatal(err)
			}
			_ = s.body()
			await(t, "the reader is noticed to have left", func() bool { return r.Len() == 0 })
		})
	}
	r := setup(t, Config{}, nil)
	for _, path := range []string{"/events?topics=nothing", "/events?since=x", "/events?since=-1", "/events?topics=" + strings.Repeat("system,", 65)} {
		response, err := http.Get(r.url(path))
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d", path, response.StatusCode)
		}
	}
	s := r.follow(t, "/events?since=9", "")
	s.expect(t, "hello")
	s.expect(t, "subscribed")
	if e := s.expect(t, "stream.reset"); e.data != `{"topics":["actions","anomalies","detectors","incidents","sources","system"],"oldest_event_id":1,"last_event_id":0}` {
		t.Errorf("reset %+v", e)
	}
}

// TestSSEOutlivesTheReadTimeout waits in real time, because the deadline is of
// a real connection.
func TestSSEOutlivesTheReadTimeout(t *testing.T) {
	t.Parallel()
	r := setup(t, Config{}, nil)
	s := r.follow(t, "/events?topics=system", "")
	s.expect(t, "hello")
	s.expect(t, "subscribed")
	timeout := time.NewTimer(2 * readTimeout)
	<-timeout.C
	r.outbox.add("system", `{}`)
	s.expect(t, "")
}

// TestPointsCoalesce looks at the queue of a client that is not written to.
func TestPointsCoalesce(t *testing.T) {
	t.Parallel()
	g := setup(t, Config{QueueFrames: 3}, nil)
	c := &client{gateway: g.Gateway, kind: kindSSE, wake: make(chan struct{}, 1)}
	for i := range 10 {
		c.push(pointFrame("series/a", fmt.Appendf(nil, "%d", i)))
		c.push(pointFrame("series/b", fmt.Appendf(nil, "%d", -i)))
	}
	if len(c.queue) != 2 || !strings.Contains(string(c.queue[0].text), `"data":9`) || !strings.Contains(string(c.queue[1].text), `"data":-9`) {
		t.Errorf("queue %v", c.queue)
	}
	c.push(pointFrame("series/c", []byte(`1`)))
	c.push(pointFrame("series/d", []byte(`1`))) // no room: a point is dropped, the client stays
	if len(c.queue) != 3 || c.closing {
		t.Errorf("%d queued, closing %v", len(c.queue), c.closing)
	}
	c.push(problem("x", "y")) // what may not be dropped ends the client
	if !c.closing || len(c.queue) != 1 || c.queue[0].control != websocket.CloseMessage {
		t.Errorf("after the queue was full: %d queued, closing %v", len(c.queue), c.closing)
	}
	c.mu.Lock()
	c.discard()
	c.mu.Unlock()
}
