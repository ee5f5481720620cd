package detect_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"aiops/internal/detect"
)

const perDay = 1440 // samples a minute apart

// alarmsPerDay runs auto within a budget of one a week over a series of a value a minute
// and returns how many alarms began on each day. What follows within half an hour of an alarm
// belongs to it.
func alarmsPerDay(t *testing.T, days int, value func(i int) float64) []int {
	t.Helper()
	m := mustNew(t, detect.Spec{Model: "auto", Step: time.Minute, Seed: 1})
	threshold := detect.Threshold(1, time.Minute, 1)
	m.SetThreshold(threshold)
	start := time.Date(2026, time.March, 2, 0, 0, 0, 0, time.UTC)
	alarms, last := make([]int, days), -perDay
	for i := range days * perDay {
		if detect.Step(m, start.Add(time.Duration(i)*time.Minute).UnixMilli(), value(i)).Score > threshold {
			if i-last > 30 {
				alarms[i/perDay]++
			}
			last = i
		}
	}
	return alarms
}

func sum(n []int) (all int) {
	for _, k := range n {
		all += k
	}
	return all
}

// cleanedUp is a disk that fills and is cleaned up at five past three each day.
func cleanedUp(seed uint64) func(i int) float64 {
	r := rand.New(rand.NewPCG(seed, 5))
	level := 50.0
	return func(i int) float64 {
		level += 0.004 * (1 + 0.5*math.Sin(2*math.Pi*float64(i)/perDay)) * 2 * r.Float64()
		if i%perDay == 185 {
			level -= 5.5 + 0.3*r.NormFloat64()
		}
		return level
	}
}

// What comes at the same time of every day alarms on the first days and then hardly, although
// the level of the series changes; and what is as large at another time is found all the same,
// and what is far larger at that time.
func TestWhatComesEveryDay(t *testing.T) {
	t.Parallel()
	const days, seeds = 21, 4
	// found tells in how many series an incident on the last day but one alarms.
	found := func(begin int, size float64) (n int) {
		for seed := range uint64(seeds) {
			clean := cleanedUp(seed)
			alarms := alarmsPerDay(t, days, func(i int) float64 {
				v := clean(i)
				if b := (days-2)*perDay + begin; i >= b && i < b+30 {
					v += size
				}
				return v
			})
			n += min(alarms[days-2], 1)
		}
		return n
	}
	late := 0
	for seed := range uint64(seeds) {
		alarms := alarmsPerDay(t, days, cleanedUp(seed))
		late += sum(alarms[7:])
		if sum(alarms[:3]) == 0 {
			t.Errorf("control: seed %d: on the first days nothing alarms", seed)
		}
	}
	if late > 2*2*seeds {
		t.Errorf("%d alarms in two weeks of %d series, at a budget of one a week", late, seeds)
	}
	if n := found(900, -5.5); n < seeds {
		t.Errorf("the same at another time is found in %d of %d series", n, seeds)
	}
	if n := found(185, -30); n < seeds {
		t.Errorf("far more at the same time is found in %d of %d series", n, seeds)
	}
	if n := found(900, 0); n > 1 {
		t.Errorf("control: nothing is found in %d of %d series", n, seeds)
	}
}

// What comes on one day of the week alarms twice. The control has it on another day each week.
func TestWhatComesEveryWeek(t *testing.T) {
	t.Parallel()
	report := func(weekday func(week int) int) []int {
		r := rand.New(rand.NewPCG(3, 7))
		alarms := alarmsPerDay(t, 42, func(i int) float64 {
			v := (0.3 + 0.15*math.Sin(2*math.Pi*float64(i)/perDay)) * (1 + 0.05*r.NormFloat64())
			if day, minute := i/perDay, i%perDay; day%7 == weekday(day/7) && minute >= 180 && minute < 295 {
				v += 0.5
			}
			return v
		})
		return alarms
	}
	alarms := report(func(int) int { return 6 })
	for week := 2; week < 6; week++ {
		if n := alarms[7*week+6]; n > 0 {
			t.Errorf("%d alarms on the report of week %d: %v", n, week+1, alarms)
		}
	}
	other := []int{6, 2, 4, 0, 3, 5}
	alarms, n := report(func(week int) int { return other[week] }), 0
	for week := 2; week < 6; week++ {
		n += min(alarms[7*week+other[week]], 1)
	}
	if n < 3 {
		t.Errorf("control: %d of 4 on other days alarm: %v", n, alarms)
	}
}

// Errors are few: mostly none, sometimes one. Six more in each minute of half an hour alarm, after weeks
// in which the few hardly did. The control is the same half hour without them.
func TestRareCountsThatBurst(t *testing.T) {
	t.Parallel()
	const days, seeds = 28, 4
	for burst, want := range map[float64]func(found int) bool{
		6: func(found int) bool { return found == seeds },
		0: func(found int) bool { return found <= 1 },
	} {
		found := 0
		for seed := range uint64(seeds) {
			r := rand.New(rand.NewPCG(seed, 11))
			alarms := alarmsPerDay(t, days, func(i int) float64 {
				n := 0.0
				for p := r.Float64(); p > 0.9512; p *= r.Float64() { // about 0.05 on average
					n++
				}
				if at := (days - 1) * perDay; i >= at+700 && i < at+730 {
					return n + burst
				}
				return n
			})
			if n := sum(alarms[2 : days-1]); n > 8 {
				t.Errorf("seed %d: %d alarms in %d days without a burst: %v", seed, n, days-3, alarms)
			}
			found += min(alarms[days-1], 1)
		}
		if !want(found) {
			t.Errorf("a burst of %v is found in %d of %d series", burst, found, seeds)
		}
	}
}

// event is what happens from ten past three on for some minutes, and for as many after them.
type event struct {
	minutes    int
	size, back float64
}

// happened is how often events alarmed that happened on the days from the tenth on, day by day, in how many
// series, and how far the ends of the band were away from the value a minute before, on the last day, at most, in
// all of them. On the last day a restored copy has to say the same.
func happened(t *testing.T, seeds uint64, events ...event) (alarms []int, reach [2]float64) {
	t.Helper()
	const before, begin = 10, 190
	alarms = make([]int, len(events))
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 13))
		m := mustNew(t, detect.Spec{Model: "auto", Step: time.Minute, Seed: 1})
		threshold := detect.Threshold(1, time.Minute, 1)
		m.SetThreshold(threshold)
		last := -1
		var restored detect.Model
		for i := range before*perDay + (len(events)-1)*perDay + begin + 60 {
			day, off := i/perDay-before, i%perDay-begin
			v := 100 + 30*math.Sin(2*math.Pi*float64(i)/perDay) + 3*r.NormFloat64()
			if day >= 0 && off >= 0 {
				switch e := events[day]; {
				case off < e.minutes:
					v += e.size
				case off < 2*e.minutes:
					v += e.back
				}
			}
			if day == len(events)-1 && off == -begin {
				restored = mustNew(t, detect.Spec{Model: "auto", Step: time.Minute, Seed: 1})
				if err := restored.Restore(m.AppendSnapshot(nil)); err != nil {
					t.Fatal(err)
				}
			}
			p := detect.Step(m, int64(i)*minute, v)
			if restored != nil {
				if q := detect.Step(restored, int64(i)*minute, v); q != p {
					t.Fatalf("day %d, %d minutes after the event began: %+v restored, %+v live", day, off, q, p)
				}
			}
			if day >= 0 && off >= 0 && off < 60 && p.Score > threshold && last != day {
				alarms[day]++
				last = day
			}
			if day == len(events)-1 && off == -1 {
				reach[0], reach[1] = max(reach[0], v-p.Lower), max(reach[1], p.Upper-v)
			}
		}
	}
	return alarms, reach
}

// What comes again is known by its side: a spike after an outage at the same time of the day before
// alarms, and an outage at the time of a nightly spike. The controls are the same three times, which
// does not alarm the third time.
func TestSidesOfWhatComesAgain(t *testing.T) {
	t.Parallel()
	const seeds = 3
	spike, outage := event{minutes: 20, size: 40}, event{minutes: 20, size: -40}
	for name, c := range map[string]struct {
		events []event
		alarms bool    // on the last day
		open   [2]bool // the band is wide, below and above
	}{
		"control: spikes":     {[]event{spike, spike, spike}, false, [2]bool{false, true}},
		"control: outages":    {[]event{outage, outage, outage}, false, [2]bool{true, false}},
		"spike after both":    {[]event{spike, outage, spike}, true, [2]bool{}},
		"outage after both":   {[]event{spike, outage, outage}, true, [2]bool{}},
		"outage among spikes": {[]event{spike, spike, spike, spike, outage}, true, [2]bool{false, true}},
		"spike among outages": {[]event{outage, outage, outage, outage, spike}, true, [2]bool{true, false}},
	} {
		alarms, reach := happened(t, seeds, c.events...)
		if n := alarms[len(alarms)-1]; c.alarms && n < seeds || !c.alarms && n > 0 {
			t.Errorf("%s: alarms in %v of %d series", name, alarms, seeds)
		}
		for side, open := range c.open {
			if wide := reach[side] > 60; wide != open {
				t.Errorf("%s: a minute before, the ends of the band are at most %.0f away, want wide: %v", name, reach, c.open)
			}
		}
	}
}

// What comes every night and is over in a few minutes is learned, and so is what swings back to the other side
// within the same slot.
func TestShortThingsThatComeAgain(t *testing.T) {
	t.Parallel()
	const seeds = 4
	for _, e := range []event{{minutes: 10, size: 60}, {minutes: 10, size: -60}, {minutes: 10, size: 60, back: -60}} {
		alarms, _ := happened(t, seeds, e, e, e, e, e)
		if alarms[0] < seeds {
			t.Errorf("control: %+v alarms the first time in %v of %d series", e, alarms, seeds)
		}
		if n := sum(alarms[2:]); n > 1 {
			t.Errorf("%+v alarms in %v of %d series", e, alarms, seeds)
		}
	}
}
