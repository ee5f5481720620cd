package detect

import (
	"fmt"
	"math"
	"slices"
	"time"
)

const (
	shiftSlack = 0.5 // usual deviations of every sample that are no sign of a shift
	shiftClip  = 5   // and that one sample counts for at most
	shiftSum   = 32  // of what is left over, at which the level has shifted
	shiftLeast = 8   // samples of the new level, at least
	shiftLearn = 4   // usual deviations that are learned at most
)

// levelShift is the model "level_shift": the distance from the mean of all
// samples since the level last shifted, which a two-sided CUSUM finds (Page,
// "Continuous inspection schemes", Biometrika 1954). What exceeds half a usual
// deviation on one side adds up; at 32, from at least 8 samples, the median of
// the last 8 is the new level. So a shift raises an alarm, and is then the
// new normal, while a spike moves nothing.
//
// Cost per point: some multiplications. Memory: one struct. A shift by five
// deviations or more is normal after 8 samples, one by two after about 22.
// It fails on rhythms and trends, which it follows in steps, and on shifts by
// less than half a deviation, which it does not see.
type levelShift struct {
	alpha float64 // of the scale, and least weight of a sample in the level
	least int

	level  float64
	usual  float64 // mean absolute deviation
	n      uint64  // samples ever
	since  uint64  // samples since the last shift
	shifts uint64
	sides  [2]cusum
	last   [shiftLeast]float64 // the last samples, sample i at i%shiftLeast
}

// cusum adds up what exceeds the slack on one side.
type cusum struct {
	sum float64 // in usual deviations
	n   uint64  // samples since it was 0
}

// meanToDeviation is the standard deviation of a normal distribution in mean
// absolute deviations: the root of half of pi.
const meanToDeviation = 1.2533141373155003

func levelShiftParameters() []Parameter { return []Parameter{halfLifeParameter(shiftHalfLife)} }

const shiftHalfLife = 240

func levelShiftMinHistory(time.Duration) int { return ewmaLeast(shiftHalfLife) }

func newLevelShift(c config) (Model, error) {
	h := c.params.number("half_life")
	return newStandard(c, &levelShift{alpha: decay(h), least: ewmaLeast(h)}), nil
}

func (m *levelShift) predict(int64) prediction {
	if m.n < minWindow {
		return prediction{}
	}
	s := mul(meanToDeviation, m.usual)
	return prediction{center: m.level, scale: [2]float64{s, s}, ok: true}
}

func (m *levelShift) learn(_ int64, v float64, p prediction) {
	m.last[m.n%shiftLeast] = v
	m.n++
	m.since++
	if p.ok {
		for side := range m.sides {
			m.sides[side].add(side, v, &p)
			if s := &m.sides[side]; s.sum >= shiftSum && s.n >= shiftLeast {
				sorted := m.last
				slices.Sort(sorted[:])
				m.level, m.since = mul(sorted[shiftLeast/2-1], 0.5)+mul(sorted[shiftLeast/2], 0.5), shiftLeast
				m.shifts++
				m.sides = [2]cusum{}
				return
			}
		}
		v = p.clip(v, shiftLearn)
	}
	d := v - m.level
	if m.n == 1 {
		d, m.level = 0, v
	}
	m.level += mul(max(m.alpha, 1/float64(m.since)), d)
	m.usual += mul(max(m.alpha, 1/float64(m.n)), math.Abs(d)-m.usual)
}

// add takes v into the sum of a side.
func (s *cusum) add(side int, v float64, p *prediction) {
	d := v - p.center
	if side == sideBelow {
		d = -d
	}
	s.sum += min(d/p.scale[side], shiftClip) - shiftSlack
	if !(s.sum > 0) {
		*s = cusum{}
		return
	}
	s.n++
}

func (m *levelShift) missing() int {
	if m.n >= uint64(m.least) {
		return 0
	}
	return m.least - int(m.n)
}

func (m *levelShift) why() string {
	return fmt.Sprintf("level of %d samples, which shifted %d times before", m.since, m.shifts)
}

func (m *levelShift) sizeBytes() int { return int(sizeOf[levelShift]()) }

func (m *levelShift) append(w *writer) {
	w.f64(m.level)
	w.f64(m.usual)
	w.uvarint(m.n)
	w.uvarint(m.since)
	w.uvarint(m.shifts)
	for _, s := range m.sides {
		w.f64(s.sum)
		w.uvarint(s.n)
	}
	for _, v := range m.last {
		w.f64(v)
	}
}

func (m *levelShift) read(d *reader) {
	n := *m
	n.level, n.usual = d.value(), d.value()
	n.n, n.since, n.shifts = d.uvarint(math.MaxInt64), d.uvarint(math.MaxInt64), d.uvarint(math.MaxInt64)
	for i := range n.sides {
		s := &n.sides[i]
		s.sum, s.n = d.finite(), d.uvarint(math.MaxInt64)
		d.check(s.sum >= 0 && s.sum <= 1e18)
	}
	for i := range n.last {
		n.last[i] = d.value()
	}
	d.check(n.usual >= 0 && n.since <= n.n && n.shifts <= n.n)
	if d.close() == nil {
		*m = n
	}
}
