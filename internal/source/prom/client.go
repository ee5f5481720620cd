package prom

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
	"aiops/internal/source"
)

// partConcurrency is how many parts of one long range are fetched at a time.
const partConcurrency = 2

// Client answers queries from one source. It is safe for concurrent use. Its
// methods block for at most Source.Timeout, unless they say otherwise.
type Client struct {
	cfg     Config
	log     *slog.Logger
	base    string // URL without a final slash
	http    *http.Client
	secrets []string
	guard   *guard
	tracker *source.Tracker
	metrics *metrics
	running atomic.Int64
}

// New makes a client and registers its metrics with reg, labelled with the
// source's name; call Close to remove them. It reads the TLS files and opens no
// connection. Wrong configuration is a KindInvalid error with all its faults.
func New(cfg Config, logger *slog.Logger, reg prometheus.Registerer) (*Client, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.Source.Headers = maps.Clone(cfg.Source.Headers)
	transport, err := newTransport(cfg)
	if err != nil {
		return nil, err
	}
	c := &Client{
		cfg:  cfg,
		log:  logger.With("component", "source/prom", "source", cfg.Source.Name),
		base: strings.TrimRight(cfg.Source.URL, "/"),
		http: &http.Client{
			Transport: transport,
			// The answer of a redirect is looked at as it is, so credentials never
			// travel to where it points.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		tracker: source.NewTracker(source.TrackerConfig{
			Interval: cfg.Interval, Learn: true, LateData: cfg.Source.LateData,
		}, nil),
	}
	for _, s := range cfg.Source.Headers {
		c.secrets = append(c.secrets, s.Reveal())
	}
	c.secrets = append(c.secrets, cfg.Source.Auth.Password.Reveal(), cfg.Source.Auth.BearerToken.Reveal())
	c.metrics = newMetrics(reg, c)
	c.guard = newGuard(cfg.Concurrency, time.Now, c.metrics.retries.Inc)
	if err := c.metrics.register(); err != nil {
		return nil, fmt.Errorf("registering the metrics of source %q: %w", cfg.Source.Name, err)
	}
	return c, nil
}

// Close ends idle connections and removes the client's metrics. Queries under
// way go on.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	c.metrics.unregister()
	return nil
}

// OnHealthChange registers a function that Run calls after each change of the
// health state, in order. While it blocks, queries and checks go on.
func (c *Client) OnHealthChange(f func(old, now model.SourceHealth)) { c.tracker.OnChange(f) }

// Health returns the source's health now. It never blocks.
func (c *Client) Health() model.SourceHealth { return c.tracker.Health() }

// LateData returns how late samples may come: as configured, or 5 s.
func (c *Client) LateData() time.Duration { return c.cfg.Source.LateData }

// ParseQuery is source.ParseQuery. It asks nobody.
func (c *Client) ParseQuery(query string) error { return source.ParseQuery(query) }

// Details returns facts about the way to the source, for people: the state of
// the breaker, requests under way and the retry budget.
func (c *Client) Details() map[string]any {
	d := map[string]any{
		"breaker":      c.guard.breaker.State().String(),
		"in_flight":    c.running.Load(),
		"retry_budget": c.guard.budget.left(),
	}
	if wait := c.guard.breaker.RemainingDelay(); wait > 0 {
		d["breaker_opens_again_in_ms"] = wait.Milliseconds()
	}
	return d
}

// QueryRange evaluates query at start, start+step, … up to end and returns at
// most maxSeries series, or as many as the configuration allows when maxSeries
// is 0 or more than that. Longer ranges than a source takes are fetched in parts.
// A start that is not a multiple of step is allowed. The receiver owns the answer.
// Each part is given Source.Timeout. Errors: KindQuery for a query that is
// wrong or yields too much, KindSourceAuth, KindSourceUnavailable, KindTimeout
// for a query that the source found too slow, KindOverloaded, or ctx's own.
func (c *Client) QueryRange(ctx context.Context, query string, start, end time.Time, step time.Duration, maxSeries int) ([]model.SeriesData, error) {
	span, err := source.NewSpan(start, end, step)
	if err != nil {
		return nil, err
	}
	if err := source.ParseQuery(query); err != nil {
		return nil, err
	}
	lim := c.limits(maxSeries)
	return source.QueryParts(ctx, span.Split(source.MaxPoints), partConcurrency, lim.series, func(ctx context.Context, part source.Span) ([]model.SeriesData, error) {
		form := url.Values{
			"query": {query},
			"start": {seconds(part.Start)},
			"end":   {seconds(part.End)},
			"step":  {seconds(part.Step)},
		}
		if part.Start%part.Step != 0 {
			// VictoriaMetrics moves such a range to multiples of its step unless it
			// is told to leave its cache alone. Others ignore this.
			form.Set("nocache", "1")
		}
		return c.query(ctx, "/api/v1/query_range", form, part, lim)
	})
}

// Query evaluates query at one time: series with one sample each, at that time.
// Otherwise it is like QueryRange.
func (c *Client) Query(ctx context.Context, query string, at time.Time, maxSeries int) ([]model.SeriesData, error) {
	if err := source.ParseQuery(query); err != nil {
		return nil, err
	}
	ms := at.UnixMilli()
	form := url.Values{"query": {query}, "time": {seconds(ms)}}
	return c.query(ctx, "/api/v1/query", form, source.Span{Start: ms, End: ms, Step: 1}, c.limits(maxSeries))
}

func (c *Client) limits(maxSeries int) limits {
	if maxSeries <= 0 || maxSeries > c.cfg.MaxSeries {
		maxSeries = c.cfg.MaxSeries
	}
	return limits{series: maxSeries, bytes: c.cfg.MaxBytes}
}

// seconds writes milliseconds as the API's seconds.
func seconds(ms int64) string {
	return strconv.FormatFloat(float64(ms)/1000, 'f', 3, 64)
}

// query asks under all guards and tells the tracker how it went.
func (c *Client) query(ctx context.Context, path string, form url.Values, span source.Span, lim limits) ([]model.SeriesData, error) {
	own, cancel := withTimeout(ctx, c.cfg.Source.Timeout)
	defer cancel()
	ans, err := c.guard.do(own, func(ctx context.Context) (*answer, error) {
		return c.send(ctx, path, form, span, lim)
	})
	var f *failure
	switch {
	case err == nil:
		c.tracker.Succeeded()
		if ans.partial != "" {
			c.tracker.Partial("its answers are incomplete: " + sanitize(ans.partial, c.secrets))
		}
		return ans.series, nil
	case errors.As(err, &f):
		c.observe(f)
		return nil, f.err
	case ctx.Err() != nil:
		return nil, c.callerGaveUp(ctx.Err())
	}
	// Our own time ran out before the request could be sent or repeated.
	c.metrics.requests.WithLabelValues(outcomeRefused).Inc()
	return nil, model.WrapError(model.KindOverloaded, model.SubjectPrometheus, err,
		"the query waited longer than %s for its turn; give the source fewer or cheaper queries", c.cfg.Source.Timeout)
}

// errOwnTimeout is the cause of a context that ended because the source was
// given no more time, as opposed to a caller that gave up.
var errOwnTimeout = errors.New("the source's time is over")

func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, errOwnTimeout)
}

// callerGaveUp makes the error for a call whose own context ended. It says
// nothing about the source.
func (c *Client) callerGaveUp(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return model.WrapError(model.KindTimeout, model.SubjectPrometheus, err, "the source did not answer in the time that the caller allowed")
	}
	return fmt.Errorf("querying source %q: %w", c.cfg.Source.Name, err)
}

// observe tells the tracker of a failed request. One that was not sent says
// nothing new, and a query that is wrong was answered.
func (c *Client) observe(f *failure) {
	switch f.label {
	case outcomeRefused:
		c.metrics.requests.WithLabelValues(outcomeRefused).Inc()
	case outcomeQuery:
		c.tracker.Succeeded()
	default:
		c.tracker.Failed(f.err.Message)
	}
}
