package bench

import (
	"math"
	"math/rand/v2"
	"sort"
	"testing"
)

// referenceVUS is the definition written out row by row, without any of the
// shortcuts of VUSPR.
func referenceVUS(scores []float64, labels []bool, window int) float64 {
	n := len(scores)
	sorted := append([]float64(nil), scores...)
	sort.Float64s(sorted)
	spans := labelSpans(labels)
	var volume float64
	for buffer := 0; buffer <= window; buffer++ {
		soft := make([]float64, n)
		for i := range labels {
			if labels[i] {
				soft[i] = 1
			}
			for _, s := range spans {
				d := max(s.First-i, i-s.Last)
				if d > 0 && d <= buffer/2 && !labels[i] {
					soft[i] = math.Min(1, soft[i]+math.Sqrt(1-float64(d)/float64(buffer)))
				}
			}
		}
		var area, before float64
		for k := range vusThresholds {
			threshold := sorted[n-1-int(float64(k)*float64(n-1)/float64(vusThresholds-1))]
			var tp, predicted, positives, weights float64
			for i, s := range scores {
				hit := s >= threshold
				predicted += bit(hit)
				positives += bit(labels[i])
				if labels[i] {
					weights++
				} else if hit {
					weights += soft[i]
				}
				if hit {
					tp += soft[i]
				}
			}
			found, segments := 0.0, 0.0
			for i := 0; i < len(spans); {
				end, hit := spans[i].Last+buffer/2, false
				at := max(0, spans[i].First-buffer/2)
				for i++; i < len(spans) && spans[i].First-buffer/2 <= end; i++ {
					end = spans[i].Last + buffer/2
				}
				for ; at <= end && at < n; at++ {
					hit = hit || scores[at] >= threshold
				}
				segments++
				found += bit(hit)
			}
			recall := math.Min(1, tp/((positives+weights)/2)) * found / segments
			area += (recall - before) * tp / predicted
			before = recall
		}
		volume += area
	}
	return volume / float64(window+1)
}

func TestVUSPRMatchesItsDefinition(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		n := 80 + r.IntN(120)
		scores, labels := make([]float64, n), make([]bool, n)
		for i := range scores {
			scores[i] = math.Round(20 * r.Float64())
		}
		for range 3 {
			at := r.IntN(n - 12)
			for i := at; i < at+1+r.IntN(5); i++ {
				labels[i] = true
				scores[i] += 8 * r.Float64()
			}
		}
		window := r.IntN(20)
		got, want := VUSPR(scores, labels, window), referenceVUS(scores, labels, window)
		if math.Abs(got-want) > 1e-9 {
			t.Fatalf("n %d, window %d: %v, want %v", n, window, got, want)
		}
	}
}

func TestVUSPRInvariants(t *testing.T) {
	t.Parallel()
	const n = 1000
	labels := make([]bool, n)
	scores := make([]float64, n)
	for i := 400; i < 500; i++ {
		labels[i] = true
		scores[i] = 1
	}
	if got := VUSPR(scores, labels, 0); math.Abs(got-1) > 1e-12 {
		t.Errorf("perfect score without buffer: %v, want 1", got)
	}
	if got := VUSPR(make([]float64, n), labels, 0); math.Abs(got-0.1) > 1e-12 {
		t.Errorf("constant score: %v, want the share of labelled rows 0.1", got)
	}
	noisy, scaled := make([]float64, n), make([]float64, n)
	r := rand.New(rand.NewPCG(5, 6))
	for i := range noisy {
		noisy[i] = scores[i] + 2*r.Float64()
		scaled[i] = math.Exp(noisy[i])
	}
	if a, b := VUSPR(noisy, labels, 10), VUSPR(scaled, labels, 10); a != b {
		t.Errorf("an increasing change of the scores changed %v to %v", a, b)
	}
	if got := VUSPR(scores, make([]bool, n), 10); !math.IsNaN(got) {
		t.Errorf("without labels: %v, want NaN", got)
	}
}

func TestVUSWindow(t *testing.T) {
	t.Parallel()
	wave := make([]float64, 5000)
	for i := range wave {
		wave[i] = math.Sin(2 * math.Pi * float64(i) / 60)
	}
	if got := vusWindow(wave); got != 60 {
		t.Errorf("a wave of 60 rows: %d", got)
	}
	if got := vusWindow(make([]float64, 5000)); got != 125 {
		t.Errorf("a constant: %d, want the fallback 125", got)
	}
}
