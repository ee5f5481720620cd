package prom

import (
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/source"
)

type metrics struct {
	reg        prometheus.Registerer
	collectors []prometheus.Collector

	requests *prometheus.CounterVec
	duration prometheus.Histogram
	retries  prometheus.Counter
	bytes    prometheus.Counter
	dropped  *prometheus.CounterVec
}

// newMetrics makes the metrics of c, without registering them.
func newMetrics(reg prometheus.Registerer, c *Client) *metrics {
	m := &metrics{
		reg: prometheus.WrapRegistererWith(prometheus.Labels{"source": c.cfg.Source.Name}, reg),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aiops_source_prom_requests_total",
			Help: "Requests to the source by outcome; refused ones were not sent.",
		}, []string{"outcome"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "aiops_source_prom_request_duration_seconds",
			Help:    "Time from sending a request to having read its answer.",
			Buckets: []float64{.005, .025, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "aiops_source_prom_retries_total",
			Help: "Requests that repeated a failed one.",
		}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "aiops_source_prom_answer_bytes_total",
			Help: "Bytes of answers read, after decompression.",
		}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aiops_source_prom_samples_dropped_total",
			Help: "Samples of answers that were not passed on, by reason.",
		}, []string{"reason"}),
	}
	m.collectors = []prometheus.Collector{
		m.requests, m.duration, m.retries, m.bytes, m.dropped,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "aiops_source_prom_requests_in_flight",
			Help: "Requests under way.",
		}, func() float64 { return float64(c.running.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "aiops_source_prom_breaker_state",
			Help: "State of the circuit breaker: 0 closed, 1 half open, 2 open.",
		}, func() float64 { return breakerState(c.guard.breaker.State()) }),
		source.NewHealthCollector(c.tracker),
	}
	return m
}

func (m *metrics) register() error {
	for i, col := range m.collectors {
		if err := m.reg.Register(col); err != nil {
			m.collectors = m.collectors[:i]
			m.unregister()
			return err
		}
	}
	return nil
}

func breakerState(s circuitbreaker.State) float64 {
	switch s {
	case circuitbreaker.ClosedState:
		return 0
	case circuitbreaker.HalfOpenState:
		return 1
	default:
		return 2
	}
}

// count notes what cleaning removed.
func (m *metrics) count(did source.Cleaned) {
	for reason, n := range map[string]int{
		"stale": did.Stale, "misaligned": did.Misaligned, "duplicate": did.Duplicates, "histogram": did.Histograms,
	} {
		if n > 0 {
			m.dropped.WithLabelValues(reason).Add(float64(n))
		}
	}
}

func (m *metrics) unregister() {
	for _, c := range m.collectors {
		m.reg.Unregister(c)
	}
}
