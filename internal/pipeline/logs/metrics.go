package logs

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the stage's own. No label carries anything from a line.
type metrics struct {
	lines   *prometheus.CounterVec
	refused prometheus.Counter
	dropped prometheus.Counter
	unsaved prometheus.Counter
	births  prometheus.Counter
}

// The outcomes of lines.
const (
	outcomeCounted = "counted"
	outcomeLate    = "late"
	outcomeRefused = "refused" // told to come again
)

func newMetrics() *metrics {
	m := &metrics{
		lines:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "aiops_logs_lines_total", Help: "Lines taken, by what became of their count: counted, late (after the end of their bucket), refused (the sender was told to come again)."}, []string{"outcome"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "aiops_logs_refused_samples_total", Help: "Writes of counts of which the database refused samples, for example beyond its limit on series."}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{Name: "aiops_logs_dropped_buckets_total", Help: "Buckets whose counts were given up because they could not be written for too long, or lay in a pause."}),
		unsaved: prometheus.NewCounter(prometheus.CounterOpts{Name: "aiops_logs_state_errors_total", Help: "Times that the state was not stored or not read."}),
		births:  prometheus.NewCounter(prometheus.CounterOpts{Name: "aiops_logs_new_templates_total", Help: "Templates seen for the first time in a stream after its learning time."}),
	}
	for _, o := range []string{outcomeCounted, outcomeLate, outcomeRefused} {
		m.lines.WithLabelValues(o)
	}
	return m
}

// register adds the metrics and the sizes of s to reg.
func (m *metrics) register(reg prometheus.Registerer, s *Stage) error {
	gauge := func(name, help string, f func(Stats) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return f(s.Stats()) })
	}
	for _, c := range []prometheus.Collector{m.lines, m.refused, m.dropped, m.unsaved, m.births,
		gauge("aiops_logs_templates", "Templates that are known.", func(s Stats) float64 { return float64(s.Templates) }),
		gauge("aiops_logs_streams", "Streams that are counted apart.", func(s Stats) float64 { return float64(s.Streams) }),
		gauge("aiops_logs_template_series", "Series of single templates that are written.", func(s Stats) float64 { return float64(s.Series) }),
		gauge("aiops_logs_waiting_buckets", "Closed buckets whose counts are not written yet.", func(s Stats) float64 { return float64(s.Waiting) }),
		gauge("aiops_logs_miner_bytes", "Memory of the template miner.", func(s Stats) float64 { return float64(s.MinerBytes) }),
	} {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	return nil
}
