package detect_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"aiops/internal/detect"
)

// region counts made-up scores of a detector: each sample of each series has
// the score score(series, r).
func region(series, steps int, score func(s, step int, r *rand.Rand) float64) (*detect.Exceedances, []detect.Cluster) {
	var x detect.Exceedances
	var step detect.Tally
	clusters := make([]detect.Cluster, series)
	r := rand.New(rand.NewPCG(5, 6))
	for i := range steps {
		for s := range clusters {
			x.Count(&step, &clusters[s], score(s, i, r), 1)
		}
		x.Add(&step)
		if i%64 == 0 {
			x.Turn(series)
		}
	}
	return &x, clusters
}

// exact is a score as it should be: above x with the probability 10^-x.
func exact(r *rand.Rand) float64 { return -math.Log10(1 - r.Float64()) }

func TestExceedancesFindTheRealRate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		score func(r *rand.Rand) float64
		want  float64 // for 4
	}{
		{"exact", exact, 4},
		{"five times too often", func(r *rand.Rand) float64 { return exact(r) + 0.7 }, 4.7},
		{"a tail too light", func(r *rand.Rand) float64 { return 1.2 * exact(r) }, 4.8},
		{"half as often", func(r *rand.Rand) float64 { return max(exact(r)-0.3, 0) }, 3.7},
	} {
		x, _ := region(300, 2048, func(_, _ int, r *rand.Rand) float64 { return c.score(r) })
		if got := x.Threshold(4, 300); math.Abs(got-c.want) > 0.2 {
			t.Errorf("%s: threshold %.2f instead of %.2f", c.name, got, c.want)
		}
		if got := x.Real(c.want, 300); math.Abs(got-4) > 0.2 {
			t.Errorf("%s: a score of %.2f stands for %.2f", c.name, c.want, got)
		}
		if x.Basis(4) != detect.BasisCounted || x.Basis(7) != detect.BasisExtrapolated {
			t.Errorf("%s: 4 is %v, 7 is %v", c.name, x.Basis(4), x.Basis(7))
		}
	}
	var none detect.Exceedances
	if none.Threshold(4, 300) != 4 || none.Basis(4) != detect.BasisAssumed || none.Real(4, 1) != 4 {
		t.Error("without any count scores are not taken at their word")
	}
}

// Broken series and incidents must not silence the rest: the threshold moves by
// about one at most, so that a fault that scores clearly more is still found. The
// control has the same scores in every series all the time, which is no
// contamination and has to move it.
func TestExceedancesResistContamination(t *testing.T) {
	t.Parallel()
	const series = 1000
	clean, _ := region(series, 2048, func(_, _ int, r *rand.Rand) float64 { return exact(r) })
	for _, c := range []struct {
		name  string
		score func(s, step int, r *rand.Rand) float64
		most  float64
	}{
		{"1 % of series have a fault each", func(s, step int, r *rand.Rand) float64 {
			if s%100 == 0 && step/12 == 100+s/100 {
				return 12
			}
			return exact(r)
		}, 1.0},
		{"1 % of series are broken and alarm all the time", func(s, step int, r *rand.Rand) float64 {
			if s%100 == 0 && step%5 == 0 {
				return 12
			}
			return exact(r)
		}, 1.2},
		{"an incident in all series", func(_, step int, r *rand.Rand) float64 {
			if step > 1500 && step < 1510 {
				return 12
			}
			return exact(r)
		}, 0.8},
	} {
		x, _ := region(series, 2048, c.score)
		for _, asked := range []float64{4, 5, 6, 7} {
			if up := x.Threshold(asked, series) - clean.Threshold(asked, series); up > c.most || up < -0.1 {
				t.Errorf("%s: the threshold for %g moves by %.2f", c.name, asked, up)
			}
		}
	}
	x, _ := region(series, 2048, func(s, step int, r *rand.Rand) float64 { return 1.5 * exact(r) })
	if up := x.Threshold(4, series) - clean.Threshold(4, series); up < 1 {
		t.Errorf("the threshold moves by %.2f only where all scores are too high", up)
	}
}

// One series cannot raise its own threshold by much, whatever it does.
func TestExceedancesOfOneSeries(t *testing.T) {
	t.Parallel()
	x, _ := region(1, 20_000, func(_, _ int, r *rand.Rand) float64 { return exact(r) + 2 })
	if got := x.Threshold(3, 1); got > 3.15 {
		t.Errorf("threshold %.2f instead of 3", got)
	}
}

// Neither the order of the series nor a snapshot changes anything.
func TestExceedancesAreDeterministic(t *testing.T) {
	t.Parallel()
	const series, steps = 50, 3000
	run := func(order func(i int) int, restart int) []byte {
		var x detect.Exceedances
		var step detect.Tally
		clusters := make([]detect.Cluster, series)
		for i := range steps {
			for k := range series {
				s := order(k)
				r := rand.New(rand.NewPCG(uint64(s), uint64(i)))
				x.Count(&step, &clusters[s], 1.3*exact(r), 1)
			}
			x.Add(&step)
			if i%64 == 0 {
				x.Turn(series)
			}
			if i == restart {
				var ok bool
				if x, ok = detect.ReadExceedances(x.Append(nil)); !ok {
					t.Fatal("a record does not read back")
				}
				for s, c := range clusters {
					clusters[s] = detect.ClusterOf(c.Bytes())
				}
			}
		}
		return x.Append(nil)
	}
	want := run(func(i int) int { return i }, -1)
	if got := run(func(i int) int { return series - 1 - i }, 1777); string(got) != string(want) {
		t.Error("order or restart changed the record")
	}
	for i := range want {
		if _, ok := detect.ReadExceedances(want[:i]); ok {
			t.Errorf("a record cut off at %d of %d bytes was read", i, len(want))
		}
	}
	if len(want) > 250 {
		t.Errorf("a record has %d bytes", len(want))
	}
}

// Series with one rhythm have their rare samples in the same hour of the week: no
// incident, but what the budget is to hold. The control, as many in a single week, is
// one, and hardly counts.
func TestExceedancesOfARhythm(t *testing.T) {
	t.Parallel()
	const series, week = 1000, 168
	rhythm := func(once bool) float64 {
		x, _ := region(series, 4096, func(_, step int, r *rand.Rand) float64 {
			if step%week == 0 && (!once || step/week == 20) {
				return exact(r) + math.Log10(week)
			}
			return min(exact(r), 2)
		})
		return x.Threshold(4, series)
	}
	if got := rhythm(false); math.Abs(got-4) > 0.15 {
		t.Errorf("rare samples in the same hour of every week: threshold %.2f instead of 4", got)
	}
	if got := rhythm(true); got > 3.5 {
		t.Errorf("in a single hour: threshold %.2f", got)
	}
}

// Where counts end the tail goes on as it fell off below: one that is longer or shorter than
// promised from level 3 on is followed to where 1.6 exceedances are to be expected. The control,
// scores that are exact, stays where it is.
func TestExceedancesGoOn(t *testing.T) {
	t.Parallel()
	const samples, asked = 500_000, 5.5
	for _, c := range []struct {
		length, least, most float64
	}{{1.25, 5.98, 6.2}, {1, 5.4, 5.6}, {0.8, 4.9, 5.08}} {
		record := binary.AppendUvarint([]byte{3}, samples)
		record = append(record, 57)
		for i := range 57 {
			l := 1 + 0.25*float64(i)
			if l > 3 {
				l = 3 + (l-3)/c.length
			}
			record = binary.AppendUvarint(record, uint64(math.Round(samples*math.Pow(10, -l))))
		}
		x, ok := detect.ReadExceedances(record)
		if !ok {
			t.Fatal("the record cannot be read")
		}
		if got := x.Threshold(asked, 100); got < c.least || got > c.most {
			t.Errorf("a tail %g times as long as promised: threshold %.2f, want %g to %g (exactly %.2f)", c.length, got, c.least, c.most, 3+(asked-3)*c.length)
		}
	}
}
