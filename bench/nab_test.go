package bench

import (
	"math"
	"math/rand/v2"
	"testing"
)

// nabCorpus has two files of 200 rows (30 on probation) with one window each.
func nabCorpus(scores func(file, row int) float64) []NABSeries {
	corpus := []NABSeries{
		{Windows: []Span{{100, 119}}},
		{Windows: []Span{{50, 59}}},
	}
	for f := range corpus {
		for i := range 200 {
			corpus[f].Scores = append(corpus[f].Scores, scores(f, i))
		}
	}
	return corpus
}

func TestNABKnownScores(t *testing.T) {
	t.Parallel()
	first := [2]int{100, 50}
	detectors := map[string]func(file, row int) float64{
		"null":    func(int, int) float64 { return 0.5 },
		"perfect": func(f, i int) float64 { return bit(i == first[f]) },
		"one":     func(f, i int) float64 { return bit(f == 0 && i == first[f]) },
		"early":   func(_, i int) float64 { return bit(i < 30) }, // probation only
	}
	want := map[string]float64{"null": 0, "perfect": 100, "one": 50, "early": 0}
	for name, scores := range detectors {
		for _, p := range NABProfiles() {
			_, got := NABOptimise(nabCorpus(scores), p)
			if math.Abs(got-want[name]) > 1e-9 {
				t.Errorf("%s under %s: score %v, want %v", name, p.Name, got, want[name])
			}
		}
	}
}

// The figures of this test were computed by hand from the published formula.
func TestNABByHand(t *testing.T) {
	t.Parallel()
	sigmoid := func(x float64) float64 { return 2/(1+math.Exp(5*x)) - 1 }
	standard := NABProfiles()[0]
	// The middle of the first window (row 110 of 100..119) and an alarm 5 rows
	// behind the second window (50..59): position 5/9.
	corpus := nabCorpus(func(f, i int) float64 { return bit(f == 0 && i == 110 || f == 1 && i == 64) })
	raw := sigmoid(-10.0/20)/sigmoid(-1) - 1 + 0.11*sigmoid(5.0/9)
	if got, want := NABScore(corpus, standard, 1), 100*(raw+2)/4; math.Abs(got-want) > 1e-9 {
		t.Errorf("score %v, want %v", got, want)
	}
	// An alarm before any window costs the whole weight, once per row.
	corpus = nabCorpus(func(f, i int) float64 { return bit(f == 0 && (i == 40 || i == 41)) })
	if got, want := NABScore(corpus, standard, 1), 100*(-0.22)/4; math.Abs(got-want) > 1e-9 {
		t.Errorf("score %v, want %v", got, want)
	}
	// More than three widths behind a window it costs the whole weight again.
	corpus = nabCorpus(func(f, i int) float64 { return bit(f == 1 && i == 150) })
	if got, want := NABScore(corpus, standard, 1), 100*(-0.11)/4; math.Abs(got-want) > 1e-9 {
		t.Errorf("score %v, want %v", got, want)
	}
	// A second alarm in a window changes nothing; a missed window costs twice
	// under the last profile.
	corpus = nabCorpus(func(f, i int) float64 { return bit(f == 0 && i >= 100 && i < 110) })
	if got, want := NABScore(corpus, NABProfiles()[2], 1), 100*(1.0-2+4)/6; math.Abs(got-want) > 1e-9 {
		t.Errorf("score %v, want %v", got, want)
	}
}

func TestNABOptimiseFindsTheBestThreshold(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	corpus := nabCorpus(func(f, i int) float64 {
		return math.Round(10*(r.Float64()+bit(f == 0 && i == 104)*0.5)) / 10
	})
	for _, p := range NABProfiles() {
		threshold, best := NABOptimise(corpus, p)
		if got := NABScore(corpus, p, threshold); math.Abs(got-best) > 1e-9 {
			t.Errorf("%s: scoring at the threshold gives %v, the sweep said %v", p.Name, got, best)
		}
		for _, at := range []float64{0, 0.3, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.4, 1.5, 2} {
			if got := NABScore(corpus, p, at); got > best+1e-9 {
				t.Errorf("%s: threshold %v gives %v, more than the best %v", p.Name, at, got, best)
			}
		}
	}
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
