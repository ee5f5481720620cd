package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"aiops/internal/model"
)

// MaxReplayPoints is how many points one replay or one Detect may have.
const MaxReplayPoints = 11_000

// view is what a reader needs of a live core, taken in one turn.
type view struct {
	def       *definition
	past      script
	watermark int64
	began     int64 // first step with a series
	live      int
	series    int // with this key: 0 or 1
	since     int64
	key       string
	copy      *core // of the one series as it is now; nil: not tracked
	stored    bool  // copy is that of a snapshot, watermark what another node has evaluated since
}

// view looks at one series of the runner. key "" is the only one.
func (r *runner) view(ctx context.Context, key string) (view, error) {
	c, done, err := r.look(ctx)
	if err != nil {
		return view{}, err
	}
	defer func() { done() }()
	live, stored := 0, false
	if c != nil {
		live = c.live
	} else if !r.here() {
		done()
		done = func() {}
		if c, live, err = r.storedCore(ctx, key); err != nil {
			return view{}, err
		}
		stored = true
	}
	if c == nil {
		return view{}, model.Errorf(model.KindConflict, model.SubjectDetector,
			"the detector has not been evaluated since the program started; start it and try again in a moment")
	}
	v := view{def: c.def, past: c.past.after(math.MinInt64), watermark: c.watermark, began: c.began, live: live, key: key, stored: stored}
	if stored {
		// What changed the threshold since the snapshot is not known here, only
		// what it is now.
		if rep, _, _ := r.reported(); rep.Watermark > v.watermark {
			v.watermark = rep.Watermark
			if t := float64(rep.Threshold); t > 0 && t != c.threshold {
				v.past.quotas = append(v.past.quotas, quotaChange{rep.Watermark, int32(c.quota), t})
			}
		}
	}
	if key == "" {
		if live != 1 {
			return v, seriesChoice(live)
		}
		for _, s := range c.series {
			if s != nil {
				v.key = s.key
			}
		}
	}
	if s := c.find(hashKey([]byte(v.key)), []byte(v.key)); s != nil {
		v.series, v.since = 1, s.since
		v.copy = c.alone(s)
	}
	return v, nil
}

func seriesChoice(n int) error {
	e := model.Errorf(model.KindInvalid, model.SubjectDetector, "the detector has %d series; name one of them", n)
	e.Fields = []model.FieldError{{Pointer: "/series", Code: "required", Detail: e.Message}}
	e.Context = map[string]any{"series": n}
	return e
}

// alone returns a core with a copy of s and nothing else. It shares nothing
// with c.
func (c *core) alone(s *series) *core {
	out := newCore(c.def, c.modelVersion, c.watermark)
	out.quota, out.threshold, out.active, out.began = c.quota, c.threshold, c.active, c.began
	out.past = c.past.after(math.MinInt64)
	list, err := out.decodePart(0, encodePart(0, []*series{s}), nil)
	if err != nil {
		panic("BUG: a series does not restore its own snapshot: " + err.Error())
	}
	out.place(list[0])
	return out
}

// Replay returns the past of one series as its detector saw it, at most
// MaxReplayPoints points. key is that of the series, as model.Labels.Key writes
// it; "" is the only series of the detector. The same code scores the source's samples
// again from the newest snapshot before from, or from where learning began, so
// the result equals what was scored live as long as the source answers the
// same as it did then. Steps that were not evaluated yet are left out.
func (e *Engine) Replay(ctx context.Context, id string, key string, from, to time.Time) (model.Replay, error) {
	r, err := e.runner(id)
	if err != nil {
		return model.Replay{}, err
	}
	v, err := r.view(ctx, key)
	if err != nil {
		return model.Replay{}, err
	}
	labels, err := model.ParseSeriesKey(v.key)
	if err != nil {
		return model.Replay{}, invalidField("/series", "invalid", "%q is not the key of a series, such as {instance=\"a\"}", truncate(v.key, 80))
	}
	begin, end := v.def.ceil(from.UnixMilli()), min(v.def.floor(to.UnixMilli()), v.watermark)
	if from.After(to) {
		return model.Replay{}, invalidField("/from", "out_of_range", "the range ends before it starts")
	}
	if points := (end-begin)/v.def.step + 1; points > MaxReplayPoints {
		return model.Replay{}, invalidField("/from", "too_many_points", "the range has %d steps; at most %d are possible: ask for a shorter one", points, MaxReplayPoints)
	}
	out := model.Replay{DetectorID: id, Series: labels, Step: v.def.detector.Step}
	p := player{e: e, r: r, view: v, from: begin, read: true}
	begin = max(begin, v.past.versions[0].from, v.began)
	for i, seg := range v.past.versions {
		segEnd := end
		if i+1 < len(v.past.versions) {
			segEnd = min(end, v.past.versions[i+1].from-v.def.step)
		}
		segFrom := max(begin, seg.from)
		if segFrom > segEnd {
			continue
		}
		if _, err := p.play(ctx, seg.version, i, segFrom, segEnd); err != nil {
			return model.Replay{}, err
		}
	}
	if v.series == 0 && len(p.points) == 0 {
		return model.Replay{}, unknownSeries(v.key)
	}
	out.Points, out.Learning = p.points, p.learning
	out.Anomalies = p.anomalies()
	return out, nil
}

func unknownSeries(key string) error {
	e := model.Errorf(model.KindNotFound, model.SubjectDetector, "the detector has no series %s", truncate(key, 200))
	e.Context = map[string]any{"series": truncate(key, 200)}
	return e
}

func invalidField(pointer, code, format string, args ...any) error {
	var v model.Invalid
	v.Add(pointer, code, format, args...)
	return v.Err(model.SubjectDetector)
}

// player scores one series again and collects what comes out.
type player struct {
	e    *Engine
	r    *runner
	view view
	from int64 // points before it are not collected
	read bool  // nobody decides by the result

	points   []model.ScoredPoint
	learning bool
	episodes map[string]model.Anomaly
}

// play scores with one model version from segFrom to segEnd and returns the
// core as it is then. nth is the place of the version in the script.
func (p *player) play(ctx context.Context, version int64, nth int, segFrom, segEnd int64) (*core, error) {
	c, err := p.base(ctx, version, nth, segFrom)
	if err != nil {
		return nil, err
	}
	follow := p.view.past.after(c.watermark)
	c.follow = &follow
	c.watch = func(s *series, sp model.ScoredPoint) {
		if s.key != p.view.key || sp.T < segFrom || sp.T < p.from {
			return
		}
		if len(p.points) == 0 {
			p.learning = s.learning
		}
		p.points = append(p.points, sp)
	}
	c.emit = func(s *series, tr transition, t int64, note string) { p.collect(c, s, t, note) }
	f := feeder{e: p.e, class: classCatchUp, only: p.view.key, read: p.read, steps: stepsFor(p.view.live)}
	if c.def.isJoint(p.view.key) {
		f.only = "" // it is made of all the others
	}
	if err := f.feedAll(ctx, c, segEnd, 0, nil); err != nil {
		return nil, err
	}
	for _, s := range c.series {
		if s != nil && s.episode != nil && s.episode.open() {
			p.collect(c, s, c.watermark, "")
		}
	}
	return c, nil
}

func (p *player) collect(c *core, s *series, t int64, note string) {
	if s.episode.firedAt == 0 || s.key != p.view.key {
		return
	}
	if p.episodes == nil {
		p.episodes = map[string]model.Anomaly{}
	}
	a := c.anomaly(s, t, note)
	p.episodes[a.ID] = a
}

// anomalies returns the episodes that touch the range, oldest first.
func (p *player) anomalies() []model.Anomaly {
	var out []model.Anomaly
	for _, a := range p.episodes {
		if a.ResolvedAt.IsZero() || a.ResolvedAt.UnixMilli() >= p.from {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b model.Anomaly) int { return cmp.Compare(a.StartedAt.UnixMilli(), b.StartedAt.UnixMilli()) })
	return out
}

// base returns a core from which scoring segFrom can begin: that of the newest
// snapshot of the version before it, or an empty one where learning began.
func (p *player) base(ctx context.Context, version int64, nth int, segFrom int64) (*core, error) {
	v := p.view
	snap, err := p.e.store.SnapshotBefore(ctx, p.r.id, version, segFrom-v.def.step)
	switch {
	case err == nil:
		c, err := v.restore(snap)
		if err == nil && c != nil {
			c.past.events = v.past.events
			return c, nil
		}
		if h, herr := decodeHeaderOf(snap); err == nil && herr == nil && h.fingerprint == v.def.fingerprint {
			// The series was not there yet: nothing is missing before the snapshot.
			return v.empty(snap.Watermark, version), nil
		}
	case model.KindOf(err) != model.KindNotFound && model.KindOf(err) != model.KindDatabase:
		return nil, fmt.Errorf("reading a snapshot: %w", err)
	}
	start := max(v.past.versions[0].from, v.began) // there was no series before
	if nth > 0 {
		if trained := p.r.trainedFrom(version); trained != 0 {
			start = trained
		}
	}
	if v.since != 0 && v.since <= segFrom && nth == len(v.past.versions)-1 {
		start = v.since
	}
	return v.empty(start-v.def.step, version), nil
}

// restore makes a core of what the series of the view needs.
func (v view) restore(snap model.Snapshot) (*core, error) {
	if !v.def.isJoint(v.key) {
		return restoreSeries(v.def, snap, v.key)
	}
	c, lost, err := restoreCore(v.def, snap)
	if lost > 0 {
		return nil, err // a sum that lacks some of its parts is another one
	}
	return c, err
}

// empty returns a core without series behind watermark, with what was in force
// then.
func (v view) empty(watermark, version int64) *core {
	def := v.def
	for i, tu := range v.past.tunings {
		if i == 0 || tu.from <= watermark {
			def = def.tuned(tu)
		}
	}
	c := newCore(def, version, watermark)
	c.past.events = v.past.events
	for i, q := range v.past.quotas {
		if i == 0 || q.from <= watermark {
			c.quota, c.threshold = int(q.series), q.threshold
		}
	}
	return c
}

func (r *runner) trainedFrom(version int64) int64 {
	r.turn.lock()
	defer r.turn.unlock()
	for _, v := range r.versions {
		if v.Version == version && !v.TrainedFrom.IsZero() {
			return v.TrainedFrom.UnixMilli()
		}
	}
	return 0
}

// Detect scores samples on a copy of a series' model, which they do not
// change. Times are moved down to the detector's step; they must then strictly
// increase and span at most MaxReplayPoints steps. Samples that begin after the
// last step evaluated are scored on the live model; earlier ones on the model as
// it was before the first of them. No labels are those of the only series.
func (e *Engine) Detect(ctx context.Context, id string, of model.Labels, samples []model.Sample) ([]model.ScoredPoint, error) {
	r, err := e.runner(id)
	if err != nil {
		return nil, err
	}
	key := ""
	if len(of) > 0 {
		key = of.Key()
	}
	v, err := r.view(ctx, key)
	if err != nil {
		return nil, err
	}
	if v.copy == nil {
		return nil, unknownSeries(key)
	}
	if v.def.isJoint(v.key) {
		return nil, invalidField("/series", "joint", "%s is made of other series; samples of it cannot be given", truncate(v.key, 80))
	}
	labels, err := model.ParseSeriesKey(v.key)
	if err != nil {
		panic("BUG: a series key cannot be read back: " + err.Error())
	}
	aligned, err := v.def.align(samples)
	if err != nil || len(aligned) == 0 {
		return nil, err
	}
	first, last := aligned[0].T, aligned[len(aligned)-1].T
	c := v.copy
	if v.stored && first > v.watermark {
		if c, err = e.rewind(ctx, r, v, v.watermark); err != nil {
			return nil, err
		}
	}
	if first <= v.watermark {
		if c, err = e.rewind(ctx, r, v, first-v.def.step); err != nil {
			return nil, err
		}
	}
	c.follow = &script{} // keep the threshold as it is
	c.watermark = first - v.def.step
	points := make([]model.ScoredPoint, 0, len(aligned))
	at := 0
	c.emit = nil
	c.watch = func(_ *series, p model.ScoredPoint) {
		if at < len(aligned) && aligned[at].T == p.T {
			points = append(points, p)
			at++
		}
	}
	if err := c.advance(ctx, last, []model.SeriesData{{Labels: labels, Samples: aligned}}, math.MaxInt64); err != nil {
		return nil, err
	}
	return points, nil
}

// align moves samples down to steps and checks them.
func (def *definition) align(samples []model.Sample) ([]model.Sample, error) {
	var bad model.Invalid
	out := make([]model.Sample, len(samples))
	for i, s := range samples {
		out[i] = model.Sample{T: def.floor(s.T), V: s.V}
		if !isFinite(s.V) {
			bad.Add(fmt.Sprintf("/samples/%d/v", i), "not_a_number", "a value must be a finite number")
		}
		if i > 0 && out[i].T <= out[i-1].T {
			bad.Add(fmt.Sprintf("/samples/%d/t", i), "out_of_order", "times must increase by at least the step of %s", def.detector.Step)
		}
	}
	if n := len(out); n > 0 && (n > MaxReplayPoints || (out[n-1].T-out[0].T)/def.step >= MaxReplayPoints) {
		bad.Add("/samples", "too_many_points", "the samples span more than %d steps", MaxReplayPoints)
	}
	return out, bad.Err(model.SubjectDetector)
}

// rewind returns a core with one series as it was after step until.
func (e *Engine) rewind(ctx context.Context, r *runner, v view, until int64) (*core, error) {
	p := player{e: e, r: r, view: v, from: math.MaxInt64}
	nth := 0
	for i, seg := range v.past.versions {
		if seg.from <= until {
			nth = i
		}
	}
	if until < v.past.versions[0].from {
		return v.empty(until, v.past.versions[0].version), nil
	}
	return p.play(ctx, v.past.versions[nth].version, nth, until, until)
}
