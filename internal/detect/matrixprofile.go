package detect

import (
	"fmt"
	"math"
	"time"
)

const (
	profileLeast = 1024 // samples before it judges
	profileLife  = 2048 // half-life of the usual distance, in samples
	profileFloor = 0.03 // least usual deviation of distances
	profileApart = 4    // samples of a subsequence of which the distance is learned
	profileGap   = 16   // periods of a gap that is bridged, at most
	profileFill  = 1e5  // samples that bridge it, at most
	unrelated    = 1.4  // distance of subsequences that have nothing in common
)

// matrixProfile is the model "matrix_profile": how far the latest subsequence,
// with the value at its end, is from the nearest of all earlier ones of a bounded
// history, its left discord. The comment of discord has the method, the
// choice of the length, and references. The oddness is by how many usual
// deviations that distance exceeds the usual one, which shrinks as history grows
// and is small for a clean rhythm.
//
// Samples that are missing, or not learned because an episode begins, would
// shift the phase: up to 16 periods of them are bridged by the points one period
// before.
//
// Cost per point: 20 to 30 µs with a full history, half of it for the value that
// is scored. Memory: 200 KiB when full. It needs 1024 samples before it judges.
// A discord alarms while it is in the subsequence, that is for up to a period, and a
// second one like it is none. It does not see what changes size or level
// only, since subsequences are normalised, and where a long period is thinned out, it
// sees a point when its last sample has come.
type matrixProfile struct {
	ruler
	discord discord
	usual   ewma  // of the distance
	step    int64 // ms

	odd float64 // scratch: the distance of the last oddness
}

func profileMinHistory(time.Duration) int { return profileLeast }

func newMatrixProfile(c config) (Model, error) {
	return newPattern(c, &matrixProfile{discord: newDiscord(), usual: *newEWMAPredictor(profileLife), step: max(c.step.Milliseconds(), 1)}), nil
}

func (m *matrixProfile) expect() (center float64, ok bool) {
	return math.NaN(), m.discord.seen >= discordFirst
}

func (m *matrixProfile) oddness(v, _ float64) float64 {
	m.odd = m.discord.peek(m.units(v))
	p := m.expected()
	if !(m.odd >= 0) || !p.ok {
		return 0
	}
	return max(m.odd-p.center, 0) / p.scale[sideAbove]
}

// expected is the usual distance.
func (m *matrixProfile) expected() prediction {
	p := m.usual.predict(0)
	for side := range p.scale {
		p.scale[side] = max(p.scale[side], profileFloor)
	}
	return p
}

func (m *matrixProfile) side() (side int, sided bool) { return sideAbove, false }

func (m *matrixProfile) reason(int) Reason { return ReasonPattern }

func (m *matrixProfile) due() bool {
	return m.discord.seen%uint64(max(1, m.discord.span()/profileApart)) == 0
}

func (m *matrixProfile) note() string {
	if m.odd != m.odd {
		return "there is no earlier pattern to compare with"
	}
	return fmt.Sprintf("the last %d samples are %.2f from the nearest pattern of %d samples before, where %.2f is usual and %g unrelated",
		m.discord.span(), m.odd, int(m.discord.n)*m.discord.thin, m.usual.mean, unrelated)
}

// elapse bridges a gap.
func (m *matrixProfile) elapse(ms int64) {
	period := int64(m.discord.period)
	gap := (ms+m.step/2)/m.step - 1
	back := m.discord.period / m.discord.thin
	if period == 0 || gap < 1 || gap > profileGap*period || gap%period > profileFill || int(m.discord.n) < 2*back {
		return
	}
	for range gap % period {
		m.discord.learn(float64(m.discord.values[m.discord.at(uint32(back))]))
		if back = m.discord.period / m.discord.thin; back == 0 || int(m.discord.n) < 2*back {
			return // it has looked at the rhythm again
		}
	}
}

func (m *matrixProfile) learn(v float64) {
	shrinks, _ := m.measure(v, m.discord.seen == 0)
	for range shrinks {
		m.discord.scale(rulerShrink)
	}
	m.discord.learn(m.units(v))
	if d := m.discord.distance; d >= 0 {
		m.usual.learn(0, d, m.expected())
	}
}

func (m *matrixProfile) missing() int {
	return max(0, profileLeast-int(min(m.discord.seen, profileLeast)))
}

func (m *matrixProfile) why() string {
	d := &m.discord
	if d.period == 0 {
		return fmt.Sprintf("no period found; patterns of %d samples among %d", d.span(), int(d.n)*d.thin)
	}
	return fmt.Sprintf("patterns of a period of %d samples among %d", d.period, int(d.n)*d.thin)
}

func (m *matrixProfile) sizeBytes() int { return int(sizeOf[matrixProfile]()) + m.discord.sizeBytes() }

func (m *matrixProfile) append(w *writer) {
	w.f64(m.anchor)
	w.f64(m.unit)
	m.usual.append(w)
	m.discord.append(w)
}

func (m *matrixProfile) read(d *reader) {
	r := *m
	r.anchor, r.unit = d.value(), d.finite()
	mean, variance, n := d.value(), d.finite(), d.uvarint(math.MaxInt64)
	d.check(r.unit >= 0 && mean >= 0 && mean <= 16 && variance >= 0 && variance <= 256)
	r.usual.mean, r.usual.variance, r.usual.n = mean, variance, n
	r.discord = newDiscord()
	r.discord.restore(d)
	if d.close() == nil {
		*m = r
	}
}
