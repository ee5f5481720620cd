package admission

import (
	"bytes"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Head is what is known of a request from its bytes alone. Its slices are only
// valid until the function that gets it returns.
type Head struct {
	Class       Class  // by its path; only in what Options.Answer returned
	Path        []byte // without the query
	RequestID   []byte // X-Request-Id, empty: none
	Traceparent []byte
}

// Listener hands out connections that refuse requests themselves while there
// is no room for their class: to be read and answered by net/http costs as much
// as many a cheap request, and at ten times the load that can be served would
// take half of the CPU.
//
// Only what is certain is refused so: a GET that needs no percent-decoding,
// has no body, and came whole and alone, on a connection on which nothing else
// has ever come. So no bytes are taken for a request that belong to another one's
// body, to a WebSocket or to TLS. Everything else is passed on as it is.
type Listener struct {
	net.Listener
	admission atomic.Pointer[Admission]
	fault     func(b []byte, status int, text string) []byte
}

// NewListener returns a Listener that passes everything on until Use is called.
// fault appends to b the whole answer to what net/http cannot read as a request,
// in place of the plain text that it sends; nil: that is sent.
func NewListener(l net.Listener, fault func(b []byte, status int, text string) []byte) *Listener {
	return &Listener{Listener: l, fault: fault}
}

// Use lets a decide from now on, unless it is disabled.
func (l *Listener) Use(a *Admission) {
	if !a.config.Disabled && len(a.answers) > 0 {
		l.admission.Store(a)
	}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	tcp, ok := c.(*net.TCPConn)
	if err != nil || !ok {
		return c, err
	}
	return &conn{TCPConn: tcp, listener: l}, nil
}

// The deadlines that a connection moves on by itself when it refuses, since
// net/http, which sees nothing of that, sets none: how long it may be idle, how
// long a header may take that is passed on after a refusal, and how long an
// answer may take to be sent. They are net/http's own ones, or shorter.
const (
	idleTime   = 2 * time.Minute
	headTime   = 10 * time.Second
	answerTime = 15 * time.Second
	moveEvery  = time.Second // they are that much too short at most
)

// conn is one connection. net/http reads from it in one goroutine at a time,
// and writes nothing while it waits for a request.
type conn struct {
	*net.TCPConn
	listener *Listener
	other    bool // something else has come than whole GETs, one by one
	passed   bool // a whole GET was passed on, nothing was read since
	raw      syscall.RawConn
	moved    time.Time // when the deadlines were last moved on; zero: they are net/http's
	answer   []byte
	path     string // of the last request
	class    Class  // of that path
}

// Unwrap returns the connection beneath, for whoever takes it over.
func (c *conn) Unwrap() net.Conn { return c.TCPConn }

// Read implements net.Conn.
//
// While a request is served, net/http has a read of one byte waiting, to hear
// of a client that leaves, and ends it when the answer is sent. The first byte of
// a next request that came before that would be in net/http, and the request no
// longer whole for the connection. So that read takes none: it ends when
// the client is gone or when its time is over. net/http begins it before the
// handler runs, so it is the first read after a GET that was passed on, and
// no other read of one byte is, not even of a handler that takes the connection over.
func (c *conn) Read(p []byte) (int, error) {
	watch := c.passed && len(p) == 1
	c.passed = false
	if watch {
		if err := c.untilGone(); err != nil {
			return 0, err
		}
	}
	for {
		n, err := c.TCPConn.Read(p)
		if c.other || n == 0 || err != nil {
			return n, err
		}
		a, now := c.listener.admission.Load(), time.Now()
		h, refused := c.refuses(a, p[:n], now)
		if !refused {
			c.handBack(now)
			c.passed = !c.other
			return n, nil
		}
		if now.Sub(c.moved) > moveEvery {
			c.moved = now
			_ = c.SetReadDeadline(now.Add(idleTime))
			_ = c.SetWriteDeadline(now.Add(answerTime))
		}
		c.answer = a.answers[rand.IntN(len(a.answers))](c.answer[:0], h)
		if _, err := c.TCPConn.Write(c.answer); err != nil {
			return 0, err
		}
	}
}

// untilGone waits until there is nothing left to read and never will be, nil
// then, or until the deadline for reading.
func (c *conn) untilGone() (err error) {
	if c.raw == nil {
		if c.raw, err = c.SyscallConn(); err != nil {
			return err
		}
	}
	return c.raw.Read(gone)
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	if c.listener.fault == nil {
		return c.TCPConn.Write(p)
	}
	status, text, ok := readFault(p)
	if !ok {
		return c.TCPConn.Write(p)
	}
	if _, err := c.TCPConn.Write(c.listener.fault(nil, status, text)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// faultFields are those of the answers, in plain text and each in one write,
// with which net/http refuses what it cannot read. Answers of handlers have
// others, a Date for one.
const faultFields = "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"

// readFault reads such an answer. text is what it says beside the status.
func readFault(p []byte) (status int, text string, ok bool) {
	const start, most = len("HTTP/1.1 400 "), 512
	if len(p) > most || len(p) < start || !bytes.HasPrefix(p, []byte("HTTP/1.1 ")) {
		return 0, "", false
	}
	line, body, ok := bytes.Cut(p, []byte(faultFields))
	if !ok || bytes.ContainsAny(line, "\r\n") || bytes.ContainsAny(body, "\r\n") {
		return 0, "", false
	}
	status, err := strconv.Atoi(string(line[start-4 : start-1]))
	if err != nil || status < 400 {
		return 0, "", false
	}
	_, text, found := strings.Cut(string(line[start:]), ": ")
	if !found {
		text = http.StatusText(status)
	}
	return status, text, true
}

// handBack gives net/http, which gets what has just come, the deadlines that
// it would have set itself.
func (c *conn) handBack(now time.Time) {
	if !c.moved.IsZero() {
		c.moved = time.Time{}
		_ = c.SetReadDeadline(now.Add(headTime))
		_ = c.SetWriteDeadline(time.Time{})
	}
}

// refuses reports whether what has just come is refused here. a may be nil.
func (c *conn) refuses(a *Admission, p []byte, now time.Time) (Head, bool) {
	h, ok := readHead(p)
	if c.other = c.other || !ok; c.other || a == nil {
		return h, false
	}
	if string(h.Path) != c.path { // most ask for the same again
		c.path = string(h.Path)
		c.class = a.opts.Class("GET", c.path)
	}
	h.Class = c.class
	return h, a.sheds(c.class, now)
}

// sheds reports whether there is no room for a GET of a class, and counts it then.
func (a *Admission) sheds(class Class, now time.Time) bool {
	if class < Ingest || !a.limiter.turnAway(class, now) {
		return false
	}
	a.metrics.overloaded[class].Inc()
	return true
}

// readHead reads a GET without a body that is all of p. It is stricter than
// net/http: ok is false for whatever net/http might read in another way.
func readHead(p []byte) (h Head, ok bool) {
	line, rest, ok := cutLine(p)
	target, ok2 := bytes.CutPrefix(line, []byte("GET /"))
	target, ok3 := bytes.CutSuffix(target, []byte(" HTTP/1.1"))
	if !ok || !ok2 || !ok3 {
		return h, false
	}
	target = line[len("GET ") : len("GET ")+1+len(target)]
	for _, c := range target {
		if c <= ' ' || c >= 0x7f {
			return h, false
		}
	}
	h.Path, _, _ = bytes.Cut(target, []byte("?"))
	if bytes.IndexByte(h.Path, '%') >= 0 {
		return h, false
	}
	hosts := 0
	for {
		if line, rest, ok = cutLine(rest); !ok {
			return h, false
		}
		if len(line) == 0 {
			return h, len(rest) == 0 && hosts == 1
		}
		name, value, found := bytes.Cut(line, []byte(":"))
		if !found || !token(name) {
			return h, false
		}
		value = bytes.Trim(value, " \t")
		switch {
		case is(name, "host"):
			hosts++
		case is(name, "x-request-id"):
			h.RequestID = value
		case is(name, "traceparent"):
			h.Traceparent = value
		case is(name, "connection"):
			if !is(value, "keep-alive") {
				return h, false
			}
		case is(name, "content-length"), is(name, "transfer-encoding"), is(name, "expect"), is(name, "upgrade"), is(name, "trailer"):
			return h, false
		}
	}
}

// cutLine cuts p at its first end of a line, which must be CR LF.
func cutLine(p []byte) (line, rest []byte, ok bool) {
	i := bytes.IndexByte(p, '\n')
	if i < 1 || bytes.IndexByte(p[:i], '\r') != i-1 {
		return nil, nil, false
	}
	return p[:i-1], p[i+1:], true
}

// token reports whether a header's name is made of letters, digits and dashes.
func token(name []byte) bool {
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return len(name) > 0
}

// is compares without regard to case; want is lower.
func is(name []byte, want string) bool {
	return len(name) == len(want) && bytes.EqualFold(name, []byte(want))
}
