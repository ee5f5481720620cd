package detect_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"aiops/internal/detect"
)

const (
	incidentDay   = 288 // samples, five minutes apart
	incidentStart = 21*incidentDay + 120
	incidentScore = 3.3 // one alarm a week
)

// incident is a fault of a series that has been well for three weeks.
type incident struct {
	deviation float64 // usual size of deviations
	value     func(i int) float64
	fault     func(v float64) float64
	samples   int
}

// aftermath is what an incident leaves: the width of the band at the same hours
// one and two days later as multiples of that before, and in how many of the samples
// then ten deviations in a single one would be found.
type aftermath struct{ width, found [2]float64 }

func (in incident) run(t *testing.T) aftermath {
	t.Helper()
	m, err := detect.New(detect.Spec{Model: "auto", Step: 5 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	m.SetThreshold(incidentScore)
	var out aftermath
	var width [4]float64 // of the day before, of that of the incident, and of the two after
	last := incidentStart + in.samples
	days := (in.samples + incidentDay - 1) / incidentDay
	for i := range incidentStart + (days+3)*incidentDay {
		v := in.value(i)
		if i >= incidentStart && i < last {
			v = in.fault(v)
		}
		at := int64(i) * (5 * time.Minute).Milliseconds()
		day := (i-incidentStart+incidentDay)/incidentDay - days + 1
		if i < incidentStart {
			day = 0
		}
		r := m.Score(at, v)
		if off := (i - incidentStart + 30*incidentDay) % incidentDay; off < 72 && day >= 0 && day < 4 && (i >= incidentStart-incidentDay && i < incidentStart || day > 1) {
			width[day] += r.Upper - r.Lower
			if day > 1 && m.Score(at, v+10*in.deviation).Score > incidentScore {
				out.found[day-2] += 1.0 / 72
			}
		}
		m.Learn(at, v)
	}
	out.width = [2]float64{width[2] / width[0], width[3] / width[0]}
	return out
}

// incidentWorlds make clean series, and say how large their deviations usually are.
func incidentWorlds() map[string]func(r *rand.Rand) (float64, func(int) float64) {
	return map[string]func(r *rand.Rand) (float64, func(int) float64){
		"normal": func(r *rand.Rand) (float64, func(int) float64) {
			return 1, func(int) float64 { return 100 + r.NormFloat64() }
		},
		"daily": func(r *rand.Rand) (float64, func(int) float64) {
			return 2, func(i int) float64 {
				return 50 + 30*math.Sin(2*math.Pi*float64(i)/incidentDay) + 2*r.NormFloat64()
			}
		},
		"autocorrelated": func(r *rand.Rand) (float64, func(int) float64) {
			x := 0.0
			return 2.3, func(int) float64 { x = 0.9*x + r.NormFloat64(); return x }
		},
	}
}

// After an incident of hours the next one has to be found. A fault of ten days, the
// control, is a new level and leaves a wide band.
func TestBandAfterAnIncident(t *testing.T) {
	t.Parallel()
	worlds := incidentWorlds()
	for name, world := range worlds {
		for _, size := range []float64{10, 30, 100} {
			deviation, value := world(rand.New(rand.NewPCG(1, 2)))
			after := incident{deviation, value, func(v float64) float64 { return v + size*deviation }, 72}.run(t)
			t.Logf("%s, six hours %g deviations up: %.2f", name, size, after)
			for day := range 2 {
				if after.width[day] > 1.5 {
					t.Errorf("%s, %g deviations: the band is %.2f times as wide %d days after", name, size, after.width[day], day+1)
				}
				if after.found[day] < 0.8 {
					t.Errorf("%s, %g deviations: ten deviations are found in %.2f of the samples %d days after", name, size, after.found[day], day+1)
				}
			}
		}
	}
	deviation, value := worlds["daily"](rand.New(rand.NewPCG(1, 2)))
	if down := (incident{deviation, value, func(float64) float64 { return 0 }, 72}.run(t)); down.width[0] > 1.5 || down.found[0] < 0.8 {
		t.Errorf("after an outage: %.2f", down)
	}
	if control := (incident{deviation, value, func(v float64) float64 { return v + 100*deviation }, 10 * incidentDay}.run(t)); control.width[1] < 2 || control.found[1] > 0.5 {
		t.Errorf("a band that ten days of another level leave untouched: the measure is blind: %.2f", control)
	}
}

// An incident of days leaves the band as it was too, a day after its end, where it is far
// enough away to be kept out of the profiles; smaller ones leave it wider.
func TestBandAfterDays(t *testing.T) {
	t.Parallel()
	for name, world := range incidentWorlds() {
		for _, days := range []float64{1.5, 3, 7} {
			for _, size := range []float64{10, 30, 100} {
				deviation, value := world(rand.New(rand.NewPCG(1, 2)))
				after := incident{deviation, value, func(v float64) float64 { return v + size*deviation }, int(days * incidentDay)}.run(t)
				t.Logf("%s, %g days %g deviations up: %.2f", name, days, size, after)
				most, least := 1.5, 0.8
				if size < 30 {
					most, least = 2, 0.2
				}
				if after.width[1] > most || after.found[1] < least {
					t.Errorf("%s, %g days, %g deviations: the band is %.2f times as wide after, ten deviations are found in %.2f of the samples", name, days, size, after.width[1], after.found[1])
				}
			}
		}
	}
}

// What lasts is a new level: its alarm ends within hours, and it goes on so when the eight days are
// over after which the old level is forgotten: in two weeks there are no more alarms than
// the budget of one a week says, by half. From then on a fault at the new level is
// found; after a shift by ten deviations not in every series, as some of them take the shift
// for a deviation of their own.
func TestLastingShiftStopsAlarming(t *testing.T) {
	t.Parallel()
	const seeds, weeks = 5, 2
	for name, world := range incidentWorlds() {
		for _, size := range []float64{10, 100} {
			later, foundThen := 0, 0.0
			for seed := range uint64(seeds) {
				alarms, first, found := lastingShift(t, world, seed, size, weeks)
				later += alarms
				foundThen += found / seeds
				if first == 0 {
					t.Errorf("%s, a shift by %g deviations, seed %d: it is not found", name, size, seed)
				}
			}
			t.Logf("%s, a shift by %g deviations: %d alarms after the first four hours, in %d weeks; found at last %.2f", name, size, later, seeds*weeks, foundThen)
			if least := map[float64]float64{10: 0.7, 100: 0.9}[size]; foundThen < least {
				t.Errorf("%s, a shift by %g deviations: ten deviations more are found in %.2f of the samples at last, want %g", name, size, foundThen, least)
			}
			if later > seeds*weeks*3/2 {
				t.Errorf("%s, a shift by %g deviations: %d alarms after the first four hours, in %d weeks", name, size, later, seeds*weeks)
			}
		}
	}
}

// lastingShift returns how many alarms began after the first four hours of a shift, how many
// samples alarmed in these, and in how many of those from the tenth day on ten
// deviations more would be found. An alarm goes on while less than an hour is without one.
func lastingShift(t *testing.T, world func(*rand.Rand) (float64, func(int) float64), seed uint64, size float64, weeks int) (later, first int, found float64) {
	t.Helper()
	m, err := detect.New(detect.Spec{Model: "auto", Step: 5 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	m.SetThreshold(incidentScore)
	deviation, value := world(rand.New(rand.NewPCG(seed, 4)))
	last, asked := 0, 0
	for i := range incidentStart + weeks*7*incidentDay {
		v, since := value(i), i-incidentStart
		if since >= 0 {
			v += size * deviation
		}
		at := int64(i) * (5 * time.Minute).Milliseconds()
		if since >= 0 && m.Score(at, v).Score > incidentScore {
			switch {
			case since < 48:
				first++
			case since-last > 12:
				later++
			}
			last = since
		}
		if since >= 9*incidentDay {
			asked++
			if m.Score(at, v+10*deviation).Score > incidentScore {
				found++
			}
		}
		m.Learn(at, v)
	}
	return later, first, found / float64(asked)
}
