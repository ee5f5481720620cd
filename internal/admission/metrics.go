package admission

import "github.com/prometheus/client_golang/prometheus"

// instruments are the package's metrics. Their labels are classes and reasons.
type instruments struct {
	admitted [classes]prometheus.Counter
	refused  *prometheus.CounterVec
	changes  prometheus.Counter

	overloaded [classes]prometheus.Counter // of refused
}

func newInstruments(r prometheus.Registerer, a *Admission) (*instruments, error) {
	admitted := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "aiops_admission_admitted_total", Help: "Requests let in, by class."}, []string{"class"})
	m := &instruments{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aiops_admission_refused_total", Help: "Requests refused, by class and reason: overloaded, client_rate, key_rate, heavy or body."}, []string{"class", "reason"}),
		changes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "aiops_admission_load_changes_total", Help: "Changes of the load state."}),
	}
	for c := Probe; c < classes; c++ {
		m.admitted[c] = admitted.WithLabelValues(c.String())
		if c >= Ingest {
			m.overloaded[c] = m.refused.WithLabelValues(c.String(), "overloaded")
		}
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "aiops_admission_" + name, Help: help}, f)
	}
	for _, c := range []prometheus.Collector{
		admitted, m.refused, m.changes,
		gauge("limit", "Requests that may be in flight now.", func() float64 { return float64(a.limiter.state().limit) }),
		gauge("in_flight", "Requests in flight that count.", func() float64 { return float64(a.limiter.state().inFlight) }),
		gauge("queued", "Requests that wait a moment for a place.", func() float64 { return float64(a.limiter.state().queued) }),
		gauge("clients", "Clients whose rate is remembered.", func() float64 { return float64(a.clients.buckets.EstimatedSize()) }),
		gauge("load_state", "How hard pressed the program is: 0 normal, 1 elevated, 2 overloaded.", func() float64 { return float64(a.State().rank()) }),
		gauge("cpu_wait_seconds", "How long work waits for a CPU, 90th percentile of the last tenth of a second.", func() float64 { return a.Load().CPUWait.Seconds() }),
		gauge("memory_ratio", "Share of the memory that may be used.", func() float64 { return a.Load().MemoryRatio }),
	} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
