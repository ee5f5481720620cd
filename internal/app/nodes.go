package app

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"time"

	"aiops/internal/api"
	"aiops/internal/config"
	"aiops/internal/model"
	"aiops/internal/pipeline"
	"aiops/internal/pipeline/nodes"
	"aiops/internal/store"
)

// buildNodes makes this process a member of those that share its database, when
// it has one that can be shared.
func (p *program) buildNodes(c *config.Config) {
	if p.store.Engine() != "postgres" {
		return // the lock on the data directory says that nobody else is there
	}
	p.nodes = nodes.New(nodes.Options{Config: c.Nodes, Store: p.store, Host: nodeName(), Pinned: pinned, Logger: p.log, Registerer: p.registry})
	c.Pipeline.Owner, p.logs.owner = p.nodes, p.nodes
	_, instance := p.store.Node()
	p.relay = nodes.NewRelay(nodes.RelayOptions{Instance: instance, Announcer: p.store, Stream: p.live, Logger: p.log, Registerer: p.registry,
		Owns: func(id string) (owns, known bool) { return p.engine.Owns(id) }}) // the engine is made behind it
}

// pinned reports whether a detector needs what lies in a data directory: the
// samples of the embedded database, or the lines that were counted into it.
func pinned(d model.Detector) bool { return d.Source == model.BuiltinSource || d.Log != nil }

// runNodes starts what keeps this node among the others.
func (p *program) runNodes() {
	if p.nodes == nil {
		return
	}
	p.life.run("nodes", func(ctx context.Context) error { return p.nodes.Run(ctx, p.engine) })
	p.life.run("live points of other nodes", p.kept("live points of other nodes", p.relay.Run))
	p.life.run("changes of other nodes", p.kept("changes of other nodes", p.followNodes))
}

// leaveNodes hands every detector over to the other nodes, at once when the
// program is asked to stop. The returned function waits for that.
func (p *program) leaveNodes(ctx context.Context) (wait func()) {
	if p.nodes == nil {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.nodes.Leave(ctx)
	}()
	return func() { <-done }
}

// How changes that other nodes made are taken up.
const (
	followPause = 500 * time.Millisecond // between two looks, so that many changes are one
	followSync  = time.Minute            // in case an event is missing
)

// followed are the topics that say that something this program keeps in memory
// has changed.
var followed = []string{"detectors", "sources", "system/known_events", "anomalies"}

// followNodes takes up what other nodes changed: definitions, model versions,
// shadows, known events, sources, and anomalies that people ended.
func (p *program) followNodes(ctx context.Context) error {
	f := changes{store: p.store, takeUp: p.takeUp, sync: p.syncAll, log: p.log}
	return f.follow(ctx)
}

// changes are those that other nodes make.
type changes struct {
	store interface {
		EventSignal() (signal <-chan struct{}, stop func())
		LastEventID(ctx context.Context) (int64, error)
		Events(ctx context.Context, since int64, topics []string, limit int) ([]model.Event, error)
	}
	takeUp func(model.Event) bool          // reports whether to sync
	sync   func(ctx context.Context) error // makes everything that runs match the store
	log    *slog.Logger
}

// follow runs until ctx ends or events cannot be read.
func (c changes) follow(ctx context.Context) error {
	signal, stop := c.store.EventSignal()
	defer stop()
	since, err := c.store.LastEventID(ctx)
	if err != nil {
		return err
	}
	again := time.NewTicker(followSync)
	defer again.Stop()
	changed := true // between what the parts read when they began, and since
	for {
		for {
			events, err := c.store.Events(ctx, since, followed, 0)
			if err != nil {
				return err
			}
			for _, e := range events {
				since = e.ID
				changed = c.takeUp(e) || changed
			}
			if len(events) < store.MaxEvents {
				break
			}
		}
		if changed {
			err := c.sync(ctx)
			if err != nil && ctx.Err() == nil {
				c.log.Warn("changes of other nodes were not taken up; trying again", "err", err)
			}
			changed = err != nil
		}
		pause := time.NewTimer(followPause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil
		case <-pause.C:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
			changed = true
		case <-signal:
		}
	}
}

// takeUp reports whether an event asks for another look at the definitions.
func (p *program) takeUp(e model.Event) bool {
	if !strings.HasPrefix(e.Topic, "anomalies") {
		return true
	}
	if e.Type != model.EventAnomalyResolved {
		return false
	}
	var a struct {
		ID         string `json:"id"`
		DetectorID string `json:"detector_id"`
		ResolvedBy string `json:"resolved_by"`
	}
	if json.Unmarshal(e.Data, &a) == nil && a.ResolvedBy != "" {
		p.engine.Mute(a.DetectorID, a.ID)
	}
	return false
}

// syncAll makes everything that runs match the store.
func (p *program) syncAll(ctx context.Context) error {
	return errors.Join(p.provisions.check(ctx), p.sources.Sync(ctx), engine{p.engine, p.logs, p.nodes}.Sync(ctx))
}

// onOwner wraps the function of a task that needs the live state of a detector:
// when this node has just lost it, the task is put back for the new owner.
func onOwner(e *pipeline.Engine, f store.TaskFunc) store.TaskFunc {
	return func(ctx context.Context, t model.Task, progress func(float64)) (any, error) {
		var of struct {
			DetectorID string `json:"detector_id"`
		}
		if err := json.Unmarshal(t.Args, &of); err == nil {
			if owns, known := e.Owns(of.DetectorID); known && !owns {
				return nil, store.ErrNotHere
			}
		}
		result, err := f(ctx, t, progress)
		if pipeline.IsElsewhere(err) {
			return nil, store.ErrNotHere
		}
		return result, err
	}
}

// ownersTasks are the kinds that the owner of a detector runs, with how many of
// each it runs at once. None waits for one of another kind: somebody waits for a
// promotion.
func ownersTasks() map[string]int {
	trainings := max(1, runtime.GOMAXPROCS(0)/4)
	return map[string]int{api.TaskTrain: trainings, api.TaskRetrain: trainings, taskPromote: 4}
}

// taskPromote promotes a shadow on the node that scores it.
const taskPromote = "promote_shadow"

type promoteArgs struct {
	DetectorID string `json:"detector_id"`
	Expect     int64  `json:"expect"`
}

// promoted is the result of a task of the kind taskPromote. A refusal is one,
// so that the node which was asked can answer it as its own.
type promoted struct {
	Kind    model.Kind     `json:"kind,omitempty"`
	Subject string         `json:"subject,omitempty"`
	Message string         `json:"message,omitempty"`
	Context map[string]any `json:"context,omitempty"`
}

func promoteTask(e *pipeline.Engine) store.TaskFunc {
	return func(ctx context.Context, t model.Task, _ func(float64)) (any, error) {
		var args promoteArgs
		if err := json.Unmarshal(t.Args, &args); err != nil {
			return nil, model.WrapError(model.KindInternal, model.SubjectTask, err, "the task's arguments cannot be read")
		}
		_, err := e.PromoteShadow(ctx, args.DetectorID, args.Expect)
		var refused *model.Error
		if errors.As(err, &refused) && !pipeline.IsElsewhere(err) {
			return promoted{refused.Kind, refused.Subject, refused.Message, refused.Context}, nil
		}
		return promoted{}, err
	}
}

// shadows are the engine's, on whichever node.
type shadows struct {
	*pipeline.Engine
	store *store.Store
	jobs  *store.Jobs
}

// promoteWithin is how long the node that scores a shadow may take to promote it,
// less than a request may take.
const promoteWithin = 10 * time.Second

// PromoteShadow makes the shadow the live definition. When another node scores
// it, that node does, as a task.
func (s shadows) PromoteShadow(ctx context.Context, id string, expect int64) (model.Detector, error) {
	if owns, known := s.Owns(id); owns || !known {
		return s.Engine.PromoteShadow(ctx, id, expect)
	}
	t, err := s.jobs.Enqueue(ctx, taskPromote, promoteArgs{id, expect})
	if err != nil {
		return model.Detector{}, err
	}
	bounded, cancel := context.WithTimeout(ctx, promoteWithin)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !t.State.Final() {
		select {
		case <-bounded.Done():
			return model.Detector{}, model.Errorf(model.KindTimeout, model.SubjectShadow, "the node that scores the shadow has not promoted it yet; look at task %s", t.ID)
		case <-tick.C:
		}
		if t, err = s.jobs.Task(bounded, t.ID); err != nil {
			return model.Detector{}, err
		}
	}
	var r promoted
	if t.State == model.TaskSucceeded {
		if err := json.Unmarshal(t.Result, &r); err != nil {
			return model.Detector{}, model.WrapError(model.KindInternal, model.SubjectShadow, err, "the answer of the node that scores the shadow cannot be read")
		}
	} else {
		r = promoted{Kind: model.KindTraining, Message: t.Error}
	}
	if r.Message != "" {
		return model.Detector{}, &model.Error{Kind: r.Kind, Subject: r.Subject, Message: r.Message, Context: r.Context}
	}
	return s.store.Detector(ctx, id)
}
