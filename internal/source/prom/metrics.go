package prom

import (
	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/source"
)

// metrics is what the way to the source does not measure by itself.
type metrics struct {
	reg     prometheus.Registerer
	dropped *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, name string) (*metrics, error) {
	m := &metrics{
		reg: prometheus.WrapRegistererWith(prometheus.Labels{"source": name}, reg),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aiops_source_samples_dropped_total",
			Help: "Samples of answers that were not passed on, by reason.",
		}, []string{"reason"}),
	}
	return m, m.reg.Register(m.dropped)
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

func (m *metrics) unregister() { m.reg.Unregister(m.dropped) }
