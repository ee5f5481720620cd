package builtin

import (
	"math"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// processLimit is how many values of this process are taken in one round.
const processLimit = 20_000

// readGatherers reads this process' own metrics, as a scrape of /metrics would.
// What could be gathered counts even when a part failed.
func readGatherers(gatherers prometheus.Gatherers) func(*emitter) error {
	return func(e *emitter) error {
		families, err := gatherers.Gather()
		for _, f := range families {
			for _, m := range f.GetMetric() {
				emitMetric(e, f.GetName(), m)
			}
		}
		return err
	}
}

func emitMetric(e *emitter, name string, m *dto.Metric) {
	pairs := make([]string, 0, 2*len(m.GetLabel())+2)
	for _, l := range m.GetLabel() {
		pairs = append(pairs, exported(l.GetName()), l.GetValue())
	}
	switch {
	case m.Counter != nil:
		e.emit(name, m.Counter.GetValue(), pairs...)
	case m.Gauge != nil:
		e.emit(name, m.Gauge.GetValue(), pairs...)
	case m.Untyped != nil:
		e.emit(name, m.Untyped.GetValue(), pairs...)
	case m.Summary != nil:
		for _, q := range m.Summary.GetQuantile() {
			e.emit(name, q.GetValue(), append(pairs, "quantile", number(q.GetQuantile()))...)
		}
		e.emit(name+"_sum", m.Summary.GetSampleSum(), pairs...)
		e.emit(name+"_count", float64(m.Summary.GetSampleCount()), pairs...)
	case m.Histogram != nil:
		emitHistogram(e, name, m.Histogram, pairs)
	}
}

// emitHistogram writes the classic form. A native histogram has no buckets in
// it; its count and sum are kept.
func emitHistogram(e *emitter, name string, h *dto.Histogram, pairs []string) {
	count := float64(h.GetSampleCount())
	if h.SampleCountFloat != nil && h.GetSampleCountFloat() > 0 {
		count = h.GetSampleCountFloat()
	}
	infinite := false
	for _, b := range h.GetBucket() {
		infinite = infinite || math.IsInf(b.GetUpperBound(), 1)
		n := float64(b.GetCumulativeCount())
		if b.CumulativeCountFloat != nil && b.GetCumulativeCountFloat() > 0 {
			n = b.GetCumulativeCountFloat()
		}
		e.emit(name+"_bucket", n, append(pairs, "le", number(b.GetUpperBound()))...)
	}
	if len(h.GetBucket()) > 0 && !infinite {
		e.emit(name+"_bucket", count, append(pairs, "le", "+Inf")...)
	}
	e.emit(name+"_sum", h.GetSampleSum(), pairs...)
	e.emit(name+"_count", count, pairs...)
}

// exported renames a label that a scrape sets itself.
func exported(name string) string {
	if name == labelJob || name == labelInstance {
		return "exported_" + name
	}
	return name
}

// number writes a float as OpenMetrics does and as Prometheus stores bounds: a
// whole number has a fraction, so that the labels of a bound are the same
// however it was scraped.
func number(v float64) string {
	text := strconv.FormatFloat(v, 'g', -1, 64)
	if strings.ContainsAny(text, ".eIN") {
		return text
	}
	return text + ".0"
}
