package detect

import (
	"fmt"
	"math"
	"time"
)

const (
	daysPerWeek       = 7
	hoursPerDay       = 24
	seasonalClip      = 3    // scales of a value that are learned at most
	profileRate       = 0.2  // least weight of a new visit in a slot
	spreadRate        = 0.1  // least weight of a new visit in the spread of an hour
	errorRate         = 0.02 // weight of a new slot in the errors of the profiles
	seasonalLevelClip = 1    // scales of a residual that move the level at most
	slotSamples       = 48   // values of a slot whose median is taken
	madToSigmaAbs     = 1.2533
	seasonalLeast     = 48 * time.Hour
)

// seasonal is the model "seasonal": what is usual at this hour of this day of
// the week, in the time zone of the detector, plus a slowly moving level.
//
// A week has one slot per hour (or more, see the parameter slots_per_hour). A
// visit of a slot counts as the median of up to 48 of its values, and a slot
// keeps the mean of its past visits, newer ones weighing more. What is
// expected is a blend of the slot itself (the weekly rhythm) and of the median
// of its hour over the seven days (the daily rhythm); the blend follows the
// errors that both made so far, so that a series with weekends gets a weekly
// profile and one without gets the steadier daily one. Between the middles of
// slots it is interpolated. The scale is the mean absolute residual of the
// hour of the day. Values are learned as at most three scales from what was
// expected.
//
// The level follows the residual with the parameter level_half_life. When all
// residuals of that long a time lie beyond three scales on the same side, the
// whole profile moves by their mean: a sustained shift alarms for one level
// half-life. Clocks that
// change to summer time and back need nothing special, because a slot is found
// by the clock on the wall.
//
// Cost per point: about ten additions; once per slot the blend of three slots
// is renewed. Memory: about 1.4 KiB with one slot per hour, whatever the step.
// It fails on rhythms other than day and week, on patterns finer than a slot,
// and in the first two days, when it only learns; until the first week is over
// a weekend looks like weekdays.
type seasonal struct {
	zone    wallClock
	step    int64 // ms
	slots   int   // in a week
	perDay  int
	alpha   float64 // of the level
	shift   int     // samples of a run after which the level jumps
	least   int
	profile []float32 // by slot of the week, relative to base
	visits  []uint8   // by slot of the week, at most 255

	base   float64              // set by the first slot, then constant
	spread [hoursPerDay]float32 // mean absolute residual by hour of the day
	seen   [hoursPerDay]uint8   // visits of the hour
	level  float64              // slow residual
	usual  float64              // mean absolute residual of all hours
	errors [2]float64           // mean errors of the weekly and of the daily profile, over slots
	n      uint64               // samples learned

	slot     int     // the slot being filled, -1: none
	sum      float64 // of the values in it, clipped, relative to base
	absolute float64 // sum of absolute residuals in it
	count    int
	stride   int                  // every so many of them are kept
	kept     [slotSamples]float32 // likewise

	run      int     // residuals beyond the clip, on one side, in a row; negative: below
	runTotal float64 // their sum

	// scratch
	ready  bool       // blend is that of around
	blend  [3]float64 // expected in the slots before, at and after around
	around int
}

func newSeasonal(c config) (Model, error) {
	perHour := c.params.integer("slots_per_hour")
	halfLife := c.params.number("level_half_life") * float64(time.Hour) / float64(c.step)
	p := &seasonal{
		zone: wallClock{location: c.location}, step: c.step.Milliseconds(),
		slots: daysPerWeek * hoursPerDay * perHour, perDay: hoursPerDay * perHour,
		alpha: decay(max(halfLife, 1)), shift: int(max(halfLife, 8)),
		least: seasonalMinHistory(c.step), slot: -1,
	}
	perSlot := int(time.Hour / time.Duration(perHour) / c.step)
	p.stride = max(1, (perSlot+slotSamples-1)/slotSamples)
	p.profile = make([]float32, p.slots)
	p.visits = make([]uint8, p.slots)
	return newStandard(c, p), nil
}

func seasonalMinHistory(step time.Duration) int {
	return int((seasonalLeast + step - 1) / max(step, 1))
}

// wallClock tells the time of the week in a time zone.
type wallClock struct {
	location *time.Location
	// scratch: offset holds from start until end, in seconds
	start, end, offset int64
}

const secondsPerWeek = int64(week / time.Second)

// week returns the seconds since Monday 00:00 on the wall at t.
func (w *wallClock) week(t int64) int64 {
	s := t / 1000
	if t < 0 && t%1000 != 0 {
		s--
	}
	if s < w.start || s >= w.end {
		w.locate(s)
	}
	// The epoch was a Thursday.
	s = (s + w.offset + 3*86400) % secondsPerWeek
	if s < 0 {
		s += secondsPerWeek
	}
	return s
}

// locate finds the rule of the time zone that holds at s.
func (w *wallClock) locate(s int64) {
	at := time.Unix(s, 0).In(w.location)
	_, offset := at.Zone()
	start, end := at.ZoneBounds()
	w.start, w.end, w.offset = math.MinInt64, math.MaxInt64, int64(offset)
	if !start.IsZero() {
		w.start = start.Unix()
	}
	if !end.IsZero() {
		w.end = end.Unix()
	}
}

// locate returns the slot of t and how far into it t is, from 0 to 1.
func (m *seasonal) locate(t int64) (slot int, into float64) {
	width := secondsPerWeek / int64(m.slots)
	s := m.zone.week(t)
	return int(s / width), float64(s%width) / float64(width)
}

// estimate returns what the weekly and the daily profile expect in a slot,
// relative to base, and whether they know.
func (m *seasonal) estimate(slot int) (weekly, daily float64, hasWeekly, hasDaily bool) {
	if m.visits[slot] > 0 {
		weekly, hasWeekly = float64(m.profile[slot]), true
	}
	var days [daysPerWeek]float32
	n := 0
	for s := slot % m.perDay; s < m.slots; s += m.perDay {
		if m.visits[s] == 0 {
			continue
		}
		v, i := m.profile[s], n
		for ; i > 0 && days[i-1] > v; i-- {
			days[i] = days[i-1]
		}
		days[i] = v
		n++
	}
	if n > 0 {
		daily, hasDaily = (float64(days[(n-1)/2])+float64(days[n/2]))/2, true
	}
	return weekly, daily, hasWeekly, hasDaily
}

// expected blends the two profiles; NaN when neither knows the slot.
func (m *seasonal) expected(slot int) float64 {
	weekly, daily, hasWeekly, hasDaily := m.estimate(slot)
	switch {
	case !hasDaily:
		return math.NaN()
	case !hasWeekly:
		return daily
	}
	return daily + mul(m.weeklyShare(), weekly-daily)
}

// weeklyShare is the weight of the weekly profile, by the errors of both.
func (m *seasonal) weeklyShare() float64 {
	if m.errors[0] == 0 && m.errors[1] == 0 {
		return 0.5
	}
	w, d := m.errors[0]/(m.errors[0]+m.errors[1]), m.errors[1]/(m.errors[0]+m.errors[1])
	w, d = mul(w, w), mul(d, d)
	return d / (w + d)
}

func (m *seasonal) predict(t int64) prediction {
	slot, into := m.locate(t)
	if !m.ready || m.around != slot {
		for i := range m.blend {
			m.blend[i] = m.expected((slot + i - 1 + m.slots) % m.slots)
		}
		m.ready, m.around = true, slot
	}
	at := m.blend[1]
	if math.IsNaN(at) {
		return prediction{}
	}
	// Halfway through a slot its own value holds; towards its ends the
	// neighbour's comes in.
	neighbour, share := m.blend[2], into-0.5
	if share < 0 {
		neighbour, share = m.blend[0], -share
	}
	if !math.IsNaN(neighbour) {
		at += mul(neighbour-at, share)
	}
	scale := madToSigmaAbs * max(float64(m.spread[m.hour(slot)]), m.usual/4)
	return prediction{center: m.base + at + m.level, scale: [2]float64{scale, scale}, ok: true}
}

func (m *seasonal) hour(slot int) int { return slot % m.perDay * hoursPerDay / m.perDay }

func (m *seasonal) learn(t int64, v float64, p prediction) {
	slot, _ := m.locate(t)
	if slot != m.slot {
		m.closeSlot()
		m.slot = slot
	}
	if m.n == 0 {
		m.base = v
	}
	m.n++
	if !p.ok {
		m.keep(v)
		m.learnUnexpected(v)
		return
	}
	clipped := p.clip(v, seasonalClip)
	m.keep(clipped)
	residual := clipped - p.center
	m.absolute += math.Abs(residual)
	m.usual += mul(m.slowRate(), math.Abs(residual)-m.usual)
	m.level += mul(m.alpha, p.clip(v, seasonalLevelClip)-p.center)
	m.follow(v, clipped, v-p.center)
}

// keep counts a value in the slot.
func (m *seasonal) keep(v float64) {
	v -= m.base
	m.sum += v
	if i := m.count / m.stride; m.count%m.stride == 0 && i < slotSamples {
		m.kept[i] = narrow(v)
	}
	m.count++
}

// held is how many values of the slot are kept.
func (m *seasonal) held() int { return min((m.count+m.stride-1)/m.stride, slotSamples) }

// middle returns the median of the values kept.
func (m *seasonal) middle() float64 {
	n := m.held()
	values := m.kept[:n]
	for i := 1; i < n; i++ {
		v, j := values[i], i
		for ; j > 0 && values[j-1] > v; j-- {
			values[j] = values[j-1]
		}
		values[j] = v
	}
	return (float64(values[(n-1)/2]) + float64(values[n/2])) / 2
}

// learnUnexpected learns the size of residuals in a slot that has no past,
// from the slot's own mean.
func (m *seasonal) learnUnexpected(v float64) {
	if m.count < 2 {
		return
	}
	mean := m.base + m.sum/float64(m.count)
	d := math.Abs(v - mean)
	if m.usual > 0 {
		d = min(d, mul(8, m.usual))
	}
	m.absolute += d
	m.usual += mul(m.slowRate(), d-m.usual)
}

// slowRate is the weight of a new residual in the usual one.
func (m *seasonal) slowRate() float64 { return 1 / float64(min(m.n, 1024)) }

// follow lets the level jump after a long run of residuals beyond the clip.
func (m *seasonal) follow(v, clipped, residual float64) {
	switch {
	case v > clipped && m.run >= 0:
		m.run++
	case v < clipped && m.run <= 0:
		m.run--
	default:
		m.run, m.runTotal = 0, 0
		return
	}
	m.runTotal += residual
	if m.run >= m.shift || -m.run >= m.shift {
		m.move(m.runTotal / math.Abs(float64(m.run)))
	}
}

// move moves the whole profile.
func (m *seasonal) move(by float64) {
	m.base += by
	m.sum -= mul(by, float64(m.count))
	for i := range m.kept[:m.held()] {
		m.kept[i] = narrow(float64(m.kept[i]) - by)
	}
	m.run, m.runTotal = 0, 0
}

// closeSlot takes the slot that was being filled into the profile.
func (m *seasonal) closeSlot() {
	if m.slot < 0 || m.count == 0 {
		return
	}
	mean := m.middle()
	m.compare(mean)
	visits := m.visits[m.slot]
	rate := max(1/(float64(visits)+1), profileRate)
	old := float64(m.profile[m.slot])
	m.profile[m.slot] = narrow(old + mul(rate, mean-old))
	m.visits[m.slot] = min(visits, math.MaxUint8-1) + 1

	h := m.hour(m.slot)
	rate = max(1/(float64(m.seen[h])+1), spreadRate)
	spread := float64(m.spread[h])
	m.spread[h] = narrow(spread + mul(rate, m.absolute/float64(m.count)-spread))
	m.seen[h] = min(m.seen[h], math.MaxUint8-1) + 1
	m.sum, m.absolute, m.count, m.ready = 0, 0, 0, false
}

// compare notes how well both profiles foresaw the mean of a slot.
func (m *seasonal) compare(mean float64) {
	weekly, daily, hasWeekly, _ := m.estimate(m.slot)
	if !hasWeekly {
		return
	}
	limit := mul(16, max(m.usual, m.errors[0], m.errors[1]))
	for i, e := range [2]float64{weekly, daily} {
		d := math.Abs(mean - e)
		if limit > 0 {
			d = min(d, limit)
		}
		m.errors[i] += mul(errorRate, d-m.errors[i])
	}
}

// narrow rounds to float32 without overflowing.
func narrow(v float64) float32 {
	return float32(min(max(v, -math.MaxFloat32), math.MaxFloat32))
}

func (m *seasonal) missing() int {
	if m.n >= uint64(m.least) {
		return 0
	}
	return m.least - int(m.n)
}

func (m *seasonal) why() string {
	known := 0
	for _, v := range m.visits {
		if v > 0 {
			known++
		}
	}
	return fmt.Sprintf("hour of the day and day of the week in %s: %d of %d slots known, weekly share %.0f %%",
		m.zone.location, known, m.slots, 100*m.weeklyShare())
}

func (m *seasonal) sizeBytes() int {
	return int(sizeOf[seasonal]()) + 4*cap(m.profile) + cap(m.visits)
}

func (m *seasonal) append(w *writer) {
	for i, v := range m.visits {
		w.u8(v)
		if v > 0 {
			w.f32(m.profile[i])
		}
	}
	for h, v := range m.seen {
		w.u8(v)
		if v > 0 {
			w.f32(m.spread[h])
		}
	}
	w.f64(m.base)
	w.f64(m.level)
	w.f64(m.usual)
	w.f64(m.errors[0])
	w.f64(m.errors[1])
	w.uvarint(m.n)
	w.uvarint(uint64(m.slot + 1))
	w.f64(m.sum)
	w.f64(m.absolute)
	w.uvarint(uint64(m.count))
	for _, v := range m.kept[:m.held()] {
		w.f32(v)
	}
	w.i64(int64(m.run))
	w.f64(m.runTotal)
}

func (m *seasonal) read(d *reader) {
	r := *m
	r.ready = false
	r.profile, r.visits = make([]float32, m.slots), make([]uint8, m.slots)
	for i := range r.visits {
		if r.visits[i] = d.u8(); r.visits[i] > 0 {
			r.profile[i] = d.f32()
			d.check(finite(float64(r.profile[i])))
		}
	}
	for h := range r.seen {
		r.spread[h] = 0
		if r.seen[h] = d.u8(); r.seen[h] > 0 {
			r.spread[h] = d.f32()
			d.check(r.spread[h] >= 0 && finite(float64(r.spread[h])))
		}
	}
	r.base = d.finite()
	r.level = d.finite()
	r.usual = d.finite()
	r.errors[0], r.errors[1] = d.finite(), d.finite()
	d.check(r.usual >= 0 && r.errors[0] >= 0 && r.errors[1] >= 0)
	r.n = d.uvarint(math.MaxInt64)
	r.slot = int(d.uvarint(uint64(m.slots))) - 1
	r.sum, r.absolute = d.finite(), d.finite()
	r.count = int(d.uvarint(math.MaxInt32))
	for i := range r.held() {
		r.kept[i] = d.f32()
		d.check(finite(float64(r.kept[i])))
	}
	run := d.i64()
	d.check(run <= math.MaxInt32 && run >= -math.MaxInt32)
	r.run = int(run)
	r.runTotal = d.finite()
	if d.close() == nil {
		*m = r
	}
}
