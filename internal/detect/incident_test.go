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

// After an incident of hours the next one has to be found. A fault of two days, the
// control, is a new level and leaves a wide band.
func TestBandAfterAnIncident(t *testing.T) {
	t.Parallel()
	worlds := map[string]func(r *rand.Rand) (float64, func(int) float64){
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
	if control := (incident{deviation, value, func(v float64) float64 { return v + 100*deviation }, 2 * incidentDay}.run(t)); control.width[0] < 2 || control.found[0] > 0.5 {
		t.Errorf("a band that two days of another level leave untouched: the measure is blind: %.2f", control)
	}
}

// What lasts is a new level: its alarm ends within hours, and it goes on so when the day is
// over after which the old level is forgotten.
func TestLastingShiftStopsAlarming(t *testing.T) {
	t.Parallel()
	for _, size := range []float64{10, 100} {
		m, err := detect.New(detect.Spec{Model: "auto", Step: 5 * time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(3, 4))
		first, later := 0, 0
		for i := range incidentStart + 7*incidentDay {
			v := r.NormFloat64()
			if i >= incidentStart {
				v += size
			}
			if s := detect.Step(m, int64(i)*(5*time.Minute).Milliseconds(), v).Score; s > incidentScore && i >= incidentStart {
				if i < incidentStart+48 {
					first++
				} else {
					later++
				}
			}
		}
		if first == 0 || later > 6 {
			t.Errorf("a shift by %g deviations: %d samples alarm in the first four hours, %d in the week after", size, first, later)
		}
	}
}
