package source

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
)

// Bounds of a StreamLimiter.
const (
	limitValues = 1_000  // values of one label
	limitTotal  = 20_000 // values of all labels together
	limitNames  = 200    // names of labels
	limitPeriod = time.Hour
)

// OtherValue stands in a label whose values are too many, or of a name that is
// one too many.
const OtherValue = "(other)"

// StreamLimiter keeps the number of streams bounded, whatever labels lines
// come with. Of a label with more than 1,000 different values within an hour,
// further values become OtherValue; so do the values of all labels together
// beyond 20,000, and those of names beyond 200. Values that were known before
// stay as they are, so a flood of new ones changes nothing for others. A source's
// lines are counted by whether their labels were changed.
//
// A StreamLimiter is safe for concurrent use.
type StreamLimiter struct {
	now     func() time.Time
	changed *prometheus.CounterVec

	mu       sync.Mutex
	since    time.Time
	current  map[string]map[string]bool // values by name of this period
	previous map[string]map[string]bool // and of the one before
	total    int
}

// NewStreamLimiter makes a StreamLimiter and registers its metric with reg.
// Now is the clock; nil is time.Now.
func NewStreamLimiter(reg prometheus.Registerer, now func() time.Time) (*StreamLimiter, error) {
	if now == nil {
		now = time.Now
	}
	l := &StreamLimiter{now: now, since: now(), current: map[string]map[string]bool{}, changed: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "aiops_source_lines_relabelled_total",
		Help: "Log lines of which a label's value was replaced, because there are too many different ones.",
	}, []string{"source"})}
	return l, reg.Register(l.changed)
}

// Limit wraps a sink so that it sees a bounded number of streams.
func (l *StreamLimiter) Limit(sink LineSink) LineSink {
	return func(ctx context.Context, source string, lines []model.LogLine) error {
		if n := l.apply(lines); n > 0 {
			l.changed.WithLabelValues(source).Add(float64(n))
		}
		return sink(ctx, source, lines)
	}
}

// apply replaces labels in place and returns of how many lines.
func (l *StreamLimiter) apply(lines []model.LogLine) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.now(); now.Sub(l.since) >= limitPeriod {
		l.previous, l.current, l.total, l.since = l.current, map[string]map[string]bool{}, 0, now
	}
	n := 0
	var last, limited model.Labels
	for i := range lines {
		stream := lines[i].Stream
		if len(stream) == 0 {
			continue
		}
		if len(last) != len(stream) || &last[0] != &stream[0] {
			last, limited = stream, l.limit(stream)
		}
		if &limited[0] != &stream[0] {
			lines[i].Stream = limited
			n++
		}
	}
	return n
}

// limit returns the labels with values replaced, or the same slice.
func (l *StreamLimiter) limit(stream model.Labels) model.Labels {
	out := stream
	for i, label := range stream {
		if l.admit(label) {
			continue
		}
		if &out[0] == &stream[0] {
			out = slices.Clone(stream)
		}
		out[i].Value = OtherValue
	}
	return out
}

// admit reports whether a label may stay as it is, and remembers it.
func (l *StreamLimiter) admit(label model.Label) bool {
	values := l.current[label.Name]
	if values[label.Value] {
		return true
	}
	known := l.previous[label.Name][label.Value]
	if !known && (len(values) >= limitValues || l.total >= limitTotal || values == nil && len(l.current) >= limitNames) {
		return label.Value == OtherValue
	}
	if values == nil {
		values = map[string]bool{}
		l.current[label.Name] = values
	}
	values[label.Value] = true
	l.total++
	return true
}
