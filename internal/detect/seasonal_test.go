package detect_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"aiops/internal/detect"
)

// office is the rhythm of a service that people use at work.
func office(local time.Time) float64 {
	if local.Weekday() == time.Saturday || local.Weekday() == time.Sunday {
		return 20
	}
	switch h := local.Hour(); {
	case h == 7 || h == 18:
		return 60
	case h >= 8 && h < 12:
		return 100
	case h >= 12 && h < 14:
		return 80
	case h >= 14 && h < 18:
		return 95
	}
	return 30
}

// A holiday, a Monday like a Sunday, alarms for an hour or so, not all day, and
// the next Monday is expected as if it had not been. A Monday that is like no
// day, the control, goes on to alarm and does not spoil the next one either. A
// rhythm that stays is learned.
func TestSeasonalTakesHolidays(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	const holiday, week = 42, 7 // days after the first Monday
	sunday := func(at time.Time) float64 { return office(at.AddDate(0, 0, -1)) }
	for _, c := range []struct {
		name               string
		value              func(at time.Time) float64
		stays              bool
		least, most, after int     // samples that alarm on the holiday, on the next Monday
		off                float64 // mean distance of the expected value on the next Monday, of 100
	}{
		{"no holiday", office, false, 0, 2, 2, 1},
		{"like a Sunday", sunday, false, 6, 24, 2, 1.5},
		{"night and day exchanged", func(at time.Time) float64 { return office(at.Add(12 * time.Hour)) }, false, 30, 96, 2, 6},
		{"flat", func(time.Time) float64 { return 65 }, false, 12, 72, 2, 6},
		{"like a Sunday from now on", sunday, true, 6, 24, 14, 8},
	} {
		m := mustNew(t, detect.Spec{Model: "seasonal", Step: 5 * time.Minute, TimeZone: "Europe/Berlin"})
		r := rand.New(rand.NewPCG(5, 1))
		start := time.Date(2026, time.January, 5, 0, 0, 0, 0, berlin)
		threshold := detect.Threshold(1, 5*time.Minute, 1)
		var alarms [10 * week]int
		var off [10 * week]float64
		said := false
		for day := range alarms {
			for i := range 288 {
				at := start.AddDate(0, 0, day).Add(time.Duration(i) * 5 * time.Minute)
				v := office(at)
				if day == holiday || c.stays && day > holiday && day%week == 0 {
					v = c.value(at)
				}
				got := detect.Step(m, at.UnixMilli(), v+2*r.NormFloat64())
				if got.Score > threshold {
					alarms[day]++
				}
				off[day] += math.Abs(got.Expected-v) / 288
				if day == holiday && i == 144 {
					_, why := m.Describe()
					said = strings.Contains(why, "like a")
				}
			}
		}
		if n := alarms[holiday]; n < c.least || n > c.most {
			t.Errorf("%s: %d samples alarm on the day", c.name, n)
		}
		if n, e := alarms[holiday+week], off[holiday+week]; n > c.after || e > c.off {
			t.Errorf("%s: on the next Monday %d alarm, and the expected value is off by %.1f", c.name, n, e)
		}
		if n := alarms[holiday+1] + alarms[holiday+2]; n > 2 {
			t.Errorf("%s: %d alarms on the next two days", c.name, n)
		}
		if n := alarms[holiday+3*week]; n > 2 {
			t.Errorf("%s: %d alarms three weeks later", c.name, n)
		}
		if like := strings.HasPrefix(c.name, "like a Sunday"); said != like {
			t.Errorf("%s: at noon it says that the day is like another: %v", c.name, said)
		}
		t.Logf("%s: %d alarms on the day, off by %.1f; a week later %d, %.1f; three weeks later %d, %.1f", c.name, alarms[holiday],
			off[holiday], alarms[holiday+week], off[holiday+week], alarms[holiday+3*week], off[holiday+3*week])
	}
}

// Without being told, holt_winters finds the period of a series, as the round
// time that it is, and then sees what fails to come. Series without a period,
// the controls, get none.
func TestSeasonIsFound(t *testing.T) {
	t.Parallel()
	batch := func(every, long int) func(int, *rand.Rand) float64 {
		return func(i int, r *rand.Rand) float64 {
			if i%every < long {
				return 60 + 5*r.NormFloat64()
			}
			return 10 + 2*r.NormFloat64()
		}
	}
	wander := 0.0
	for _, c := range []struct {
		name   string
		step   time.Duration
		n      int
		value  func(i int, r *rand.Rand) float64
		season string // "": none
	}{
		{"a job every 20 minutes", time.Minute, 2000, batch(20, 3), "20m0s"},
		{"a job every 7 minutes", time.Minute, 2000, batch(7, 2), "7m0s"},
		{"a job every 100 minutes", time.Minute, 8000, batch(100, 20), "1h40m0s"},
		{"a job every hour, in steps of 10 s", 10 * time.Second, 30_000, batch(360, 40), "1h0m0s"},
		{"a shift of 8 hours on a slope", 5 * time.Minute, 5000, func(i int, r *rand.Rand) float64 {
			return 0.01*float64(i) + 20*math.Sin(2*math.Pi*float64(i)/96) + 4*r.NormFloat64()
		}, "8h0m0s"},
		{"a day", 5 * time.Minute, 6000, func(i int, r *rand.Rand) float64 {
			return 50 + 20*math.Sin(2*math.Pi*float64(i)/288) + 5*r.NormFloat64()
		}, "24h0m0s"},
		{"noise", time.Minute, 20_000, func(_ int, r *rand.Rand) float64 { return r.NormFloat64() }, ""},
		{"heavy tails", time.Minute, 20_000, func(_ int, r *rand.Rand) float64 { return math.Exp(2 * r.NormFloat64()) }, ""},
		{"wandering", time.Minute, 20_000, func(_ int, r *rand.Rand) float64 {
			wander = 0.95*wander + r.NormFloat64()
			return wander
		}, ""},
		{"constant", time.Minute, 5000, func(int, *rand.Rand) float64 { return 3 }, ""},
	} {
		m := mustNew(t, detect.Spec{Model: "holt_winters", Parameters: []byte(`{"season": 0}`), Step: c.step})
		r := rand.New(rand.NewPCG(40, 1))
		for i := range c.n {
			m.Learn(int64(i)*c.step.Milliseconds(), c.value(i, r))
		}
		_, why := m.Describe()
		if found := strings.HasPrefix(why, "season found"); found != (c.season != "") || !strings.Contains(why, c.season) {
			t.Errorf("%s: %s", c.name, why)
		}
		if size := m.SizeBytes(); size > 10<<10 {
			t.Errorf("%s: %d bytes", c.name, size)
		}
	}
}

// The job that does not come is seen by the model that found its period, and
// not by the control, which was told another one.
func TestFoundSeasonSeesWhatDoesNotCome(t *testing.T) {
	t.Parallel()
	for season, want := range map[string]bool{`{"season": 0}`: true, `{"season": 24}`: false} {
		m := mustNew(t, detect.Spec{Model: "holt_winters", Parameters: []byte(season), Step: time.Minute})
		r := rand.New(rand.NewPCG(41, 1))
		var at int64
		job := func(i int) float64 {
			if i%20 < 3 {
				return 60 + 2*r.NormFloat64()
			}
			return 10 + 2*r.NormFloat64()
		}
		feed(m, &at, 4000, job) // no multiple of a day
		before, _ := outcome(m, &at, 2000, 4, job)
		missed, first := outcome(m, &at, 3, 4, func(int) float64 { return 10 + 2*r.NormFloat64() })
		if before > 2 || want != (missed > 0) {
			t.Errorf("%s: %d alarms before, %d when the job does not come, the first after %d", season, before, missed, first)
		}
	}
}
