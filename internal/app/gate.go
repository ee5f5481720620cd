package app

import (
	"net/http"
	"sync/atomic"
)

// gate serves one handler while the program starts and another once it is
// open.
type gate struct {
	starting http.Handler
	handler  atomic.Pointer[http.Handler]
}

func (g *gate) open(h http.Handler) { g.handler.Store(&h) }

// ServeHTTP implements http.Handler.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h := g.handler.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	g.starting.ServeHTTP(w, r)
}
