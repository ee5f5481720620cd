package realtime

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// SSE serves streams of server-sent events. ?topics=a,b names the topics, all
// stored ones without it; Last-Event-ID or ?since= the event to go on after.
func (g *Gateway) SSE() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.Header().Set("Allow", http.MethodGet)
			http.Error(w, "a stream is read with GET", http.StatusMethodNotAllowed)
			return
		}
		topics, since, reason := g.wish(r)
		if reason != "" {
			http.Error(w, reason, http.StatusBadRequest)
			return
		}
		address := addressOf(r)
		if no := g.admit(r, address, true); no != nil {
			g.refuse(w, no)
			return
		}
		c := &client{kind: kindSSE, address: address, wake: make(chan struct{}, 1)}
		c.pinged = time.Now().UnixNano()
		if !g.join(c) {
			http.Error(w, "the live stream is not running", http.StatusServiceUnavailable)
			return
		}
		defer g.leave(c)
		g.subscribe(r.Context(), c, topics, since)
		g.stream(w, r, c)
	})
}

// wish reads what a request asks for, or says what is wrong with it.
func (g *Gateway) wish(r *http.Request) (topics []string, since *int64, reason string) {
	q := r.URL.Query()
	if given := q.Get("topics"); given != "" {
		topics = strings.Split(given, ",")
	} else {
		topics = storedRoots()
	}
	if len(topics) > g.config.MaxTopics {
		return nil, nil, fmt.Sprintf("name at most %d topics", g.config.MaxTopics)
	}
	for _, t := range topics {
		if reason := checkTopic(t); reason != "" {
			return nil, nil, reason
		}
	}
	cursor := r.Header.Get("Last-Event-ID")
	if cursor == "" {
		cursor = q.Get("since")
	}
	if cursor == "" {
		return topics, nil, ""
	}
	n, err := strconv.ParseInt(cursor, 10, 64)
	if err != nil || n < 0 {
		return nil, nil, "Last-Event-ID and since are the number of an event, or 0 for the first"
	}
	return topics, &n, ""
}

// stream writes to c until it leaves or is sent away.
func (g *Gateway) stream(w http.ResponseWriter, r *http.Request, c *client) {
	control := http.NewResponseController(w)
	// The server's bound for reading a request must not end the stream.
	if err := control.SetReadDeadline(time.Time{}); err != nil {
		g.log.Debug("a stream keeps the read deadline of the server", "err", err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no") // proxies hold streams back otherwise
	w.WriteHeader(http.StatusOK)
	timeout := g.config.WriteTimeout.Std()
	write := func(b []byte) error {
		if err := control.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		return control.Flush()
	}
	buffer := fmt.Appendf(nil, "retry: %d\n\n", sseRetry.Milliseconds())
	for {
		closed := false
		for !closed {
			f := c.pop()
			if f == nil {
				break
			}
			buffer = append(buffer, f.sse()...)
			c.written(f)
			closed = f.control == websocket.CloseMessage
		}
		if len(buffer) > 0 {
			if err := write(buffer); err != nil {
				c.note(websocket.CloseAbnormalClosure)
				return
			}
			if buffer = buffer[:0]; cap(buffer) > 16<<10 {
				buffer = nil
			}
		}
		if closed || c.ended() {
			return
		}
		select {
		case <-c.wake:
		case <-r.Context().Done():
			c.note(websocket.CloseGoingAway)
			return
		}
	}
}

// sseRetry is how long a browser waits before it connects again.
const sseRetry = 3 * time.Second

// ended reports whether c is to go without a further word.
func (c *client) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing && c.head == len(c.queue)
}

// ClientList serves Clients as JSON.
func (g *Gateway) ClientList() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", http.MethodGet)
			http.Error(w, "the clients are read with GET", http.StatusMethodNotAllowed)
			return
		}
		limit := 1000
		if given := r.URL.Query().Get("limit"); given != "" {
			n, err := strconv.Atoi(given)
			if err != nil || n < 1 || n > 20_000 {
				http.Error(w, "limit is between 1 and 20000", http.StatusBadRequest)
				return
			}
			limit = n
		}
		items := g.Clients()
		body, err := json.Marshal(map[string]any{"total": len(items), "last_event_id": g.position.Load(), "items": items[:min(limit, len(items))]})
		if err != nil {
			http.Error(w, "the clients cannot be encoded", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(body) // the client has gone
	})
}
