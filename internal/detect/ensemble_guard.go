package detect

import "time"

// The constants of guard, in samples where nothing else is said.
const (
	oddRarity  = 1000 // a sample rarer than once in so many is odd
	oddYoung   = 320  // no sample is odd before
	oddLeast   = 12   // odd samples that make an episode
	oddFar     = 3.5  // limits of what is odd that a sample of an episode is away and spoils the profiles
	calmLeast  = 6    // samples in a row that are not odd and end it
	calmMost   = 24   // and so many at most: a quarter of the odd ones
	guardDays  = 8    // that an episode is protected from
	guardLeast = 48   // samples that count as a day at least
	guardMost  = 60_000
)

// rareParts are the components that count for the score.
var rareParts = [...]uint8{partFar, partDrift, partDay, partWeek, partShift, partCalm}

// dayPart and slowPart are partDay and partShift among the rareParts.
const dayPart, slowPart = 2, 4

// marks are what the gauges of the rareParts know for the score.
type marks [len(rareParts)]mark

// guard keeps an incident of hours or days from making an ensemble blind for the days
// after it. While it lasts, the marks follow as ever, so that the alarm ends when
// people know of it; but how they were before is kept, and each sample is
// judged by that too. When enough samples in a row are as they were before, the
// incident is over and the old marks hold again. What lasts longer than eight days, or than all
// that was before, is a new level: where all of the last samples lie at the same distance from the profiles, these are
// moved there and the marks of before hold again; else these are forgotten.
//
// Odd is a sample that the marks of before and the calibrator say comes less often than
// once in 1000. Twelve of them, with fewer than 6 others in a row in between, make an episode. From
// then on the calibrator counts nothing, until the episode ends in either way; and
// where the deviation is so large that a fifth of it would be found in the profiles on
// the next days, they leave odd samples out, and those that came first are taken out again.
// After a day the mean shift does not count, since the long mean lies between the
// levels then and would take the return for odd for days.
//
// Cost: one more sum over six components for each sample of an episode. It fails
// for incidents that change how widely values vary so little that most samples
// are not odd, and for shifts of several days that are too small to be left out of the
// profiles, which get used to them.
type guard struct {
	before marks      // as they were when the first odd sample came
	limit  [2]float64 // calibrated sum beyond which a sample is odd; 0: not known yet
	since  int64      // time of the first odd sample
	step   int64      // milliseconds
	day    uint16     // samples of a day, at least guardLeast
	most   uint16     // samples that an episode has at most
	age    uint16     // samples since the first odd one; 0: nothing is odd
	odd    uint16     // of these
	calm   uint8      // samples since the last odd one
}

func newGuard(step time.Duration) guard {
	samples := func(days int64) uint16 {
		return uint16(min(max(days*int64(24*time.Hour)/int64(step), guardLeast), guardMost))
	}
	return guard{step: step.Milliseconds(), day: samples(1), most: samples(guardDays)}
}

// long reports whether the episode is older than a day.
func (g *guard) long() bool { return g.age > g.day }

// established reports whether the odd samples make an episode.
func (g *guard) established() bool { return g.odd >= oddLeast }

// outcome is how an episode ended.
type outcome uint8

const (
	goesOn   outcome = iota // there is none, or it has not ended
	wentBack                // to how things were: g.before holds again
	settled                 // what lasted is how things are now
)

// take takes the sample at t, before which so many were learned, with the marks as they are
// before it is, and says what became of an episode.
func (g *guard) take(t int64, odd bool, learned uint32, now *marks) (end outcome) {
	switch {
	case g.age == 0 && !odd:
		return goesOn
	case g.age == 0:
		g.before, g.since, g.odd, g.calm = *now, t, 0, 0
	}
	g.age++
	switch {
	case odd:
		g.odd++
		g.calm = 0
	case uint16(g.calm)+1 >= min(max(g.odd/4, calmLeast), calmMost):
		if g.established() {
			end = wentBack
		}
		g.age, g.odd = 0, 0
		return end
	default:
		g.calm++
	}
	if g.age >= g.most || uint32(g.age) > learned/2 {
		if g.established() {
			end = settled
		}
		g.age, g.odd = 0, 0
	}
	return end
}

// begins reports whether the sample taken last made the odd ones an episode.
func (g *guard) begins() bool { return g.odd == oddLeast && g.calm == 0 }

func (g *guard) append(w *writer) {
	w.f64(g.limit[0])
	w.f64(g.limit[1])
	w.uvarint(uint64(g.age))
	if g.age == 0 {
		return
	}
	w.i64(g.since)
	w.uvarint(uint64(g.odd))
	w.u8(g.calm)
	for i := range g.before {
		g.before[i].append(w)
	}
}

// restore reads the state; what follows from the step stays.
func (g *guard) restore(d *reader) {
	*g = guard{step: g.step, day: g.day, most: g.most}
	g.limit = [2]float64{d.f64(), d.f64()}
	d.check(g.limit[0] >= 0 && g.limit[1] >= 0)
	if g.age = uint16(d.uvarint(uint64(g.most) - 1)); g.age == 0 {
		return
	}
	g.since = d.i64()
	g.odd = uint16(d.uvarint(uint64(g.age)))
	g.calm = d.u8()
	d.check(g.odd > 0 && g.calm < calmMost)
	for i := range g.before {
		g.before[i].restore(d)
	}
}
