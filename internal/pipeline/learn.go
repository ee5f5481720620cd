package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"aiops/internal/detect"
	"aiops/internal/model"
)

// load finds out where the detector stood when the last process stopped: it
// restores the newest usable snapshot of the active model version, or begins
// to learn.
func (r *runner) load(ctx context.Context) error {
	versions, err := r.e.store.ModelVersions(ctx, r.id)
	if err != nil {
		return fmt.Errorf("reading model versions: %w", err)
	}
	r.turn.do(func() { r.versions = versions })
	active, ok := activeVersion(versions)
	if !ok {
		return r.relearn(ctx, "created")
	}
	def := newDefinition(r.detector, r.e.cfg)
	c, lost, why, err := r.restore(ctx, def, active)
	switch {
	case err != nil:
		return err
	case c == nil:
		return r.relearn(ctx, why)
	}
	if lost > 0 {
		r.e.metrics.lostSeries.Add(float64(lost))
		r.log.Warn("a part of the snapshot is damaged; its series learn from history again", "series", lost)
		if err := r.mend(ctx, c); err != nil {
			r.log.Warn("the series of the damaged part learn from live samples, because their history cannot be read", "err", err)
		}
		// Some series have another past now: what was scored before and what
		// will be scored belong to different versions.
		if active, err = r.branch(ctx, c, versions, "snapshot damaged in part"); err != nil {
			return err
		}
	}
	c.redefine(r.detector, r.definedAt())
	r.take(c, active)
	r.held, r.lastSaved, r.snapshotAt = true, c.watermark, r.e.now()
	return nil
}

// restore returns a core from the newest usable snapshot of a model version,
// and how many series of it are lost. Without one it returns nil and why.
func (r *runner) restore(ctx context.Context, def *definition, v model.ModelVersion) (c *core, lost int, why string, err error) {
	why = "no snapshot"
	snap, err := r.e.store.LatestSnapshot(ctx, r.id, v.Version)
	for range 3 {
		if err != nil {
			var e *model.Error
			if errors.As(err, &e) && e.Subject == model.SubjectModel && (e.Kind == model.KindNotFound || e.Kind == model.KindDatabase) {
				r.log.Info("no usable snapshot", "model_version", v.Version, "err", err)
				return nil, 0, why, nil
			}
			return nil, 0, "", fmt.Errorf("reading a snapshot: %w", err)
		}
		if h, err := decodeHeaderOf(snap); err == nil && (h.fingerprint != def.fingerprint || h.step != def.step) {
			return nil, 0, "definition changed", nil
		}
		c, lost, err = restoreCore(def, snap)
		if c != nil {
			if err != nil {
				r.log.Warn("a snapshot is damaged in part", "watermark", msTime(snap.Watermark), "err", err)
			}
			return c, lost, "", nil
		}
		why = "snapshot damaged"
		r.log.Warn("a snapshot cannot be used; trying the one before", "watermark", msTime(snap.Watermark), "err", err)
		snap, err = r.e.store.SnapshotBefore(ctx, r.id, v.Version, snap.Watermark-1)
	}
	return nil, 0, why, nil
}

func decodeHeaderOf(snap model.Snapshot) (*header, error) {
	if len(snap.Parts) == 0 {
		return nil, &snapshotFault{"it has no parts"}
	}
	return decodeHeader(snap.Parts[0])
}

// take makes c the live core.
func (r *runner) take(c *core, v model.ModelVersion) {
	c.prove = true
	c.countDeep()
	r.turn.do(func() {
		c.emit = r.emit
		r.core, r.trained = c, v
	})
	r.events = 0 // it may not know the newest
	r.stage, r.reconcile = stageLive, true
	r.feed = feeder{e: r.e, class: classCatchUp, turn: r.turn, steps: stepsFor(c.live)}
}

// relearn begins a new model version, which learns from history.
func (r *runner) relearn(ctx context.Context, reason string) error {
	versions, err := r.modelVersions(ctx)
	if err != nil {
		return err
	}
	v := r.nextVersion(versions, reason)
	c, err := r.warmStart(ctx, versions, &v)
	if err != nil {
		return err
	}
	r.turn.do(func() { r.core, r.trained, r.versions = c, v, versions })
	r.stage, r.events = stageWarm, 0
	r.feed = feeder{e: r.e, class: classBackground, turn: r.turn}
	r.log.Info("learning from history", "model_version", v.Version, "reason", reason)
	return nil
}

// warm learns one chunk of history. Nothing is told of what it finds, except
// for what is still going on at its end.
func (r *runner) warm(ctx context.Context) error {
	src, err := r.e.source(r.detector)
	if err != nil {
		return err
	}
	if h := src.Health(); !trusted(h.State) {
		return sourceError(r.detector.Source, h)
	}
	due := r.due(src)
	if r.core == nil {
		from, err := r.historyStart(ctx, src, due)
		if err != nil {
			return err
		}
		def := newDefinition(r.detector, r.e.cfg)
		c := newCore(def, r.trained.Version, from-def.step)
		c.prove = true
		c.knowEvents(r.knownEvents(), false)
		r.turn.do(func() { r.core, r.trained.TrainedFrom = c, msTime(from) })
	}
	if err := r.feed.chunk(ctx, r.core, due, due); err != nil {
		if r.feed.fails <= 3 || !worthSmaller(err) {
			return err
		}
		r.log.Warn("the history cannot be read; learning goes on from live samples", "err", err)
		r.turn.do(func() { r.core.watermark = due - r.core.def.step })
		r.feed.fails, r.feed.steps = 0, firstChunk
	}
	r.evaluated()
	r.account()
	if r.core.watermark < due {
		return nil
	}
	return r.finishWarm(ctx)
}

// historyStart returns the first step of history that is worth learning: as
// much as is configured, bounded in samples of one series and of all.
func (r *runner) historyStart(ctx context.Context, src Source, due int64) (int64, error) {
	def := newDefinition(r.detector, r.e.cfg)
	now, err := r.e.query(ctx, src, def, due, due, historySlow)
	if err != nil {
		return 0, err
	}
	return def.floor(due) - (r.e.historySteps(def, len(now))-1)*def.step, nil
}

// historySteps is how many steps of history a detector with that many series
// learns from.
func (e *Engine) historySteps(def *definition, series int) int64 {
	steps := min(int64(e.cfg.History.Std()/def.detector.Step), int64(e.cfg.HistoryPoints))
	steps = min(steps, e.cfg.HistorySamples/int64(max(1, series)))
	for _, info := range detect.Names() {
		if info.Name == def.detector.Model {
			steps = max(steps, int64(info.MinHistory(def.detector.Step)))
		}
	}
	return max(steps, 1)
}

// finishWarm makes what was learned the active model version and begins to
// tell of episodes, first of those that are going on.
func (r *runner) finishWarm(ctx context.Context) error {
	v, err := r.saveTrained(ctx, r.core, r.trained)
	if err != nil {
		return err
	}
	c := r.core
	r.take(c, v)
	r.turn.do(func() {
		for _, s := range c.series {
			if s != nil && s.episode != nil && s.episode.open() {
				r.emit(s, openTransition(s.episode), c.watermark, "")
			}
		}
	})
	r.snapshotSoon = true
	if c.samples == 0 {
		r.log.Info("there is no history; learning from live samples", "model_version", v.Version)
		return nil
	}
	r.log.Info("learned from history", "model_version", v.Version, "series", c.live, "samples", c.samples,
		"from", v.TrainedFrom, "to", v.TrainedTo)
	return nil
}

func openTransition(e *episode) transition {
	if e.phase == phaseFiring {
		return transitionFired
	}
	return transitionPending
}

func (r *runner) nextVersion(versions []model.ModelVersion, reason string) model.ModelVersion {
	v := model.ModelVersion{DetectorID: r.id, DetectorVersion: r.detector.Version, Version: 1, State: model.ModelActive, Reason: reason}
	for _, old := range versions {
		v.Version = max(v.Version, old.Version+1)
	}
	return v
}

// branch makes c a new model version from its next step on.
func (r *runner) branch(ctx context.Context, c *core, versions []model.ModelVersion, reason string) (model.ModelVersion, error) {
	v := r.nextVersion(versions, reason)
	if old, ok := activeVersion(versions); ok {
		v.TrainedFrom = old.TrainedFrom
	}
	c.setVersion(v.Version)
	if err := r.e.store.SaveSnapshot(ctx, c.snapshot(r.e.now())); err != nil {
		return v, fmt.Errorf("saving a snapshot: %w", err)
	}
	return r.saveTrained(ctx, c, v)
}

// setVersion makes the steps behind the watermark those of another version.
func (c *core) setVersion(version int64) {
	c.modelVersion = version
	c.past.versions = appendBounded(c.past.versions, versionChange{c.watermark + c.def.step, version}, maxVersions)
}

// saveTrained stores the model version that c runs.
func (r *runner) saveTrained(ctx context.Context, c *core, v model.ModelVersion) (model.ModelVersion, error) {
	v.TrainedTo, v.Series, v.SizeBytes = msTime(c.watermark), c.live, c.sizeBytes()
	v.CreatedAt = r.e.now()
	if err := r.e.store.SaveModelVersion(ctx, v); err != nil {
		return v, fmt.Errorf("saving a model version: %w", err)
	}
	versions, err := r.e.store.ModelVersions(ctx, r.id)
	if err != nil {
		return v, fmt.Errorf("reading model versions: %w", err)
	}
	r.turn.do(func() { r.versions = versions })
	return v, nil
}

// mend learns the series that are not in c from history, up to its watermark.
func (r *runner) mend(ctx context.Context, c *core) error {
	src, err := r.e.source(r.detector)
	if err != nil {
		return err
	}
	from, err := r.historyStart(ctx, src, c.watermark)
	if err != nil {
		return err
	}
	fresh := newCore(c.def, c.modelVersion, from-c.def.step)
	f := feeder{e: r.e, class: classBackground}
	if err := f.feedAll(ctx, fresh, c.watermark, c.watermark, nil); err != nil {
		return err
	}
	c.adoptMissing(fresh)
	return nil
}

// adoptMissing takes the series over that only other has.
func (c *core) adoptMissing(other *core) {
	for _, s := range other.series {
		if s != nil && c.find(s.hash, []byte(s.key)) == nil && c.live < c.def.maxSeries {
			s.model.SetThreshold(c.threshold)
			c.place(s)
			c.count(s)
		}
	}
}

// gapLimit is how many steps may be missing before learning anew is better
// than filling the gap.
func (r *runner) gapLimit() int64 {
	return r.e.historySteps(r.core.def, r.core.live)
}

// clockBackLimit is how far the clock may go back before the state, which then
// knows more than there is, is learned anew.
func (r *runner) clockBackLimit() time.Duration {
	return max(time.Hour, 10*r.detector.Step)
}
