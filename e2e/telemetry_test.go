package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// withConfig writes a configuration file and returns its path.
func withConfig(t *testing.T, dir, text string) string {
	t.Helper()
	file := filepath.Join(dir, "aiops.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A source that is down, so that the metrics of sources exist.
const downSource = "sources: [{name: away, type: prometheus, url: \"http://127.0.0.1:1\"}]\n"

// R27: whatever methods and paths are sent, /metrics stays below 2,000 series.
func TestOwnMetricsAreBounded(t *testing.T) {
	t.Parallel()
	const bar = 2000
	dir := t.TempDir()
	s := start(t, dir, "serve", "--config", withConfig(t, dir, downSource))
	random := rand.New(rand.NewPCG(27, 1))
	methods := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "X"}
	paths := s.paths()
	if len(paths) < 30 {
		t.Fatalf("only %d paths are known", len(paths))
	}
	sent := map[string]bool{}
	for range 3000 {
		method, path := methods[random.IntN(len(methods))], paths[random.IntN(len(paths))]
		path = placeholder.ReplaceAllStringFunc(path, func(string) string { return fmt.Sprintf("id%x", random.Uint64()) })
		switch random.IntN(4) {
		case 0:
			path += fmt.Sprintf("/%x", random.Uint64())
		case 1:
			path = fmt.Sprintf("/%x?a=%x", random.Uint64(), random.Uint64())
		}
		if random.IntN(8) == 0 {
			method += fmt.Sprintf("X%x", random.Uint64())
		}
		if method == "POST" && strings.HasPrefix(path, "/-/") || strings.Contains(path, "/ws") || strings.Contains(path, "/events") {
			continue
		}
		sent[method+path] = true
		if status, text := s.send(method, path, nil); status == 0 || status == http.StatusInternalServerError {
			t.Errorf("%s %s: %d %s", method, path, status, text)
		}
	}
	_, text := s.get("/metrics")
	if n := len(samples(text)); n > bar {
		t.Errorf("%d series after %d different requests, want at most %d", n, len(sent), bar)
	} else {
		t.Logf("%d series after %d different requests", n, len(sent))
	}
	// Control: a label of the method and path as they came would exceed the bar.
	if len(sent) <= bar {
		t.Errorf("control: only %d different requests were sent", len(sent))
	}
}

var placeholder = regexp.MustCompile(`\{[^}]*\}`)

// paths lists what the API's document knows.
func (s *server) paths() []string {
	s.t.Helper()
	var document struct {
		Paths map[string]any `json:"paths"`
	}
	s.json(http.MethodGet, "/api/openapi.json", nil, &document)
	var out []string
	for p := range document.Paths {
		out = append(out, p)
	}
	return out
}

// samples are the lines of an exposition that hold a value.
func samples(exposition []byte) []string {
	var out []string
	for line := range strings.Lines(string(exposition)) {
		if line != "\n" && !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return out
}

var (
	metricName = regexp.MustCompile(`\b(?:aiops|go|process)_[a-z0-9_]+\b`)
	withinText = regexp.MustCompile(`"[^"]*"`)
)

// The rules and the dashboard for the program itself are well formed, and every
// metric they name is one that it has.
func TestRulesAndDashboardFitTheMetrics(t *testing.T) {
	t.Parallel()
	promtool := require(t, "promtool")
	dir := t.TempDir()
	s := start(t, dir, "serve", "--config", withConfig(t, dir, downSource))
	_, exposition := s.get("/metrics")
	known := map[string]bool{}
	for _, line := range samples(exposition) {
		name, _, _ := strings.Cut(strings.Replace(line, "{", " ", 1), " ")
		known[name] = true
	}
	// What has no sample before something happened is still declared.
	for line := range strings.Lines(string(exposition)) {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(strings.TrimSpace(name), " ")
			known[name] = true
			if kind == "histogram" {
				known[name+"_bucket"], known[name+"_sum"], known[name+"_count"] = true, true, true
			}
		}
	}
	for _, name := range append([]string{relayMetric}, nodeMetrics...) { // TestFailover sees that they are there
		known[name] = true
	}
	check := func(where, expression string) (unknown []string) {
		for _, name := range metricName.FindAllString(withinText.ReplaceAllString(expression, ""), -1) {
			if !known[name] {
				unknown = append(unknown, where+": "+name)
			}
		}
		return unknown
	}
	var all []string
	out, err := exec.Command(promtool, "check", "rules", "../deploy/prometheus/alerts.yml").CombinedOutput()
	if err != nil {
		t.Fatalf("promtool: %v\n%s", err, out)
	}
	rules, err := os.ReadFile("../deploy/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, rule := range strings.Split(string(rules), "- alert: ")[1:] {
		name, rest, _ := strings.Cut(rule, "\n")
		_, expr, ok := strings.Cut(rest, "expr:")
		expr, _, more := strings.Cut(expr, "labels:")
		if !ok || !more {
			t.Fatalf("rule %s has another form", name)
		}
		n++
		all = append(all, check(name, expr)...)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	text, err := os.ReadFile("../deploy/grafana/aiops.json")
	if err != nil || json.Unmarshal(text, &dashboard) != nil {
		t.Fatalf("the dashboard cannot be read: %v", err)
	}
	var queries []string
	for _, p := range dashboard.Panels {
		for _, q := range p.Targets {
			all = append(all, check(p.Title, q.Expr)...)
			queries = append(queries, strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*").Replace(q.Expr))
		}
	}
	if len(all) > 0 {
		t.Errorf("unknown metrics:\n%s", strings.Join(all, "\n"))
	}
	if n < 10 || len(queries) < 30 {
		t.Errorf("%d rules and %d queries were looked at", n, len(queries))
	}
	// The queries parse: promtool reads them as recording rules.
	var file bytes.Buffer
	file.WriteString("groups: [{name: x, rules: [")
	for i, q := range queries {
		quoted, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&file, "{record: \"r:%d\", expr: %s},", i, quoted)
	}
	file.WriteString("]}]")
	path := filepath.Join(dir, "dashboard.yml")
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(promtool, "check", "rules", path).CombinedOutput(); err != nil {
		t.Errorf("the dashboard's queries: %v\n%s", err, out)
	}
	if got := check("control", `rate(aiops_no_such_metric_total{a="aiops_not_a_metric"}[5m])`); len(got) != 1 {
		t.Errorf("control: %q, want the one unknown metric", got)
	}
}

// TestTraceFromRequestToScore follows one request into a source, and one
// evaluation from the detector to its score, at a collector.
func TestTraceFromRequestToScore(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	spans := map[string]map[string]string{} // by span id: name, parent, trace
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var req collector.ExportTraceServiceRequest
		if err != nil || proto.Unmarshal(body, &req) != nil || r.Header.Get("Authorization") != "Bearer canary-71" {
			t.Errorf("%d bytes, %v, authorization %q", len(body), err, r.Header.Get("Authorization"))
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range req.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, span := range ss.Spans {
					spans[string(span.SpanId)] = map[string]string{"name": span.Name, "parent": string(span.ParentSpanId), "trace": fmt.Sprintf("%x", span.TraceId)}
				}
			}
		}
	}))
	t.Cleanup(server.Close)
	asked := make(chan http.Header, 64)
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Request-Id") != "" {
			select {
			case asked <- r.Header:
			default:
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"vector","result":[]}}`)
	}))
	t.Cleanup(source.Close)
	dir := t.TempDir()
	s := start(t, dir, "serve", "--config", withConfig(t, dir, fmt.Sprintf("sources: [{name: main, type: prometheus, url: %q}]\ntelemetry: {otlp: {endpoint: %q, headers: {Authorization: Bearer canary-71}}}\n", source.URL, server.URL)))
	var sources list[struct{ ID, Name string }]
	s.json(http.MethodGet, "/api/v1/sources", nil, &sources)
	id := ""
	for _, src := range sources.Items {
		if src.Name == "main" {
			id = src.ID
		}
	}
	const trace = "0af7651916cd43dd8448eb211c80319c"
	r, err := http.NewRequest(http.MethodPost, s.url+"/api/v1/sources/"+id+"/query", strings.NewReader(`{"query":"up"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Traceparent", "00-"+trace+"-b7ad6b7169203331-01")
	r.Header.Set("X-Request-Id", "req_followed")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("X-Request-Id") != "req_followed" || !strings.Contains(resp.Header.Get("Traceparent"), trace) {
		t.Errorf("%d, %v", resp.StatusCode, resp.Header)
	}
	select {
	case h := <-asked:
		if h.Get("X-Request-Id") != "req_followed" || !strings.Contains(h.Get("Traceparent"), trace) {
			t.Errorf("the source was asked with %v", h)
		}
	case <-time.After(10 * time.Second):
		t.Error("the source was not asked with the request's id")
	}
	child := func(name, of string) bool {
		for _, span := range spans {
			if parent := spans[span["parent"]]; span["name"] == name && parent != nil && parent["name"] == of {
				return true
			}
		}
		return false
	}
	s.eventually(40*time.Second, "the spans have arrived", func() error {
		mu.Lock()
		defer mu.Unlock()
		for _, want := range [][2]string{{"ask Prometheus", "POST /api/v1/sources/{id}/query"}, {"query builtin", "evaluate detector"}, {"score", "evaluate detector"}} {
			if !child(want[0], want[1]) {
				return fmt.Errorf("no span %q within %q among %d", want[0], want[1], len(spans))
			}
		}
		return nil
	})
	if !strings.Contains(s.out.String(), `"request_id":"req_followed"`) || strings.Contains(s.out.String(), "canary-71") {
		t.Error("the log does not name the request, or tells a secret")
	}
}
