package bench

import (
	"math"
	"sort"
)

// vusThresholds is the number of thresholds on the curve, as in TSB-AD.
const vusThresholds = 250

// VUSPR returns the volume under the surface of range-based precision and
// recall (Paparrizos et al. 2022, "Volume Under the Surface", in the form of
// TSB-AD): the mean over the buffer lengths 0 to window of the average
// precision against labels whose edges are softened by that buffer. Scores
// may be of any scale. It is NaN when no row is labelled.
func VUSPR(scores []float64, labels []bool, window int) float64 {
	spans := labelSpans(labels)
	if len(spans) == 0 || len(scores) != len(labels) {
		return math.NaN()
	}
	bucket, predicted := vusBuckets(scores)
	var sum float64
	edge := make([]float64, len(labels))
	for buffer := 0; buffer <= window; buffer++ {
		touched := vusSoftEdges(edge, nil, labels, spans, buffer)
		sum += vusAveragePrecision(labels, spans, bucket, predicted, edge, touched, buffer)
		for _, row := range touched {
			edge[row] = 0
		}
	}
	return sum / float64(window+1)
}

// labelSpans returns the runs of true in labels.
func labelSpans(labels []bool) []Span {
	var spans []Span
	for i := 0; i < len(labels); i++ {
		if !labels[i] {
			continue
		}
		first := i
		for i+1 < len(labels) && labels[i+1] {
			i++
		}
		spans = append(spans, Span{first, i})
	}
	return spans
}

// vusBuckets returns for each row the first threshold at which it counts as
// predicted, and for each threshold how many rows do. Thresholds are scores at
// evenly spaced ranks.
func vusBuckets(scores []float64) (bucket []int, predicted []float64) {
	sorted := append([]float64(nil), scores...)
	sort.Sort(sort.Reverse(sort.Float64Slice(sorted)))
	n := len(sorted)
	thresholds := make([]float64, vusThresholds)
	for k := range thresholds {
		thresholds[k] = sorted[int(float64(k)*float64(n-1)/float64(vusThresholds-1))]
	}
	bucket = make([]int, n)
	predicted = make([]float64, vusThresholds)
	for i, s := range scores {
		b := sort.Search(vusThresholds, func(k int) bool { return s >= thresholds[k] })
		bucket[i] = b
		if b < vusThresholds {
			predicted[b]++
		}
	}
	for k := 1; k < vusThresholds; k++ {
		predicted[k] += predicted[k-1]
	}
	return bucket, predicted
}

// vusAveragePrecision is the average precision for one buffer length.
func vusAveragePrecision(labels []bool, spans []Span, bucket []int, predicted, edge []float64, touched []int, buffer int) float64 {
	n := len(labels)
	half := buffer / 2
	weight := make([]float64, vusThresholds+1) // soft labels by the threshold that reaches them
	var positives float64
	for _, s := range spans {
		for i := s.First; i <= s.Last; i++ {
			weight[bucket[i]]++
			positives++
		}
	}
	softWeight := make([]float64, vusThresholds+1)
	for _, row := range touched {
		weight[bucket[row]] += edge[row]
		softWeight[bucket[row]] += edge[row]
	}
	reached := make([]float64, vusThresholds+1) // merged segments by the threshold that touches them first
	segments := 0
	for i := 0; i < len(spans); segments++ {
		first := max(spans[i].First-half, 0)
		for i+1 < len(spans) && spans[i].Last+half >= spans[i+1].First-half {
			i++
		}
		last := min(spans[i].Last+half, n-1)
		i++
		lowest := vusThresholds
		for r := first; r <= last; r++ {
			lowest = min(lowest, bucket[r])
		}
		reached[lowest]++
	}
	var truePositive, softSeen, existence, recallBefore, area float64
	for k := 0; k < vusThresholds; k++ {
		truePositive += weight[k]
		softSeen += softWeight[k]
		existence += reached[k]
		if predicted[k] == 0 {
			continue
		}
		all := (positives + positives + softSeen) / 2
		recall := math.Min(truePositive/all, 1) * existence / float64(segments)
		area += (recall - recallBefore) * truePositive / predicted[k]
		recallBefore = recall
	}
	return area
}

// vusSoftEdges writes into edge the weight of the rows within half a buffer of
// a span, which falls off with the square root of the distance. Where two
// spans reach the same row the weights add up to at most 1. It returns the
// rows it wrote to.
func vusSoftEdges(edge []float64, touched []int, labels []bool, spans []Span, buffer int) []int {
	half := buffer / 2
	add := func(row, distance int) {
		if row < 0 || row >= len(labels) || labels[row] {
			return
		}
		if edge[row] == 0 {
			touched = append(touched, row)
		}
		edge[row] = math.Min(1, edge[row]+math.Sqrt(1-float64(distance)/float64(buffer)))
	}
	for _, s := range spans {
		for d := 1; d <= half; d++ {
			add(s.Last+d, d)
			add(s.First-d, d)
		}
	}
	return touched
}

// vusWindow returns the buffer length for VUSPR as TSB-AD chooses it: the lag
// of the highest local maximum of the autocorrelation of the first 20,000
// values between 3 and 300, or 125 when there is none.
func vusWindow(values []float64) int {
	const fallback, most, lags = 125, 300, 400
	if len(values) > 20000 {
		values = values[:20000]
	}
	var mean float64
	for _, v := range values {
		mean += v / float64(len(values))
	}
	correlation := make([]float64, 0, lags+1)
	for lag := 0; lag <= lags && lag < len(values); lag++ {
		var sum float64
		for i := lag; i < len(values); i++ {
			sum += (values[i] - mean) * (values[i-lag] - mean)
		}
		correlation = append(correlation, sum)
	}
	if len(correlation) < 6 || correlation[0] <= 0 {
		return fallback
	}
	best := -1
	const base = 3
	for lag := base + 1; lag+1 < len(correlation); lag++ {
		if correlation[lag] > correlation[lag-1] && correlation[lag] > correlation[lag+1] &&
			(best < 0 || correlation[lag] > correlation[best]) {
			best = lag
		}
	}
	if best < base || best > most {
		return fallback
	}
	return best
}
