package builtin

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"aiops/internal/model"
	"aiops/internal/source"
	"aiops/internal/telemetry"
)

// partConcurrency is how many parts of one long range are evaluated at a time.
const partConcurrency = 2

// lastFloat returns the time of the last sample of a series, unless that is a
// stale marker.
func lastFloat(it chunkenc.Iterator) (t int64, ok bool) {
	for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
		ok = false
		if kind == chunkenc.ValFloat {
			var v float64
			t, v = it.At()
			ok = !value.IsStaleNaN(v)
		}
	}
	return t, ok && it.Err() == nil
}

// slots bounds how many queries run at once; others wait, as long as their
// context allows.
type slots struct {
	free    chan struct{}
	running atomic.Int64
}

func newSlots(n int) *slots { return &slots{free: make(chan struct{}, n)} }

// GetMaxConcurrent implements promql.QueryTracker.
func (s *slots) GetMaxConcurrent() int { return cap(s.free) }

// Insert implements promql.QueryTracker.
func (s *slots) Insert(ctx context.Context, _ string) (int, error) {
	select {
	case s.free <- struct{}{}:
		s.running.Add(1)
		return 0, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Delete implements promql.QueryTracker.
func (s *slots) Delete(int) {
	s.running.Add(-1)
	<-s.free
}

// Close implements promql.QueryTracker.
func (s *slots) Close() error { return nil }

func (s *slots) used() int64 { return s.running.Load() }

// QueryRange evaluates query at start, start+step, … up to end and returns at
// most maxSeries series, or as many as the configuration allows when maxSeries
// is 0 or more than that. It waits for one of the few places for queries. The
// receiver owns the samples; labels are shared and must not be changed. Errors:
// KindQuery for a query that is wrong or too expensive, KindTimeout, KindDatabase
// for data that cannot be read, or ctx's own.
func (s *Source) QueryRange(ctx context.Context, query string, start, end time.Time, step time.Duration, maxSeries int) ([]model.SeriesData, error) {
	span, err := source.NewSpan(start, end, step)
	if err != nil {
		return nil, err
	}
	if err := source.ParseQuery(query); err != nil {
		return nil, err
	}
	maxSeries = s.capSeries(maxSeries)
	return source.QueryParts(ctx, span.Split(stepsAtOnce(query)), partConcurrency, maxSeries, func(ctx context.Context, part source.Span) ([]model.SeriesData, error) {
		return s.evaluate(ctx, query, part, maxSeries)
	})
}

// Query evaluates query at one time: series with one sample each, at that time.
// Otherwise it is like QueryRange.
func (s *Source) Query(ctx context.Context, query string, at time.Time, maxSeries int) ([]model.SeriesData, error) {
	if err := source.ParseQuery(query); err != nil {
		return nil, err
	}
	ms := at.UnixMilli()
	return s.evaluate(ctx, query, source.Span{Start: ms, End: ms, Step: 1}, s.capSeries(maxSeries))
}

// sortingWork is how many samples one evaluation may sort for one series, which
// takes about 0.2 s.
const sortingWork = 2_000_000

// stepsAtOnce bounds how many steps are evaluated together. The engine notices
// that a query was cancelled only between series, and the functions that sort
// their window at each step can spend many seconds on a single one.
func stepsAtOnce(query string) int64 {
	expr, err := source.NewParser().ParseExpr(query)
	if err != nil {
		return source.MaxPoints // evaluating says what is wrong
	}
	steps := int64(source.MaxPoints)
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		call, ok := n.(*parser.Call)
		if !ok || call.Func.Name != "quantile_over_time" && call.Func.Name != "mad_over_time" {
			return nil
		}
		for _, arg := range call.Args {
			window := int64(0)
			switch a := arg.(type) {
			case *parser.MatrixSelector:
				window = int64(a.Range / leastInterval)
			case *parser.SubqueryExpr:
				window = int64(a.Range / max(a.Step, time.Millisecond))
			}
			if window > 0 {
				steps = min(steps, max(1, sortingWork/window))
			}
		}
		return nil
	})
	return steps
}

func (s *Source) capSeries(n int) int {
	if n <= 0 || n > s.cfg.Query.MaxSeries {
		return s.cfg.Query.MaxSeries
	}
	return n
}

// evaluate runs one query. A single step is evaluated as an instant query,
// which gives the same values and need not sort the series.
func (s *Source) evaluate(ctx context.Context, query string, span source.Span, maxSeries int) ([]model.SeriesData, error) {
	ctx, asking := telemetry.Start(ctx, "query builtin")
	defer asking.End()
	begin := time.Now()
	q, err := s.prepare(ctx, query, span)
	if err != nil {
		return nil, s.finish(begin, s.queryError(ctx, err))
	}
	// The engine takes its memory back with Close, so everything is copied before.
	defer q.Close()
	result := q.Exec(ctx)
	if result.Err != nil {
		return nil, s.finish(begin, s.queryError(ctx, result.Err))
	}
	var answer []model.SeriesData
	switch v := result.Value.(type) {
	case promql.Vector:
		answer, err = s.fromVector(v, maxSeries)
	case promql.Matrix:
		answer, err = s.fromMatrix(v, span, maxSeries)
	case promql.Scalar:
		answer = []model.SeriesData{{Samples: []model.Sample{{T: v.T, V: v.V}}}}
	default:
		err = model.Errorf(model.KindQuery, model.SubjectPrometheus, "the query yields a %s, which cannot be watched", result.Value.Type())
	}
	return answer, s.finish(begin, err)
}

func (s *Source) prepare(ctx context.Context, query string, span source.Span) (promql.Query, error) {
	if span.Start == span.End {
		return s.engine.NewInstantQuery(ctx, s.db, nil, query, time.UnixMilli(span.Start))
	}
	return s.engine.NewRangeQuery(ctx, s.db, nil, query, time.UnixMilli(span.Start), time.UnixMilli(span.End), time.Duration(span.Step)*time.Millisecond)
}

// finish counts a query by its outcome.
func (s *Source) finish(begin time.Time, err error) error {
	outcome := "ok"
	if err != nil {
		if outcome = string(model.KindOf(err)); outcome == "" {
			outcome = "internal"
		}
		if errors.Is(err, context.Canceled) {
			outcome = "cancelled"
		}
	}
	s.metrics.queries.WithLabelValues(outcome).Inc()
	s.metrics.duration.Observe(time.Since(begin).Seconds())
	return err
}

func limitError(n, limit int) error {
	var e *model.Error
	errors.As(source.SeriesLimit(n, true, limit), &e)
	e.Subject = model.SubjectPrometheus
	return e
}

func (s *Source) fromVector(v promql.Vector, maxSeries int) ([]model.SeriesData, error) {
	if len(v) > maxSeries {
		return nil, limitError(len(v), maxSeries)
	}
	samples := make([]model.Sample, 0, len(v))
	answer := make([]model.SeriesData, 0, len(v))
	histograms := 0
	load := s.labels.loader(len(v))
	for i := range v {
		if v[i].H != nil {
			histograms++
			continue
		}
		if value.IsStaleNaN(v[i].F) {
			continue
		}
		samples = append(samples, model.Sample{T: v[i].T, V: v[i].F})
		n := len(samples)
		answer = append(answer, model.SeriesData{Labels: load.labels(v[i].Metric), Samples: samples[n-1 : n : n]})
	}
	return answer, onlyHistograms(histograms, len(answer))
}

func (s *Source) fromMatrix(m promql.Matrix, span source.Span, maxSeries int) ([]model.SeriesData, error) {
	if len(m) > maxSeries {
		return nil, limitError(len(m), maxSeries)
	}
	total, histograms := 0, 0
	for i := range m {
		total += len(m[i].Floats)
		histograms += len(m[i].Histograms)
	}
	samples := make([]model.Sample, 0, total)
	answer := make([]model.SeriesData, 0, len(m))
	load := s.labels.loader(len(m))
	for i := range m {
		from := len(samples)
		for _, p := range m[i].Floats {
			if !value.IsStaleNaN(p.F) && span.Holds(p.T) {
				samples = append(samples, model.Sample{T: p.T, V: p.F})
			}
		}
		if to := len(samples); to > from {
			answer = append(answer, model.SeriesData{Labels: load.labels(m[i].Metric), Samples: samples[from:to:to]})
		}
	}
	return answer, onlyHistograms(histograms, len(answer))
}

func onlyHistograms(histograms, series int) error {
	if histograms == 0 || series > 0 {
		return nil
	}
	return model.Errorf(model.KindQuery, model.SubjectPrometheus, "the query yields native histograms, which have no single value; apply histogram_quantile(), histogram_avg() or histogram_count()")
}

// queryError turns the engine's errors into ours.
func (s *Source) queryError(ctx context.Context, err error) error {
	var timeout promql.ErrQueryTimeout
	var cancelled promql.ErrQueryCanceled
	var storageErr promql.ErrStorage
	var tooMany promql.ErrTooManySamples
	switch {
	case ctx.Err() != nil:
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return model.WrapError(model.KindTimeout, model.SubjectPrometheus, ctx.Err(), "the query did not finish in the time that the caller allowed")
		}
		return fmt.Errorf("querying the embedded database: %w", ctx.Err())
	case errors.As(err, &timeout):
		return model.WrapError(model.KindTimeout, model.SubjectPrometheus, err, "the query did not finish within %s; ask for less time or fewer series", s.cfg.Query.Timeout)
	case errors.As(err, &cancelled):
		return model.WrapError(model.KindUnavailable, model.SubjectPrometheus, err, "the embedded database is closing")
	case errors.As(err, &tooMany):
		e := model.WrapError(model.KindQuery, model.SubjectPrometheus, err, "the query needs more than %d samples in memory; ask for less time or fewer series", s.cfg.Query.MaxSamples)
		e.Fields = []model.FieldError{{Pointer: "/query", Code: "size_limit", Detail: e.Message}}
		e.Context = map[string]any{"limit_samples": s.cfg.Query.MaxSamples}
		return e
	case errors.As(err, &storageErr):
		return model.WrapError(model.KindDatabase, model.SubjectPrometheus, err, "stored samples cannot be read; a part of the embedded database may be damaged")
	}
	e := model.WrapError(model.KindQuery, model.SubjectPrometheus, nil, "the query cannot be evaluated: %s", shown(err))
	e.Fields = []model.FieldError{{Pointer: "/query", Code: "execution", Detail: e.Message}}
	return e
}
