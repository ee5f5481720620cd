package api

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"aiops/internal/auth"
	"aiops/internal/telemetry"
)

// Class groups requests by how much they matter under load.
type Class string

// The classes, the most important first.
const (
	ClassProbe   Class = "probe"   // health and readiness
	ClassControl Class = "control" // acknowledge, pause, stop, sign in: what people do in trouble
	ClassStream  Class = "stream"  // live streams, which last
	ClassIngest  Class = "ingest"  // samples and log lines coming in
	ClassUI      Class = "ui"      // pages
	ClassRead    Class = "read"    // everything else
	ClassBatch   Class = "batch"   // training, backtests, what asks a data source for a range
)

// ClassOf returns the class of a request by its method and path alone, so that
// admission can use it before routing.
func ClassOf(method, path string) Class {
	switch {
	case path == "/health", path == "/api/v1/health", strings.HasPrefix(path, "/health/"),
		strings.HasPrefix(path, "/readyz/"), path == "/livez", path == "/alive", path == "/readyz", path == "/ready", path == "/startupz", path == "/metrics":
		return ClassProbe
	case path == "/api/v1/write", path == "/loki/api/v1/push", path == "/v1/logs":
		return ClassIngest
	case path == "/api/v1/ws", path == "/api/v1/events":
		return ClassStream
	}
	if method == http.MethodPost && path == sessionPath {
		return ClassControl
	}
	if method == http.MethodPost {
		i := strings.LastIndexByte(path, '/')
		switch path[i+1:] {
		case "acknowledge", "resolve", "stop", "start", "cancel", "reload", "pause":
			return ClassControl
		case "train", "backtest", "detect", "query", "analyze":
			return ClassBatch
		}
	}
	if strings.HasPrefix(path, "/api/v1/") || strings.HasPrefix(path, "/prometheus/") {
		if strings.HasSuffix(path, "/replay") || strings.HasSuffix(path, "/query_range") {
			return ClassBatch
		}
		return ClassRead
	}
	return ClassUI
}

// requestInfo is what is known of a request while it is served. One
// goroutine at a time uses it.
type requestInfo struct {
	server      *server
	id          string
	traceparent string
	path        string
	page        bool           // one of the web pages, which have no pattern of their own
	verbose     bool           // ?verbose without a value
	bodyless    bool           // an operation that reads no body
	request     *http.Request  // as it came
	asked       bool           // who sent it is known, or why not
	identity    auth.Identity  // who sent it
	unknown     error          // why that cannot be told
	faults      []ProblemField // of the parameters, to be told together with huma's
	chi         chi.Context
	err         error    // cause of a failure, for the log only
	problem     *Problem // what was answered, when it was a failure
}

// statusClientGone is how a request shows in log and metrics whose client left
// before the answer. It is never sent.
const statusClientGone = 499

type requestKey struct{}

// requestContext is the context of a request that knows its requestInfo, and
// gives chi the one for its route.
type requestContext struct {
	context.Context
	info *requestInfo
}

// Value implements context.Context.
func (c requestContext) Value(key any) any {
	switch key {
	case requestKey{}:
		return c.info
	case chi.RouteCtxKey:
		return &c.info.chi
	}
	return c.Context.Value(key)
}

func requestOf(ctx context.Context) *requestInfo {
	info, _ := ctx.Value(requestKey{}).(*requestInfo)
	return info
}

// RequestID returns the id of the request that ctx belongs to, or "".
func RequestID(ctx context.Context) string {
	if info := requestOf(ctx); info != nil {
		return info.id
	}
	return ""
}

// noteError keeps the cause of a failure for the access log.
func noteError(ctx context.Context, err error) {
	if info := requestOf(ctx); info != nil && err != nil {
		info.err = err
	}
}

// observe gives every request that is let in its identity, headers, and line
// in the access log, and recovers panics.
func (s *server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec, ok := w.(*recorder)
		if !ok {
			rec = s.newRecorder(w, r)
		}
		info := &requestInfo{
			server: s, id: requestID(r.Header.Get("X-Request-Id")),
			path: clip(r.URL.EscapedPath(), 512),
		}
		info.verbose = r.URL.RawQuery == "verbose" || strings.HasPrefix(r.URL.RawQuery, "verbose&") || strings.HasSuffix(r.URL.RawQuery, "&verbose")
		if r.Method == http.MethodHead {
			info.chi.RouteMethod = http.MethodGet // net/http drops the body
		}
		var ctx context.Context = requestContext{r.Context(), info}
		ctx = telemetry.WithRequestID(ctx, info.id)
		given := r.Header.Get("Traceparent")
		ctx, span, sent := telemetry.StartRequest(ctx, given, "HTTP "+methodLabel(r.Method), traceparent(given))
		info.traceparent = sent
		defer span.End()
		r = r.WithContext(ctx)
		info.request = r
		rec.Header()["X-Request-Id"] = []string{info.id}
		rec.Header()["Traceparent"] = []string{info.traceparent}
		s.secureHeaders(rec, r)
		defer func() {
			v := recover()
			if v == nil && rec.status == 0 {
				rec.hurry() // net/http sends the header
			}
			if v != nil && v != http.ErrAbortHandler { //nolint:errorlint // the sentinel is compared as net/http does
				s.panicked(rec, r, info, v)
			}
			s.logRequest(r, rec, info, s.now().Sub(rec.began))
			describe(span, r, rec, info)
			if v == http.ErrAbortHandler { //nolint:errorlint
				panic(v)
			}
		}()
		next.ServeHTTP(rec, r)
	})
}

// describe says in a span what was served.
func describe(span trace.Span, r *http.Request, rec *recorder, info *requestInfo) {
	if !span.IsRecording() {
		return
	}
	method, route := methodLabel(r.Method), info.route()
	span.SetName(method + " " + route)
	span.SetAttributes(attribute.String("http.request.method", method), attribute.String("http.route", route),
		attribute.Int("http.response.status_code", rec.status), attribute.String("aiops.request_id", info.id),
		attribute.String("aiops.class", string(ClassOf(r.Method, r.URL.Path))))
	if rec.status >= 500 && info.problem != nil {
		telemetry.Failed(span, string(info.problem.Code))
	}
}

func (s *server) panicked(rec *recorder, r *http.Request, info *requestInfo, v any) {
	s.log.LogAttrs(r.Context(), slog.LevelError, "request panicked",
		slog.Any("panic", v), slog.String("stack", string(debug.Stack())),
		slog.String("route", info.route()), slog.String("request_id", info.id))
	if s.opts.OnPanic != nil {
		s.opts.OnPanic(info.route())
	}
	if rec.status == 0 && !rec.hijacked {
		newProblem(CodeInternal, 0, "").stamp(r.Context()).write(rec)
	}
}

func (s *server) logRequest(r *http.Request, rec *recorder, info *requestInfo, took time.Duration) {
	status := rec.status
	if status == 0 {
		status = http.StatusOK
	}
	class, route := ClassOf(r.Method, r.URL.Path), info.route()
	level := slog.LevelInfo
	if errors.Is(info.err, context.Canceled) && r.Context().Err() != nil {
		status = statusClientGone
	}
	switch {
	case status >= 500:
		level = slog.LevelWarn
	case class == ClassProbe && status < 400:
		level = slog.LevelDebug
	}
	if p := info.problem; p != nil && (p.Code == CodeOverloaded || p.Code == CodeRateLimit) {
		level = slog.LevelDebug // under a flood a line for each would be the next flood; metrics count them
	}
	var more []slog.Attr
	if info.err != nil && status >= 499 {
		more = append(more, slog.String("err", info.err.Error()))
	}
	s.served(r, rec, level, info.id, info.traceparent, Request{Class: class, Route: route, Status: status, Duration: took}, more...)
}

// served writes the line of the access log, at level, and tells whoever counts
// requests. The method and the bytes of what are filled in.
func (s *server) served(r *http.Request, rec *recorder, level slog.Level, id, parent string, what Request, more ...slog.Attr) {
	what.Method, what.Bytes = methodLabel(r.Method), rec.bytes
	if s.log.Enabled(r.Context(), level) {
		line := slog.NewRecord(time.Now(), level, "request", 0) // where it is written is the same for all
		line.AddAttrs(
			slog.String("class", string(what.Class)), slog.String("method", r.Method), slog.String("route", what.Route),
			slog.Int("status", what.Status), slog.Float64("duration_ms", float64(what.Duration.Microseconds())/1000),
			slog.Int64("bytes", what.Bytes), slog.String("client", s.opts.Client(r)),
			slog.String("request_id", id), slog.String("traceparent", parent),
		)
		line.AddAttrs(more...)
		_ = s.log.Handler().Handle(r.Context(), line) // as slog does: there is nowhere to tell of it
	}
	if s.opts.OnRequest != nil {
		s.opts.OnRequest(r.Context(), what)
	}
}

// Routes of requests that are served by no pattern.
const (
	Unrouted = "unmatched" // there is none for the path
	Refused  = "refused"   // for want of a place or by the client's rate, before one was looked for
)

// route names the pattern that serves the request. Paths that no route
// matches share one name, so that a scanner cannot fill metrics with labels.
func (info *requestInfo) route() string {
	if p := info.chi.RoutePattern(); p != "" {
		return p
	}
	if info.page {
		return "/*"
	}
	return Unrouted
}

// methodLabel bounds the method, which a client may invent.
func methodLabel(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}

func clientOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// requestID takes a client's id when it is short and harmless, else makes one.
func requestID(given string) string {
	if harmless(given) {
		return given
	}
	var b [28]byte
	return string(appendRequestID(b[:0], nil))
}

// appendRequestID is requestID for what was read from a connection.
func appendRequestID(b, given []byte) []byte {
	if harmless(given) {
		return append(b, given...)
	}
	return appendRandom(append(b, "req_"...), 12)
}

func harmless[T string | []byte](id T) bool {
	for i := 0; i < len(id); i++ {
		if c := id[i]; (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return len(id) >= 8 && len(id) <= 128
}

// traceparent keeps the trace of a valid W3C header and gives it a span of
// ours; without one it starts a trace that is not sampled.
func traceparent(given string) string {
	var b [55]byte
	return string(appendTraceparent(b[:0], given))
}

// appendTraceparent adds traceparent's answer to b.
func appendTraceparent[T string | []byte](b []byte, given T) []byte {
	b = append(b, "00-"...)
	known := len(given) >= 55 && (len(given) == 55 || given[55] == '-' && !(given[0] == '0' && given[1] == '0')) && !(given[0] == 'f' && given[1] == 'f') &&
		given[2] == '-' && given[35] == '-' && given[52] == '-' &&
		isHex(given[:2]) && isHex(given[3:35]) && isHex(given[36:52]) && isHex(given[53:55]) &&
		!zeros(given[3:35]) && !zeros(given[36:52])
	if known {
		b = append(b, given[3:35]...)
	} else {
		b = appendRandom(b, 16)
	}
	b = append(appendRandom(append(b, '-'), 8), '-')
	if known {
		return append(b, given[53:55]...)
	}
	return append(b, "00"...)
}

func isHex[T string | []byte](s T) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func zeros[T string | []byte](s T) bool {
	for i := 0; i < len(s); i++ {
		if s[i] != '0' {
			return false
		}
	}
	return true
}

// appendRandom adds n random bytes, at most 16, in hexadecimal. They name
// requests and spans and guard nothing.
func appendRandom(b []byte, n int) []byte {
	var random [16]byte
	binary.LittleEndian.PutUint64(random[:], rand.Uint64())
	binary.LittleEndian.PutUint64(random[8:], rand.Uint64())
	return hex.AppendEncode(b, random[:n])
}
