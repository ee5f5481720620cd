package pipeline

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"aiops/internal/model"
)

// StartShadow begins to score a changed definition, or another stored model
// version of the same definition, beside the live one. d is the whole changed
// definition; a modelVersion of 0 means that it learns what it needs. Source,
// query and step have to be those of the detector, because a shadow scores the
// samples that were fetched for it. It returns at once; learning goes on in the
// background.
func (e *Engine) StartShadow(ctx context.Context, id string, d model.Detector, modelVersion int64, reason string) (model.Shadow, error) {
	r, err := e.runner(id)
	if err != nil {
		return model.Shadow{}, err
	}
	r.mu.Lock()
	live := r.want
	r.mu.Unlock()
	d.ID, d.Name, d.Labels, d.Enabled, d.Provisioned, d.Retrain = live.ID, live.Name, live.Labels, live.Enabled, live.Provisioned, live.Retrain
	if err := e.checkShadow(ctx, live, d, modelVersion); err != nil {
		return model.Shadow{}, err
	}
	if reason == "" {
		reason = "shadow"
	}
	s, err := e.store.StartShadow(ctx, model.ShadowStart{DetectorID: id, Definition: d, BasedOn: live.Version, ModelVersion: modelVersion, Reason: reason})
	if err != nil {
		return s, err
	}
	return s, e.follow(ctx)
}

// follow takes over what was just stored, even when the caller has left.
func (e *Engine) follow(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), turnTimeout)
	defer cancel()
	return e.Sync(bounded)
}

func (e *Engine) checkShadow(ctx context.Context, live, d model.Detector, modelVersion int64) error {
	var v model.Invalid
	const why = "a shadow scores the samples that are fetched for its detector; use a backtest to compare another one"
	if d.Source != live.Source {
		v.Add("/definition/source", "shadow", "%s", why)
	}
	if d.Query != live.Query {
		v.Add("/definition/query", "shadow", "%s", why)
	}
	if !reflect.DeepEqual(d.Log, live.Log) {
		v.Add("/definition/log", "shadow", "%s", why)
	}
	if d.Step != live.Step {
		v.Add("/definition/step", "shadow", "%s", why)
	}
	if err := v.Err(model.SubjectDetector); err != nil {
		return err
	}
	if err := Validate(d); err != nil {
		return err
	}
	same := fingerprintOf(d) == fingerprintOf(live)
	if modelVersion == 0 {
		if same && tuningOf(d, 0).same(tuningOf(live, 0)) {
			v.Add("/definition", "no_change", "the definition is the live one; change something, or name a model version")
		}
		return v.Err(model.SubjectDetector)
	}
	versions, err := e.store.ModelVersions(ctx, live.ID)
	if err != nil {
		return fmt.Errorf("reading model versions: %w", err)
	}
	if !slices.ContainsFunc(versions, func(mv model.ModelVersion) bool { return mv.Version == modelVersion }) {
		n := model.NotFound(model.SubjectModel, live.ID)
		n.Message = fmt.Sprintf("the detector has no model version %d", modelVersion)
		return n
	}
	snap, err := e.store.LatestSnapshot(ctx, live.ID, modelVersion)
	if err == nil {
		var h *header
		if h, err = decodeHeaderOf(snap); err == nil && h.fingerprint == fingerprintOf(d) {
			return nil
		}
	}
	if err != nil && model.KindOf(err) != model.KindNotFound && model.KindOf(err) != model.KindInternal {
		return fmt.Errorf("reading a snapshot: %w", err)
	}
	return model.Errorf(model.KindConflict, model.SubjectModel,
		"model version %d has no state that fits this definition; start the shadow with a definition instead", modelVersion)
}

// Shadow says how the shadow of a detector compares with the live definition.
// A detector without one is KindNotFound.
func (e *Engine) Shadow(ctx context.Context, id string) (model.ShadowReport, error) {
	rec, err := e.store.Shadow(ctx, id)
	if err != nil {
		return model.ShadowReport{}, err
	}
	out := model.ShadowReport{Shadow: rec, State: model.ShadowWaiting}
	if r, err := e.runner(id); err == nil {
		r.mu.Lock()
		s, enabled := r.shadowState, r.want.Enabled
		r.mu.Unlock()
		if !r.here() {
			s = r.shadowReported()
		}
		out.Error, out.Progress, out.Series, out.Learning = s.fault, s.progress, s.series, s.learning
		out.MemoryBytes, out.Threshold, out.Watermark, out.Agreement = s.memory, s.threshold, msTime(s.watermark), s.agreement
		switch {
		case s.failed:
			out.State = model.ShadowFailed
		case s.loaded && enabled:
			out.State = model.ShadowRunning
		case s.building || s.present && enabled:
			out.State = model.ShadowLearning
		}
	}
	if rec.Since.IsZero() {
		return out, nil
	}
	live, err := e.store.AnomaliesBetween(ctx, id, rec.Since, e.now(), maxCompared)
	if err != nil {
		return out, fmt.Errorf("reading anomalies: %w", err)
	}
	shadow, err := e.store.ShadowAnomalies(ctx, id, maxCompared)
	if err != nil {
		return out, fmt.Errorf("reading the alarms of a shadow: %w", err)
	}
	out.Truncated = len(live) >= maxCompared || len(shadow) >= maxCompared
	out.Lost, out.Gained, out.Shared = compareAlarms(live, shadow, 2*rec.Definition.Step)
	return out, nil
}

// compareAlarms pairs the alarms of two definitions: those on one series that
// were open at the same time, or within slack of each other, are the same. It
// returns those of a alone, those of b alone, and the pairs, newest first as
// they came.
func compareAlarms(a, b []model.Anomaly, slack time.Duration) (onlyA, onlyB []model.Anomaly, pairs []model.ShadowPair) {
	bySeries := map[string][]int{}
	for i, x := range b {
		key := x.Series.Key()
		bySeries[key] = append(bySeries[key], i)
	}
	used := make([]bool, len(b))
	for _, x := range a {
		if x.FiredAt.IsZero() {
			continue
		}
		found := false
		for _, i := range bySeries[x.Series.Key()] {
			if !overlap(x, b[i], slack) {
				continue
			}
			if !found {
				pairs = append(pairs, model.ShadowPair{Live: x, Shadow: b[i]})
			}
			found, used[i] = true, true
		}
		if !found {
			onlyA = append(onlyA, x)
		}
	}
	for i, x := range b {
		if !used[i] && !x.FiredAt.IsZero() {
			onlyB = append(onlyB, x)
		}
	}
	return onlyA, onlyB, pairs
}

// overlap reports whether two episodes were open at the same time, give or
// take slack.
func overlap(a, b model.Anomaly, slack time.Duration) bool {
	before := func(x, y model.Anomaly) bool { // x ended before y began
		return !x.ResolvedAt.IsZero() && x.ResolvedAt.Add(slack).Before(y.StartedAt)
	}
	return !before(a, b) && !before(b, a)
}

// PromoteShadow makes the shadow the live definition, as a new version of the
// detector, with the models as they are: nothing is learned again, and alarms
// that both see go on. expect is the version of the shadow, 0 is any. A shadow
// that still learns is a KindConflict.
func (e *Engine) PromoteShadow(ctx context.Context, id string, expect int64) (model.Detector, error) {
	r, err := e.runner(id)
	if err != nil {
		return model.Detector{}, err
	}
	d, err := ask(ctx, r, func(work context.Context) (model.Detector, error) { return r.promote(work, expect) })
	if err != nil {
		return d, err
	}
	return d, e.follow(ctx)
}

// DiscardShadow ends the shadow of a detector. expect is its version, 0 is
// any.
func (e *Engine) DiscardShadow(ctx context.Context, id string, expect int64) error {
	if err := e.store.DiscardShadow(ctx, id, expect, "discarded"); err != nil {
		return err
	}
	return e.follow(ctx)
}

// ask lets the loop of a runner do something between two evaluations, and
// waits for it.
func ask[T any](ctx context.Context, r *runner, do func(work context.Context) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	var none T
	done := make(chan answer, 1)
	request := func(work context.Context) {
		result := answer{err: model.Errorf(model.KindTraining, model.SubjectDetector, "the change failed unexpectedly; try again")}
		defer func() { done <- result }()
		if !r.owns {
			result.err = elsewhere()
			return
		}
		result.value, result.err = do(work)
	}
	select {
	case r.requests <- request:
	case <-r.ended:
		return none, model.Errorf(model.KindUnavailable, model.SubjectDetector, "the detector is stopping; try again later")
	case <-ctx.Done():
		return none, ctx.Err()
	}
	select {
	case a := <-done:
		return a.value, a.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// promoted is the definition that a shadow makes of the one in force: what it
// does not score by stays as it is now.
func promoted(now model.Detector, shadow model.Shadow) model.Detector {
	d := shadow.Definition
	d.ID, d.Name, d.Labels, d.Enabled, d.Provisioned, d.Retrain = now.ID, now.Name, now.Labels, now.Enabled, now.Provisioned, now.Retrain
	d.Version, d.CreatedAt, d.UpdatedAt = now.Version, now.CreatedAt, now.UpdatedAt
	return d
}

// promote runs in the loop.
func (r *runner) promote(ctx context.Context, expect int64) (model.Detector, error) {
	none := model.Detector{}
	var rec model.Shadow
	err := r.brief(ctx, func(ctx context.Context) (err error) {
		rec, err = r.e.store.Shadow(ctx, r.id)
		return err
	})
	if err != nil {
		return none, err
	}
	d := promoted(r.detector, rec)
	changed := fingerprintOf(d) != fingerprintOf(r.detector) || !tuningOf(d, 0).same(tuningOf(r.detector, 0))
	switch {
	case r.detector.Provisioned && changed:
		e := model.Errorf(model.KindConflict, model.SubjectDetector, "this detector is defined by the configuration file; write the shadow's definition there and reload")
		e.Context = map[string]any{"id": r.id, "provisioned": true}
		return none, e
	case rec.Since.IsZero():
		return none, model.Errorf(model.KindConflict, model.SubjectShadow, "the shadow still learns; promote it when that is done")
	case r.core == nil && !r.detector.Enabled:
		return r.e.store.PromoteShadow(ctx, d, r.detector.Version, expect) // it is loaded when the detector is started
	case r.core == nil || r.stage != stageLive || r.shadow == nil || r.shadow.core == nil:
		return none, model.Errorf(model.KindConflict, model.SubjectShadow, "the shadow does not score at the moment; try again when its state is running")
	case !r.commit(ctx, true) || !r.commitShadow(ctx) || r.shadow == nil:
		return none, model.Errorf(model.KindUnavailable, model.SubjectDetector, "the store does not take anomalies at the moment; try again later")
	}
	run, c, old := r.shadow, r.shadow.core, r.core
	if c.watermark < old.watermark {
		f := feeder{e: r.e, class: classCatchUp}
		if err := f.feedAll(ctx, c, old.watermark, old.watermark, nil); err != nil {
			return none, fmt.Errorf("bringing the shadow up to date: %w", err)
		}
	}
	if c.watermark != old.watermark {
		return none, model.Errorf(model.KindConflict, model.SubjectShadow, "the live definition still fills a gap; try again in a moment")
	}
	run.core = nil // from here on it is no shadow any more: after a failure it starts again from its snapshot
	c.emit = nil
	if c.def.fingerprint == old.def.fingerprint {
		r.turn.do(func() { c.succeed(old) })
		c.setVersion(rec.ModelVersion)
	} else {
		r.turn.do(func() { c.inherit(old) })
	}
	c.redefine(d, r.e.now().UnixMilli())
	c.agreement = model.Agreement{}
	if err := r.e.store.SaveSnapshot(ctx, c.snapshot(r.e.now())); err != nil {
		return none, fmt.Errorf("saving a snapshot: %w", err)
	}
	saved, err := r.e.store.PromoteShadow(ctx, d, r.detector.Version, expect)
	if err != nil {
		return none, err
	}
	r.accept(saved)
	versions, err := r.e.store.ModelVersions(ctx, r.id)
	if err != nil {
		r.log.Warn("the model versions were not read", "err", err)
	}
	v, _ := activeVersion(versions)
	held := r.held
	r.take(c, v)
	r.turn.do(func() { r.versions = versions })
	c.redefine(saved, saved.UpdatedAt.UnixMilli())
	r.held, r.lastSaved, r.snapshotAt, r.snapshotSoon = held, c.watermark, r.e.now(), true
	r.dropShadow()
	r.log.Info("a shadow is the live definition now", "model_version", v.Version, "detector_version", saved.Version)
	return saved, nil
}

// accept makes d, which is stored already, the definition in force, so that
// the next evaluation does not take it for a change.
func (r *runner) accept(d model.Detector) {
	r.detector = d
	r.mu.Lock()
	defer r.mu.Unlock()
	r.want, r.stored = d, nil
}

// inherit takes over the open episodes of old, a core of another definition
// at the same step, as far as c sees them too: the alarm goes on under the name
// it has. What c does not see ends, and what only c sees begins, when the open
// anomalies are compared with the store.
func (c *core) inherit(old *core) {
	for _, s := range old.series {
		if s == nil || s.episode == nil || !s.episode.open() {
			continue
		}
		mine := c.find(s.hash, []byte(s.key))
		if mine == nil || mine.episode == nil || !mine.episode.open() {
			continue
		}
		c.dropProof(mine.episode)
		mine.episode, mine.context = s.episode, s.context
		if mine.episode.proof != nil {
			c.proofBytes += mine.episode.proof.bytes()
		}
	}
}
