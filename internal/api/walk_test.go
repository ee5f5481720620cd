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
			if seen[200]+seen[201]+seen[202]+seen[204] == 0 {
				t.Errorf("no request succeeded: %v", seen)
			}
		})
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
