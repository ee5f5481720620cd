package pipeline

import (
	"context"
	"fmt"
	"time"

	"aiops/internal/model"
)

// Bounds of a backtest.
const (
	maxBacktestSamples   = 500_000_000
	maxBacktestAnomalies = 1000
)

// Train learns a new version of a detector's models from the source's history
// in [from, to] and makes it the active one; open episodes go on. A zero to is
// now, a zero from is as far back as a new detector learns. progress gets
// values from 0 to 1; nil is fine. It waits for its turn behind live
// evaluation, and may take minutes. Too little history is KindTooLittleData.
func (e *Engine) Train(ctx context.Context, id string, from, to time.Time, progress func(float64)) (model.ModelVersion, error) {
	return e.train(ctx, id, from, to, training{reason: "trained", into: model.ModelActive}, progress)
}

// training says why models are trained and what becomes of them.
type training struct {
	reason string
	into   model.ModelState
}

func (e *Engine) train(ctx context.Context, id string, from, to time.Time, how training, progress func(float64)) (model.ModelVersion, error) {
	r, err := e.runner(id)
	if err != nil {
		return model.ModelVersion{}, err
	}
	d := r.detectorNow()
	def := newDefinition(d, e.cfg)
	begin, end, err := e.historyRange(ctx, def, from, to)
	if err != nil {
		return model.ModelVersion{}, err
	}
	// Steps that nobody scored live yet stay for the live path.
	if live := r.evaluatedTo(); live != 0 {
		end = min(end, live)
	}
	if begin >= end {
		return model.ModelVersion{}, invalidField("/from", "out_of_range", "nothing behind %s has been evaluated yet", msTime(end).Format(time.RFC3339))
	}
	c := newCore(def, 0, begin-def.step)
	c.prove = true
	c.knowEvents(r.knownEvents(), false)
	f := feeder{e: e, class: classBackground}
	report := progressOver(progress, begin, end)
	if err := f.feedAll(ctx, c, end, end, report); err != nil {
		return model.ModelVersion{}, err
	}
	if c.live == 0 || c.learning == c.active {
		return model.ModelVersion{}, model.Errorf(model.KindTooLittleData, model.SubjectDetector,
			"the history from %s to %s has %d samples in %d series, which is too little to train on; choose a longer range",
			msTime(begin).Format(time.RFC3339), msTime(end).Format(time.RFC3339), c.samples, c.live)
	}
	return r.hand(ctx, c, msTime(begin), how)
}

// evaluatedTo returns the last step that the live core has evaluated, 0 when
// there is none.
func (r *runner) evaluatedTo() int64 {
	r.turn.lock()
	defer r.turn.unlock()
	if r.core == nil {
		return 0
	}
	return r.core.watermark
}

// hand gives a trained core to the loop and waits until it is in force.
func (r *runner) hand(ctx context.Context, c *core, from time.Time, how training) (model.ModelVersion, error) {
	return ask(ctx, r, func(work context.Context) (model.ModelVersion, error) {
		if how.into == model.ModelShadow {
			return r.shade(work, c, from, how.reason)
		}
		return r.swap(work, c, from, how.reason)
	})
}

// swap puts a trained core in force: it brings it to the step that the live
// one has reached, moves the episodes over, stores it and only then uses it.
func (r *runner) swap(ctx context.Context, fresh *core, from time.Time, reason string) (model.ModelVersion, error) {
	none := model.ModelVersion{}
	if fingerprintOf(r.detector) != fresh.def.fingerprint {
		return none, model.Errorf(model.KindConflict, model.SubjectDetector, "the definition changed while its models were trained; train again")
	}
	versions, err := r.modelVersions(ctx)
	if err != nil {
		return none, err
	}
	old := r.core
	switch {
	case old == nil && !r.detector.Enabled:
	case old == nil || r.stage != stageLive:
		return none, model.Errorf(model.KindConflict, model.SubjectDetector, "the detector still learns from its history; train it when that is done")
	case fresh.watermark > old.watermark:
		return none, model.Errorf(model.KindConflict, model.SubjectDetector, "the detector began to learn anew while its models were trained; train again")
	case !r.commit(ctx, true):
		return none, model.Errorf(model.KindUnavailable, model.SubjectDetector, "the store does not take anomalies at the moment; try again later")
	default:
		if fresh.watermark < old.watermark {
			f := feeder{e: r.e, class: classCatchUp}
			if err := f.feedAll(ctx, fresh, old.watermark, old.watermark, nil); err != nil {
				return none, fmt.Errorf("bringing trained models up to date: %w", err)
			}
		}
		r.turn.do(func() { fresh.succeed(old) })
	}
	v := r.nextVersion(versions, reason)
	v.TrainedFrom = from
	if fresh.setVersion(v.Version); old == nil {
		fresh.past.versions = []versionChange{{from.UnixMilli(), v.Version}}
	}
	if err := r.e.store.SaveSnapshot(ctx, fresh.snapshot(r.e.now())); err != nil {
		return none, fmt.Errorf("saving a snapshot: %w", err)
	}
	if v, err = r.saveTrained(ctx, fresh, v); err != nil {
		return none, err
	}
	if old != nil {
		held := r.held
		r.take(fresh, v)
		r.held, r.lastSaved, r.snapshotAt = held, fresh.watermark, r.e.now()
	}
	r.log.Info("trained", "model_version", v.Version, "series", fresh.live, "from", v.TrainedFrom, "to", v.TrainedTo)
	return v, nil
}

// succeed gives fresh what old knows beside models: thresholds, the past and
// the episodes. Both are at the same step. Series that only old has move over
// with their models. fresh must not be used before, old not after.
func (c *core) succeed(old *core) {
	c.past, c.planned = old.past, old.planned
	c.began, c.active, c.quota, c.threshold = old.began, old.active, old.quota, old.threshold
	c.def, c.notable, c.notableAt = old.def, old.notable, old.notableAt
	c.proofBytes, c.learning, c.open = old.proofBytes, 0, 0
	for _, s := range c.series {
		if s != nil {
			s.episode, s.context = nil, nil
		}
	}
	for _, s := range old.series {
		if s == nil {
			continue
		}
		if mine := c.find(s.hash, []byte(s.key)); mine != nil {
			mine.episode, mine.context, mine.last = s.episode, s.context, s.last
		} else {
			c.place(s)
		}
	}
	for _, s := range c.series {
		if s != nil {
			s.model.SetThreshold(c.threshold)
			c.count(s)
		}
	}
}

// historyRange aligns the range of a training or backtest and puts its defaults in.
func (e *Engine) historyRange(ctx context.Context, def *definition, from, to time.Time) (begin, end int64, err error) {
	src, err := e.source(def.detector)
	if err != nil {
		return 0, 0, err
	}
	latest := def.floor(e.now().Add(-src.LateData()).UnixMilli())
	end = latest
	if !to.IsZero() {
		end = min(end, def.floor(to.UnixMilli()))
	}
	found, err := e.query(ctx, src, def, end, end, historySlow)
	if err != nil {
		return 0, 0, err
	}
	begin = end - (e.historySteps(def, len(found))-1)*def.step
	if !from.IsZero() {
		begin = def.ceil(from.UnixMilli())
	}
	if begin >= end {
		return 0, 0, invalidField("/from", "out_of_range", "the range holds less than two steps of %s before now", def.detector.Step)
	}
	if samples := (end - begin) / def.step * int64(max(1, len(found))); samples > maxBacktestSamples {
		return 0, 0, invalidField("/from", "too_many_samples", "the range has about %d samples in %d series; at most %d are possible: choose a shorter one", samples, len(found), maxBacktestSamples)
	}
	return begin, end, nil
}

func progressOver(progress func(float64), begin, end int64) func(int64) {
	if progress == nil {
		return nil
	}
	return func(done int64) {
		progress(min(1, max(0, float64(done-begin)/float64(max(1, end-begin)))))
	}
}

// Backtest finds what d would have done from from to to, with the code of the
// live path: it learns from the history before from and then scores step by
// step. d need not be stored. The result holds the first 1,000 anomalies.
func (e *Engine) Backtest(ctx context.Context, d model.Detector, from, to time.Time, progress func(float64)) (model.BacktestResult, error) {
	return e.backtest(ctx, d, from, to, maxBacktestAnomalies, progress)
}

// backtest is Backtest with the first most anomalies.
func (e *Engine) backtest(ctx context.Context, d model.Detector, from, to time.Time, most int, progress func(float64)) (model.BacktestResult, error) {
	began := e.now()
	Defaults(&d)
	if err := Validate(d); err != nil {
		return model.BacktestResult{}, err
	}
	def := newDefinition(d, e.cfg)
	begin, end, err := e.historyRange(ctx, def, from, to)
	if err != nil {
		return model.BacktestResult{}, err
	}
	src, err := e.source(d)
	if err != nil {
		return model.BacktestResult{}, err
	}
	found, err := e.query(ctx, src, def, begin, begin, historySlow)
	if err != nil {
		return model.BacktestResult{}, err
	}
	start := begin - e.historySteps(def, len(found))*def.step
	c := newCore(def, 0, start-def.step)
	c.knowEvents(e.eventsOf(d), false)
	f := feeder{e: e, class: classBackground}
	report := progressOver(progress, start, end)
	if err := f.feedAll(ctx, c, begin-def.step, begin-def.step, report); err != nil {
		return model.BacktestResult{}, err
	}
	t := tally{core: c, most: most, at: map[string]int{}}
	c.emit = t.note
	learned := c.samples
	if err := f.feedAll(ctx, c, end, end, report); err != nil {
		return model.BacktestResult{}, err
	}
	weeks := float64(end-begin+def.step) / float64(7*24*time.Hour/time.Millisecond)
	return model.BacktestResult{
		From: msTime(begin), To: msTime(end), Series: c.live, Samples: c.samples - learned, Anomalies: t.first,
		AnomalyCount: t.fired, AlarmsPerWeek: float64(t.fired) / weeks, FalseAlarmsPerWeek: d.FalseAlarmsPerWeek,
		Elapsed: e.now().Sub(began),
	}, nil
}

// tally counts alarms and keeps the first of them, each as it was last.
type tally struct {
	core  *core
	most  int
	fired int
	first []model.Anomaly
	at    map[string]int
}

func (t *tally) note(s *series, tr transition, at int64, note string) {
	if tr == transitionPending || tr == transitionCancelled {
		return
	}
	if tr == transitionFired {
		t.fired++
		if len(t.first) >= t.most {
			return
		}
		a := t.core.anomaly(s, at, note)
		t.at[a.ID] = len(t.first)
		t.first = append(t.first, a)
		return
	}
	if i, ok := t.at[anomalyID(t.core.def.detector.ID, s.key, s.episode.startedAt)]; ok {
		t.first[i] = t.core.anomaly(s, at, note)
	}
}
