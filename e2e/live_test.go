package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

type liveEvent struct {
	ID    int64
	Type  string
	Topic string
}

// liveStream reads server-sent events until ctx ends, and hands them on.
func liveStream(ctx context.Context, t *testing.T, url, lastID string) <-chan liveEvent {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/v1/events?topics=detectors", nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastID != "" {
		request.Header.Set("Last-Event-ID", lastID)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if ct := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || !strings.HasPrefix(ct, "text/event-stream") {
		t.Fatalf("events: %d %s", response.StatusCode, ct)
	}
	events := make(chan liveEvent, 1000)
	go func() {
		defer close(events)
		defer response.Body.Close()
		named := false
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			line := lines.Text()
			switch {
			case line == "":
				named = false
			case strings.HasPrefix(line, "event:"):
				named = true
			case strings.HasPrefix(line, "data: ") && !named:
				var e liveEvent
				if json.Unmarshal([]byte(line[6:]), &e) == nil {
					events <- e
				}
			}
		}
	}()
	return events
}

// TestLiveEvents follows the program's events through a kill -9: the making of
// every detector is told once and in order, whenever it happened.
func TestLiveEvents(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var got []liveEvent
	created := func() int {
		n := 0
		for _, e := range got {
			if e.Type == "detector.created" {
				n++
			}
		}
		return n
	}
	var s *server
	// follow makes a detector and reads on until all that exist were told of.
	follow := func(name, lastID string) <-chan liveEvent {
		events := liveStream(t.Context(), t, s.url, lastID)
		s.json(http.MethodPost, "/api/v1/detectors", map[string]any{"name": name, "query": "up", "step": "30s"}, nil)
		var list struct{ Items []struct{ Name string } }
		s.json(http.MethodGet, "/api/v1/detectors?limit=200", nil, &list)
		for created() < len(list.Items) {
			select {
			case e, ok := <-events:
				if !ok {
					t.Fatalf("the stream ended after %+v", got)
				}
				got = append(got, e)
			case <-time.After(15 * time.Second):
				t.Fatalf("%d of %d detectors told of: %+v", created(), len(list.Items), got)
			}
		}
		return events
	}
	s = start(t, dir, "serve")
	follow("live one", "0")
	s.eventually(10*time.Second, "the stream is healthy", func() error {
		if status, body := s.get("/health/websocket"); status != http.StatusOK || !bytes.Contains(body, []byte(`"status":"healthy"`)) {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	if status, body := s.get("/api/v1/ws"); status != http.StatusBadRequest || !bytes.Contains(body, []byte(`"code"`)) {
		t.Errorf("a plain request to the WebSocket: %d %s", status, body)
	}
	var clients struct{ Total int }
	if s.json(http.MethodGet, "/api/v1/ws/clients", nil, &clients); clients.Total != 1 {
		t.Errorf("%d clients are listed", clients.Total)
	}
	s.kill()

	s = start(t, dir, "serve")
	events := follow("live two", fmt.Sprint(got[len(got)-1].ID))
	for i := 1; i < len(got); i++ {
		if got[i].ID <= got[i-1].ID {
			t.Errorf("event %d follows %d", got[i].ID, got[i-1].ID)
		}
	}
	if code := s.terminate(20 * time.Second); code != 0 { // it does not wait for readers
		t.Errorf("exit code %d", code)
	}
	for range events { // and ends their streams
		continue
	}
}
