package detect

import (
	"fmt"
	"math"

	"aiops/internal/model"
)

// maxValue bounds what models compute with, so that squares and sums stay
// finite. A value beyond it counts as it.
const maxValue = 1e150

// predictor is the part in which most models differ: what they expect. A
// standard makes a Model of it.
type predictor interface {
	// predict says what is expected at t. It changes nothing.
	predict(t int64) prediction
	// learn takes a value, which is finite and within ±maxValue, and what was
	// expected of it, floors applied.
	learn(t int64, v float64, p prediction)
	// missing is how many more samples the predictor needs before the model
	// judges.
	missing() int
	// why describes the present state in a sentence.
	why() string
	sizeBytes() int
	append(w *writer)
	// read replaces the state when nothing in d is wrong and nothing is left
	// over; else it notes the fault in d and changes nothing.
	read(d *reader)
}

// prediction is the expected value and the size of usual deviations on both
// sides. The zero prediction means that nothing is expected.
type prediction struct {
	center  float64
	scale   [2]float64 // by side; the standard raises it to the floor
	floored [2]bool    // set by the standard
	half    float64    // half of the grain, set by the standard
	ok      bool
}

// standard is a Model of a predictor and a calibrator: the deviation from the
// expected value, in units of the scale, becomes a tail probability.
type standard struct {
	name      string
	ident     uint64
	direction model.Direction
	predictor predictor
	threshold float64
	lastT     int64 // of the last sample learned
	floor     floor
	cal       calibrator

	// scratch: what the last Score worked out
	scoredT  int64
	scored   bool
	expected prediction
	lastZ    float64
	score    float64
	reason   Reason
	beyond   bool // the score was extrapolated
	hasLast  bool
}

func newStandard(c config, p predictor) *standard {
	return &standard{
		name: c.entry.Name, ident: c.ident, direction: c.direction, predictor: p,
		threshold: DefaultThreshold, lastT: math.MinInt64,
		cal: newCalibrator(float64(4*week) / float64(c.step)),
	}
}

// expect returns the prediction for t with the floor applied.
func (m *standard) expect(t int64) prediction {
	if m.scored && m.scoredT == t {
		return m.expected
	}
	p := m.predictor.predict(t)
	if p.ok {
		least := m.floor.at(p.center)
		p.half = m.floor.step() / 2
		for side, s := range p.scale {
			if !(s >= least) {
				p.scale[side], p.floored[side] = least, true
			}
		}
	}
	m.scoredT, m.expected, m.scored = t, p, true
	return p
}

// deviate returns the side on which v lies and its distance in scales, less
// what is given away of the distance.
func (p *prediction) deviate(v, less float64) (side int, z float64) {
	d := v - p.center
	if d < 0 {
		side, d = sideBelow, -d
	}
	return side, min(max(d-less, 0)/p.scale[side], maxDeviation)
}

func clampValue(v float64) float64 { return min(max(v, -maxValue), maxValue) }

// Score implements Model.
func (m *standard) Score(t int64, v float64) Result {
	p := m.expect(t)
	r := Result{Expected: math.NaN(), Lower: math.NaN(), Upper: math.NaN(), Learning: m.learning()}
	if p.ok {
		r.Expected = p.center
		r.Lower = p.center - p.half - mul(p.scale[sideBelow], m.band(&p, sideBelow))
		r.Upper = p.center + p.half + mul(p.scale[sideAbove], m.band(&p, sideAbove))
	}
	m.lastZ, m.hasLast = 0, true
	switch {
	case !finite(v):
		r.Reason = ReasonNotANumber
	case p.ok:
		// A value stands for all that would have been rounded to it: the one at
		// the near end of its grain is the one to judge.
		side, z := p.deviate(clampValue(v), p.half)
		lnP, beyond := m.lnProbability(&p, side, z)
		r.Score = min(max(-mul(lnP, invLn10), 0), MaxScore)
		r.Extrapolated = beyond
		m.lastZ = z
		if side == sideBelow {
			m.lastZ = -z
		}
		if r.Score > m.threshold {
			r.Reason = ReasonAbove
			if side == sideBelow {
				r.Reason = ReasonBelow
			}
		} else if r.Learning {
			r.Reason = ReasonLearning
		}
	default:
		r.Reason = ReasonLearning
	}
	m.score, m.reason, m.beyond = r.Score, r.Reason, r.Extrapolated
	return r
}

func (m *standard) learning() bool { return m.predictor.missing() > 0 }

// watches reports whether a direction watches a side.
func watches(d model.Direction, side int) bool {
	return d == model.DirectionBoth || (d == model.DirectionBelow) == (side == sideBelow)
}

// lnProbability is the logarithm of the probability of a deviation at least as
// large, on the watched side or, when both are watched, on either one, each
// given half of the probability.
func (m *standard) lnProbability(p *prediction, side int, z float64) (lnP float64, beyond bool) {
	if !watches(m.direction, side) {
		return 0, false
	}
	lnP, beyond = m.cal.lnExceed(side, z)
	if p.floored[side] && z < 1 {
		// Less than the floor: what little is known of such a deviation grows
		// from nothing at z = 0 to what is known at z = 1.
		lnP = max(lnP, mul(z, m.cal.lnFloor()))
	}
	if m.direction == model.DirectionBoth {
		lnP += ln2Hi + ln2Lo
	}
	return min(lnP, 0), beyond
}

// band returns the deviation in scales at which the score is the threshold.
func (m *standard) band(p *prediction, side int) float64 {
	if !watches(m.direction, side) {
		return math.Inf(1)
	}
	lnP := -mul(m.threshold, ln10)
	if m.direction == model.DirectionBoth {
		lnP -= ln2Hi + ln2Lo
	}
	z := m.cal.deviation(side, lnP)
	if p.floored[side] && z < 1 {
		z = max(z, min(lnP/m.cal.lnFloor(), 1))
	}
	return z
}

// Learn implements Model.
func (m *standard) Learn(t int64, v float64) {
	if !finite(v) || t <= m.lastT {
		m.scored = false
		return
	}
	v = clampValue(v) + 0 // no negative zero
	p := m.expect(t)
	m.scored = false
	m.lastT = t
	deviation := math.NaN()
	if p.ok {
		deviation = v - p.center
		m.cal.learn(p.deviate(v, 0))
	}
	m.predictor.learn(t, v, p)
	m.floor.learn(v, deviation)
}

// AppendSnapshot implements Model.
func (m *standard) AppendSnapshot(dst []byte) []byte {
	w := openSnapshot(dst, m.ident)
	w.f64(m.threshold)
	w.i64(m.lastT)
	m.floor.append(w)
	m.cal.append(w)
	m.predictor.append(w)
	return w.close()
}

// Restore implements Model.
func (m *standard) Restore(snapshot []byte) error {
	d := readSnapshot(snapshot, m.ident)
	threshold, lastT := d.finite(), d.i64()
	var f floor
	f.read(d)
	cal := calibrator{memory: m.cal.memory}
	cal.read(d)
	m.predictor.read(d)
	if err := d.close(); err != nil {
		return err
	}
	m.threshold, m.lastT, m.floor, m.cal = threshold, lastT, f, cal
	m.scored, m.hasLast = false, false
	return nil
}

// SizeBytes implements Model.
func (m *standard) SizeBytes() int { return int(sizeOf[standard]()) + m.predictor.sizeBytes() }

// SetThreshold implements Model.
func (m *standard) SetThreshold(score float64) {
	if finite(score) {
		m.threshold = min(max(score, 0), MaxScore)
	}
}

// Describe implements Model.
func (m *standard) Describe() (algorithm, why string) {
	if n := m.predictor.missing(); n > 0 {
		return m.name, fmt.Sprintf("%s; learning: %d more samples needed", m.predictor.why(), n)
	}
	return m.name, m.predictor.why()
}

// Contributions implements Model.
func (m *standard) Contributions() []model.Contribution {
	if !m.hasLast {
		return nil
	}
	note := "nothing is expected yet"
	if m.reason == ReasonNotANumber {
		note = "the value is not a number"
	} else if m.expected.ok {
		side, word := sideAbove, "above"
		if m.lastZ < 0 {
			side, word = sideBelow, "below"
		}
		note = fmt.Sprintf("%.3g times the usual deviation %s the expected value; %s",
			math.Abs(m.lastZ), word, m.cal.describe(side, m.beyond))
	}
	return []model.Contribution{{Name: m.name, Score: m.score, Share: 1, Note: note}}
}

var _ Model = (*standard)(nil)

// clip returns v moved to at most n scales from the expected value.
func (p *prediction) clip(v, n float64) float64 {
	return min(max(v, p.center-mul(n, p.scale[sideBelow])), p.center+mul(n, p.scale[sideAbove]))
}
