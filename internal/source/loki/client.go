package loki

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
	"aiops/internal/source"
	"aiops/internal/source/outward"
)

const (
	partConcurrency = 2                   // parts of one long range at a time
	longestPart     = 30 * 24 * time.Hour // Loki refuses ranges beyond 721 h
	checkTimeout    = 5 * time.Second
	checkWindow     = 5 * time.Minute
	mostNames       = 10_000 // labels or streams that are listed
)

// Client answers queries from one source. It is safe for concurrent use. Its
// methods block for at most Source.Timeout, unless they say otherwise.
type Client struct {
	cfg     Config
	log     *slog.Logger
	way     *outward.Peer
	tracker *source.Tracker
	metrics *metrics
	page    atomic.Int64 // lines that the source gives at once
	checked checked
}

// New makes a client and registers its metrics with reg, labelled with the
// source's name; call Close to remove them. It reads the TLS files and opens no
// connection. Wrong configuration is a KindInvalid error with all its faults.
func New(cfg Config, logger *slog.Logger, reg prometheus.Registerer) (*Client, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c := &Client{
		cfg: cfg,
		log: logger.With("component", "source/loki", "source", cfg.Source.Name),
		// A log may be silent, so no age of its lines says that it stopped.
		tracker: source.NewTracker(source.TrackerConfig{LateData: cfg.Source.LateData}, nil),
	}
	c.page.Store(pageLines)
	var err error
	if c.way, err = outward.New(cfg.outward(), c.tracker, logger.With("component", "source/loki"), reg); err != nil {
		return nil, err
	}
	if c.metrics, err = newMetrics(reg, cfg.Source.Name); err != nil {
		return nil, errors.Join(err, c.way.Close())
	}
	return c, nil
}

// Close ends idle connections and removes the client's metrics. Queries under
// way go on.
func (c *Client) Close() error {
	c.metrics.unregister()
	return c.way.Close()
}

// OnHealthChange registers a function that Run calls after each change of the
// health state, in order. While it blocks, queries and checks go on.
func (c *Client) OnHealthChange(f func(old, now model.SourceHealth)) { c.tracker.OnChange(f) }

// Health returns the source's health now. It never blocks. A source of logs is
// never stale, because a log may be silent.
func (c *Client) Health() model.SourceHealth { return c.tracker.Health() }

// LateData returns how late lines may come: as configured, or 5 s.
func (c *Client) LateData() time.Duration { return c.cfg.Source.LateData }

// Details returns facts about the way to the source, for people.
func (c *Client) Details() map[string]any {
	d := c.way.Details()
	d["lines_per_page"] = c.page.Load()
	return d
}

// LogValue shows the source's name only.
func (c *Client) LogValue() slog.Value { return c.way.LogValue() }

// Collectors returns a KindNotFound error: Loki collects nothing by itself.
func (c *Client) Collectors(context.Context) ([]model.Collector, error) {
	return nil, model.Errorf(model.KindNotFound, model.SubjectLoki, "the source has no list of what it collects")
}

// Run checks the source's health every CheckInterval, and more often while it
// is down, and tells of changes, until ctx ends. It returns nil.
func (c *Client) Run(ctx context.Context) error {
	return c.way.Watch(ctx, c.cfg.CheckInterval, c.Check)
}

// Check asks the source for the names of its labels, within 5 s and without
// retry, and notes in its health whether it answers and how fast. It asks even
// while the breaker is open; a good answer lets the next query through. While a
// Retry-After runs it sends nothing and returns an error.
func (c *Client) Check(ctx context.Context) error {
	begin := time.Now()
	var names []string
	var partial string
	answered, err := c.way.Probe(ctx, checkTimeout, window("/loki/api/v1/labels", nil, begin.Add(-checkWindow), begin), c.namesReader(&names, &partial))
	if !answered {
		return fmt.Errorf("checking source %q: %w", c.cfg.Source.Name, err)
	}
	c.tracker.Checked(time.Since(begin), time.Time{})
	c.notePartial(partial)
	return nil
}

func (c *Client) notePartial(why string) {
	if why != "" {
		c.tracker.Partial("its answers are incomplete: " + c.way.Clean(why))
	}
}

// window is a request about a time, both ends in nanoseconds.
func window(path string, query url.Values, from, to time.Time) outward.Request {
	q := url.Values{"start": {nanos(from.UnixNano())}, "end": {nanos(to.UnixNano())}}
	for name, values := range query {
		q[name] = values
	}
	return outward.Request{Path: path, Query: q, Safe: true}
}

func nanos(t int64) string { return strconv.FormatInt(t, 10) }

// Labels lists the names of the labels that streams have between from and to,
// at most 10,000.
func (c *Client) Labels(ctx context.Context, from, to time.Time) ([]string, error) {
	return c.names(ctx, window("/loki/api/v1/labels", nil, from, to))
}

// LabelValues lists the values of one label, at most 10,000.
func (c *Client) LabelValues(ctx context.Context, name string, from, to time.Time) ([]string, error) {
	return c.names(ctx, window("/loki/api/v1/label/"+url.PathEscape(name)+"/values", nil, from, to))
}

func (c *Client) names(ctx context.Context, req outward.Request) ([]string, error) {
	var names []string
	var partial string
	if err := c.way.Do(ctx, req, c.namesReader(&names, &partial)); err != nil {
		return nil, err
	}
	c.notePartial(partial)
	return names, nil
}

// Series lists the streams that a selector selects between from and to, at
// most 10,000.
func (c *Client) Series(ctx context.Context, selector model.Selector, from, to time.Time) ([]model.Labels, error) {
	if _, err := selector.Compile(); err != nil {
		return nil, err
	}
	var streams []model.Labels
	var partial string
	req := window("/loki/api/v1/series", url.Values{"match[]": {selector.String()}}, from, to)
	if err := c.way.Do(ctx, req, c.seriesReader(&streams, &partial)); err != nil {
		return nil, err
	}
	c.notePartial(partial)
	return streams, nil
}

// QueryRange evaluates a LogQL query that yields numbers at start, start+step,
// … up to end and returns at most maxSeries series, or as many as the
// configuration allows when maxSeries is 0 or more than that. Longer ranges than
// a source takes are fetched in parts, each of which is given Source.Timeout. The
// receiver owns the answer. Errors: KindQuery for a query that is wrong, yields
// lines, or yields too much; KindSourceAuth, KindSourceUnavailable, KindTimeout
// for a query that the source found too slow, KindOverloaded, or ctx's own.
func (c *Client) QueryRange(ctx context.Context, query string, start, end time.Time, step time.Duration, maxSeries int) ([]model.SeriesData, error) {
	span, err := source.NewSpan(start, end, step)
	if err != nil {
		return nil, err
	}
	if err := checkText(query); err != nil {
		return nil, err
	}
	lim := c.limits(maxSeries)
	points := min(int64(source.MaxPoints), max(longestPart.Milliseconds()/span.Step, 1))
	return source.QueryParts(ctx, span.Split(points), partConcurrency, lim.Series, func(ctx context.Context, part source.Span) ([]model.SeriesData, error) {
		return c.numbers(ctx, "/loki/api/v1/query_range", query, url.Values{
			"start": {nanos(part.Start * int64(time.Millisecond))},
			"end":   {nanos(part.End * int64(time.Millisecond))},
			"step":  {strconv.FormatFloat(float64(part.Step)/1000, 'f', -1, 64)},
		}, part, lim)
	})
}

// Query evaluates query at one time: series with one sample each, at that time.
// Otherwise it is like QueryRange.
func (c *Client) Query(ctx context.Context, query string, at time.Time, maxSeries int) ([]model.SeriesData, error) {
	if err := checkText(query); err != nil {
		return nil, err
	}
	ms := at.UnixMilli()
	form := url.Values{"time": {nanos(ms * int64(time.Millisecond))}}
	return c.numbers(ctx, "/loki/api/v1/query", query, form, source.Span{Start: ms, End: ms, Step: 1}, c.limits(maxSeries))
}

func (c *Client) limits(maxSeries int) source.Limits {
	if maxSeries <= 0 || maxSeries > c.cfg.MaxSeries {
		maxSeries = c.cfg.MaxSeries
	}
	return source.Limits{Series: maxSeries, Bytes: c.cfg.MaxBytes}
}

// numbers asks for series.
func (c *Client) numbers(ctx context.Context, path, query string, form url.Values, span source.Span, lim source.Limits) ([]model.SeriesData, error) {
	form.Set("query", query)
	var ans *source.Answer
	err := c.way.Do(ctx, outward.Request{Method: http.MethodPost, Path: path, Form: form, Safe: true}, c.numbersReader(query, span, lim, &ans))
	if err != nil {
		return nil, err
	}
	c.notePartial(ans.Partial)
	return ans.Series, nil
}
