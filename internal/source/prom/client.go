package prom

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
)

// Config says where a source is and how much it may cost. Only Source.Name and
// Source.URL are required.
type Config struct {
	Source model.Source

	MaxSeries      int           // series in one answer; 0 is 100,000
	MaxBytes       int64         // bytes of one answer after decompression; 0 is 256 MiB
	MaxConnections int           // to the source; 0 is 16, at most 100
	Concurrency    int           // requests at the same time; 0 is 8
	CheckInterval  time.Duration // between two health checks; 0 is 5 s
	Interval       time.Duration // expected distance of the source's own samples until it is learned; 0 is 1 min
}

// Client answers queries from one Prometheus API. It is safe for concurrent use.
type Client struct{}

// New makes a client. It opens no connection.
func New(cfg Config, logger *slog.Logger, reg prometheus.Registerer) (*Client, error) {
	return nil, model.Errorf(model.KindUnavailable, model.SubjectPrometheus, "the client is not ready yet")
}

// Run checks the source's health until ctx ends.
func (c *Client) Run(ctx context.Context) error { return nil }

// Close ends idle connections and removes the client's metrics.
func (c *Client) Close() error { return nil }

// OnHealthChange registers a function that is called after each change of the health state.
func (c *Client) OnHealthChange(f func(old, now model.SourceHealth)) {}

// QueryRange evaluates query at start, start+step, … up to end.
func (c *Client) QueryRange(ctx context.Context, query string, start, end time.Time, step time.Duration, maxSeries int) ([]model.SeriesData, error) {
	return nil, nil
}

// Query evaluates query at one time: series with one sample each.
func (c *Client) Query(ctx context.Context, query string, at time.Time, maxSeries int) ([]model.SeriesData, error) {
	return nil, nil
}

// Check asks the source whether it answers and how new its data is.
func (c *Client) Check(ctx context.Context) error { return nil }

// Health returns the source's health.
func (c *Client) Health() model.SourceHealth { return model.SourceHealth{} }

// LateData returns how late samples may come.
func (c *Client) LateData() time.Duration { return 0 }

// ParseQuery says whether query can be evaluated over a range.
func (c *Client) ParseQuery(query string) error { return nil }

// Collectors lists the source's scrape targets.
func (c *Client) Collectors(ctx context.Context) ([]model.Collector, error) { return nil, nil }
