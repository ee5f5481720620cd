package pipeline

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"time"

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
	missed   int32             // steps without a sample since seenAt, outages of the source not counted
	next     int32             // next series with the same hash, -1: none
	learning bool
}

// span is a range of steps, both ends included.
type span struct{ from, to int64 }

// quotaChange says how many series share the budget from a step on, and which
// threshold follows.
type quotaChange struct {
	from      int64
	series    int32
	threshold float64
}

// tuning is what a definition says about scores that are already there, from
// a step on. It can change without losing what was learned.
type tuning struct {
	from         int64
	direction    model.Direction
	minDeviation model.MinDeviation
	forTime      time.Duration
	keepTime     time.Duration
	budget       float64
}

func tuningOf(d model.Detector, from int64) tuning {
	return tuning{from, d.Direction, d.MinDeviation, d.For, d.KeepFiringFor, d.FalseAlarmsPerWeek}
}

func (tu tuning) same(o tuning) bool { tu.from = o.from; return tu == o }

func (tu tuning) apply(d model.Detector) model.Detector {
	d.Direction, d.MinDeviation = tu.direction, tu.minDeviation
	d.For, d.KeepFiringFor, d.FalseAlarmsPerWeek = tu.forTime, tu.keepTime, tu.budget
	return d
}

// script is the part of a detector's past that does not follow from the
// samples of one series: which threshold, gates and hold times were in force
// when, and which steps were skipped. With it one series is replayed as it was
// scored among all others.
type script struct {
	quotas   []quotaChange
	tunings  []tuning
	skipped  []span
	versions []versionChange
}

// versionChange says which model version scores from a step on.
type versionChange struct {
	from    int64
	version int64
}

// after returns the part of the script that lies behind t. It shares nothing
// with s that changes.
func (s script) after(t int64) script {
	return script{
		quotas:   slices.Clone(s.quotas[sort.Search(len(s.quotas), func(i int) bool { return s.quotas[i].from > t }):]),
		tunings:  slices.Clone(s.tunings[sort.Search(len(s.tunings), func(i int) bool { return s.tunings[i].from > t }):]),
		skipped:  slices.Clone(s.skipped[sort.Search(len(s.skipped), func(i int) bool { return s.skipped[i].to > t }):]),
		versions: slices.Clone(s.versions[sort.Search(len(s.versions), func(i int) bool { return s.versions[i].from > t }):]),
	}
}

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
	past      script   // what was in force when
	planned   []tuning // to be put in force, oldest first
	follow    *script  // replay: what was in force then decides, not what happens now

	// Counts of the last step.
	active, learning, open, refused int

	closed     bool // admit no new series: memory is used up
	prove      bool // take evidence of peaks
	proofBytes int
	notable    []notable
	notableAt  int

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
			c.step(t)
		}
		c.watermark = t
	}
	return nil
}

// bind finds the series of an answer. Unknown ones wait to be admitted at
// their first sample.
func (c *core) bind(data []model.SeriesData) {
	for i := range data {
		d := &data[i]
		if len(d.Samples) == 0 {
			continue
		}
		c.key = d.Labels.AppendKey(c.key[:0])
		h := hashKey(c.key)
		b := binding{s: c.find(h, c.key), hash: h, data: d}
		if b.s == nil {
			c.strangers = append(c.strangers, b)
		} else {
			c.bound = append(c.bound, b)
		}
	}
}

// unbind lets go of the answer, which the bindings point into.
func (c *core) unbind() {
	clear(c.bound)
	c.bound = c.bound[:0]
	c.strangers = nil
}

func (c *core) find(hash uint64, key []byte) *series {
	slot, ok := c.index[hash]
	for ok && slot >= 0 {
		s := c.series[slot]
		if s.key == string(key) {
			return s
		}
		slot = s.next
	}
	return nil
}

// reach moves b to the step t and reports whether there is a sample.
func (b *binding) reach(t int64) (v float64, ok bool) {
	samples := b.data.Samples
	for b.at < len(samples) && samples[b.at].T < t {
		b.at++
	}
	if b.at < len(samples) && samples[b.at].T == t {
		return samples[b.at].V, true
	}
	return 0, false
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

// appendBounded appends v and forgets the oldest when there are more than limit.
func appendBounded[T any](list []T, v T, limit int) []T {
	if len(list) >= limit {
		list = append(list[:0], list[len(list)-limit+1:]...)
	}
	return append(list, v)
}

// followTo evaluates step t as the script says it was evaluated then.
func (c *core) followTo(t int64) {
	f := c.follow
	for len(f.tunings) > 0 && f.tunings[0].from <= t {
		c.retune(f.tunings[0])
		f.tunings = f.tunings[1:]
	}
	for len(f.quotas) > 0 && f.quotas[0].from <= t {
		c.useQuota(f.quotas[0])
		f.quotas = f.quotas[1:]
	}
	for len(f.skipped) > 0 && f.skipped[0].to < t {
		f.skipped = f.skipped[1:]
	}
	if len(f.skipped) > 0 && f.skipped[0].from <= t {
		return
	}
	c.step(t)
}

// step evaluates one step for every series.
func (c *core) step(t int64) {
	c.refused = 0
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

// setQuota applies the threshold that n active series ask for from step t on.
func (c *core) setQuota(t int64, n int) {
	q := quantise(c.quota, n)
	if q == c.quota {
		return
	}
	change := quotaChange{from: t, series: int32(q), threshold: c.def.threshold(q)}
	c.past.quotas = appendBounded(c.past.quotas, change, maxQuotaChanges)
	c.useQuota(change)
}

// useQuota sets the threshold of the core and of every model. A model may
// look for the new band around the sample it scored last, which its snapshot
// does not show: without scoring that one again a restored model would end at
// another band than one that was never stopped.
func (c *core) useQuota(q quotaChange) {
	c.quota, c.threshold = int(q.series), q.threshold
	for _, s := range c.series {
		if s == nil {
			continue
		}
		if s.lastT != 0 {
			s.model.Score(s.lastT, s.lastV)
		}
		s.model.SetThreshold(c.threshold)
	}
}

// redefine puts a changed definition with the same fingerprint in force, as
// far as scores depend on it from the first unscored step behind since
// (milliseconds) on: when the definition changed, so that steps of a gap are
// scored by what was in force then. Learned state stays.
func (c *core) redefine(d model.Detector, since int64) {
	last := tuningOf(c.def.detector, 0)
	if n := len(c.planned); n > 0 {
		last = c.planned[n-1]
	}
	tu := tuningOf(d, max(c.watermark, c.def.floor(since), last.from-c.def.step)+c.def.step)
	if !tu.same(last) {
		c.planned = appendBounded(c.planned, tu, maxTunings)
	}
	def := *c.def
	def.detector = tuningOf(c.def.detector, 0).apply(d)
	c.def = &def
}

// tune puts planned changes in force that are due at t.
func (c *core) tune(t int64) {
	for len(c.planned) > 0 && c.planned[0].from <= t {
		c.retune(c.planned[0])
		c.planned = c.planned[1:]
		q := quotaChange{from: t, series: int32(c.quota), threshold: c.def.threshold(c.quota)}
		if c.quota != 0 && q.threshold != c.threshold {
			c.past.quotas = appendBounded(c.past.quotas, q, maxQuotaChanges)
			c.useQuota(q)
		}
	}
}

// retune changes gates and hold times behind the watermark.
func (c *core) retune(tu tuning) {
	old := c.def.detector
	def := *c.def
	def.detector = tu.apply(old)
	def.rules = rulesOf(def.detector)
	c.def = &def
	c.past.tunings = appendBounded(c.past.tunings, tu, maxTunings)
	if old.Direction != tu.direction {
		for _, s := range c.series {
			if s != nil {
				s.model = c.restoreModel(s.hash, s.model.AppendSnapshot(nil))
			}
		}
	}
}

// restoreModel makes the model of a series from a snapshot that was just taken
// in this process.
func (c *core) restoreModel(hash uint64, snapshot []byte) detect.Model {
	m := c.newModel(hash)
	if err := m.Restore(snapshot); err != nil {
		panic("BUG: a model does not restore its own snapshot: " + err.Error())
	}
	m.SetThreshold(c.threshold)
	return m
}

func (c *core) newModel(hash uint64) detect.Model {
	m, err := detect.New(c.def.spec(hash))
	if err != nil {
		panic("BUG: a validated definition makes no model: " + err.Error())
	}
	m.SetThreshold(c.threshold)
	return m
}

// admit takes in the strangers that have a number at t. When there are fewer
// seats than strangers, the hash of the series decides, which favours no label
// and does not depend on the order of the answer; the rest is refused until a
// seat is free.
func (c *core) admit(t int64) {
	var ready []int
	for i := range c.strangers {
		if v, ok := c.strangers[i].reach(t); ok && isFinite(v) {
			ready = append(ready, i)
		}
	}
	if len(ready) == 0 {
		return
	}
	seats := c.def.maxSeries - c.live
	if c.closed {
		seats = 0
	}
	if len(ready) > seats {
		slices.SortFunc(ready, func(i, j int) int {
			a, b := &c.strangers[i], &c.strangers[j]
			if a.hash != b.hash {
				if a.hash < b.hash {
					return -1
				}
				return 1
			}
			return strings.Compare(a.data.Labels.Key(), b.data.Labels.Key())
		})
		c.refused = len(ready) - max(seats, 0)
		ready = ready[:max(seats, 0)]
	}
	for _, i := range ready {
		b := &c.strangers[i]
		key := b.data.Labels.Key()
		if b.s = c.find(b.hash, []byte(key)); b.s == nil { // else the answer holds it twice
			b.s = c.add(b.hash, key, t)
		}
		c.bound = append(c.bound, *b)
	}
	c.strangers = slices.DeleteFunc(c.strangers, func(b binding) bool { return b.s != nil })
}

// add makes the state of a series that was not tracked.
func (c *core) add(hash uint64, key string, t int64) *series {
	s := &series{key: key, hash: hash, model: c.newModel(hash), since: t, learning: true}
	c.place(s)
	if c.began == 0 {
		c.began = t
	}
	return s
}

func (c *core) place(s *series) {
	s.next = -1
	if first, ok := c.index[s.hash]; ok {
		s.next = first
	}
	var slot int32
	if n := len(c.free); n > 0 {
		slot, c.free = c.free[n-1], c.free[:n-1]
		c.series[slot] = s
	} else {
		slot = int32(len(c.series))
		c.series = append(c.series, s)
	}
	c.index[s.hash] = slot
	c.live++
}

// drop forgets a series that was silent for its time to live. An episode that
// it left open ends with it.
func (c *core) drop(slot int32, t int64) {
	s := c.series[slot]
	if s.episode != nil {
		silent := msDuration(int64(s.missed) * c.def.step)
		c.tellAndForget(s, s.episode.end(t), t, fmt.Sprintf("ended because the series vanished: no sample for %s from a healthy source", model.Duration(silent)))
	}
	if c.index[s.hash] == slot {
		if s.next >= 0 {
			c.index[s.hash] = s.next
		} else {
			delete(c.index, s.hash)
		}
	} else {
		for at := c.index[s.hash]; at >= 0; at = c.series[at].next {
			if c.series[at].next == slot {
				c.series[at].next = s.next
				break
			}
		}
	}
	c.series[slot] = nil
	c.free = append(c.free, slot)
	c.live--
	s.model, c.dropped = nil, true
}

// rebind makes strangers of the bindings to dropped series, which may come
// back within the same answer.
func (c *core) rebind() {
	c.dropped = false
	c.bound = slices.DeleteFunc(c.bound, func(b binding) bool {
		if b.s.model != nil {
			return false
		}
		b.s = nil
		c.strangers = append(c.strangers, b)
		return true
	})
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
	d := &c.def.detector
	g := detect.Gates(r, v, c.threshold, d.Direction, d.MinDeviation)
	p := model.ScoredPoint{T: t, Value: v, Expected: r.Expected, Lower: r.Lower, Upper: r.Upper,
		Score: r.Score, Anomalous: g == detect.GateOpen}
	if s.episode != nil || g == detect.GateOpen {
		c.track(s, p, judge(r.Score, c.threshold, g), cause(r.Reason))
	}
	if g != detect.GateOpen || !s.episode.holdsLearning(c.def.rules) {
		s.model.Learn(t, v)
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
