package realtime

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// socket is a connection whose Write never waits: what the kernel does not
// take at once stays here until flush, so that a few goroutines can write to
// everybody and only a client that is behind costs one of its own. Where the
// connection offers no such write (TLS), Write waits and direct is false.
type socket struct {
	net.Conn
	direct bool
	raw    syscall.RawConn
	try    func(fd uintptr) bool // s.tryWrite, bound once

	mu       sync.Mutex
	rest     []byte // not yet taken by the kernel
	flushing bool   // a flush has taken rest and is writing it
	p        []byte // argument and results of tryWrite
	n        int
	err      error
}

func newSocket(conn net.Conn) *socket {
	s := &socket{Conn: conn}
	tcp, ok := conn.(*net.TCPConn)
	if !ok || !canTry {
		return s
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return s
	}
	s.raw, s.direct, s.try = raw, true, s.tryWrite
	return s
}

// Write implements net.Conn. With direct it takes all of p.
func (s *socket) Write(p []byte) (int, error) {
	if !s.direct {
		return s.Conn.Write(p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flushing || len(s.rest) > 0 {
		s.rest = append(s.rest, p...)
		return len(p), nil
	}
	s.p = p
	err := s.raw.Write(s.try)
	n := s.n
	if err == nil {
		err = s.err
	}
	s.p, s.n, s.err = nil, 0, nil
	if err != nil {
		return n, err
	}
	if n < len(p) {
		s.rest = bytes.Clone(p[n:]) // p may belong to a pool
	}
	return len(p), nil
}

// SetWriteDeadline implements net.Conn. A write that never waits needs none.
func (s *socket) SetWriteDeadline(t time.Time) error {
	if s.direct {
		return nil
	}
	return s.Conn.SetWriteDeadline(t)
}

// behind reports whether the kernel has not taken everything.
func (s *socket) behind() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.rest) > 0
}

// flush writes what is left, waiting for the client for at most timeout. Only
// one goroutine may flush at a time.
func (s *socket) flush(timeout time.Duration) error {
	for {
		s.mu.Lock()
		rest := s.rest
		s.rest, s.flushing = nil, len(rest) > 0
		s.mu.Unlock()
		if len(rest) == 0 {
			return nil
		}
		if err := s.Conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			return err
		}
		_, err := s.Conn.Write(rest)
		if err == nil {
			err = s.Conn.SetWriteDeadline(time.Time{})
		}
		if err != nil {
			return err // flushing stays set: the stream is broken in the middle of a frame
		}
	}
}

// takeover lets the upgrade write through a socket.
type takeover struct {
	http.ResponseWriter
	socket *socket
}

// Hijack implements http.Hijacker.
func (t *takeover) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	t.socket = newSocket(conn)
	return t.socket, rw, nil
}
