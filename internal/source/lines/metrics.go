package lines

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
)

type metrics struct {
	reg        prometheus.Registerer
	collectors []prometheus.Collector
}

// newMetrics registers the store's metrics with reg.
func newMetrics(s *Store, reg prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help string, read func(model.LogStats) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "aiops_source_lines_" + name, Help: help}, func() float64 { return read(s.Stats()) })
	}
	counter := func(name, help string, read func(model.LogStats) float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "aiops_source_lines_" + name, Help: help}, func() float64 { return read(s.Stats()) })
	}
	m := &metrics{reg: reg, collectors: []prometheus.Collector{
		gauge("held", "Log lines in the store.", func(st model.LogStats) float64 { return float64(st.Lines) }),
		gauge("bytes", "What the store takes on disk.", func(st model.LogStats) float64 { return float64(st.Bytes) }),
		counter("appended_total", "Log lines taken.", func(st model.LogStats) float64 { return float64(st.Appended) }),
		counter("expired_total", "Log lines given up, by age or by the bound on bytes.", func(st model.LogStats) float64 { return float64(st.Expired) }),
		counter("damaged_total", "Segments and blocks left out because they could not be read.", func(st model.LogStats) float64 { return float64(st.Damaged) }),
	}}
	for i, c := range m.collectors {
		if err := reg.Register(c); err != nil {
			m.collectors = m.collectors[:i]
			m.unregister()
			return nil, fmt.Errorf("registering the metrics of the store of lines: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	for _, c := range m.collectors {
		m.reg.Unregister(c)
	}
}
