package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/health"
)

// measureCaches registers the metrics of what is kept in memory.
func (p *program) measureCaches() error {
	counter := func(cache, outcome, name, help string, f func() uint64) prometheus.Collector {
		labels := prometheus.Labels{"cache": cache}
		if outcome != "" {
			labels["outcome"] = outcome
		}
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "aiops_cache_" + name, Help: help, ConstLabels: labels}, func() float64 { return float64(f()) })
	}
	requests := func(cache, outcome string, f func() uint64) prometheus.Collector {
		return counter(cache, outcome, "requests_total", "Requests by cache and outcome: hit, partial (a part was asked for), miss, or passed (cannot be kept).", f)
	}
	gauge := func(cache, name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "aiops_cache_" + name, Help: help, ConstLabels: prometheus.Labels{"cache": cache}}, f)
	}
	const size, ratio = "What the cache holds, in bytes.", "Share of the requests since the start that were hits; 0 when there were none."
	r, q := p.responses.Stats, p.queries.Stats
	var errs []error
	for _, c := range []prometheus.Collector{
		requests("responses", "hit", func() uint64 { return r().Hits }),
		requests("responses", "miss", func() uint64 { return r().Misses }),
		requests("queries", "hit", func() uint64 { return q().Hits }),
		requests("queries", "partial", func() uint64 { return q().Partial }),
		requests("queries", "miss", func() uint64 { return q().Misses }),
		requests("queries", "passed", func() uint64 { return q().Passed }),
		counter("queries", "", "steps_kept_total", "Steps of range queries answered from memory.", func() uint64 { return q().StepsKept }),
		counter("queries", "", "steps_asked_total", "Steps of range queries that a source was asked for.", func() uint64 { return q().StepsAsked }),
		gauge("responses", "bytes", size, func() float64 { return float64(r().Bytes) }),
		gauge("queries", "bytes", size, func() float64 { return float64(q().Bytes) }),
		gauge("responses", "hit_ratio", ratio, func() float64 { return share(r().Hits, r().Misses) }),
		gauge("queries", "hit_ratio", ratio, func() float64 { return share(q().Hits, q().Partial+q().Misses) }),
	} {
		errs = append(errs, p.registry.Register(c))
	}
	return errors.Join(errs...)
}

func share(hits, others uint64) float64 {
	if hits+others == 0 {
		return 0
	}
	return float64(hits) / float64(hits+others)
}

// checkCache sends an answer through the cache of answers and back, and tells
// how useful the caches are.
func (p *program) checkCache(context.Context) health.Result {
	r, q := p.responses.Stats(), p.queries.Stats()
	details := map[string]any{
		"responses_hit_ratio": share(r.Hits, r.Misses), "responses_entries": r.Entries, "responses_bytes": r.Bytes, "responses_max_bytes": r.MaxBytes,
		"queries_hit_ratio": share(q.Hits, q.Partial+q.Misses), "queries_entries": q.Entries, "queries_bytes": q.Bytes, "queries_max_bytes": q.MaxBytes,
	}
	if err := p.responses.RoundTrip(); err != nil {
		return health.Result{State: health.Degraded, Message: err.Error(), Details: details}
	}
	return health.Result{State: health.Healthy, Message: fmt.Sprintf("%d answers and %d ranges are kept", r.Entries, q.Entries), Details: details}
}
