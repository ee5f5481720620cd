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
