package api

import (
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
)

// Starting returns a handler for the time before New can be called: it answers
// the probes, and everything else with SERVICE_UNAVAILABLE, with the same
// headers, request ids and log lines as the real one. A nil logger discards.
func Starting(logger *slog.Logger) http.Handler {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	s := &server{opts: Options{Client: clientOf}, log: logger, now: time.Now, router: chi.NewMux()}
	alive := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = io.WriteString(w, "{\"status\":\"ok\"}\n")
	}
	s.router.Get("/livez", alive)
	s.router.Get("/alive", alive)
	wait := func(w http.ResponseWriter, r *http.Request) {
		WriteProblem(w, r, CodeServiceUnavailable, "The program is starting. Try again in a moment.", time.Second)
	}
	s.router.NotFound(wait)
	s.router.MethodNotAllowed(wait)
	return s.observe(s.router)
}
