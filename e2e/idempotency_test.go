package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestKeysRunOnce sends each keyed request twenty times at once, kills the
// program in the middle, starts it again and goes on until every key has its
// final answer. Each request raises the version of a detector of its own by
// one, so a version says how often its request was carried out. The full form
// has 1,000 keys: AIOPS_KEYS=1000.
func TestKeysRunOnce(t *testing.T) {
	t.Parallel()
	keys, sends := 40, 20
	if os.Getenv("AIOPS_KEYS") != "" {
		if _, err := fmt.Sscan(os.Getenv("AIOPS_KEYS"), &keys); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	s := start(t, dir, "serve")
	ids := make([]string, keys)
	for i := range ids {
		if ids[i] = create(s.url, fmt.Sprint("keyed ", i)); ids[i] == "" {
			t.Fatal("a detector was not created")
		}
	}
	final := make([]bool, keys) // the key has an answer that stands
	round := func(killAfter int) {
		var mu sync.Mutex
		var all sync.WaitGroup
		places := make(chan struct{}, 40)
		answered := 0
		for i, id := range ids {
			if final[i] {
				continue
			}
			for range sends {
				all.Go(func() {
					places <- struct{}{}
					defer func() { <-places }()
					status, code, detail := patchKeyed(s.url, id, fmt.Sprint("key-", i))
					mu.Lock()
					defer mu.Unlock()
					switch {
					case status == http.StatusOK, status == http.StatusConflict && strings.Contains(detail, "was carried out"):
						final[i] = true
						if answered++; answered == killAfter {
							_ = s.cmd.Process.Kill()
						}
					case status == 0, status == http.StatusConflict && strings.Contains(detail, "is being served"), status == http.StatusServiceUnavailable, status == http.StatusTooManyRequests:
					default:
						t.Errorf("key %d: %d %s: %s", i, status, code, detail)
					}
				})
			}
		}
		all.Wait()
	}
	round(keys * sends / 4)
	s.kill()
	known := 0
	for _, done := range final {
		if done {
			known++
		}
	}
	if known == 0 || known == keys {
		t.Logf("the kill came when %d of %d keys had an answer: it was not in the middle", known, keys)
	}
	clear(final) // the answers from before the kill are asked for again
	s = start(t, dir, "serve")
	eventually(t, 60*time.Second, "every key has its answer", func() error {
		round(-1)
		for i, done := range final {
			if !done {
				return fmt.Errorf("key %d has none", i)
			}
		}
		return nil
	})
	effects := func() error {
		for i, id := range ids {
			var d detector
			s.json(http.MethodGet, "/api/v1/detectors/"+id, nil, &d)
			if d.Version != 2 {
				return fmt.Errorf("request %d was carried out %d times", i, d.Version-1)
			}
		}
		return nil
	}
	if err := effects(); err != nil {
		t.Error(err)
	}
	if status, _, _ := patchKeyed(s.url, ids[0], "another key"); status != http.StatusOK {
		t.Fatalf("control: %d", status)
	}
	if err := effects(); err == nil {
		t.Error("control: a request that was carried out twice was not noticed")
	}
}

// patchKeyed changes a detector under a key. Status 0 is no answer at all.
func patchKeyed(url, id, key string) (status int, code, detail string) {
	body, err := json.Marshal(map[string]any{"labels": map[string]string{"changed_by": key}})
	if err != nil {
		return 0, "", err.Error()
	}
	r, err := http.NewRequest(http.MethodPatch, url+"/api/v1/detectors/"+id, bytes.NewReader(body))
	if err != nil {
		return 0, "", err.Error()
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", key)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", err.Error()
	}
	var p problem
	if resp.StatusCode != http.StatusOK && json.Unmarshal(text, &p) != nil {
		return resp.StatusCode, "", string(text)
	}
	return resp.StatusCode, p.Code, p.Detail
}
