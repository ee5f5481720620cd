package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// liveClients is the process with the clients.
type liveClients struct {
	ctx       context.Context
	address   string
	clients   []*liveClient
	reconnect atomic.Bool
	pool      sync.Pool

	connected atomic.Int64

	mu        sync.Mutex
	back      []time.Time // when each was connected since the last reset
	tally     *liveTally  // from before the commit
	committed *liveTally  // from its end
}

// liveTally counts latencies in steps of a tenth of a millisecond.
type liveTally struct {
	steps          [200_000]atomic.Uint32
	max            atomic.Int64
	lost, repeated atomic.Int64
}

const liveStep = 100 * time.Microsecond

func (t *liveTally) add(d time.Duration) {
	d = max(0, d)
	t.steps[min(int(d/liveStep), len(t.steps)-1)].Add(1)
	for {
		worst := t.max.Load()
		if int64(d) <= worst || t.max.CompareAndSwap(worst, int64(d)) {
			return
		}
	}
}

func (t *liveTally) reset() {
	for i := range t.steps {
		t.steps[i].Store(0)
	}
	t.max.Store(0)
	t.lost.Store(0)
	t.repeated.Store(0)
}

func (t *liveTally) latency() LiveLatency {
	l := LiveLatency{Max: float64(t.max.Load()) / 1e6, Lost: t.lost.Load(), Repeated: t.repeated.Load()}
	for i := range t.steps {
		l.Deliveries += int64(t.steps[i].Load())
	}
	quantile := func(q float64) float64 {
		rank, seen := int64(q*float64(l.Deliveries)), int64(0)
		for i := range t.steps {
			if seen += int64(t.steps[i].Load()); seen > rank {
				return float64(i+1) * liveStep.Seconds() * 1e3
			}
		}
		return l.Max
	}
	if l.Deliveries > 0 {
		l.P50, l.P90, l.P99 = quantile(0.5), quantile(0.9), quantile(0.99)
	}
	return l
}

// liveClient is one WebSocket. It checks that each event follows the one
// before, over all of its connections.
type liveClient struct {
	all     *liveClients
	address net.Addr // of its own end; nil: any
	last    atomic.Int64
	stopped atomic.Bool
	fresh   atomic.Bool   // nothing of the present part was seen yet
	started bool          // it has seen an event
	pending time.Duration // latency of the event last, until the next one says how long its commit took
	conn    *websocket.Conn
}

func (c *liveClients) obey(o liveOrder) (liveAnswer, error) {
	switch o.Do {
	case "connect":
		return c.connect(o)
	case "reset":
		c.tally.reset()
		c.committed.reset()
		for _, one := range c.clients {
			one.fresh.Store(true)
		}
		c.mu.Lock()
		c.back = nil
		c.mu.Unlock()
		c.reconnect.Store(o.Reconnect)
		return liveAnswer{}, nil
	case "stop":
		for _, one := range c.clients[:o.Clients] {
			one.stopped.Store(true)
		}
		return liveAnswer{}, nil
	case "await":
		return c.await(o)
	}
	return liveAnswer{}, fmt.Errorf("there is no order %q", o.Do)
}

func (c *liveClients) connect(o liveOrder) (liveAnswer, error) {
	if err := liveFiles(o.Clients + 200); err != nil {
		return liveAnswer{}, err
	}
	c.address, c.tally, c.committed = o.Address, new(liveTally), new(liveTally)
	began := time.Now()
	places := make(chan struct{}, 64)
	errs := make(chan error, o.Clients)
	for i := range o.Clients {
		one := &liveClient{all: c, address: addressOf(i)}
		c.clients = append(c.clients, one)
		places <- struct{}{}
		go func() {
			err := one.dial()
			<-places
			errs <- err
			if err == nil {
				one.run()
			}
		}()
	}
	for range o.Clients {
		if err := <-errs; err != nil {
			return liveAnswer{}, fmt.Errorf("connecting: %w", err)
		}
	}
	return liveAnswer{Seconds: time.Since(began).Seconds()}, nil
}

// dial connects, trying again while the server limits the rate of accepts.
func (c *liveClient) dial() error {
	dialer := websocket.Dialer{ReadBufferSize: 512, WriteBufferSize: 512, WriteBufferPool: &c.all.pool, HandshakeTimeout: 10 * time.Second,
		NetDialContext: (&net.Dialer{LocalAddr: c.address}).DialContext}
	var conn *websocket.Conn
	for range 50 {
		var err error
		if conn, _, err = dialer.DialContext(c.all.ctx, "ws://"+c.all.address, nil); err == nil { //nolint:bodyclose // the library closes it
			break
		}
		if !errors.Is(err, websocket.ErrBadHandshake) {
			return err
		}
		liveSleep(c.all.ctx, 50*time.Millisecond+rand.N(200*time.Millisecond))
	}
	if conn == nil {
		return errors.New("the server keeps refusing")
	}
	m := map[string]any{"type": "subscribe", "topics": []string{"anomalies", "detectors", "system"}}
	if c.started {
		m["since"] = c.last.Load()
	}
	if err := conn.WriteJSON(m); err != nil {
		return errors.Join(err, conn.Close())
	}
	c.conn = conn
	c.all.connected.Add(1)
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	c.all.back = append(c.all.back, time.Now())
	return nil
}

// clientsPerAddress is how many share one network address.
const clientsPerAddress = 20

// addressOf is the end of the i-th client on loopback, so that no address has
// more streams than one may have, nor more ports than there are. It is nil
// where only 127.0.0.1 can be used.
func addressOf(i int) net.Addr {
	if runtime.GOOS != "linux" {
		return nil
	}
	n := i / clientsPerAddress
	return &net.TCPAddr{IP: net.IPv4(127, byte(1+n/62_500), byte(1+n/250%250), byte(1+n%250))}
}

// returns says when the first and the last client were connected, and how many
// within the fullest second. c.mu is held.
func (c *liveClients) returns() (first, last time.Time, most int64) {
	seconds := map[int64]int64{}
	for _, t := range c.back {
		if first.IsZero() || t.Before(first) {
			first = t
		}
		if t.After(last) {
			last = t
		}
		seconds[t.Unix()]++
		most = max(most, seconds[t.Unix()])
	}
	return first, last, most
}

// run reads until the connection ends, and comes back when it is to.
func (c *liveClient) run() {
	for {
		c.read()
		c.all.connected.Add(-1)
		if !c.all.reconnect.Load() || c.stopped.Load() {
			return
		}
		for {
			// Spread out as a client of the protocol is.
			liveSleep(c.all.ctx, 5*time.Second+rand.N(25*time.Second))
			if c.all.ctx.Err() != nil {
				return
			}
			if c.dial() == nil {
				break
			}
		}
	}
}

var liveBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func (c *liveClient) read() {
	defer c.conn.Close()
	for {
		_, r, err := c.conn.NextReader()
		if err != nil {
			return
		}
		if c.stopped.Load() {
			<-c.all.ctx.Done() // never reads again
			return
		}
		b := liveBuffers.Get().(*bytes.Buffer) //nolint:errcheck // nothing else is in it
		b.Reset()
		if _, err := io.Copy(b, r); err != nil {
			return
		}
		c.take(b.Bytes(), time.Now())
		liveBuffers.Put(b)
	}
}

var (
	liveEvents = []byte(`{"type":"events"`)
	liveReset  = []byte(`{"type":"stream.reset"`)
	liveID     = []byte(`{"id":`)
	liveCommit = []byte(`"commit":`)
	liveTime   = []byte(`"t":`)
)

// take checks the events of a message.
func (c *liveClient) take(m []byte, now time.Time) {
	if !bytes.HasPrefix(m, liveEvents) && !bytes.HasPrefix(m, []byte(`{"events"`)) {
		if bytes.HasPrefix(m, liveReset) {
			c.all.tally.lost.Add(1)
		}
		return
	}
	for {
		i := bytes.Index(m, liveID)
		if i < 0 {
			return
		}
		var id, commit, sent int64
		id, m = liveNumber(m[i+len(liveID):])
		if i = bytes.Index(m, liveCommit); i < 0 {
			return
		}
		commit, m = liveNumber(m[i+len(liveCommit):])
		if i = bytes.Index(m, liveTime); i < 0 {
			return
		}
		sent, m = liveNumber(m[i+len(liveTime):])
		last := c.last.Load()
		switch {
		case c.started && id <= last:
			c.all.tally.repeated.Add(1)
			continue
		case c.started && id > last+1:
			c.all.tally.lost.Add(id - last - 1)
		}
		c.started = true
		c.last.Store(id)
		if !c.fresh.Swap(false) {
			c.all.committed.add(c.pending - time.Duration(commit))
		}
		c.pending = now.Sub(time.Unix(0, sent))
		c.all.tally.add(c.pending)
	}
}

// liveNumber reads the digits at the start of b.
func liveNumber(b []byte) (int64, []byte) {
	n := 0
	for n < len(b) && b[n] >= '0' && b[n] <= '9' {
		n++
	}
	v, err := strconv.ParseInt(string(b[:n]), 10, 64)
	if err != nil {
		return 0, b
	}
	return v, b[n:]
}

// await waits until o.Clients clients have event o.Last. Those that do not get
// it in time count what they lack as lost.
func (c *liveClients) await(o liveOrder) (liveAnswer, error) {
	limit := time.Now().Add(o.After)
	for {
		have := 0
		for _, one := range c.clients {
			if !one.stopped.Load() && one.last.Load() >= o.Last {
				have++
			}
		}
		if have >= o.Clients {
			break
		}
		if time.Now().After(limit) {
			for _, one := range c.clients {
				if last := one.last.Load(); !one.stopped.Load() && last < o.Last {
					c.tally.lost.Add(o.Last - last)
				}
			}
			break
		}
		liveSleep(c.ctx, 20*time.Millisecond)
	}
	a := liveAnswer{Latency: c.tally.latency(), Committed: c.committed.latency(), Clients: int(c.connected.Load())}
	c.mu.Lock()
	defer c.mu.Unlock()
	a.First, a.Back, a.Most = c.returns()
	return a, nil
}
