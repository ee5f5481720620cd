package realtime

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"aiops/internal/model"
)

func TestOrigins(t *testing.T) {
	t.Parallel()
	r := setup(t, Config{Origins: []string{"https://aiops.example.com"}, MaxClientsPerAddress: 100}, nil)
	host := strings.TrimPrefix(r.server.URL, "http://")
	name, port, _ := net.SplitHostPort(host)
	dial := func(header http.Header) int {
		conn, response, err := websocket.DefaultDialer.Dial("ws://"+host+"/ws", header)
		if err == nil {
			_ = conn.Close()
			return http.StatusSwitchingProtocols
		}
		if response == nil {
			t.Fatal(err)
		}
		return response.StatusCode
	}
	bad := []http.Header{
		{"Cookie": {"session=1"}}, // a browser that tells no origin
		{"Sec-Fetch-Site": {"cross-site"}},
		{"Sec-Fetch-Site": {"same-site"}},
		{"Origin": {"null"}},
		{"Origin": {""}},
		{"Origin": {"http://evil.example"}},
		{"Origin": {"http://" + host + ".evil.example"}},
		{"Origin": {"http://evil" + host}},
		{"Origin": {"http://evil.example/" + host}},
		{"Origin": {"http://" + host + "@evil.example"}},
		{"Origin": {"http://" + name}},
		{"Origin": {"http://" + name + ":1" + port}},
		{"Origin": {"http://localhost:" + port}},
		{"Origin": {"ftp://" + host}},
		{"Origin": {"//" + host}},
		{"Origin": {host}},
		{"Origin": {"http://" + host + "/"}},
		{"Origin": {"http://" + host, "http://evil.example"}},
		{"Origin": {"http://aiops.example.com"}}, // http where https is configured
		{"Origin": {"https://sub.aiops.example.com"}},
		{"Origin": {"https://aiops.example.com:8443"}},
		{"Origin": {"http://" + host}, "X-Forwarded-Proto": {"https"}}, // http on an encrypted way
		{"Origin": {"file://"}},
	}
	for _, h := range bad {
		if status := dial(h); status != http.StatusForbidden {
			t.Errorf("%v was answered %d", h, status)
		}
	}
	for _, h := range []http.Header{
		nil,
		{"Origin": {"http://" + host}},
		{"Origin": {"HTTP://" + host}},
		{"Origin": {"https://" + host}}, // a proxy ends TLS
		{"Origin": {"https://aiops.example.com"}, "Cookie": {"session=1"}},
	} {
		if status := dial(h); status != http.StatusSwitchingProtocols {
			t.Errorf("%v was answered %d", h, status)
		}
	}
	if n := testutil.ToFloat64(r.metrics.refused.WithLabelValues(refusedOrigin)); int(n) != len(bad) {
		t.Errorf("%v refusals counted, want %d", n, len(bad))
	}
	for header, want := range map[[2]string]int{
		{"Origin", "http://evil.example"}:  http.StatusForbidden,
		{"Sec-Fetch-Site", "cross-site"}:   http.StatusForbidden,
		{"Sec-Fetch-Site", "same-origin"}:  http.StatusOK,
		{"X-Nothing", "a program, not us"}: http.StatusOK,
	} {
		ctx, cancel := context.WithCancel(t.Context())
		request, _ := http.NewRequestWithContext(ctx, http.MethodGet, r.url("/events"), nil)
		request.Header.Set(header[0], header[1])
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != want {
			t.Errorf("events with %v: %d, want %d", header, response.StatusCode, want)
		}
		cancel()
		_ = response.Body.Close()
	}
}

// raw opens a WebSocket without a library, to send what none would.
func (r *rig) raw() (net.Conn, *bufio.Reader) {
	r.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.server.URL, "http://"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	in := bufio.NewReader(conn)
	response, err := http.ReadResponse(in, nil) //nolint:bodyclose // there is none
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		r.t.Fatalf("upgrading: %v %v", response, err)
	}
	return conn, in
}

// frameOf builds a client's frame with a zero mask.
func frameOf(first byte, payload string) string {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	default:
		b = append(b, 0x80|126)
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	}
	return string(append(b, 0, 0, 0, 0)) + payload
}

// TestMalformedFrames sends what no client may send. None of it may disturb
// another client, and each ends its own connection or is told what is wrong.
func TestMalformedFrames(t *testing.T) {
	t.Parallel()
	r := setup(t, Config{}, nil)
	witness := r.dial(nil)
	witness.subscribe(nil, "system")
	for name, bytes := range map[string]string{
		"reserved bit 1":            frameOf(0xc1, `{}`),
		"reserved bit 2":            frameOf(0xa1, `{}`),
		"reserved bit 3":            frameOf(0x91, `{}`),
		"reserved opcode 3":         frameOf(0x83, ``),
		"reserved opcode 7":         frameOf(0x87, `x`),
		"reserved opcode 11":        frameOf(0x8b, ``),
		"reserved opcode 15":        frameOf(0x8f, `x`),
		"no mask":                   "\x81\x02{}",
		"continuation of nothing":   frameOf(0x80, `{}`),
		"a message in a message":    frameOf(0x01, `{`) + frameOf(0x81, `}`),
		"fragmented ping":           frameOf(0x09, ``),
		"fragmented close":          frameOf(0x08, ``),
		"long ping":                 frameOf(0x89, strings.Repeat("x", 126)),
		"long close":                frameOf(0x88, strings.Repeat("x", 200)),
		"close of one byte":         frameOf(0x88, "\x03"),
		"close with a wrong code":   frameOf(0x88, "\x00\x01"),
		"close with 1005":           frameOf(0x88, "\x03\xed"),
		"close that is no text":     frameOf(0x88, "\x03\xe8\xff\xfe"),
		"negative length":           "\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00",
		"huge length":               "\x81\xff\x00\x00\x00\x7f\xff\xff\xff\xff\x00\x00\x00\x00",
		"binary":                    frameOf(0x82, `{"type":"ping"}`),
		"cut off in a header":       "\x81",
		"cut off in a length":       "\x81\xfe\x01",
		"cut off in a mask":         "\x81\x82\x00",
		"cut off in a payload":      "\x81\x85\x00\x00\x00\x00ab",
		"no frame but HTTP":         "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"zeros":                     strings.Repeat("\x00", 64),
		"ones":                      strings.Repeat("\xff", 64),
		"endless fragments":         frameOf(0x01, ``) + strings.Repeat(frameOf(0x00, strings.Repeat("x", 1000)), 70),
		"close, then more":          frameOf(0x88, "\x03\xe8") + frameOf(0x81, `{"type":"ping"}`),
		"message of 64 KiB and one": "\x81\xff\x00\x00\x00\x00\x00\x01\x00\x01\x00\x00\x00\x00" + strings.Repeat(" ", 64<<10+1),
	} {
		conn, in := r.raw()
		_, _ = conn.Write([]byte(bytes)) // the server may hang up in the middle
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
		for { // until it ends
			if _, err := in.ReadByte(); err != nil {
				if e, ok := err.(net.Error); ok && e.Timeout() { //nolint:errorlint // as it comes
					t.Errorf("%s: the connection stays", name)
				}
				break
			}
		}
	}
	await(t, "only the witness is left", func() bool { return r.Len() == 1 })

	for _, m := range []string{``, `{`, `[]`, `null`, `1`, `"subscribe"`, `{"type":5}`, `{"type":"subscribe","topics":"anomalies"}`,
		`{"type":"subscribe","topics":[]}`, `{"type":"subscribe","topics":["nothing"]}`, `{"type":"subscribe","topics":["anomalies/\u0000"]}`,
		`{"type":"subscribe","topics":["anomalies"],"since":-1}`, `{"type":"subscribe","topics":["anomalies"],"since":1.5}`, `{"type":"drop"}`} {
		p := r.dial(nil)
		if err := p.WriteMessage(websocket.TextMessage, []byte(m)); err != nil {
			t.Fatal(err)
		}
		if e := p.expect("error"); e.Code == "" || e.Detail == "" {
			t.Errorf("%q was answered %+v", m, e)
		}
	}
	r.outbox.add("system", `{}`)
	witness.events(1)
}

func TestOversizeIsClosed(t *testing.T) {
	t.Parallel()
	r := setup(t, Config{}, nil)
	p := r.dial(nil)
	_ = p.WriteMessage(websocket.TextMessage, bytes.Repeat([]byte(" "), maxMessageBytes+1))
	if e := p.closed(); e.Code != websocket.CloseMessageTooBig {
		t.Errorf("closed with %v", e)
	}
	exact := r.dial(nil)
	exact.send(map[string]any{"type": "ping", "pad": strings.Repeat("x", maxMessageBytes-64)})
	exact.expect("pong")
}

func TestFloods(t *testing.T) {
	t.Parallel()
	r := setup(t, Config{}, nil)
	many := r.dial(nil)
	var topics []string
	for i := range 65 {
		topics = append(topics, fmt.Sprintf("anomalies/an_%d", i))
	}
	many.subscribe(nil, topics[:40]...)
	many.send(map[string]any{"type": "subscribe", "topics": topics[40:]})
	if e := many.expect("error"); e.Code != "too_many_topics" {
		t.Errorf("65 topics: %+v", e)
	}
	many.send(map[string]any{"type": "subscribe", "topics": topics})
	if e := many.expect("error"); e.Code != "bad_topics" {
		t.Errorf("65 topics at once: %+v", e)
	}
	many.subscribe(nil, topics[40:64]...)

	flood := r.dial(nil)
	go func() {
		for flood.WriteMessage(websocket.TextMessage, []byte(`{"type":"subscribe","topics":["anomalies"]}`)) == nil {
		}
	}()
	if e := flood.closed(); e.Code != websocket.ClosePolicyViolation {
		t.Errorf("a flood of messages was closed with %v", e)
	}
	pings := r.dial(nil)
	go func() {
		for pings.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second)) == nil {
		}
	}()
	if e := pings.closed(); e.Code != websocket.ClosePolicyViolation {
		t.Errorf("a flood of pings was closed with %v", e)
	}
	await(t, "the floods have ended", func() bool { return r.Len() == 1 })
}

func TestPlacesAreLimited(t *testing.T) {
	t.Parallel()
	refused := func(r *rig, status int) {
		t.Helper()
		_, response, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(r.url("/ws"), "http"), nil) //nolint:bodyclose // the library closes it
		if err == nil || response == nil || response.StatusCode != status || response.Header.Get("Retry-After") == "" {
			t.Errorf("one more was answered %+v, want %d", response, status)
		}
	}
	address := setup(t, Config{MaxClientsPerAddress: 3}, nil)
	var peers []*peer
	for range 3 {
		peers = append(peers, address.dial(nil))
	}
	refused(address, http.StatusTooManyRequests)
	_ = peers[0].Close()
	await(t, "a place is free", func() bool { return address.Len() == 2 })
	address.dial(nil)

	total := setup(t, Config{MaxClients: 2}, nil)
	total.dial(nil)
	total.dial(nil)
	refused(total, http.StatusServiceUnavailable)

	fast := setup(t, Config{MaxAccepts: 1}, nil)
	fast.dial(nil)
	refused(fast, http.StatusServiceUnavailable)

	gone := setup(t, Config{}, nil)
	gone.Drain(t.Context())
	refused(gone, http.StatusServiceUnavailable)
}

// TestWrongHandshakes asks for an upgrade in ways that must be refused.
func TestWrongHandshakes(t *testing.T) {
	t.Parallel()
	r := setup(t, Config{}, nil)
	for name, c := range map[string]struct {
		method string
		header http.Header
		want   int
	}{
		"a plain request":   {http.MethodGet, nil, http.StatusBadRequest},
		"POST":              {http.MethodPost, http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}}, http.StatusMethodNotAllowed},
		"another version":   {http.MethodGet, http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"8"}}, http.StatusBadRequest},
		"no key":            {http.MethodGet, http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}}, http.StatusBadRequest},
		"another protocol":  {http.MethodGet, http.Header{"Sec-Websocket-Protocol": {"soap"}}, http.StatusBadRequest},
		"upgrade to a mail": {http.MethodGet, http.Header{"Connection": {"Upgrade"}, "Upgrade": {"smtp"}}, http.StatusUpgradeRequired},
	} {
		request, _ := http.NewRequestWithContext(t.Context(), c.method, r.url("/ws"), nil)
		request.Header = c.header
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != c.want {
			t.Errorf("%s: %d, want %d", name, response.StatusCode, c.want)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reserved != 0 || len(r.addresses) != 0 {
		t.Errorf("refused requests keep %d places (%v)", r.reserved, r.addresses)
	}
}

// TestSlowReadersAreCutOff lets one client stop reading under load: it is told
// 1013 with the cursor, and nobody else notices.
func TestSlowReadersAreCutOff(t *testing.T) {
	t.Parallel()
	r := setup(t, Config{}, nil)
	fast := r.dial(nil)
	fast.subscribe(nil, "anomalies")
	slow := r.dial(nil)
	slow.subscribe(nil, "anomalies")

	text := `"` + strings.Repeat("x", 40<<10) + `"`
	var want int64
	for cut := false; !cut; { // until the queue and the kernel's buffers are full
		want = r.outbox.add("anomalies/a", text)
		if got := fast.events(1); got[0].ID != want {
			t.Fatalf("the fast one got %d, want %d", got[0].ID, want)
		}
		if want > 1000 {
			t.Fatal("a client that does not read is never cut off")
		}
		cut = testutil.ToFloat64(r.metrics.dropped) > 0
	}
	var last int64
	for {
		m, err := slow.read() // reads again, in time: what was sent, then the reason
		if err == nil {
			for _, e := range m.Events {
				if e.ID != last+1 {
					t.Fatalf("event %d follows %d", e.ID, last)
				}
				last = e.ID
			}
			continue
		}
		e, ok := err.(*websocket.CloseError) //nolint:errorlint // as it comes
		if !ok || e.Code != websocket.CloseTryAgainLater || e.Text != fmt.Sprintf(`{"reason":"too slow","since":%d}`, last) {
			t.Fatalf("after event %d: %v", last, err)
		}
		break
	}
	// It comes back from there and lacks nothing.
	again := r.dial(nil)
	again.subscribe(&last, "anomalies")
	for last < want {
		for _, e := range again.expect("events").Events {
			if last++; e.ID != last {
				t.Fatalf("got event %d, want %d", e.ID, last)
			}
		}
	}
	if n := testutil.ToFloat64(r.metrics.closes.WithLabelValues("1013")); n != 1 {
		t.Errorf("%v closed with 1013", n)
	}
}

// TestEverybodyHasATurn is about clients that arrive all the time: those that
// are there already must not wait for ever to be looked at.
func TestEverybodyHasATurn(t *testing.T) {
	t.Parallel()
	var turn turn
	last := make([]int, 0, 20_000)
	for tick := range 200 {
		for range 100 {
			last = append(last, tick)
		}
		from, to := turn.next(len(last))
		for i := from; i < to; i++ {
			last[i] = tick
		}
		for i, seen := range last {
			if tick-seen > 2*visitsPerRound+2 {
				t.Fatalf("client %d of %d waits since tick %d at tick %d", i, len(last), seen, tick)
			}
		}
	}
	if from, to := turn.next(0); from != 0 || to != 0 {
		t.Errorf("of nobody %d to %d are due", from, to)
	}
}

// TestNoSignOfLife is about clients that are stuck while the kernel still takes
// what is sent to them.
func TestNoSignOfLife(t *testing.T) {
	t.Parallel()
	r := setup(t, Config{Heartbeat: model.Duration(100 * time.Millisecond), Silence: model.Duration(300 * time.Millisecond)}, nil)
	alive := r.dial(nil)
	answers := make(chan error, 1)
	go func() { // reads, and so answers pings
		_, err := alive.read()
		answers <- err
	}()
	r.dial(nil) // does not read
	await(t, "the stuck client is cut off", func() bool { return testutil.ToFloat64(r.metrics.closes.WithLabelValues("1013")) == 1 })
	if c, _ := r.Streams(); len(c) != 1 || c[0].ID != "c1" {
		t.Errorf("left are %+v", c)
	}
	r.stop()
	if err := <-answers; !websocket.IsCloseError(err, websocket.CloseServiceRestart) {
		t.Errorf("the living client ended with %v", err)
	}
}
