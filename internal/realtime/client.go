package realtime

import (
	"encoding/json"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// client is one stream.
type client struct {
	gateway   *Gateway
	id        string
	kind      string
	address   string
	connected time.Time
	ws        *websocket.Conn // nil for server-sent events
	socket    *socket
	wake      chan struct{} // tells the handler of server-sent events of frames
	gone      chan struct{} // closed when the client has left
	activity  atomic.Int64  // last sign of life, Unix nanoseconds
	cursor    atomic.Int64  // everything of its topics up to this event was written
	pinged    int64         // when it was last asked for one; of the heartbeat alone
	asked     int64         // when it was first asked for one since the last; of the heartbeat alone
	reader    reader

	// guarded by gateway.mu
	holder    *holder // who it is; nil: it has not said so yet
	subs      []subscription
	mask      uint64 // events of the batch at hand that it gets
	replaying bool   // live events wait until it has caught up
	later     []func()
	place     int // in gateway.clients
	left      bool

	mu      sync.Mutex
	queue   []*frame // from head on
	head    int
	bytes   int
	writing bool // somebody empties the queue or is about to
	closing bool // a close frame is queued or written; nothing comes behind it
	brief   bool // it is not waited for after the close frame
	code    int  // why it ended, 0 while it has not
	frames  int64
	dropped int64         // points that a newer one replaced, or for which there was no room
	room    chan struct{} // gets a token when the queue is short; nil while nobody waits
}

// push queues f. When the queue is full the client is cut off with the cursor
// to resume from, unless f is a point, which is dropped. It never blocks.
func (c *client) push(f *frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return
	}
	cfg := &c.gateway.config
	if f.topic != "" && c.replace(f) {
		c.dropped++
		c.gateway.metrics.coalesced.Inc()
		return
	}
	if waiting := len(c.queue) - c.head; waiting >= cfg.QueueFrames || waiting > 0 && c.bytes+f.size() > cfg.QueueBytes {
		c.gateway.metrics.dropped.Inc()
		if f.topic == "" {
			c.cut("too slow")
		} else {
			c.dropped++
		}
		return
	}
	c.append(f)
}

// replace puts a point in the place of an older one of its topic.
func (c *client) replace(f *frame) bool {
	for i := c.head; i < len(c.queue); i++ {
		if c.queue[i].topic == f.topic {
			c.bytes += f.size() - c.queue[i].size()
			c.queue[i] = f
			return true
		}
	}
	return false
}

func (c *client) append(f *frame) {
	c.queue = append(c.queue, f)
	c.bytes += f.size()
	c.gateway.queued.Add(1)
	if !c.writing {
		c.writing = true
		c.gateway.schedule(c)
	}
}

// pop takes the next frame, or nil when there is none, which ends the turn of
// the writer.
func (c *client) pop() *frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.head == len(c.queue) {
		c.writing = false
		return nil
	}
	f := c.queue[c.head]
	c.queue[c.head] = nil
	c.head++
	c.frames++
	if f.cursor > 0 {
		c.cursor.Store(f.cursor) // it is sent, or the connection ends
	}
	c.bytes -= f.size()
	c.gateway.queued.Add(-1)
	if c.head == len(c.queue) {
		c.queue, c.head = c.queue[:0], 0
		if cap(c.queue) > 8 {
			c.queue = nil
		}
	}
	if c.room != nil && len(c.queue)-c.head <= c.gateway.config.QueueFrames/4 {
		select {
		case c.room <- struct{}{}:
		default:
		}
	}
	return f
}

// discard empties the queue.
func (c *client) discard() {
	n := len(c.queue) - c.head
	c.gateway.queued.Add(int64(-n))
	c.gateway.metrics.dropped.Add(float64(n))
	c.queue, c.head, c.bytes = nil, 0, 0
}

// cut sends a client away that does not keep up. What waits for it is dropped;
// what is partly written is finished, as a frame must be.
func (c *client) cut(reason string) {
	c.discard()
	c.end(websocket.CloseTryAgainLater, closing{Reason: reason, Since: c.reached()})
}

// reached returns the event up to which a client that is told goodbye now has
// everything. c.mu is held.
func (c *client) reached() *int64 {
	cursor := c.cursor.Load()
	for _, f := range c.queue[c.head:] {
		cursor = max(cursor, f.cursor)
	}
	return &cursor
}

// end queues the close frame. c.mu is held.
func (c *client) end(code int, why closing) {
	if c.closing {
		return
	}
	text, err := json.Marshal(why)
	if err != nil {
		panic("BUG: a close reason cannot be encoded: " + err.Error())
	}
	f := &frame{control: websocket.CloseMessage, name: "close", data: text, text: websocket.FormatCloseMessage(code, string(text))}
	if retry := why.ReconnectAfterMS; retry > 0 && c.kind == kindSSE {
		f = &frame{control: websocket.CloseMessage, name: "close", data: text}
		f.retry(retry)
	}
	c.append(f)
	c.closing = true
	if c.code == 0 {
		c.code = code
	}
}

// restart sends a client away after everything that waits for it, to come back
// later.
func (c *client) restart(later time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(websocket.CloseServiceRestart, closing{Reason: "restart", Since: c.reached(), ReconnectAfterMS: later.Milliseconds()})
}

// close sends a client away after everything that waits for it.
func (c *client) close(code int, why closing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(code, why)
}

// note remembers why the client ended, the first reason told.
func (c *client) note(code int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.code == 0 {
		c.code = code
	}
}

// write empties the queue of a WebSocket. With wait false it never waits for
// the client: once the kernel takes no more, a goroutine of the client's own
// goes on.
func (c *client) write(wait bool) {
	timeout := c.gateway.config.WriteTimeout.Std()
	for {
		if wait && c.socket.direct {
			if err := c.socket.flush(timeout); err != nil {
				c.abort(err)
				return
			}
		}
		f := c.pop()
		if f == nil {
			return
		}
		if err := c.send(f, timeout); err != nil {
			c.abort(err)
			return
		}
		if f.control == websocket.CloseMessage {
			if c.socket.direct {
				if err := c.lastFlush(wait, timeout); err != nil {
					c.abort(err)
				}
				return
			}
			c.linger()
			return
		}
		if !wait && c.socket.direct && c.socket.behind() {
			c.gateway.writers.Go(func() { c.write(true) })
			return
		}
	}
}

// lastFlush brings the close frame to the client and gives it the time to
// answer.
func (c *client) lastFlush(wait bool, timeout time.Duration) error {
	if !c.socket.behind() {
		c.linger()
		return nil
	}
	if !wait {
		c.gateway.writers.Go(func() {
			if err := c.lastFlush(true, timeout); err != nil {
				c.abort(err)
			}
		})
		return nil
	}
	if err := c.socket.flush(timeout); err != nil {
		return err
	}
	c.linger()
	return nil
}

// closeGrace is how long a client has to answer a close frame, and briefGrace
// how long one has that answered nothing before.
const (
	closeGrace = time.Second
	briefGrace = 250 * time.Millisecond
)

// linger lets the reader end soon, at the answer to the close frame or without.
func (c *client) linger() {
	grace := closeGrace
	c.mu.Lock()
	if c.brief {
		grace = briefGrace
	}
	c.mu.Unlock()
	_ = c.socket.SetReadDeadline(time.Now().Add(grace)) // a closed connection ends the reader as well
}

func (c *client) send(f *frame, timeout time.Duration) error {
	var deadline time.Time
	if !c.socket.direct {
		deadline = time.Now().Add(timeout)
		if err := c.ws.SetWriteDeadline(deadline); err != nil {
			return err
		}
	}
	if f.control != 0 {
		return c.ws.WriteControl(f.control, f.text, deadline)
	}
	var err error
	if f.shared {
		var p *websocket.PreparedMessage
		if p, err = f.prepare(); err == nil {
			err = c.ws.WritePreparedMessage(p)
		}
	} else {
		err = c.ws.WriteMessage(websocket.TextMessage, f.text)
	}
	if err == nil {
		c.written(f)
	}
	return err
}

// written notes that f is on its way.
func (c *client) written(f *frame) {
	m := c.gateway.metrics
	m.frames.Inc()
	m.bytes.Add(float64(f.size()))
	if at, ok := f.oldest(); ok && f.shared {
		m.lag.Observe(max(0, time.Since(at)).Seconds())
	}
}

// abort ends a connection that cannot be written to. A client that took
// nothing for the whole timeout was too slow, the others are gone.
func (c *client) abort(err error) {
	code := websocket.CloseAbnormalClosure
	if errors.Is(err, os.ErrDeadlineExceeded) {
		code = websocket.CloseTryAgainLater
	}
	c.mu.Lock()
	if c.code == 0 {
		c.code = code
	}
	c.closing = true
	c.discard()
	c.mu.Unlock()
	_ = c.socket.Close() // the reader ends, and with it everything
}
