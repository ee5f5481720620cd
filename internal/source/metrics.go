package source

import (
	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
)

// healthCollector shows a tracker's state as a metric.
type healthCollector struct {
	tracker *Tracker
	desc    *prometheus.Desc
}

// NewHealthCollector returns a collector of aiops_source_health: one series a
// state, 1 for the one that holds and 0 for the others. Register it with a
// label that names the source.
func NewHealthCollector(t *Tracker) prometheus.Collector {
	return healthCollector{t, prometheus.NewDesc("aiops_source_health", "1 for the state that the source is in.", []string{"state"}, nil)}
}

// Describe implements prometheus.Collector.
func (c healthCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c healthCollector) Collect(ch chan<- prometheus.Metric) {
	now := c.tracker.Health().State
	for _, s := range []model.HealthState{model.SourceUp, model.SourceDegraded, model.SourceDown, model.SourceStale, model.SourceUnknown} {
		v := 0.0
		if s == now {
			v = 1
		}
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, v, string(s))
	}
}
