package builtin

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	appended *prometheus.CounterVec
	refused  *prometheus.CounterVec
	queries  *prometheus.CounterVec
	writes   *prometheus.CounterVec
	duration prometheus.Histogram
	gauges   []prometheus.Collector
}

func newMetrics(s *Source) *metrics {
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	return &metrics{
		appended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aiops_source_builtin_samples_appended_total",
			Help: "Samples written, by where they came from.",
		}, []string{"origin"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aiops_source_builtin_samples_refused_total",
			Help: "Samples that were not written, by where they came from and why.",
		}, []string{"origin", "reason"}),
		queries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aiops_source_builtin_queries_total",
			Help: "Queries evaluated, by outcome.",
		}, []string{"outcome"}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aiops_source_builtin_remote_write_requests_total",
			Help: "Remote-write requests, by the status of the answer.",
		}, []string{"status"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "aiops_source_builtin_query_duration_seconds",
			Help:    "Time of evaluating a query, with the wait for its turn.",
			Buckets: []float64{.001, .005, .025, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
		gauges: []prometheus.Collector{
			gauge("aiops_source_builtin_series", "Series in memory.", func() float64 { return float64(s.db.Head().NumSeries()) }),
			gauge("aiops_source_builtin_series_limit", "Series beyond which new ones are refused.", func() float64 { return float64(s.cfg.MaxSeries) }),
			gauge("aiops_source_builtin_queries_in_flight", "Queries being evaluated.", func() float64 { return float64(s.slots.used()) }),
			gauge("aiops_source_builtin_quarantined", "Damaged parts of the database that were moved aside when the database was opened.", func() float64 { return float64(len(s.db.quarantined)) }),
		},
	}
}

func (m *metrics) all() []prometheus.Collector {
	return append([]prometheus.Collector{m.appended, m.refused, m.queries, m.writes, m.duration}, m.gauges...)
}
