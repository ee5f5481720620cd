package app

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"aiops/internal/admission"
	"aiops/internal/health"
	"aiops/internal/model"
	"aiops/internal/space"
)

// checks is the table of components.
func (p *program) checks() []health.Check {
	return []health.Check{
		{Name: "system", Run: p.checkSystem},
		{Name: "database", Critical: true, Run: p.checkDatabase},
		{Name: "cache", Run: p.checkCache},
		{Name: "websocket", Run: p.live.Check},
		{Name: "detector", Run: p.checkDetectors},
		{Name: "prometheus", Run: p.checkSources(model.SourcePrometheus, model.SourceBuiltin)},
		{Name: "loki", Run: p.checkSources(model.SourceLoki)},
	}
}

// checkSystem looks at the space on the data directory's file system and at
// the load.
func (p *program) checkSystem(context.Context) health.Result {
	disk, err := p.disk.Usage()
	if err != nil {
		return health.Result{State: health.Degraded, Message: "the free space is not known"}
	}
	r := health.Result{State: health.Healthy, Message: "the disk has space", Details: map[string]any{"uptime_seconds": time.Since(p.started).Seconds()}}
	if disk.State != space.Unknown {
		r.Message = fmt.Sprintf("%.0f %% of the disk is used", disk.UsedShare*100)
		r.Details["disk_used_ratio"], r.Details["disk_free_bytes"] = disk.UsedShare, disk.FreeBytes
	}
	load := p.admission.Load()
	r.Details["load_state"], r.Details["load_since"], r.Details["load_reason"] = string(load.State), load.Since, load.Reason
	r.Details["requests_in_flight"], r.Details["requests_limit"], r.Details["requests_refused"] = load.InFlight, load.Limit, load.Refused
	r.Details["cpu_wait_ms"], r.Details["memory_used_ratio"] = float64(load.CPUWait.Microseconds())/1000, load.MemoryRatio
	if load.State == admission.Overloaded {
		r.State, r.Message = health.Degraded, r.Message+"; overloaded: "+load.Reason
	}
	if failed := p.parts.troubled(); len(failed) > 0 {
		r.State, r.Message = health.Degraded, r.Message+"; started again after a failure: "+strings.Join(failed, ", ")
		r.Details["restarted_parts"] = failed
	}
	switch disk.State {
	case space.ReadOnly:
		r.State, r.Message = health.Unhealthy, r.Message+"; writes are refused until there is space"
	case space.Warning:
		r.State, r.Message = health.Degraded, r.Message+"; free some space soon"
	}
	return r
}

// checkDatabase writes and reads a row.
func (p *program) checkDatabase(ctx context.Context) health.Result {
	details := map[string]any{"engine": p.store.Engine()}
	if err := p.store.Ping(ctx); err != nil {
		state := health.Unhealthy
		if model.KindOf(err) == model.KindStorageFull {
			state = health.Degraded // reading works
		}
		return health.Result{State: state, Message: safeMessage(err), Details: details}
	}
	return health.Result{State: health.Healthy, Message: "writes and reads", Details: details}
}

// checkDetectors looks at every detector's state.
func (p *program) checkDetectors(ctx context.Context) health.Result {
	detectors, err := p.store.AllDetectors(ctx)
	if err != nil {
		return health.Result{State: health.Unknown, Message: "the detectors cannot be read: " + safeMessage(err)}
	}
	count, here := map[model.DetectorState]int{}, 0
	var lag time.Duration
	for _, d := range detectors {
		if owns, _ := p.engine.Owns(d.ID); !owns {
			continue // another node tells of it
		}
		here++
		status, ok := p.engine.Status(d.ID)
		if !ok {
			continue
		}
		count[status.State]++
		lag = max(lag, status.Lag)
	}
	details := map[string]any{"lag_seconds": lag.Seconds()}
	for state, n := range count {
		details[string(state)] = n
	}
	bad := count[model.DetectorFailed] + count[model.DetectorDegraded]
	if bad > 0 {
		return health.Result{State: health.Degraded, Message: fmt.Sprintf("%d of %d detectors are failed or degraded", bad, here), Details: details}
	}
	message := fmt.Sprintf("%d detectors", here)
	if here != len(detectors) {
		message = fmt.Sprintf("%d of %d detectors are evaluated by this node", here, len(detectors))
	}
	return health.Result{State: health.Healthy, Message: message, Details: details}
}

// checkSources looks at the last known health of the sources of some types.
func (p *program) checkSources(types ...model.SourceType) health.CheckFunc {
	return func(context.Context) health.Result {
		details := map[string]any{}
		worst, message := health.Healthy, ""
		for _, t := range types {
			for name, h := range p.sources.All(t) {
				details[name] = string(h.State)
				switch {
				case h.State == model.SourceDown || h.State == model.SourceStale:
					worst, message = health.Unhealthy, fmt.Sprintf("source %s is %s: %s", name, h.State, h.LastError)
				case h.State == model.SourceDegraded && worst == health.Healthy:
					worst, message = health.Degraded, fmt.Sprintf("source %s is degraded: %s", name, h.LastError)
				}
			}
		}
		if len(details) == 0 {
			return health.Result{State: health.Healthy, Message: "no source of this kind is configured"}
		}
		if message == "" {
			message = fmt.Sprintf("%d sources answer", len(details))
		}
		return health.Result{State: worst, Message: message, Details: details}
	}
}

// healthChanged logs a change and tells of it.
func (p *program) healthChanged(c health.Change) {
	p.log.Info("component changed", "health_component", c.Component, "from", c.From, "to", c.To, "reason", c.Message)
	data, err := json.Marshal(c)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := p.store.AppendEvent(ctx, model.Event{Type: model.EventHealthChanged, Topic: "system", Time: c.Time, Data: data}); err != nil {
		p.log.Warn("a change of health was not recorded", "err", err)
	}
}
