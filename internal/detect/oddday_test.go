package detect_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"aiops/internal/detect"
)

// oddDay is what a model makes of eleven weeks in which a Monday is odd.
type oddDay struct {
	alarms [11 * 7]int     // samples, by day
	off    [11 * 7]float64 // of the expected value, on average
}

const oddMonday = 7 * 7

func runOddDay(t *testing.T, name, params string, holidays []string, odd func(at time.Time) float64, stays bool) oddDay {
	t.Helper()
	h, err := detect.ParseHolidays(holidays)
	if err != nil {
		t.Fatal(err)
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	m := mustNew(t, detect.Spec{Model: name, Parameters: []byte(params), Step: 5 * time.Minute, TimeZone: "Europe/Berlin", Holidays: h, Seed: 1})
	r := rand.New(rand.NewPCG(5, 1))
	start := time.Date(2026, time.January, 5, 0, 0, 0, 0, berlin)
	threshold := detect.Threshold(1, 5*time.Minute, 1)
	var out oddDay
	for day := range out.alarms {
		for i := range 288 {
			at := start.AddDate(0, 0, day).Add(time.Duration(i) * 5 * time.Minute)
			v := office(at)
			if day == oddMonday || stays && day > oddMonday && day%7 == 0 {
				v = odd(at)
			}
			got := detect.Step(m, at.UnixMilli(), v+2*r.NormFloat64())
			if got.Score > threshold {
				out.alarms[day]++
			}
			out.off[day] += math.Abs(got.Expected-v) / 288
		}
	}
	return out
}

// A Monday like a Sunday, flat, or turned by half a day does not alarm all day,
// and the Mondays after it are expected as ever. One that is known beforehand is expected
// right. The control is a holiday on which people work: the model that was told so is
// wrong on that day. A rhythm that stays is learned, by holt_winters over months.
func TestOddDays(t *testing.T) {
	t.Parallel()
	sunday := func(at time.Time) float64 { return office(at.AddDate(0, 0, -1)) }
	flat := func(time.Time) float64 { return 65 }
	turned := func(at time.Time) float64 { return office(at.Add(12 * time.Hour)) }
	known := []string{"2026-02-23"}
	for _, m := range []struct {
		name, params string
		weekly       bool    // knows the days of the week
		off          float64 // on an usual Monday, at most
	}{
		{"auto", "", true, 0.8}, {"deep", "", true, 0.8}, {"seasonal", "", true, 0.8},
		{"holt_winters", `{"season": 168}`, true, 2}, {"holt_winters", `{"season": 24}`, false, 6.5},
	} {
		for _, c := range []struct {
			name     string
			value    func(time.Time) float64
			holidays []string
			stays    bool
			most     int     // samples of the 288 that alarm on the day
			onDay    float64 // how far the expected value is off on the day at most, beyond off; 0: any
			after    float64 // and a week later
		}{
			{"usual", office, nil, false, 2, 0.1, 0.1},
			{"like a Sunday", sunday, nil, false, 24, 0, 1.5},
			{"flat", flat, nil, false, 144, 0, 4},
			{"turned", turned, nil, false, 144, 0, 4.5},
			{"a known holiday", sunday, known, false, 1, 0.1, 0.2},
			{"like a Sunday from now on", sunday, nil, true, 24, 0, 0},
		} {
			o := runOddDay(t, m.name, m.params, c.holidays, c.value, c.stays)
			name := m.name + m.params + ", " + c.name
			if n := o.alarms[oddMonday]; n > c.most {
				t.Errorf("%s: %d samples alarm on the day", name, n)
			}
			if e := o.off[oddMonday]; c.onDay > 0 && m.weekly && e > m.off+c.onDay {
				t.Errorf("%s: the expected value is off by %.1f on the day", name, e)
			}
			if n := o.alarms[oddMonday+1] + o.alarms[oddMonday+2]; n > 4 {
				t.Errorf("%s: %d samples alarm on the next two days", name, n)
			}
			if n, e := o.alarms[oddMonday+7], o.off[oddMonday+7]; c.after > 0 && (n > 2 || e > m.off+c.after) {
				t.Errorf("%s: a week later %d alarm and the expected value is off by %.1f", name, n, e)
			}
			if e := o.off[oddMonday+21]; c.stays && e > m.off+6 && m.name != "holt_winters" || !c.stays && e > m.off+3 {
				t.Errorf("%s: three weeks later the expected value is off by %.1f", name, e)
			}
		}
		if o := runOddDay(t, m.name, m.params, known, office, false); m.weekly && o.off[oddMonday] < 5 {
			t.Errorf("%s: a holiday on which people work is expected right, off by %.1f", m.name, o.off[oddMonday])
		}
	}
}
