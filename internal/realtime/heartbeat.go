package realtime

import (
	"context"
	"time"

	"github.com/gorilla/websocket"
)

// sseHeartbeat is how often a client of server-sent events gets a comment, so
// that proxies keep the connection and it keeps a recent cursor.
const sseHeartbeat = 15 * time.Second

// visitsPerRound spreads the looks at clients over a round, so that ten
// thousand pings are not one burst.
const visitsPerRound = 10

// runHeartbeat looks at every client four times per heartbeat: it asks the
// quiet ones for a sign of life and sends those away that gave none for too
// long. A reader that is stuck answers no ping, whatever its kernel buffers.
func (g *Gateway) runHeartbeat(ctx context.Context) {
	tick := time.NewTicker(max(time.Millisecond, g.config.Heartbeat.Std()/4/visitsPerRound))
	defer tick.Stop()
	from := 0
	longest := 0
	var visit []*client
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		g.mu.Lock()
		n := len(g.clients)
		if from >= n {
			from = 0
			g.metrics.longest.Set(float64(longest))
			longest = 0
		}
		to := min(n, from+max(1, (n+visitsPerRound-1)/visitsPerRound))
		visit = append(visit[:0], g.clients[from:to]...)
		g.mu.Unlock()
		from = to
		now := time.Now().UnixNano()
		for _, c := range visit {
			longest = max(longest, c.look(now))
		}
		clear(visit)
	}
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
	silent := time.Duration(now - c.activity.Load())
	if silent >= g.config.Silence.Std() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.closing {
			c.cut("no sign of life")
		}
		return 0
	}
	if silent >= g.config.Heartbeat.Std()/2 && now-c.pinged >= int64(g.config.Heartbeat) {
		c.pinged = now
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
