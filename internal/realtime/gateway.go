package realtime

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"aiops/internal/auth"
	"aiops/internal/health"
	"aiops/internal/model"
)

// Store is the log of events.
type Store interface {
	// Events returns the events after number since whose topic is one of
	// topics or below one, all when topics is empty, in order, at most limit.
	Events(ctx context.Context, since int64, topics []string, limit int) ([]model.Event, error)
	// EventSignal returns a channel that holds a token when there may be more.
	EventSignal() (signal <-chan struct{}, stop func())
	LastEventID(ctx context.Context) (int64, error)
	// OldestEventID returns the number of the oldest event that is kept, or of
	// the next one when none is.
	OldestEventID(ctx context.Context) (int64, error)
}

// Gateway fans events out to clients. Its methods are safe for concurrent use.
type Gateway struct {
	config    Config
	store     Store
	authority Authority // nil: nobody is asked
	log       *slog.Logger
	metrics   *metrics
	origins   map[string]bool
	accepts   *rate.Limiter

	ready    chan *client // clients with something to write, each at most once
	queued   atomic.Int64 // frames in all queues
	position atomic.Int64 // last event that was fanned out; written under mu
	replays  chan struct{}
	pool     sync.Pool      // write buffers
	streams  sync.WaitGroup // readers of WebSockets and replays
	writers  sync.WaitGroup // writers that wait for a slow client

	started chan struct{} // closed once Run has found its place in the log

	mu        sync.Mutex
	stopping  bool
	ctx       context.Context // of Run, for replays
	clients   []*client
	addresses map[string]int
	subjects  map[string]int     // streams by whose they are
	holders   map[string]*holder // by credential
	reserved  int                // streams, with those being opened
	topics    index
	recent    recent
	touched   []*client // scratch of fanOut
	next      uint64    // number of the next client
}

// New returns a gateway to the events of s. It takes clients once Run has
// found its place in the log, and until Drain. Everybody may follow everything
// when a is nil. Its metrics go to r.
func New(c Config, s Store, a Authority, log *slog.Logger, r prometheus.Registerer) *Gateway {
	c = c.withDefaults()
	g := &Gateway{
		config: c, store: s, authority: a, log: log.With("component", "realtime"), origins: originSet(c.Origins),
		accepts:   rate.NewLimiter(rate.Limit(c.MaxAccepts), max(1, c.MaxAccepts/5)),
		ready:     make(chan *client, c.MaxClients),
		replays:   make(chan struct{}, 8),
		started:   make(chan struct{}),
		addresses: map[string]int{}, subjects: map[string]int{}, holders: map[string]*holder{},
		topics: index{topics: map[string]*[]member{}, live: map[string]map[string]bool{}}, recent: recent{limit: c.Recent},
	}
	g.metrics = newMetrics(r, g)
	return g
}

// Run follows the log until ctx ends, then ends every stream and returns when
// no goroutine of the gateway is left. A log that cannot be read is tried
// again; it does not end Run. Run must be called once.
func (g *Gateway) Run(ctx context.Context) error {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var parts sync.WaitGroup
	for range max(2, runtime.GOMAXPROCS(0)) {
		parts.Go(func() { g.runWriter(inner) })
	}
	g.mu.Lock()
	g.ctx = inner
	g.mu.Unlock()
	parts.Go(func() { g.runHeartbeat(inner) })
	parts.Go(func() { g.runChecks(inner) })
	g.follow(ctx)

	bounded, done := context.WithTimeout(inner, closeGrace)
	g.Drain(bounded)
	done()
	cancel()
	parts.Wait()
	g.streams.Wait()
	g.writers.Wait()
	return nil
}

// runWriter writes to the clients that have something waiting.
func (g *Gateway) runWriter(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-g.ready:
			if c.socket.direct {
				c.write(false)
			} else {
				g.writers.Go(func() { c.write(true) })
			}
		}
	}
}

// schedule gives c, whose queue is no longer empty, to a writer. It does not
// block: ready has a place for every client.
func (g *Gateway) schedule(c *client) {
	if c.wake != nil {
		select {
		case c.wake <- struct{}{}:
		default:
		}
		return
	}
	g.ready <- c
}

// Why streams are refused.
const (
	refusedOrigin   = "origin"
	refusedAddress  = "address"
	refusedTotal    = "total"
	refusedRate     = "rate"
	refusedStopping = "not_running"
	refusedUnknown  = "unauthorized"
	refusedIdentity = "identity"
)

// refusal is why a stream is not opened.
type refusal struct {
	reason string
	status int
	detail string
	retry  time.Duration
}

// admit reserves a place for a stream from address, which release gives back.
func (g *Gateway) admit(r *http.Request, address string, sse bool) *refusal {
	if !allowed(r, g.origins, sse) {
		return &refusal{refusedOrigin, http.StatusForbidden, "the page is not of this server and not in live.origins", 0}
	}
	later := g.reconnectAfter()
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case !g.running() || g.stopping:
		return &refusal{refusedStopping, http.StatusServiceUnavailable, "the live stream is not running", later}
	case g.addresses[address] >= g.config.MaxClientsPerAddress:
		return &refusal{refusedAddress, http.StatusTooManyRequests, fmt.Sprintf("one address may hold %d streams; close some", g.config.MaxClientsPerAddress), later}
	case g.reserved >= g.config.MaxClients:
		return &refusal{refusedTotal, http.StatusServiceUnavailable, "there is no place for another stream", later}
	case !g.accepts.Allow():
		return &refusal{refusedRate, http.StatusServiceUnavailable, "too many streams are being opened at once", later}
	}
	g.addresses[address]++
	g.reserved++
	return nil
}

// release gives back what admit reserved. g.mu is held.
func (g *Gateway) release(address string) {
	g.reserved--
	if g.addresses[address]--; g.addresses[address] <= 0 {
		delete(g.addresses, address)
	}
}

func (g *Gateway) refuse(w http.ResponseWriter, no *refusal) {
	g.metrics.refused.WithLabelValues(no.reason).Inc()
	if no.retry > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(int64(no.retry.Seconds()+1)))
	}
	http.Error(w, no.detail, no.status)
}

// join makes c a client that gets what it subscribes to: at once when id is
// who it is, and after it has authenticated itself when id is nil. It returns
// why not, when the gateway has begun to stop meanwhile or the identity has too
// many streams.
func (g *Gateway) join(c *client, id *auth.Identity) *refusal {
	now := time.Now()
	c.gateway, c.connected, c.gone = g, now, make(chan struct{})
	c.activity.Store(now.UnixNano())
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopping {
		g.release(c.address)
		return &refusal{refusedStopping, http.StatusServiceUnavailable, "the live stream is not running", g.reconnectAfter()}
	}
	if id != nil && !g.identify(c, *id) {
		g.release(c.address)
		return &refusal{refusedIdentity, http.StatusTooManyRequests, fmt.Sprintf("one identity may hold %d streams; close some", g.config.MaxClientsPerIdentity), g.reconnectAfter()}
	}
	g.next++
	c.id = fmt.Sprintf("c%d", g.next)
	c.place = len(g.clients)
	g.clients = append(g.clients, c)
	g.streams.Add(1)
	position := g.position.Load()
	c.cursor.Store(position)
	hello := helloMessage{ID: c.id, HeartbeatMS: g.config.Heartbeat.Std().Milliseconds(), LastEventID: position}
	if id == nil {
		hello.Auth = "required"
	}
	c.push(message("hello", 0, hello))
	g.metrics.connections.WithLabelValues(c.kind).Inc()
	g.metrics.accepted.WithLabelValues(c.kind).Inc()
	return nil
}

// leave forgets c, whose connection has ended.
func (g *Gateway) leave(c *client) {
	c.mu.Lock()
	c.closing = true
	if c.code == 0 {
		c.code = websocket.CloseAbnormalClosure
	}
	code := c.code
	c.discard()
	c.mu.Unlock()

	g.mu.Lock()
	defer g.mu.Unlock()
	for len(c.subs) > 0 {
		g.topics.remove(c, len(c.subs)-1)
	}
	last := len(g.clients) - 1
	g.clients[c.place] = g.clients[last]
	g.clients[c.place].place = c.place
	g.clients[last] = nil
	g.clients = g.clients[:last]
	c.left, c.later = true, nil
	g.dismissHolder(c)
	close(c.gone)
	g.release(c.address)
	g.metrics.connections.WithLabelValues(c.kind).Dec()
	g.metrics.closed(code)
	g.streams.Done()
}

// Len returns how many streams there are.
func (g *Gateway) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.clients)
}

// Streams returns every stream, the oldest first, and the number of the last
// event that was fanned out.
func (g *Gateway) Streams() ([]model.LiveStream, int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	position := g.position.Load()
	out := make([]model.LiveStream, 0, len(g.clients))
	for _, c := range g.clients {
		out = append(out, c.info(position))
	}
	slices.SortFunc(out, func(a, b model.LiveStream) int { return a.ConnectedAt.Compare(b.ConnectedAt) })
	return out, position
}

// info tells of c. g.mu is held.
func (c *client) info(position int64) model.LiveStream {
	info := model.LiveStream{
		ID: c.id, Kind: c.kind, Address: c.address, ConnectedAt: c.connected, LastSeenAt: time.Unix(0, c.activity.Load()),
		State: "live", Topics: c.topics(), Cursor: c.cursor.Load(),
	}
	switch {
	case c.holder == nil:
		info.State = "waiting"
	case c.replaying:
		info.State = "replaying"
	}
	if c.holder != nil {
		info.Name, info.Role = c.holder.identity.Name, c.holder.identity.Role
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	info.QueueFrames, info.QueueBytes, info.FramesSent, info.FramesDropped = len(c.queue)-c.head, c.bytes, c.frames, c.dropped
	if c.closing {
		info.State = "closing"
	}
	if info.QueueFrames > 0 || c.replaying {
		info.LagEvents = max(0, position-info.Cursor)
	}
	return info
}

func (c *client) topics() []string {
	topics := make([]string, len(c.subs))
	for i, s := range c.subs {
		topics[i] = s.topic
	}
	return topics
}

// reconnectAfter is a delay that spreads clients out.
func (g *Gateway) reconnectAfter() time.Duration {
	least, most := g.config.ReconnectMin.Std(), g.config.ReconnectMax.Std()
	return least + rand.N(most-least+1)
}

// Drain takes no further streams and tells every client when to come back, in
// slices, so that they neither leave nor return all at once. It returns when
// all have left; when ctx ends first, the rest is cut.
func (g *Gateway) Drain(ctx context.Context) {
	g.mu.Lock()
	g.stopping = true
	clients := slices.Clone(g.clients)
	g.mu.Unlock()
	const pause = 100 * time.Millisecond
	slice := max(100, len(clients)/max(1, int(g.config.DrainTime.Std()/pause)))
	for i, c := range clients {
		if i > 0 && i%slice == 0 && !sleep(ctx, pause) {
			break
		}
		c.restart(g.reconnectAfter())
	}
	for {
		g.mu.Lock()
		left := slices.Clone(g.clients)
		g.mu.Unlock()
		if len(left) == 0 {
			return
		}
		if !sleep(ctx, 10*time.Millisecond) {
			for _, c := range left {
				c.note(websocket.CloseServiceRestart)
				c.hangUp()
			}
			return
		}
	}
}

// hangUp ends the connection without a word.
func (c *client) hangUp() {
	if c.socket != nil {
		_ = c.socket.Close()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.discard()
	c.closing = true
	c.gateway.schedule(c)
}

// sleep waits for d; it returns false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Started is closed once streams are accepted: when Run has found its place in
// the log.
func (g *Gateway) Started() <-chan struct{} { return g.started }

func (g *Gateway) state() (running, stopping bool, streams int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.running(), g.stopping, g.reserved
}

func (g *Gateway) running() bool {
	select {
	case <-g.started:
		return true
	default:
		return false
	}
}

// Check reports whether events get through: whether the gateway reaches the
// newest event of the log within ctx.
func (g *Gateway) Check(ctx context.Context) health.Result {
	select {
	case <-g.started:
	case <-ctx.Done():
	}
	running, stopping, streams := g.state()
	details := map[string]any{"clients": streams, "last_event_id": g.position.Load(), "queued_frames": g.queued.Load()}
	if !running || stopping {
		return health.Result{State: health.Unhealthy, Message: "the live stream is not running", Details: details}
	}
	last, err := g.store.LastEventID(ctx)
	if err != nil {
		return health.Result{State: health.Degraded, Message: "the log of events cannot be read", Details: details}
	}
	for g.position.Load() < last {
		if !sleep(ctx, 5*time.Millisecond) {
			return health.Result{State: health.Unhealthy, Message: fmt.Sprintf("events up to %d are stored, but only those up to %d were sent", last, g.position.Load()), Details: details}
		}
	}
	if streams >= g.config.MaxClients {
		return health.Result{State: health.Degraded, Message: fmt.Sprintf("all %d places for streams are taken", streams), Details: details}
	}
	return health.Result{State: health.Healthy, Message: fmt.Sprintf("%d clients", streams), Details: details}
}
