package app

import (
	"net/http"
	"sync/atomic"

	"aiops/internal/api"
)

// gate answers probes while the program starts and hands everything over to
// the real handler once it is open.
type gate struct {
	handler atomic.Pointer[http.Handler]
}

func (g *gate) open(h http.Handler) { g.handler.Store(&h) }

// ServeHTTP implements http.Handler.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h := g.handler.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	switch r.URL.Path {
	case "/livez", "/alive":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n"))
	default:
		w.Header().Set("Retry-After", "1")
		api.WriteProblem(w, r, api.CodeServiceUnavailable, "The program is starting. Try again in a moment.", 1000)
	}
}
