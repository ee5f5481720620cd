package realtime

import (
	"context"
	"time"

	"github.com/gorilla/websocket"
)

// sseHeartbeat is how often a client of server-sent events gets a comment, so
// that proxies keep the connection and it keeps a recent cursor.
const sseHeartbeat = 15 * time.Second

// roundsPerHeartbeat is how often each client is looked at.
const roundsPerHeartbeat = 8

// visitsPerRound spreads the looks at clients over a round, so that ten
// thousand pings are not one burst.
const visitsPerRound = 10

// runHeartbeat looks at every client eight times per heartbeat: it asks the
// quiet ones for a sign of life and sends those away that gave none for too
// long. A reader that is stuck answers no ping, whatever its kernel buffers.
func (g *Gateway) runHeartbeat(ctx context.Context) {
	tick := time.NewTicker(max(time.Millisecond, g.config.Heartbeat.Std()/roundsPerHeartbeat/visitsPerRound))
	defer tick.Stop()
	var turn turn
	longest := 0
	var visit []*client
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		g.mu.Lock()
		from, to := turn.next(len(g.clients))
		visit = append(visit[:0], g.clients[from:to]...)
		g.mu.Unlock()
		if from == 0 {
			g.metrics.longest.Set(float64(longest))
			longest = 0
		}
		now := time.Now().UnixNano()
		for _, c := range visit {
			longest = max(longest, c.look(now))
		}
		clear(visit)
	}
}

// turn goes round a list that grows and shrinks.
type turn struct{ at int }

// next returns the part [from, to) of n that is due. A part that ends the list
// ends the round, also when more is added behind it before the next one: those
// that are always added must not keep the others from their turn.
func (t *turn) next(n int) (from, to int) {
	from = min(t.at, n)
	to = min(n, from+max(1, (n+visitsPerRound-1)/visitsPerRound))
	if t.at = to; to >= n {
		t.at = 0
	}
	return from, to
}

var pingFrame = frame{control: websocket.PingMessage}

// look does what is due for one client and returns the length of its queue.
func (c *client) look(now int64) int {
	g := c.gateway
	if c.kind == kindSSE {
		if now-c.pinged >= int64(sseHeartbeat) {
			c.pinged = now
			g.mark(c)
		}
		return c.waiting()
	}
	seen := c.activity.Load()
	silent := time.Duration(now - seen)
	// Nobody goes who had no time to answer, for example because this process
	// was halted.
	if silent >= g.config.Silence.Std() && c.asked > seen && now-c.asked >= int64(g.config.Silence)/2-int64(g.config.Heartbeat)/4 {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.closing {
			c.brief = true
			c.cut("no sign of life")
			// A write that already waits for it must not go on for long either.
			_ = c.socket.Conn.SetWriteDeadline(time.Now().Add(closeGrace))
		}
		return 0
	}
	if silent >= g.config.Heartbeat.Std()/2 && now-c.pinged >= int64(g.config.Heartbeat) {
		c.pinged = now
		if c.asked <= seen {
			c.asked = now
		}
		c.push(&pingFrame)
	}
	return c.waiting()
}

func (c *client) waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue) - c.head
}

// mark gives a client of server-sent events the cursor at which it is.
func (g *Gateway) mark(c *client) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !c.left && !c.replaying {
		c.push(markFrame(g.position.Load()))
	}
}
