package pipeline

import (
	"context"
	"math"

	"aiops/internal/detect"
	"aiops/internal/model"
)

// series is the live state of one series. What is here is paid for each of a
// hundred thousand series, so everything rare hangs on a pointer.
type series struct {
	key      string
	hash     uint64
	model    detect.Model
	since    int64             // first step learned
	seenAt   int64             // last step with a sample, be it a number or not
	lastT    int64             // last step with a number
	lastV    float64           // and that number
	last     model.ScoredPoint // last step scored; T 0: none
	episode  *episode          // nil: none
	context  *ring             // last scored points, while something is going on
	link     *jointLink        // its place among the series it is looked at with; nil: none
	missed   int32             // steps without a sample since seenAt, outages of the source not counted
	next     int32             // next series with the same hash, -1: none
	tried    int64             // step at which its last trial of deep ended without success; 0: none did
	learning bool
	known    knownFlags // what known events say of it
	epoch    uint32     // of the core's events when known was looked up
	cluster  detect.Cluster
}

// span is a range of steps, both ends included.
type span struct{ from, to int64 }

// Bounds on what a core remembers.
const (
	maxQuotaChanges = 4096
	maxTunings      = 256
	maxVersions     = 256
	maxSkippedSpans = 4096
	maxNotable      = 512
	notableScore    = 3 // one in a thousand samples is worth remembering as "also moved"
	maxProofBytes   = 32 << 20
	silentSteps     = 2 // steps without a sample that make a series silent
	silentTTL       = 7 // how many times longer a series lives whose silence is an open anomaly
)

// core is the state of one detector under one model version and the only code
// that scores: live, history, replay, training and backtest all call advance.
// It knows no clock, source or store. It is not safe for concurrent use.
type core struct {
	def          *definition
	modelVersion int64
	began        int64 // first step with a series; 0: none yet
	watermark    int64 // last step evaluated

	series []*series // by slot; nil: free
	free   []int32
	index  map[uint64]int32 // hash of a key to its first slot
	live   int              // slots in use

	quota     int // series that share the budget
	threshold float64
	exceed    detect.Exceedances // how often the scores of all series really go beyond a level
	tally     detect.Tally       // of the step in hand
	past      script             // what was in force when
	planned   []tuning           // to be put in force, oldest first
	follow    *script            // replay: what was in force then decides, not what happens now

	// Counts of the last step.
	active, learning, open, refused int

	closed     bool // admit no new series: memory is used up
	prove      bool // take evidence of peaks
	proofBytes int
	notable    []notable
	notableAt  int

	events    eventClock
	drift     drift
	agreement model.Agreement // of a shadow with the live definition
	joint     *joint          // nil: each series by itself
	deep      deepSeats

	// emit is told of each transition, at once and in order; nil: nobody.
	// note says why an episode ended when calm samples are not the reason.
	emit func(s *series, tr transition, t int64, note string)
	// watch is told of each scored point; nil: nobody.
	watch   func(s *series, p model.ScoredPoint)
	samples int64 // scored
	blanks  int64 // steps taken for silence because a healthy source had nothing at all

	bound     []binding
	strangers []binding
	dropped   bool // a series that bound may point to is gone
	key       []byte
}

// binding is one series of an answer.
type binding struct {
	s    *series // nil: not admitted
	hash uint64
	data *model.SeriesData
	at   int // next sample
}

// notable is a high score worth telling of when another series asks what else
// moved.
type notable struct {
	key   string
	point model.ScoredPoint
}

// newCore makes a core that has seen nothing and begins behind watermark.
func newCore(def *definition, modelVersion, watermark int64) *core {
	c := &core{def: def, modelVersion: modelVersion, index: map[uint64]int32{}, watermark: watermark}
	c.past.tunings = []tuning{tuningOf(def.detector, watermark+def.step)}
	c.past.versions = []versionChange{{watermark + def.step, modelVersion}}
	if def.detector.Joint != nil {
		c.joint = &joint{dirty: true}
	}
	return c
}

// advance evaluates the steps from c.watermark+step to to, on samples that
// hold everything the source has in that range. Steps up to gapUntil for which
// the source has nothing at all are an outage of the source and not silence of
// its series: they are skipped and remembered. When ctx ends, advance stops
// between two steps; c.watermark says where.
func (c *core) advance(ctx context.Context, to int64, data []model.SeriesData, gapUntil int64) error {
	c.bind(data)
	defer c.unbind()
	step := c.def.step
	for t := c.watermark + step; t <= to; t += step {
		if err := ctx.Err(); err != nil {
			return err
		}
		switch {
		case c.follow != nil:
			c.followTo(t)
		case t <= gapUntil && !c.anyAt(t):
			c.skip(t)
		default:
			c.tune(t)
			c.setQuota(t, c.active)
			c.seatDeep(t)
			c.step(t)
			c.exceed.Add(&c.tally)
		}
		c.watermark = t
	}
	return nil
}

func (c *core) anyAt(t int64) bool {
	for i := range c.bound {
		if _, ok := c.bound[i].reach(t); ok {
			return true
		}
	}
	for i := range c.strangers {
		if _, ok := c.strangers[i].reach(t); ok {
			return true
		}
	}
	return false
}

func (c *core) skip(t int64) {
	if c.live == 0 {
		return
	}
	spans := c.past.skipped
	if n := len(spans); n > 0 && spans[n-1].to == t-c.def.step {
		spans[n-1].to = t
		return
	}
	c.past.skipped = appendBounded(spans, span{t, t}, maxSkippedSpans)
}

// step evaluates one step for every series.
func (c *core) step(t int64) {
	c.refused = 0
	c.events.turn(c.past.events, t)
	c.drift.turn(c.def, t)
	if c.dropped {
		c.rebind()
	}
	if len(c.strangers) > 0 {
		c.admit(t)
	}
	blank := c.live > 0
	for i := range c.bound {
		b := &c.bound[i]
		if v, ok := b.reach(t); ok && b.s.seenAt != t {
			c.sample(b.s, t, v)
			blank = false
		}
	}
	if blank {
		c.blanks++
	}
	if c.joint != nil {
		c.judgeTogether(t)
	}
	c.active, c.learning, c.open = 0, 0, 0
	for slot, s := range c.series {
		if s == nil {
			continue
		}
		if s.seenAt != t && !c.miss(s, t) {
			c.drop(int32(slot), t)
			continue
		}
		if s.missed <= c.def.activeSteps {
			c.active++
			if s.learning {
				c.learning++
			}
		}
		if s.episode != nil && s.episode.open() {
			c.open++
		}
	}
}

// sample takes what the source says of s at t.
func (c *core) sample(s *series, t int64, v float64) {
	s.seenAt, s.missed = t, 0
	if !isFinite(v) {
		c.fill(s, t)
		return
	}
	s.lastT, s.lastV = t, v
	c.score(s, t, v)
}

// miss takes a step without a sample from a healthy source. It returns false
// when the series is to be dropped.
func (c *core) miss(s *series, t int64) bool {
	s.missed++
	limit := c.def.ttlSteps
	if s.link.made() {
		return s.missed <= limit // made of others: they say what their silence means
	}
	if c.def.detector.MissingData == model.MissingAnomaly && s.episode != nil && s.episode.open() {
		limit *= silentTTL // its silence is the anomaly: it must not end by going on
	}
	if s.missed > limit {
		return false
	}
	if c.def.detector.MissingData == model.MissingAnomaly {
		if s.missed >= silentSteps && !s.learning {
			c.silence(s, t)
		}
		return true
	}
	c.fill(s, t)
	return true
}

// fill does what the policy for missing data says of a step without a number.
func (c *core) fill(s *series, t int64) {
	if s.lastT == 0 {
		return
	}
	switch c.def.detector.MissingData {
	case model.MissingZero:
		c.score(s, t, 0)
	case model.MissingLast:
		c.score(s, t, s.lastV)
	}
}

// silence treats a missing sample as an anomaly. Its score is not calibrated:
// it is set to what makes a warning.
func (c *core) silence(s *series, t int64) {
	nan := math.NaN()
	p := model.ScoredPoint{T: t, Value: nan, Expected: s.last.Expected, Lower: s.last.Lower, Upper: s.last.Upper,
		Score: c.threshold + 0.5, Anomalous: true}
	c.track(s, p, verdictAnomalous, causeSilent)
	if c.watch != nil {
		c.watch(s, p)
	}
}

// score scores and learns one number. Evidence of a peak is taken in between,
// when the model is as it was before it saw the peak.
func (c *core) score(s *series, t int64, v float64) {
	r := s.model.Score(t, v)
	g := c.gate(s, r, v, c.threshold)
	known := c.knownOf(s)
	what := judge(r.Score, c.threshold, g)
	if what == verdictAnomalous && (known.mute() || s.episode.quiet(c.def.rules)) {
		what = verdictBetween
	}
	p := model.ScoredPoint{T: t, Value: v, Expected: r.Expected, Lower: r.Lower, Upper: r.Upper,
		Score: r.Score, Anomalous: what == verdictAnomalous}
	if s.episode != nil || p.Anomalous {
		c.track(s, p, what, cause(r.Reason))
	}
	if !known.unlearned() && (!p.Anomalous || !s.episode.holdsLearning(c.def.rules)) {
		s.model.Learn(t, v)
	}
	if !known.unlearned() {
		c.drift.count(r)
		c.countExceedances(s, r, v)
	}
	s.learning = r.Learning
	if !r.Learning && r.Score >= notableScore {
		c.remember(s, p)
	}
	if c.prove {
		c.keepContext(s, p)
	}
	s.last = p
	c.samples++
	if c.watch != nil {
		c.watch(s, p)
	}
}

// track moves the episode of s, or opens one.
func (c *core) track(s *series, p model.ScoredPoint, v verdict, why cause) {
	if old := s.episode; old == nil || old.phase == phaseResolved && v == verdictAnomalous {
		e, tr := begin(c.def.rules, old, p, c.threshold)
		e.cause = why
		s.episode = e
		c.takeProof(s, p)
		c.tell(s, tr, p.T, "")
		return
	}
	e := s.episode
	if e.higher(p, v) {
		e.cause = why
		c.takeProof(s, p)
	}
	c.tellAndForget(s, e.observe(c.def.rules, p, v, c.threshold), p.T, "")
}

func (c *core) tell(s *series, tr transition, t int64, note string) {
	if tr != transitionNone && c.emit != nil {
		c.emit(s, tr, t, note)
	}
}

func (c *core) tellAndForget(s *series, tr transition, t int64, note string) {
	c.tell(s, tr, t, note)
	if e := s.episode; e.phase == phaseOver || e.phase == phaseResolved {
		c.dropProof(e)
	}
	if s.episode.phase == phaseOver {
		s.episode = nil
	}
}

func (c *core) remember(s *series, p model.ScoredPoint) {
	n := notable{key: s.key, point: p}
	if len(c.notable) < maxNotable {
		c.notable = append(c.notable, n)
		return
	}
	c.notable[c.notableAt] = n
	c.notableAt = (c.notableAt + 1) % maxNotable
}

// sizeBytes is the resident size of the learned state, without this package's
// own bookkeeping of about 400 bytes for each series.
func (c *core) sizeBytes() int64 {
	var n int64
	for _, s := range c.series {
		if s == nil {
			continue
		}
		n += int64(s.model.SizeBytes()) + int64(len(s.key)) + seriesOverheadBytes
		if s.context != nil {
			n += ringBytes
		}
	}
	return n + int64(c.proofBytes)
}

func isFinite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
