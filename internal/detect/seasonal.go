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
	profileWeeks      = 3    // after which one visit moves a slot by a bounded amount
	profileClip       = 16   // usual residuals of that
	spreadRate        = 0.1  // least weight of a new visit in the spread of an hour
	errorRate         = 0.02 // weight of a new slot in the errors of the profiles
	seasonalLevelClip = 1    // scales of a residual that move the level at most
	slotSamples       = 32   // values of a slot whose median is taken
	voteRate          = 0.02 // weight of a new sample in the vote on an hour
	voteSteep         = 1.5  // how fast a vote decides
	madToSigmaAbs     = 1.2533
	seasonalLeast     = 48 * time.Hour
	oddWeeks          = 2   // after which a slot can be odd
	oddScales         = 4   // scales that make a slot odd, and a kind of day unfit
	oddMost           = 64  // scales that one counts for at most
	missRate          = 0.5 // weight of a new hour in how far each kind of day is off
)

// seasonal is the model "seasonal": what is usual at this hour of this day of
// the week, in the time zone of the detector, plus a slowly moving level.
//
// A week has one slot per hour (or more, see the parameter slots_per_hour). A
// visit of a slot counts as the median of up to 32 of its values, and a slot
// keeps the mean of its past visits, newer ones weighing more. What is
// expected is a blend of the slot itself (the weekly rhythm) and of the median
// of its hour over the seven days (the daily rhythm); the blend follows the
// errors that both made so far, so that a series with weekends gets a weekly
// profile and one without gets the steadier daily one. Between the middles of
// two hours the expected value moves on a line or jumps from the one to the
// other, whichever was nearer to the values of late, for each hour on its own.
// The scale is the mean absolute residual of the hour of the day. Residuals
// are learned as at most three scales, and after three weeks one visit moves a
// slot by at most sixteen usual residuals.
//
// Holidays: a slot whose median is four scales off is odd. An odd slot is not
// taken into the profile unless a slot of the same weekday was odd the week before,
// so that a holiday does not spoil the next weeks and a new rhythm is learned from its
// second week on. While the hours of late fit another weekday and not their own, that one is
// what is expected: a Monday like a Sunday alarms for an hour or two. A
// day out of any rhythm is followed by the level.
//
// The level follows the residual with the parameter level_half_life. When all
// residuals of that long a time lie beyond three scales on the same side, it
// jumps by their mean: a sustained shift alarms for one to two level
// half-lives, and is taken into the profile over weeks. Clocks that change to summer time and back need nothing special,
// because a slot is found by the clock on the wall.
//
// Cost per point: about thirty additions; once per slot the blend of three
// slots is renewed. Memory: about 1.4 KiB with one slot per hour, whatever the
// step. It fails on rhythms other than day and week, on patterns finer than a
// slot, and in the first two days, when it only learns; until the first week
// is over a weekend looks like weekdays.
type seasonal struct {
	zone    wallClock
	slots   int       // in a week
	perDay  int       // slots in a day
	alpha   float64   // of the level
	shift   int       // samples of a run after which the profile moves
	least   int       // samples before it judges
	stride  int       // every so many values of a slot are kept
	profile []float32 // by slot of the week, relative to base; NaN: unknown

	base   float64              // the first value
	spread [hoursPerDay]float32 // mean absolute residual by hour of the day; NaN: unknown
	votes  [hoursPerDay]float32 // by hour: -1 the profile jumps at its start, 1 it moves on a line
	level  float64              // residual of late
	usual  float64              // mean absolute residual of all hours
	errors [2]float64           // mean errors of the weekly and of the daily profile, over slots
	n      uint64               // samples learned
	closed uint32               // slots learned

	slot     int     // the slot being filled, -1: none
	sum      float64 // of the values in it, relative to base
	absolute float64 // sum of absolute residuals in it
	count    int
	kept     [slotSamples]float32 // some of the values, like sum

	miss   [daysPerWeek]float32 // by weekday: how many scales the hours of late are off
	like   int8                 // weekday whose profile holds, -1: its own
	odd    uint8                // weekdays with an odd slot, as bits
	oddOld uint8                // and the week before

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
		zone:  newWallClock(c),
		slots: daysPerWeek * hoursPerDay * perHour, perDay: hoursPerDay * perHour,
		alpha: decay(max(halfLife, 1)), shift: int(max(halfLife, 8)),
		least: seasonalMinHistory(c.step), slot: -1, like: -1,
	}
	perSlot := int(time.Hour / time.Duration(perHour) / c.step)
	p.stride = max(1, (perSlot+slotSamples-1)/slotSamples)
	p.profile = make([]float32, p.slots)
	for i := range p.profile {
		p.profile[i] = unknown
	}
	for h := range p.spread {
		p.spread[h] = unknown
	}
	return newStandard(c, p), nil
}

func seasonalMinHistory(step time.Duration) int {
	return int((seasonalLeast + step - 1) / max(step, 1))
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
	weekly = float64(m.profile[slot])
	hasWeekly = weekly == weekly
	var days [daysPerWeek]float32
	n := 0
	for s := slot % m.perDay; s < m.slots; s += m.perDay {
		v, i := m.profile[s], n
		if v != v {
			continue
		}
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

// shape returns what the profile expects at t, relative to base, when it moves
// on a line and when it jumps, and the hour at whose start it would jump.
func (m *seasonal) shape(t int64) (line, jump float64, hour int) {
	slot, into := m.locate(t)
	if !m.ready || m.around != slot {
		for i := range m.blend {
			m.blend[i] = m.expected(m.stand((slot + i - 1 + m.slots) % m.slots))
		}
		m.ready, m.around = true, slot
	}
	jump = m.blend[1]
	neighbour, share, hour := m.blend[0], 0.5-into, m.hour(slot)
	if share < 0 {
		neighbour, share, hour = m.blend[2], -share, m.hour((slot+1)%m.slots)
	}
	line = jump
	if neighbour == neighbour {
		line += mul(neighbour-jump, share)
	}
	return line, jump, hour
}

func (m *seasonal) predict(t int64) prediction {
	line, at, hour := m.shape(t)
	if at != at {
		return prediction{}
	}
	share := min(max(0.5+mul(voteSteep, float64(m.votes[hour])), 0), 1)
	at += mul(share, line-at)
	spread := float64(m.spread[m.hour(m.around)])
	if !(spread >= m.usual/4) {
		spread = m.usual / 4
	}
	scale := mul(madToSigmaAbs, spread)
	return prediction{center: m.base + at + m.level, scale: [2]float64{scale, scale}, ok: true}
}

// vote learns whether the line or the jump was nearer to v.
func (m *seasonal) vote(t int64, v, scale float64) {
	line, jump, hour := m.shape(t)
	apart := math.Abs(line - jump)
	if !(apart > mul(0.05, scale)) {
		return
	}
	v -= m.base + m.level
	nearer := min(max((math.Abs(v-jump)-math.Abs(v-line))/apart, -1), 1)
	old := float64(m.votes[hour])
	m.votes[hour] = float32(old + mul(voteRate, nearer-old))
}

func (m *seasonal) hour(slot int) int { return slot % m.perDay * hoursPerDay / m.perDay }

func (m *seasonal) learn(t int64, v float64, p prediction) {
	slot, _ := m.locate(t)
	if slot != m.slot {
		m.closeSlot()
		m.turn(slot)
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
	m.keep(v)
	m.vote(t, clipped, p.scale[sideAbove])
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
		m.level += m.runTotal / math.Abs(float64(m.run))
		m.run, m.runTotal = 0, 0
	}
}

// closeSlot takes the slot that was being filled into the profile.
func (m *seasonal) closeSlot() {
	if m.slot < 0 || m.count == 0 {
		return
	}
	mean := m.middle()
	odd := m.isOdd(mean)
	if odd {
		m.odd |= 1 << (m.slot / m.perDay)
	}
	if odd && m.oddOld>>(m.slot/m.perDay)&1 == 0 {
		m.sum, m.absolute, m.count, m.ready = 0, 0, 0, false
		return
	}
	m.compare(mean)
	weeks := int(m.closed) / m.slots
	if old := float64(m.profile[m.slot]); weeks >= profileWeeks && old == old {
		limit := mul(profileClip, m.usual)
		mean = min(max(mean, old-limit), old+limit)
	}
	m.profile[m.slot] = renew(m.profile[m.slot], mean, max(1/float64(1+weeks), profileRate))
	h := m.hour(m.slot)
	m.spread[h] = renew(m.spread[h], m.absolute/float64(m.count), max(1/float64(1+int(m.closed)/m.perDay), spreadRate))
	m.closed = min(m.closed, math.MaxInt32-1) + 1
	m.sum, m.absolute, m.count, m.ready = 0, 0, 0, false
}

// stand returns the slot whose profile holds in place of that of slot.
func (m *seasonal) stand(slot int) int {
	if m.like < 0 {
		return slot
	}
	return int(m.like)*m.perDay + slot%m.perDay
}

// isOdd notes how far the mean of the slot is off that of each weekday and
// reports whether it is odd for its own.
func (m *seasonal) isOdd(mean float64) bool {
	if int(m.closed) < oddWeeks*m.slots {
		return false
	}
	scale := mul(madToSigmaAbs, max(float64(m.spread[m.hour(m.slot)]), m.usual/4))
	if !(scale > 0) {
		return false
	}
	rate := mul(missRate, hoursPerDay) / float64(m.perDay)
	var own float64
	for day := range m.miss {
		e := math.Abs(mean - m.level - float64(m.profile[day*m.perDay+m.slot%m.perDay]))
		if e = min(e/scale, oddMost); e != e {
			e = oddMost // never visited
		}
		if day == m.slot/m.perDay {
			own = e
		}
		m.miss[day] = float32(float64(m.miss[day]) + mul(rate, e-float64(m.miss[day])))
	}
	return own >= oddScales
}

// turn goes on to a slot: at another day the marks of that weekday become those
// of the week before. It chooses the weekday whose profile holds.
func (m *seasonal) turn(slot int) {
	day := slot / m.perDay
	if m.slot < 0 || day != m.slot/m.perDay {
		bit := uint8(1) << day
		m.oddOld = m.oddOld&^bit | m.odd&bit
		m.odd &^= bit
		m.miss[day] = 0 // a day is like its own until it shows otherwise
	}
	if m.miss[day] < oddScales {
		m.like = -1
		return
	}
	if m.like >= 0 && m.miss[m.like] < oddScales {
		return
	}
	m.like = -1
	best := day
	for other, miss := range m.miss {
		if miss < m.miss[best] {
			best = other
		}
	}
	if m.miss[best] < oddScales {
		m.like = int8(best)
		m.run, m.runTotal = 0, 0
	}
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

// unknown marks a slot or an hour that was never visited.
var unknown = math.Float32frombits(0x7fc00000)

// renew moves a mean towards a new value, or begins it.
func renew(old float32, v, rate float64) float32 {
	if old != old {
		return narrow(v)
	}
	return narrow(float64(old) + mul(rate, v-float64(old)))
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
	for _, v := range m.profile {
		if v == v {
			known++
		}
	}
	like := ""
	if m.like >= 0 {
		like = fmt.Sprintf(", today like a %v", time.Weekday((m.like+1)%daysPerWeek))
	}
	return fmt.Sprintf("hour of the day and day of the week in %s: %d of %d slots known, weekly share %.0f %%%s",
		m.zone.location, known, m.slots, 100*m.weeklyShare(), like)
}

func (m *seasonal) sizeBytes() int {
	return int(sizeOf[seasonal]()) + 4*cap(m.profile)
}

// appendMeans writes means, unknown ones as a bit pattern of their own.
func appendMeans(w *writer, means []float32) {
	for _, v := range means {
		w.f32(v)
	}
}

func readMeans(d *reader, means []float32) {
	for i := range means {
		means[i] = d.f32()
		d.check(!math.IsInf(float64(means[i]), 0))
	}
}

func (m *seasonal) append(w *writer) {
	appendMeans(w, m.profile)
	appendMeans(w, m.spread[:])
	appendMeans(w, m.votes[:])
	appendMeans(w, m.miss[:])
	w.u8(uint8(m.like + 1))
	w.u8(m.odd)
	w.u8(m.oddOld)
	for _, v := range [...]float64{m.base, m.level, m.usual, m.errors[0], m.errors[1]} {
		w.f64(v)
	}
	for _, v := range [...]float64{m.sum, m.absolute, m.runTotal} {
		w.f64(v)
	}
	w.uvarint(m.n)
	w.u32(m.closed)
	w.uvarint(uint64(m.slot + 1))
	w.i64(int64(m.run))
	w.uvarint(uint64(m.count))
	appendMeans(w, m.kept[:m.held()])
}

func (m *seasonal) read(d *reader) {
	r := *m
	r.ready = false
	r.profile = make([]float32, m.slots)
	readMeans(d, r.profile)
	readMeans(d, r.spread[:])
	readMeans(d, r.votes[:])
	for _, v := range r.votes {
		d.check(v >= -1 && v <= 1)
	}
	readMeans(d, r.miss[:])
	for _, v := range r.miss {
		d.check(v >= 0 && v <= oddMost)
	}
	like := d.u8()
	d.check(like <= daysPerWeek)
	r.like, r.odd, r.oddOld = int8(like)-1, d.u8(), d.u8()
	for _, v := range r.spread {
		d.check(!(v < 0))
	}
	for _, v := range [...]*float64{&r.base, &r.level, &r.usual, &r.errors[0], &r.errors[1]} {
		*v = d.value()
	}
	for _, v := range [...]*float64{&r.sum, &r.absolute, &r.runTotal} {
		*v = d.finite()
		d.check(math.Abs(*v) <= 1e12*maxValue)
	}
	d.check(r.usual >= 0 && r.errors[0] >= 0 && r.errors[1] >= 0)
	r.n = d.uvarint(math.MaxInt64)
	r.closed = d.u32()
	r.slot = int(d.uvarint(uint64(m.slots))) - 1
	run := d.i64()
	d.check(run <= math.MaxInt32 && run >= -math.MaxInt32)
	r.run = int(run)
	r.count = int(d.uvarint(math.MaxInt32))
	readMeans(d, r.kept[:r.held()])
	if d.close() == nil {
		*m = r
	}
}
