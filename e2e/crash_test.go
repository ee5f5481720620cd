package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"
)

// TestKillsLoseNothing kills the program at random moments under write load,
// twenty times on one data directory, and looks for everything that was
// acknowledged. The kill is SIGKILL; what is not on disk is gone.
func TestKillsLoseNothing(t *testing.T) {
	t.Parallel()
	const rounds, writers = 20, 4
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(1, 2))
	acknowledged := map[string]string{} // name to id
	for round := range rounds {
		s := start(t, dir, "serve")
		if s.ready > 5*time.Second && !raced {
			t.Errorf("round %d: ready after %s", round, s.ready)
		}
		verify(t, s, acknowledged)
		var mu sync.Mutex
		var load sync.WaitGroup
		stopped := make(chan struct{})
		loaded := make(chan struct{}) // closed at the first acknowledgement
		var once sync.Once
		for w := range writers {
			load.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stopped:
						return
					default:
					}
					name := fmt.Sprintf("crash %d-%d-%d", round, w, n)
					if id := create(s.url, name); id != "" {
						mu.Lock()
						acknowledged[name] = id
						mu.Unlock()
						once.Do(func() { close(loaded) })
					}
				}
			})
		}
		select {
		case <-loaded:
		case <-time.After(20 * time.Second):
			t.Fatal("no write was acknowledged within 20 s")
		}
		timer := time.NewTimer(50*time.Millisecond + time.Duration(random.IntN(350))*time.Millisecond)
		<-timer.C
		s.kill()
		close(stopped)
		load.Wait()
	}
	s := start(t, dir, "serve")
	verify(t, s, acknowledged)
	if len(acknowledged) < rounds {
		t.Fatalf("only %d writes were acknowledged: there was no load", len(acknowledged))
	}
	t.Logf("%d acknowledged writes survived %d kills", len(acknowledged), rounds)
	delete(acknowledged, "crash 0-0-0")
	acknowledged["never written"] = "det_0"
	if missing(s, acknowledged) == 0 {
		t.Error("control: a write that never happened was found")
	}
}

// create makes a stopped detector and returns its id, or "" when it was not
// acknowledged.
func create(url, name string) string {
	body, _ := json.Marshal(map[string]any{"name": name, "query": "up", "enabled": false})
	response, err := http.Post(url+"/api/v1/detectors", "application/json", bytes.NewReader(body))
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	var created detector
	if response.StatusCode != http.StatusCreated || json.NewDecoder(response.Body).Decode(&created) != nil {
		return ""
	}
	return created.ID
}

func verify(t *testing.T, s *server, acknowledged map[string]string) {
	t.Helper()
	if n := missing(s, acknowledged); n > 0 {
		t.Fatalf("%d of %d acknowledged writes are gone", n, len(acknowledged))
	}
}

// missing counts the acknowledged writes that the program does not know under
// the same id.
func missing(s *server, acknowledged map[string]string) int {
	s.t.Helper()
	found, ids := map[string]string{}, map[string]bool{}
	for cursor := ""; ; {
		var page list[detector]
		s.json(http.MethodGet, "/api/v1/detectors?limit=500&cursor="+cursor, nil, &page)
		for _, d := range page.Items {
			if ids[d.ID] {
				s.t.Fatalf("id %s is listed twice", d.ID)
			}
			ids[d.ID], found[d.Name] = true, d.ID
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	n := 0
	for name, id := range acknowledged {
		if found[name] != id {
			n++
		}
	}
	return n
}
