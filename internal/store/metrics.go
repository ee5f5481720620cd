package store

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
)

// metrics are the numbers of the store; they exist also without a registry.
type metrics struct {
	reg          prometheus.Registerer
	all          []prometheus.Collector
	commits      prometheus.Histogram
	waits        prometheus.Histogram
	batch        prometheus.Histogram
	failures     *prometheus.CounterVec
	batchRetries prometheus.Counter
	unheard      prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Store) (*metrics, error) {
	m := &metrics{
		reg: reg,
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "aiops_store_commit_duration_seconds",
			Help:    "Time of one transaction of the writer, its sync included.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15), NativeHistogramBucketFactor: 1.1}),
		waits: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "aiops_store_write_wait_seconds",
			Help:    "Time a write waited in the queue before its transaction began.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15), NativeHistogramBucketFactor: 1.1}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "aiops_store_commit_batch_writes",
			Help: "Writes that shared one transaction.", Buckets: prometheus.ExponentialBuckets(1, 2, 10)}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "aiops_store_commit_failures_total",
			Help: "Transactions of the writer that failed, by kind."}, []string{"kind"}),
		batchRetries: prometheus.NewCounter(prometheus.CounterOpts{Name: "aiops_store_batch_retries_total",
			Help: "Transactions that were split up because something in them spoilt the whole."}),
	}
	m.unheard = prometheus.NewCounter(prometheus.CounterOpts{Name: "aiops_store_announcements_dropped_total",
		Help: "Short texts of nodes to each other that were dropped because they came faster than they were taken."})
	for _, k := range []model.Kind{model.KindDatabase, model.KindUnavailable, model.KindStorageFull, model.KindTimeout} {
		m.failures.WithLabelValues(string(k))
	}
	gauge := func(name, help string, v func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, v)
	}
	m.all = []prometheus.Collector{m.commits, m.waits, m.batch, m.failures, m.batchRetries, m.unheard,
		gauge("aiops_store_queue_writes", "Writes waiting for the writer.", func() float64 { return float64(len(s.queue)) }),
		gauge("aiops_store_queue_capacity_writes", "Writes that may wait before callers block.", func() float64 { return float64(cap(s.queue)) }),
		newPoolCollector(map[string]*sql.DB{"writer": s.write.DB, "reader": s.read.DB}),
		gauge("aiops_store_failed", "1 after the store failed and the program has to exit.", func() float64 {
			if s.Err() != nil {
				return 1
			}
			return 0
		}),
	}
	if reg == nil {
		return m, nil
	}
	for i, c := range m.all {
		if err := reg.Register(c); err != nil {
			m.all = m.all[:i]
			return nil, errors.Join(fmt.Errorf("registering metrics: %w", err), m.unregister())
		}
	}
	return m, nil
}

// unregister takes the metrics out of the registry, for a store that is opened
// again in the same process.
func (m *metrics) unregister() error {
	if m.reg == nil {
		return nil
	}
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
	return nil
}

func (s *Store) observeBatch(batch []*write, start time.Time, err error) {
	s.metrics.commits.Observe(time.Since(start).Seconds())
	s.metrics.batch.Observe(float64(len(batch)))
	for _, w := range batch {
		s.metrics.waits.Observe(start.Sub(w.queued).Seconds())
	}
	if err == nil {
		return
	}
	kind, _ := s.eng.Classify(err)
	switch kind {
	case model.KindStorageFull, model.KindTimeout, model.KindUnavailable:
	default:
		var typed *model.Error
		if errors.As(err, &typed) {
			return // an answer to the caller, such as a conflict, not a failure
		}
		kind = model.KindDatabase
	}
	s.metrics.failures.WithLabelValues(string(kind)).Inc()
}

// poolCollector shows the connection pools of the database.
type poolCollector struct {
	pools               map[string]*sql.DB
	connections, most   *prometheus.Desc
	waits, waited, gone *prometheus.Desc
}

func newPoolCollector(pools map[string]*sql.DB) *poolCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("aiops_store_"+name, help, append([]string{"pool"}, labels...), nil)
	}
	return &poolCollector{pools: pools,
		connections: desc("connections", "Connections to the database.", "state"),
		most:        desc("connections_max", "Connections that may be open."),
		waits:       desc("connection_waits_total", "Times that work had to wait for a connection."),
		waited:      desc("connection_wait_seconds_total", "Time that work waited for a connection."),
		gone:        desc("connections_closed_total", "Connections closed because they were idle or old.", "reason"),
	}
}

// Describe implements prometheus.Collector.
func (c *poolCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.connections, c.most, c.waits, c.waited, c.gone} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *poolCollector) Collect(ch chan<- prometheus.Metric) {
	for name, db := range c.pools {
		s := db.Stats()
		send := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, t, v, append([]string{name}, labels...)...)
		}
		send(c.connections, prometheus.GaugeValue, float64(s.InUse), "in_use")
		send(c.connections, prometheus.GaugeValue, float64(s.Idle), "idle")
		send(c.most, prometheus.GaugeValue, float64(s.MaxOpenConnections))
		send(c.waits, prometheus.CounterValue, float64(s.WaitCount))
		send(c.waited, prometheus.CounterValue, s.WaitDuration.Seconds())
		send(c.gone, prometheus.CounterValue, float64(s.MaxIdleClosed+s.MaxIdleTimeClosed), "idle")
		send(c.gone, prometheus.CounterValue, float64(s.MaxLifetimeClosed), "old")
	}
}
