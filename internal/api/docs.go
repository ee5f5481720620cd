package api

import (
	"embed"
	"net/http"
	"strconv"
)

// docsFiles are the page around Swagger UI: ours, with its script and styles
// in files of their own, as the content policy asks.
//
//go:embed docs
var docsFiles embed.FS

func (s *server) registerDocs() {
	s.raw(operation{id: "get-openapi-json", method: http.MethodGet, path: "/api/openapi.json", tag: tagSystem, summary: "Get this document as JSON"}, "application/openapi+json", true,
		func(w http.ResponseWriter, r *http.Request) {
			s.static(w, r, "application/openapi+json", s.documents.json())
		})
	s.raw(operation{id: "get-openapi-yaml", method: http.MethodGet, path: "/api/openapi.yaml", tag: tagSystem, summary: "Get this document as YAML"}, "application/openapi+yaml", true,
		func(w http.ResponseWriter, r *http.Request) {
			s.static(w, r, "application/openapi+yaml", s.documents.yaml())
		})
	page := func(name, contentType string) http.HandlerFunc {
		text, err := docsFiles.ReadFile("docs/" + name)
		if err != nil {
			panic("BUG: docs/" + name + " is not embedded")
		}
		return func(w http.ResponseWriter, r *http.Request) { s.static(w, r, contentType, text) }
	}
	s.router.Get("/api/docs", page("index.html", "text/html; charset=utf-8"))
	s.router.Get("/api/docs/page.js", page("page.js", "text/javascript; charset=utf-8"))
	s.router.Get("/api/docs/page.css", page("page.css", "text/css; charset=utf-8"))
	swagger := readPages(s.opts.SwaggerUI)
	for _, name := range []string{"swagger-ui-bundle.js", "swagger-ui.css"} {
		s.router.Get("/api/docs/"+name, func(w http.ResponseWriter, r *http.Request) {
			f, ok := swagger.files[name]
			if !ok {
				WriteProblem(w, r, CodeNotFound, "Swagger UI is not built into this program. The document itself is at /api/openapi.json.", 0)
				return
			}
			swagger.send(w, r, f)
		})
	}
}

// static answers with bytes that change only with the program.
func (s *server) static(w http.ResponseWriter, r *http.Request, contentType string, text []byte) {
	h := w.Header()
	tag := contentTag(text)
	h.Set("ETag", tag)
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Security-Policy", pagePolicy)
	if noneMatch(r.Header.Get("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(text)))
	_, _ = w.Write(text)
}
