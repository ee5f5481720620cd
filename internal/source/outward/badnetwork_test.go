package outward

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aiops/internal/model"
)

// badNetwork is a TCP proxy in front of a source that does to each connection
// what its mode says.
type badNetwork struct {
	net.Listener
	target string
	mode   atomic.Value // string
	conns  sync.WaitGroup
	over   chan struct{}
}

func startBadNetwork(t *testing.T, target string) *badNetwork {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &badNetwork{Listener: l, target: strings.TrimPrefix(target, "http://"), over: make(chan struct{})}
	b.mode.Store("good")
	b.conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.conns.Go(func() { b.serve(c) })
		}
	})
	t.Cleanup(func() {
		close(b.over)
		_ = l.Close()
		b.conns.Wait()
	})
	return b
}

func (b *badNetwork) serve(c net.Conn) {
	defer c.Close()
	mode, _ := b.mode.Load().(string)
	gone := make(chan struct{})
	switch mode {
	case "reset":
		_ = c.(*net.TCPConn).SetLinger(0)
		return
	case "half-open": // takes everything and never answers
		go func() { defer close(gone); _, _ = io.Copy(io.Discard, c) }()
		b.until(gone)
		_ = c.Close()
		<-gone
		return
	}
	up, err := net.Dial("tcp", b.target)
	if err != nil {
		return
	}
	defer up.Close()
	go func() {
		defer close(gone)
		_, _ = io.Copy(up, c)
		_ = up.Close() // the client has left: reading from the source ends too
	}()
	defer func() { _ = c.Close(); _ = up.Close(); <-gone }()
	buf := make([]byte, 4096)
	switch mode {
	case "one byte a second":
		buf = buf[:1]
	case "delayed":
		b.wait(300 * time.Millisecond)
	}
	for sent := 0; ; {
		n, err := up.Read(buf)
		if err != nil {
			return
		}
		if mode == "cut off" && sent+n > 20 {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
		if sent += n; mode == "one byte a second" && !b.wait(time.Second) {
			return
		}
	}
}

func (b *badNetwork) until(gone <-chan struct{}) {
	select {
	case <-gone:
	case <-b.over:
	}
}

// wait returns false when the test is over.
func (b *badNetwork) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-b.over:
		return false
	}
}

// R21: on a bad network every call ends within its own time, says what is wrong,
// and leaves nothing behind: goroutines and connections are back at the baseline.
func TestBadNetwork(t *testing.T) {
	// Not parallel: it counts goroutines.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"vector","result":[]}}`)
	}))
	t.Cleanup(server.Close)
	network := startBadNetwork(t, server.URL)
	const timeout, callers = 700 * time.Millisecond, 12
	for _, tc := range []struct {
		mode  string
		wants string // one of these, parted by "|"; "" is success
	}{
		{"good", ""},
		{"delayed", ""},
		{"reset", "the connection to the source broke|refuses the connection"}, // by how early it comes
		{"cut off", "broke"},
		{"half-open", "did not answer within"},
		{"one byte a second", "did not answer within"},
		{"good", ""},
	} {
		t.Run(tc.mode, func(t *testing.T) {
			before := runtime.NumGoroutine()
			network.mode.Store(tc.mode)
			p := reach(t, "http://"+network.Addr().String(), func(c *Config) { c.Source.Timeout = timeout })
			var calls sync.WaitGroup
			for i := range callers {
				calls.Go(func() {
					begin := time.Now()
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					if i == 0 { // one caller leaves early
						time.AfterFunc(50*time.Millisecond, cancel)
					}
					err := p.Do(ctx, Request{Safe: true}, plain(p))
					if took := time.Since(begin); took > timeout+5*time.Second {
						t.Errorf("a call of %s took %s", timeout, took)
					}
					var e *model.Error
					switch {
					case errors.Is(err, context.Canceled):
					case tc.wants == "":
						if err != nil {
							t.Errorf("call %d: %v", i, err)
						}
					case !errors.As(err, &e) || e.Kind != model.KindSourceUnavailable && e.Kind != model.KindOverloaded:
						t.Errorf("call %d: %v", i, err)
					case !slices.ContainsFunc(strings.Split(tc.wants, "|"), func(w string) bool { return strings.Contains(e.Message, w) }) && e.Kind != model.KindOverloaded:
						t.Errorf("call %d: %s, want %q", i, e.Message, tc.wants)
					}
				})
			}
			calls.Wait()
			if got := p.pool.inUse.Load(); got != 0 {
				t.Errorf("%d connections in use when all calls have ended", got)
			}
			p.http.CloseIdleConnections()
			waitFor(t, "no connection is open", func() bool { return p.pool.open.Load() == 0 })
			waitFor(t, "the goroutines are back at the baseline", func() bool { return runtime.NumGoroutine() <= before+10 })
		})
	}
}
