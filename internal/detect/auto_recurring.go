package detect

// The constants of recurrence.
const (
	recurDays   = 48      // slots of the day
	recurWeeks  = 84      // and of the week
	recurAround = 20 * 60 // seconds before and after a slot that count as it
	recurGrain  = 10 * 60 // what is known changes only at multiples of this
	recurPart   = 4       // what comes again lasts at most this part of a day
	recurCode   = 15      // largest code
)

// recurBounds are the limits (guard) by which samples are off, code by code: code k says at least
// bound k-1 and, but for the last, less than bound k.
var recurBounds = [recurCode + 1]float64{2, 2.8, 4, 5.6, 8, 11, 16, 22, 32, 64, 128, 512, 2048, 16384, 1 << 20, 1 << 30}

// recurrence keeps what is far off at the same time of every day, or of every week, from
// being an incident each time: the nightly clean-up, the weekly report. A slot of the
// half hour of the day, or of two hours of the week, knows how far off its samples were
// the last time, and how far at least the last two times. By so much the
// next ones are taken for less than they are. So what comes again alarms
// twice, and the third time only when it is clearly larger; and what is as large at
// another time is as rare as if it had never been, because the calibrator does not see
// what comes again.
//
// How far is told in four bits (recurBounds). When it does not come, the slot expects one step
// less the next time. What lasts for more than six hours is not
// taken for something that comes again.
//
// Cost: a division of the time. Memory: 140 bytes. It fails for what comes at
// other intervals, such as the month, and hides an incident of the same size as what is usual at that
// time.
type recurrence struct {
	days  [recurDays]uint8  // the last time in the lower four bits, what is known in the upper
	weeks [recurWeeks]uint8 // the same
	at    [2]slotNow
	// scratch: what is known in the present stretch of recurGrain seconds, counted from 1
	stretch uint16
	code    uint8
}

// slotNow is a slot that is being filled.
type slotNow struct {
	slot   uint8 // counted from 1; 0: none yet
	code   uint8 // of the samples so far
	before uint8 // what the slot before had for the last time, before it was filled
}

// tables returns the slots and how many seconds each has.
func (r *recurrence) tables() [2]struct {
	codes   []uint8
	seconds int64
} {
	return [2]struct {
		codes   []uint8
		seconds int64
	}{
		{r.days[:], secondsPerDay / recurDays},
		{r.weeks[:], secondsPerWeek / recurWeeks},
	}
}

// known returns the factor by which samples at a second of the week are taken for less
// than they are.
func (r *recurrence) known(second int64) float64 {
	stretch := uint16(second/recurGrain) + 1
	if stretch == r.stretch {
		return recurFactor(r.code)
	}
	most := uint8(0)
	for _, t := range r.tables() {
		n := int64(len(t.codes))
		for _, s := range [...]int64{second - recurAround, second, second + recurAround} {
			most = max(most, t.codes[(s+secondsPerWeek)/t.seconds%n]>>4)
		}
	}
	r.stretch, r.code = stretch, most
	return recurFactor(most)
}

func recurFactor(code uint8) float64 {
	if code == 0 {
		return 1
	}
	return recurBounds[code]
}

// learn takes in how many limits a sample at a second of the week is off, and whether
// it counts as something that may come again.
func (r *recurrence) learn(second int64, limits float64, counts bool) {
	code := uint8(0)
	for counts && code < recurCode && limits >= recurBounds[code] {
		code++
	}
	for i, t := range r.tables() {
		now := &r.at[i]
		slot := uint8(second/t.seconds%int64(len(t.codes))) + 1
		if slot != now.slot {
			now.fill(t.codes)
			r.stretch = 0
			now.slot, now.code = slot, 0
		}
		now.code = max(now.code, code)
	}
}

// fill takes the slot that ended into the codes.
func (n *slotNow) fill(codes []uint8) {
	if n.slot == 0 {
		return
	}
	at := int(n.slot) - 1
	last, known := codes[at]&recurCode, codes[at]>>4
	if known > 0 && n.code < known {
		known--
	}
	around := max(n.before, last, codes[(at+1)%len(codes)]&recurCode)
	known = max(known, min(n.code, around))
	n.before = last
	codes[at] = known<<4 | n.code
}

func (r *recurrence) append(w *writer) {
	for _, t := range r.tables() {
		w.b = append(w.b, t.codes...)
	}
	for _, n := range r.at {
		w.u8(n.slot)
		w.u8(n.code)
		w.u8(n.before)
	}
}

func (r *recurrence) restore(d *reader) {
	for _, t := range r.tables() {
		for k := range t.codes {
			t.codes[k] = d.u8()
		}
	}
	r.stretch = 0
	for i, t := range r.tables() {
		n := &r.at[i]
		n.slot, n.code, n.before = d.u8(), d.u8(), d.u8()
		d.check(int(n.slot) <= len(t.codes) && n.code <= recurCode && n.before <= recurCode)
	}
}
