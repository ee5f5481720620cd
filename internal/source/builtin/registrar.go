package builtin

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// registrar is a Registerer that remembers what went through it, because the
// libraries register their metrics and never take them back.
type registrar struct {
	reg prometheus.Registerer // nil registers nothing

	mu      sync.Mutex
	done    []prometheus.Collector
	holding bool // until release nothing is registered
	held    []prometheus.Collector
}

// release registers what was held back: a library that goes on to set its
// metrics up after it has registered them must not have them read meanwhile.
func (r *registrar) release() error {
	r.mu.Lock()
	held := r.held
	r.holding, r.held = false, nil
	r.mu.Unlock()
	for _, c := range held {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// Register implements prometheus.Registerer.
func (r *registrar) Register(c prometheus.Collector) error {
	if r.reg == nil {
		return nil
	}
	r.mu.Lock()
	if r.holding {
		r.held = append(r.held, c)
		r.mu.Unlock()
		return nil
	}
	r.mu.Unlock()
	if err := r.reg.Register(c); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = append(r.done, c)
	return nil
}

// MustRegister implements prometheus.Registerer.
func (r *registrar) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			panic("BUG: registering metrics of the embedded source: " + err.Error())
		}
	}
}

// Unregister implements prometheus.Registerer.
func (r *registrar) Unregister(c prometheus.Collector) bool {
	return r.reg != nil && r.reg.Unregister(c)
}

// unregister takes everything back.
func (r *registrar) unregister() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.done {
		r.Unregister(c)
	}
	r.done = nil
}
