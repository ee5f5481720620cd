package pipeline

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"
	"time"

	"aiops/internal/model"
)

// Bounds of a shadow.
const (
	maxShadowFails  = 3         // failures in a row after which a shadow is given up until it is discarded
	maxMarks        = 200_000   // anomalous samples of one round that are compared
	maxCompared     = 2000      // alarms of either side in a report
	shadowNear      = 20        // steps that a shadow may be behind when the loop takes it over
	shadowCatchUp   = 10_000    // steps that the loop itself catches up
	maxShadowQueued = 10 * 1000 // alarms that wait for the store
)

// shadowRun is a shadow while its detector runs. It has a core of its own,
// which scores what the live core scores, in the same rounds and on the same
// answer of the source. Nothing that happens to it can harm the live core: its
// panic is recovered, its alarms are kept apart, and what it cannot store only
// stops the shadow. Only the loop uses it.
type shadowRun struct {
	rec      model.Shadow
	def      *definition
	core     *core // nil: it learns, or is not loaded yet
	pending  []model.Anomaly
	building bool // a goroutine brings it to the live step
	cancel   context.CancelFunc
	fails    int
	fault    string // why it is not scored, "" while it is
	retryAt  time.Time
}

// shadowStatus is what a report shows of a shadowRun.
type shadowStatus struct {
	present   bool
	loaded    bool
	building  bool
	progress  float64
	fault     string
	failed    bool
	series    int
	learning  int
	memory    int64
	threshold float64
	watermark int64
	agreement model.Agreement
}

// adoptShadow makes the shadow of the runner the one that is stored.
func (r *runner) adoptShadow(ctx context.Context, rec *model.Shadow) {
	if rec == nil {
		r.dropShadow()
		return
	}
	if !sameSamples(rec.Definition, r.detector) {
		err := r.brief(ctx, func(ctx context.Context) error {
			return r.e.store.DiscardShadow(ctx, r.id, rec.Version, "the detector now asks another source, query or step")
		})
		if err != nil {
			r.log.Warn("a shadow that fits its detector no longer was not discarded", "err", err)
			return
		}
		r.wantShadow(nil)
		r.dropShadow()
		return
	}
	if r.shadow != nil && r.shadow.rec.ModelVersion == rec.ModelVersion && r.shadow.rec.CreatedAt.Equal(rec.CreatedAt) {
		since := r.shadow.rec.Since // known here before the store was read again
		if r.shadow.rec = *rec; rec.Since.IsZero() {
			r.shadow.rec.Since = since
		}
		return
	}
	r.dropShadow()
	r.shadow = &shadowRun{rec: *rec, def: newDefinition(shadowDefinition(*rec), r.e.cfg)}
	r.measured = 0
}

// sameSamples reports whether two definitions score the same samples.
func sameSamples(a, b model.Detector) bool {
	return a.Source == b.Source && a.Query == b.Query && a.Step == b.Step && reflect.DeepEqual(a.Log, b.Log)
}

// shadowDefinition is what a shadow scores by.
func shadowDefinition(rec model.Shadow) model.Detector {
	d := rec.Definition
	d.ID, d.Version = rec.DetectorID, rec.BasedOn
	return d
}

func (r *runner) dropShadow() {
	if r.shadow == nil {
		return
	}
	if r.shadow.cancel != nil {
		r.shadow.cancel()
	}
	r.shadow, r.measured = nil, 0
}

// openShadow begins to bring a shadow to the step of the live core: from its
// own newest snapshot, else from a copy of the live core when it differs in
// gates and hold times only, else from history.
func (r *runner) openShadow(intake, work context.Context) {
	run := r.shadow
	if run == nil || run.core != nil || run.building || run.fails >= maxShadowFails || r.stage != stageLive || r.core == nil || r.e.now().Before(run.retryAt) {
		return
	}
	var c *core
	err := r.shadowStored(work)
	if err == nil {
		c, err = r.shadowCore(work, run)
	}
	if err != nil {
		r.shadowFailed(run, err)
		return
	}
	if c != nil && c.watermark >= r.core.watermark {
		r.installShadow(work, run, c)
		return
	}
	if c != nil && (r.core.watermark-c.watermark)/c.def.step > r.gapLimit() {
		c = nil // too long ago: learning from history is shorter
	}
	r.buildShadow(intake, run, c)
}

// shadowStored asks for the shadow in the store: what follows takes longer than a
// live detector waits for a store that does not answer.
func (r *runner) shadowStored(ctx context.Context) error {
	return r.brief(ctx, func(ctx context.Context) error {
		_, err := r.e.store.Shadow(ctx, r.id)
		return err
	})
}

// shadowCore returns the state that a shadow begins with, nil for none.
func (r *runner) shadowCore(ctx context.Context, run *shadowRun) (*core, error) {
	c, _, _, err := r.restore(ctx, run.def, model.ModelVersion{Version: run.rec.ModelVersion})
	if c != nil || err != nil {
		return c, err
	}
	if run.def.fingerprint != r.core.def.fingerprint {
		return nil, nil
	}
	var snap model.Snapshot
	r.turn.do(func() { snap = r.core.snapshot(r.e.now()) })
	c, lost, err := restoreCore(run.def, snap)
	if err != nil || lost > 0 {
		return nil, fmt.Errorf("copying the live state: %w", errors.Join(err, fmt.Errorf("%d series lost", lost)))
	}
	c.redefine(shadowDefinition(run.rec), c.watermark)
	c.setVersion(run.rec.ModelVersion)
	for _, s := range c.series {
		if s != nil && s.episode != nil {
			s.episode.proof = nil // the live core has it
		}
	}
	c.proofBytes = 0
	return c, nil
}

// buildShadow brings c, or an empty core when it is nil, near the live step in
// a goroutine of its own and gives it to the loop.
func (r *runner) buildShadow(intake context.Context, run *shadowRun, c *core) {
	ctx, cancel := context.WithCancel(intake)
	run.core, run.building, run.cancel = nil, true, cancel
	live := r.core.watermark
	events := r.knownEvents()
	compared := !run.rec.Since.IsZero()
	r.side.Go(func() {
		defer cancel()
		var told shadowRun // alarms of the steps that are caught up
		built, err := r.learnShadow(ctx, run, c, &told, compared, live, events)
		if ctx.Err() != nil {
			return // discarded, or the program stops
		}
		request := func(work context.Context) {
			if r.shadow != run {
				return
			}
			run.building, run.cancel = false, nil
			if err == nil {
				err = r.shadowStored(work)
			}
			if err != nil {
				r.shadowFailed(run, err)
				return
			}
			run.pending = append(run.pending, told.pending...)
			r.installShadow(work, run, built)
		}
		select {
		case r.requests <- request:
		case <-ctx.Done():
		}
	})
}

func (r *runner) learnShadow(ctx context.Context, run *shadowRun, c *core, told *shadowRun, compared bool, live int64, events []model.KnownEvent) (_ *core, err error) {
	defer func() {
		if p := recover(); p != nil {
			r.e.metrics.panics.Inc()
			r.log.Error("a shadow panicked while it learned", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = errors.New("an unexpected failure while it learned")
		}
	}()
	if c == nil {
		compared = false // what is learned from history is not told
		begin, _, err := r.e.historyRange(ctx, run.def, time.Time{}, msTime(live))
		if err != nil {
			return nil, err
		}
		c = newCore(run.def, run.rec.ModelVersion, begin-run.def.step)
		c.knowEvents(events, false)
	}
	c.emit, c.prove = nil, false
	if compared {
		told.tell(c)
	}
	begin := c.watermark
	f := feeder{e: r.e, class: classBackground}
	for {
		report := progressOver(r.shadowProgress, begin, live)
		if err := f.feedAll(ctx, c, live, live, report); err != nil {
			return nil, err
		}
		now := r.evaluatedTo()
		if (now-c.watermark)/c.def.step <= shadowNear {
			return c, nil
		}
		live = now
	}
}

// tell makes run take what c would have told.
func (run *shadowRun) tell(c *core) {
	c.emit = func(s *series, tr transition, t int64, note string) { run.note(c, s, tr, t, note) }
}

// installShadow lets a core that is at or near the live step follow it.
func (r *runner) installShadow(ctx context.Context, run *shadowRun, c *core) {
	first := run.rec.Since.IsZero()
	c.prove, c.watch, c.emit = false, nil, nil
	if !first {
		run.tell(c)
	}
	if r.core != nil && r.stage == stageLive && c.watermark < r.core.watermark {
		if (r.core.watermark-c.watermark)/c.def.step > shadowCatchUp {
			run.retryAt = r.e.now().Add(r.retryAfter())
			return
		}
		f := feeder{e: r.e, class: classCatchUp}
		if err := f.feedAll(ctx, c, r.core.watermark, r.core.watermark, nil); err != nil {
			r.shadowFailed(run, err)
			return
		}
	}
	if first {
		v := model.ModelVersion{DetectorID: r.id, Version: run.rec.ModelVersion, DetectorVersion: run.rec.BasedOn, State: model.ModelShadow,
			TrainedFrom: msTime(c.began), Reason: run.rec.Reason}
		if from := r.trainedFrom(v.Version); from != 0 {
			v.TrainedFrom = msTime(from)
		}
		if _, err := r.saveTrained(ctx, c, v); err != nil {
			r.shadowFailed(run, err)
			return
		}
		run.rec.Since = msTime(c.watermark + c.def.step)
		if err := r.e.store.ShadowBegan(ctx, r.id, run.rec.ModelVersion, run.rec.Since); err != nil {
			run.rec.Since = time.Time{}
			r.shadowFailed(run, err)
			return
		}
	}
	run.tell(c)
	run.core, run.fault = c, ""
	if first {
		for _, s := range c.series {
			if s != nil && s.episode != nil && s.episode.phase == phaseFiring {
				run.note(c, s, transitionFired, c.watermark, "")
			}
		}
	}
	r.snapshotSoon, r.measured = true, 0
	r.log.Info("a shadow scores beside the live definition", "model_version", run.rec.ModelVersion, "series", c.live)
}

// note keeps what a shadow would have told.
func (run *shadowRun) note(c *core, s *series, tr transition, t int64, note string) {
	switch tr {
	case transitionFired, transitionUpdated, transitionResolved:
		run.pending = append(run.pending, c.anomaly(s, t, note))
	}
}

// shadowFailed notes a failure of the shadow, which does not touch the live
// detector. After a few it is given up.
func (r *runner) shadowFailed(run *shadowRun, err error) {
	run.core, run.pending = nil, nil
	run.fault = safeText(err)
	switch model.KindOf(err) {
	case model.KindSourceUnavailable, model.KindNetwork, model.KindTimeout, model.KindDatabase, model.KindStorageFull, model.KindUnavailable:
	default:
		if !errors.Is(err, context.Canceled) {
			run.fails++
		}
	}
	run.retryAt = r.e.now().Add(r.retryAfter())
	r.log.Warn("a shadow is not scored at the moment", "model_version", run.rec.ModelVersion, "err", err)
}

// marks are the anomalous samples of one round.
type marks struct {
	after   int64 // steps up to here are not looked at
	samples int64
	at      map[mark]struct{}
}

type mark struct {
	hash uint64
	t    int64
}

func (m *marks) note(s *series, p model.ScoredPoint) {
	if p.T <= m.after {
		return
	}
	m.samples++
	if p.Anomalous && len(m.at) < maxMarks {
		m.at[mark{s.hash, p.T}] = struct{}{}
	}
}

func newMarks(after int64) *marks { return &marks{after: after, at: map[mark]struct{}{}} }

// agree adds what both said of the samples of a round. A round with more
// anomalous samples than are kept is not counted.
func (m *marks) agree(shadow *marks, a *model.Agreement) {
	if len(m.at) >= maxMarks || len(shadow.at) >= maxMarks {
		return
	}
	a.Samples += min(m.samples, shadow.samples)
	both := int64(0)
	for k := range m.at {
		if _, ok := shadow.at[k]; ok {
			both++
		}
	}
	a.Both += both
	a.OnlyLive += int64(len(m.at)) - both
	a.OnlyShadow += int64(len(shadow.at)) - both
}

// watchLive begins to compare what the live core says in this round. It
// returns nil when there is nothing to compare with.
func (r *runner) watchLive() *marks {
	run := r.shadow
	if run == nil || run.core == nil || run.core.watermark < r.core.watermark {
		return nil
	}
	m := newMarks(run.core.watermark)
	r.core.watch = m.note
	return m
}

// followLive lets the shadow score what the live core has just scored.
// before is where the live core stood.
func (r *runner) followLive(intake, work context.Context, data []model.SeriesData, before, gapUntil int64, live *marks) {
	r.core.watch = nil
	run := r.shadow
	if run == nil || run.core == nil {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			r.e.metrics.panics.Inc()
			r.log.Error("a shadow panicked; it starts again from its snapshot", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			run.fails++
			r.shadowFailed(run, model.Errorf(model.KindUnavailable, model.SubjectShadow, "an unexpected failure while scoring; it starts again from its last snapshot"))
		}
	}()
	c := run.core
	if c.watermark < before || len(run.pending) >= maxShadowQueued {
		r.buildShadow(intake, run, c)
		return
	}
	mine := newMarks(c.watermark)
	if live != nil {
		c.watch = mine.note
	}
	f := feeder{e: r.e, turn: r.turn}
	err := f.advance(work, c, r.core.watermark, data, gapUntil)
	c.watch = nil
	if err != nil {
		r.log.Debug("a shadow did not follow", "err", err)
		return
	}
	run.fails = 0
	if live != nil {
		live.agree(mine, &c.agreement)
	}
	r.commitShadow(work)
}

// commitShadow hands the alarms of the shadow to the store. It reports whether
// none is left.
func (r *runner) commitShadow(ctx context.Context) bool {
	run := r.shadow
	if run == nil {
		return true
	}
	if r.alone {
		return false
	}
	for len(run.pending) > 0 {
		n := min(len(run.pending), commitBatch)
		err := r.brief(ctx, func(ctx context.Context) error { return r.e.store.CommitShadow(ctx, r.id, run.pending[:n:n]) })
		if err != nil {
			if model.KindOf(err) == model.KindNotFound {
				r.dropShadow() // discarded meanwhile
				return true
			}
			r.log.Warn("the alarms of a shadow were not stored; trying again", "waiting", len(run.pending), "err", err)
			return false
		}
		run.pending = slices.Delete(run.pending, 0, n)
	}
	return true
}

// shadowSnapshot returns the state of the shadow, to be stored, after its alarms
// were stored; none when they could not be.
func (r *runner) shadowSnapshot(ctx context.Context) []model.Snapshot {
	if r.shadow == nil || r.shadow.core == nil || !r.commitShadow(ctx) || r.shadow == nil {
		return nil
	}
	return []model.Snapshot{r.shadow.core.snapshot(r.e.now())}
}

// shadowSize is the memory of the shadow.
func (r *runner) shadowSize() int64 {
	if r.shadow == nil || r.shadow.core == nil {
		return 0
	}
	return r.shadow.core.sizeBytes()
}

// shadowProgress notes how far the shadow has learned.
func (r *runner) shadowProgress(share float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shadowState.progress = share
}

// publishShadow makes the state of the shadow visible; mu is held.
func (r *runner) publishShadow() {
	run, s := r.shadow, &r.shadowState
	if run == nil {
		*s = shadowStatus{}
		return
	}
	s.present, s.loaded, s.building, s.fault, s.failed = true, run.core != nil, run.building, run.fault, run.fails >= maxShadowFails
	if c := run.core; c != nil {
		s.progress = 1
		s.series, s.learning, s.threshold, s.watermark, s.agreement = c.active, c.learning, c.threshold, c.watermark, c.agreement
	}
}
