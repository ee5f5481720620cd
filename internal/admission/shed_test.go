package admission

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

const (
	plainGet = "GET /read?q=1 HTTP/1.1\r\nHost: x\r\nX-Request-Id: my-id\r\n\r\n"
	shedMark = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nShed: 1\r\n\r\nshed"
)

// FuzzHeadsAreReadAsNetHTTPDoes: what a connection takes for a whole GET is
// one to net/http too, with the same path, and nothing is left over.
func FuzzHeadsAreReadAsNetHTTPDoes(f *testing.F) {
	for _, seed := range []string{
		plainGet, "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET /a%2fb HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length : 4\r\n\r\n", "GET /a HTTP/1.1\nHost: x\n\n", "GET //a/../b HTTP/1.1\r\nhost: x\r\nTraceparent:\t00-1 \r\n\r\n",
		"GET /a HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", "GET /?#x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "GET /a:b;c HTTP/1.1\r\nHost: [\r\nX:\x00\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		h, ok := readHead(p)
		if !ok {
			return
		}
		in := bufio.NewReader(bytes.NewReader(p))
		r, err := http.ReadRequest(in)
		if err != nil {
			return // net/http refuses it and closes the connection: nobody can be misled
		}
		left, _ := io.ReadAll(in)
		if r.Method != "GET" || r.URL.Path != string(h.Path) || r.ContentLength != 0 || len(r.TransferEncoding) > 0 || r.ProtoMinor != 1 || r.Close || len(left) > 0 {
			t.Errorf("%q is read as %s %q (%q) with %d bytes of body and %q left", p, r.Method, r.URL.Path, h.Path, r.ContentLength, left)
		}
		if got := r.Header.Values("X-Request-Id"); len(got) == 1 && got[0] != string(h.RequestID) {
			t.Errorf("%q: id %q, read as %q", p, got, h.RequestID)
		}
	})
}

// FuzzReadsThatAreSplit: however the bytes of a connection come, what it
// takes for a request is one to net/http too, which reads them all.
func FuzzReadsThatAreSplit(f *testing.F) {
	post := "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 53\r\n\r\n"
	first := uint16(len(plainGet))
	for _, seed := range []struct {
		stream string
		a, b   uint16
	}{
		{plainGet + plainGet + plainGet, first, first},
		{plainGet + plainGet, first, 1}, {plainGet + plainGet, 1, first - 1}, {plainGet + plainGet, first - 1, 1}, {plainGet + plainGet, first + 1, first - 1},
		{plainGet + post + plainGet, first, uint16(len(post))}, {post + plainGet + plainGet, uint16(len(post)), first}, {post + plainGet + plainGet, uint16(len(post)) - 1, first},
		{strings.Replace(plainGet, "Host", "Content-Length: 53\r\nHost", 1) + plainGet, first + 20, first},
		{strings.Replace(plainGet, "Host", "Transfer-Encoding: chunked\r\nHost", 1) + "35\r\n" + plainGet + "\r\n0\r\n\r\n", first + 32, 4},
		{"G" + plainGet, 1, first}, {plainGet + "G" + plainGet, first, 1}, {"GET /a HTTP/1.1\r\nA: " + plainGet + plainGet, 20, first},
	} {
		f.Add([]byte(seed.stream), seed.a, seed.b)
	}
	f.Fuzz(func(t *testing.T, stream []byte, a, b uint16) {
		begins, broken := map[int]bool{}, len(stream)
		for whole, in := bytes.NewReader(stream), bufio.NewReader(nil); whole.Len() > 0; {
			at := len(stream) - whole.Len()
			in.Reset(whole)
			r, err := http.ReadRequest(in)
			if err == nil {
				_, err = io.Copy(io.Discard, r.Body)
			}
			if err != nil {
				broken = at // net/http reads no further
				break
			}
			begins[at] = true
			_, _ = whole.Seek(-int64(in.Buffered()), io.SeekCurrent)
		}
		c, at := &conn{}, 0
		for _, n := range []int{int(a), int(b), len(stream)} {
			n = min(n, len(stream)-at)
			if n == 0 {
				continue
			}
			c.refuses(nil, stream[at:at+n], time.Now())
			if end := at + n; !c.other && at < broken && (!begins[at] || end != broken && !begins[end] && end != len(stream)) {
				t.Errorf("%q is taken for a request behind %q", stream[at:end], stream[:at])
			}
			at += n
		}
	})
}

func TestHeadsThatAreNotPlain(t *testing.T) {
	t.Parallel()
	if h, ok := readHead([]byte(plainGet)); !ok || string(h.Path) != "/read" || string(h.RequestID) != "my-id" {
		t.Errorf("a plain one: %v %s %s", ok, h.Path, h.RequestID)
	}
	for _, bad := range []string{
		"", "GET", plainGet + "x", plainGet[:len(plainGet)-2], plainGet + plainGet, strings.Replace(plainGet, "GET", "POST", 1), strings.Replace(plainGet, "1.1", "1.0", 1),
		strings.Replace(plainGet, "/read", "/re%61d", 1), strings.Replace(plainGet, "/read", "http://x/read", 1), strings.Replace(plainGet, "Host: x\r\n", "", 1),
		strings.Replace(plainGet, "Host: x", "Host: x\r\nHost: y", 1), strings.Replace(plainGet, "Host", "Content-Length: 4\r\nHost", 1),
		strings.Replace(plainGet, "Host", "content-length : 4\r\nHost", 1), strings.Replace(plainGet, "Host", "A: b\nTransfer-Encoding: chunked\r\nHost", 1),
		strings.Replace(plainGet, "Host", "Connection: close\r\nHost", 1), strings.Replace(plainGet, "Host", "Connection: Upgrade\r\nUpgrade: websocket\r\nHost", 1),
		strings.Replace(plainGet, "Host", "Expect: 100-continue\r\nHost", 1), strings.Replace(plainGet, "Host: x", "Host: x\r\n folded", 1), "\x16\x03\x01\x02\x00",
	} {
		if _, ok := readHead([]byte(bad)); ok {
			t.Errorf("%q is taken for a plain GET", bad)
		}
	}
}

// shedding is a server on a Listener, whose class Read is flooded as long as
// the test runs.
func shedding(t *testing.T) *Admission {
	t.Helper()
	a := setup(t, Config{}, func(o *Options) {
		o.Answer = func(error) func([]byte, Head) []byte {
			return func(b []byte, h Head) []byte { return append(b, shedMark...) }
		}
	})
	full(t, a.limiter, Read)
	a.limiter.mu.Lock()
	defer a.limiter.mu.Unlock()
	for range mostQueued {
		a.limiter.queues[Read].push(&ticket{class: Read, since: time.Now().Add(time.Hour)})
		a.limiter.queued++
	}
	a.limiter.queues[Read].refused(time.Now().Add(time.Hour))
	return a
}

func serveOn(t *testing.T, a *Admission, header time.Duration) (dial func() (net.Conn, *bufio.Reader)) {
	t.Helper()
	return serveWith(t, a, header, func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "served %s %q", r.URL.Path, text)
	})
}

func serveWith(t *testing.T, a *Admission, header time.Duration, handler http.HandlerFunc) (dial func() (net.Conn, *bufio.Reader)) {
	t.Helper()
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener := NewListener(plain, nil)
	listener.Use(a)
	server := &http.Server{ReadHeaderTimeout: header, Handler: a.Handler(handler)}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return func() (net.Conn, *bufio.Reader) {
		conn, err := net.Dial("tcp", plain.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		return conn, bufio.NewReader(conn)
	}
}

// answerOf reads one answer.
func answerOf(t *testing.T, in *bufio.Reader) (status int, shed bool, body string) {
	t.Helper()
	r, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, r.Header.Get("Shed") != "", string(text)
}

func TestConnectionsRefuseByThemselves(t *testing.T) {
	t.Parallel()
	a := shedding(t)
	conn, in := serveOn(t, a, time.Minute)()
	ask := func(request string, status int, shed bool) {
		t.Helper()
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		if s, by, body := answerOf(t, in); s != status || by != shed {
			t.Errorf("%q: %d (by the connection: %v) %s, want %d (%v)", request, s, by, body, status, shed)
		}
	}
	probe := strings.Replace(plainGet, "/read", "/probe", 1)
	for range 3 {
		ask(plainGet, 503, true)
		ask(probe, 200, false)
		ask(strings.Replace(plainGet, "/read", "/control", 1), 200, false)
		ask(strings.Replace(plainGet, "/read", "/ui", 1), 200, false)
	}
	if n := a.limiter.state().shed; n != 3 {
		t.Errorf("%d refusals are counted, want 3", n)
	}
	a.limiter.mu.Lock()
	a.limiter.queues[Read] = queue{}
	a.limiter.queued, a.limiter.inFlight = 0, 0
	a.limiter.mu.Unlock()
	ask(plainGet, 200, false)
}

// TestRefusalsReadWithoutAllocating: what a connection reads of a request that
// it has seen before is nothing for the garbage collector.
func TestRefusalsReadWithoutAllocating(t *testing.T) {
	a, now := shedding(t), time.Now()
	c, request := &conn{}, []byte(plainGet)
	if n := testing.AllocsPerRun(100, func() {
		if _, refused := c.refuses(a, request, now); !refused {
			t.Fatal("let in")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestRequestsThatComeEarlyAreWhole: what comes while a request is served is
// not begun by the read of one byte that net/http has waiting then, or the
// connection would never again refuse by itself.
func TestRequestsThatComeEarlyAreWhole(t *testing.T) {
	t.Parallel()
	a, probe := shedding(t), strings.Replace(plainGet, "/read", "/probe", 1)
	came := make(chan struct{})
	// A pipe, since whoever reads that is woken behind the waiting read.
	answer, may, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = answer.Close(), may.Close() }()
	dial := serveWith(t, a, time.Minute, func(http.ResponseWriter, *http.Request) {
		came <- struct{}{}
		_, _ = answer.Read(make([]byte, 1))
	})
	conn, in := dial()
	for range 20 {
		_, _ = io.WriteString(conn, probe)
		<-came
		_, _ = io.WriteString(conn, plainGet)
		_, _ = may.Write([]byte{0})
		if status, _, _ := answerOf(t, in); status != 200 {
			t.Fatalf("%d, want 200", status)
		}
		if status, by, _ := answerOf(t, in); status != 503 || !by {
			t.Fatalf("%d (by the connection: %v), want 503 by the connection", status, by)
		}
	}
}

// TestTheWaitingReadTakesNothing reads as net/http does.
func TestTheWaitingReadTakesNothing(t *testing.T) {
	t.Parallel()
	probe := strings.Replace(plainGet, "/read", "/probe", 1)
	pair := func() (client net.Conn, c *conn) {
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = inner.Close() }()
		if client, err = net.Dial("tcp", inner.Addr().String()); err != nil {
			t.Fatal(err)
		}
		accepted, err := NewListener(inner, nil).Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = client.Close(), accepted.Close() })
		return client, accepted.(*conn)
	}
	buffer := make([]byte, 4096)
	read := func(c *conn, size int, limit time.Duration) (string, error) {
		_ = c.SetReadDeadline(time.Now().Add(limit))
		n, err := c.Read(buffer[:size])
		return string(buffer[:n]), err
	}
	const soon, late = 50 * time.Millisecond, 20 * time.Second
	client, c := pair()
	for range 2 {
		_, _ = io.WriteString(client, probe)
		if got, err := read(c, 4096, late); got != probe || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		_, _ = io.WriteString(client, plainGet)
		var timeout net.Error
		if got, err := read(c, 1, soon); got != "" || !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Fatalf("the waiting read has %q, %v", got, err)
		}
		if got, err := read(c, 4096, late); got != plainGet || err != nil || c.other {
			t.Fatalf("%q, %v, given up: %v", got, err, c.other)
		}
	}
	_ = client.Close()
	if got, err := read(c, 1, late); got != "" || err != io.EOF {
		t.Errorf("the client has left: %q, %v", got, err)
	}

	client, c = pair() // whoever takes it over reads as few bytes as they like
	_, _ = io.WriteString(client, probe)
	_, _ = read(c, 4096, late)
	_, _ = read(c, 1, -time.Second) // ended before it began
	_, _ = io.WriteString(client, "GET")
	for _, want := range []string{"G", "E", "T"} {
		if got, err := read(c, 1, late); got != want || err != nil {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	if !c.other {
		t.Error("single bytes are taken for a request")
	}

	client, c = pair() // the control: no request is served
	_, _ = io.WriteString(client, plainGet)
	if got, err := read(c, 1, late); got != "G" || err != nil || !c.other {
		t.Errorf("before any request: %q, %v, given up: %v", got, err, c.other)
	}
}

// TestClientsThatLeaveEndTheirRequest: the waiting read still hears of them.
func TestClientsThatLeaveEndTheirRequest(t *testing.T) {
	t.Parallel()
	came, ended := make(chan struct{}), make(chan struct{})
	dial := serveWith(t, shedding(t), time.Minute, func(_ http.ResponseWriter, r *http.Request) {
		came <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
	})
	for _, linger := range []int{-1, 0} { // closed, and reset
		conn, _ := dial()
		_ = conn.(*net.TCPConn).SetLinger(linger)
		_, _ = io.WriteString(conn, strings.Replace(plainGet, "/read", "/probe", 1))
		<-came
		_ = conn.Close()
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Fatalf("linger %d: the request goes on", linger)
		}
	}
}

// TestRefusalsKeepTheirConnection asks for longer than a header may take, which
// net/http would end for: all that it knows is that no header came.
func TestRefusalsKeepTheirConnection(t *testing.T) {
	t.Parallel()
	const header = 300 * time.Millisecond
	conn, in := serveOn(t, shedding(t), header)()
	ask := func(request string, status int) {
		t.Helper()
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		if s, _, body := answerOf(t, in); s != status {
			t.Errorf("%d %s, want %d", s, body, status)
		}
	}
	for began := time.Now(); time.Since(began) < 2*header; {
		ask(plainGet, 503)
	}
	ask(strings.Replace(plainGet, "/read", "/probe", 1), 200)
	ask(plainGet, 503)
}

// TestNoBytesOfOthersAreTakenForARequest reads what looks like a request where
// there is none: in a body, behind a request, after a change of protocol. A
// connection that answered it would give one user's answer to another.
func TestNoBytesOfOthersAreTakenForARequest(t *testing.T) {
	t.Parallel()
	a := shedding(t)
	probe := strings.Replace(plainGet, "/read", "/probe", 1)
	for name, parts := range map[string][]string{
		"in a body":                     {probe, "POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"},
		"in a body of a GET":            {probe, strings.Replace(plainGet, "Host", "Content-Length: 100\r\nHost", 1)},
		"in a chunked body":             {strings.Replace(plainGet, "Host", "Transfer-Encoding: chunked\r\nHost", 1), "1\r\nx\r\n"},
		"in a head that comes in parts": {probe, "GET /read HTTP/1.1\r\nA: "},
		"behind another request":        {probe, probe + probe[:20]},
		"after a change of protocol":    {probe, strings.Replace(plainGet, "Host", "Connection: Upgrade\r\nUpgrade: websocket\r\nHost", 1)},
		"a byte that came too early":    {probe, "G"},
		"in TLS":                        {"\x16\x03\x01\x02\x00\x01"},
	} {
		c := &conn{}
		for _, part := range parts {
			if _, refused := c.refuses(a, []byte(part), time.Now()); refused {
				t.Errorf("%s: %q is refused", name, part)
			}
		}
		for range 2 {
			if _, refused := c.refuses(a, []byte(plainGet), time.Now()); refused {
				t.Errorf("%s: what looks like a request is refused", name)
			}
		}
	}
	c := &conn{} // the control
	c.refuses(a, []byte(probe), time.Now())
	if _, refused := c.refuses(a, []byte(plainGet), time.Now()); !refused {
		t.Error("a request is not refused")
	}
}

// TestWhatIsNoRequest: what net/http itself refuses has our answer, whatever
// words it has for it; those of handlers stay.
func TestWhatIsNoRequest(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := NewListener(inner, func(b []byte, status int, text string) []byte {
		return fmt.Appendf(b, "HTTP/1.1 %d Ours\r\nConnection: close\r\n\r\n%s", status, text)
	})
	closed := make(chan struct{}, 1)
	server := &http.Server{MaxHeaderBytes: 4096, ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- struct{}{}
		}
	}, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "a handler's", http.StatusBadRequest)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	for request, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 16<<10) + "\r\n\r\n": "HTTP/1.1 431 Ours\r\nConnection: close\r\n\r\nRequest Header Fields Too Large",
		"GET / HTTP/1.1\r\n\r\n": "HTTP/1.1 400 Ours\r\nConnection: close\r\n\r\nmissing required Host header",
		"GET\r\n\r\n":            "HTTP/1.1 400 Ours\r\nConnection: close\r\n\r\nBad Request",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: none\r\n\r\n": "HTTP/1.1 501 Ours\r\nConnection: close\r\n\r\nNot Implemented",
		"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":        "a handler's\n",
	} {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(c, request)
		answer, err := io.ReadAll(c)
		_ = c.Close()
		<-closed
		if err != nil || !strings.HasSuffix(string(answer), want) {
			t.Errorf("%.40q: %q, %v; want %q", request, answer, err, want)
		}
	}
}
