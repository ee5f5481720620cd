package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"aiops/internal/model"
)

// stage is what a runner does next.
type stage uint8

const (
	stageLoad stage = iota // find out where the detector stood
	stageWarm              // learn from history, tell nothing
	stageLive              // evaluate what became due, a gap included
)

// Bounds of a runner.
const (
	maxPending    = 10_000           // changes that wait for the store; beyond it evaluation waits too
	maxPendBytes  = 64 << 20         // of their evidence, likewise
	commitBatch   = 500              // changes in one transaction
	commitWithin  = 20 * time.Second // a transaction that takes longer is tried again
	sleepAtMost   = 30 * time.Second // so that a jump of the clock is seen
	backoffAtMost = 10 * time.Minute
	jitterAtMost  = 5 * time.Second
	nobodyChecks  = 2 * time.Minute // health older than this is not being looked after: a query may find out
	compareEvery  = time.Minute
	compareAtMost = 1000      // open anomalies that are looked for in the store again and again
	snapshotRate  = 256 << 10 // bytes a second that snapshots of one detector may cost on average
)

// turn is a mutex that can be waited for with a limit.
type turn chan struct{}

func (t turn) lock()   { t <- struct{}{} }
func (t turn) unlock() { <-t }

// do runs f while holding the turn, and gives it back even when f panics.
func (t turn) do(f func()) {
	t.lock()
	defer t.unlock()
	f()
}

func (t turn) lockCtx(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// runner evaluates one detector. Its loop runs in one goroutine; whoever else
// wants the core takes its turn.
type runner struct {
	e    *Engine
	id   string
	log  *slog.Logger
	wake chan struct{} // capacity 1: the definition or the models changed

	// requests are run by the loop between evaluations.
	requests chan func(ctx context.Context)
	ended    chan struct{} // closed when the loop has ended

	turn     turn // guards the fields below it, until a blank line; only the loop changes core itself
	core     *core
	trained  model.ModelVersion   // what core runs
	versions []model.ModelVersion // all that are stored, newest first

	// Only the loop uses these.
	stage        stage
	pending      []model.AnomalyChange // not acknowledged by the store yet
	pendingBytes int64                 // of their evidence
	flight       *flight               // a write that goes on beside the loop; nil: none
	alone        bool                  // the store cannot be reached: nothing is written
	detector     model.Detector        // the definition in force
	fails        int                   // evaluations that failed in a row
	held         bool                  // the source could not be trusted since the last evaluation
	gapUntil     int64                 // steps up to here may lie in an outage
	blankSince   time.Time             // when the newest steps came without any sample
	reconcile    bool                  // compare open anomalies with the store when caught up
	comparedAt   time.Time             // when that was done last
	snapshotAt   time.Time             // of the last snapshot
	snapshotSize int64
	snapshotSoon bool
	lastSaved    int64 // its watermark
	measured     int64 // samples at which memory is measured again
	feed         feeder
	shown        map[string]int64 // by key, the step last handed to the audience
	shadow       *shadowRun       // nil: none
	retrainAt    time.Time        // not asked for again before
	events       int64            // generation of the known events that the core has
	token        int64            // of the lease that core belongs to
	lost         int64            // the token that another node has overtaken, or that was handed over
	owns         bool             // this node may evaluate it
	side         sync.WaitGroup

	mu     sync.Mutex
	want   model.Detector
	check  bool // look whether another model version is active
	gone   bool // deleted
	status live

	stored      *model.Shadow // the shadow in the store; nil: none
	shadowState shadowStatus
}

// live is what Status shows of a runner.
type live struct {
	stage     stage
	stopped   bool
	failure   string // it cannot be evaluated
	trouble   string // it runs with loss
	active    int
	learning  int
	refused   int
	open      int
	memory    int64
	threshold float64
	asked     float64 // for scores that are exact
	basis     string
	watermark int64
	late      time.Duration
	evaluated time.Time
	began     bool // a series was ever seen
	drift     model.Drift
	waiting   int // changes that wait for the store
	trials    int // series that were promoted on trial
	deep      int // and such that are scored as by "deep"
}

func newRunner(e *Engine, d model.Detector) *runner {
	return &runner{e: e, id: d.ID, log: e.log.With("detector_id", d.ID), wake: make(chan struct{}, 1),
		requests: make(chan func(context.Context)), ended: make(chan struct{}), turn: make(turn, 1), want: d, detector: d}
}

// define gives the runner a definition. It takes effect between evaluations.
func (r *runner) define(d model.Detector) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.want = d
	r.check = true
	r.nudge()
}

// recheck makes the next evaluation look which model version is active.
func (r *runner) recheck() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.check = true
}

func (r *runner) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *runner) wanted() (d model.Detector, check bool, shadow *model.Shadow) {
	r.mu.Lock()
	defer r.mu.Unlock()
	check, r.check = r.check, false
	return r.want, check, r.stored
}

// wantShadow tells the runner which shadow is stored.
func (r *runner) wantShadow(s *model.Shadow) {
	r.mu.Lock()
	defer r.mu.Unlock()
	same := s == nil && r.stored == nil || s != nil && r.stored != nil && s.Version == r.stored.Version && s.CreatedAt.Equal(r.stored.CreatedAt) && s.Since.Equal(r.stored.Since)
	if r.stored = s; !same {
		r.nudge()
	}
}

// run evaluates until intake ends and then writes a snapshot. work bounds what
// is still running then.
func (r *runner) run(intake, work context.Context) {
	defer close(r.ended)
	for intake.Err() == nil {
		if !r.sleep(intake, work, r.attempt(intake, work, nil)) {
			break
		}
	}
	r.side.Wait()
	r.drain(work)
}

// sleep waits until a time by the engine's clock, or until the runner is
// woken. It returns false when ctx ended.
func (r *runner) sleep(ctx, work context.Context, until time.Time) bool {
	for {
		now := r.e.now()
		left := until.Sub(now)
		if left <= 0 {
			select {
			case f := <-r.requests:
				r.attempt(ctx, work, f)
			default:
			}
			return ctx.Err() == nil
		}
		timer := time.NewTimer(min(left, sleepAtMost))
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-r.wake:
			timer.Stop()
			return true
		case f := <-r.requests:
			timer.Stop()
			r.attempt(ctx, work, f)
			continue
		case <-timer.C:
		}
		if r.e.now().Before(now) {
			return true // the clock went back: until may be far away now
		}
	}
}

// attempt does one piece of work, request when there is one, and survives its
// panic. It returns when to come back.
func (r *runner) attempt(intake, work context.Context, request func(context.Context)) (next time.Time) {
	defer func() {
		if p := recover(); p != nil {
			r.e.metrics.panics.Inc()
			r.log.Error("evaluating a detector panicked; it starts again from its snapshot", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			r.forget()
			next = r.failed(errors.New("an unexpected failure while scoring; it starts again from its last snapshot"))
		}
		r.publish()
	}()
	r.owns = r.owned()
	intake, work = r.fence(intake), r.fence(work) // either is written with
	if request != nil {
		request(work)
		return r.e.now()
	}
	if !r.owns {
		return r.e.now().Add(sleepAtMost)
	}
	d, check, shadow := r.wanted()
	if err := r.adopt(work, d, check); err != nil {
		return r.failed(err)
	}
	r.adoptShadow(work, shadow)
	r.learnOfEvents(work)
	if !d.Enabled {
		return r.park(work)
	}
	var err error
	switch r.stage {
	case stageLoad:
		err = r.load(work)
	case stageWarm:
		err = r.warm(intake)
	default:
		if !r.alone {
			r.openShadow(intake, work)
		}
		return r.evaluate(intake, work)
	}
	switch model.KindOf(err) {
	case model.KindSourceUnavailable, model.KindNetwork, model.KindTimeout:
		r.hold(holdSource, safeText(err))
		return r.e.now().Add(r.retryAfter())
	}
	if err != nil {
		return r.failed(err)
	}
	return r.e.now()
}

// forget drops state that cannot be trusted after a panic.
func (r *runner) forget() {
	r.turn.do(func() { r.core = nil })
	r.stage = stageLoad
}

// failed notes why nothing was evaluated and returns when to try again.
func (r *runner) failed(err error) time.Time {
	r.fails++
	r.deposed(err)
	text := safeText(err)
	r.mu.Lock()
	changed := r.status.failure != text
	r.status.failure = text
	r.mu.Unlock()
	if changed && !errors.Is(err, context.Canceled) {
		r.log.Warn("a detector cannot be evaluated", "err", err)
	}
	r.e.metrics.evaluations.WithLabelValues("failed").Inc()
	return r.e.now().Add(min(r.retryAfter()<<min(r.fails-1, 10), backoffAtMost))
}

// retryAfter is how long to wait after an attempt that came to nothing.
func (r *runner) retryAfter() time.Duration {
	return min(max(r.detector.Step, 5*time.Second), time.Minute)
}

// safeText is what may be shown of an error.
func safeText(err error) string {
	var e *model.Error
	if errors.As(err, &e) {
		return e.Message
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "it took too long"
	}
	return err.Error()
}

// adopt puts a changed definition in force. What was learned stays when the
// change does not touch it.
func (r *runner) adopt(ctx context.Context, d model.Detector, check bool) error {
	old := r.detector
	r.detector = d
	if r.core == nil {
		return nil
	}
	if fingerprintOf(d) != r.core.def.fingerprint {
		r.log.Info("the definition changed; learning anew", "detector_version", d.Version)
		return r.relearn(ctx, "definition changed")
	}
	if d.Version != old.Version || r.core.def.detector.Version != d.Version {
		r.turn.do(func() { r.core.redefine(d, r.definedAt()) })
		r.snapshotSoon = true
		// At once, so that a crash does not score earlier steps again by a
		// definition that was not in force then.
		if err := r.snapshotLive(ctx, false); err != nil {
			r.log.Warn("a snapshot was not written", "err", err)
		}
	}
	if !check || !d.Enabled {
		return nil
	}
	if r.alone {
		r.recheck()
		return nil
	}
	err := r.followActive(ctx)
	if err == nil {
		return nil
	}
	r.recheck()
	if r.core != nil && r.stage == stageLive && model.KindOf(err).Transient() {
		r.log.Debug("which model version is active is not known; the one of before goes on", "err", err)
		return nil
	}
	return err
}

// definedAt returns when the definition was changed last, in milliseconds.
func (r *runner) definedAt() int64 {
	return min(r.detector.UpdatedAt.UnixMilli(), r.e.now().UnixMilli())
}

// followActive notices that another model version was made active, by
// promoting it or rolling back to it.
func (r *runner) followActive(ctx context.Context) error {
	versions, err := r.modelVersions(ctx)
	if err != nil {
		return err
	}
	active, ok := activeVersion(versions)
	if !ok || r.stage == stageWarm || active.Version == r.core.modelVersion {
		return nil
	}
	r.log.Info("another model version is active", "model_version", active.Version)
	if err := r.snapshotLive(ctx, true); err != nil {
		return err
	}
	r.turn.do(func() { r.core = nil })
	r.stage = stageLoad
	return nil
}

// modelVersions asks the store for the model versions, newest first.
func (r *runner) modelVersions(ctx context.Context) (versions []model.ModelVersion, err error) {
	err = r.brief(ctx, func(ctx context.Context) (err error) {
		versions, err = r.e.store.ModelVersions(ctx, r.id)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading model versions: %w", err)
	}
	return versions, nil
}

func activeVersion(versions []model.ModelVersion) (model.ModelVersion, bool) {
	for _, v := range versions {
		if v.State == model.ModelActive {
			return v, true
		}
	}
	return model.ModelVersion{}, false
}

// park keeps the state of a detector that is not enabled.
func (r *runner) park(ctx context.Context) time.Time {
	r.mu.Lock()
	already := r.status.stopped
	r.status.stopped, r.status.failure, r.status.trouble = true, "", ""
	r.mu.Unlock()
	if r.core != nil && (!already || r.flight != nil || len(r.pending) > 0) {
		if err := r.snapshotLive(ctx, false); err != nil {
			r.log.Warn("the snapshot of a stopped detector was not written", "err", err)
		}
		r.held = true // what happens meanwhile is a gap
	}
	return r.e.now().Add(sleepAtMost)
}

// drain writes what is left when the engine stops.
func (r *runner) drain(ctx context.Context) {
	r.mu.Lock()
	gone := r.gone
	r.mu.Unlock()
	if gone {
		return
	}
	if !r.owned() {
		return
	}
	ctx = r.fence(ctx)
	if err := r.snapshotLive(ctx, true); err != nil {
		r.log.Warn("the last snapshot was not written; the gap since the one before is replayed at the next start", "err", err)
	}
}

// next returns when the next step is due, by the engine's clock.
func (r *runner) next() time.Time {
	late, step := r.late(), r.detector.Step
	shift := late + r.jitter()
	now := r.e.now().Add(-shift)
	return now.Add(-time.Duration(mod(now.UnixNano(), int64(step)))).Add(step + shift)
}

// jitter spreads the detectors of one step over time, the same at each start.
func (r *runner) jitter() time.Duration {
	span := min(r.detector.Step/5, jitterAtMost)
	return time.Duration(hashKey([]byte(r.id)) % uint64(span))
}

func (r *runner) late() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status.late
}

// due returns the last step that has to be evaluated by now.
func (r *runner) due(src Source) int64 {
	late := src.LateData()
	r.mu.Lock()
	r.status.late = late
	r.mu.Unlock()
	step := r.detector.Step.Milliseconds()
	t := r.e.now().Add(-late).UnixMilli()
	return t - mod(t, step)
}

// publish makes the state of the runner visible.
func (r *runner) publish() {
	r.turn.do(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		s := &r.status
		s.stage = r.stage
		s.stopped = !r.detector.Enabled
		s.waiting = len(r.pending)
		if c := r.core; c != nil {
			s.active, s.learning, s.refused, s.open = c.active, c.learning, c.refused, c.open
			s.threshold, s.watermark, s.began = c.threshold, c.watermark, c.began != 0
			s.asked, s.basis = c.asked()
			s.trials, s.deep = c.deep.trials, c.deep.inForce
			s.drift = c.drift.shown()
		}
		r.publishShadow()
	})
}
