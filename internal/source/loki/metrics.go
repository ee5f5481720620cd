package loki

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics is what the way to the source does not measure by itself.
type metrics struct {
	reg        prometheus.Registerer
	collectors []prometheus.Collector

	lines     prometheus.Counter
	repeated  prometheus.Counter
	cut       prometheus.Counter
	missed    prometheus.Counter
	tails     prometheus.Gauge
	connected prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, name string) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "aiops_source_loki_" + name, Help: help})
	}
	m := &metrics{
		reg:       prometheus.WrapRegistererWith(prometheus.Labels{"source": name}, reg),
		lines:     counter("lines_total", "Log lines that were handed on by followed queries."),
		repeated:  counter("lines_repeated_total", "Log lines that came by the tail and by a query, and were handed on once."),
		cut:       counter("lines_cut_total", "Log lines that were longer than what is kept."),
		missed:    counter("lines_missed_total", "Times at which one nanosecond held more lines than the source gives at once, so that the rest could not be read."),
		connected: counter("tail_connections_total", "Connections of the live tail that were opened."),
		tails:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "aiops_source_loki_tails", Help: "Connections of the live tail that are open."}),
	}
	m.collectors = []prometheus.Collector{m.lines, m.repeated, m.cut, m.missed, m.connected, m.tails}
	for i, c := range m.collectors {
		if err := m.reg.Register(c); err != nil {
			m.collectors = m.collectors[:i]
			m.unregister()
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	for _, c := range m.collectors {
		m.reg.Unregister(c)
	}
}
