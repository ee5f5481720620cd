package detect

import (
	"fmt"
	"math"

	"aiops/internal/model"
)

// scorer is the part of a model whose surprise is not a distance from an
// expected value: it says how odd a value is in its context. A pattern makes a
// Model of it.
type scorer interface {
	// expect returns the most likely next value. It changes nothing.
	expect() (center float64, ok bool)
	// oddness returns how odd v is as the next value: 0 or more, larger is
	// odder, growing without bound as v leaves what was seen. least is the size
	// of a deviation that means nothing. It changes nothing but scratch.
	oddness(v, least float64) float64
	// learn takes in a value, which is finite and within ±maxValue.
	learn(v float64)
	// missing, why, sizeBytes, append and read are as in predictor.
	missing() int
	why() string
	sizeBytes() int
	append(w *writer)
	read(d *reader)
}

// whole is a scorer of the last stretch of a series with the value at its end,
// not of the value alone. There is no band, because no single value ends it, and
// expect may return NaN.
type whole interface {
	scorer
	// side returns on which side the stretch of the last oddness lies. sided:
	// there are two; else the direction does not matter.
	side() (side int, sided bool)
	// reason names what an odd stretch on a side is.
	reason(side int) Reason
	// note says in words what the last oddness came from.
	note() string
	// due reports whether the calibrator learns the oddness of the next value.
	// Stretches that overlap are odd together; learning all of them would make
	// few independent ones look like many.
	due() bool
}

// attributor is a scorer that knows which part of what it looks at makes a value
// odd.
type attributor interface {
	// attribute returns the parts of the oddness of v as the next value, with
	// names for people and shares that add up to 1; none when nothing is odd.
	attribute(v, least float64) []model.Contribution
}

// gapped is a scorer that wants to know of the time between samples.
type gapped interface {
	// elapse tells how long before the value that is learned next the one before
	// was, in milliseconds.
	elapse(ms int64)
}

const (
	bandSteps  = 14 // halvings that place the end of a band
	bandGrowth = 30 // steps of a factor 4 that look for it inwards
)

// pattern is a Model of a scorer and a calibrator. A value above the expected
// one is calibrated against the oddness of such values, one below likewise.
// Where the band ends is found by search outwards from the expected value, so
// that it is exact to a four-thousandth of its width; a value inside may still be
// odd. A whole has no band and says itself on which side it is odd.
type pattern struct {
	name      string
	ident     uint64
	direction model.Direction
	scorer    scorer
	whole     whole // the scorer, when it is one
	threshold float64
	lastT     int64
	floor     floor
	cal       calibrator

	// scratch
	last     Result
	lastZ    float64
	lastSide int
	hasLast  bool
	scored   bool // lastZ and lastSide are those of scoredV
	scoredV  float64
}

func newPattern(c config, s scorer) *pattern {
	m := &pattern{
		name: c.entry.Name, ident: c.ident, direction: c.direction, scorer: s,
		threshold: DefaultThreshold, lastT: math.MinInt64,
		cal: newCalibrator(float64(4*week) / float64(c.step)),
	}
	if w, ok := s.(whole); ok {
		m.whole = w
		if _, sided := w.side(); !sided {
			m.direction = model.DirectionAbove // the only side there is
		}
	}
	return m
}

// measure works out the oddness of v and its side.
func (m *pattern) measure(v, center, least float64) {
	m.lastZ = m.scorer.oddness(v, least)
	m.lastSide = sideOf(v, center)
	if m.whole != nil {
		side, _ := m.whole.side()
		m.lastSide = side
	}
	m.scored, m.scoredV = true, v
}

// least returns the size of a deviation from center that means nothing.
func (m *pattern) least(center float64) float64 {
	if center != center {
		center = 0
	}
	return m.floor.at(center)
}

func sideOf(v, center float64) int {
	if v < center {
		return sideBelow
	}
	return sideAbove
}

// Score implements Model.
func (m *pattern) Score(_ int64, v float64) Result {
	r := Result{Expected: math.NaN(), Lower: math.NaN(), Upper: math.NaN(), Learning: m.scorer.missing() > 0}
	center, ok := m.scorer.expect()
	least := m.least(center)
	if ok {
		r.Expected = center
	}
	if ok && m.whole == nil {
		r.Lower = m.end(center, least, sideBelow)
		r.Upper = m.end(center, least, sideAbove)
	}
	m.hasLast, m.scored, m.lastZ = true, false, 0
	switch {
	case !finite(v):
		r.Reason = ReasonNotANumber
	case !ok:
		r.Reason = ReasonLearning
	default:
		v = clampValue(v) + 0
		m.measure(v, center, least)
		lnP, beyond := m.lnProbability(v, center, least)
		r.Score = min(max(-mul(lnP, invLn10), 0), MaxScore)
		r.Extrapolated = beyond
		r.Reason = m.reason(&r, v)
	}
	m.last = r
	return r
}

func (m *pattern) reason(r *Result, v float64) Reason {
	switch {
	case r.Score > m.threshold && m.whole != nil:
		return m.whole.reason(m.lastSide)
	case r.Score > m.threshold && v > r.Upper:
		return ReasonAbove
	case r.Score > m.threshold && v < r.Lower:
		return ReasonBelow
	case r.Score > m.threshold:
		return ReasonPattern
	case r.Learning:
		return ReasonLearning
	}
	return ReasonNormal
}

// lnProbability is the logarithm of the probability of an oddness of at least
// lastZ, which is that of v.
func (m *pattern) lnProbability(v, center, least float64) (lnP float64, beyond bool) {
	if !watches(m.direction, m.lastSide) {
		return 0, false
	}
	lnP, beyond = m.cal.lnExceed(m.lastSide, m.lastZ)
	if d := math.Abs(v - center); d < least && m.floor.constant() {
		// As in standard: less than the floor means little.
		lnP = max(lnP, mul(d/least, m.cal.lnFloor()))
	}
	if m.direction == model.DirectionBoth {
		lnP += ln2Hi + ln2Lo
	}
	return min(lnP, 0), beyond
}

// end returns where the band ends on a side: the expected value when even that
// exceeds the threshold, infinite when nothing does.
func (m *pattern) end(center, least float64, side int) float64 {
	sign := 1.0
	if side == sideBelow {
		sign = -1
	}
	if !watches(m.direction, side) {
		return math.Inf(int(sign))
	}
	lnP := -mul(m.threshold, ln10)
	if m.direction == model.DirectionBoth {
		lnP -= ln2Hi + ln2Lo
	}
	limit := m.cal.deviation(side, lnP)
	if math.IsInf(limit, 1) {
		return math.Inf(int(sign))
	}
	if m.scorer.oddness(center, least) > limit {
		return center
	}
	odd := func(width float64) bool {
		if m.floor.constant() && width < least && mul(width/least, m.cal.lnFloor()) >= lnP {
			return false
		}
		return m.scorer.oddness(clampValue(center+mul(sign, width)), least) > limit
	}
	inside, outside := 0.0, max(least, m.floor.slow)
	if odd(outside) {
		for range bandGrowth {
			inside = outside / 4
			if !odd(inside) {
				break
			}
			outside, inside = inside, 0
		}
	} else {
		for {
			inside, outside = outside, 4*outside
			if odd(outside) {
				break
			}
			if outside > 2*maxValue {
				return math.Inf(int(sign))
			}
		}
	}
	for range bandSteps {
		if middle := (inside + outside) / 2; odd(middle) {
			outside = middle
		} else {
			inside = middle
		}
	}
	return center + mul(sign, inside)
}

// Learn implements Model.
func (m *pattern) Learn(t int64, v float64) {
	if !finite(v) || t <= m.lastT {
		m.scored = false
		return
	}
	v = clampValue(v) + 0
	last := m.lastT
	m.lastT = t
	deviation := math.NaN()
	if center, ok := m.scorer.expect(); ok && (m.whole == nil || m.whole.due()) {
		if !m.scored || m.scoredV != v {
			m.measure(v, center, m.least(center))
		}
		m.cal.learn(m.lastSide, m.lastZ)
		deviation = v - center // NaN in models that expect no value
	}
	m.scored = false
	if g, ok := m.scorer.(gapped); ok && last != math.MinInt64 {
		g.elapse(t - last)
	}
	m.scorer.learn(v)
	m.floor.learn(v, deviation)
}

// AppendSnapshot implements Model.
func (m *pattern) AppendSnapshot(dst []byte) []byte {
	w := openSnapshot(dst, m.ident)
	w.f64(m.threshold)
	w.i64(m.lastT)
	m.floor.append(w)
	m.cal.append(w)
	m.scorer.append(w)
	return w.close()
}

// Restore implements Model.
func (m *pattern) Restore(snapshot []byte) error {
	d := readSnapshot(snapshot, m.ident)
	threshold, lastT := d.finite(), d.i64()
	var f floor
	f.read(d)
	cal := calibrator{memory: m.cal.memory}
	cal.read(d)
	m.scorer.read(d)
	if err := d.close(); err != nil {
		return err
	}
	m.threshold, m.lastT, m.floor, m.cal = threshold, lastT, f, cal
	m.scored, m.hasLast = false, false
	return nil
}

// SizeBytes implements Model.
func (m *pattern) SizeBytes() int { return int(sizeOf[pattern]()) + m.scorer.sizeBytes() }

// SetThreshold implements Model.
func (m *pattern) SetThreshold(score float64) {
	if finite(score) {
		m.threshold = min(max(score, 0), MaxScore)
	}
}

// Describe implements Model.
func (m *pattern) Describe() (algorithm, why string) {
	if n := m.scorer.missing(); n > 0 {
		return m.name, fmt.Sprintf("%s; learning: %d more samples needed", m.scorer.why(), n)
	}
	return m.name, m.scorer.why()
}

// Contributions implements Model.
func (m *pattern) Contributions() []model.Contribution {
	if !m.hasLast {
		return nil
	}
	note := "nothing is expected yet"
	if m.last.Reason == ReasonNotANumber {
		note = "the value is not a number"
	} else if center, ok := m.scorer.expect(); ok {
		what := fmt.Sprintf("oddness %.3g", m.lastZ)
		if m.whole != nil {
			what = m.whole.note()
		}
		note = fmt.Sprintf("%s; %s", what, m.cal.describe(m.lastSide, m.last.Extrapolated))
		if a, ok := m.scorer.(attributor); ok && m.scored {
			if parts := a.attribute(m.scoredV, m.least(center)); len(parts) > 0 {
				for i := range parts {
					parts[i].Score = mul(parts[i].Share, m.last.Score)
				}
				parts[0].Note += "; " + note
				return parts
			}
		}
	}
	return []model.Contribution{{Name: m.name, Score: m.last.Score, Share: 1, Note: note}}
}

var _ Model = (*pattern)(nil)
