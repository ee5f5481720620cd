package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

type logAnomaly struct {
	DetectorID string    `json:"detector_id"`
	StartedAt  time.Time `json:"started_at"`
	Reason     string    `json:"reason"`
}

// Lines are sent to the running program as a service writes them: a new error,
// a burst and silence are each found, live, in the step that they are in, and
// nothing is found before.
func TestFaultsInLinesAreFoundLive(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), "serve", "--config", writeConfig(t, "log_counts: {learning: 10s, lateness: 15s}\nbuiltin: {host: {disabled: true}}\n"))
	detectors := map[string]string{}
	for name, extra := range map[string]map[string]any{
		"new":     {"log": map[string]any{"kind": "new_template"}, "false_alarms_per_week": 20},
		"burst":   {"log": map[string]any{"kind": "template"}, "model": "threshold", "parameters": map[string]any{"above": 200}},
		"silence": {"log": map[string]any{"kind": "rate"}, "model": "threshold", "parameters": map[string]any{"below": 1}, "direction": "below"},
	} {
		body := map[string]any{"name": name, "signal": "logs", "query": `{app="shop"}`, "step": "5s", "enabled": true}
		for k, v := range extra {
			body[k] = v
		}
		var made struct {
			ID string `json:"id"`
		}
		s.json(http.MethodPost, "/api/v1/detectors", body, &made)
		detectors[made.ID] = name
	}
	found := func() map[string]logAnomaly {
		var page struct {
			Items []logAnomaly `json:"items"`
		}
		s.json(http.MethodGet, "/api/v1/anomalies?limit=100", nil, &page)
		out := map[string]logAnomaly{}
		for _, a := range page.Items {
			if name := detectors[a.DetectorID]; name != "" {
				out[name] = a
			}
		}
		return out
	}

	// The service writes ten lines a second.
	var mu sync.Mutex
	silent, stop := false, make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			mu.Lock()
			quiet := silent
			mu.Unlock()
			if !quiet {
				lines := make([]string, 5)
				for i := range lines {
					lines[i] = fmt.Sprintf(`{"level":"info","msg":"request served","took_ms":%d,"request":%d}`, 3+n%7, n*5+i)
				}
				s.ship(`{app="shop"}`, lines...)
			}
		}
	})
	defer func() { close(stop); writing.Wait() }()

	began := time.Now()
	s.eventually(90*time.Second, "the program has learnt what is usual", func() error {
		if time.Since(began) < 30*time.Second {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	if early := found(); len(early) != 0 { // a control
		t.Fatalf("found before anything happened: %v", early)
	}
	expect := func(name string, do func()) {
		t.Helper()
		at := time.Now()
		do()
		var a logAnomaly
		s.eventually(90*time.Second, name+" is found", func() error {
			var ok bool
			if a, ok = found()[name]; !ok {
				return fmt.Errorf("only %v", found())
			}
			return nil
		})
		t.Logf("%s: its step ends %s after it happened, told after %s: %s", name, a.StartedAt.Sub(at).Round(time.Millisecond), time.Since(at).Round(time.Millisecond), a.Reason)
		late := 5 * time.Second // the step that holds the first line ends at most a step later
		if name == "silence" {
			late *= 2 // the first step without a line
		}
		if got := a.StartedAt.Sub(at); got > late+time.Second || got < 0 {
			t.Errorf("%s: the step begins %s after it happened", name, got)
		}
	}
	expect("new", func() {
		s.ship(`{app="shop"}`, `{"level":"error","msg":"certificate of the card network is not trusted","bank":7}`)
	})
	if also := found(); len(also) != 1 {
		t.Errorf("found besides: %v", also)
	}
	expect("burst", func() {
		lines := make([]string, 400)
		for i := range lines {
			lines[i] = fmt.Sprintf(`{"level":"info","msg":"request served","took_ms":2,"request":%d}`, i)
		}
		s.ship(`{app="shop"}`, lines...)
	})
	expect("silence", func() { mu.Lock(); silent = true; mu.Unlock() })
}

// writeConfig writes a configuration file and returns its path.
func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "aiops.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
