package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"aiops/internal/model"
	"aiops/internal/telemetry"
)

// The reasons to hold: nothing opens, nothing resolves, nothing is learned.
const (
	holdSource = "source" // the source is not usable
	holdQuery  = "query"  // the query failed
	holdLate   = "late"   // the newest steps have no samples yet
	holdClock  = "clock"  // the clock went back
	holdStore  = "store"  // the store does not take what was found
)

// evaluate scores the steps that became due and returns when to come back.
func (r *runner) evaluate(intake, ctx context.Context) time.Time {
	r.commit(ctx, false)
	if len(r.pending) >= maxPending || r.pendingBytes >= maxPendBytes {
		return r.hold(holdStore, fmt.Sprintf("the store does not take anomalies; evaluation waits with %d of them", len(r.pending)))
	}
	src, err := r.e.source(r.detector)
	if err != nil {
		r.held = true
		return r.failed(err)
	}
	if h := src.Health(); !trusted(h.State) {
		next := r.hold(holdSource, safeText(sourceError(r.detector.Source, h)))
		if r.e.now().Sub(h.CheckedAt) < nobodyChecks {
			return r.sooner(next)
		}
		// Nobody looks after this source: a query may show that it is back.
	}
	due := r.due(src)
	behind := (due - r.core.watermark) / r.core.def.step
	switch {
	case behind <= 0:
		return r.early(ctx, due)
	case behind > r.gapLimit():
		if err := r.relearn(ctx, fmt.Sprintf("relearned after a gap of %s", model.Duration(msDuration(behind*r.core.def.step)))); err != nil {
			return r.failed(err)
		}
		return r.e.now()
	}
	return r.evaluateTo(intake, ctx, src, due, behind)
}

func (r *runner) evaluateTo(intake, ctx context.Context, src Source, due, behind int64) time.Time {
	class := classLive
	if behind > 3 {
		class = classCatchUp
	}
	place, err := r.e.enter(ctx, class, r.detector, r.wedged)
	if err != nil {
		return r.failed(err)
	}
	defer place.leave()
	ctx, span := telemetry.Start(ctx, "evaluate detector", attribute.String("detector.id", r.id), attribute.Int64("steps.behind", behind))
	defer span.End()
	began := r.e.now()
	c := r.core
	until := min(due, c.watermark+int64(max(1, r.feed.steps))*c.def.step)
	data, err := r.e.query(ctx, src, c.def, c.watermark+c.def.step, until, 1)
	if err != nil {
		_ = r.feed.smaller(nil)
		r.held = true
		telemetry.Failed(span, safeText(err))
		return r.queryFailed(err)
	}
	if h := src.Health(); !trusted(h.State) {
		return r.sooner(r.hold(holdSource, safeText(sourceError(r.detector.Source, h))))
	}
	if r.held {
		r.gapUntil, r.held = due, false
	}
	blanks := c.blanks
	accepted, waiting := r.arrived(data, until, due)
	before, live := c.watermark, r.watchLive()
	scoring, score := telemetry.Start(ctx, "score", attribute.Int("series", len(data)))
	err = r.feed.advance(scoring, c, accepted, data, r.gapUntil)
	score.End()
	r.followLive(intake, ctx, data, before, r.gapUntil, live)
	if err != nil {
		telemetry.Failed(span, safeText(err))
		return r.failed(err)
	}
	if c.blanks != blanks && c.live <= seriesPerPart/10 && r.detector.MissingData != model.MissingIgnore {
		// What was learned from silence cannot be told from an outage after a
		// crash, so it is made to last at once where that is cheap.
		r.snapshotSoon = true
	}
	r.feed.fit(max(len(data), c.live))
	r.e.metrics.evaluated(r.e.now().Sub(began))
	r.evaluated()
	r.show()
	r.finish(ctx)
	switch {
	case waiting: // shown as lag, not as trouble: a sparse series is often a little late
		r.e.metrics.holds.WithLabelValues(holdLate).Inc()
	case c.watermark < due:
		return r.e.now()
	}
	return r.next()
}

// show hands the newest points of the series that somebody looks at on.
func (r *runner) show() {
	if r.e.cfg.Audience == nil {
		return
	}
	keys := r.e.cfg.Audience.Watched(r.id)
	if len(keys) == 0 {
		r.shown = nil
		return
	}
	shown := make(map[string]int64, len(keys))
	for _, key := range keys {
		s := r.core.find(hashKey([]byte(key)), []byte(key))
		if s == nil || s.last.T == 0 {
			continue
		}
		if s.last.T > r.shown[key] {
			r.e.cfg.Audience.Point(r.id, key, s.last)
		}
		shown[key] = s.last.T
	}
	r.shown = shown
}

// arrived returns up to which step an answer can be accepted. Steps at the end
// without any sample may just be late: they are waited for, for a while.
func (r *runner) arrived(data []model.SeriesData, until, due int64) (accepted int64, waiting bool) {
	newest := int64(0)
	for i := range data {
		if s := data[i].Samples; len(s) > 0 {
			newest = max(newest, s[len(s)-1].T)
		}
	}
	if newest >= until || r.core.live == 0 && newest == 0 || until < due {
		r.blankSince = time.Time{}
		return until, false
	}
	now := r.e.now()
	if r.blankSince.IsZero() || now.Before(r.blankSince) {
		r.blankSince = now
	}
	if now.Sub(r.blankSince) < r.grace() {
		return max(newest, r.core.watermark), true
	}
	return until, false
}

// grace is how long steps without any sample are waited for.
func (r *runner) grace() time.Duration {
	return min(max(2*r.detector.Step, 30*time.Second), 10*time.Minute)
}

// early is called when nothing is due.
func (r *runner) early(ctx context.Context, due int64) time.Time {
	back := msDuration(r.core.watermark - due)
	switch {
	case back < 2*r.detector.Step:
		r.finish(ctx)
		return r.next()
	case back > r.clockBackLimit():
		if err := r.relearn(ctx, fmt.Sprintf("relearned after the clock went back %s", model.Duration(back))); err != nil {
			return r.failed(err)
		}
		return r.e.now()
	default:
		r.holdFor(holdClock, fmt.Sprintf("the clock went back; evaluation goes on at %s", msTime(r.core.watermark).Format(time.RFC3339)))
		return r.e.now().Add(r.retryAfter())
	}
}

// hold notes that the data cannot be trusted and returns when to try again.
// The steps meanwhile are a gap.
func (r *runner) hold(reason, text string) time.Time {
	r.held = true
	return r.holdFor(reason, text)
}

func (r *runner) holdFor(reason, text string) time.Time {
	r.e.metrics.holds.WithLabelValues(reason).Inc()
	r.mu.Lock()
	changed := r.status.trouble == ""
	r.status.trouble, r.status.failure = text, ""
	r.mu.Unlock()
	if changed {
		r.log.Warn("holding a detector: nothing opens, resolves or is learned", "reason", text)
	}
	return r.next()
}

// queryFailed holds after a query that failed. A query that cannot succeed as
// it is makes the detector failed, anything else degraded.
func (r *runner) queryFailed(err error) time.Time {
	r.e.metrics.holds.WithLabelValues(holdQuery).Inc()
	switch model.KindOf(err) {
	case model.KindQuery, model.KindSourceAuth, model.KindInvalid:
		return r.failed(err)
	}
	r.log.Debug("a query failed", "err", err)
	r.holdFor(holdQuery, safeText(err))
	return r.e.now().Add(r.retryAfter())
}

// sooner is when to look at a source again that is not usable: looking costs
// no request.
func (r *runner) sooner(next time.Time) time.Time {
	if soon := r.e.now().Add(10 * time.Second); soon.Before(next) {
		return soon
	}
	return next
}

// evaluated notes that an evaluation succeeded.
func (r *runner) evaluated() {
	r.fails = 0
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.status.trouble != "" || r.status.failure != "" {
		r.log.Info("a detector is evaluated again")
	}
	r.status.failure, r.status.trouble = "", ""
	r.status.evaluated = r.e.now()
}

// wedged is called when an evaluation does not return.
func (r *runner) wedged() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.failure = fmt.Sprintf("an evaluation has not returned for %s", r.e.cfg.WedgedAfter)
	r.log.Error("an evaluation does not return; others take its place", "after", r.e.cfg.WedgedAfter.Std())
}

// finish does what follows an evaluation: commit, compare, snapshot, account.
func (r *runner) finish(ctx context.Context) {
	if !r.commit(ctx, false) || r.e.silent() {
		r.account()
		return
	}
	now := r.e.now()
	if r.core.watermark >= r.gapUntil && (r.reconcile || r.mayBeEnded(now)) {
		if err := r.compare(ctx); err != nil {
			r.log.Warn("open anomalies were not compared with the store", "err", err)
			return
		}
		r.reconcile, r.comparedAt = false, now
	}
	due := now.Sub(r.snapshotAt) >= r.snapshotEvery() || now.Before(r.snapshotAt)
	if (due || r.snapshotSoon) && r.core.watermark != r.lastSaved {
		if err := r.snapshot(ctx, false); err != nil {
			r.log.Warn("a snapshot was not written", "err", err) // not tried again with the next step
		}
	}
	r.account()
	r.askForRetraining(ctx, now)
}

// mayBeEnded reports whether it is time to look for anomalies that people have
// ended meanwhile. Whoever wants that to be seen at once calls Mute.
func (r *runner) mayBeEnded(now time.Time) bool {
	return r.core.open > 0 && r.core.open <= compareAtMost && now.Sub(r.comparedAt) >= compareEvery
}

// snapshotEvery grows with the size of the snapshot.
func (r *runner) snapshotEvery() time.Duration {
	return max(r.e.cfg.SnapshotEvery.Std(), time.Duration(r.snapshotSize/snapshotRate)*time.Second)
}

// snapshotLive stores the state of a detector that has learned, whenever the
// store takes what was found before. For wait see commit.
func (r *runner) snapshotLive(ctx context.Context, wait bool) error {
	if !r.scored() || !r.commit(ctx, wait) {
		return nil
	}
	return r.snapshot(ctx, wait)
}

// snapshot stores the state, after everything that was found in it, and that of
// the shadow with it. There must be no write under way. Without wait, nil says that
// it is stored or being stored.
func (r *runner) snapshot(ctx context.Context, wait bool) error {
	if r.core == nil || len(r.pending) > 0 || r.core.watermark == r.lastSaved && !r.snapshotSoon {
		return nil
	}
	if !wait && r.e.silent() {
		return errSilent()
	}
	snaps := r.shadowSnapshot(ctx)
	began := r.e.now()
	var snap model.Snapshot
	r.turn.do(func() { snap = r.core.snapshot(began) })
	size := int64(0)
	for _, p := range snap.Parts {
		size += int64(len(p))
	}
	soon := r.snapshotSoon
	r.snapshotAt, r.snapshotSoon = began, false
	var took time.Duration
	r.write(ctx, commitWithin+time.Duration(size/snapshotRate)*time.Second, func(ctx context.Context) error {
		for _, s := range snaps {
			if err := r.e.store.SaveSnapshot(ctx, s); err != nil {
				r.log.Warn("the snapshot of a shadow was not written", "err", err)
			}
		}
		err := r.e.store.SaveSnapshot(ctx, snap)
		took = r.e.now().Sub(began)
		return err
	}, func(err error) error {
		if err != nil {
			r.deposed(err)
			r.snapshotSoon = r.snapshotSoon || soon
			r.e.metrics.snapshotErrors.Inc()
			return fmt.Errorf("saving a snapshot: %w", err)
		}
		r.snapshotSize, r.lastSaved = size, snap.Watermark
		r.e.metrics.snapshotDuration.Observe(took.Seconds())
		r.e.metrics.snapshotBytes.Add(float64(size))
		return nil
	})
	if err := r.landed(wait); err != nil && !errors.Is(err, errUnderWay) {
		return err
	}
	return nil
}

// account measures the memory of the models, at most once in a while.
func (r *runner) account() {
	if r.core.samples < r.measured {
		return
	}
	r.measured = r.core.samples + 20*int64(r.core.live)
	var size int64
	var shadow int64
	r.turn.do(func() {
		shadow = r.shadowSize()
		size = r.core.sizeBytes() + shadow
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shadowState.memory = shadow
	r.e.memory.Add(size - r.status.memory)
	r.status.memory = size
}
