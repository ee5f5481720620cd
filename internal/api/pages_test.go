package api

import (
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"
)

func builtPages() fs.FS {
	return fstest.MapFS{
		"index.html":                      {Data: []byte("<!doctype html><title>pages</title>")},
		"assets/app-1a2b.js":              {Data: []byte("console.log(1)")},
		"assets/app-1a2b.js.br":           {Data: []byte("brotli")},
		"assets/app-1a2b.js.gz":           {Data: []byte("gzip")},
		".keep":                           {Data: nil},
		"swagger-ui/swagger-ui-bundle.js": {Data: []byte("window.SwaggerUIBundle = function () {}")},
		"swagger-ui/swagger-ui.css":       {Data: []byte("body {}")},
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	f := setup(t, func(o *Options) { o.UI = builtPages() })
	for _, target := range []string{"/", "/detectors/det_1", "/index.html", "/anomalies"} {
		rec := f.do("GET", target, "")
		if rec.Code != 200 || !strings.Contains(rec.Body.String(), "<title>pages") || rec.Header().Get("Cache-Control") != "no-cache" || !strings.HasPrefix(rec.Header().Get("Content-Type"), "text/html") {
			t.Errorf("%s: %d %v %s", target, rec.Code, rec.Header(), rec.Body.String())
		}
	}
	for _, c := range []struct{ accept, encoding, body string }{
		{"", "", "console.log(1)"}, {"gzip, br", "br", "brotli"}, {"gzip", "gzip", "gzip"}, {"br;q=0, gzip;q=0.5", "gzip", "gzip"}, {"deflate", "", "console.log(1)"},
	} {
		rec := f.do("GET", "/assets/app-1a2b.js", "", "Accept-Encoding", c.accept)
		if rec.Code != 200 || rec.Header().Get("Content-Encoding") != c.encoding || rec.Body.String() != c.body || rec.Header().Get("Vary") != "Accept-Encoding" ||
			!strings.Contains(rec.Header().Get("Cache-Control"), "immutable") || !strings.HasPrefix(rec.Header().Get("Content-Type"), "text/javascript") {
			t.Errorf("%q: %d %v %q", c.accept, rec.Code, rec.Header(), rec.Body.String())
		}
	}
	tag := f.do("GET", "/", "").Header().Get("ETag")
	if rec := f.do("GET", "/", "", "If-None-Match", tag); tag == "" || rec.Code != http.StatusNotModified || rec.Body.Len() != 0 {
		t.Errorf("the tag %q is answered with %d", tag, rec.Code)
	}
	for _, target := range []string{"/missing.js", "/.keep", "/api/nothing", "/prometheus/x", "/v1/nothing", "/../../etc/passwd.txt", "/api"} {
		wantProblem(t, f.do("GET", target, ""), 404, CodeNotFound)
	}
}

func TestPagesNotBuiltIn(t *testing.T) {
	t.Parallel()
	f := setup(t)
	rec := f.do("GET", "/", "")
	if rec.Code != 200 || !strings.Contains(rec.Body.String(), "/api/docs") {
		t.Errorf("%d %s", rec.Code, rec.Body.String())
	}
	wantProblem(t, f.do("GET", "/api/docs/swagger-ui.css", ""), 404, CodeNotFound)
}

func TestDocs(t *testing.T) {
	t.Parallel()
	f := setup(t, func(o *Options) { o.UI = builtPages() })
	page := f.do("GET", "/api/docs", "").Body.String()
	for _, bad := range []string{"<style", " style=", "onload", "onclick", "http://", "https://", "<script>"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page holds %q, which the policy or an offline machine refuses", bad)
		}
	}
	for target, contentType := range map[string]string{"/api/docs/page.js": "text/javascript", "/api/docs/page.css": "text/css", "/api/docs/swagger-ui-bundle.js": "text/javascript",
		"/api/docs/swagger-ui.css": "text/css", "/api/openapi.json": "application/openapi+json", "/api/openapi.yaml": "application/openapi+yaml"} {
		rec := f.do("GET", target, "")
		if rec.Code != 200 || !strings.HasPrefix(rec.Header().Get("Content-Type"), contentType) || rec.Body.Len() == 0 {
			t.Errorf("%s: %d %v", target, rec.Code, rec.Header())
		}
		if strings.HasPrefix(target, "/api/docs/") && !strings.Contains(page, target) {
			t.Errorf("the page does not use %s", target)
		}
		if rec := f.do("GET", target, "", "If-None-Match", rec.Header().Get("ETag")); rec.Code != http.StatusNotModified {
			t.Errorf("%s is sent again", target)
		}
	}
	if text := f.do("GET", "/api/openapi.yaml", "").Body.String(); !strings.Contains(text, "openapi: 3.1.0") {
		t.Errorf("YAML: %s", clip(text, 200))
	}
}
