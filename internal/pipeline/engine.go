package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
)

// syncEvery is how often the engine compares itself with the definitions in
// the store without having been asked, as a net under Sync.
const syncEvery = time.Minute

// syncTimeout is how long one comparison may wait for the store.
const syncTimeout = 10 * time.Second

// turnTimeout is how long a reader waits for a detector that is being scored.
const turnTimeout = 10 * time.Second

// Engine runs the detectors. It is safe for concurrent use.
type Engine struct {
	cfg     Config
	store   Store
	sources SourceFunc
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics
	gate    *gate
	silence silence
	memory  atomic.Int64  // bytes of all model state
	changed chan struct{} // capacity 1: runners came or went

	storedTurn turn // for reading the stored state of a detector of another node

	mu         sync.Mutex
	runners    map[string]*runner
	events     []model.KnownEvent
	generation int64 // of events: grows when they change
}

// New makes an engine. It starts nothing and touches neither store nor
// sources; Run does. A nil logger discards, a nil registerer registers
// nothing, a nil now is time.Now. It panics when reg already holds the metrics
// of another engine.
func New(cfg Config, store Store, sources SourceFunc, logger *slog.Logger, reg prometheus.Registerer, now func() time.Time) *Engine {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	if now == nil {
		now = time.Now
	}
	cfg = cfg.withDefaults()
	e := &Engine{cfg: cfg, store: store, sources: sources, log: logger.With("component", "pipeline"), now: now,
		metrics: newMetrics(), gate: newGate(cfg.Workers, cfg.SourceWorkers, cfg.Pressure),
		changed: make(chan struct{}, 1), storedTurn: make(turn, 1), runners: map[string]*runner{}}
	if reg != nil {
		if err := e.metrics.register(reg, e); err != nil {
			panic("BUG: registering the metrics of the pipeline: " + err.Error())
		}
	}
	return e
}

// Run evaluates the detectors until ctx ends, then finishes the running
// evaluations, writes snapshots and returns when every goroutine it started
// has ended. Call it once. It returns nil: what fails is retried, and shown in
// Status and in the log.
func (e *Engine) Run(ctx context.Context) error {
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	var running sync.WaitGroup
	started := map[*runner]context.CancelFunc{}
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	if err := e.Sync(ctx); err != nil {
		e.log.Error("reading the detectors; trying again", "err", err)
	}
	for ctx.Err() == nil {
		e.startAndStop(ctx, work, started, &running)
		select {
		case <-ctx.Done():
		case <-e.changed:
		case <-tick.C:
			if err := e.syncSafely(ctx); err != nil && ctx.Err() == nil {
				e.log.Error("reading the detectors; trying again", "err", err)
			}
		}
	}
	limit := time.AfterFunc(e.cfg.DrainTimeout.Std(), stopWork)
	defer limit.Stop()
	running.Wait()
	for _, cancel := range started {
		cancel()
	}
	return nil
}

// syncSafely survives a definition that cannot be taken in: the other detectors
// go on.
func (e *Engine) syncSafely(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			e.metrics.panics.Inc()
			err = fmt.Errorf("BUG: taking in the detectors panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return e.sync(ctx, false)
}

// startAndStop makes the running loops match the runners.
func (e *Engine) startAndStop(ctx, work context.Context, started map[*runner]context.CancelFunc, running *sync.WaitGroup) {
	present := map[*runner]bool{}
	for _, r := range e.all() {
		present[r] = true
		if started[r] != nil {
			continue
		}
		intake, cancel := context.WithCancel(ctx)
		started[r] = cancel
		running.Go(func() { r.run(intake, work) })
	}
	for r, cancel := range started {
		if !present[r] {
			cancel()
			delete(started, r)
		}
	}
}

// Sync makes the running detectors match the definitions in the store, and
// notices when another model version is active. Call it after each change; it
// does not wait for evaluations.
func (e *Engine) Sync(ctx context.Context) error { return e.sync(ctx, true) }

func (e *Engine) sync(ctx context.Context, asked bool) error {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	detectors, err := e.store.AllDetectors(ctx)
	if err != nil {
		return fmt.Errorf("reading detectors: %w", err)
	}
	shadows, err := e.store.Shadows(ctx)
	if err != nil {
		return fmt.Errorf("reading the shadows: %w", err)
	}
	shadowOf := make(map[string]*model.Shadow, len(shadows))
	for i := range shadows {
		shadowOf[shadows[i].DetectorID] = &shadows[i]
	}
	events, err := e.store.RecentKnownEvents(ctx, e.now().Add(-eventsBack))
	if err != nil {
		return fmt.Errorf("reading the known events: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.learnEvents(events)
	found := make(map[string]bool, len(detectors))
	for _, d := range detectors {
		found[d.ID] = true
		r := e.runners[d.ID]
		if r == nil {
			r = newRunner(e, d)
			r.wantShadow(shadowOf[d.ID])
			e.runners[d.ID] = r
			continue
		}
		r.wantShadow(shadowOf[d.ID])
		switch {
		case r.version() != d.Version:
			r.define(d)
		case asked:
			r.recheck()
		}
	}
	for id, r := range e.runners {
		if !found[id] {
			r.remove()
			delete(e.runners, id)
		}
	}
	select {
	case e.changed <- struct{}{}:
	default:
	}
	return nil
}

// all returns the runners in no order.
func (e *Engine) all() []*runner {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := make([]*runner, 0, len(e.runners))
	for _, r := range e.runners {
		list = append(list, r)
	}
	return list
}

func (e *Engine) runner(id string) (*runner, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r := e.runners[id]; r != nil {
		return r, nil
	}
	return nil, model.NotFound(model.SubjectDetector, id)
}

// Config returns the configuration in force, defaults included.
func (e *Engine) Config() Config { return e.cfg }

// Pulse returns when the engine's state can be reached: at once, unless
// something holds it and does not let go. It waits for no store and no source.
func (e *Engine) Pulse() {
	for _, r := range e.all() {
		r.version()
	}
}

func (e *Engine) memoryUsedUp() bool { return e.memory.Load() >= e.cfg.MaxMemoryBytes }

// Status returns the live side of a detector, and false when the engine does
// not know it. It never waits for an evaluation.
func (e *Engine) Status(id string) (model.DetectorStatus, bool) {
	r, err := e.runner(id)
	if err != nil {
		return model.DetectorStatus{}, false
	}
	return r.state(), true
}

// Series lists the series of a detector in the order of their keys, at most
// limit of them (1,000 when limit is not from 1 to 1,000), starting behind the
// key after. asOf is the step up to which they were evaluated: on a node that
// does not own the detector, that of the newest snapshot. It is zero, and the
// list empty, while nothing was evaluated.
func (e *Engine) Series(id string, after string, limit int) (list []model.SeriesStatus, asOf time.Time, err error) {
	r, err := e.runner(id)
	if err != nil {
		return nil, time.Time{}, err
	}
	if limit < 1 || limit > 1000 {
		limit = 1000
	}
	c, done, err := r.look(context.Background())
	if err != nil {
		return nil, time.Time{}, err
	}
	defer func() { done() }()
	if c == nil && !r.here() {
		bounded, cancel := context.WithTimeout(context.Background(), turnTimeout)
		defer cancel()
		done()
		c, _, err = r.storedCore(bounded, "")
		done = func() {}
		if err != nil {
			return nil, time.Time{}, err
		}
	}
	if c == nil {
		return nil, time.Time{}, nil
	}
	var found []*series
	for _, s := range c.series {
		if s != nil && s.key > after {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b *series) int { return cmp.Compare(a.key, b.key) })
	found = found[:min(limit, len(found))]
	list = make([]model.SeriesStatus, len(found))
	for i, s := range found {
		list[i] = c.seriesStatus(s)
	}
	return list, msTime(c.watermark), nil
}

func (c *core) seriesStatus(s *series) model.SeriesStatus {
	labels, err := model.ParseSeriesKey(s.key)
	if err != nil {
		panic("BUG: a series key cannot be read back: " + err.Error())
	}
	out := model.SeriesStatus{Labels: labels, LastT: s.lastT, Last: s.last, Learning: s.learning}
	out.Model, out.Why = s.model.Describe()
	if e := s.episode; e != nil && e.open() {
		out.Anomaly = model.AnomalyPending
		if e.phase == phaseFiring {
			out.Anomaly = model.AnomalyFiring
		}
		out.AnomalyID = anomalyID(c.def.detector.ID, s.key, e.startedAt)
	}
	return out
}

// Mute tells the engine that a person ended an anomaly, so that the rest of
// its episode is not shown as open. Without it the store still refuses to open
// the anomaly again. Ids that the engine does not know are ignored.
func (e *Engine) Mute(detectorID, anomalyID string) {
	r, err := e.runner(detectorID)
	if err != nil {
		return
	}
	c, done, err := r.look(context.Background())
	if err != nil {
		return
	}
	defer done()
	if c == nil {
		return
	}
	if s := c.openEpisodes()[anomalyID]; s != nil {
		c.mute(s)
	}
}

// look takes the runner's turn to read its core, which is nil before the
// detector was loaded. done gives the turn back.
func (r *runner) look(ctx context.Context) (c *core, done func(), err error) {
	bounded, cancel := context.WithTimeout(ctx, turnTimeout)
	defer cancel()
	if err := r.turn.lockCtx(bounded); err != nil {
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		return nil, nil, &model.Error{Kind: model.KindUnavailable, Subject: model.SubjectDetector,
			Message: "the detector is busy scoring; try again in a moment", RetryAfter: time.Second}
	}
	return r.core, r.turn.unlock, nil
}

func (r *runner) version() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.want.Version
}

// remove ends a runner whose detector was deleted.
func (r *runner) remove() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = true
	r.e.memory.Add(-r.status.memory)
	r.status.memory = 0
}

// state says what the detector is doing.
func (r *runner) state() model.DetectorStatus {
	now := r.e.now()
	var node string
	unsure, alone := false, false
	if o := r.e.cfg.Owner; o != nil {
		token, write, score := o.Hold(r.id)
		if token == 0 {
			return r.stateElsewhere()
		}
		node, unsure, alone = o.Node(), !write, score && !write
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	out := model.DetectorStatus{SeriesActive: s.active, SeriesLearning: s.learning, SeriesDropped: s.refused, OpenAnomalies: s.open,
		LastEvaluatedAt: s.evaluated, MemoryBytes: s.memory, Threshold: s.threshold,
		ThresholdAsked: s.asked, ThresholdBasis: s.basis, Drift: s.drift, Node: node}
	step := r.want.Step.Milliseconds()
	if s.watermark != 0 && r.want.Enabled {
		due := now.Add(-s.late).UnixMilli()
		out.Lag = max(0, msDuration(due-mod(due, step)-s.watermark))
	}
	var troubles []string
	note := func(text string) {
		if text != "" {
			troubles = append(troubles, text)
		}
	}
	note(s.failure)
	note(s.trouble)
	switch {
	case alone && s.stage == stageLive && !s.stopped:
		note(fmt.Sprintf("this node cannot reach the database: it scores in memory, and %d changes of anomalies wait to be stored", s.waiting))
	case unsure:
		note("evaluation waits: this node cannot reach the database to say that it lives")
	}
	if s.refused > 0 {
		note(fmt.Sprintf("%d series are not watched because of the cap on series or on memory", s.refused))
	}
	switch {
	case !r.want.Enabled:
		out.State, out.Lag = model.DetectorStopped, 0
		return out
	case s.failure != "":
		out.State = model.DetectorFailed
	case len(troubles) > 0:
		out.State = model.DetectorDegraded
	case s.stage == stageLive && s.began && s.active == 0:
		out.State = model.DetectorRunning
		note("none of its series has samples at the moment")
	case s.stage != stageLive || s.active == s.learning:
		out.State = model.DetectorLearning
		if s.stage == stageLive && !s.began {
			note("the query has returned no series so far; check the query and that the source collects it")
		}
	case out.Lag > 3*r.want.Step+2*jitterAtMost:
		out.State = model.DetectorDegraded
		note(fmt.Sprintf("evaluation is %s behind", model.Duration(out.Lag)))
	default:
		out.State = model.DetectorRunning
	}
	out.LastError = strings.Join(troubles, "; ")
	return out
}
