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
// over after which the old level is forgotten. From then on a fault at the new level is
// found as one at the old level was.
func TestLastingShiftStopsAlarming(t *testing.T) {
	t.Parallel()
	for name, world := range incidentWorlds() {
		for _, size := range []float64{10, 100} {
			m, err := detect.New(detect.Spec{Model: "auto", Step: 5 * time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			m.SetThreshold(incidentScore)
			deviation, value := world(rand.New(rand.NewPCG(3, 4)))
			first, later, found := 0, 0, 0
			for i := range incidentStart + 14*incidentDay {
				v, since := value(i), i-incidentStart
				if since >= 0 {
					v += size * deviation
				}
				at := int64(i) * (5 * time.Minute).Milliseconds()
				if alarm := m.Score(at, v).Score > incidentScore; alarm && since >= 0 && since < 48 {
					first++
				} else if alarm && since >= 0 {
					later++
				}
				if since >= 9*incidentDay && m.Score(at, v+10*deviation).Score > incidentScore {
					found++
				}
				m.Learn(at, v)
			}
			t.Logf("%s, a shift by %g deviations: %d samples alarm in the first four hours, %d in the two weeks after; found at last %.2f", name, size, first, later, float64(found)/(5*incidentDay))
			if first == 0 || later > 6 {
				t.Errorf("%s, a shift by %g deviations: %d samples alarm in the first four hours, %d in the two weeks after", name, size, first, later)
			}
			if found < 5*incidentDay*9/10 {
				t.Errorf("%s, a shift by %g deviations: ten deviations more are found in %d of %d samples at last", name, size, found, 5*incidentDay)
			}
		}
	}
}
