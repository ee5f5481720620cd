package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// LiveEvent is a fact with a number. Numbers grow in the order of the facts.
type LiveEvent struct {
	ID    int64           `json:"id"`
	Type  string          `json:"type"`  // such as anomaly.opened
	Topic string          `json:"topic"` // such as anomalies/an_1
	Time  time.Time       `json:"time"`
	Data  json.RawMessage `json:"data"`
}

// LivePoint is the newest point of a series that is followed. It has no number,
// and those between may be missing.
type LivePoint struct {
	Topic string          `json:"topic"`
	Data  json.RawMessage `json:"data"`
}

// LiveReset says that what was missed is no longer kept: load the state with
// the rest of this package. The stream goes on after event LastEventID.
type LiveReset struct {
	OldestEventID int64 `json:"oldest_event_id"`
	LastEventID   int64 `json:"last_event_id"`
}

// LiveMessage is one of its fields; the others are nil.
type LiveMessage struct {
	Event *LiveEvent
	Point *LivePoint
	Reset *LiveReset
}

// LiveState is what a stream is doing.
type LiveState struct {
	Connected bool
	// Err is why the last connection ended, or could not be made, and Retry how
	// long it is until the next attempt. Both are zero while Connected.
	Err   error
	Retry time.Duration
}

// LiveOptions say what to follow.
type LiveOptions struct {
	URL    string   // of the server, such as http://127.0.0.1:8080
	Token  string   // an API key; may be empty where the server asks nobody
	Topics []string // such as anomalies or detectors/det_1; at least one

	// Since is the last event that the caller has: what came after it follows
	// first. 0 is from the first event that is kept, nil from now on.
	Since *int64

	// OnState is told of each change; nil: nobody. It must not block.
	OnState func(LiveState)

	// BackoffMin and BackoffMax bound the delay before the next attempt, which
	// is drawn between 0 and a bound that doubles with each failure. A delay
	// that the server asks for is never undercut. 0 is 500 ms and 30 s.
	BackoffMin, BackoffMax time.Duration

	// Dialer makes the connections; nil: one with a handshake of at most 10 s.
	Dialer *websocket.Dialer
}

// Reasons for which Follow gives up: trying again cannot help.
var (
	ErrLiveUnauthorized = errors.New("the server does not accept the API key, or no longer")
	ErrLiveForbidden    = errors.New("the identity may not follow these topics")
	ErrLiveRefused      = errors.New("the server does not understand the request")
)

// Bounds of a connection.
const (
	liveMaxMessage = 32 << 20
	liveSilence    = 3 // heartbeats without a sign of life
	livePing       = 30 * time.Second
	liveStable     = 10 * time.Second // a connection that lasts this long resets the backoff
)

// Follow hands what happens to handle, each event once and in the order of
// their numbers, across any number of connections, until ctx ends, handle
// returns an error, or trying again cannot help. It returns that error.
// handle is called by one goroutine at a time; while it runs nothing is read,
// and a server cuts off who reads too slowly, from where Follow goes on.
func Follow(ctx context.Context, o LiveOptions, handle func(LiveMessage) error) error {
	if len(o.Topics) == 0 {
		return fmt.Errorf("%w: name at least one topic", ErrLiveRefused)
	}
	address, err := liveAddress(o.URL)
	if err != nil {
		return err
	}
	if o.BackoffMin <= 0 {
		o.BackoffMin = 500 * time.Millisecond
	}
	if o.BackoffMax <= 0 {
		o.BackoffMax = 30 * time.Second
	}
	if o.Dialer == nil {
		o.Dialer = &websocket.Dialer{Proxy: http.ProxyFromEnvironment, HandshakeTimeout: 10 * time.Second, Subprotocols: []string{"aiops.v1"}}
	}
	f := &follower{o: o, address: address, handle: handle}
	if o.Since != nil {
		f.cursor, f.placed = *o.Since, true
	}
	return f.run(ctx)
}

func liveAddress(server string) (string, error) {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("%w: %q is not the address of a server, such as http://127.0.0.1:8080", ErrLiveRefused, server)
	}
	u.Scheme = "ws" + strings.TrimPrefix(u.Scheme, "http")
	u.Path = strings.TrimSuffix(u.Path, "/") + "/api/v1/ws"
	u.RawQuery, u.Fragment = "", ""
	return u.String(), nil
}

// follower is one call of Follow.
type follower struct {
	o       LiveOptions
	address string
	handle  func(LiveMessage) error

	cursor int64 // everything of the topics up to this event was handled
	placed bool  // cursor says where to go on
}

// retry is an error after which to try again.
type retry struct {
	err   error
	after time.Duration // the server's wish; 0: none
}

func (r *retry) Error() string { return r.err.Error() }
func (r *retry) Unwrap() error { return r.err }

func (f *follower) run(ctx context.Context) error {
	failures := 0
	for {
		began := time.Now()
		err := f.connect(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var again *retry
		if !errors.As(err, &again) {
			return err
		}
		if time.Since(began) >= liveStable {
			failures = 0
		}
		delay := max(again.after, f.backoff(failures))
		failures++
		f.tell(LiveState{Err: again.err, Retry: delay})
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// backoff is full jitter: anything up to a bound that doubles.
func (f *follower) backoff(failures int) time.Duration {
	bound := f.o.BackoffMin << min(failures, 16)
	return rand.N(min(max(bound, f.o.BackoffMin), f.o.BackoffMax)) + 1
}

func (f *follower) tell(s LiveState) {
	if f.o.OnState != nil {
		f.o.OnState(s)
	}
}

// connect makes one connection and reads until it ends. It returns a *retry
// when another one may help.
func (f *follower) connect(ctx context.Context) error {
	conn, response, err := f.o.Dialer.DialContext(ctx, f.address, nil)
	if err != nil {
		return dialFault(err, response)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	conn.SetReadLimit(liveMaxMessage)
	if err := f.ask(conn); err != nil {
		return &retry{err: err}
	}
	done := make(chan struct{})
	defer close(done)
	return f.read(conn, done)
}

// dialFault says what a failed handshake means.
func dialFault(err error, response *http.Response) error {
	if response == nil {
		return &retry{err: fmt.Errorf("connecting: %w", err)}
	}
	_ = response.Body.Close()
	switch code := response.StatusCode; {
	case code == http.StatusUnauthorized:
		return ErrLiveUnauthorized
	case code == http.StatusForbidden:
		return ErrLiveForbidden
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code >= 500:
		seconds, convErr := strconv.Atoi(response.Header.Get("Retry-After"))
		if convErr != nil {
			seconds = 0
		}
		return &retry{err: fmt.Errorf("connecting: the server answered %s", response.Status), after: time.Duration(max(0, seconds)) * time.Second}
	}
	return fmt.Errorf("%w: it answered %s", ErrLiveRefused, response.Status)
}

// ask authenticates and subscribes. The server takes messages in order, so
// there is no need to wait for an answer in between.
func (f *follower) ask(conn *websocket.Conn) error {
	if f.o.Token != "" {
		if err := conn.WriteJSON(map[string]any{"type": "auth", "token": f.o.Token}); err != nil {
			return fmt.Errorf("authenticating: %w", err)
		}
	}
	m := map[string]any{"type": "subscribe", "topics": f.o.Topics}
	if f.placed {
		m["since"] = f.cursor
	}
	if err := conn.WriteJSON(m); err != nil {
		return fmt.Errorf("subscribing: %w", err)
	}
	return nil
}

// liveFrame is any message of the server.
type liveFrame struct {
	Type          string          `json:"type"`
	HeartbeatMS   int64           `json:"heartbeat_ms"`
	Since         int64           `json:"since"`
	Events        []LiveEvent     `json:"events"`
	Topic         string          `json:"topic"`
	Data          json.RawMessage `json:"data"`
	OldestEventID int64           `json:"oldest_event_id"`
	LastEventID   int64           `json:"last_event_id"`
	Code          string          `json:"code"`
	Detail        string          `json:"detail"`
}

// read takes messages until the connection ends.
func (f *follower) read(conn *websocket.Conn, done <-chan struct{}) error {
	var silence atomic.Int64
	silence.Store(int64(15 * time.Second)) // until the server has said how often it gives a sign of life
	alive := func() { _ = conn.SetReadDeadline(time.Now().Add(time.Duration(silence.Load()))) }
	pong := conn.PingHandler()
	conn.SetPingHandler(func(data string) error { alive(); return pong(data) })
	for {
		alive()
		var m liveFrame
		if err := conn.ReadJSON(&m); err != nil {
			return closeFault(err)
		}
		if m.Type == "hello" {
			silence.Store(int64(liveSilence * max(time.Second, time.Duration(m.HeartbeatMS)*time.Millisecond)))
			continue
		}
		if m.Type == "subscribed" {
			if !f.placed {
				f.cursor, f.placed = m.Since, true
			}
			go keepAsking(conn, done)
			f.tell(LiveState{Connected: true})
			continue
		}
		if err := f.take(m); err != nil {
			return err
		}
	}
}

// keepAsking asks now and then up to where everything has been sent, so that
// the cursor of quiet topics stays recent.
func keepAsking(conn *websocket.Conn, done <-chan struct{}) {
	tick := time.NewTicker(livePing)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			if conn.WriteJSON(map[string]string{"type": "ping"}) != nil {
				return // the reader meets the same fault
			}
		}
	}
}

// take handles one message.
func (f *follower) take(m liveFrame) error {
	switch m.Type {
	case "events":
		for i := range m.Events {
			e := &m.Events[i]
			if e.ID <= f.cursor {
				continue // it came before, on an earlier connection
			}
			if err := f.handle(LiveMessage{Event: e}); err != nil {
				return err
			}
			f.cursor = e.ID
		}
	case "point":
		return f.handle(LiveMessage{Point: &LivePoint{Topic: m.Topic, Data: m.Data}})
	case "stream.reset":
		f.cursor, f.placed = m.LastEventID, true
		return f.handle(LiveMessage{Reset: &LiveReset{OldestEventID: m.OldestEventID, LastEventID: m.LastEventID}})
	case "pong":
		f.cursor = max(f.cursor, m.LastEventID)
	case "error":
		switch m.Code {
		case "forbidden":
			return fmt.Errorf("%w: %s", ErrLiveForbidden, m.Detail)
		case "unauthorized":
			return fmt.Errorf("%w: %s", ErrLiveUnauthorized, m.Detail)
		case "busy":
			return &retry{err: fmt.Errorf("the server is busy: %s", m.Detail)}
		}
		return fmt.Errorf("%w: %s (%s)", ErrLiveRefused, m.Detail, m.Code)
	}
	return nil
}

// closeFault says what the end of a connection means.
func closeFault(err error) error {
	var e *websocket.CloseError
	if !errors.As(err, &e) {
		return &retry{err: fmt.Errorf("the connection broke: %w", err)}
	}
	switch e.Code {
	case 4401:
		return ErrLiveUnauthorized
	case 4403:
		return ErrLiveForbidden
	case websocket.CloseProtocolError, websocket.CloseUnsupportedData, websocket.ClosePolicyViolation, websocket.CloseMessageTooBig:
		return fmt.Errorf("%w: %s", ErrLiveRefused, e.Text)
	}
	var why struct {
		Reason           string `json:"reason"`
		ReconnectAfterMS int64  `json:"reconnect_after_ms"`
	}
	_ = json.Unmarshal([]byte(e.Text), &why) // another server's reason is not ours to read
	return &retry{err: fmt.Errorf("the server closed the stream (%d): %s", e.Code, why.Reason), after: time.Duration(max(0, why.ReconnectAfterMS)) * time.Millisecond}
}
