package pipeline

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
)

// metrics are the engine's own. Their labels are bounded: none names a
// detector, a series or a source.
type metrics struct {
	evaluations        *prometheus.CounterVec
	evaluationDuration prometheus.Histogram
	queryDuration      prometheus.Histogram
	samples            prometheus.Counter
	transitions        *prometheus.CounterVec
	holds              *prometheus.CounterVec
	panics             prometheus.Counter
	wedged             prometheus.Counter
	lostSeries         prometheus.Counter
	snapshotDuration   prometheus.Histogram
	snapshotBytes      prometheus.Counter
	snapshotErrors     prometheus.Counter
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "aiops_pipeline_" + name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "aiops_pipeline_" + name, Help: help}, []string{label})
	}
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: "aiops_pipeline_" + name, Help: help,
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 60}})
	}
	m := &metrics{
		evaluations:        vec("evaluations_total", "Evaluations by outcome: done or failed.", "outcome"),
		evaluationDuration: histogram("evaluation_duration_seconds", "Time of one evaluation, its query included."),
		queryDuration:      histogram("query_duration_seconds", "Time of one query to a source."),
		samples:            counter("samples_scored_total", "Samples scored and learned, history included."),
		transitions:        vec("anomaly_transitions_total", "What happened to episodes.", "transition"),
		holds:              vec("holds_total", "Times that nothing was evaluated because the data or the store could not be trusted.", "reason"),
		panics:             counter("panics_total", "Evaluations that panicked."),
		wedged:             counter("wedged_evaluations_total", "Evaluations that did not return in time."),
		lostSeries:         counter("snapshot_lost_series_total", "Series of damaged snapshots that learn again."),
		snapshotDuration:   histogram("snapshot_duration_seconds", "Time to encode and store one snapshot."),
		snapshotBytes:      counter("snapshot_written_bytes_total", "Size of the snapshots written."),
		snapshotErrors:     counter("snapshot_errors_total", "Snapshots that could not be stored."),
	}
	for _, outcome := range []string{"done", "failed"} {
		m.evaluations.WithLabelValues(outcome)
	}
	for tr := transitionPending; tr <= transitionCancelled; tr++ {
		m.transitions.WithLabelValues(tr.String())
	}
	for _, reason := range []string{holdSource, holdQuery, holdLate, holdClock, holdStore} {
		m.holds.WithLabelValues(reason)
	}
	return m
}

func (m *metrics) evaluated(d time.Duration) {
	m.evaluations.WithLabelValues("done").Inc()
	m.evaluationDuration.Observe(d.Seconds())
}

// collector shows sums over the detectors when it is asked.
type collector struct {
	e         *Engine
	detectors *prometheus.Desc
	series    *prometheus.Desc
	open      *prometheus.Desc
	lag       *prometheus.Desc
	memory    *prometheus.Desc
	promoted  *prometheus.Desc
}

func newCollector(e *Engine) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("aiops_pipeline_"+name, help, labels, nil)
	}
	return &collector{
		e:         e,
		detectors: desc("detectors", "Detectors by state.", "state"),
		series:    desc("series", "Series by state: active ones include those that learn; dropped ones are beyond a cap.", "state"),
		open:      desc("open_anomalies", "Pending and firing anomalies."),
		lag:       desc("lag_seconds", "Longest time from the last step that is due to the last one evaluated, by state of the detector.", "state"),
		memory:    desc("model_memory_bytes", "Memory of all model state."),
		promoted:  desc("promoted_series", "Series whose model auto was promoted: on trial, or scored as by deep.", "state"),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.detectors, c.series, c.open, c.lag, c.memory, c.promoted} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	states := []model.DetectorState{model.DetectorLearning, model.DetectorRunning, model.DetectorStopped, model.DetectorDegraded, model.DetectorFailed}
	count := map[model.DetectorState]int{}
	lag := map[model.DetectorState]time.Duration{}
	var active, learning, dropped, open, trials, deep int
	for _, r := range c.e.all() {
		if !r.here() {
			continue // counted by its own node
		}
		s := r.state()
		count[s.State]++
		lag[s.State] = max(lag[s.State], s.Lag)
		active += s.SeriesActive
		learning += s.SeriesLearning
		dropped += s.SeriesDropped
		open += s.OpenAnomalies
		r.mu.Lock()
		trials, deep = trials+r.status.trials, deep+r.status.deep
		r.mu.Unlock()
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, s := range states {
		gauge(c.detectors, float64(count[s]), string(s))
		gauge(c.lag, lag[s].Seconds(), string(s))
	}
	gauge(c.series, float64(active), "active")
	gauge(c.series, float64(learning), "learning")
	gauge(c.series, float64(dropped), "dropped")
	gauge(c.open, float64(open))
	gauge(c.memory, float64(c.e.memory.Load()))
	gauge(c.promoted, float64(trials), "trial")
	gauge(c.promoted, float64(deep), "deep")
}

func (m *metrics) register(reg prometheus.Registerer, e *Engine) error {
	for _, c := range []prometheus.Collector{m.evaluations, m.evaluationDuration, m.queryDuration, m.samples, m.transitions, m.holds,
		m.panics, m.wedged, m.lostSeries, m.snapshotDuration, m.snapshotBytes, m.snapshotErrors, newCollector(e)} {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	return nil
}
