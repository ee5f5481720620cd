package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// post sends a body with headers and returns the answer.
func (s *server) post(path, contentType, body string) (int, string) {
	s.t.Helper()
	resp, err := http.Post(s.url+path, contentType, strings.NewReader(body)) //nolint:gosec // our own child
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

type shownLine struct {
	Time   time.Time         `json:"t"`
	Stream map[string]string `json:"stream"`
	Text   string            `json:"text"`
	Level  string            `json:"level"`
}

// lines lists the kept lines that a selector selects, oldest first.
func (s *server) lines(query url.Values) []shownLine {
	s.t.Helper()
	var all []shownLine
	query.Set("order", "oldest")
	query.Set("limit", "1000")
	for {
		var page struct {
			Items      []shownLine `json:"items"`
			NextCursor string      `json:"next_cursor"`
		}
		s.json(http.MethodGet, "/api/v1/logs/lines?"+query.Encode(), nil, &page)
		all = append(all, page.Items...)
		if page.NextCursor == "" {
			return all
		}
		query.Set("cursor", page.NextCursor)
	}
}

func selecting(selector string) url.Values { return url.Values{"selector": {selector}} }

// Lines come by Loki's push API, by OTLP and from a file, are found again, and
// survive a kill; those of the file neither lost nor repeated.
func TestLinesComeInAndStay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "app.log")
	config := filepath.Join(dir, "aiops.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "builtin:\n  host: {disabled: true}\n  files: [{path: %q, labels: {app: tailed}}]\n", file), 0o600); err != nil {
		t.Fatal(err)
	}
	follow := func(text string) {
		f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(f, text)
		f.Close()
	}
	follow("2026-01-01 10:00:00 ERROR first of the file\nsecond of the file\n")
	data := filepath.Join(dir, "data")
	s := start(t, data, "serve", "--config", config)
	now := time.Now()
	hostile := "\u202e<script>alert(1)</script> \x1b[31m \x00"
	push, _ := json.Marshal(map[string]any{"streams": []any{map[string]any{"stream": map[string]string{"app": "pushed"}, "values": [][]string{
		{fmt.Sprint(now.UnixNano()), `{"level":"warn","msg":"low stock"}`}, {fmt.Sprint(now.UnixNano() + 1), hostile},
	}}}})
	if status, body := s.post("/loki/api/v1/push", "application/json", string(push)); status != http.StatusNoContent {
		t.Fatalf("push: %d %s", status, body)
	}
	otlp := fmt.Sprintf(`{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"sent"}}]},"scopeLogs":[{"logRecords":[{"timeUnixNano":"%d","severityNumber":17,"body":{"stringValue":"card refused"}}]}]}]}`, now.UnixNano())
	if status, body := s.post("/v1/logs", "application/json", otlp); status != http.StatusOK {
		t.Fatalf("OTLP: %d %s", status, body)
	}
	for path, wrong := range map[string]int{"/loki/api/v1/push": 400, "/v1/logs": 400} {
		if status, body := s.post(path, "application/json", "<html>"); status != wrong || !strings.Contains(body, "VALIDATION_ERROR") {
			t.Errorf("%s takes HTML: %d %s", path, status, body)
		}
	}
	check := func(when string) {
		t.Helper()
		if got := s.lines(selecting(`{app="pushed"}`)); len(got) != 2 || got[0].Level != "warn" || !got[0].Time.Equal(now) {
			t.Errorf("%s, pushed lines: %+v", when, got)
		}
		if got := s.lines(selecting(`{service_name="sent"}`)); len(got) != 1 || got[0].Text != "card refused" || got[0].Level != "error" {
			t.Errorf("%s, OTLP lines: %+v", when, got)
		}
	}
	check("at once")
	tailed := func(n int) func() error {
		return func() error {
			got := s.lines(selecting(`{app="tailed"}`))
			if len(got) != n {
				return fmt.Errorf("%d lines of the file, want %d", len(got), n)
			}
			return nil
		}
	}
	s.eventually(20*time.Second, "the file is read", tailed(2))
	s.kill()
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	follow("first of the next file\n")
	s = start(t, data, "serve", "--config", config)
	check("after a kill")
	s.eventually(20*time.Second, "both files are read, nothing twice", tailed(3))
	if got := s.lines(selecting(`{app="tailed"}`)); got[0].Level+got[1].Level != "error" {
		t.Errorf("lines of the file: %+v", got)
	}
	if code := s.terminate(30 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A source of type loki works end to end: test, query, health, wrong queries,
// lines, and what is said when it does not answer.
func TestLokiSource(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	loki := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.FormValue("query")
		switch {
		case broken.Load():
			http.Error(w, "empty ring", 500)
		case r.Header.Get("X-Scope-OrgID") != "shop":
			http.Error(w, "no org id", 401)
		case strings.Contains(query, "oops"):
			http.Error(w, "parse error at line 1, col 5: syntax error: unexpected IDENTIFIER", 400)
		case strings.HasSuffix(r.URL.Path, "/labels"), strings.HasSuffix(r.URL.Path, "/format_query"):
			answerJSON(w, `{"status":"success","data":["app"]}`)
		case strings.HasPrefix(query, "sum("):
			at := r.FormValue("time")
			if at == "" {
				at = r.FormValue("start")
			}
			answerJSON(w, fmt.Sprintf(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"app":"a"},"value":[%s,"7"]}]}}`, at[:10]))
		default:
			answerJSON(w, fmt.Sprintf(`{"status":"success","data":{"resultType":"streams","result":[{"stream":{"app":"a"},"values":[["%d","ERROR from Loki"]]}]}}`, time.Now().UnixNano()))
		}
	}))
	defer loki.Close()
	s := start(t, t.TempDir(), "serve")
	var made struct {
		ID string `json:"id"`
	}
	s.json(http.MethodPost, "/api/v1/sources", map[string]any{"name": "logs", "type": "loki", "url": loki.URL, "headers": map[string]string{"X-Scope-OrgID": "shop"}}, &made)
	at := "/api/v1/sources/" + made.ID
	var health struct {
		State     string `json:"state"`
		LastError string `json:"last_error"`
	}
	s.json(http.MethodPost, at+"/test", map[string]any{}, &health)
	if health.State != "up" {
		t.Errorf("the test says %+v", health)
	}
	if status, body := s.send(http.MethodPost, at+"/query", map[string]any{"query": `sum(rate({app="a"}[1m]))`, "time": time.Now().Truncate(time.Second)}); status != 200 || !bytes.Contains(body, []byte(`7`)) {
		t.Errorf("a query: %d %s", status, body)
	}
	if status, body := s.send(http.MethodPost, at+"/query", map[string]any{"query": `sum(oops`}); status != 400 || !bytes.Contains(body, []byte("line 1, column 5")) || !bytes.Contains(body, []byte(`"/query"`)) {
		t.Errorf("a wrong query: %d %s", status, body)
	}
	if got := s.lines(url.Values{"source": {"logs"}, "selector": {`{app="a"}`}}); len(got) != 1 || got[0].Text != "ERROR from Loki" || got[0].Level != "error" {
		t.Errorf("lines: %+v", got)
	}
	broken.Store(true)
	if status, body := s.send(http.MethodPost, at+"/query", map[string]any{"query": `sum(rate({app="b"}[1m]))`}); status != 503 || !bytes.Contains(body, []byte("LOKI_UNAVAILABLE")) {
		t.Errorf("a query to a broken source: %d %s", status, body)
	}
	s.eventually(20*time.Second, "the source is down", func() error {
		s.json(http.MethodGet, at+"/health", nil, &health)
		if health.State != "down" || !strings.Contains(health.LastError, "HTTP 500") {
			return fmt.Errorf("health is %+v", health)
		}
		return nil
	})
	broken.Store(false)
	s.eventually(20*time.Second, "the source is up again", func() error {
		s.json(http.MethodGet, at+"/health", nil, &health)
		if health.State != "up" && health.State != "degraded" {
			return fmt.Errorf("health is %+v", health)
		}
		return nil
	})
}

func answerJSON(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, body)
}

// The demo's shop pushes its lines with a key where keys are asked for; without
// one they are refused.
func TestTheDemoPushesWithAKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := filepath.Join(dir, "aiops.yaml")
	if err := os.WriteFile(config, []byte("auth: {enabled: true}\nbuiltin: {host: {disabled: true}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	s := start(t, data, "demo", "--config", config)
	key, err := os.ReadFile(filepath.Join(data, "local.key"))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(key string) (status int, body string) {
		r, err := http.NewRequest(http.MethodGet, s.url+"/api/v1/logs/lines?"+selecting(`{job="shop"}`).Encode(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if key != "" {
			r.Header.Set("Authorization", "Bearer "+key)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			return 0, err.Error()
		}
		return resp.StatusCode, string(data)
	}
	s.eventually(60*time.Second, "the shop's lines are kept", func() error {
		if status, body := ask(strings.TrimSpace(string(key))); status != http.StatusOK || !strings.Contains(body, "request served") {
			return fmt.Errorf("%d %.200s", status, body)
		}
		return nil
	})
	if status, _ := ask(""); status != http.StatusUnauthorized { // a control
		t.Errorf("without a key, lines are answered with %d", status)
	}
	if status, body := s.post("/loki/api/v1/push", "application/json", `{"streams":[]}`); status != http.StatusUnauthorized {
		t.Errorf("a push without a key: %d %s", status, body)
	}
}
