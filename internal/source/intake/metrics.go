package intake

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	reg        prometheus.Registerer
	collectors []prometheus.Collector

	lines    *prometheus.CounterVec
	dropped  *prometheus.CounterVec
	cut      *prometheus.CounterVec
	requests *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "aiops_source_intake_" + name, Help: help}, labels)
	}
	m := &metrics{
		reg:      reg,
		lines:    counter("lines_total", "Log lines that were taken, by receiver.", "receiver"),
		dropped:  counter("lines_dropped_total", "Log lines that were not passed on, by receiver and reason; senders keep those that were refused.", "receiver", "reason"),
		cut:      counter("lines_cut_total", "Log lines that were longer than what is kept.", "receiver"),
		requests: counter("requests_total", "Requests that bring log lines, by receiver and status.", "receiver", "status"),
	}
	m.collectors = []prometheus.Collector{m.lines, m.dropped, m.cut, m.requests}
	for i, c := range m.collectors {
		if err := reg.Register(c); err != nil {
			m.collectors = m.collectors[:i]
			m.unregister()
			return nil, fmt.Errorf("registering the metrics of the receivers of lines: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	for _, c := range m.collectors {
		m.reg.Unregister(c)
	}
}
