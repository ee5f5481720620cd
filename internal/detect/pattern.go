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

const (
	bandSteps  = 14 // halvings that place the end of a band
	bandGrowth = 30 // steps of a factor 4 that look for it inwards
)

// pattern is a Model of a scorer and a calibrator. A value above the expected
// one is calibrated against the oddness of such values, one below likewise.
// Where the band ends is found by search outwards from the expected value, so
// that it is exact to a four-thousandth of its width; a value inside may still be
// odd.
type pattern struct {
	name      string
	ident     uint64
	direction model.Direction
	scorer    scorer
	threshold float64
	lastT     int64
	floor     floor
	cal       calibrator

	// scratch
	last    Result
	lastZ   float64
	hasLast bool
	scored  bool // lastZ is the oddness of scoredV
	scoredV float64
}

func newPattern(c config, s scorer) *pattern {
	return &pattern{
		name: c.entry.Name, ident: c.ident, direction: c.direction, scorer: s,
		threshold: DefaultThreshold, lastT: math.MinInt64,
		cal: newCalibrator(float64(4*week) / float64(c.step)),
	}
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
	least := m.floor.at(center)
	if ok {
		r.Expected = center
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
		m.lastZ = m.scorer.oddness(v, least)
		m.scored, m.scoredV = true, v
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
	side := sideOf(v, center)
	if !watches(m.direction, side) {
		return 0, false
	}
	lnP, beyond = m.cal.lnExceed(side, m.lastZ)
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
	m.lastT = t
	deviation := math.NaN()
	if center, ok := m.scorer.expect(); ok {
		z := m.lastZ
		if !m.scored || m.scoredV != v {
			z = m.scorer.oddness(v, m.floor.at(center))
		}
		m.cal.learn(sideOf(v, center), z)
		deviation = v - center
	}
	m.scored = false
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
		note = fmt.Sprintf("oddness %.3g; %s", m.lastZ, m.cal.describe(sideOf(m.scoredV, center), m.last.Extrapolated))
	}
	return []model.Contribution{{Name: m.name, Score: m.last.Score, Share: 1, Note: note}}
}

var _ Model = (*pattern)(nil)
