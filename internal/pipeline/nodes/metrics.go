package nodes

import "github.com/prometheus/client_golang/prometheus"

// metrics are the member's own. No label names a node or a detector.
type metrics struct {
	renewals *prometheus.CounterVec
	moves    *prometheus.CounterVec
	owned    prometheus.GaugeFunc
	nodes    prometheus.GaugeFunc
}

func newMetrics(m *Member) *metrics {
	out := &metrics{
		renewals: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "aiops_pipeline_lease_renewals_total",
			Help: "Renewals of this node's lease by outcome: done, failed, or displaced by a process with the same data directory's name."}, []string{"outcome"}),
		moves: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "aiops_pipeline_lease_moves_total",
			Help: "Detectors that this node took, or gave to another in order."}, []string{"move"}),
		owned: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "aiops_pipeline_owned_detectors",
			Help: "Detectors that this node owns among those that share its database."}, func() float64 {
			m.mu.Lock()
			defer m.mu.Unlock()
			return float64(len(m.held))
		}),
		nodes: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "aiops_pipeline_live_nodes",
			Help: "Nodes that share the database and live, as this one saw last, itself included."}, func() float64 {
			m.mu.Lock()
			defer m.mu.Unlock()
			return float64(len(m.hosts))
		}),
	}
	for _, outcome := range []string{"done", "failed", "displaced"} {
		out.renewals.WithLabelValues(outcome)
	}
	for _, move := range []string{"taken", "given"} {
		out.moves.WithLabelValues(move)
	}
	return out
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.renewals, m.moves, m.owned, m.nodes}
}
