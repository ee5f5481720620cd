package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"aiops/internal/model"
)

// staleReport is how old what another node told of a detector may be before
// that is shown as trouble.
const staleReport = 30 * time.Second

// owned reports whether this node may evaluate the detector now. Another owner
// means that what this node knows is out of date: it is dropped without being
// written. While the database cannot be reached, a detector that runs live goes
// on alone: in memory, so that nothing is written until it is known who owns it.
// While the node is unsure otherwise, the state is kept and waits.
func (r *runner) owned() bool {
	o := r.e.cfg.Owner
	if o == nil {
		return true
	}
	token, write, score := o.Hold(r.id)
	if token != r.token || token == 0 {
		r.disown()
		r.token = token
	}
	r.alone = score && !write
	if !write && (!score || r.stage != stageLive || r.core == nil) || token == r.lost {
		r.held = true // what happens meanwhile is a gap
		return false
	}
	return true
}

// fence returns the context for what this node writes of the detector while it
// owns it.
func (r *runner) fence(ctx context.Context) context.Context {
	if r.e.cfg.Owner == nil {
		return ctx
	}
	return r.e.cfg.Owner.Fence(ctx, r.id, r.token)
}

// disown forgets everything that was learned live, as a process that ends
// would, and writes nothing.
func (r *runner) disown() {
	r.dropShadow()
	r.turn.do(func() { r.core = nil })
	r.stage, r.pending, r.pendingBytes, r.lastSaved, r.snapshotSoon, r.reconcile = stageLoad, nil, 0, 0, false, false
	r.flight = nil // the fence decides what becomes of it
	r.fails, r.gapUntil, r.blankSince, r.measured = 0, 0, time.Time{}, 0
	r.mu.Lock()
	defer r.mu.Unlock()
	r.e.memory.Add(-r.status.memory)
	r.status = live{}
}

// deposed notes that the store refused a write because another node has taken
// the detector over. It reports whether err says so.
func (r *runner) deposed(err error) bool {
	if !model.IsDeposed(err) {
		return false
	}
	if r.lost != r.token {
		r.log.Warn("another node has taken the detector over; nothing more is written here", "token", r.token)
	}
	r.lost, r.pending, r.pendingBytes, r.flight = r.token, nil, 0, nil
	r.nudge()
	return true
}

// here reports whether this node owns the detector, maybe unsure.
func (r *runner) here() bool {
	if r.e.cfg.Owner == nil {
		return true
	}
	token, _, _ := r.e.cfg.Owner.Hold(r.id)
	return token != 0
}

// errElsewhere is the cause of an error that says that another node evaluates a
// detector: what needs its live state can be done there.
var errElsewhere = errors.New("another node owns the detector")

// IsElsewhere reports whether err says that only the node that owns the
// detector can do what was asked.
func IsElsewhere(err error) bool { return errors.Is(err, errElsewhere) }

func elsewhere() error {
	e := model.WrapError(model.KindUnavailable, model.SubjectDetector, errElsewhere, "another node evaluates the detector, and has to do this; try again in a moment")
	e.RetryAfter = time.Second
	return e
}

// Owns reports whether this node evaluates a detector. known is false when
// there is no such detector.
func (e *Engine) Owns(id string) (owns, known bool) {
	r, err := e.runner(id)
	if err != nil {
		return false, false
	}
	return r.here(), true
}

// Definitions returns every detector that the engine knows, in no order.
func (e *Engine) Definitions() []model.Detector {
	runners := e.all()
	out := make([]model.Detector, len(runners))
	for i, r := range runners {
		out[i] = r.detectorNow()
	}
	return out
}

// Recheck makes the loops of detectors look at once whether this node owns
// them.
func (e *Engine) Recheck(ids []string) {
	for _, id := range ids {
		if r, err := e.runner(id); err == nil {
			r.nudge()
		}
	}
}

// HandOver ends the evaluation of a detector here, for the token it is owned
// under, and writes a snapshot for the node that goes on. It waits for a
// running evaluation until ctx ends. A snapshot that cannot be written is only
// logged: the next owner then replays a longer gap.
func (e *Engine) HandOver(ctx context.Context, id string) error {
	r, err := e.runner(id)
	if err != nil {
		return nil //nolint:nilerr // deleted: nothing to hand over
	}
	_, err = ask(ctx, r, func(work context.Context) (struct{}, error) {
		if err := r.snapshotLive(work, true); err != nil {
			r.log.Warn("the snapshot for the next owner was not written; it replays a longer gap", "err", err)
		}
		r.lost = r.token
		r.disown()
		return struct{}{}, nil
	})
	if IsElsewhere(err) {
		return nil
	}
	return err
}

// report is what the owner of a detector tells the other nodes of it.
type report struct {
	State          model.DetectorState `json:"state"`
	SeriesActive   int                 `json:"series_active"`
	SeriesLearning int                 `json:"series_learning"`
	SeriesDropped  int                 `json:"series_dropped,omitempty"`
	OpenAnomalies  int                 `json:"open_anomalies,omitempty"`
	LagMs          int64               `json:"lag_ms,omitempty"`
	EvaluatedAt    time.Time           `json:"evaluated_at,omitzero"`
	LastError      string              `json:"last_error,omitempty"`
	MemoryBytes    int64               `json:"memory_bytes"`
	Threshold      model.Float         `json:"threshold"`
	Asked          model.Float         `json:"asked"`
	Basis          string              `json:"basis,omitempty"`
	Watermark      int64               `json:"watermark"`
	Drift          *reportDrift        `json:"drift,omitempty"`
	Shadow         *reportShadow       `json:"shadow,omitempty"`
}

type reportDrift struct {
	Share    model.Float `json:"share"`
	Expected model.Float `json:"expected"`
	Sum      model.Float `json:"sum"`
	Limit    model.Float `json:"limit"`
	Drifting bool        `json:"drifting,omitempty"`
	Since    time.Time   `json:"since,omitzero"`
	Blocks   int         `json:"blocks"`
}

type reportShadow struct {
	Loaded    bool            `json:"loaded,omitempty"`
	Building  bool            `json:"building,omitempty"`
	Progress  model.Float     `json:"progress"`
	Fault     string          `json:"fault,omitempty"`
	Failed    bool            `json:"failed,omitempty"`
	Series    int             `json:"series"`
	Learning  int             `json:"learning"`
	Memory    int64           `json:"memory"`
	Threshold model.Float     `json:"threshold"`
	Watermark int64           `json:"watermark"`
	Agreement model.Agreement `json:"agreement"`
}

// Report returns what this node tells the others of a detector that it owns.
// Other engines show it in Status. nil: there is nothing to tell.
func (e *Engine) Report(id string) []byte {
	r, err := e.runner(id)
	if err != nil || !r.here() {
		return nil
	}
	s := r.state()
	r.mu.Lock()
	watermark, sh := r.status.watermark, r.shadowState
	r.mu.Unlock()
	out := report{State: s.State, SeriesActive: s.SeriesActive, SeriesLearning: s.SeriesLearning, SeriesDropped: s.SeriesDropped,
		OpenAnomalies: s.OpenAnomalies, LagMs: s.Lag.Milliseconds(), EvaluatedAt: s.LastEvaluatedAt.UTC(), LastError: s.LastError, MemoryBytes: s.MemoryBytes,
		Threshold: model.Float(s.Threshold), Asked: model.Float(s.ThresholdAsked), Basis: s.ThresholdBasis, Watermark: watermark}
	if d := s.Drift; d != (model.Drift{}) {
		out.Drift = &reportDrift{model.Float(d.Share), model.Float(d.Expected), model.Float(d.Sum), model.Float(d.Limit), d.Drifting, d.Since, d.Blocks}
	}
	if sh.present {
		out.Shadow = &reportShadow{sh.loaded, sh.building, model.Float(sh.progress), sh.fault, sh.failed, sh.series, sh.learning, sh.memory,
			model.Float(sh.threshold), sh.watermark, sh.agreement}
	}
	b, err := json.Marshal(out)
	if err != nil {
		panic("BUG: encoding a report: " + err.Error())
	}
	return b
}

// reported returns what the owner of a detector told of it last, the zero value
// when it told nothing that can be read.
func (r *runner) reported() (out report, by string, age time.Duration) {
	raw, by, age := r.e.cfg.Owner.Report(r.id)
	if len(raw) == 0 || json.Unmarshal(raw, &out) != nil {
		return report{}, by, age
	}
	return out, by, age
}

// stateElsewhere is state for a detector that another node owns.
func (r *runner) stateElsewhere() model.DetectorStatus {
	rep, by, age := r.reported()
	out := model.DetectorStatus{State: rep.State, SeriesActive: rep.SeriesActive, SeriesLearning: rep.SeriesLearning, SeriesDropped: rep.SeriesDropped,
		OpenAnomalies: rep.OpenAnomalies, Lag: msDuration(rep.LagMs), LastEvaluatedAt: rep.EvaluatedAt, LastError: rep.LastError, MemoryBytes: rep.MemoryBytes,
		Threshold: float64(rep.Threshold), ThresholdAsked: float64(rep.Asked), ThresholdBasis: rep.Basis, Node: by}
	if d := rep.Drift; d != nil {
		out.Drift = model.Drift{Share: float64(d.Share), Expected: float64(d.Expected), Sum: float64(d.Sum), Limit: float64(d.Limit),
			Drifting: d.Drifting, Since: d.Since, Blocks: d.Blocks}
	}
	if out.State == "" {
		out.State = model.DetectorLearning
	}
	switch {
	case !r.detectorNow().Enabled:
		out.State, out.Lag, out.LastError = model.DetectorStopped, 0, ""
	case by == "":
		out.State, out.LastError = model.DetectorDegraded, "no node evaluates it at the moment; the others take it over within seconds"
		out.Lag += age
	case rep.State != "" && age > staleReport:
		out.State, out.LastError = model.DetectorDegraded, fmt.Sprintf("its node has told nothing of it for %s", model.Duration(age.Round(time.Second)))
		out.Lag += age
	}
	return out
}

// shadowReported is the state of the shadow of a detector that another node
// owns.
func (r *runner) shadowReported() shadowStatus {
	rep, _, _ := r.reported()
	s := rep.Shadow
	if s == nil {
		return shadowStatus{}
	}
	return shadowStatus{present: true, loaded: s.Loaded, building: s.Building, progress: float64(s.Progress), fault: s.Fault, failed: s.Failed,
		series: s.Series, learning: s.Learning, memory: s.Memory, threshold: float64(s.Threshold), watermark: s.Watermark, agreement: s.Agreement}
}

// storedCore returns the newest stored state of the active model version, for those
// who look at a detector that another node evaluates. It holds all series, or
// only that with key unless key is "". It shares nothing with anybody. nil: there
// is none, or it does not fit the definition. live is how many series there are.
func (r *runner) storedCore(ctx context.Context, key string) (c *core, live int, err error) {
	bounded, cancel := context.WithTimeout(ctx, turnTimeout)
	defer cancel()
	// One at a time: a whole detector may be large.
	if err := r.e.storedTurn.lockCtx(bounded); err != nil {
		if ctx.Err() != nil {
			return nil, 0, ctx.Err()
		}
		return nil, 0, &model.Error{Kind: model.KindUnavailable, Subject: model.SubjectDetector,
			Message: "the stored states of other detectors are being read; try again in a moment", RetryAfter: time.Second}
	}
	defer r.e.storedTurn.unlock()
	versions, err := r.e.store.ModelVersions(ctx, r.id)
	if err != nil {
		return nil, 0, fmt.Errorf("reading model versions: %w", err)
	}
	r.turn.do(func() { r.versions = versions })
	active, ok := activeVersion(versions)
	if !ok {
		return nil, 0, nil
	}
	def := newDefinition(r.detectorNow(), r.e.cfg)
	snap, err := r.e.store.LatestSnapshot(ctx, r.id, active.Version)
	if model.KindOf(err) == model.KindNotFound {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("reading a snapshot: %w", err)
	}
	h, err := readHeader(snap, def)
	if err != nil {
		return nil, 0, nil //nolint:nilerr // of another definition: its owner learns anew
	}
	for _, p := range h.parts {
		live += p.series
	}
	if key == "" || def.isJoint(key) {
		c, _, err = restoreCore(def, snap)
	} else if c, err = restoreSeries(def, snap, key); err == nil && c == nil {
		c = h.core(def)
	}
	if c == nil {
		return nil, 0, err
	}
	return c, live, nil
}
