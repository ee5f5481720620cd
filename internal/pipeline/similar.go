package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"aiops/internal/model"
)

// shapesCompared is how many earlier episodes are compared by shape, which
// needs their evidence.
const shapesCompared = 24

// SimilarEpisode is an earlier episode and why it resembles the one that is
// explained.
type SimilarEpisode struct {
	Anomaly    model.Anomaly
	Similarity float64 // 0 to 1
	Why        string
}

// similar lists earlier episodes of the detector that resemble a, most similar
// first: on the same series, on the same side, of a like size and length, and
// of a like shape in the samples up to the peak.
func (e *Engine) similar(ctx context.Context, a model.Anomaly, ev model.Evidence) ([]SimilarEpisode, error) {
	from := a.StartedAt.Add(-similarDays * 24 * time.Hour)
	before, err := e.store.AnomaliesBetween(ctx, a.DetectorID, from, a.StartedAt, 200)
	if err != nil {
		return nil, fmt.Errorf("reading anomalies: %w", err)
	}
	var out []SimilarEpisode
	for _, b := range before {
		if b.ID == a.ID || b.FiredAt.IsZero() || !b.StartedAt.Before(a.StartedAt) {
			continue
		}
		s := SimilarEpisode{Anomaly: b}
		s.Similarity, s.Why = likeness(a, b)
		out = append(out, s)
	}
	bySimilarity := func(x, y SimilarEpisode) int {
		if c := cmp.Compare(y.Similarity, x.Similarity); c != 0 {
			return c
		}
		return y.Anomaly.StartedAt.Compare(x.Anomaly.StartedAt)
	}
	slices.SortStableFunc(out, bySimilarity)
	shape := shapeOf(ev)
	for i := range out[:min(len(out), shapesCompared)] {
		s := &out[i]
		other, err := e.store.Evidence(ctx, s.Anomaly.ID)
		if model.KindOf(err) == model.KindNotFound || shape == nil {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading the evidence of an earlier episode: %w", err)
		}
		r := correlation(shape, shapeOf(other))
		s.Similarity = 0.7*s.Similarity + 0.3*math.Max(0, r)
		if r >= 0.8 {
			s.Why += ", same shape"
		}
	}
	slices.SortStableFunc(out, bySimilarity)
	return out[:min(len(out), maxSimilar)], nil
}

// likeness compares two episodes by what is known without their samples.
func likeness(a, b model.Anomaly) (float64, string) {
	var why []string
	total := 0.0
	add := func(weight, share float64, text string) {
		total += weight * share
		if share >= 0.75 {
			why = append(why, text)
		}
	}
	if a.Series.Key() == b.Series.Key() {
		add(0.4, 1, "same series")
	} else if n := len(a.Series); n > 0 {
		add(0.3, float64(sharedLabels(a.Series, b.Series))/float64(n), "a series with mostly the same labels")
	}
	if (a.Value >= a.Expected) == (b.Value >= b.Expected) {
		add(0.2, 1, "same side")
	}
	add(0.2, closeness(math.Abs(a.Value-a.Expected), math.Abs(b.Value-b.Expected)), "similar size")
	add(0.1, closeness(a.Score, b.Score), "similar surprise")
	if !a.ResolvedAt.IsZero() && !b.ResolvedAt.IsZero() {
		add(0.1, closeness(a.ResolvedAt.Sub(a.StartedAt).Seconds(), b.ResolvedAt.Sub(b.StartedAt).Seconds()), "similar length")
	}
	if len(why) == 0 {
		why = []string{"same detector"}
	}
	return math.Min(total, 1), strings.Join(why, ", ")
}

// closeness is 1 for equal sizes, a half for one twice the other.
func closeness(x, y float64) float64 {
	if !isFinite(x) || !isFinite(y) {
		return 0
	}
	if x == y {
		return 1
	}
	low, high := math.Min(x, y), math.Max(x, y)
	if low < 0 || high <= 0 {
		return 0
	}
	return low / high
}

// shapePoints is how many samples up to the peak make the shape.
const shapePoints = 20

// shapeOf returns the samples up to the peak, without level and size; nil when
// there are too few.
func shapeOf(ev model.Evidence) []float64 {
	var v []float64
	for _, p := range ev.Context {
		if p.T < ev.Peak.T && isFinite(p.Value) {
			v = append(v, p.Value)
		}
	}
	if v = append(v, ev.Peak.V); len(v) < shapePoints/2 || !isFinite(ev.Peak.V) {
		return nil
	}
	v = v[max(0, len(v)-shapePoints):]
	mean, size := 0.0, 0.0
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for i := range v {
		v[i] -= mean
		size += v[i] * v[i]
	}
	if size = math.Sqrt(size); !(size > 0) || !isFinite(size) {
		return nil
	}
	for i := range v {
		v[i] /= size
	}
	return v
}

// correlation compares the ends of two shapes; 0 when one is missing.
func correlation(a, b []float64) float64 {
	n := min(len(a), len(b))
	sum, sa, sb := 0.0, 0.0, 0.0
	for i := range n {
		x, y := a[len(a)-n+i], b[len(b)-n+i]
		sum += x * y
		sa += x * x
		sb += y * y
	}
	if !(sa > 0 && sb > 0) {
		return 0
	}
	return sum / math.Sqrt(sa*sb)
}
