package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
	"aiops/internal/realtime"
	"aiops/internal/store"
)

// liveChild does what a child process of Live does: it takes orders until its
// input ends.
func liveChild(ctx context.Context, role string, in io.Reader, out io.Writer) error {
	var obey func(o liveOrder) (liveAnswer, error)
	switch role {
	case "gateway", "bare":
		s := &liveServer{ctx: ctx, role: role}
		defer s.close()
		obey = s.obey
	case "clients":
		c := &liveClients{ctx: ctx}
		obey = c.obey
	default:
		return fmt.Errorf("%s=%s: there is no such part", liveRole, role)
	}
	orders, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var o liveOrder
		if err := orders.Decode(&o); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("reading an order: %w", err)
		}
		a, err := obey(o)
		if err != nil {
			a.Error = err.Error()
		}
		if err := answers.Encode(a); err != nil {
			return fmt.Errorf("answering: %w", err)
		}
	}
}

// liveServer is the process with the server.
type liveServer struct {
	ctx     context.Context
	role    string
	store   *store.Store
	gateway *realtime.Gateway
	bare    *bareLoop
	address string
	closers []func()

	mu      sync.Mutex
	commits []float64 // ms, of the last send
}

func (s *liveServer) close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
}

func (s *liveServer) obey(o liveOrder) (liveAnswer, error) {
	switch o.Do {
	case "open":
		if err := s.open(o); err != nil {
			return liveAnswer{}, err
		}
		return s.state(), nil
	case "state":
		liveSleep(s.ctx, o.After)
		return s.state(), nil
	case "send":
		if o.Clients > 0 {
			return s.sendWatching(o)
		}
		last, err := s.send(o.Count, o.Rate)
		s.mu.Lock()
		defer s.mu.Unlock()
		return liveAnswer{Last: last, Commits: s.commits}, err
	}
	return liveAnswer{}, fmt.Errorf("there is no order %q", o.Do)
}

func liveSleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (s *liveServer) open(o liveOrder) (err error) {
	if err := liveFiles(o.Clients + 500); err != nil {
		return err
	}
	address := o.Address
	if address == "" {
		address = "127.0.0.1:0"
	}
	var listener net.Listener
	if listener, err = net.Listen("tcp", address); err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	s.address = listener.Addr().String()
	var handler http.Handler
	if s.role == "bare" {
		s.bare = &bareLoop{}
		handler = s.bare
	} else {
		log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
		if s.store, err = store.Open(s.ctx, store.Config{DataDir: filepath.Join(o.Dir, s.role)}, log, prometheus.NewRegistry()); err != nil {
			return err
		}
		s.closers = append(s.closers, func() { _ = s.store.Close() })
		s.gateway = realtime.New(gatewayConfig(o.Clients), s.store, nil, log, prometheus.NewRegistry())
		ctx, cancel := context.WithCancel(s.ctx)
		done := make(chan error, 1)
		go func() { done <- s.gateway.Run(ctx) }()
		s.closers = append(s.closers, func() { cancel(); <-done })
		handler = s.gateway.WebSocket()
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	s.closers = append(s.closers, func() { _ = server.Close() })
	return nil
}

// gatewayConfig is the default one where clients can have addresses of their
// own, with room for all of them where they cannot.
func gatewayConfig(clients int) realtime.Config {
	if addressOf(0) != nil {
		return realtime.Config{}
	}
	return realtime.Config{MaxClients: clients + 100, MaxClientsPerAddress: clients + 100}
}

func (s *liveServer) state() liveAnswer {
	a := liveAnswer{Address: s.address, RSS: processRSS(), CPU: processCPU().Seconds()}
	if s.bare != nil {
		a.Clients = s.bare.count()
	} else {
		a.Clients = s.gateway.Len()
	}
	return a
}

// sendWatching sends and meanwhile notes when o.Clients clients have gone.
func (s *liveServer) sendWatching(o liveOrder) (liveAnswer, error) {
	began, before := time.Now(), s.state().Clients
	gone := make(chan liveAnswer, 1)
	go func() {
		var a liveAnswer
		for a.Clients < o.Clients && time.Since(began) < 30*time.Second && s.ctx.Err() == nil {
			liveSleep(s.ctx, 20*time.Millisecond)
			a.Clients, a.Seconds = before-s.state().Clients, time.Since(began).Seconds()
		}
		gone <- a
	}()
	last, err := s.send(o.Count, o.Rate)
	a := <-gone
	a.Last = last
	return a, err
}

// liveText makes an event as large as one of an anomaly.
var liveText = strings.Repeat("x", 200)

func (s *liveServer) send(count int, rate float64) (last int64, err error) {
	s.mu.Lock()
	s.commits = nil
	s.mu.Unlock()
	// Each event tells how long the commit of the one before took, so that its
	// receiver can tell what came after.
	var took atomic.Int64
	one := func() error {
		data, err := json.Marshal(map[string]any{"pad": liveText, "t": time.Now().UnixNano(), "commit": took.Load()})
		if err != nil {
			return err
		}
		event := model.Event{Type: model.EventAnomalyOpened, Topic: "anomalies/an_bench", Data: data, Time: time.Now()}
		if s.bare != nil {
			return s.bare.send(event)
		}
		_, err = s.store.AppendEvent(s.ctx, event)
		took.Store(int64(time.Since(event.Time)))
		s.mu.Lock()
		defer s.mu.Unlock()
		s.commits = append(s.commits, float64(time.Since(event.Time).Microseconds())/1000)
		return err
	}
	if rate <= 0 {
		err = s.atOnce(count, one)
	} else {
		tick := time.NewTicker(time.Duration(float64(time.Second) / rate))
		defer tick.Stop()
		for i := 0; i < count && err == nil; i++ {
			select {
			case <-s.ctx.Done():
				return 0, s.ctx.Err()
			case <-tick.C:
			}
			err = one()
		}
	}
	if err != nil {
		return 0, err
	}
	if s.bare != nil {
		return s.bare.last, nil
	}
	return s.store.LastEventID(s.ctx)
}

// atOnce publishes from as many goroutines as there are events, so that the
// store may commit them together.
func (s *liveServer) atOnce(count int, one func() error) error {
	if s.bare != nil { // a loop does one after the other
		for range count {
			if err := one(); err != nil {
				return err
			}
		}
		return nil
	}
	errs := make(chan error, count)
	for range count {
		go func() { errs <- one() }()
	}
	var all []error
	for range count {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// bareLoop is the yardstick: one loop that writes each prepared frame to every
// connection, with nothing around it.
type bareLoop struct {
	mu    sync.Mutex
	conns map[*websocket.Conn]bool
	last  int64
	pool  sync.Pool
}

func (b *bareLoop) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.conns)
}

func (b *bareLoop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u := websocket.Upgrader{ReadBufferSize: 512, WriteBufferSize: 512, WriteBufferPool: &b.pool}
	c, err := u.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	b.mu.Lock()
	if b.conns == nil {
		b.conns = map[*websocket.Conn]bool{}
	}
	b.conns[c] = true
	b.mu.Unlock()
	go func() {
		for {
			if _, _, err := c.NextReader(); err != nil {
				b.mu.Lock()
				delete(b.conns, c)
				b.mu.Unlock()
				_ = c.Close()
				return
			}
		}
	}()
}

func (b *bareLoop) send(e model.Event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	e.ID = b.last
	body, err := json.Marshal(map[string]any{"type": "events", "events": []model.Event{e}})
	if err != nil {
		return err
	}
	frame, err := websocket.NewPreparedMessage(websocket.TextMessage, body)
	if err != nil {
		return err
	}
	for c := range b.conns {
		_ = c.SetWriteDeadline(time.Now().Add(8 * time.Second))
		if c.WritePreparedMessage(frame) != nil {
			_ = c.Close()
		}
	}
	return nil
}
