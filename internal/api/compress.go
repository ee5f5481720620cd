package api

import (
	"bufio"
	"net"
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzhttp"
)

// compress packs answers with gzip or zstd, as the client prefers, unless they
// are small, packed already, a stream, or of a kind that packing does not make
// smaller.
func compress(next http.Handler) (http.Handler, error) {
	wrap, err := gzhttp.NewWrapper(gzhttp.MinSize(leastPacked), gzhttp.ContentTypeFilter(packable), gzhttp.CompressionLevel(1))
	if err != nil {
		return nil, err
	}
	packing := wrap(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := ClassOf(r.Method, r.URL.Path); c == ClassStream || c == ClassProbe || r.Header.Get("Accept-Encoding") == "" {
			next.ServeHTTP(w, r)
			return
		}
		packing.ServeHTTP(&weakTags{ResponseWriter: w}, r)
	}), nil
}

// packable reports whether bodies of a type get smaller. A stream of events
// must not be held back.
func packable(contentType string) bool {
	ct, _, _ := strings.Cut(contentType, ";")
	ct = strings.ToLower(strings.TrimSpace(ct))
	switch {
	case ct == "text/event-stream":
		return false
	case strings.HasPrefix(ct, "text/"), strings.HasSuffix(ct, "json"), strings.HasSuffix(ct, "yaml"), strings.HasSuffix(ct, "xml"),
		ct == "application/javascript", ct == "application/wasm":
		return true
	}
	return false
}

// weakTags makes the tags of answers weak that were packed on their way: the
// content is the same, the bytes are not.
type weakTags struct {
	http.ResponseWriter
	wrote bool
}

func (w *weakTags) WriteHeader(status int) {
	if h := w.Header(); !w.wrote && h.Get("Content-Encoding") != "" {
		if tag := h.Get("ETag"); tag != "" && !strings.HasPrefix(tag, "W/") {
			h.Set("ETag", "W/"+tag)
		}
	}
	w.wrote = w.wrote || status >= 200
	w.ResponseWriter.WriteHeader(status)
}

func (w *weakTags) Write(p []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap serves http.ResponseController.
func (w *weakTags) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush serves handlers that stream.
func (w *weakTags) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Hijack serves handlers that take the connection over.
func (w *weakTags) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(w.ResponseWriter).Hijack()
}
