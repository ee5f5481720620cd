package e2e

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// TestStopUnderLoad ends the program while it serves: every request that it
// took is answered, sockets are told why they end, the exit code is 0.
func TestStopUnderLoad(t *testing.T) {
	t.Parallel()
	const sockets, rate = 20, 200 // as many sockets as one address may hold
	s := start(t, t.TempDir(), "serve")

	var told, cut atomic.Int64
	var followers sync.WaitGroup
	for range sockets {
		conn, _, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(s.url, "http")+"/api/v1/ws", nil)
		if err != nil {
			t.Fatal(err)
		}
		followers.Go(func() {
			defer conn.Close()
			for {
				if _, _, err := conn.ReadMessage(); err != nil {
					var end *websocket.CloseError
					if errors.As(err, &end) && (end.Code == websocket.CloseServiceRestart || end.Code == websocket.CloseGoingAway) {
						told.Add(1)
					} else {
						cut.Add(1)
					}
					return
				}
			}
		})
	}

	ctx, stopAsking := context.WithCancel(t.Context())
	defer stopAsking()
	var served, lost atomic.Int64
	var asking sync.WaitGroup
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 50}, Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	paths := []string{"/api/v1/detectors", "/api/v1/anomalies", "/api/v1/sources", "/api/v1/tasks", "/prometheus/api/v1/query?query=up"}
	ask := func(n int) {
		r, err := client.Get(s.url + paths[n%len(paths)])
		if errors.Is(err, syscall.ECONNREFUSED) {
			return // it was not taken
		}
		if err == nil {
			_, err = io.Copy(io.Discard, r.Body)
			_ = r.Body.Close()
		}
		if err != nil || r.StatusCode >= 500 && r.Header.Get("Retry-After") == "" {
			lost.Add(1)
			t.Logf("lost: %v", err)
			return
		}
		served.Add(1)
	}
	asking.Go(func() {
		tick := time.NewTicker(time.Second / rate)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				asking.Go(func() { ask(n) })
			}
		}
	})
	eventually(t, 30*time.Second, "requests are served", func() error {
		if served.Load() < rate {
			return errors.New("not yet")
		}
		return nil
	})
	began := time.Now()
	if code := s.terminate(30 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	took := time.Since(began)
	stopAsking()
	asking.Wait()
	followers.Wait()
	t.Logf("stopped after %s; %d requests served, %d lost; %d of %d sockets were told", took, served.Load(), lost.Load(), told.Load(), sockets)
	if lost.Load() != 0 {
		t.Errorf("%d requests that were taken were not answered", lost.Load())
	}
	if told.Load() != sockets || cut.Load() != 0 {
		t.Errorf("%d of %d sockets were told why they end, %d were cut off", told.Load(), sockets, cut.Load())
	}
}
