package realtime

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"aiops/internal/model"
)

// event is one fact, encoded once for everybody.
type event struct {
	id    int64
	topic string
	at    time.Time
	kind  model.EventType
	json  []byte
}

func encode(e model.Event) (*event, error) {
	if len(e.Data) == 0 {
		e.Data = json.RawMessage("null")
	}
	body, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encoding event %d: %w", e.ID, err)
	}
	return &event{id: e.ID, topic: e.Topic, at: e.Time, kind: e.Type, json: body}, nil
}

// frame is one thing to send. It does not change once it is in a queue, and
// any number of clients share it.
type frame struct {
	name    string   // of a message that is no event, in the words of server-sent events
	text    []byte   // the WebSocket message
	data    []byte   // what follows data: in server-sent events; nil sends no event there
	events  []*event // instead of data
	cursor  int64    // after it a client has everything up to this number; 0 tells nothing
	topic   string   // of a live point: a newer one of this topic replaces it
	control int      // the opcode of a control frame; its payload is text
	shared  bool     // worth preparing once for all clients

	once     sync.Once
	prepared *websocket.PreparedMessage
	failure  error

	sseOnce sync.Once
	stream  []byte
}

func (f *frame) size() int { return len(f.text) }

// oldest returns when the first event of f was committed.
func (f *frame) oldest() (time.Time, bool) {
	if len(f.events) == 0 {
		return time.Time{}, false
	}
	return f.events[0].at, true
}

// prepare returns the bytes on the wire, made once for all clients.
func (f *frame) prepare() (*websocket.PreparedMessage, error) {
	f.once.Do(func() { f.prepared, f.failure = websocket.NewPreparedMessage(websocket.TextMessage, f.text) })
	return f.prepared, f.failure
}

// sse returns f as server-sent events.
func (f *frame) sse() []byte {
	f.sseOnce.Do(func() {
		var b []byte
		for _, e := range f.events {
			b = append(b, "id: "...)
			b = strconv.AppendInt(b, e.id, 10)
			b = append(b, "\ndata: "...)
			b = append(b, e.json...)
			b = append(b, "\n\n"...)
		}
		if f.data != nil {
			if f.cursor > 0 {
				b = append(b, "id: "...)
				b = strconv.AppendInt(b, f.cursor, 10)
				b = append(b, '\n')
			}
			b = append(b, "event: "...)
			b = append(b, f.name...)
			b = append(b, "\ndata: "...)
			b = append(b, f.data...)
			b = append(b, "\n\n"...)
		}
		f.stream = b
	})
	return f.stream
}

// eventFrame carries events, which are in order and not none.
func eventFrame(events []*event) *frame {
	size := len(`{"type":"events","events":[]}`)
	for _, e := range events {
		size += len(e.json) + 1
	}
	b := make([]byte, 0, size)
	b = append(b, `{"type":"events","events":[`...)
	for i, e := range events {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, e.json...)
	}
	b = append(b, "]}"...)
	return &frame{text: b, events: events, cursor: events[len(events)-1].id, shared: true}
}

// split cuts events into frames that respect the bounds of one.
func split(events []*event) []*frame {
	var out []*frame
	for len(events) > 0 {
		n := frameLength(events)
		out = append(out, eventFrame(events[:n:n]))
		events = events[n:]
	}
	return out
}

// frameLength returns how many of events one frame takes: at least one.
func frameLength(events []*event) int {
	size := 0
	for i, e := range events {
		if size += len(e.json); i > 0 && (i == frameEvents || size > frameBytes) {
			return i
		}
	}
	return len(events)
}

// message builds a frame of a message that is no event.
func message(name string, cursor int64, fields any) *frame {
	data, err := json.Marshal(fields)
	if err != nil {
		panic("BUG: a message cannot be encoded: " + err.Error())
	}
	text := fmt.Appendf(nil, `{"type":%q`, name)
	if len(data) > 2 {
		text = append(text, ',')
		text = append(text, data[1:]...)
	} else {
		text = append(text, '}')
	}
	return &frame{name: name, text: text, data: data, cursor: cursor}
}

// The messages to clients beside events and points.
type (
	helloMessage struct {
		ID          string `json:"id"`
		HeartbeatMS int64  `json:"heartbeat_ms"`
		LastEventID int64  `json:"last_event_id"`
		Auth        string `json:"auth,omitempty"` // required: nothing else is listened to before
	}
	authenticatedMessage struct {
		Name string `json:"name"`
		Role string `json:"role"`
	}
	subscribedMessage struct {
		Topics []string `json:"topics"`
		Since  int64    `json:"since"` // the stream goes on after this event
	}
	unsubscribedMessage struct {
		Topics []string `json:"topics"`
	}
	errorMessage struct {
		Code   string `json:"code"`
		Detail string `json:"detail"`
	}
	resetMessage struct {
		Topics        []string `json:"topics"`
		OldestEventID int64    `json:"oldest_event_id"`
		LastEventID   int64    `json:"last_event_id"`
	}
	pongMessage struct {
		LastEventID int64 `json:"last_event_id"`
	}
	// closing is the reason of a close frame, at most 123 bytes.
	closing struct {
		Reason           string `json:"reason"`
		Since            *int64 `json:"since,omitempty"`
		ReconnectAfterMS int64  `json:"reconnect_after_ms,omitempty"`
	}
)

func problem(code, detail string, args ...any) *frame {
	return message("error", 0, errorMessage{Code: code, Detail: fmt.Sprintf(detail, args...)})
}

// retry makes f tell a client of server-sent events when to come back.
func (f *frame) retry(ms int64) {
	f.sseOnce.Do(func() {
		f.stream = fmt.Appendf(nil, "retry: %d\nevent: %s\ndata: %s\n\n", ms, f.name, f.data)
	})
}

// pointFrame carries a live point.
func pointFrame(topic string, payload []byte) *frame {
	f := message("point", 0, struct {
		Topic string          `json:"topic"`
		Data  json.RawMessage `json:"data"`
	}{topic, payload})
	f.topic, f.shared = topic, true
	return f
}

// markFrame tells a client of server-sent events the cursor without an event.
func markFrame(cursor int64) *frame {
	f := &frame{cursor: cursor}
	f.sseOnce.Do(func() { f.stream = fmt.Appendf(nil, ": alive\nid: %d\n\n", cursor) })
	return f
}
