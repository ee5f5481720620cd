package outward

import (
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/source"
	"aiops/internal/telemetry"
)

type metrics struct {
	reg        prometheus.Registerer
	collectors []prometheus.Collector

	requests *prometheus.CounterVec
	duration prometheus.Histogram
	wait     prometheus.Histogram
	retries  prometheus.Counter
	bytes    prometheus.Counter
	dialled  prometheus.Counter
}

// newMetrics makes the metrics of p, without registering them.
func newMetrics(reg prometheus.Registerer, p *Peer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	m := &metrics{
		reg: prometheus.WrapRegistererWith(prometheus.Labels{"source": p.cfg.Source.Name}, reg),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aiops_source_requests_total",
			Help: "Requests to the source by outcome; refused ones were not sent.",
		}, []string{"outcome"}),
		duration: prometheus.NewHistogram(telemetry.Histogram("aiops_source_request_duration_seconds",
			"Time from sending a request to having read its answer.", .005, .05, .25, 1, 5, 30)),
		wait: prometheus.NewHistogram(telemetry.Histogram("aiops_source_connection_wait_seconds",
			"Time that a request waited for a connection.", .001, .01, .1, 1, 3)),
		retries: counter("aiops_source_retries_total", "Requests that repeated a failed one."),
		bytes:   counter("aiops_source_answer_bytes_total", "Bytes of answers read, after decompression."),
		dialled: counter("aiops_source_connections_opened_total", "Connections made."),
	}
	m.collectors = []prometheus.Collector{
		m.requests, m.duration, m.wait, m.retries, m.bytes, m.dialled,
		gauge("aiops_source_requests_in_flight", "Requests under way.", func() float64 { return float64(p.guard.running.Load()) }),
		gauge("aiops_source_requests_waiting", "Requests that wait for one under way to end.", func() float64 { return float64(p.guard.waiting.Load()) }),
		gauge("aiops_source_requests_in_flight_max", "Requests that may be under way.", func() float64 { return float64(p.cfg.Concurrency) }),
		gauge("aiops_source_connections_open", "Connections open, idle ones included.", func() float64 { return float64(p.pool.open.Load()) }),
		gauge("aiops_source_connections_in_use", "Requests that hold a connection.", func() float64 { return float64(p.pool.inUse.Load()) }),
		gauge("aiops_source_connections_max", "Connections that may be open.", func() float64 { return float64(p.cfg.MaxConnections) }),
		gauge("aiops_source_retry_budget", "Repetitions that are allowed now.", func() float64 { return p.guard.budget.left() }),
		gauge("aiops_source_breaker_state", "State of the circuit breaker: 0 closed, 1 half open, 2 open.", func() float64 { return breakerState(p.guard.breaker.State()) }),
		source.NewHealthCollector(p.tracker),
	}
	for _, o := range []Outcome{OutcomeOK, OutcomeUnavailable, OutcomeRefused} {
		m.requests.WithLabelValues(string(o))
	}
	return m
}

func (m *metrics) count(o Outcome) { m.requests.WithLabelValues(string(o)).Inc() }

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

func (m *metrics) unregister() {
	for _, c := range m.collectors {
		m.reg.Unregister(c)
	}
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
