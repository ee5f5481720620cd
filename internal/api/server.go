package api

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"

	"aiops/internal/auth"
)

// server holds what the operations need. It has no state of its own but the
// places of large bodies.
type server struct {
	opts        Options
	log         *slog.Logger
	now         func() time.Time
	began       time.Time // when New was called
	hosts       map[string]bool
	router      *chi.Mux
	api         huma.API
	largeBodies chan struct{} // places of large bodies, each held until its request is answered

	operations []string // ids, sorted once all are registered

	documents documents
}

// New returns the handler of everything the program serves over HTTP: the
// operations, their document, the mounted protocols and the pages. It is safe
// for concurrent use and starts nothing.
func New(opts Options) (http.Handler, error) {
	s, err := newServer(opts)
	if err != nil {
		return nil, err
	}
	packed, err := compress(s.router)
	if err != nil {
		return nil, fmt.Errorf("setting up compression: %w", err)
	}
	h := s.protect(packed)
	for _, wrap := range slices.Backward(opts.Middleware) {
		h = wrap(h)
	}
	return s.front(s.observe(h)), nil
}

func newServer(opts Options) (*server, error) {
	if opts.Detectors == nil || opts.Anomalies == nil || opts.Sources == nil || opts.Clients == nil || opts.Engine == nil || opts.Tasks == nil {
		return nil, errors.New("api needs Detectors, Anomalies, Sources, Clients, Engine and Tasks")
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Client == nil {
		opts.Client = clientOf
	}
	if opts.Version == "" {
		opts.Version = "dev"
	}
	if opts.Models == nil {
		opts.Models = noModels{}
	}
	if opts.SwaggerUI == nil && opts.UI != nil {
		if sub, err := fs.Sub(opts.UI, "swagger-ui"); err == nil {
			opts.SwaggerUI = sub
		}
	}
	s := &server{opts: opts, log: opts.Logger, now: opts.Now, began: opts.Now(), hosts: map[string]bool{}, router: chi.NewMux(), largeBodies: make(chan struct{}, maxLargeBodies)}
	for _, h := range opts.Hosts {
		s.hosts[strings.ToLower(h)] = true
	}
	s.router.NotFound(func(w http.ResponseWriter, r *http.Request) {
		WriteProblem(w, r, CodeNotFound, "There is nothing at this path. The operations are listed at /api/docs.", 0)
	})
	s.router.MethodNotAllowed(s.methodNotAllowed)
	s.api = newHuma(s.router, opts.Version)
	s.api.UseMiddleware(s.authorise, s.exchange)
	s.registerAll()
	for pattern, h := range opts.Mounts {
		if auth.Needs(pattern) == auth.Denied {
			return nil, fmt.Errorf("the mount %s has no row in the table of rights", pattern)
		}
		s.router.Handle(pattern, s.guarded(pattern, mounted(h)))
	}
	slices.Sort(s.operations)
	s.finishDocument()
	return s, nil
}

// registerAll is the table of areas.
func (s *server) registerAll() {
	s.registerDetectors()
	s.registerDetectorActions()
	s.registerModels()
	s.registerLifecycle()
	s.registerKnownEvents()
	s.registerTune()
	s.registerReplay()
	s.registerAnomalies()
	s.registerSources()
	s.registerLogs()
	s.registerTasks()
	s.registerAuth()
	s.registerLive()
	s.registerErrors()
	s.registerSystem()
	s.registerHealthCheck()
	s.registerDocs()
	s.registerUI()
}

// mounted serves another protocol; its plain-text failures become problems
// with the same text.
func mounted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := &problemWriter{ResponseWriter: w, r: r}
		h.ServeHTTP(p, r)
		p.finish()
	})
}

var methods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// methodNotAllowed names the methods that the path does serve.
func (s *server) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, m := range methods {
		if s.router.Match(chi.NewRouteContext(), m, r.URL.Path) {
			allowed = append(allowed, m)
			if m == http.MethodGet {
				allowed = append(allowed, http.MethodHead)
			}
		}
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	WriteProblem(w, r, CodeMethodNotAllowed, "This path serves "+strings.Join(allowed, ", ")+".", 0)
}
