package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
)

// outbox is a log of events in memory, as the store keeps it.
type outbox struct {
	mu      sync.Mutex
	events  []model.Event
	last    int64
	broken  bool
	deaf    bool // announces nothing
	signals map[chan struct{}]bool
}

func (o *outbox) add(topic string, data string) int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last++
	o.events = append(o.events, model.Event{ID: o.last, Type: "test.happened", Topic: topic, Time: time.Now(), Data: json.RawMessage(data)})
	if !o.deaf {
		for c := range o.signals {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
	return o.last
}

// prune deletes the events before oldest.
func (o *outbox) prune(oldest int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = slices.DeleteFunc(o.events, func(e model.Event) bool { return e.ID < oldest })
}

func (o *outbox) set(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
}

func (o *outbox) Events(_ context.Context, since int64, topics []string, limit int) ([]model.Event, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.broken {
		return nil, errors.New("the log is broken")
	}
	var out []model.Event
	for _, e := range o.events {
		if e.ID > since && len(out) < limit && (len(topics) == 0 || slices.ContainsFunc(topics, func(t string) bool { return covers(t, e.Topic) })) {
			out = append(out, e)
		}
	}
	return out, nil
}

func (o *outbox) EventSignal() (<-chan struct{}, func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := make(chan struct{}, 1)
	if o.signals == nil {
		o.signals = map[chan struct{}]bool{}
	}
	o.signals[c] = true
	return c, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.signals, c)
	}
}

func (o *outbox) LastEventID(context.Context) (int64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last, nil
}

func (o *outbox) OldestEventID(context.Context) (int64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.events) == 0 {
		return o.last + 1, nil
	}
	return o.events[0].ID, nil
}

// readTimeout is the server's bound for reading a request, which must not end
// a stream.
const readTimeout = 500 * time.Millisecond

// rig is a running gateway behind a real server.
type rig struct {
	*Gateway
	t      *testing.T
	outbox *outbox
	server *httptest.Server
	stop   func()
	gather *prometheus.Registry
}

func setup(t *testing.T, c Config, o *outbox) *rig {
	t.Helper()
	return setupGuarded(t, c, o, nil)
}

func setupGuarded(t *testing.T, c Config, o *outbox, a Authority) *rig {
	t.Helper()
	if o == nil {
		o = &outbox{}
	}
	registry := prometheus.NewRegistry()
	if c.MaxClientsPerAddress == 0 {
		c.MaxClientsPerAddress = 1000
	}
	r := &rig{Gateway: New(c, o, a, slog.New(slog.DiscardHandler), registry), t: t, outbox: o, gather: registry}
	mux := http.NewServeMux()
	mux.Handle("/ws", r.WebSocket())
	mux.Handle("/events", r.SSE())
	r.server = httptest.NewUnstartedServer(mux)
	r.server.Config.ReadTimeout = readTimeout
	r.server.Start()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		r.server.Close()
	})
	t.Cleanup(r.stop)
	await(t, "the gateway runs", r.running)
	return r
}

// await waits until condition holds.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(15 * time.Second)
	for !condition() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("timed out: %s", what)
		}
	}
}

func (r *rig) url(path string) string { return r.server.URL + path }

// dial opens a WebSocket and reads the greeting.
func (r *rig) dial(header http.Header) *peer {
	r.t.Helper()
	conn, response, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(r.url("/ws"), "http"), header)
	if err != nil {
		r.t.Fatalf("dialling: %v (%+v)", err, response)
	}
	p := &peer{Conn: conn, t: r.t}
	r.t.Cleanup(func() { _ = conn.Close() })
	if m := p.next(); m.Type != "hello" {
		r.t.Fatalf("the first message is %+v", m)
	}
	return p
}

// peer is the client's end.
type peer struct {
	*websocket.Conn
	t *testing.T
}

type received struct {
	Type          string
	ID            string
	Topics        []string
	Topic         string
	Data          json.RawMessage
	Since         int64
	Code, Detail  string
	LastEventID   int64 `json:"last_event_id"`
	OldestEventID int64 `json:"oldest_event_id"`
	HeartbeatMS   int64 `json:"heartbeat_ms"`
	Auth          string
	Name, Role    string
	Events        []model.Event
}

func (p *peer) read() (received, error) {
	_ = p.SetReadDeadline(time.Now().Add(15 * time.Second))
	var m received
	_, body, err := p.ReadMessage()
	if err == nil {
		err = json.Unmarshal(body, &m)
	}
	return m, err
}

func (p *peer) next() received {
	p.t.Helper()
	m, err := p.read()
	if err != nil {
		p.t.Fatalf("reading: %v", err)
	}
	return m
}

// expect reads the next message, which has to be of a type.
func (p *peer) expect(kind string) received {
	p.t.Helper()
	m := p.next()
	if m.Type != kind {
		p.t.Fatalf("got %+v, want %s", m, kind)
	}
	return m
}

func (p *peer) send(v any) {
	p.t.Helper()
	if err := p.WriteJSON(v); err != nil {
		p.t.Fatalf("sending: %v", err)
	}
}

func (p *peer) subscribe(since *int64, topics ...string) {
	p.t.Helper()
	p.send(map[string]any{"type": "subscribe", "topics": topics, "since": since})
	p.expect("subscribed")
}

// events reads n events.
func (p *peer) events(n int) []model.Event {
	p.t.Helper()
	var out []model.Event
	for len(out) < n {
		out = append(out, p.expect("events").Events...)
	}
	if len(out) > n {
		p.t.Fatalf("got %d events, want %d", len(out), n)
	}
	return out
}

// closed reads until the connection ends and returns why.
func (p *peer) closed() *websocket.CloseError {
	p.t.Helper()
	for {
		if _, err := p.read(); err != nil {
			var e *websocket.CloseError
			if !errors.As(err, &e) {
				p.t.Fatalf("the connection ended without a close frame: %v", err)
			}
			return e
		}
	}
}

func ids(events []model.Event) []int64 {
	out := make([]int64, len(events))
	for i, e := range events {
		out[i] = e.ID
	}
	return out
}

func at(n int64) *int64 { return &n }
