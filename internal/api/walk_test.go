package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"aiops/internal/model"
)

// documentOf reads the document that a server serves.
func documentOf(t *testing.T, f *fixture) map[string]any {
	t.Helper()
	rec := f.do("GET", "/api/openapi.json", "")
	if rec.Code != http.StatusOK {
		t.Fatalf("the document: status %d", rec.Code)
	}
	return decode[map[string]any](t, rec)
}

type described struct {
	method, path string
	op           map[string]any
}

func operationsOf(doc map[string]any) []described {
	var out []described
	paths := doc["paths"].(map[string]any)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		for _, m := range methods {
			if op, ok := paths[path].(map[string]any)[strings.ToLower(m)].(map[string]any); ok {
				out = append(out, described{m, path, op})
			}
		}
	}
	return out
}

// conform says how an answer breaks what the document says of an operation.
func conform(s schemas, d described, rec *httptest.ResponseRecorder) []string {
	responses := d.op["responses"].(map[string]any)
	r, ok := responses[fmt.Sprint(rec.Code)].(map[string]any)
	if !ok {
		return []string{fmt.Sprintf("status %d is not documented", rec.Code)}
	}
	if ref, ok := r["$ref"].(string); ok {
		r = s.resolve(ref)
	}
	if rec.Header().Get("X-Request-Id") == "" || rec.Header().Get("Traceparent") == "" || rec.Header().Get("Content-Security-Policy") == "" {
		return []string{"a header that every answer has is missing"}
	}
	content, _ := r["content"].(map[string]any)
	if content == nil {
		if rec.Body.Len() > 0 {
			return []string{"there is a body where none is documented"}
		}
		return nil
	}
	mediaType, _, _ := strings.Cut(rec.Header().Get("Content-Type"), ";")
	media, ok := content[mediaType].(map[string]any)
	if !ok {
		return []string{fmt.Sprintf("Content-Type %q is not documented for %d", mediaType, rec.Code)}
	}
	if !strings.HasSuffix(mediaType, "json") || mediaType == "application/openapi+json" {
		return nil
	}
	var v any
	if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil {
		return []string{"the body is not JSON: " + err.Error()}
	}
	return s.check(media["schema"].(map[string]any), v, "$")
}

// generator makes requests from a description: right ones, and ones that are
// wrong in one place.
type generator struct {
	rng *rand.Rand
	s   schemas
	d   described
}

// ids that exist, for path parameters by the path they stand in.
func (g *generator) pathValue(name string) string {
	switch {
	case name == "version":
		return "2"
	case name == "code":
		return "NOT_FOUND"
	case name == "component":
		return "database"
	case strings.Contains(g.d.path, "/detectors/"):
		return "det_1"
	case strings.Contains(g.d.path, "/anomalies/"):
		return "an_1"
	case strings.Contains(g.d.path, "/tasks/"):
		return "task_1"
	case g.d.method == "DELETE", g.d.method == "PUT":
		return "src_free" // which no detector uses
	}
	return "src_main"
}

var oddTexts = []string{"", " ", "0", "-1", "null", "true", "NaN", "1e999", "%00", "%ff", "%F0%9F%92%A9", "..%2F..%2Fetc", "'%3B%20DROP%20TABLE", "{}", "[]", "a%20b", "%22", strings.Repeat("x", 600), strings.Repeat("9", 40)}

func (g *generator) odd() string { return oddTexts[g.rng.IntN(len(oddTexts))] }

// target fills in the path and adds query parameters. A broken one has one odd
// value, repeated parameter or unknown parameter.
func (g *generator) target(broken bool) string {
	path := g.d.path
	var inPath, query []map[string]any
	for _, p := range list(g.d.op["parameters"]) {
		switch p["in"] {
		case "path":
			inPath = append(inPath, p)
		case "query":
			query = append(query, p)
		}
	}
	breakAt := -1
	if broken {
		breakAt = g.rng.IntN(len(inPath) + len(query) + 2)
	}
	for i, p := range inPath {
		name := p["name"].(string)
		v := url.PathEscape(g.pathValue(name))
		if i == breakAt {
			if v = g.odd(); v == "" {
				v = "%20"
			}
		}
		path = strings.Replace(path, "{"+name+"}", v, 1)
	}
	var q []string
	for i, p := range query {
		name, at := p["name"].(string), i+len(inPath)
		switch {
		case at == breakAt:
			q = append(q, name+"="+g.odd())
			if g.rng.IntN(3) == 0 {
				q = append(q, name+"="+g.odd())
			}
		case !broken && g.rng.IntN(3) == 0 && name != "cursor" && name != "from" && name != "to" && name != "series" && name != "detector" && name != "matcher":
			q = append(q, name+"="+url.QueryEscape(fmt.Sprint(g.value(p["schema"].(map[string]any)))))
		}
	}
	switch breakAt {
	case len(inPath) + len(query):
		q = append(q, "unknown="+g.odd())
	case len(inPath) + len(query) + 1:
		q = append(q, "%zz;=&&&=")
	}
	if len(q) > 0 {
		path += "?" + strings.Join(q, "&")
	}
	return path
}

// value makes a value that a schema allows.
func (g *generator) value(schema map[string]any) any {
	if ref, ok := schema["$ref"].(string); ok {
		return g.value(g.s.resolve(ref))
	}
	if enum, ok := schema["enum"].([]any); ok {
		return enum[g.rng.IntN(len(enum))]
	}
	if ex, ok := schema["examples"].([]any); ok && len(ex) > 0 {
		return ex[0]
	}
	kind, _ := schema["type"].(string)
	if kinds, ok := schema["type"].([]any); ok {
		if g.rng.IntN(4) == 0 {
			return nil
		}
		kind = kinds[0].(string)
	}
	switch kind {
	case "string":
		if schema["format"] == "date-time" {
			return "2026-11-0" + fmt.Sprint(1+g.rng.IntN(7)) + "T00:00:00Z"
		}
		return "text"
	case "integer":
		return 1 + g.rng.IntN(3)
	case "number":
		return float64(1+g.rng.IntN(100)) / 100
	case "boolean":
		return g.rng.IntN(2) == 0
	case "array":
		return []any{g.value(schema["items"].(map[string]any))}
	case "object":
		out := map[string]any{}
		required := list2(schema["required"])
		properties, _ := schema["properties"].(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(properties)) {
			p := properties[name]
			if slices.Contains(required, name) || g.rng.IntN(2) == 0 {
				out[name] = g.value(p.(map[string]any))
			}
		}
		return out
	}
	return map[string]any{}
}

// body makes a body: the example, one made from the schema, or a broken one.
func (g *generator) body(n int) (text, contentType string) {
	request, ok := g.d.op["requestBody"].(map[string]any)
	if !ok {
		if g.d.method == http.MethodGet || n%4 != 3 {
			return "", ""
		}
		return `{"body": "nobody asked for"}`, "application/json"
	}
	media := request["content"].(map[string]any)["application/json"].(map[string]any)
	right, _ := json.Marshal(media["example"])
	if n%2 == 1 || media["example"] == nil {
		right, _ = json.Marshal(g.value(media["schema"].(map[string]any)))
	}
	if n < 8 {
		return string(right), "application/json"
	}
	var v map[string]any
	_ = json.Unmarshal(right, &v)
	names := slices.Sorted(maps.Keys(v))
	broken := []any{nil, 1, -1, 1e300, "", "x", strings.Repeat("y", 20_000), true, []any{}, []any{nil}, map[string]any{}, map[string]any{"a": map[string]any{"b": nil}}, "2026-13-99", "-5m", "99999999999h"}
	switch n % 12 {
	case 0:
		return "", "application/json"
	case 1:
		return string(right[:len(right)/2]), "application/json"
	case 2:
		return `{"a":1,"a":2}`, "application/json"
	case 3:
		return strings.Repeat("[", 100), "application/json"
	case 4:
		return string(right), []string{"text/plain", "", "application/xml", "multipart/form-data", "application/json; charset=latin1", "application/json; charset=utf-8"}[g.rng.IntN(6)]
	case 5:
		v["surprise"] = 1
	case 6:
		return []string{"null", "[]", "1", `"x"`, "{}", "{} {}", "\xff", `{"name":"\u0000"}`, `{"x":1e999}`, " "}[g.rng.IntN(10)], "application/json"
	case 7:
		if len(names) > 0 {
			delete(v, names[g.rng.IntN(len(names))])
		}
	default:
		if len(names) > 0 {
			v[names[g.rng.IntN(len(names))]] = broken[g.rng.IntN(len(broken))]
		}
	}
	text2, _ := json.Marshal(v)
	return string(text2), "application/json"
}

func list(v any) []map[string]any {
	var out []map[string]any
	items, _ := v.([]any)
	for _, item := range items {
		out = append(out, item.(map[string]any))
	}
	return out
}

func list2(v any) []string {
	var out []string
	items, _ := v.([]any)
	for _, item := range items {
		out = append(out, item.(string))
	}
	return out
}

// TestEveryOperation sends valid and broken input to each operation of the
// document: no answer is 5xx, none has a status that is not documented, and
// all conform to their schema.
func TestEveryOperation(t *testing.T) {
	t.Parallel()
	const cases = 72
	base := setup(t, realDefinitions, func(o *Options) { o.Metrics = http.HandlerFunc(plainMetrics); o.Reload = reloadOK })
	doc := documentOf(t, base)
	for i, d := range operationsOf(doc) {
		id := d.op["operationId"].(string)
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			f := setup(t, realDefinitions, func(o *Options) { o.Metrics = http.HandlerFunc(plainMetrics); o.Reload = reloadOK })
			g := &generator{rng: rand.New(rand.NewPCG(uint64(i), 7)), s: schemas{doc}, d: d}
			seen := map[int]int{}
			for n := range cases {
				f.world.reset()
				target := g.target(n >= 8 && n%2 == 0)
				text, contentType := g.body(n)
				req := httptest.NewRequest(d.method, "/", nil)
				req.Host = "localhost"
				u, err := url.ParseRequestURI(target)
				if err != nil {
					u, err = url.ParseRequestURI("/" + url.PathEscape(target))
					must(t, err)
				}
				req.URL = u
				if text != "" {
					req.Body, req.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
					req.Header.Set("Content-Type", contentType)
				}
				g.headers(req, n)
				rec := httptest.NewRecorder()
				f.h.ServeHTTP(rec, req)
				seen[rec.Code]++
				if rec.Code >= 500 {
					t.Fatalf("%s %s %s\n→ %d %s", d.method, target, clip(text, 500), rec.Code, rec.Body.String())
				}
				if faults := conform(g.s, d, rec); len(faults) > 0 {
					t.Fatalf("%s %s %s\n→ %d %s\n%s", d.method, target, clip(text, 500), rec.Code, clip(rec.Body.String(), 1000), strings.Join(faults, "\n"))
				}
			}
			if seen[200]+seen[201]+seen[202]+seen[204] == 0 && id != "shadow-model" {
				t.Errorf("no request succeeded: %v", seen)
			}
		})
	}
}

// headers adds conditional and idempotency headers to some requests.
func (g *generator) headers(req *http.Request, n int) {
	switch n % 9 {
	case 3:
		req.Header.Set("If-Match", []string{`"999"`, "*", "x", `W/"7.abc"`, `"7"`}[g.rng.IntN(5)])
	case 4:
		req.Header.Set("If-None-Match", []string{"*", `"x"`, "", "W/"}[g.rng.IntN(4)])
	case 5:
		req.Header.Set("Idempotency-Key", []string{"k1", strings.Repeat("k", 300), "\x01", "ü"}[g.rng.IntN(4)])
	case 6:
		req.Header.Set("Content-Encoding", "gzip")
	case 7:
		req.Header.Set("Accept", "text/html")
	case 8:
		req.Header.Set("Sec-Fetch-Site", "cross-site")
	}
}

func plainMetrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	_, _ = io.WriteString(w, "up 1\n")
}

// TestConformFindsFaults is the control of TestEveryOperation.
func TestConformFindsFaults(t *testing.T) {
	t.Parallel()
	f := setup(t)
	doc := documentOf(t, f)
	var d described
	for _, o := range operationsOf(doc) {
		if o.op["operationId"] == "get-detector" {
			d = o
		}
	}
	good := f.do("GET", "/api/v1/detectors/det_1", "")
	if faults := conform(schemas{doc}, d, good); len(faults) > 0 {
		t.Fatalf("a right answer has faults: %v", faults)
	}
	for name, spoil := range map[string]func(*httptest.ResponseRecorder){
		"status":  func(r *httptest.ResponseRecorder) { r.Code = 418 },
		"type":    func(r *httptest.ResponseRecorder) { r.Header().Set("Content-Type", "text/html") },
		"field":   func(r *httptest.ResponseRecorder) { replaceBody(r, `"name":`, `"nom":`) },
		"enum":    func(r *httptest.ResponseRecorder) { replaceBody(r, `"state":"running"`, `"state":"walking"`) },
		"no id":   func(r *httptest.ResponseRecorder) { r.Header().Del("X-Request-Id") },
		"no JSON": func(r *httptest.ResponseRecorder) { replaceBody(r, `{`, ``) },
	} {
		rec := f.do("GET", "/api/v1/detectors/det_1", "")
		spoil(rec)
		if len(conform(schemas{doc}, d, rec)) == 0 {
			t.Errorf("%s: the fault went unnoticed", name)
		}
	}
}

func replaceBody(r *httptest.ResponseRecorder, old, text string) {
	r.Body = bytes.NewBufferString(strings.Replace(r.Body.String(), old, text, 1))
}

// TestExamples sends the example of each operation that has one.
func TestExamples(t *testing.T) {
	t.Parallel()
	f := setup(t, realDefinitions)
	doc := documentOf(t, f)
	count := 0
	for _, d := range operationsOf(doc) {
		request, ok := d.op["requestBody"].(map[string]any)
		if !ok {
			continue
		}
		media := request["content"].(map[string]any)["application/json"].(map[string]any)
		example, ok := media["example"]
		if !ok {
			t.Errorf("%s has a body but no example", d.op["operationId"])
			continue
		}
		count++
		s := schemas{doc}
		if faults := s.check(media["schema"].(map[string]any), example, "$"); len(faults) > 0 {
			t.Errorf("%s: the example breaks its schema: %v", d.op["operationId"], faults)
		}
		f.world.reset()
		g := &generator{rng: rand.New(rand.NewPCG(1, 1)), s: s, d: d}
		text, err := json.Marshal(example)
		must(t, err)
		rec := f.do(d.method, g.target(false), string(text))
		if d.op["operationId"] == "shadow-model" {
			wantProblem(t, rec, http.StatusConflict, CodeConflict) // the fake has no shadow
			continue
		}
		if rec.Code >= 300 {
			t.Errorf("%s: the example is answered with %d %s", d.op["operationId"], rec.Code, rec.Body.String())
		}
	}
	if count < 8 {
		t.Fatalf("only %d examples found", count)
	}
}

// TestNoHiddenRoute compares the router with the document, both ways.
func TestNoHiddenRoute(t *testing.T) {
	t.Parallel()
	s, err := newServer(newWorld().options())
	must(t, err)
	documented := map[string]bool{}
	for path, item := range s.api.OpenAPI().Paths {
		for _, m := range methods {
			if operationOf(item, m) != nil {
				documented[m+" "+path] = true
			}
		}
	}
	pages := map[string]bool{"GET /api/docs": true, "GET /api/docs/page.js": true, "GET /api/docs/page.css": true,
		"GET /api/docs/swagger-ui-bundle.js": true, "GET /api/docs/swagger-ui.css": true}
	served := map[string]bool{}
	must(t, chi.Walk(s.router, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		key := method + " " + route
		served[key] = true
		if !documented[key] && !pages[key] {
			t.Errorf("%s is served and not documented", key)
		}
		return nil
	}))
	for key := range documented {
		if !served[key] {
			t.Errorf("%s is documented and not served", key)
		}
	}
	if len(served) < 50 {
		t.Fatalf("only %d routes found", len(served))
	}
}

// TestDocumentIsComplete checks what people read.
func TestDocumentIsComplete(t *testing.T) {
	t.Parallel()
	doc := documentOf(t, setup(t))
	ids := map[string]bool{}
	for _, d := range operationsOf(doc) {
		id, _ := d.op["operationId"].(string)
		if id == "" || ids[id] || strings.ToLower(id) != id {
			t.Errorf("%s %s: operation id %q", d.method, d.path, id)
		}
		ids[id] = true
		if d.op["summary"] == nil || len(list2(d.op["tags"])) != 1 {
			t.Errorf("%s lacks a summary or an area", id)
		}
		for _, p := range list(d.op["parameters"]) {
			if p["description"] == nil {
				t.Errorf("%s: the parameter %v lacks a description", id, p["name"])
			}
		}
	}
	refs(t, schemas{doc}, doc)
}

// refs checks that every reference leads somewhere.
func refs(t *testing.T, s schemas, v any) {
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			s.resolve(ref)
		}
		for _, item := range v {
			refs(t, s, item)
		}
	case []any:
		for _, item := range v {
			refs(t, s, item)
		}
	}
}

// realDefinitions checks definitions as the pipeline does, in short.
func realDefinitions(o *Options) {
	o.DefaultDetector = func(d *model.Detector) {
		if d.Source == "" {
			d.Source = "main"
		}
		if d.Step == 0 {
			d.Step = 30e9
		}
		if d.Model == "" {
			d.Model = "auto"
		}
		if d.Direction == "" {
			d.Direction = model.DirectionBoth
		}
		if d.MissingData == "" {
			d.MissingData = model.MissingIgnore
		}
	}
	o.ValidateDetector = func(d model.Detector) error {
		var v model.Invalid
		if d.Name == "" {
			v.Add("/name", "required", "name is missing")
		}
		if d.Step < 1e9 || d.Step > 24*3600e9 {
			v.Add("/step", "out_of_range", "step must be from 1s to 24h")
		}
		if d.Model != "auto" {
			v.Add("/model", "unknown_model", "there is no model %q", d.Model)
		}
		return v.Err(model.SubjectDetector)
	}
}
