package realtime

import (
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
		address := g.config.Client(r)
		if no := g.admit(r, address, true); no != nil {
			g.refuse(w, no)
			return
		}
		c, no := g.openSSE(r, address, topics)
		if no != nil {
			g.refuse(w, no)
			return
		}
		defer g.leave(c)
		g.subscribe(r.Context(), c, topics, since)
		g.stream(w, r, c)
	})
}

// openSSE makes a stream of a request that has its place.
func (g *Gateway) openSSE(r *http.Request, address string, topics []string) (*client, *refusal) {
	id, _, no := g.callerOf(r, address, true)
	if no == nil {
		for _, t := range topics {
			if !id.May("follow-" + root(t)) {
				no = &refusal{refusedUnknown, http.StatusForbidden, "your role may not follow " + clip(t), 0}
			}
		}
	}
	if no != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.release(address)
		return nil, no
	}
	c := &client{kind: kindSSE, address: address, wake: make(chan struct{}, 1)}
	c.pinged = time.Now().UnixNano()
	return c, g.join(c, &id)
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
