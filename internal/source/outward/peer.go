package outward

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
	"aiops/internal/source"
	"aiops/internal/telemetry"
)

// Peer is the way to one source. It is safe for concurrent use.
type Peer struct {
	cfg     Config
	log     *slog.Logger
	base    string // URL without a final slash
	http    *http.Client
	secrets []string
	guard   *guard
	tracker *source.Tracker
	metrics *metrics
	pool    *pool
	dial    dialling
}

// New makes the way to a source and registers its metrics with reg, labelled
// with the source's name; call Close to remove them. It tells tracker of what
// happens to requests. It reads the TLS files and opens no connection. Wrong
// configuration is a KindInvalid error with all its faults.
func New(cfg Config, tracker *source.Tracker, logger *slog.Logger, reg prometheus.Registerer) (*Peer, error) {
	cfg = cfg.withDefaults()
	var v model.Invalid
	cfg.Check(&v)
	if err := v.Err(model.SubjectSource); err != nil {
		return nil, err
	}
	cfg.Source.Headers = maps.Clone(cfg.Source.Headers)
	p := &Peer{
		cfg:     cfg,
		log:     logger.With("source", cfg.Source.Name),
		base:    strings.TrimRight(cfg.Source.URL, "/"),
		secrets: cfg.secrets(),
		tracker: tracker,
	}
	p.metrics = newMetrics(reg, p)
	p.pool = &pool{metrics: p.metrics}
	var err error
	if p.dial, err = newDialling(cfg, p.pool); err != nil {
		return nil, err
	}
	transport := newTransport(cfg, p.dial)
	p.http = &http.Client{
		Transport: transport,
		// The answer of a redirect is looked at as it is, so credentials never
		// travel to where it points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	p.guard = newGuard(cfg.Subject, cfg.Concurrency, time.Now, p.metrics.retries.Inc)
	if err := p.metrics.register(); err != nil {
		return nil, fmt.Errorf("registering the metrics of source %q: %w", cfg.Source.Name, err)
	}
	return p, nil
}

// Close ends idle connections and removes the metrics. Requests under way go
// on.
func (p *Peer) Close() error {
	p.http.CloseIdleConnections()
	p.metrics.unregister()
	return nil
}

// Timeout is how long one call may take, with its repetitions.
func (p *Peer) Timeout() time.Duration { return p.cfg.Source.Timeout }

// Details returns facts about the way to the source, for people.
func (p *Peer) Details() map[string]any {
	g := p.guard
	d := map[string]any{
		"breaker":              g.breaker.State().String(),
		"in_flight":            g.running.Load(),
		"waiting":              g.waiting.Load(),
		"concurrency":          p.cfg.Concurrency,
		"retry_budget":         g.budget.left(),
		"connections_open":     p.pool.open.Load(),
		"connections_in_use":   p.pool.inUse.Load(),
		"connections_max":      p.cfg.MaxConnections,
		"timeout_milliseconds": p.cfg.Source.Timeout.Milliseconds(),
	}
	if wait := g.breaker.RemainingDelay(); wait > 0 {
		d["breaker_asks_again_in_ms"] = wait.Milliseconds()
	}
	if wait := g.askedToWait(); wait > 0 {
		d["source_asked_to_wait_ms"] = wait.Milliseconds()
	}
	return d
}

// Request is what to send. Path is below the source's URL.
type Request struct {
	Method string      // "" is GET
	Path   string      // such as /api/v1/query
	Query  url.Values  // in the URL
	Form   url.Values  // the body of a POST
	Header http.Header // further headers; those of the source's definition win
	// DeadlineField is the field of Form, or of Query without a Form, that tells
	// the source how long its answer is waited for, in milliseconds with the
	// unit; "" is none. The source should not go on when nobody waits.
	DeadlineField string
	// Safe says that sending it twice has no other effect than sending it once.
	// Only then it is ever repeated.
	Safe bool
}

// ReadFunc reads one answer of any status. It returns nil for a good answer; a
// *Failure, or another *model.Error for an answer that is well but says no; and
// what reading the body returned, unchanged, when that failed. It may run once
// for each repetition, and is given a body that ends with the call's time.
type ReadFunc func(resp *http.Response) error

// Do sends req and has read read the answer, within Source.Timeout in all,
// under the bulkhead, the breaker and the retry budget, and tells the tracker
// how it went. It blocks until then or until ctx ends. Errors: KindOverloaded
// when too many wait, KindSourceUnavailable, KindSourceAuth, KindTimeout when
// ctx's deadline passed, ctx's own error when it was cancelled, and what read
// made of the answer.
func (p *Peer) Do(ctx context.Context, req Request, read ReadFunc) error {
	own, cancel := withTimeout(ctx, p.cfg.Source.Timeout)
	defer cancel()
	err := p.guard.do(own, req.Safe, func(ctx context.Context) error { return p.send(ctx, req, read) })
	var f *Failure
	var e *model.Error
	switch {
	case err == nil:
		p.tracker.Succeeded()
		return nil
	case errors.As(err, &f):
		p.observe(f)
		return f.Err
	case errors.As(err, &e):
		p.tracker.Succeeded()
		return err
	case ctx.Err() != nil:
		return p.callerGaveUp(ctx.Err())
	}
	// Our own time ran out before the request could be sent or repeated.
	p.metrics.count(OutcomeRefused)
	return model.WrapError(model.KindOverloaded, p.cfg.Subject, err,
		"the query waited longer than %s for its turn; give the source fewer or cheaper queries", p.cfg.Source.Timeout)
}

// Probe sends req once, within timeout, whatever the breaker says; a good
// answer lets the next call of Do through. While a Retry-After runs it sends
// nothing and returns an error. Answered is whether the source gave an answer
// that speaks for its health, be it a refusal of the question; if not, the
// tracker was told why. The caller tells the tracker of the rest.
func (p *Peer) Probe(ctx context.Context, timeout time.Duration, req Request, read ReadFunc) (answered bool, err error) {
	if err := p.guard.mayAsk(); err != nil {
		p.tracker.Failed(err.Err.Message)
		return false, err.Err
	}
	own, cancel := withTimeout(ctx, min(timeout, p.cfg.Source.Timeout))
	defer cancel()
	err = p.send(own, req, read)
	var f *Failure
	switch {
	case err == nil:
		p.guard.revive()
		return true, nil
	case errors.As(err, &f) && f.Outcome == OutcomeQuery:
		return true, f.Err
	case f != nil:
		p.guard.note(f)
		p.tracker.Failed(f.Err.Message)
		return false, f.Err
	}
	return false, err
}

// errOwnTimeout is the cause of a context that ended because the source was
// given no more time, as opposed to a caller that gave up.
var errOwnTimeout = errors.New("the source's time is over")

func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, errOwnTimeout)
}

// callerGaveUp makes the error for a call whose own context ended. It says
// nothing about the source.
func (p *Peer) callerGaveUp(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return model.WrapError(model.KindTimeout, p.cfg.Subject, err, "the source did not answer in the time that the caller allowed")
	}
	return fmt.Errorf("querying source %q: %w", p.cfg.Source.Name, err)
}

// observe tells the tracker of a failed call. One that was not sent says
// nothing new, and a query that is wrong was answered.
func (p *Peer) observe(f *Failure) {
	switch f.Outcome {
	case OutcomeRefused:
		p.metrics.count(OutcomeRefused)
	case OutcomeQuery:
		p.tracker.Succeeded()
	default:
		p.tracker.Failed(f.Err.Message)
	}
}

// send sends one request and has its answer read. The error is a *Failure, a
// *model.Error of read, or the context's own when the caller gave up.
func (p *Peer) send(ctx context.Context, req Request, read ReadFunc) error {
	begin := time.Now()
	err := p.exchange(ctx, req, read)
	outcome := OutcomeOK
	var f *Failure
	switch {
	case errors.As(err, &f):
		outcome = f.Outcome
		p.log.DebugContext(ctx, "request failed", "path", req.Path, "err", f.Err)
	case errors.As(err, new(*model.Error)):
		outcome = OutcomeQuery
	case err != nil:
		outcome = OutcomeCancelled
	}
	p.metrics.count(outcome)
	telemetry.Observe(ctx, p.metrics.duration, time.Since(begin).Seconds())
	return err
}

func (p *Peer) exchange(ctx context.Context, r Request, read ReadFunc) error {
	left := p.cfg.Source.Timeout
	if deadline, ok := ctx.Deadline(); ok {
		left = max(time.Until(deadline), time.Millisecond)
	}
	req, err := p.newRequest(ctx, r, left)
	if err != nil {
		return p.Unavailable(err, false, "the source's URL cannot be used for a request")
	}
	var held atomic.Bool
	defer p.pool.release(&held)
	resp, err := p.http.Do(p.pool.trace(req, &held)) //nolint:bodyclose // the meter closes it
	if err != nil {
		return p.explain(ctx, err, left)
	}
	body := &meter{ReadCloser: resp.Body}
	resp.Body = body
	defer func() {
		_, _ = io.CopyN(io.Discard, body.ReadCloser, 1<<10) // so that the connection can be kept
		_ = body.Close()
		p.metrics.bytes.Add(float64(body.read))
	}()
	err = read(resp)
	if err == nil || errors.As(err, new(*model.Error)) {
		return err
	}
	return p.explain(ctx, err, left)
}

// explain turns an error of the transport into a Failure, or into the
// context's own error when the caller gave up.
func (p *Peer) explain(ctx context.Context, err error, timeout time.Duration) error {
	if ctx.Err() != nil && !errors.Is(context.Cause(ctx), errOwnTimeout) {
		return ctx.Err()
	}
	return transportFailure(p.cfg.Subject, err, timeout)
}

// meter counts what is read.
type meter struct {
	io.ReadCloser
	read int64
}

func (m *meter) Read(b []byte) (int, error) {
	n, err := m.ReadCloser.Read(b)
	m.read += int64(n)
	return n, err
}

func (p *Peer) newRequest(ctx context.Context, r Request, left time.Duration) (*http.Request, error) {
	query, form := r.Query, r.Form
	if r.DeadlineField != "" {
		told := strconv.FormatInt(max(left.Milliseconds(), 1), 10) + "ms"
		if form != nil {
			form = with(form, r.DeadlineField, told)
		} else {
			query = with(query, r.DeadlineField, told)
		}
	}
	address := p.base + r.Path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, address, body)
	if err != nil {
		return nil, err
	}
	for name, values := range r.Header {
		req.Header[name] = values
	}
	p.identify(req.Header)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("Accept", "application/json")
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "aiops")
	}
	if id := telemetry.RequestID(ctx); id != "" && req.Header.Get("X-Request-Id") == "" {
		req.Header.Set("X-Request-Id", id)
	}
	if r.Safe {
		// So that the transport may repeat a POST on a new connection when a kept
		// one turns out to be closed. An empty list says that without sending the
		// header.
		req.Header["X-Idempotency-Key"] = nil
	}
	return req, nil
}

// identify sets the headers of the source's definition and our credentials.
func (p *Peer) identify(h http.Header) {
	for name, value := range p.cfg.Source.Headers {
		h.Set(name, value.Reveal())
	}
	switch auth := p.cfg.Source.Auth; {
	case auth.BearerToken != "":
		h.Set("Authorization", "Bearer "+auth.BearerToken.Reveal())
	case auth.Username != "":
		basic := auth.Username + ":" + auth.Password.Reveal()
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(basic)))
	}
}

// Socket is what is needed to open a WebSocket to the source: its address, the
// headers with our credentials, and how to connect under the rules of the
// source's definition.
type Socket struct {
	URL    string
	Header http.Header
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	TLS    *tls.Config
}

// Socket returns the way to a WebSocket at path. While a Retry-After runs it
// returns an error instead. The connection counts in the metrics, but is none of
// those that MaxConnections bounds.
func (p *Peer) Socket(path string, query url.Values) (Socket, error) {
	if err := p.guard.mayAsk(); err != nil {
		return Socket{}, err.Err
	}
	s := Socket{URL: "ws" + strings.TrimPrefix(p.base, "http") + path, Header: http.Header{}, Dial: p.dial.connect, TLS: p.dial.tls.Clone()}
	if len(query) > 0 {
		s.URL += "?" + query.Encode()
	}
	p.identify(s.Header)
	if s.Header.Get("User-Agent") == "" {
		s.Header.Set("User-Agent", "aiops")
	}
	return s, nil
}

// SocketFailure explains why a WebSocket could not be opened, resp being the
// answer, if there was one, and notes what it says about further requests.
func (p *Peer) SocketFailure(ctx context.Context, resp *http.Response, err error) error {
	var f *Failure
	if resp != nil {
		f = p.Status(resp, "")
	} else if !errors.As(p.explain(ctx, err, connectTimeout), &f) {
		return ctx.Err()
	}
	if f.Err.RetryAfter > 0 {
		p.guard.note(f)
	}
	return f.Err
}

func with(v url.Values, name, value string) url.Values {
	out := maps.Clone(v)
	if out == nil {
		out = url.Values{}
	}
	out.Set(name, value)
	return out
}

// LogValue shows the source's name only.
func (p *Peer) LogValue() slog.Value { return slog.StringValue(p.cfg.Source.Name) }
