package detect_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"aiops/internal/detect"
)

// Traffic, latency and the like vary in proportion to their level: calm by night, rough
// by day. From the fourth day on the band of auto stays near the values, three of four
// spikes by half are found (those of the night are small beside what is usual by day), and
// clean days rarely alarm. The series begin on different days of the week, and weekends
// are a quarter lower. The control is the same spike in a series whose deviations are ten
// times as large.
func TestNoiseInProportionToTheLevel(t *testing.T) {
	t.Parallel()
	const days, known, noise = 21, 4, 0.03
	for seed := range uint64(6) {
		width, found, asked, episodes := proportional(t, seed, noise, days, known)
		if width > 1.25 {
			t.Errorf("seed %d: the band is %.3g times as wide as the value is high", seed, width)
		}
		if found < 0.75*asked {
			t.Errorf("seed %d: %.0f of %.0f spikes by half are found", seed, found, asked)
		}
		if episodes > 3*days/7*2.5 {
			t.Errorf("seed %d: %.0f alarms in %d days at a budget of 2.5 a week", seed, episodes, days)
		}
	}
	if _, found, asked, _ := proportional(t, 0, 10*noise, days, known); found > 0.1*asked {
		t.Errorf("control: %.0f of %.0f spikes by half are found among deviations of that size", found, asked)
	}
}

// proportional runs auto over days of such a series. It returns the largest width of the
// band at noon and midnight as a multiple of the value then, in how many of the asked
// samples a spike by half would be found, and how many alarms began.
func proportional(t *testing.T, seed uint64, noise float64, days, known int) (width, found, asked, episodes float64) {
	t.Helper()
	m := mustNew(t, detect.Spec{Model: "auto", Step: time.Minute, Seed: 1})
	threshold := detect.Threshold(2.5, time.Minute, 1)
	m.SetThreshold(threshold)
	r := rand.New(rand.NewPCG(seed, 3))
	start := time.Date(2026, time.March, 2+int(seed), 0, 0, 0, 0, time.UTC)
	x, open := 0.0, false
	for i := range days * 1440 {
		at := start.Add(time.Duration(i) * time.Minute)
		level := 1 + 0.5*math.Sin(2*math.Pi*float64(i)/1440)
		if d := at.Weekday(); d == time.Saturday || d == time.Sunday {
			level -= 0.25
		}
		x = 0.7*x + r.NormFloat64()
		v := 200 * level * (1 + noise*x)
		got := detect.Step(m, at.UnixMilli(), v)
		if got.Score > threshold && !open {
			episodes++
		}
		open = got.Score > threshold
		if i >= known*1440 && i%240 == 239 {
			asked++
			if m.Score(at.UnixMilli()+time.Minute.Milliseconds(), 1.5*v).Score > threshold {
				found++
			}
			if i%720 == 719 {
				width = max(width, (got.Upper-got.Lower)/v)
			}
		}
	}
	return width, found, asked, episodes
}
