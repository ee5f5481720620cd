package realtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// Subprotocol is the name of the protocol, which a client may ask for.
const Subprotocol = "aiops.v1"

const bufferBytes = 512

// WebSocket serves streams over WebSocket.
func (g *Gateway) WebSocket() http.Handler {
	upgrader := &websocket.Upgrader{
		ReadBufferSize: bufferBytes, WriteBufferSize: bufferBytes, WriteBufferPool: &g.pool,
		Subprotocols: []string{Subprotocol}, EnableCompression: g.config.Compression,
		CheckOrigin: func(*http.Request) bool { return true }, // admit has checked it
		Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
			w.Header().Set("Sec-Websocket-Version", "13")
			http.Error(w, reason.Error(), status)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked := websocket.Subprotocols(r); len(asked) > 0 && !slices.Contains(asked, Subprotocol) {
			http.Error(w, "the subprotocol is "+Subprotocol, http.StatusBadRequest)
			return
		}
		if websocket.IsWebSocketUpgrade(r) { // else Upgrade says what is missing
			address := g.config.Client(r)
			if no := g.admit(r, address, false); no != nil {
				g.refuse(w, no)
				return
			}
			g.open(upgrader, w, r, address)
			return
		}
		if _, err := upgrader.Upgrade(w, r, nil); err == nil {
			panic("BUG: a request was upgraded that is none of WebSocket")
		}
	})
}

// open makes a stream of a request that has its place. Nothing of the request
// outlives it.
func (g *Gateway) open(upgrader *websocket.Upgrader, w http.ResponseWriter, r *http.Request, address string) {
	back := func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.release(address)
	}
	id, known, no := g.callerOf(r, address, false)
	if no != nil {
		back()
		g.refuse(w, no)
		return
	}
	t := &takeover{ResponseWriter: w}
	conn, err := upgrader.Upgrade(t, r, nil)
	if err != nil {
		back()
		return
	}
	c := &client{kind: kindWebSocket, address: strings.Clone(address), ws: conn, socket: t.socket}
	c.reader.tokens = messageBurst
	conn.SetReadLimit(maxMessageBytes)
	conn.SetPongHandler(func(string) error { c.seen(); return nil })
	conn.SetPingHandler(func(data string) error {
		c.seen()
		if !c.reader.allow(time.Now()) {
			return errFlood
		}
		c.push(&frame{control: websocket.PongMessage, text: []byte(data)})
		return nil
	})
	caller := &id
	if !known {
		caller = nil
		_ = c.socket.SetReadDeadline(time.Now().Add(authWait))
	}
	if no := g.join(c, caller); no != nil {
		g.turnAway(c, no)
		return
	}
	go g.read(c)
}

// turnAway ends a WebSocket that was upgraded and has no place after all.
func (g *Gateway) turnAway(c *client, no *refusal) {
	g.metrics.refused.WithLabelValues(no.reason).Inc()
	code, why := websocket.CloseServiceRestart, `{"reason":"restart"}`
	if no.reason == refusedIdentity {
		code, why = closeTooMany, `{"reason":"too many streams"}`
	}
	_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, why), time.Now().Add(closeGrace))
	_ = c.socket.Close()
}

func (c *client) seen() { c.activity.Store(time.Now().UnixNano()) }

// reader bounds what a client sends.
type reader struct {
	tokens float64
	last   int64 // Unix nanoseconds
	bad    int
}

// allow takes one message off the client's allowance.
func (r *reader) allow(now time.Time) bool {
	n := now.UnixNano()
	if r.last > 0 {
		r.tokens = min(messageBurst, r.tokens+float64(n-r.last)/1e9*messageRate)
	}
	r.last = n
	if r.tokens < 1 {
		return false
	}
	r.tokens--
	return true
}

var (
	errFlood  = errors.New("too many messages")
	errTooBig = errors.New("the message is too large")
)

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// read takes the messages of a client until its connection ends.
func (g *Gateway) read(c *client) {
	defer g.leave(c)
	defer c.socket.Close()
	for {
		kind, body, err := c.ws.NextReader()
		if err != nil {
			g.dismiss(c, err)
			return
		}
		c.seen()
		if kind != websocket.TextMessage {
			c.close(websocket.CloseUnsupportedData, closing{Reason: "messages are text"})
			c.await()
			return
		}
		buffer := buffers.Get().(*bytes.Buffer) //nolint:errcheck // nothing else is in it
		buffer.Reset()
		var n int64
		// The library bounds what is on the wire; what it inflates to is bounded here.
		if n, err = buffer.ReadFrom(io.LimitReader(body, maxMessageBytes+1)); err == nil {
			if err = errTooBig; n <= maxMessageBytes {
				err = g.takeApart(c, buffer.Bytes())
			}
		}
		if buffer.Cap() <= 4<<10 {
			buffers.Put(buffer)
		}
		if err != nil {
			g.dismiss(c, err)
			return
		}
	}
}

// dismiss ends a client whose reader met err. Where the client did wrong it
// gets the time to read so before the connection closes.
func (g *Gateway) dismiss(c *client, err error) {
	var bye *farewell
	if g.unproven(c) && errors.Is(err, os.ErrDeadlineExceeded) {
		bye = &farewell{closeUnauthorized, closing{Reason: "unauthorized"}}
	}
	if bye != nil || errors.As(err, &bye) {
		c.note(bye.code)
		c.close(bye.code, bye.why)
		c.await()
		return
	}
	code := readCode(err)
	c.note(code)
	switch code {
	case websocket.ClosePolicyViolation:
		c.close(code, closing{Reason: err.Error()})
		c.await()
	case websocket.CloseMessageTooBig, websocket.CloseProtocolError:
		if errors.Is(err, errTooBig) {
			c.close(code, closing{Reason: err.Error()})
		} // else the library has sent the close frame
		c.await()
	}
}

// unproven reports whether c has still to say who it is.
func (g *Gateway) unproven(c *client) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return c.holder == nil
}

// await gives a close frame the time to reach the client: it reads on, without
// looking, until the client answers or the grace is over.
func (c *client) await() {
	_ = c.socket.SetReadDeadline(time.Now().Add(closeGrace))
	drained := [bufferBytes]byte{}
	for {
		if _, err := c.socket.Read(drained[:]); err != nil {
			return
		}
	}
}

// readCode is how a connection ended, by the error of its reader.
func readCode(err error) int {
	var e *websocket.CloseError
	switch {
	case errors.As(err, &e):
		return e.Code
	case errors.Is(err, websocket.ErrReadLimit), errors.Is(err, errTooBig):
		return websocket.CloseMessageTooBig
	case errors.Is(err, errFlood):
		return websocket.ClosePolicyViolation
	case strings.HasPrefix(err.Error(), "websocket: "): // a frame that breaks the protocol
		return websocket.CloseProtocolError
	}
	return websocket.CloseAbnormalClosure
}

// request is any message from a client.
type request struct {
	Type   string   `json:"type"`
	Topics []string `json:"topics"`
	Since  *int64   `json:"since"`
	Token  string   `json:"token"`
}

// takeApart is take on a goroutine of its own. Decoding needs a deep stack,
// which would stay with the reader of the connection for as long as that lasts:
// with ten thousand of them that is most of what a connection costs.
func (g *Gateway) takeApart(c *client, body []byte) error {
	done := make(chan error, 1)
	go func() { done <- g.take(c, body) }()
	return <-done
}

// take does what a message asks for. It returns an error when the client has
// to go; what is wrong with a message is told to the client.
func (g *Gateway) take(c *client, body []byte) error {
	if !c.reader.allow(time.Now()) {
		return errFlood
	}
	var m request
	if err := json.Unmarshal(body, &m); err != nil {
		return g.bad(c, "bad_message", "a message is a JSON object with a type")
	}
	if m.Type == "auth" {
		return g.authenticate(c, m.Token)
	}
	if g.unproven(c) {
		return g.bad(c, "unauthorized", "the first message is auth, with a token")
	}
	switch m.Type {
	case "ping":
		g.mu.Lock()
		defer g.mu.Unlock()
		c.push(message("pong", 0, pongMessage{LastEventID: g.reachedBy(c)}))
		return nil
	case "subscribe", "unsubscribe":
		if len(m.Topics) == 0 || len(m.Topics) > g.config.MaxTopics {
			return g.bad(c, "bad_topics", "name between 1 and %d topics", g.config.MaxTopics)
		}
		for _, t := range m.Topics {
			if reason := checkTopic(t); reason != "" {
				return g.bad(c, "bad_topic", "%s", reason)
			}
		}
		if m.Since != nil && *m.Since < 0 {
			return g.bad(c, "bad_since", "since is the number of an event, or 0 for the first")
		}
		if m.Type == "subscribe" {
			g.subscribe(g.ctx, c, m.Topics, m.Since)
		} else {
			g.unsubscribe(c, m.Topics)
		}
		return nil
	}
	return g.bad(c, "unknown_type", "there is no message %q; there are auth, subscribe, unsubscribe and ping", clip(m.Type))
}

// bad tells a client what is wrong with its message, a few times.
func (g *Gateway) bad(c *client, code, detail string, args ...any) error {
	if c.reader.bad++; c.reader.bad > maxBadMessages {
		return errFlood
	}
	c.push(problem(code, detail, args...))
	return nil
}
