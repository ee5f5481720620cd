package detect

import "math"

// This file is the band of auto: its ends follow the values at which the score
// is the threshold.

// end returns the end of the band on a side.
func (m *auto) end(center float64, side int) float64 {
	sign := 1.0
	if side == sideBelow {
		sign = -1
	}
	if reach := m.reach[side]; m.watched[side] && reach < rulerMost {
		return m.value(center + mul(sign, reach))
	}
	return math.Inf(int(sign))
}

func (m *auto) watchesBoth() bool { return m.watched[sideAbove] && m.watched[sideBelow] }

// provisional returns the band of a model that is still learning: the range of
// the values so far, widened by as much again on both sides. It says where
// values lie, not how rare others are.
func (m *auto) provisional() (lower, upper float64) {
	n := int(min(m.parts.n, ringN))
	lo, hi := m.parts.ranked(0), m.parts.ranked(n-1)
	width := hi - lo
	lower, upper = math.Inf(-1), math.Inf(1)
	if m.watched[sideBelow] {
		lower = m.value(lo - width)
	}
	if m.watched[sideAbove] {
		upper = m.value(hi + width)
	}
	return lower, upper
}

// follow moves the ends of the band towards where the score is the threshold.
func (m *auto) follow() {
	n := m.parts.n
	if n%256 == autoLeast {
		m.aim()
		for side := range m.guard.limit {
			m.guard.limit[side] = m.cal.deviation(side, -ln(oddRarity))
		}
	}
	if n >= autoLeast && n%2 == 0 {
		m.track(int(n / 2 % 2))
	}
}

// aim works out the calibrated sum at which the score is the threshold.
func (m *auto) aim() {
	lnP := -mul(m.threshold, ln10)
	if m.watchesBoth() {
		lnP -= ln2Hi + ln2Lo
	}
	if m.deep.joins() {
		lnP -= ln2Hi + ln2Lo
	}
	for side := range m.goal {
		m.goal[side] = m.cal.deviation(side, lnP)
	}
}

// track moves one end of the band a step.
func (m *auto) track(side int) {
	center := m.expected(&m.last)
	if m.unit == 0 || center != center {
		return
	}
	reach := m.reach[side]
	if reach == 0 || reach >= rulerMost {
		reach = max(m.parts.levelDist, 1e-9)
	}
	x := center + reach
	if side == sideBelow {
		x = center - reach
	}
	r := reading{daySlot: m.last.daySlot, weekSlot: m.last.weekSlot}
	var part [len(rareParts)]float32
	m.parts.read(x, &r)
	if _, rare, _ := m.sum(&r, 0, &part); rare > m.goal[side] {
		m.reach[side] = reach / autoTrack
	} else {
		m.reach[side] = mul(reach, autoTrack)
	}
}

// SetThreshold implements Model.
func (m *auto) SetThreshold(score float64) {
	if !finite(score) || score == m.threshold {
		return
	}
	m.threshold = min(max(score, 0), MaxScore)
	if m.parts.n < autoLeast {
		return
	}
	m.settle()
}

// settle moves the ends of the band to where the score is the threshold.
func (m *auto) settle() {
	m.aim()
	for range 64 {
		m.track(sideAbove)
		m.track(sideBelow)
	}
}
