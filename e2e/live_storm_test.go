package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"aiops/client"
)

// followers is how many clients the quick form has; aiops bench live --crash is the
// full one.
const followers = 60

// TestReconnectStorm kills the program with everybody connected while things
// happen, and starts it again: all come back by themselves, and each has every
// event once and in order.
func TestReconnectStorm(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	args := append(configured(t, "live: {max_clients_per_address: 500}\nbuiltin: {host: {disabled: true}}\n"), "--listen", freeAddress(t))
	s := start(t, dir, "serve", args...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	got := make([][]int64, followers)
	connections := make([]int, followers)
	for i := range followers {
		go func() {
			_ = client.Follow(ctx, client.LiveOptions{URL: s.url, Topics: []string{"detectors"}, Since: new(int64), BackoffMax: 2 * time.Second,
				OnState: func(st client.LiveState) {
					mu.Lock()
					defer mu.Unlock()
					if st.Connected {
						connections[i]++
					}
				}}, func(m client.LiveMessage) error {
				mu.Lock()
				defer mu.Unlock()
				if m.Event != nil && m.Event.Type == "detector.created" {
					got[i] = append(got[i], m.Event.ID)
				}
				return nil
			})
		}()
	}
	made := 0
	more := func(s *server, n int) {
		for range n {
			made++
			s.json(http.MethodPost, "/api/v1/detectors", map[string]any{"name": fmt.Sprintf("storm %d", made), "query": "up", "step": "30s"}, nil)
		}
	}
	all := func(connected int) func() error {
		return func() error {
			mu.Lock()
			defer mu.Unlock()
			for i := range followers {
				if len(got[i]) < made || connections[i] < connected {
					return fmt.Errorf("client %d has %d of %d events after %d connections", i, len(got[i]), made, connections[i])
				}
			}
			return nil
		}
	}
	more(s, 5)
	s.eventually(30*time.Second, "everybody follows", all(1))
	more(s, 5) // they may be on their way when it is killed
	s.kill()
	s = start(t, dir, "serve", args...)
	more(s, 5)
	s.eventually(60*time.Second, "everybody is back", all(2))
	mu.Lock()
	defer mu.Unlock()
	for i := range followers {
		if len(got[i]) != made || fmt.Sprint(got[i]) != fmt.Sprint(got[0]) {
			t.Errorf("client %d got %v, the first one %v", i, got[i], got[0])
		}
	}
}

// TestGracefulStopSendsEverybodyAway stops the program under requests and with
// streams: each stream is told when to come back, at different times, no request
// fails, and the exit code is 0.
func TestGracefulStopSendsEverybodyAway(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), "serve", configured(t, "live: {max_clients_per_address: 500}\nbuiltin: {host: {disabled: true}}\n")...)
	var conns []*websocket.Conn
	for range followers {
		conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.url, "http")+"/api/v1/ws", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	stop := make(chan struct{})
	var requests sync.WaitGroup
	var mu sync.Mutex
	failed := map[string]int{}
	for range 4 {
		requests.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				// Once nobody listens any more a connection is refused, which loses
				// nothing; a request that was taken must be answered.
				if status, body := s.get("/api/v1/detectors"); status != http.StatusOK && !strings.Contains(string(body), "connection refused") {
					mu.Lock()
					failed[fmt.Sprintf("%d %.80s", status, body)]++
					mu.Unlock()
				}
			}
		})
	}
	delays := map[string]bool{}
	closed := make(chan *websocket.CloseError, followers)
	for _, conn := range conns {
		go func() {
			for {
				if _, _, err := conn.ReadMessage(); err != nil {
					e, _ := err.(*websocket.CloseError) //nolint:errorlint // as it comes
					closed <- e
					return
				}
			}
		}()
	}
	code := s.terminate(30 * time.Second)
	close(stop)
	requests.Wait()
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	for range followers {
		e := <-closed
		if e == nil || e.Code != websocket.CloseServiceRestart || !strings.Contains(e.Text, "reconnect_after_ms") {
			t.Errorf("closed with %v", e)
			continue
		}
		delays[e.Text] = true
	}
	if len(delays) < followers/2 {
		t.Errorf("%d clients were told %d delays", followers, len(delays))
	}
	for what, n := range failed {
		if !strings.Contains(what, "EOF") && !strings.Contains(what, "reset by peer") { // an idle connection that was closed meanwhile; a client sends again
			t.Errorf("%d requests failed: %s", n, what)
		}
	}
}
