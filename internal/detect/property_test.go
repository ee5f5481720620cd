package detect_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"aiops/internal/detect"
	"aiops/internal/model"
)

// everyModel returns a Spec of each model in the table, by name.
func everyModel() []detect.Spec {
	var specs []detect.Spec
	for _, info := range detect.Names() {
		s := detect.Spec{Model: info.Name, Step: 15 * time.Minute, TimeZone: "Europe/Berlin", Seed: 7}
		if info.Name == "threshold" {
			s.Parameters = json.RawMessage(`{"above": 90, "below": -5}`)
		}
		specs = append(specs, s)
	}
	return append(specs, detect.Spec{Model: "holt_winters", Parameters: json.RawMessage(`{"season": 0}`), Step: 15 * time.Minute,
		TimeZone: "Europe/Berlin", Seed: 7})
}

func mustNew(t interface {
	Helper()
	Fatalf(string, ...any)
}, s detect.Spec) detect.Model {
	t.Helper()
	m, err := detect.New(s)
	if err != nil {
		t.Fatalf("making %s: %v", s.Model, err)
	}
	return m
}

// forEvery runs f for each model in each direction.
func forEvery(t *testing.T, f func(t *testing.T, s detect.Spec)) {
	t.Helper()
	t.Parallel()
	for _, s := range everyModel() {
		for _, d := range []model.Direction{model.DirectionBoth, model.DirectionAbove, model.DirectionBelow} {
			if raceEnabled && slow[s.Model] && d != model.DirectionBoth {
				continue
			}
			s := s
			s.Direction = d
			t.Run(fmt.Sprintf("%s/%s", s.Model, d), func(t *testing.T) {
				t.Parallel()
				f(t, s)
			})
		}
	}
}

// drawSeries makes a series of several regimes: noise, rhythm, constants,
// whole numbers, counters, shifts, gaps, spikes, tiny and huge values, NaN.
func drawSeries(t *rapid.T, step time.Duration) []model.Sample {
	start := time.Date(2026, time.March, 20, 0, 0, 0, 0, time.UTC).UnixMilli()
	n := rapid.IntRange(0, 500).Draw(t, "n")
	noise := detectNoise(rapid.Uint64().Draw(t, "seed"))
	samples := make([]model.Sample, 0, n)
	at, level, scale, kind := start, 10.0, 1.0, 0
	for len(samples) < n {
		length := rapid.IntRange(1, 200).Draw(t, "length")
		kind = rapid.IntRange(0, 6).Draw(t, "kind")
		level = rapid.SampledFrom([]float64{0, 10, -3, 1e6, 1e-300, 1e300, -1e300, 0.1, math.Copysign(0, -1)}).Draw(t, "level")
		scale = rapid.SampledFrom([]float64{0, 1, 1e-9, 1e5, 1e-300, 1e299}).Draw(t, "scale")
		for range min(length, n-len(samples)) {
			e := noise()
			v := level + scale*e
			switch kind {
			case 1:
				v = level
			case 2:
				v = math.Round(3 * e)
			case 3:
				v = level + scale*math.Sin(float64(at)/13.75e6)
			case 4:
				if e > 1.9 {
					v = 1e3 * scale * e
				}
			case 5:
				v = rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, level}).Draw(t, "special")
			}
			samples = append(samples, model.Sample{T: at, V: v})
			at += step.Milliseconds()
		}
		at += step.Milliseconds() * rapid.SampledFrom([]int64{0, 0, 0, 1, 40, 3000}).Draw(t, "gap")
	}
	return samples
}

// detectNoise returns a generator of numbers between -2 and 2.
func detectNoise(seed uint64) func() float64 {
	return func() float64 {
		seed ^= seed << 13
		seed += 0x9e3779b97f4a7c15
		seed ^= seed >> 7
		seed ^= seed << 17
		return float64(seed>>11)/(1<<51) - 2
	}
}

func sameBits(a, b detect.Result) bool {
	same := func(x, y float64) bool {
		return math.Float64bits(x) == math.Float64bits(y) || x != x && y != y
	}
	return same(a.Score, b.Score) && same(a.Expected, b.Expected) && same(a.Lower, b.Lower) && same(a.Upper, b.Upper) &&
		a.Learning == b.Learning && a.Extrapolated == b.Extrapolated && a.Reason == b.Reason
}

func TestSnapshotIsExact(t *testing.T) {
	forEvery(t, func(t *testing.T, s detect.Spec) {
		rapid.Check(t, func(rt *rapid.T) {
			samples := drawSeries(rt, s.Step)
			cut := rapid.IntRange(0, len(samples)).Draw(rt, "cut")
			a := mustNew(rt, s)
			a.SetThreshold(3)
			for _, x := range samples[:cut] {
				detect.Step(a, x.T, x.V)
			}
			snapshot := a.AppendSnapshot([]byte("before"))
			if !bytes.HasPrefix(snapshot, []byte("before")) {
				rt.Fatalf("AppendSnapshot lost what was there")
			}
			snapshot = snapshot[len("before"):]
			b := mustNew(rt, s)
			if err := b.Restore(snapshot); err != nil {
				rt.Fatalf("restoring: %v", err)
			}
			if again := b.AppendSnapshot(nil); !bytes.Equal(snapshot, again) {
				rt.Fatalf("the restored model has another snapshot: %d and %d bytes", len(snapshot), len(again))
			}
			for _, x := range samples[cut:] {
				if p, q := detect.Step(a, x.T, x.V), detect.Step(b, x.T, x.V); !sameBits(p, q) {
					rt.Fatalf("at %d value %v:\nwithout restart %+v\nafter restart   %+v", x.T, x.V, p, q)
				}
			}
			if !bytes.Equal(a.AppendSnapshot(nil), b.AppendSnapshot(nil)) {
				rt.Fatalf("the snapshots differ at the end")
			}
		})
	})
}

func TestScoreChangesNothing(t *testing.T) {
	forEvery(t, func(t *testing.T, s detect.Spec) {
		rapid.Check(t, func(rt *rapid.T) {
			samples := drawSeries(rt, s.Step)
			scored, plain := mustNew(rt, s), mustNew(rt, s)
			for i, x := range samples {
				r := scored.Score(x.T, x.V)
				checkResult(rt, x.V, r)
				if i%37 == 0 {
					before := scored.AppendSnapshot(nil)
					scored.Score(x.T+86_400_000, 2*x.V+1)
					scored.Contributions()
					scored.Describe()
					if !sameBits(r, scored.Score(x.T, x.V)) {
						rt.Fatalf("the second score of %v at %d differs", x.V, x.T)
					}
					if !bytes.Equal(before, scored.AppendSnapshot(nil)) {
						rt.Fatalf("scoring changed the snapshot")
					}
				}
				if i%5 == 0 {
					scored.Score(x.T, x.V+1)
				}
				scored.Learn(x.T, x.V)
				plain.Learn(x.T, x.V)
			}
			if !bytes.Equal(scored.AppendSnapshot(nil), plain.AppendSnapshot(nil)) {
				rt.Fatalf("learning with and without scores gives different states")
			}
		})
	})
}

// checkResult holds a result against its contract.
func checkResult(rt *rapid.T, v float64, r detect.Result) {
	switch {
	case !(r.Score >= 0 && r.Score <= detect.MaxScore):
		rt.Fatalf("score of %v is not between 0 and %d: %+v", v, detect.MaxScore, r)
	case math.IsNaN(r.Lower) != math.IsNaN(r.Upper):
		rt.Fatalf("half a band: %+v", r)
	case r.Lower > r.Upper || r.Expected < r.Lower || r.Expected > r.Upper:
		rt.Fatalf("the band does not hold the expected value: %+v", r)
	case (math.IsNaN(v) || math.IsInf(v, 0)) && (r.Score != 0 || r.Reason != detect.ReasonNotANumber):
		rt.Fatalf("%v: %+v", v, r)
	}
}

func TestLearningIgnoresWhatIsNoSample(t *testing.T) {
	forEvery(t, func(t *testing.T, s detect.Spec) {
		m := mustNew(t, s)
		for i := range 300 {
			detect.Step(m, int64(i)*s.Step.Milliseconds(), float64(i%7))
		}
		before := m.AppendSnapshot(nil)
		last := 299 * s.Step.Milliseconds()
		for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			detect.Step(m, last+s.Step.Milliseconds(), v)
		}
		detect.Step(m, last, 5) // time stands still
		detect.Step(m, last-1, 5)
		if !bytes.Equal(before, m.AppendSnapshot(nil)) {
			t.Error("the state changed")
		}
	})
}

// The end of the band is the inverse of the score at the threshold.
func TestBandIsWhereTheScoreIsTheThreshold(t *testing.T) {
	forEvery(t, func(t *testing.T, s detect.Spec) {
		rapid.Check(t, func(rt *rapid.T) {
			m := mustNew(rt, s)
			samples := drawSeries(rt, s.Step)
			size := 0.0
			for _, x := range samples {
				m.Learn(x.T, x.V)
				if v := math.Abs(x.V); v <= math.MaxFloat64 {
					size = max(size, v)
				}
			}
			threshold := rapid.Float64Range(0.5, 12).Draw(rt, "threshold")
			m.SetThreshold(threshold)
			at := int64(1)
			if len(samples) > 0 {
				at = samples[len(samples)-1].T + s.Step.Milliseconds()
			}
			r := m.Score(at, 0)
			if math.IsNaN(r.Lower) || s.Model == "threshold" || s.Model == "auto" || s.Model == "deep" {
				return
			}
			for _, end := range []float64{r.Lower, r.Upper} {
				if math.Abs(end-r.Expected) < 1e-12*size {
					continue // narrower than what arithmetic with the largest sample resolves
				}
				checkEnd(rt, m, at, r.Expected, end, threshold)
			}
		})
	})
}

func checkEnd(rt *rapid.T, m detect.Model, at int64, expected, end, threshold float64) {
	width := end - expected
	if math.IsInf(end, 0) || math.Abs(end) > 1e149 || width == 0 || math.Abs(width) < 1e-9*math.Abs(expected) {
		return // no end, beyond the values that are told apart, or below the resolution of float64
	}
	// The end of a pattern's band is found by search and its score has steps:
	// it has to cross the threshold somewhere near.
	tolerance, points := 1e-5, 1
	if name, _ := m.Describe(); slow[name] || name == "counts" {
		tolerance, points = 3e-4, 64
	}
	outside, inside := 0.0, math.Inf(1)
	for i := 1; i <= points; i++ {
		off := tolerance * float64(i) / float64(points)
		outside = max(outside, m.Score(at, expected+width*(1+off)).Score)
		inside = min(inside, m.Score(at, expected+width*(1-off)).Score)
	}
	if !(outside > threshold) {
		rt.Fatalf("just outside %v (expected %v) the score %v does not exceed the threshold %v", end, expected, outside, threshold)
	}
	if inside > threshold+1e-9 {
		rt.Fatalf("just inside %v (expected %v) the score %v exceeds the threshold %v", end, expected, inside, threshold)
	}
}

func TestRestoreRefusesOtherSnapshots(t *testing.T) {
	t.Parallel()
	specs := everyModel()
	for i, s := range specs {
		m := mustNew(t, s)
		for k := range 400 {
			detect.Step(m, int64(k)*s.Step.Milliseconds(), float64(k%13))
		}
		good := m.AppendSnapshot(nil)
		other := specs[(i+1)%len(specs)]
		var fault *detect.SnapshotError
		if err := mustNew(t, other).Restore(good); !errors.As(err, &fault) {
			t.Errorf("%s restored a snapshot of %s: %v", other.Model, s.Model, err)
		}
		coarser := s
		coarser.Step *= 2
		if err := mustNew(t, coarser).Restore(good); !errors.As(err, &fault) {
			t.Errorf("%s restored a snapshot of another step: %v", s.Model, err)
		}
		for cut := range good {
			if err := m.Restore(good[:cut]); !errors.As(err, &fault) {
				t.Fatalf("%s restored the first %d of %d bytes: %v", s.Model, cut, len(good), err)
			}
		}
		bad := bytes.Clone(good)
		for at := range bad {
			bad[at] ^= 0x10
			if err := m.Restore(bad); !errors.As(err, &fault) {
				t.Fatalf("%s restored a snapshot with byte %d changed: %v", s.Model, at, err)
			}
			bad[at] ^= 0x10
		}
		if !bytes.Equal(good, m.AppendSnapshot(nil)) {
			t.Errorf("%s: a refused snapshot changed the model", s.Model)
		}
	}
}
