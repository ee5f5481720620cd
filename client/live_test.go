package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"aiops/client"
	"aiops/internal/auth"
	"aiops/internal/model"
	"aiops/internal/realtime"
	"aiops/internal/store"
)

// gate lets one key in until it is shut.
type gate struct{ shut atomic.Bool }

func (g *gate) Key(_ context.Context, _, key string) (auth.Identity, error) {
	if key != "key" || g.shut.Load() {
		return auth.Identity{}, model.Errorf(model.KindUnauthorized, "", "no")
	}
	return auth.Identity{Subject: "key_1", Name: "test", Role: model.RoleViewer, Via: auth.ViaKey}, nil
}

func (g *gate) FromRequest(*http.Request, string) (auth.Identity, error) {
	return auth.Identity{}, auth.ErrNone
}

func (g *gate) Current(ctx context.Context, _ auth.Identity) (auth.Identity, error) {
	return g.Key(ctx, "", "key")
}

// live is a store and a server whose gateway can be replaced.
type live struct {
	t      *testing.T
	store  *store.Store
	gate   *gate
	url    string
	mu     sync.Mutex
	served http.Handler
	stop   func()
}

func (l *live) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	h := l.served
	l.mu.Unlock()
	h.ServeHTTP(w, r)
}

func start(t *testing.T) *live {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{DataDir: t.TempDir()}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	l := &live{t: t, store: s, gate: &gate{}, stop: func() {}}
	l.restart()
	server := httptest.NewServer(l)
	l.url = server.URL
	t.Cleanup(func() { l.stop(); server.Close(); _ = s.Close() })
	return l
}

// restart stops the gateway gracefully and starts another one.
func (l *live) restart() {
	l.stop()
	g := realtime.New(realtime.Config{ReconnectMin: model.Duration(20 * time.Millisecond), ReconnectMax: model.Duration(50 * time.Millisecond)},
		l.store, l.gate, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	mux := http.NewServeMux()
	mux.Handle("/api/v1/ws", g.WebSocket())
	l.mu.Lock()
	l.served = mux
	l.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			l.t.Error(err)
		}
	})
}

func (l *live) event(n int) {
	l.t.Helper()
	if _, err := l.store.AppendEvent(l.t.Context(), model.Event{Type: "test.happened", Topic: fmt.Sprintf("anomalies/%d", n)}); err != nil {
		l.t.Fatal(err)
	}
}

var errEnough = errors.New("enough")

func (l *live) options() client.LiveOptions {
	return client.LiveOptions{URL: l.url, Token: "key", Topics: []string{"anomalies"}, Since: new(int64), BackoffMin: 5 * time.Millisecond, BackoffMax: 50 * time.Millisecond}
}

// TestFollowAcrossRestarts follows a stream whose server stops again and again
// while events go on: each arrives once and in order.
func TestFollowAcrossRestarts(t *testing.T) {
	t.Parallel()
	l := start(t)
	const restarts, each = 3, 30
	o := l.options()
	var waits atomic.Int64
	o.OnState = func(s client.LiveState) {
		if !s.Connected {
			waits.Add(1)
		}
	}
	got := make(chan int64, restarts*each)
	followed := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	go func() {
		followed <- client.Follow(ctx, o, func(m client.LiveMessage) error {
			if m.Event == nil || m.Event.Type != "test.happened" || m.Event.Time.IsZero() {
				return fmt.Errorf("message %+v", m)
			}
			got <- m.Event.ID
			if m.Event.ID == restarts*each {
				return errEnough
			}
			return nil
		})
	}()
	for range restarts {
		for n := range each {
			l.event(n)
		}
		l.restart()
	}
	if err := <-followed; !errors.Is(err, errEnough) {
		t.Fatalf("Follow: %v", err)
	}
	close(got)
	want := int64(0)
	for id := range got {
		if want++; id != want {
			t.Fatalf("event %d, want %d", id, want)
		}
	}
	if waits.Load() == 0 {
		t.Error("no connection ended: the test shows nothing")
	}
}

func TestFollowGivesUpWhereTryingAgainCannotHelp(t *testing.T) {
	t.Parallel()
	l := start(t)
	never := func(client.LiveMessage) error { return nil }
	for name, c := range map[string]struct {
		change func(*client.LiveOptions)
		want   error
	}{
		"wrong key":   {func(o *client.LiveOptions) { o.Token = "other" }, client.ErrLiveUnauthorized},
		"no key":      {func(o *client.LiveOptions) { o.Token = "" }, client.ErrLiveUnauthorized},
		"no topic":    {func(o *client.LiveOptions) { o.Topics = nil }, client.ErrLiveRefused},
		"wrong topic": {func(o *client.LiveOptions) { o.Topics = []string{"nothing"} }, client.ErrLiveRefused},
		"no server":   {func(o *client.LiveOptions) { o.URL = "ftp://x" }, client.ErrLiveRefused},
		"wrong path":  {func(o *client.LiveOptions) { o.URL += "/elsewhere" }, client.ErrLiveRefused},
	} {
		o := l.options()
		c.change(&o)
		if err := client.Follow(t.Context(), o, never); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	o := l.options()
	o.OnState = func(s client.LiveState) {
		if s.Connected {
			cancel()
		}
	}
	if err := client.Follow(ctx, o, never); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that ended: %v", err)
	}
	o.OnState = func(s client.LiveState) {
		if s.Connected {
			l.gate.shut.Store(true)
		}
	}
	if err := client.Follow(t.Context(), o, never); !errors.Is(err, client.ErrLiveUnauthorized) {
		t.Errorf("a key that was revoked: %v", err)
	}
}

// TestFollowWaitsAsTold answers as an overloaded server does, and then as one
// that stops.
func TestFollowWaitsAsTold(t *testing.T) {
	t.Parallel()
	tries := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch tries++; tries {
		case 1:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			conn, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			code, text := 1012, `{"reason":"restart","since":7,"reconnect_after_ms":900}`
			if tries > 2 {
				code, text = 4401, `{"reason":"unauthorized"}`
			}
			_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, text), time.Now().Add(time.Second))
			_ = conn.Close()
		}
	}))
	defer server.Close()
	var delays []time.Duration
	err := client.Follow(t.Context(), client.LiveOptions{URL: server.URL, Topics: []string{"system"}, BackoffMin: time.Millisecond,
		OnState: func(s client.LiveState) { delays = append(delays, s.Retry) }}, func(client.LiveMessage) error { return nil })
	if !errors.Is(err, client.ErrLiveUnauthorized) || len(delays) != 2 || delays[0] < time.Second || delays[1] < 900*time.Millisecond {
		t.Errorf("waited %v: %v", delays, err)
	}
}
