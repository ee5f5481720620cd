package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

// pages serves the built web pages. Everything it knows of them is read once,
// by New; it is not changed afterwards.
type pages struct {
	files map[string]page
	fsys  fs.FS
}

// page is one file and its precompressed forms, by encoding.
type page struct {
	name, tag, contentType string
	encoded                map[string]string // such as br → assets/a.js.br
}

// encodings in the order of preference, with the endings that builds use.
var encodings = []struct{ name, suffix string }{{"br", ".br"}, {"zstd", ".zst"}, {"gzip", ".gz"}}

const noPages = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark"><title>AIOps</title></head>
<body><h1>AIOps</h1><p>The web pages are not built into this program. The API is described at <a href="/api/docs">/api/docs</a>.</p></body></html>
`

// machinePaths never answer with a page: a program that asks there for what
// does not exist must get a problem.
var machinePaths = []string{"/api/", "/prometheus/", "/loki/", "/v1/", "/-/", "/health/", "/readyz/"}

func (s *server) registerUI() {
	site := readPages(s.opts.UI)
	s.router.NotFound(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead || machinePath(r.URL.Path) {
			WriteProblem(w, r, CodeNotFound, "There is nothing at this path. The operations are listed at /api/docs.", 0)
			return
		}
		site.serve(w, r)
	})
}

func machinePath(p string) bool {
	for _, prefix := range machinePaths {
		if strings.HasPrefix(p, prefix) || p == strings.TrimSuffix(prefix, "/") {
			return true
		}
	}
	return false
}

func readPages(fsys fs.FS) *pages {
	p := &pages{files: map[string]page{}, fsys: fsys}
	if fsys == nil {
		return p
	}
	_ = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(path.Base(name), ".") {
			return nil //nolint:nilerr // a page that cannot be read is a page that is not there
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		contentType := mime.TypeByExtension(path.Ext(name))
		if contentType == "" {
			contentType = "application/octet-stream"
		}
		p.files[name] = page{name: name, tag: contentTag(text), contentType: contentType, encoded: map[string]string{}}
		return nil
	})
	for name, f := range p.files {
		for _, enc := range encodings {
			if plain, ok := strings.CutSuffix(name, enc.suffix); ok {
				if of, ok := p.files[plain]; ok {
					of.encoded[enc.name] = f.name
				}
			}
		}
	}
	return p
}

// serve answers with a file, or with the start page for an address that the
// page's own router knows.
func (p *pages) serve(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
	f, ok := p.files[name]
	if !ok {
		if path.Ext(name) != "" && name != "index.html" {
			WriteProblem(w, r, CodeNotFound, "There is no such file.", 0)
			return
		}
		f, ok = p.files["index.html"]
	}
	if info := requestOf(r.Context()); info != nil {
		info.page = true
	}
	if !ok {
		h := w.Header()
		h.Set("Content-Security-Policy", pagePolicy)
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Cache-Control", "no-store")
		_, _ = io.WriteString(w, noPages)
		return
	}
	p.send(w, r, f)
}

// send answers with one file, in the best form that the client takes.
func (p *pages) send(w http.ResponseWriter, r *http.Request, f page) {
	h := w.Header()
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Content-Type", f.contentType)
	h.Set("Cache-Control", "no-cache")
	if strings.HasPrefix(f.name, "assets/") {
		h.Set("Cache-Control", "public, max-age=31536000, immutable") // the name holds a hash of the content
	}
	if len(f.encoded) > 0 {
		h.Add("Vary", "Accept-Encoding")
		for _, enc := range encodings {
			if other, ok := f.encoded[enc.name]; ok && accepts(r.Header.Get("Accept-Encoding"), enc.name) {
				h.Set("Content-Encoding", enc.name)
				f = p.files[other]
				break
			}
		}
	}
	h.Set("ETag", f.tag)
	text, err := fs.ReadFile(p.fsys, f.name)
	if err != nil {
		WriteError(w, r, err)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
}

func contentTag(text []byte) string {
	sum := sha256.Sum256(text)
	return `"` + hex.EncodeToString(sum[:8]) + `"`
}

// accepts reports whether an Accept-Encoding header names enc without
// refusing it.
func accepts(header, enc string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(strings.TrimSpace(name), enc) {
			q := strings.ReplaceAll(params, " ", "")
			return q != "q=0" && q != "q=0.0" && q != "q=0.00" && q != "q=0.000"
		}
	}
	return false
}
