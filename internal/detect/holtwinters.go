package detect

import (
	"fmt"
	"math"
	"time"

	"aiops/internal/model"
)

const (
	holtSlots   = 288 // of a season at most
	holtDamping = 0.98
	holtClip    = 2    // scales of an error that are learned at most
	holtSpread  = 3    // scales of an error that the scale learns at most
	holtRate    = 0.02 // weight of a new error in the scale
	holtSeasons = 2    // before it judges
)

// holt is the model "holt_winters": additive exponential smoothing of level,
// damped trend and season (Holt 1957, Winters 1960) in its error-correction
// form, robust as in Gelper, Fried and Croux ("Robust forecasting with
// exponential and Holt-Winters smoothing", 2010): an error is learned as at
// most two scales, and the scale as from at most three.
//
// The first season is only counted: its mean becomes the level, the means of
// its slots the season. A season has at most 288 slots; with a finer step a
// slot holds several samples. The season can be found from the history, see
// foundSeason. A season of 24 or 168 hours runs by the clock on
// the wall. Over a gap the damped trend goes on, and no error is learned.
//
// Cost per point: about twenty multiplications. Memory: 4 bytes per slot, 1.9
// KiB for a day in steps of five minutes. A lasting shift is followed as the
// scale grows, within about fifty samples by default. Unlike "seasonal" it knows
// any one period and a trend; it fails on two rhythms at once, and a trend
// makes it overshoot after a ramp ends.
type holt struct {
	zone               wallClock
	step               int64 // ms
	season             int64 // ms
	slots              int
	perSlot            float64 // samples
	alpha, beta, gamma float64

	cycle  []float32 // by slot, less the level; while counting, sums
	counts []uint16  // while counting: samples by slot; nil afterwards
	level  float64
	trend  float64
	scale  float64 // mean absolute error
	n      uint64
	lastT  int64
	first  float64 // the first value
}

func holtParameters() []Parameter {
	return []Parameter{
		{Name: "season", Type: TypeNumber, Default: 24, Min: 0, Max: 168, Summary: "hours after which the series repeats; 0: found from its history"},
		{Name: "alpha", Type: TypeNumber, Default: 0.05, Min: 0.001, Max: 1, Summary: "share of an error that moves the level"},
		{Name: "beta", Type: TypeNumber, Default: 0.001, Min: 0, Max: 0.5, Summary: "share of an error that moves the trend"},
		{Name: "gamma", Type: TypeNumber, Default: 0.2, Min: 0, Max: 1, Summary: "share of the errors of one visit that moves a slot of the season"},
	}
}

func holtMinHistory(step time.Duration) int { return holtLeast(24*time.Hour, step) }

// holtLeast is the samples in the seasons that are needed.
func holtLeast(season, step time.Duration) int {
	return max(minWindow, int((holtSeasons*season+step-1)/max(step, 1)))
}

// checkHolt demands a season of at least four steps.
func checkHolt(c config, bad *model.Invalid) {
	if s := holtSeason(c); s != 0 && s < 4*c.step && c.step <= MaxStep {
		bad.Add("/parameters/season", "out_of_range", "a season of %v is shorter than four steps of %v", s, c.step)
	}
}

func holtSeason(c config) time.Duration {
	return time.Duration(math.Round(c.params.number("season")*3600)) * time.Second
}

func newHolt(c config) (Model, error) {
	season := holtSeason(c)
	if season == 0 {
		return newStandard(c, newFoundSeason(c)), nil
	}
	return newStandard(c, newHoltPredictor(c, season)), nil
}

func newHoltPredictor(c config, season time.Duration) *holt {
	slots := int(min(int64(season/c.step), holtSlots))
	return &holt{
		zone: newWallClock(c), step: c.step.Milliseconds(), season: season.Milliseconds(),
		slots: slots, perSlot: max(1, float64(season)/float64(c.step)/float64(slots)),
		alpha: c.params.number("alpha"), beta: c.params.number("beta"), gamma: c.params.number("gamma"),
		cycle: make([]float32, slots), counts: make([]uint16, slots),
	}
}

// slot returns the slot of the season at t.
func (m *holt) slot(t int64) int {
	at := t
	if day := (24 * time.Hour).Milliseconds(); m.season == day || m.season == 7*day {
		at = m.zone.week(t) * 1000
	}
	at %= m.season
	if at < 0 {
		at += m.season
	}
	return int(at * int64(m.slots) / m.season)
}

// ahead returns the level at t.
func (m *holt) ahead(t int64) float64 {
	steps := (t - m.lastT) / m.step
	if steps > 300 {
		steps = 300 // by then the damped trend has come to rest
	}
	level, trend := m.level, m.trend
	for ; steps > 0; steps-- {
		trend = mul(trend, holtDamping)
		level += trend
	}
	return level
}

func (m *holt) predict(t int64) prediction {
	if m.counts != nil {
		return prediction{}
	}
	s := mul(madToSigmaAbs, m.scale)
	return prediction{center: m.ahead(t) + float64(m.cycle[m.slot(t)]), scale: [2]float64{s, s}, ok: true}
}

func (m *holt) learn(t int64, v float64, p prediction) {
	slot := m.slot(t)
	m.n++
	if m.counts != nil {
		m.count(t, v, slot)
		return
	}
	m.level = m.ahead(t)
	if t-m.lastT <= m.step {
		m.trend = mul(m.trend, holtDamping)
	} else {
		m.trend = 0
	}
	m.lastT = t
	e := p.clip(v, holtClip) - p.center
	m.level += mul(m.alpha, e)
	m.trend += mul(m.beta, e)
	season := mul(mul(m.gamma, 1-m.alpha), e) / m.perSlot
	m.cycle[slot] = narrow(float64(m.cycle[slot]) + season)
	m.scale += mul(holtRate, math.Abs(p.clip(v, holtSpread)-p.center)-m.scale)
}

// count takes in a value of the first season, and ends it.
func (m *holt) count(t int64, v float64, slot int) {
	if m.n == 1 {
		m.first = v
	}
	if m.counts[slot] < math.MaxUint16 {
		m.counts[slot]++
		m.cycle[slot] = narrow(float64(m.cycle[slot]) + v - m.first)
	}
	// The level carries the mean, and the scale the mean step, meanwhile.
	m.scale += (math.Abs(v-m.first-m.trend) - m.scale) / float64(m.n)
	m.trend = v - m.first
	m.level += (v - m.first - m.level) / float64(m.n)
	m.lastT = t
	if mul(float64(m.n), float64(m.step)) < float64(m.season) {
		return
	}
	for i, k := range m.counts {
		if k == 0 {
			m.cycle[i] = 0
			continue
		}
		m.cycle[i] = narrow(float64(m.cycle[i])/float64(k) - m.level)
	}
	m.level += m.first
	m.trend, m.counts = 0, nil
}

func (m *holt) missing() int {
	least := holtLeast(time.Duration(m.season)*time.Millisecond, time.Duration(m.step)*time.Millisecond)
	if m.n >= uint64(least) {
		return 0
	}
	return least - int(m.n)
}

func (m *holt) why() string {
	season := time.Duration(m.season) * time.Millisecond
	if m.counts != nil {
		return fmt.Sprintf("counting the first season of %v: %d samples", season, m.n)
	}
	return fmt.Sprintf("level, trend and a season of %v in %d slots, from %d samples", season, m.slots, m.n)
}

func (m *holt) sizeBytes() int { return int(sizeOf[holt]()) + 4*cap(m.cycle) + 2*cap(m.counts) }

func (m *holt) append(w *writer) {
	appendMeans(w, m.cycle)
	w.bool(m.counts != nil)
	for _, k := range m.counts {
		w.uvarint(uint64(k))
	}
	for _, v := range [...]float64{m.level, m.trend, m.scale, m.first} {
		w.f64(v)
	}
	w.uvarint(m.n)
	w.i64(m.lastT)
}

func (m *holt) read(d *reader) {
	r := *m
	r.cycle, r.counts = make([]float32, m.slots), nil
	for i := range r.cycle {
		r.cycle[i] = d.f32()
		d.check(finite(float64(r.cycle[i])))
	}
	if d.bool() {
		r.counts = make([]uint16, m.slots)
		for i := range r.counts {
			r.counts[i] = uint16(d.uvarint(math.MaxUint16))
		}
	}
	for _, v := range [...]*float64{&r.level, &r.trend, &r.scale, &r.first} {
		*v = d.value()
	}
	d.check(r.scale >= 0)
	r.n, r.lastT = d.uvarint(math.MaxInt64), d.i64()
	if d.close() == nil {
		*m = r
	}
}
