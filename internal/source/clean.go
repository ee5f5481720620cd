package source

import (
	"cmp"
	"slices"

	"github.com/prometheus/prometheus/model/value"

	"aiops/internal/model"
)

// Cleaned counts what Clean did to samples. The zero value is ready to use.
type Cleaned struct {
	Stale      int // stale markers, dropped
	Misaligned int // samples at times that were not asked for, dropped
	Duplicates int // samples replaced by a later one of the same time
	Reordered  int // samples that came before an earlier one
	Histograms int // native histogram samples, which have no single value, dropped
	Series     int // series that came twice and were joined
}

// Add adds o to c.
func (c *Cleaned) Add(o Cleaned) {
	c.Stale += o.Stale
	c.Misaligned += o.Misaligned
	c.Duplicates += o.Duplicates
	c.Reordered += o.Reordered
	c.Histograms += o.Histograms
	c.Series += o.Series
}

// Any reports whether anything was dropped or moved.
func (c Cleaned) Any() bool { return c != Cleaned{} }

// Clean brings samples into the form that leaves this package, in place:
// without stale markers, only times of span, in order of time, one per time,
// where the one that came last wins. NaN and the infinities stay: a query may
// well compute them (0/0), and what they mean is for the pipeline to judge. A
// stale marker is not such a value, it says that the series ended. Samples that
// are clean already cost one pass and no allocation.
func Clean(samples []model.Sample, span Span) ([]model.Sample, Cleaned) {
	var did Cleaned
	kept := samples[:0]
	sorted := true
	for _, s := range samples {
		switch {
		case value.IsStaleNaN(s.V):
			did.Stale++
			continue
		case !span.Holds(s.T):
			did.Misaligned++
			continue
		}
		if n := len(kept); n > 0 && s.T <= kept[n-1].T {
			if s.T == kept[n-1].T {
				kept[n-1] = s
				did.Duplicates++
				continue
			}
			sorted = false
			did.Reordered++
		}
		kept = append(kept, s)
	}
	if sorted {
		return kept, did
	}
	slices.SortStableFunc(kept, func(a, b model.Sample) int { return cmp.Compare(a.T, b.T) })
	unique := kept[:0]
	for _, s := range kept {
		if n := len(unique); n > 0 && unique[n-1].T == s.T {
			unique[n-1] = s
			did.Duplicates++
			continue
		}
		unique = append(unique, s)
	}
	return unique, did
}

// CleanAnswer cleans every series of an answer and joins series with equal
// labels, of which the later one's samples win. Series without a sample are
// left out. It consumes answer.
func CleanAnswer(answer []model.SeriesData, span Span) ([]model.SeriesData, Cleaned) {
	var did Cleaned
	answer, did.Series = joinDuplicates(answer)
	kept := answer[:0]
	for _, series := range answer {
		samples, d := Clean(series.Samples, span)
		did.Add(d)
		if len(samples) == 0 {
			continue
		}
		kept = append(kept, model.SeriesData{Labels: series.Labels, Samples: samples})
	}
	clear(answer[len(kept):])
	return kept, did
}

func joinDuplicates(answer []model.SeriesData) ([]model.SeriesData, int) {
	if len(answer) < 2 {
		return answer, 0
	}
	at := make(map[uint64]int32, len(answer))
	kept := answer[:0]
	joined := 0
	for _, series := range answer {
		h := hashLabels(series.Labels)
		n, ok := at[h]
		if !ok {
			at[h] = int32(len(kept))
			kept = append(kept, series)
			continue
		}
		if !slices.Equal(kept[n].Labels, series.Labels) {
			// Two label sets share a 64-bit hash: look for the twin the slow way.
			i := slices.IndexFunc(kept, func(k model.SeriesData) bool { return slices.Equal(k.Labels, series.Labels) })
			if i < 0 {
				kept = append(kept, series)
				continue
			}
			n = int32(i)
		}
		kept[n].Samples = append(kept[n].Samples, series.Samples...)
		joined++
	}
	clear(answer[len(kept):])
	return kept, joined
}
