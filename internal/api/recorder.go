package api

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"time"
)

// recorder counts what is sent and passes on what connections can do: flush,
// hijack, deadlines.
type recorder struct {
	http.ResponseWriter
	server   *server
	began    time.Time // when the request arrived
	status   int
	bytes    int64
	hijacked bool
}

func (r *recorder) WriteHeader(status int) {
	if status >= 200 && r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// Unwrap serves http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// Flush serves handlers that stream.
func (r *recorder) Flush() {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	_ = http.NewResponseController(r.ResponseWriter).Flush()
}

// Hijack serves WebSocket upgrades.
func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(r.ResponseWriter).Hijack()
	if err == nil {
		r.hijacked = true
		if r.status == 0 {
			r.status = http.StatusSwitchingProtocols
		}
	}
	return conn, rw, err
}

// problemWriter replaces the plain texts with which mounted handlers report
// failures by problem documents. Other bodies pass unchanged.
type problemWriter struct {
	http.ResponseWriter
	r        *http.Request
	wrote    bool
	replaced bool
}

func (p *problemWriter) WriteHeader(status int) {
	if p.wrote {
		return
	}
	if status >= 400 {
		switch ct := p.Header().Get("Content-Type"); {
		case ct == "", hasPrefixFold(ct, "text/plain"):
			p.wrote, p.replaced = true, true
			pr := newProblem(codeOfStatus(status), 0, "")
			pr.Status = status
			pr.stamp(p.r.Context()).write(p.ResponseWriter)
			return
		}
	}
	if status >= 200 {
		p.wrote = true
	}
	p.ResponseWriter.WriteHeader(status)
}

func (p *problemWriter) Write(b []byte) (int, error) {
	if p.replaced {
		return len(b), nil
	}
	if !p.wrote {
		p.WriteHeader(http.StatusOK)
	}
	return p.ResponseWriter.Write(b)
}

// Unwrap serves http.ResponseController.
func (p *problemWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// Flush serves handlers that stream.
func (p *problemWriter) Flush() { _ = http.NewResponseController(p.ResponseWriter).Flush() }

// Hijack serves WebSocket upgrades.
func (p *problemWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	p.wrote = true
	return http.NewResponseController(p.ResponseWriter).Hijack()
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
