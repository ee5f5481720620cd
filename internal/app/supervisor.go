package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// How a part that failed is started again.
const (
	restartFirst  = time.Second
	restartLonger = time.Minute     // the wait doubles up to here
	restartCalm   = 5 * time.Minute // a part that ran this long has recovered
)

// supervisor runs parts that can begin anew: one that panics or ends by itself
// is started again, after a wait that doubles, and shows in the system's health
// until it has run for five minutes. Its methods are safe for concurrent use.
type supervisor struct {
	log      *slog.Logger
	restarts *prometheus.CounterVec
	now      func() time.Time

	mu      sync.Mutex
	trouble map[string]trouble // by part
}

type trouble struct {
	at     time.Time
	reason string
}

func newSupervisor(log *slog.Logger, reg prometheus.Registerer) *supervisor {
	s := &supervisor{log: log, now: time.Now, trouble: map[string]trouble{},
		restarts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aiops_app_restarts_total", Help: "Times that a part of the program failed and was started again.",
		}, []string{"part"})}
	reg.MustRegister(s.restarts)
	return s
}

// run runs f until ctx ends, however often it fails, and returns nil.
func (s *supervisor) run(ctx context.Context, part string, f func(ctx context.Context) error) error {
	s.restarts.WithLabelValues(part)
	wait := restartFirst
	for {
		began := s.now()
		err := guard(part, ctx, f)
		if ctx.Err() != nil {
			s.forget(part)
			return nil //nolint:nilerr // it ended because it was asked to
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		if s.now().Sub(began) > restartCalm {
			wait = restartFirst
		}
		s.restarts.WithLabelValues(part).Inc()
		s.note(part, err)
		s.log.Error("a part of the program failed; it is started again", "part", part, "err", err, "wait", wait)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			s.forget(part)
			return nil
		case <-timer.C:
		}
		wait = min(2*wait, restartLonger)
	}
}

func (s *supervisor) note(part string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble[part] = trouble{s.now(), safeMessage(err)}
}

func (s *supervisor) forget(part string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.trouble, part)
}

// troubled names the parts that failed within the last minutes.
func (s *supervisor) troubled() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var parts []string
	for part, t := range s.trouble {
		if s.now().Sub(t.at) > restartCalm {
			delete(s.trouble, part)
			continue
		}
		parts = append(parts, fmt.Sprintf("%s (%s)", part, t.reason))
	}
	slices.Sort(parts)
	return parts
}
