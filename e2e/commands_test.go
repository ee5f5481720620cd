package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestCommandsReachTheOwner runs two programs on one PostgreSQL and gives every
// command about a detector and its anomalies to each of them, of which one does not
// evaluate it: a command works, or says that it can be repeated and then does, and
// what it did is seen on the other one.
func TestCommandsReachTheOwner(t *testing.T) {
	t.Parallel()
	m := newTeam(t, "commands", 1, "4s")
	a, b := m.start("a"), m.start("b")
	w := &walk{t: t}
	var d detector
	a.json(http.MethodPost, "/api/v1/detectors", map[string]any{"name": "walked", "source": "shared", "query": "walked", "step": "1s", "model": "ewma"}, &d)
	eventually(t, 60*time.Second, "each node owns one detector", func() error {
		if x, y := a.metric("aiops_pipeline_owned_detectors"), b.metric("aiops_pipeline_owned_detectors"); x != 1 || y != 1 {
			return fmt.Errorf("%v and %v", x, y)
		}
		return nil
	})
	w.path = "/api/v1/detectors/" + d.ID
	for i, to := range []*server{a, b} {
		other := []*server{b, a}[i]
		w.seen(other, "", `"state":"running"`)
		w.detector(i, to, other)
		w.anomaly(i, to, other)
	}
	w.do(b, http.MethodDelete, w.path, nil)
	eventually(t, 10*time.Second, "the detector is gone on the other node", func() error {
		if status, body := a.get(w.path); status != http.StatusNotFound {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	t.Logf("%d commands, %d of them had to be repeated", w.commands, w.repeated)
}

// walk gives commands.
type walk struct {
	t                  *testing.T
	path               string // of the detector
	commands, repeated int
}

// do gives a command until it works. Whatever refuses it says that it can be repeated.
func (w *walk) do(s *server, method, path string, body any) []byte {
	w.t.Helper()
	w.commands++
	var answer []byte
	eventually(w.t, 20*time.Second, method+" "+path, func() error {
		status, data := s.send(method, path, body)
		if answer = data; status/100 == 2 {
			return nil
		}
		w.repeated++
		var p problem
		if json.Unmarshal(data, &p) != nil || p.Retryable == nil || !*p.Retryable {
			w.t.Fatalf("%s %s: %d %s", method, path, status, data)
		}
		return fmt.Errorf("%d %s", status, data)
	})
	return answer
}

// seen waits until a node shows something at a path below the detector's, or anywhere.
func (w *walk) seen(s *server, path string, want string) {
	w.t.Helper()
	if !strings.HasPrefix(path, "/") || strings.Count(path, "/") < 3 {
		path = w.path + path
	}
	s.eventually(20*time.Second, path+" shows "+want, func() error {
		if status, body := s.get(path); status != http.StatusOK || !strings.Contains(string(body), want) {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
}

// task begins a task and waits on the other node until it has succeeded.
func (w *walk) task(s, other *server, path string, body any) (id string) {
	w.t.Helper()
	var task struct {
		ID string `json:"id"`
	}
	answer := w.do(s, http.MethodPost, path, body)
	if err := json.Unmarshal(answer, &task); err != nil || task.ID == "" {
		w.t.Fatalf("%s: %s", path, answer)
	}
	w.seen(other, "/api/v1/tasks/"+task.ID, `"state":"succeeded"`)
	return task.ID
}

// detector gives the commands about a detector.
func (w *walk) detector(round int, s, other *server) {
	w.t.Helper()
	from := time.Now().Add(-90 * time.Second).UTC()
	w.do(s, http.MethodPatch, w.path, map[string]any{"for": fmt.Sprint(3+round, "s")})
	w.seen(other, "", fmt.Sprintf(`"for":"%ds"`, 3+round))
	w.do(s, http.MethodPut, w.path, map[string]any{"name": "walked", "source": "shared", "query": "walked", "step": "1s", "model": "ewma", "for": fmt.Sprint(6+round, "s")})
	w.seen(other, "", fmt.Sprintf(`"for":"%ds"`, 6+round))
	w.do(s, http.MethodPost, w.path+"/revert", nil)
	w.seen(other, "", fmt.Sprintf(`"for":"%ds"`, 3+round))
	w.do(s, http.MethodPost, "/api/v1/detectors/validate", map[string]any{"name": "another", "source": "shared", "query": "walked", "step": "1s"})
	w.do(s, http.MethodPost, w.path+"/stop", nil)
	w.seen(other, "", `"state":"stopped"`)
	w.do(s, http.MethodPost, w.path+"/start", nil)
	w.seen(other, "", `"state":"running"`)
	w.do(s, http.MethodPost, w.path+"/detect", map[string]any{"series": map[string]string{"__name__": "load"}, "samples": []any{
		map[string]any{"t": time.Now().UTC(), "value": 10}}})
	w.task(s, other, w.path+"/backtest", map[string]any{"from": from})
	w.task(s, other, w.path+"/train", map[string]any{"from": from})
	w.do(s, http.MethodPost, w.path+"/models/rollback", nil)
	w.do(s, http.MethodPost, w.path+"/models/1/promote", nil)
	w.seen(other, "", `"state":"running"`)
	w.do(s, http.MethodPost, w.path+"/shadow", map[string]any{"definition": map[string]any{"for": "9s"}})
	w.seen(other, "/shadow", `"for":"9s"`)
	w.do(s, http.MethodDelete, w.path+"/shadow", nil)
	w.do(s, http.MethodPost, w.path+"/shadow", map[string]any{"definition": map[string]any{"for": "10s"}})
	w.seen(s, "/shadow", `"state":"running"`)
	w.seen(other, "/shadow", `"state":"running"`)
	w.do(s, http.MethodPost, w.path+"/shadow/promote", nil)
	w.seen(other, "", `"for":"10s"`)
	event := map[string]any{"name": "sale", "from": from, "to": from.Add(time.Hour), "detector_id": w.path[strings.LastIndex(w.path, "/")+1:]}
	var made struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(w.do(s, http.MethodPost, "/api/v1/known-events", event), &made); err != nil {
		w.t.Fatal(err)
	}
	w.seen(other, "/api/v1/known-events/"+made.ID, `"sale"`)
	event["name"] = "a longer sale"
	w.do(s, http.MethodPut, "/api/v1/known-events/"+made.ID, event)
	w.seen(other, "/api/v1/known-events/"+made.ID, `"a longer sale"`)
	w.do(s, http.MethodDelete, "/api/v1/known-events/"+made.ID, nil)
}

// anomaly gives the commands about an anomaly, which is ended in the last round.
func (w *walk) anomaly(round int, s, other *server) {
	w.t.Helper()
	var open list[anomaly]
	s.eventually(30*time.Second, "the anomaly fires", func() error {
		s.json(http.MethodGet, "/api/v1/anomalies?state=firing", nil, &open)
		if len(open.Items) == 0 {
			return fmt.Errorf("none does")
		}
		return nil
	})
	path := "/api/v1/anomalies/" + open.Items[0].ID
	w.do(s, http.MethodPost, path+"/acknowledge", nil)
	w.seen(other, path, `"acknowledged_at":"`)
	w.do(s, http.MethodPost, path+"/label", map[string]any{"label": round == 0})
	w.seen(other, path, fmt.Sprintf(`"label":%v`, round == 0))
	if round == 1 {
		w.do(s, http.MethodPost, path+"/resolve", nil)
		w.seen(other, path, `"state":"resolved"`)
		w.seen(s, path, `"state":"resolved"`)
	}
}
