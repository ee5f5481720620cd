package detect

import (
	"math"

	"aiops/internal/model"
)

// surprise is the model "surprise": the value is a score already, computed by
// whoever made the series, and is compared with the threshold that follows from
// the budget. What is expected is 0. It is for series such as the novelty of
// log templates, whose producer knows the probability of what it saw.
//
// Cost per point: a comparison. Memory: one struct. It fails when the producer's
// probabilities are wrong; it never learns.
type surprise struct {
	ident     uint64
	threshold float64
	last      Result
}

func newSurprise(c config) (Model, error) {
	return &surprise{ident: c.ident, threshold: DefaultThreshold}, nil
}

func (m *surprise) Score(_ int64, v float64) Result {
	r := Result{Expected: 0, Lower: 0, Upper: m.threshold}
	switch {
	case !finite(v):
		r.Expected, r.Reason = math.NaN(), ReasonNotANumber
	default:
		r.Score = min(max(v, 0), MaxScore)
		if r.Score > m.threshold {
			r.Reason = ReasonAbove
		}
	}
	m.last = r
	return r
}

func (m *surprise) Learn(int64, float64) {}

func (m *surprise) AppendSnapshot(dst []byte) []byte {
	w := openSnapshot(dst, m.ident)
	w.f64(m.threshold)
	return w.close()
}

func (m *surprise) Restore(snapshot []byte) error {
	d := readSnapshot(snapshot, m.ident)
	threshold := d.finite()
	if err := d.close(); err != nil {
		return err
	}
	m.threshold, m.last = threshold, Result{}
	return nil
}

func (m *surprise) SizeBytes() int { return int(sizeOf[surprise]()) }

func (m *surprise) SetThreshold(score float64) {
	if finite(score) {
		m.threshold = min(max(score, 0), MaxScore)
	}
}

func (m *surprise) Describe() (algorithm, why string) {
	return "surprise", "the value is the surprise itself"
}

func (m *surprise) Contributions() []model.Contribution {
	if m.last == (Result{}) {
		return nil
	}
	_, why := m.Describe()
	return []model.Contribution{{Name: "surprise", Score: m.last.Score, Share: 1, Note: why}}
}
