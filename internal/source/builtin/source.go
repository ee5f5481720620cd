package builtin

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
)

// Source is the embedded source. It is safe for concurrent use.
type Source struct{}

// Open opens the database in cfg.Dir.
func Open(cfg Config, logger *slog.Logger, reg prometheus.Registerer, gatherers ...prometheus.Gatherer) (*Source, error) {
	return nil, model.Errorf(model.KindUnavailable, model.SubjectSource, "the embedded source is not ready yet")
}

// Run scrapes until ctx ends.
func (s *Source) Run(ctx context.Context) error { return nil }

// Close writes what is in memory and releases the directory.
func (s *Source) Close() error { return nil }

// OnHealthChange registers a function that is called after each change of the health state.
func (s *Source) OnHealthChange(f func(old, now model.SourceHealth)) {}

// QueryRange evaluates query at start, start+step, … up to end.
func (s *Source) QueryRange(ctx context.Context, query string, start, end time.Time, step time.Duration, maxSeries int) ([]model.SeriesData, error) {
	return nil, nil
}

// Query evaluates query at one time: series with one sample each.
func (s *Source) Query(ctx context.Context, query string, at time.Time, maxSeries int) ([]model.SeriesData, error) {
	return nil, nil
}

// Append writes samples.
func (s *Source) Append(ctx context.Context, series []model.SeriesData) error { return nil }

// SetTargets replaces the scrape targets.
func (s *Source) SetTargets(targets []Target) error { return nil }

// Check reports whether the database answers.
func (s *Source) Check(ctx context.Context) error { return nil }

// Health returns the source's health.
func (s *Source) Health() model.SourceHealth { return model.SourceHealth{} }

// LateData returns how late samples may come.
func (s *Source) LateData() time.Duration { return 0 }

// ParseQuery says whether query can be evaluated over a range.
func (s *Source) ParseQuery(query string) error { return nil }

// Collectors lists what is scraped.
func (s *Source) Collectors(ctx context.Context) ([]model.Collector, error) { return nil, nil }

// QueryAPI serves the Prometheus query API; mount it with its prefix stripped.
func (s *Source) QueryAPI() http.Handler { return http.NotFoundHandler() }

// RemoteWrite serves the Prometheus remote-write receiver.
func (s *Source) RemoteWrite() http.Handler { return http.NotFoundHandler() }
