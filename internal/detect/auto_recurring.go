package detect

// The constants of recurrence.
const (
	recurDays   = 48      // slots of the day
	recurWeeks  = 84      // and of the week
	recurAround = 20 * 60 // seconds before and after a slot that count as it
	recurGrain  = 10 * 60 // what is known changes only at multiples of this
	recurPart   = 4       // what comes again lasts at most this part of a day
	recurCode   = 15      // largest code
	recurBack   = 2       // what is known counts on the other side as its code divided by this, rounded up
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
// what comes again. Each side has its own codes, so that
// a spike after an outage at the same time of the day before is nothing that comes again, nor does a nightly
// spike hide an outage as large. What comes back goes the other way, though, now and then as far as
// to be odd: there half of the code counts, rounded up. The side is that of the component that counts most (auto.rare), and
// not that of the expected value, which can be the profile one night and the next one the median, which
// follows within minutes.
//
// How far is told in four bits (recurBounds). When it does not come, the slot expects one step
// less the next time. What lasts for more than six hours is not
// taken for something that comes again.
//
// Cost: a division of the time. Memory: 274 bytes. It fails for what comes at
// other intervals, such as the month, and hides an incident of the same size as what is usual at that
// time and on that side, and smaller ones on the other.
type recurrence struct {
	days  [2][recurDays]uint8  // by side: the last time in the lower four bits, what is known in the upper
	weeks [2][recurWeeks]uint8 // the same
	at    [2]slotNow
	// scratch: what is known in the present stretch of recurGrain seconds, counted from 1, on each side
	stretch uint16
	codes   [2]uint8
}

// slotNow is a slot that is being filled.
type slotNow struct {
	slot uint8 // counted from 1; 0: none yet
	// by side: of the samples so far in the lower four bits; in the upper, what the slot before had for
	// the last time, before it was filled
	codes [2]uint8
}

// recurTable is the slots of a day or of a week.
type recurTable struct {
	codes   [2][]uint8 // by side
	seconds int64      // of a slot
}

func (r *recurrence) tables() [2]recurTable {
	return [2]recurTable{
		{[2][]uint8{r.days[0][:], r.days[1][:]}, secondsPerDay / recurDays},
		{[2][]uint8{r.weeks[0][:], r.weeks[1][:]}, secondsPerWeek / recurWeeks},
	}
}

// turn moves on to a second of the week.
func (r *recurrence) turn(second int64) {
	stretch := uint16(second/recurGrain) + 1
	if stretch == r.stretch {
		return
	}
	r.stretch, r.codes = stretch, [2]uint8{}
	for _, t := range r.tables() {
		for side, codes := range t.codes {
			for _, s := range [...]int64{second - recurAround, second, second + recurAround} {
				slot := (s + secondsPerWeek) / t.seconds % int64(len(codes))
				r.codes[side] = max(r.codes[side], codes[slot]>>4)
			}
		}
	}
	above, below := r.codes[sideAbove], r.codes[sideBelow]
	r.codes[sideAbove], r.codes[sideBelow] = max(above, (below+1)/recurBack), max(below, (above+1)/recurBack)
}

// factor returns by how much samples on a side are taken for less than they are, at the second
// that was turned to.
func (r *recurrence) factor(side uint8) float64 {
	if code := r.codes[side]; code > 0 {
		return recurBounds[code]
	}
	return 1
}

// learn takes in how many limits a sample at a second of the week is off, on which side, and whether
// it counts as something that may come again.
func (r *recurrence) learn(second int64, side uint8, limits float64, counts bool) {
	code := uint8(0)
	for counts && code < recurCode && limits >= recurBounds[code] {
		code++
	}
	for i, t := range r.tables() {
		now := &r.at[i]
		slot := uint8(second/t.seconds%int64(len(t.codes[side]))) + 1
		if slot != now.slot {
			if now.slot > 0 {
				for s, codes := range t.codes {
					now.codes[s] = fill(codes, int(now.slot)-1, now.codes[s]) << 4
				}
			}
			r.stretch = 0
			now.slot = slot
		}
		now.codes[side] = max(now.codes[side]&recurCode, code) | now.codes[side]&^recurCode
	}
}

// fill takes the slot at a place, which ended, into the codes of a side; now is as in slotNow. It
// returns what the slot had for the last time.
func fill(codes []uint8, at int, now uint8) (last uint8) {
	code, before := now&recurCode, now>>4
	last, known := codes[at]&recurCode, codes[at]>>4
	if known > 0 && code < known {
		known--
	}
	around := max(before, last, codes[(at+1)%len(codes)]&recurCode)
	known = max(known, min(code, around))
	codes[at] = known<<4 | code
	return last
}

func (r *recurrence) append(w *writer) {
	for _, t := range r.tables() {
		w.b = append(append(w.b, t.codes[0]...), t.codes[1]...)
	}
	for _, n := range r.at {
		w.b = append(w.b, n.slot, n.codes[0], n.codes[1])
	}
}

func (r *recurrence) restore(d *reader) {
	for _, t := range r.tables() {
		for _, codes := range t.codes {
			for k := range codes {
				codes[k] = d.u8()
			}
		}
	}
	r.stretch = 0
	for i, t := range r.tables() {
		n := &r.at[i]
		n.slot, n.codes = d.u8(), [2]uint8{d.u8(), d.u8()}
		d.check(int(n.slot) <= len(t.codes[0]))
	}
}
