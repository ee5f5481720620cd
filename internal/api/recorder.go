package api

import (
	"bufio"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A client that does not read its answer is cut off: each writePiece of it has
// to be taken within writeTimeout.
const (
	writeTimeout = 15 * time.Second
	writePiece   = 64 << 10
)

// recorder counts what is sent, bounds how long a client may take to read it,
// and passes on what connections can do: flush, hijack, deadlines.
type recorder struct {
	http.ResponseWriter
	server   *server
	began    time.Time // when the request arrived
	patient  bool      // the handler sets deadlines itself
	onBegin  func()    // nil, or called once when the answer begins
	status   int
	bytes    int64
	hijacked bool
}

// newRecorder returns a recorder of the answer to r.
func (s *server) newRecorder(w http.ResponseWriter, r *http.Request) *recorder {
	return &recorder{ResponseWriter: w, server: s, began: s.now(), patient: ClassOf(r.Method, r.URL.Path) == ClassStream}
}

// OnBegin has f called once the answer begins.
func (r *recorder) OnBegin(f func()) { r.onBegin = f }

func (r *recorder) begin(status int) {
	r.status = status
	r.hurry()
	if r.onBegin != nil {
		r.onBegin()
	}
}

func (r *recorder) WriteHeader(status int) {
	if status >= 200 && r.status == 0 {
		r.begin(status)
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (n int, err error) {
	if r.status == 0 {
		r.begin(http.StatusOK)
	}
	for first := true; first || len(p) > 0 && err == nil; first = false {
		piece := p[:min(len(p), writePiece)]
		if r.bytes > 0 { // the first one has the deadline of the header
			r.hurry()
		}
		m, fault := r.ResponseWriter.Write(piece)
		n, p, err = n+m, p[len(piece):], fault
		r.bytes += int64(m)
	}
	return n, err
}

// hurry gives the client writeTimeout from now on. The deadline stays with the
// connection, so every answer sets its own.
func (r *recorder) hurry() {
	if r.patient || r.hijacked {
		return
	}
	if c, ok := r.ResponseWriter.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = c.SetWriteDeadline(time.Now().Add(writeTimeout))
	}
}

// Unwrap serves http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// Flush serves handlers that stream.
func (r *recorder) Flush() {
	if r.status == 0 {
		r.begin(http.StatusOK)
	}
	_ = http.NewResponseController(r.ResponseWriter).Flush()
}

// Hijack serves WebSocket upgrades.
func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(r.ResponseWriter).Hijack()
	if err == nil {
		if in, ok := conn.(interface{ Unwrap() net.Conn }); ok { // no TLS: that has no such method
			conn = in.Unwrap()
		}
		r.hijacked = true
		if r.status == 0 {
			r.status = http.StatusSwitchingProtocols
		}
	}
	return conn, rw, err
}

// problemWriter replaces the plain texts with which mounted handlers report
// failures by problem documents, whose detail they become where that tells no
// internals. Other bodies pass unchanged. finish has to be called at the end.
type problemWriter struct {
	http.ResponseWriter
	r        *http.Request
	wrote    bool
	replaced int    // status of what is replaced; 0: nothing is
	text     []byte // what the handler said, up to maxDetail
}

func (p *problemWriter) WriteHeader(status int) {
	if p.wrote {
		return
	}
	if status >= 400 {
		if ct := p.Header().Get("Content-Type"); ct == "" || hasPrefixFold(ct, "text/plain") {
			p.wrote, p.replaced = true, status
			return
		}
	}
	if status >= 200 {
		p.wrote = true
	}
	p.ResponseWriter.WriteHeader(status)
}

func (p *problemWriter) Write(b []byte) (int, error) {
	if !p.wrote {
		p.WriteHeader(http.StatusOK)
	}
	if p.replaced == 0 {
		return p.ResponseWriter.Write(b)
	}
	p.text = append(p.text, b[:min(len(b), maxDetail-len(p.text))]...)
	return len(b), nil
}

// finish writes the problem that replaces what the handler said.
func (p *problemWriter) finish() {
	if p.replaced == 0 {
		return
	}
	detail := ""
	switch codeOfStatus(p.replaced) {
	case CodeInternal, CodeDatabase: // which may be about anything inside
	default:
		detail = strings.TrimSpace(strings.ToValidUTF8(string(p.text), "\uFFFD"))
	}
	if detail == "404 page not found" || detail == http.StatusText(p.replaced) {
		detail = "" // net/http's own texts say less than the table
	}
	pr := newProblem(codeOfStatus(p.replaced), 0, detail)
	pr.Status = p.replaced
	if s, err := strconv.Atoi(p.Header().Get("Retry-After")); err == nil && s > 0 && pr.Retryable {
		pr.RetryAfterMS = int64(s) * 1000
	}
	p.replaced = 0
	pr.stamp(p.r.Context()).write(p.ResponseWriter)
}

// Unwrap serves http.ResponseController.
func (p *problemWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// Flush serves handlers that stream.
func (p *problemWriter) Flush() {
	p.finish()
	_ = http.NewResponseController(p.ResponseWriter).Flush()
}

// Hijack serves WebSocket upgrades.
func (p *problemWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	p.wrote = true
	return http.NewResponseController(p.ResponseWriter).Hijack()
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
