package app

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"time"

	"aiops/internal/api"
	"aiops/internal/model"
	"aiops/internal/pipeline"
	"aiops/internal/pipeline/nodes"
	"aiops/internal/realtime"
	"aiops/internal/store"
)

// engine is the pipeline as the API asks for it.
type engine struct {
	*pipeline.Engine
	logs  *logWork
	nodes *nodes.Member
}

// Sync takes up changed definitions.
func (e engine) Sync(ctx context.Context) error {
	err := errors.Join(e.logs.Sync(ctx), e.Engine.Sync(ctx))
	if e.nodes != nil {
		e.nodes.Wake()
	}
	return err
}

// Explain says why an anomaly is one.
func (e engine) Explain(ctx context.Context, anomalyID string) (api.Explanation, error) {
	x, err := e.Engine.Explain(ctx, anomalyID)
	if err != nil {
		return api.Explanation{}, err
	}
	out := explanation(x)
	if out.Logs, err = e.logs.LogEvidenceOf(ctx, x.Anomaly); err != nil {
		return api.Explanation{}, err
	}
	return out, nil
}

func explanation(x pipeline.Explanation) api.Explanation {
	out := api.Explanation{
		Anomaly: x.Anomaly, Evidence: x.Evidence, Recomputed: x.Recomputed.Point, Contributions: x.Recomputed.Contributions,
		Reproduced: x.Recomputed.Reproduced, Difference: x.Recomputed.Difference, Model: x.Model, Summary: x.Summary, Probability: x.Probability,
	}
	c := x.Recomputed.Counterfactual
	out.Counterfactual = api.Counterfactual{Text: c.Text, Upper: api.ExplainedFlip(c.Upper), Lower: api.ExplainedFlip(c.Lower)}
	for _, g := range c.Gates {
		out.Counterfactual.Gates = append(out.Counterfactual.Gates, api.ExplainedGate(g))
	}
	for _, s := range x.Similar {
		out.Similar = append(out.Similar, api.Similar(s))
	}
	for _, m := range x.AlsoMoved {
		out.AlsoMoved = append(out.AlsoMoved, api.Moved(m))
	}
	return out
}

// idempotency is the store as the API asks for the answers of keyed requests.
type idempotency struct{ *store.Store }

// Begin claims a key.
func (s idempotency) Begin(ctx context.Context, k model.IdempotencyKey) (model.IdempotencyState, *model.StoredAnswer, error) {
	return s.BeginIdempotent(ctx, k)
}

// Bind ties what the request of a claimed key writes to the key.
func (s idempotency) Bind(ctx context.Context, k model.IdempotencyKey) context.Context {
	return s.WithClaim(ctx, k)
}

// Finish stores the answer, or gives the key back.
func (s idempotency) Finish(ctx context.Context, k model.IdempotencyKey, answer *model.StoredAnswer) error {
	return s.FinishIdempotent(ctx, k, answer)
}

// anomalies changes anomalies: the store keeps them and the engine follows.
type anomalies struct {
	*store.Store
	engine *pipeline.Engine
}

// ResolveAnomaly ends an anomaly by hand.
func (a anomalies) ResolveAnomaly(ctx context.Context, id, by string, at time.Time, expect int64) (model.Anomaly, error) {
	resolved, err := a.Store.ResolveAnomaly(ctx, id, by, at, expect)
	if err == nil {
		a.engine.Mute(resolved.DetectorID, id)
	}
	return resolved, err
}

// models changes the trained generations of detectors: the store keeps them
// and the engine follows.
type models struct {
	*store.Store
	engine *pipeline.Engine
}

// PromoteModel makes a version the active one.
func (m models) PromoteModel(ctx context.Context, detectorID string, version int64) (model.ModelVersion, error) {
	return m.follow(ctx)(m.Store.PromoteModel(ctx, detectorID, version))
}

// RollbackModel makes the version that was active before the active one.
func (m models) RollbackModel(ctx context.Context, detectorID string) (model.ModelVersion, error) {
	return m.follow(ctx)(m.Store.RollbackModel(ctx, detectorID))
}

// follow lets the engine take over what the store has just written, even when
// the client has left.
func (m models) follow(ctx context.Context) func(model.ModelVersion, error) (model.ModelVersion, error) {
	return func(v model.ModelVersion, err error) (model.ModelVersion, error) {
		if err != nil {
			return v, err
		}
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		return v, errors.Join(err, m.engine.Sync(bounded))
	}
}

// retrain enqueues a training that the engine asks for, unless one waits or
// runs already.
func (p *program) retrain(ctx context.Context, detectorID, reason string) error {
	for _, state := range []model.TaskState{model.TaskQueued, model.TaskRunning} {
		tasks, _, err := p.jobs.Tasks(ctx, model.TaskFilter{Kind: api.TaskRetrain, State: state, Limit: 500})
		if err != nil {
			return err
		}
		for _, t := range tasks {
			var args api.RetrainArgs
			if json.Unmarshal(t.Args, &args) == nil && args.DetectorID == detectorID {
				return nil
			}
		}
	}
	_, err := p.jobs.Enqueue(ctx, api.TaskRetrain, api.RetrainArgs{DetectorID: detectorID, Reason: reason})
	return err
}

// newJobs returns the runner of the tasks that the API enqueues.
func newJobs(s *store.Store, e *pipeline.Engine, logs *logWork) (*store.Jobs, error) {
	funcs := map[string]store.TaskFunc{}
	for kind, f := range api.TaskFuncs(e, logs) {
		funcs[kind] = f
	}
	funcs[taskPromote] = promoteTask(e)
	owned := ownersTasks()
	for kind := range owned {
		funcs[kind] = onOwner(e, funcs[kind])
	}
	return store.NewJobs(s, funcs, owned)
}

// audience is the live stream as the engine asks for it: who looks at a series
// gets its newest point, on whichever node.
type audience struct {
	live  *realtime.Gateway
	relay *nodes.Relay // nil: nobody shares the database
	log   *slog.Logger
}

// Watched returns the series that a client of any node follows.
func (a audience) Watched(detectorID string) []string {
	keys := a.live.Watched(detectorID)
	if a.relay == nil {
		return keys
	}
	keys = append(keys, a.relay.Watched(detectorID)...)
	slices.Sort(keys)
	return slices.Compact(keys)
}

// Point publishes a point, in the shape that a replay has.
func (a audience) Point(detectorID, seriesKey string, p model.ScoredPoint) {
	data, err := json.Marshal(api.PointOf(p))
	if err == nil {
		err = a.live.Publish("series/"+detectorID+"/"+seriesKey, data)
	}
	if err == nil && a.relay != nil {
		a.relay.Point(detectorID, seriesKey, data)
	}
	if err != nil {
		a.log.Warn("a live point was not published", "detector", detectorID, "err", err)
	}
}
