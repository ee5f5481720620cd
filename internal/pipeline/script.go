package pipeline

import (
	"math"
	"slices"
	"sort"
	"strings"
	"time"

	"aiops/internal/detect"
	"aiops/internal/model"
)

// quotaChange says how many series share the budget from a step on, and which
// threshold follows.
type quotaChange struct {
	from      int64
	series    int32
	threshold float64
}

const (
	turnSteps   = 64   // thresholds follow what scores have shown at each step whose number is a multiple
	leastChange = 0.04 // of a threshold
)

// tuning is what a definition says about scores that are already there, from
// a step on. It can change without losing what was learned.
type tuning struct {
	from         int64
	direction    model.Direction
	minDeviation model.MinDeviation
	forTime      time.Duration
	keepTime     time.Duration
	budget       float64
	refractory   time.Duration
	holidays     string // joined by commas
}

func tuningOf(d model.Detector, from int64) tuning {
	return tuning{from, d.Direction, d.MinDeviation, d.For, d.KeepFiringFor, d.FalseAlarmsPerWeek, d.Refractory, strings.Join(d.Holidays, ",")}
}

func (tu tuning) same(o tuning) bool { tu.from = o.from; return tu == o }

func (tu tuning) apply(d model.Detector) model.Detector {
	d.Direction, d.MinDeviation = tu.direction, tu.minDeviation
	d.For, d.KeepFiringFor, d.FalseAlarmsPerWeek = tu.forTime, tu.keepTime, tu.budget
	d.Refractory, d.Holidays = tu.refractory, nil
	if tu.holidays != "" {
		d.Holidays = strings.Split(tu.holidays, ",")
	}
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
	events   []eventSpan
	deep     []deepChange
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
		deep:     slices.Clone(s.deep[sort.Search(len(s.deep), func(i int) bool { return s.deep[i].from > t }):]),
		events:   slices.Clone(s.events), // in no order, and each says itself when it counts
	}
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
	c.followDeep(t)
	c.step(t)
}

// setQuota applies the threshold that n active series ask for from step t on.
// At every turnSteps-th step it also follows what the series' scores have shown
// since.
func (c *core) setQuota(t int64, n int) {
	turn := t/c.def.step%turnSteps == 0
	q := sharers(c.quota, n, turn)
	if turn {
		c.exceed.Turn(q)
	}
	if q != c.quota || turn {
		c.putThreshold(t, q)
	}
}

// putThreshold works the threshold of q series out anew and applies it from step
// t on if it differs.
func (c *core) putThreshold(t int64, q int) {
	change := quotaChange{from: t, series: int32(q), threshold: c.exceed.Threshold(c.def.threshold(q), q)}
	if q == c.quota && math.Abs(change.threshold-c.threshold) < leastChange {
		return
	}
	c.past.quotas = appendBounded(c.past.quotas, change, maxQuotaChanges)
	c.useQuota(change)
}

// asked returns the threshold for scores that are exact, 0 before the first step, and
// what the one in force rests on.
func (c *core) asked() (threshold float64, basis string) {
	if c.quota == 0 {
		return 0, ""
	}
	threshold = c.def.threshold(c.quota)
	return threshold, c.exceed.Basis(threshold).String()
}

// countExceedances takes a score into the record that thresholds are worked out
// from. A deviation that a gate other than the threshold holds back cannot
// become an alarm. Scores that are none, such as those of fixed bounds, do not
// count.
func (c *core) countExceedances(s *series, r detect.Result, v float64) {
	if c.follow != nil || r.Learning || !c.def.calibrated {
		return
	}
	score := 0.0
	if c.gate(s, r, v, 0) == detect.GateOpen {
		score = r.Score
	}
	c.exceed.Count(&c.tally, &s.cluster, score, c.def.rules.gap())
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
		if c.quota != 0 {
			c.putThreshold(t, c.quota)
		}
	}
}

// retune changes gates, hold times and holidays behind the watermark.
func (c *core) retune(tu tuning) {
	old := tuningOf(c.def.detector, 0)
	c.def = c.def.tuned(tu)
	c.past.tunings = appendBounded(c.past.tunings, tu, maxTunings)
	if old.direction != tu.direction || old.holidays != tu.holidays {
		for _, s := range c.series {
			if s != nil {
				s.model = c.restoreModel(s, s.model.AppendSnapshot(nil))
			}
		}
	}
}

// restoreModel makes the model of a series from a snapshot that was just taken
// in this process.
func (c *core) restoreModel(s *series, snapshot []byte) detect.Model {
	m := c.newModel(s.key, s.hash)
	if err := m.Restore(snapshot); err != nil {
		panic("BUG: a model does not restore its own snapshot: " + err.Error())
	}
	m.SetThreshold(c.threshold)
	return m
}

func (c *core) newModel(key string, hash uint64) detect.Model {
	m, err := detect.New(c.specOf(key, hash))
	if err != nil {
		panic("BUG: a validated definition makes no model: " + err.Error())
	}
	m.SetThreshold(c.threshold)
	return m
}
