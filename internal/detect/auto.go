package detect

import (
	"fmt"
	"math"
	"sort"
	"time"

	"aiops/internal/model"
)

const (
	autoLeast  = 64   // samples before it judges
	autoSkill  = 0.01 // weight of a sample in the errors of the expectations
	autoPrefer = 0.9  // share of the error at which another expectation takes over
	autoClip   = 8    // usual errors that one sample counts for at most
	autoTrack  = 1.07 // factor by which the ends of the band follow, every fourth sample
	autoFar    = 6    // usual distances below which the strength is damped
	autoOld    = 1000 // samples before which it is, except in deep
)

// autoRarity says how much each component counts for the score. Records of
// ranges do not: on clean data there is one of them every now and then, by a
// hair and in several components at once, which is too rare for the history of
// a series to show and far more often than its tail would say
// (docs/adr/0008).
var autoRarity = [partsN]float64{
	partFar: 0.5, partDrift: 0.3, partDay: 1.5, partWeek: 0.5, partShift: 0.3, partCalm: 0.3,
}

// autoWeights says how much each component counts for the strength, which ranks
// samples.
var autoWeights = [partsN]float64{
	partLevel: 0.5, partDrift: 0.3, partDay: 1.5, partWeek: 0.5, partShift: 0.3, partCalm: 0.3,
	partRange: 1.6, partRange5: 1, partRange24: 1, partRange288: 1.6,
}

// autoLeastMark is the least quantile of a component for the score. The reading of
// partCalm is 0 while a series is as rough as ever. Where that is so by day only, as of
// what varies in proportion to its level, a quantile without a floor is next to nothing,
// and what comes every night is enormous beside it.
var autoLeastMark = [partsN]float32{partCalm: 1}

// autoNames are the components as people read them.
var autoNames = [partsN]string{
	"level of late", "level", "drift", "time of day", "time of week", "mean shift", "calm",
	"range", "range of short means", "range of medium means", "range of long means",
}

func autoParameters() []Parameter { return nil }

func autoMinHistory(time.Duration) int { return autoLeast }

// auto is the model "auto": an ensemble that weighs its components by what the
// history of the series says of each.
//
// A component takes a reading of every sample: its distance from a robust level,
// from a sample shortly before, from the same time of other days and of other
// weeks; the shift of the short mean against the long one; how calm the series
// has become; how far it goes beyond all values, and all short, medium and long
// means, so far. A gauge compares
// each reading with that component's own past, so that a component that says
// nothing about this series (the time of day, where there is no such rhythm)
// is rarely unusual and the others decide. What the gauges say is added up
// twice: with the ranges, as the strength of the sample; and without them, and
// without a limit beyond the record, for the calibrator, which turns it into a
// tail probability.
//
// The expected value is that of the expectation with the least recent error:
// median, level, time of day or time of week; Describe names it. An incident of
// up to a week leaves the score as it was before (guard), and what comes at the
// same time of each day or week, on the same side, is none (recurrence). The ends of
// the band follow the values at which the score is the threshold, within a few
// percent; they are searched sample by sample, and exact only while the
// series' behaviour does not change. A sample can be anomalous inside the band,
// by its pattern: the reason then says so.
//
// Cost per point: about 0.7 µs. Memory: at most 4 KiB, most of it the daily
// and the weekly profile. It needs 64 samples before it judges, two days for
// the rhythm of the day and two weeks for that of the week. It fails on
// rhythms other than day and week, and on patterns whose values are usual.
type auto struct {
	ident     uint64
	threshold float64
	lastT     int64

	ruler
	parts  parts
	gauges [partsN]gauge
	marks  marks   // of the rareParts, for the score
	top    float64 // what a record counts for
	errors [4]float64
	reach  [2]float64 // from the expected value to the ends of the band, in units
	goal   [2]float64 // what is calibrated there
	cal    calibrator
	guard  guard
	recur  recurrence

	choice  uint8   // of the expectations
	watched [2]bool // sides

	// scratch
	isRead  bool  // there is a sample that was read last
	hasLast bool  // and one that was scored last
	lean    uint8 // side of the one that was read last, as rare returns it

	deep *deepParts // nil: the model is auto and was not promoted

	// scratch: the last sample that was read
	readT     int64
	readV     float64
	last      reading
	lastPart  [len(rareParts)]float32
	lastSum   float64 // strength
	lastRare  float64 // what is calibrated
	lastScore float64
}

func newAuto(c config) (Model, error) {
	m := &auto{
		ident: c.ident, threshold: DefaultThreshold, lastT: math.MinInt64,
		parts: newParts(c), cal: newCalibrator(float64(4*week) / float64(c.step)),
		goal: [2]float64{math.Inf(1), math.Inf(1)}, guard: newGuard(c.step),
	}
	for side := range m.watched {
		m.watched[side] = watches(c.direction, side)
	}
	m.cal.ensemble = true
	return m, nil
}

// read takes the readings of v at t into the scratch.
func (m *auto) read(t int64, v float64) {
	if m.isRead && m.readT == t && math.Float64bits(m.readV) == math.Float64bits(v) {
		return
	}
	m.readT, m.readV, m.isRead = t, v, true
	m.recur.turn(m.parts.locate(t, &m.last))
	m.parts.read(m.units(v), &m.last)
	var views float64
	if m.deep != nil {
		views = m.deep.view(t, v, m.top)
	}
	m.lastSum, m.lastRare, m.lean = m.sum(&m.last, views, &m.lastPart)
}

// side is on which side of the expected value the last reading is, which is that of x.
func (m *auto) side(x float64) int {
	if x < m.expected(&m.last) {
		return sideBelow
	}
	return sideAbove
}

// sum weighs what the gauges say of a reading: as its strength, to which views
// belong, and as what is calibrated, of which part gets the shares. lean is as rare returns it.
func (m *auto) sum(r *reading, views float64, part *[len(rareParts)]float32) (strength, rare float64, lean uint8) {
	strength = views
	for i := range m.gauges {
		if w := autoWeights[i]; w > 0 {
			strength += mul(w, m.gauges[i].limited(r.raw[i], m.top))
		}
	}
	rare, lean = m.rare(r, &m.marks, part)
	if m.deep.rules() {
		pattern, rest := m.deep.sum(strength)
		strength = pattern + rest
		pattern, rest = m.deep.sum(rare)
		if rare > 0 {
			for i := range part {
				part[i] = float32(mul(rest/rare, float64(part[i])))
			}
		}
		m.deep.pattern = pattern
		rare = pattern + rest
	}
	return strength, min(rare, largestReading), lean
}

// strength is that of the last reading, whose distance it takes: the sum of the gauges,
// damped for what is not far from the time of day, since gauges of a calm series find small things large. In
// auto, a young series counts by the root of its age too: records are common
// then, and of its first alarms few are worth one. deep is for series that somebody
// watches anyway, who would rather miss none.
func (m *auto) strength(distance float64) float64 {
	s := m.lastSum
	if distance > 0 && distance < autoFar {
		s = mul(s, distance/autoFar)
	}
	if !m.deep.rules() && m.parts.n < autoOld {
		s = mul(s, math.Sqrt(float64(m.parts.n)/autoOld))
	}
	return s
}

// rare weighs what marks say of a reading, and puts what each part counts for
// into part. It also returns to which side the reading leans: that on which the part that counts
// most has it, of those that have sides. What comes again at this time on that side counts for less.
func (m *auto) rare(r *reading, by *marks, part *[len(rareParts)]float32) (sum float64, lean uint8) {
	most := 0.0
	for k, i := range rareParts {
		p := 0.0
		if c := r.raw[i]; c >= 0 && m.gauges[i].n == gaugeWarm {
			p = mul(autoRarity[i], by[k].free(c))
			sum += p
			if p > most && i != partCalm {
				most, lean = p, sideAbove
				if r.below>>i&1 != 0 {
					lean = sideBelow
				}
			}
		}
		part[k] = float32(p)
	}
	if f := m.recur.factor(lean); f > 1 {
		sum /= f
		for k := range part {
			part[k] = float32(float64(part[k]) / f)
		}
	}
	return sum, lean
}

// distance is that of the last reading; 0 where patterns decide.
func (m *auto) distance() float64 {
	if m.deep.rules() && m.deep.decides() {
		return 0
	}
	return m.parts.distance(&m.last)
}

// expected is the expectation in use, in units.
func (m *auto) expected(r *reading) float64 {
	if x := r.center[m.choice]; x == x {
		return x
	}
	return r.center[0]
}

// Score implements Model.
func (m *auto) Score(t int64, v float64) Result {
	r := Result{Expected: math.NaN(), Lower: math.NaN(), Upper: math.NaN(), Learning: m.parts.n < autoLeast}
	if !finite(v) {
		r.Reason = ReasonNotANumber
		m.isRead, m.hasLast = false, false
		return r
	}
	m.read(t, v)
	m.lastScore, m.hasLast = 0, true
	if m.parts.n == 0 {
		r.Reason = ReasonLearning
		return r
	}
	center, side := m.expected(&m.last), m.side(m.units(v))
	r.Expected = m.value(center)
	r.Lower, r.Upper = m.end(center, sideBelow), m.end(center, sideAbove)
	if r.Learning {
		lower, upper := m.provisional()
		// The level follows slowly and may lie outside of the last samples.
		r.Lower, r.Upper = min(lower, r.Expected), max(upper, r.Expected)
	}
	if m.watched[side] {
		lnP, beyond := m.cal.lnExceed(side, m.lastRare)
		if m.deep.joins() {
			lnP, beyond = m.deep.join(side, lnP, beyond)
		}
		if m.watchesBoth() {
			lnP += ln2Hi + ln2Lo
		}
		r.Distance = m.distance()
		r.Strength = m.strength(r.Distance)
		r.Score, r.Extrapolated = min(max(-mul(lnP, invLn10), 0), MaxScore), beyond
	}
	m.lastScore = r.Score
	switch {
	case r.Score > m.threshold && v > r.Upper:
		r.Reason = ReasonAbove
	case r.Score > m.threshold && v < r.Lower:
		r.Reason = ReasonBelow
	case r.Score > m.threshold:
		r.Reason = ReasonPattern
	case r.Learning:
		r.Reason = ReasonLearning
	}
	return r
}

// Learn implements Model.
func (m *auto) Learn(t int64, v float64) {
	if !finite(v) || t <= m.lastT {
		m.isRead = false
		return
	}
	v += 0 // no negative zero
	m.measure(clampValue(v))
	m.read(t, v)
	m.isRead = false
	m.lastT = t
	x := m.units(v)
	skip, back, again := false, false, false
	if m.parts.n > 0 {
		side := m.side(x)
		if m.parts.n >= gaugeWarm && !m.guard.established() {
			m.cal.learn(side, m.lastRare)
		}
		m.deep.calibrate(side)
		by, lean := m.oddness(side)
		factor := m.recur.factor(lean)
		limits := mul(by, factor)
		again = factor > 1 && limits > 1
		m.recur.learn(m.parts.zone.week(t), lean, limits, m.guard.age < m.guard.day/recurPart)
		end := m.guard.take(t, by > 1, m.parts.n, &m.marks)
		back = end == wentBack || end == settled && m.accept(t, x)
		if skip = by > oddFar && m.guard.established(); skip && m.guard.begins() {
			m.parts.unlearn(t, m.guard.since, int(m.guard.age)-1)
		}
		m.judge(x)
	}
	for i := range m.gauges {
		m.gauges[i].learn(m.last.raw[i])
	}
	if !again {
		m.learnMarks(back)
	}
	m.parts.learn(x, &m.last, skip)
	if m.deep != nil {
		m.deep.learn(t, v, x)
		if m.deep.settle() {
			m.aim()
		}
	}
	if m.parts.n < 10000 {
		m.top = max(2.2, log10(float64(m.parts.n)))
	}
	m.follow()
	before := m.recur.codes
	m.recur.turn(m.parts.zone.week(t + m.guard.step))
	if back || m.recur.codes != before {
		m.settle()
	}
}

// oddness returns how far the last reading is, in limits of what is odd, by how
// things were before the present episode, if there is one, and to which side it leans. Where patterns decide,
// nothing is odd.
func (m *auto) oddness(side int) (by float64, lean uint8) {
	limit := m.guard.limit[side]
	switch {
	case m.parts.n < oddYoung || !(limit > 0) || m.deep.rules() && m.deep.decides():
		return 0, m.lean
	case m.guard.age == 0:
		return m.lastRare / limit, m.lean
	}
	var part [len(rareParts)]float32
	sum, lean := m.rare(&m.last, &m.guard.before, &part)
	if m.guard.long() {
		sum -= float64(part[slowPart])
	}
	return sum / limit, lean
}

// accept takes a level that has lasted for the new one, with x of it at t. It reports whether things
// are but for that as they were before, so that the marks of before hold again.
func (m *auto) accept(t int64, x float64) bool {
	spread := m.parts.move(t, m.guard.step)
	m.parts.read(x, &m.last)
	return spread < float64(m.guard.before[dayPart].quantile)
}

// learnMarks takes the last reading into the marks, which are those of the gauges
// but for incidents; back says that those of before one hold again.
func (m *auto) learnMarks(back bool) {
	if back {
		m.marks = m.guard.before
	}
	for k, i := range rareParts {
		switch c := m.last.raw[i]; {
		case m.parts.n < oddYoung:
			m.marks[k] = m.gauges[i].mark
		case c >= 0:
			m.marks[k].move(float32(c))
		}
		m.marks[k].raise(autoLeastMark[i])
	}
}

// measure fits the unit to v.
func (m *auto) measure(v float64) {
	shrinks, changed := m.ruler.measure(v, m.parts.n == 0)
	if changed {
		m.isRead = false
	}
	for range shrinks {
		m.parts.scale(rulerShrink)
		for i := range m.gauges {
			if partDimensional[i] {
				m.gauges[i].scale(rulerShrink)
			}
		}
		for k, i := range rareParts {
			if partDimensional[i] {
				m.marks[k].scale(rulerShrink)
				m.guard.before[k].scale(rulerShrink)
			}
		}
		for i := range m.errors {
			m.errors[i] = mul(m.errors[i], rulerShrink)
		}
		if m.deep != nil {
			m.deep.scale(rulerShrink)
		}
		m.reach[0], m.reach[1] = mul(m.reach[0], rulerShrink), mul(m.reach[1], rulerShrink)
	}
}

// judge updates the errors of the expectations and chooses among them.
func (m *auto) judge(x float64) {
	fresh := 1 / float64(m.parts.n+1)
	for i, c := range m.last.center {
		if c != c {
			continue
		}
		e := math.Abs(x - c)
		if m.parts.n >= gaugeWarm && m.errors[i] > 0 {
			e = min(e, autoClip*m.errors[i])
		}
		m.errors[i] += mul(max(autoSkill, fresh), e-m.errors[i])
	}
	best := m.choice
	for i, c := range m.last.center {
		ready := i < 2 || i == 2 && int(m.parts.day.visits) > len(m.parts.day.slots) ||
			i == 3 && int(m.parts.week.visits) > len(m.parts.week.slots)
		if c == c && ready && m.errors[i] < mul(autoPrefer, m.errors[best]) {
			best = uint8(i)
		}
	}
	m.choice = best
}

// SizeBytes implements Model.
func (m *auto) SizeBytes() int {
	size := int(sizeOf[auto]()) + 4*(cap(m.parts.day.slots)+cap(m.parts.week.slots))
	if m.deep != nil {
		size += m.deep.sizeBytes()
	}
	return size
}

// Describe implements Model.
func (m *auto) Describe() (algorithm, why string) {
	name := "auto"
	if m.deep.rules() || m.deep.joins() {
		name = "deep"
	}
	if n := m.parts.n; n < autoLeast {
		return name, fmt.Sprintf("learning: %d more samples needed", autoLeast-n)
	}
	names := [4]string{"recent_median", "level", "daily", "weekly"}
	said := [4]string{"the median of the last samples", "the level", "the same time of other days", "the same time of other weeks"}
	other := uint8(0)
	if m.choice == 0 {
		other = 1
	}
	return name + ":" + names[m.choice], fmt.Sprintf("%s is off by %.3g on average, %s by %.3g; %s%s",
		said[m.choice], mul(m.errors[m.choice], m.unit), said[other], mul(m.errors[other], m.unit),
		m.cal.describe(sideAbove, false), m.deep.why())
}

// Contributions implements Model.
func (m *auto) Contributions() []model.Contribution {
	if !m.hasLast {
		return nil
	}
	if m.deep.joins() && m.deep.trial.won {
		return m.deep.contributions(nil, 1, 1, m.lastScore)
	}
	var out []model.Contribution
	for k, p := range m.lastPart {
		if p > 0 && m.lastRare > 0 {
			i, share := rareParts[k], float64(p)/m.lastRare
			out = append(out, model.Contribution{Name: autoNames[i], Score: mul(share, m.lastScore), Share: share,
				Note: autoNote(float64(p)/autoRarity[i], m.top)})
		}
	}
	if m.deep.rules() && m.lastRare > 0 {
		out = m.deep.contributions(out, m.deep.pattern, m.lastRare, m.lastScore)
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Share > out[j].Share })
	return out
}

// autoNote says in words what a gauge says.
func autoNote(s, top float64) string {
	switch {
	case s > top:
		return "more than ever before"
	case s >= 2:
		return "among the largest one in a hundred"
	}
	return "usual"
}

var _ Model = (*auto)(nil)
