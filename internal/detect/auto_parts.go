package detect

import (
	"math"
	"slices"
	"time"
)

// The components of "auto". The order is part of the snapshot format.
const (
	partLevel    = iota // distance from a robust level, in distances usual of late
	partFar             // the same, in distances that are not far below what is usual for long
	partDrift           // difference to five samples before
	partDay             // distance from the same time of other days
	partWeek            // distance from the same time of the week
	partShift           // short mean against long mean
	partCalm            // long against short mean of differences
	partRange           // beyond all values so far
	partRange5          // the same for a mean of about 5 samples
	partRange24         // and of about 24
	partRange288        // and of about 288
	partsN
)

// dimensional reports which parts are in the unit of the series.
var partDimensional = [partsN]bool{partDrift: true, partDay: true, partWeek: true}

const (
	ringN          = 32
	dayMost        = 288 // slots
	weekMost       = 48  // slots per day
	dayRate        = 0.2
	weekRate       = 0.5
	levelRate      = 0.02
	levelScale     = 0.01
	levelClip      = 4
	levelFloor     = 0.25 // of the distance usual for long: least that is usual of late, for the score
	shortRate      = 0.05
	longRate       = 0.003
	rangesN        = 4
	largestReading = 1e30
	leastDistance  = 1e-9
	usualMemory    = 100_000 // samples that the usual distance is the mean of
	usualClip      = 4       // usual distances that one sample counts for at most
	oddSlot        = 5       // usual distances of a slot of the week that make it odd
	weekUsualRate  = 0.002   // least weight of a slot in that distance
	usualYoung     = 20      // samples before; so many later it is twice that
)

// rangeRates are the weights of a sample in the means whose ranges are
// watched, and rangeWarm the samples before they are.
var (
	rangeRates = [rangesN]float64{1, 0.4, 0.08, 0.007}
	rangeWarm  = [rangesN]uint32{1, 10, 48, 400}
)

// band is the range that something has had so far.
type span struct{ low, high float64 }

// beyond returns how far x lies beyond the span, in widths of it.
func (s span) beyond(x float64) float64 {
	width := s.high - s.low
	if !(width > 0) {
		return 0
	}
	return max(x-s.high, s.low-x, 0) / width
}

func (s *span) add(x float64) { s.low, s.high = min(s.low, x), max(s.high, x) }

// parts is the state of the components: what is needed to take a reading of
// each for a sample. Values are in units of the first difference that was
// seen, relative to the first value, so that neither scale nor offset matter.
type parts struct {
	zone      wallClock
	levelMean float64
	levelDist float64
	short     float64
	long      float64
	variance  float64
	roughNow  float64
	roughLong float64
	usual     float64 // mean distance from the same time of other days, over a long time
	means     [rangesN]float64
	spans     [rangesN]span
	ring      [ringN]float32 // the last samples, sample i at i%ringN
	order     [ringN]uint8   // where they are in the ring, the smallest first
	day, week profile
	n         uint32  // samples learned
	leftOut   uint32  // which of the last slots of the week were left out, the newest in bit 0
	weekUsual float32 // mean distance of a slot of the week from its value
	odd       uint8   // weekdays with an odd slot, as bits
	oddOld    uint8   // and the week before
}

// profile is a mean per slot of a cycle.
type profile struct {
	slots   []float32 // NaN: never visited
	rate    float64
	seconds int64 // of the cycle
	sum     float64
	slot    int32 // being filled, -1: none
	count   uint32
	visits  uint32 // slots filled
	reach   int32  // slots on both sides that count as the same time
}

func newProfile(slots int, cycle time.Duration, rate float64, reach int32) profile {
	p := profile{slots: make([]float32, slots), rate: rate, seconds: int64(cycle / time.Second), reach: reach, slot: -1}
	for i := range p.slots {
		p.slots[i] = float32(math.NaN())
	}
	return p
}

// at returns the slot of a time of the week, in seconds.
func (p *profile) at(weekSeconds int64) int {
	return int(weekSeconds % p.seconds * int64(len(p.slots)) / p.seconds)
}

// near returns the value of the cycle at the slot, within reach, closest to x,
// and the distance to it; NaN when none was visited.
func (p *profile) near(slot int, x float64) (value, distance float64) {
	n := len(p.slots)
	i := slot - int(p.reach)
	if i < 0 {
		i += n
	}
	value, distance = math.NaN(), math.NaN()
	for range 2*p.reach + 1 {
		v := float64(p.slots[i])
		if d := math.Abs(x - v); d < distance || distance != distance {
			if d == d {
				value, distance = v, d
			}
		}
		if i++; i == n {
			i = 0
		}
	}
	return value, distance
}

// learn takes in x; with skip it only moves on. A slot that ends is filled if keep,
// which gets its mean, says so; nil keeps all.
func (p *profile) learn(slot int, x float64, skip bool, keep func(mean float64) bool) {
	if int32(slot) != p.slot {
		if p.slot >= 0 && p.count > 0 {
			if mean := p.sum / float64(p.count); keep == nil || keep(mean) {
				p.fill(mean)
			}
		}
		p.slot, p.sum, p.count = int32(slot), 0, 0
	}
	if !skip {
		p.sum += x
		p.count++
	}
}

// weight is how much a slot counts that is filled as the one after so many.
func (p *profile) weight(visits uint32) float64 {
	return max(p.rate, 1/float64(1+visits/uint32(len(p.slots))))
}

// unlearn takes the newest n samples out again, as far as the slots that they
// filled are known to have had no others; slot and value say where the k-th last one
// went. single says that each filled a slot, leftOut which of the last slots were left out.
func (p *profile) unlearn(n int, single bool, leftOut uint32, slot func(k int) int, value func(k uint32) float64) {
	fills := uint32(0)
	for k := 1; k <= n; {
		s, sum, first := slot(k), 0.0, k
		for ; k <= n && slot(k) == s; k++ {
			sum += value(uint32(k))
		}
		if first == 1 { // not filled yet
			p.sum, p.count = 0, 0
			continue
		}
		gone := leftOut&1 != 0
		if leftOut >>= 1; gone {
			continue
		}
		fills++
		w := p.weight(p.visits - fills)
		if whole := k <= n || single; whole && w < 1 {
			p.slots[s] = float32((float64(p.slots[s]) - mul(w, sum/float64(k-first))) / (1 - w))
		}
	}
}

// fill takes the mean of the slot that ended into the cycle.
func (p *profile) fill(mean float64) {
	old := float64(p.slots[p.slot])
	if old != old {
		p.slots[p.slot] = float32(mean)
	} else {
		p.slots[p.slot] = float32(old + mul(p.weight(p.visits), mean-old))
	}
	p.visits++
}

func (p *profile) scale(f float64) {
	for i := range p.slots {
		p.slots[i] = float32(mul(float64(p.slots[i]), f))
	}
	p.sum = mul(p.sum, f)
}

func (p *profile) append(w *writer) {
	for _, v := range p.slots {
		w.f32(v)
	}
	w.u32(uint32(p.slot + 1))
	w.u32(p.count)
	w.u32(p.visits)
	w.f64(p.sum)
}

func (p *profile) restore(d *reader) {
	slots := make([]float32, len(p.slots))
	for i := range slots {
		slots[i] = d.f32()
		d.check(!math.IsInf(float64(slots[i]), 0))
	}
	p.slots = slots
	slot := d.u32()
	d.check(slot <= uint32(len(slots)))
	p.slot, p.count, p.visits, p.sum = int32(slot)-1, d.u32(), d.u32(), d.finite()
}

func newParts(c config) parts {
	perDay := func(most int) int {
		n := int(24 * time.Hour / c.step)
		for n > most {
			n /= 2
		}
		return max(n, 1)
	}
	return parts{
		zone: newWallClock(c),
		day:  newProfile(perDay(dayMost), 24*time.Hour, dayRate, 2),
		week: newProfile(7*perDay(weekMost), 7*24*time.Hour, weekRate, 1),
	}
}

// reading is what the components say of one sample.
type reading struct {
	raw      [partsN]float64 // NaN: nothing to say yet
	center   [4]float64      // candidates for the expected value: median, level, day, week
	away     float64         // distance from the same time of other days; from the long mean while there are none
	daySlot  int16
	weekSlot int16
	below    uint8 // of the components with a center those for which it lies below, as bits
}

// median returns the median of the last samples.
func (p *parts) median() float64 {
	n := int(min(p.n, ringN))
	if n == 0 {
		return math.NaN()
	}
	return p.ranked(n / 2)
}

// ranked returns the sample among the last with so many smaller ones.
func (p *parts) ranked(k int) float64 { return float64(p.ring[p.order[k]]) }

// back returns the sample k before the next one.
func (p *parts) back(k uint32) float64 {
	if p.n < k {
		return math.NaN()
	}
	return float64(p.ring[(p.n-k)%ringN])
}

// locate finds the slots of t, and returns its second of the week.
func (p *parts) locate(t int64, r *reading) int64 {
	s := p.zone.week(t)
	r.daySlot, r.weekSlot = int16(p.day.at(s)), int16(p.week.at(s))
	return s
}

// read takes the reading of x, whose slots are known. It changes nothing.
func (p *parts) read(x float64, r *reading) {
	nan := math.NaN()
	median := p.median()
	day, dayDistance := p.day.near(int(r.daySlot), x)
	week, weekDistance := p.week.near(int(r.weekSlot), x)
	r.center = [4]float64{median, p.levelMean, day, week}
	if r.away = dayDistance; day != day {
		r.away = math.Abs(x - p.long)
	}
	r.raw = [partsN]float64{
		partDrift: math.Abs(x - p.back(5)),
		partDay:   dayDistance,
		partWeek:  weekDistance,
		partLevel: nan, partFar: nan, partShift: nan, partCalm: nan,
	}
	r.below = bit(partFar, x < p.levelMean) | bit(partDrift, x < p.back(5)) | bit(partDay, x < day) | bit(partWeek, x < week)
	if p.levelDist > 0 {
		away := math.Abs(x - p.levelMean)
		r.raw[partLevel] = min(away/p.levelDist, largestReading)
		r.raw[partFar] = min(away/max(p.levelDist, mul(levelFloor, p.usual)), largestReading)
	}
	if p.variance > 0 {
		short := p.short + mul(shortRate, x-p.short)
		r.below |= bit(partShift, short < p.long)
		r.raw[partShift] = min(math.Abs(short-p.long)/math.Sqrt(p.variance), largestReading)
	}
	if p.roughLong > 0 {
		now := p.roughNow + mul(shortRate, p.step(x)-p.roughNow)
		ratio := min(now/p.roughLong, largestReading)
		r.raw[partCalm] = max(0, 1/(ratio+0.05)-1)
	}
	for i := range p.spans {
		r.raw[partRange+i] = nan
		if p.n >= rangeWarm[i] {
			m := p.means[i] + mul(rangeRates[i], x-p.means[i])
			r.raw[partRange+i] = min(p.spans[i].beyond(m), largestReading)
		}
	}
}

// bit returns the bit of a part if is.
func bit(part int, is bool) uint8 {
	if is {
		return 1 << part
	}
	return 0
}

// step returns how far x is from the sample before.
func (p *parts) step(x float64) float64 { return math.Abs(x - p.back(1)) }

// distance returns how far a sample is away from what is usual at its time, in
// usual distances. Unlike a gauge it does not get used to what lasts.
func (p *parts) distance(r *reading) float64 {
	switch {
	case !(r.away > 0):
		return leastDistance
	case p.usual > 0:
		return min(max(r.away/p.usual, leastDistance), largestReading)
	}
	return float64(p.n) // what r.away would be in means of all distances with it
}

// learnUsual takes a distance into the usual one.
func (p *parts) learnUsual(away float64) {
	if !(away >= 0) {
		return
	}
	n := float64(p.n)
	if p.n > usualYoung && p.usual > 0 {
		away = min(away, mul(mul(usualClip, p.usual), 1+usualYoung/n))
	}
	p.usual += (away - p.usual) / min(n+1, usualMemory)
}

// learn takes x in; r is its reading. The profiles leave it out when skip is
// true.
func (p *parts) learn(x float64, r *reading, skip bool) {
	fresh := 1 / float64(p.n+1)
	if p.n == 0 {
		p.levelMean, p.short, p.long = x, x, x
		for i := range p.spans {
			p.means[i] = x
		}
	}
	p.learnLevel(x, fresh)
	p.learnUsual(r.away)
	p.short += mul(max(shortRate, fresh), x-p.short)
	d := x - p.long
	p.long += mul(max(longRate, fresh), d)
	p.variance += mul(max(longRate, fresh), mul(d, d)-p.variance)
	if p.n > 0 {
		step := p.step(x)
		p.roughNow += mul(max(shortRate, fresh), step-p.roughNow)
		p.roughLong += mul(max(longRate, fresh), step-p.roughLong)
	}
	for i := range p.spans {
		p.means[i] += mul(max(rangeRates[i], fresh), x-p.means[i])
		if p.n+1 == rangeWarm[i] {
			p.spans[i] = span{p.means[i], p.means[i]}
		} else if p.n+1 > rangeWarm[i] {
			p.spans[i].add(p.means[i])
		}
	}
	p.day.learn(int(r.daySlot), x, skip, nil)
	p.turnDay(int(r.weekSlot))
	p.week.learn(int(r.weekSlot), x, skip, p.keepWeek)
	p.push(float32(x))
	p.n++
}

// weekday returns the day of a slot of the week.
func (p *parts) weekday(slot int) int { return slot * daysPerWeek / len(p.week.slots) }

// turnDay makes the mark of a weekday that begins the one of the week before.
func (p *parts) turnDay(slot int) {
	if day := p.weekday(slot); p.week.slot < 0 || day != p.weekday(int(p.week.slot)) {
		bit := uint8(1) << day
		p.oddOld = p.oddOld&^bit | p.odd&bit
		p.odd &^= bit
	}
}

// keepWeek reports whether the mean of the slot of the week that ends is to be learned, as
// "seasonal" does it: an odd one is not, unless a slot of that weekday was odd the
// week before, so that a holiday does not spoil the next weeks and a new rhythm is
// learned from its second week on.
func (p *parts) keepWeek(mean float64) bool {
	w := &p.week
	old := float64(w.slots[w.slot])
	first := uint32(len(w.slots))
	p.leftOut <<= 1
	if old != old || w.visits < first {
		return true
	}
	off, usual := math.Abs(mean-old), float64(p.weekUsual)
	if w.visits >= oddWeeks*first && usual > 0 && off > mul(oddSlot, usual) {
		bit := uint8(1) << p.weekday(int(w.slot))
		p.odd |= bit
		if p.oddOld&bit == 0 {
			p.leftOut |= 1
			return false
		}
		off = mul(oddSlot, usual)
	}
	p.weekUsual = narrow(usual + mul(max(weekUsualRate, 1/float64(w.visits-first+1)), off-usual))
	return true
}

// unlearn takes the n samples before t, of which since is the first, out of the
// profiles again, if they are among the last that are kept and none is missing
// between them.
func (p *parts) unlearn(t, since int64, n int) {
	if n < 1 || (t-since)%int64(n) != 0 {
		return
	}
	step := (t - since) / int64(n)
	for i, c := range [...]*profile{&p.day, &p.week} {
		slot := func(k int) int { return c.at(p.zone.week(t - int64(k)*step)) }
		c.unlearn(min(n, ringN-1), step*int64(len(c.slots)) >= c.seconds*1000, [...]uint32{0, p.leftOut}[i], slot, p.back)
	}
}

// move moves the profiles to where the samples before t lie, if these are all about as far
// away from them: a level that was left out of the profiles until it had lasted. It returns
// how widely the distances from the day varied before, or infinity when that was not moved. Samples
// are taken to be step apart; one that is missing among them shifts the others by a slot.
func (p *parts) move(t, step int64) (spread float64) {
	spread = math.Inf(1)
	for i, c := range [...]*profile{&p.day, &p.week} {
		var away [ringN]float64
		n := 0
		for k := int64(1); k <= ringN; k++ {
			if d := p.back(uint32(k)) - float64(c.slots[c.at(p.zone.week(t-k*step))]); d == d {
				away[n] = d
				n++
			}
		}
		if n < ringN/2 {
			continue
		}
		slices.Sort(away[:n])
		by, quarters := away[n/2], away[3*n/4]-away[n/4]
		if quarters >= math.Abs(by)/2 {
			continue
		}
		if i == 0 {
			spread = quarters
		}
		for slot := range c.slots {
			c.slots[slot] = float32(float64(c.slots[slot]) + by)
		}
	}
	return spread
}

// learnLevel follows the level; a sample moves it by a few usual distances at
// most.
func (p *parts) learnLevel(x, fresh float64) {
	d := x - p.levelMean
	distance := math.Abs(d)
	if most := levelClip * p.levelDist; p.n >= 20 && distance > most {
		d, distance = math.Copysign(most, d), most
	}
	p.levelMean += mul(max(levelRate, fresh), d)
	p.levelDist += mul(max(levelScale, fresh), distance-p.levelDist)
}

// push puts x into the ring and into the order.
func (p *parts) push(x float32) {
	n := int(min(p.n, ringN))
	at := uint8(p.n % ringN)
	i := n
	if n == ringN {
		i = 0
		for p.order[i] != at {
			i++
		}
		for ; i+1 < ringN && p.ring[p.order[i+1]] < x; i++ {
			p.order[i] = p.order[i+1]
		}
	}
	for ; i > 0 && p.ring[p.order[i-1]] > x; i-- {
		p.order[i] = p.order[i-1]
	}
	p.order[i] = at
	p.ring[at] = x
}

// scale multiplies everything in the unit of the series.
func (p *parts) scale(f float64) {
	for _, v := range [...]*float64{&p.levelMean, &p.levelDist, &p.short, &p.long, &p.roughNow, &p.roughLong, &p.usual} {
		*v = mul(*v, f)
	}
	p.variance = mul(mul(p.variance, f), f)
	for i := range p.spans {
		p.means[i] = mul(p.means[i], f)
		p.spans[i] = span{mul(p.spans[i].low, f), mul(p.spans[i].high, f)}
	}
	for i := range p.ring {
		p.ring[i] = float32(mul(float64(p.ring[i]), f))
	}
	p.day.scale(f)
	p.week.scale(f)
	p.weekUsual = float32(mul(float64(p.weekUsual), f))
}

func (p *parts) numbers() []*float64 {
	v := []*float64{&p.levelMean, &p.levelDist, &p.short, &p.long, &p.variance, &p.roughNow, &p.roughLong, &p.usual}
	for i := range p.spans {
		v = append(v, &p.means[i], &p.spans[i].low, &p.spans[i].high)
	}
	return v
}

func (p *parts) append(w *writer) {
	w.u32(p.n)
	for _, v := range p.numbers() {
		w.f64(*v)
	}
	for i := range p.ring {
		w.f32(p.ring[i])
		w.u8(p.order[i])
	}
	p.day.append(w)
	p.week.append(w)
	w.u32(p.leftOut)
	w.f32(p.weekUsual)
	w.u8(p.odd)
	w.u8(p.oddOld)
}

func (p *parts) restore(d *reader) {
	p.n = d.u32()
	for _, v := range p.numbers() {
		*v = d.finite()
	}
	var held [ringN]bool
	for i := range p.ring {
		p.ring[i], p.order[i] = d.f32(), d.u8()
		d.check(finite(float64(p.ring[i])) && p.order[i] < ringN)
	}
	for i := range min(p.n, ringN) {
		at := p.order[i] % ringN
		d.check(!held[at] && at < uint8(min(p.n, ringN)) && (i == 0 || p.ring[at] >= p.ring[p.order[i-1]%ringN]))
		held[at] = true
	}
	p.day.restore(d)
	p.week.restore(d)
	p.leftOut, p.weekUsual, p.odd, p.oddOld = d.u32(), d.f32(), d.u8(), d.u8()
	d.check(p.weekUsual >= 0 && finite(float64(p.weekUsual)))
}
