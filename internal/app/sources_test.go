package app

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
)

// healthTable keeps what is said of sources.
type healthTable struct {
	provisionTable
	fail  error
	wrote []model.HealthState
	read  int
}

func (s *healthTable) SetSourceHealth(_ context.Context, _ string, h model.SourceHealth) error {
	if s.fail == nil {
		s.wrote = append(s.wrote, h.State)
	}
	return s.fail
}

func (s *healthTable) NodesSourceHealth(context.Context) (map[string][]model.NodeHealth, error) {
	s.read++
	out := map[string][]model.NodeHealth{}
	if n := len(s.wrote); n > 0 {
		out["main"] = []model.NodeHealth{{Mine: true, SourceHealth: model.SourceHealth{State: s.wrote[n-1]}}}
	}
	return out, nil
}

// healthy is a client of which only the health is asked.
type healthy struct {
	client
	state model.HealthState
}

func (h *healthy) Health() model.SourceHealth { return model.SourceHealth{State: h.state} }

// A health that could not be written is written with the next look, once; what other
// nodes say is asked for only where there can be some.
func TestHealthThatWasNotWrittenIsWrittenAgain(t *testing.T) {
	t.Parallel()
	for _, shared := range []bool{false, true} {
		store := &healthTable{fail: errors.New("no space")}
		main := &healthy{state: model.SourceUp}
		s := &sources{store: store, shared: shared, log: slog.New(slog.DiscardHandler), registerer: prometheus.NewRegistry(),
			clients: map[string]*running{"main": {client: main}}, written: map[string]model.HealthState{}}
		look := func(want ...model.HealthState) {
			t.Helper()
			if err := s.compareHealth(t.Context()); (err == nil) != (store.fail == nil) {
				t.Errorf("shared %v: %v", shared, err)
			}
			if len(store.wrote) != len(want) || len(want) > 0 && store.wrote[len(want)-1] != want[len(want)-1] {
				t.Errorf("shared %v: wrote %v, want %v", shared, store.wrote, want)
			}
		}
		look()
		store.fail = nil
		look(model.SourceUp)
		look(model.SourceUp)
		main.state = model.SourceDown
		look(model.SourceUp, model.SourceDown)
		look(model.SourceUp, model.SourceDown)
		if (store.read > 0) != shared {
			t.Errorf("shared %v: other nodes were asked for %d times", shared, store.read)
		}
	}
}
