package prom

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
	"aiops/internal/source"
	"aiops/internal/source/outward"
)

// partConcurrency is how many parts of one long range are fetched at a time.
const partConcurrency = 2

// Client answers queries from one source. It is safe for concurrent use. Its
// methods block for at most Source.Timeout, unless they say otherwise.
type Client struct {
	cfg     Config
	way     *outward.Peer
	tracker *source.Tracker
	metrics *metrics
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
		tracker: source.NewTracker(source.TrackerConfig{
			Interval: cfg.Interval, Learn: true, LateData: cfg.Source.LateData,
		}, nil),
	}
	var err error
	if c.way, err = outward.New(cfg.outward(), c.tracker, logger.With("component", "source/prom"), reg); err != nil {
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

// Health returns the source's health now. It never blocks.
func (c *Client) Health() model.SourceHealth { return c.tracker.Health() }

// LateData returns how late samples may come: as configured, or 5 s.
func (c *Client) LateData() time.Duration { return c.cfg.Source.LateData }

// ParseQuery is source.ParseQuery. It asks nobody.
func (c *Client) ParseQuery(query string) error { return source.ParseQuery(query) }

// Details returns facts about the way to the source, for people: the state of
// the breaker, requests under way and waiting, the retry budget, connections.
func (c *Client) Details() map[string]any { return c.way.Details() }

// LogValue shows the source's name only.
func (c *Client) LogValue() slog.Value { return c.way.LogValue() }

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
	return source.QueryParts(ctx, span.Split(source.MaxPoints), partConcurrency, lim.Series, func(ctx context.Context, part source.Span) ([]model.SeriesData, error) {
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

func (c *Client) limits(maxSeries int) source.Limits {
	if maxSeries <= 0 || maxSeries > c.cfg.MaxSeries {
		maxSeries = c.cfg.MaxSeries
	}
	return source.Limits{Series: maxSeries, Bytes: c.cfg.MaxBytes}
}

// seconds writes milliseconds as the API's seconds.
func seconds(ms int64) string {
	return strconv.FormatFloat(float64(ms)/1000, 'f', 3, 64)
}

// query asks one question and notes when its answer is incomplete.
func (c *Client) query(ctx context.Context, path string, form url.Values, span source.Span, lim source.Limits) ([]model.SeriesData, error) {
	var ans *source.Answer
	if err := c.way.Do(ctx, question(path, form), c.reader(span, lim, &ans)); err != nil {
		return nil, err
	}
	c.notePartial(ans)
	return ans.Series, nil
}

func (c *Client) notePartial(ans *source.Answer) {
	if ans.Partial != "" {
		c.tracker.Partial("its answers are incomplete: " + c.way.Clean(ans.Partial))
	}
}
