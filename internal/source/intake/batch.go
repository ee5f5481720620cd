package intake

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"aiops/internal/model"
)

// Bounds on what one request may hold.
const (
	mostLines       = 200_000 // in one request; each costs memory beside its text
	mostStreams     = 20_000  // in one request
	mostLabels      = 32      // of one stream
	maxLabelName    = 256     // bytes
	maxLabelValue   = 2048    // bytes
	maxMeta         = 128     // bytes of a level, logger or trace id
	latestPlausible = 24 * time.Hour
)

// badLabel says what is wrong with a label, or "".
func badLabel(name, value string) string {
	switch {
	case name == "" || len(name) > maxLabelName:
		return fmt.Sprintf("the name of a label has 1 to %d bytes, not %d", maxLabelName, len(name))
	case len(value) > maxLabelValue:
		return fmt.Sprintf("the value of label %.64q has %d bytes; at most %d are allowed", name, len(value), maxLabelValue)
	case !utf8.ValidString(name) || !utf8.ValidString(value):
		return fmt.Sprintf("label %.64q is not valid UTF-8", name)
	}
	return ""
}

// The reasons for which lines are not passed on, as the metric names them.
const (
	reasonLabels  = "labels"  // the stream's labels break a bound
	reasonTime    = "time"    // the line's time cannot be true
	reasonRefused = "refused" // the sink did not take them; the sender was told to come again
)

// errTooManyLines is the answer to a request that holds too much.
func errTooManyLines() error {
	return model.Errorf(model.KindTooLarge, model.SubjectSource, "the request holds more than %d lines or %d streams; send smaller batches", mostLines, mostStreams)
}

// batch collects the lines of one request.
type batch struct {
	now     time.Time
	lines   []model.LogLine
	streams map[string]model.Labels // by key, so that equal ones are shared
	dropped map[string]int          // by reason
	cut     int
	why     string // the first reason in words
}

func newBatch(now time.Time) *batch {
	return &batch{now: now, streams: map[string]model.Labels{}, dropped: map[string]int{}}
}

// drop counts lines that are not passed on.
func (b *batch) drop(reason string, n int, why string) {
	if n == 0 {
		return
	}
	b.dropped[reason] += n
	if b.why == "" {
		b.why = why
	}
}

func (b *batch) rejected() int {
	n := 0
	for _, d := range b.dropped {
		n += d
	}
	return n
}

// stream returns the stream with these labels, or why it is refused. An error
// is returned when there are too many streams.
func (b *batch) stream(labels map[string]string) (ls model.Labels, why string, err error) {
	if len(labels) > mostLabels {
		return nil, fmt.Sprintf("a stream has %d labels; at most %d are allowed", len(labels), mostLabels), nil
	}
	for name, value := range labels {
		if why := badLabel(name, value); why != "" {
			return nil, why, nil
		}
	}
	ls = model.LabelsFromMap(labels)
	if len(ls) == 0 {
		return nil, "a stream needs at least one label", nil
	}
	key := ls.Key()
	if known, ok := b.streams[key]; ok {
		return known, "", nil
	}
	if len(b.streams) >= mostStreams {
		return nil, "", errTooManyLines()
	}
	b.streams[key] = ls
	return ls, "", nil
}

// add takes a line. A time of 0 becomes now; times far ahead, and before 1970,
// cannot be true.
func (b *batch) add(l model.LogLine) error {
	if len(b.lines) >= mostLines {
		return errTooManyLines()
	}
	if l.T == 0 {
		l.T = b.now.UnixNano()
	}
	if l.T < 0 || l.T > b.now.Add(latestPlausible).UnixNano() {
		b.drop(reasonTime, 1, "the time of a line is before 1970 or more than a day ahead")
		return nil
	}
	if len(l.Text) > model.MaxLineBytes {
		l.Text, l.Cut = strings.Clone(l.Text[:model.MaxLineBytes]), true
	}
	l.Text = strings.TrimRight(l.Text, "\r\n")
	if l.Cut {
		b.cut++
	}
	b.lines = append(b.lines, l)
	return nil
}

// meta takes a pair that stands beside a line: those that say level, logger or
// trace become its fields.
func meta(l *model.LogLine, name, value string) {
	if value == "" || len(value) > maxMeta {
		return
	}
	switch name {
	case "level", "severity", "detected_level", "severity_text":
		if l.Level == "" {
			l.Level = value
		}
	case "logger", "logger_name", "scope_name":
		if l.Logger == "" {
			l.Logger = value
		}
	case "trace_id", "traceID", "traceid", "trace.id":
		if l.TraceID == "" {
			l.TraceID = value
		}
	}
}

// sorted puts the lines of each stream in order of time, keeping the order of
// equal times, which is what a sink expects of a sender that mixes them up.
func (b *batch) sorted() []model.LogLine {
	if !slices.IsSortedFunc(b.lines, byTime) {
		slices.SortStableFunc(b.lines, byTime)
	}
	return b.lines
}

func byTime(a, b model.LogLine) int {
	switch {
	case a.T < b.T:
		return -1
	case a.T > b.T:
		return 1
	}
	return 0
}
