// Package health checks the components of the program in the background and
// says how the whole is doing.
//
// It owns when checks run, how long they may take, their last results and the
// history of changes. It knows no component: a check is a function. A reader
// never waits for a check, so a hung dependency cannot hang a probe.
package health

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// State is how a component is doing.
type State string

// The states, from best to worst. Unknown is a check that never finished.
const (
	Healthy   State = "healthy"
	Degraded  State = "degraded"
	Unhealthy State = "unhealthy"
	Unknown   State = "unknown"
)

// Result is what a check found.
type Result struct {
	State   State
	Message string         // for people; safe to show
	Details map[string]any // facts; safe to show
}

// CheckFunc looks at one component. It must return soon after ctx ends.
type CheckFunc func(ctx context.Context) Result

// Check is one row of the table of components.
type Check struct {
	Name     string
	Critical bool // an unhealthy critical component makes the program not ready
	Run      CheckFunc
}

// Component is the last known health of one component.
type Component struct {
	Name      string         `json:"name"`
	Status    State          `json:"status"`
	Message   string         `json:"message"`
	CheckedAt time.Time      `json:"checked_at"`
	Since     time.Time      `json:"since"`
	LatencyMS float64        `json:"latency_ms"`
	Details   map[string]any `json:"details,omitempty"`
	Critical  bool           `json:"critical"`
}

// Report is the health of the whole: the worst of its components, where a
// component that is not critical makes it degraded at most.
type Report struct {
	Status     State
	Components []Component
}

// Change is a component that went from one state to another.
type Change struct {
	Component string    `json:"component"`
	From      State     `json:"from"`
	To        State     `json:"to"`
	Message   string    `json:"message"`
	Time      time.Time `json:"time"`
}

// Config says how often and how long to check.
type Config struct {
	Interval time.Duration    // between two runs of a check; default 2 s
	Slow     time.Duration    // a run that takes longer is degraded; default 1 s
	Timeout  time.Duration    // for one run, which is unhealthy then; default 2 s
	Now      func() time.Time // default time.Now
	OnChange func(Change)     // called for each change in its order, and may take its time; may be nil
	History  int              // changes kept; default 100
}

// Monitor runs checks and keeps their results. Its methods are safe for
// concurrent use.
type Monitor struct {
	config Config
	checks []Check

	mu         sync.RWMutex
	components map[string]Component
	history    []Change

	changes chan Change // not told yet; those that do not fit are in the history alone
}

// NewMonitor returns a monitor of checks. Until a check has finished for the
// first time its component is unknown.
func NewMonitor(config Config, checks []Check) *Monitor {
	if config.Interval <= 0 {
		config.Interval = 2 * time.Second
	}
	if config.Slow <= 0 {
		config.Slow = time.Second
	}
	if config.Timeout <= 0 {
		config.Timeout = 2 * time.Second
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.History <= 0 {
		config.History = 100
	}
	m := &Monitor{config: config, checks: checks, components: make(map[string]Component, len(checks)), changes: make(chan Change, config.History)}
	for _, c := range checks {
		m.components[c.Name] = Component{Name: c.Name, Status: Unknown, Message: "not checked yet", Since: config.Now(), Critical: c.Critical}
	}
	return m
}

// Run checks every component now and then at each interval, each in its own
// goroutine, until ctx ends and the running checks have returned.
func (m *Monitor) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, c := range m.checks {
		running.Go(func() {
			tick := time.NewTicker(m.config.Interval)
			defer tick.Stop()
			for {
				m.step(ctx, c)
				if ctx.Err() != nil {
					return // a tick may be waiting too, and select would toss a coin
				}
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
		})
	}
	running.Go(func() { m.tell(ctx) })
	running.Wait()
	return nil
}

// tell calls OnChange beside the checks, because it may wait for the very
// component that a check has found unhealthy.
func (m *Monitor) tell(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case change := <-m.changes:
			if m.config.OnChange != nil {
				m.config.OnChange(change)
			}
		}
	}
}

// step runs one check once. A check that is slow counts as degraded at that
// moment, and one that outlives its timeout as unhealthy; step itself still waits
// for it, so that a check never runs twice at the same time.
func (m *Monitor) step(ctx context.Context, c Check) {
	began := m.config.Now()
	bounded, cancel := context.WithTimeout(ctx, m.config.Timeout)
	defer cancel()
	slow := time.NewTimer(m.config.Slow)
	defer slow.Stop()
	done := make(chan Result, 1)
	go func() { done <- run(bounded, c) }()
	late := false
	for {
		select {
		case r := <-done:
			if late && r.State == Healthy {
				r.State, r.Message = Degraded, "answers slowly: "+r.Message
			}
			m.record(c, r, began)
			return
		case <-slow.C:
			late = true
			if now, _ := m.Component(c.Name); now.Status != Unhealthy { // which it is until it answers
				m.record(c, Result{State: Degraded, Message: fmt.Sprintf("no answer within %s", m.config.Slow)}, began)
			}
		case <-bounded.Done():
			if ctx.Err() == nil {
				m.record(c, Result{State: Unhealthy, Message: fmt.Sprintf("no answer within %s", m.config.Timeout)}, began)
			}
			<-done
			return
		}
	}
}

// run calls a check and turns a panic into a result, because a check must not
// take the program down.
func run(ctx context.Context, c Check) (r Result) {
	defer func() {
		if p := recover(); p != nil {
			r = Result{State: Unhealthy, Message: fmt.Sprintf("the check panicked: %v", p)}
		}
	}()
	return c.Run(ctx)
}

func (m *Monitor) record(c Check, r Result, began time.Time) {
	now := m.config.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.components[c.Name]
	since := old.Since
	if old.Status != r.State {
		since = now
	}
	m.components[c.Name] = Component{
		Name: c.Name, Status: r.State, Message: r.Message, CheckedAt: now, Since: since,
		LatencyMS: float64(now.Sub(began).Microseconds()) / 1000, Details: r.Details, Critical: c.Critical,
	}
	if old.Status == r.State {
		return
	}
	change := Change{Component: c.Name, From: old.Status, To: r.State, Message: r.Message, Time: now}
	m.history = append(m.history, change)
	if extra := len(m.history) - m.config.History; extra > 0 {
		m.history = append(m.history[:0], m.history[extra:]...)
	}
	select {
	case m.changes <- change:
	default:
	}
}

// Report returns the last results, in the order of the table.
func (m *Monitor) Report() Report {
	m.mu.RLock()
	defer m.mu.RUnlock()
	components := make([]Component, 0, len(m.checks))
	for _, c := range m.checks {
		components = append(components, m.components[c.Name])
	}
	return Report{Status: Aggregate(components), Components: components}
}

// Component returns the last result of one component.
func (m *Monitor) Component(name string) (Component, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	c, ok := m.components[name]
	return c, ok
}

// History returns the latest changes, oldest first. The slice is a copy.
func (m *Monitor) History() []Change {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return append([]Change(nil), m.history...)
}

// Aggregate returns the health of a whole made of components.
func Aggregate(components []Component) State {
	worst := Healthy
	for _, c := range components {
		switch {
		case c.Status == Unhealthy && c.Critical:
			return Unhealthy
		case c.Status == Unknown && c.Critical:
			worst = Unknown
		case c.Status != Healthy && worst == Healthy:
			worst = Degraded
		}
	}
	return worst
}
