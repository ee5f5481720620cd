package pipeline

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
)

// Engine runs the detectors. It is safe for concurrent use.
type Engine struct {
	cfg     Config
	store   Store
	sources SourceFunc
	log     *slog.Logger
	now     func() time.Time
}

// New makes an engine. It starts nothing and touches neither store nor
// sources; Run does. A nil logger discards, a nil registerer registers
// nothing, a nil now is time.Now.
func New(cfg Config, store Store, sources SourceFunc, logger *slog.Logger, reg prometheus.Registerer, now func() time.Time) *Engine {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	if now == nil {
		now = time.Now
	}
	return &Engine{cfg: cfg.withDefaults(), store: store, sources: sources, log: logger.With("component", "pipeline"), now: now}
}

// Run evaluates the detectors until ctx ends, then finishes the running
// evaluations, writes snapshots and returns when every goroutine it started
// has ended.
func (e *Engine) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Sync makes the running detectors match the definitions in the store. Call
// it after each change of a definition; it does not wait for evaluations.
func (e *Engine) Sync(ctx context.Context) error { return errNotReady }

// Status returns the live side of a detector, and false when the engine does
// not know it.
func (e *Engine) Status(id string) (model.DetectorStatus, bool) { return model.DetectorStatus{}, false }

// Series lists the series of a detector in the order of their keys, at most
// limit of them, starting behind the key after.
func (e *Engine) Series(id string, after string, limit int) ([]model.SeriesStatus, error) {
	return nil, errNotReady
}

// Replay returns the past of one series as its detector saw it, at most
// 11,000 points. series is a key as model.Labels.Key writes it; "" is the only
// series of the detector.
func (e *Engine) Replay(ctx context.Context, id string, series string, from, to time.Time) (model.Replay, error) {
	return model.Replay{}, errNotReady
}

// Train learns a new version of a detector's models from the source's history
// and makes it the active one. progress gets values from 0 to 1; nil is fine.
func (e *Engine) Train(ctx context.Context, id string, from, to time.Time, progress func(float64)) (model.ModelVersion, error) {
	return model.ModelVersion{}, errNotReady
}

// Detect scores samples on a copy of a series' live model, which they do not
// change.
func (e *Engine) Detect(ctx context.Context, id string, series model.Labels, samples []model.Sample) ([]model.ScoredPoint, error) {
	return nil, errNotReady
}

// Backtest finds what d would have done from from to to. d need not be stored.
func (e *Engine) Backtest(ctx context.Context, d model.Detector, from, to time.Time, progress func(float64)) (model.BacktestResult, error) {
	return model.BacktestResult{}, errNotReady
}

// Explain says why an anomaly is one.
func (e *Engine) Explain(ctx context.Context, anomalyID string) (Explanation, error) {
	return Explanation{}, errNotReady
}

var errNotReady = model.Errorf(model.KindUnavailable, model.SubjectDetector, "the engine is not ready yet; try again later")
