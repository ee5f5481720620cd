package model

import (
	"regexp"
	"time"
)

// LogKind says what a detector on logs watches.
type LogKind string

// The kinds of detectors on logs.
const (
	LogTemplate    LogKind = "template"     // lines of each template: bursts, and what is no longer said
	LogNewTemplate LogKind = "new_template" // templates that were never seen before
	LogRate        LogKind = "rate"         // lines of each stream: bursts, and services gone silent
	LogLevelRatio  LogKind = "level_ratio"  // share of lines of level error and fatal
	LogMix         LogKind = "mix"          // how far the mix of templates is from its usual one
	LogPatternKind LogKind = "pattern"      // lines that a regular expression finds
)

// LogKinds lists the kinds.
func LogKinds() []LogKind {
	return []LogKind{LogTemplate, LogNewTemplate, LogRate, LogLevelRatio, LogMix, LogPatternKind}
}

// LogRule is what a detector on logs watches in the streams that its query
// selects.
type LogRule struct {
	Kind     LogKind  `json:"kind" yaml:"kind"`
	Pattern  string   `json:"pattern,omitempty" yaml:"pattern"`   // RE2, of kind pattern: found anywhere in a line
	Template string   `json:"template,omitempty" yaml:"template"` // of kind template: only this id
	Severity Severity `json:"severity,omitempty" yaml:"severity"` // of every anomaly; "" follows the score
}

// LogBucket is how long the lines are that one count covers. Steps of
// detectors on logs are multiples of it.
const LogBucket = 5 * time.Second

// Check notes every fault of r in v.
func (r LogRule) Check(v *Invalid) {
	known := false
	for _, k := range LogKinds() {
		known = known || k == r.Kind
	}
	if !known {
		v.Add("/log/kind", "unknown_value", "log.kind is one of %v, not %q", LogKinds(), string(r.Kind))
	}
	switch {
	case r.Kind != LogPatternKind && r.Pattern != "":
		v.Add("/log/pattern", "one_of", "log.pattern belongs to the kind %s", LogPatternKind)
	case r.Kind == LogPatternKind && r.Pattern == "":
		v.Add("/log/pattern", "required", "the kind %s needs log.pattern, a regular expression (RE2)", LogPatternKind)
	case len(r.Pattern) > MaxPatternBytes:
		v.Add("/log/pattern", "too_long", "log.pattern has %d bytes; at most %d are allowed", len(r.Pattern), MaxPatternBytes)
	case r.Pattern != "":
		if _, err := regexp.Compile(r.Pattern); err != nil {
			v.Add("/log/pattern", "regexp", "log.pattern is no regular expression (RE2): %s", err)
		}
	}
	if r.Template != "" && (r.Kind != LogTemplate || !templateID(r.Template)) {
		v.Add("/log/template", "template", "log.template is the id of a pattern, 16 hexadecimal digits, and belongs to the kind %s", LogTemplate)
	}
	switch r.Severity {
	case "", SeverityInfo, SeverityWarning, SeverityCritical:
	default:
		v.Add("/log/severity", "unknown_value", "log.severity is info, warning or critical, not %q", string(r.Severity))
	}
}

func templateID(s string) bool {
	for _, c := range []byte(s) {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
			return false
		}
	}
	return len(s) == 16
}

// LogPattern is a template of log lines and what is known of it. Its texts
// come from lines, so they are attacker input: valid UTF-8 and bounded, and
// nothing else. Name holds no control or format characters.
type LogPattern struct {
	ID        string
	Template  string // words as in the lines, <*> for variables
	Variables int    // number of variables in Template, counted from 0 where one is meant
	Name      string // as people called it, or ""
	Pinned    bool   // lines do not change it
	Expected  bool   // people said that it is of no interest: it raises no alarm
	Severity  Severity
	Level     string // of most of its lines, or ""
	Count     uint64 // lines so far
	FirstSeen time.Time
	LastSeen  time.Time
	Parent    string        // the pattern it was split off from, or ""
	Sources   []string      // where its lines came from, sorted
	Streams   []Labels      // at most MostPatternStreams that have it, as counts tell them apart
	Examples  []string      // lines
	Sparkline []uint32      // lines per SparkStep, oldest first; the last one is not over yet
	SparkStep time.Duration // of one point
	Version   int64         // grows with each change by people
}

// MostPatternStreams bounds LogPattern.Streams.
const MostPatternStreams = 16

// LogPatternFilter selects and orders patterns. Zero fields select everything.
type LogPatternFilter struct {
	Source    string
	Selector  Selector // labels of the streams that counts tell apart
	Level     string
	Query     string // part of the template or the name; the case of ASCII letters is ignored
	Pinned    *bool
	Expected  *bool
	SeenSince time.Time // last seen at or after
	NewSince  time.Time // first seen at or after
	Cursor    string    // from the page before; it belongs to the same filter and sort
	Limit     int       // default 50, at most 1,000
	Sort      string    // count, first_seen, last_seen or id, descending with a leading "-"; default -count
}

// LogPatternEdit is what people decide about a pattern. Nil fields change
// nothing. At most one of MergeWith and SplitAt is set.
type LogPatternEdit struct {
	Name      *string
	Pinned    *bool
	Expected  *bool
	Severity  *Severity
	MergeWith string // the id of another pattern
	SplitAt   *int   // the number of a variable
}

// LogDecision is what people decided about a pattern, as the nodes that share a
// database pass it on: in the order of its numbers, which have no gaps.
type LogDecision struct {
	ID   int64
	Data []byte
}

// LogEvidence is what lines say about an anomaly on logs.
type LogEvidence struct {
	Patterns  []LogPattern // those the anomaly is about, most telling first
	Before    []LogLine    // lines from before it, oldest first
	During    []LogLine
	After     []LogLine
	Related   []LogRelated // templates that moved together with it, closest first
	Truncated bool         // there were more lines than were looked at
}

// LogRelated is a template whose count moved together with an anomaly.
type LogRelated struct {
	Series      Labels
	Template    string  // the id
	Text        string  // the template
	Correlation float64 // Pearson's, over the time around the anomaly; −1 to 1
}

// LogAnalysis is what the lines of a range of time are about.
type LogAnalysis struct {
	From, To      time.Time
	Lines         int64
	Truncated     bool // there were more lines than are looked at: the newest ones were
	Patterns      []LogPatternShare
	New           []LogPatternShare // that the range before does not have
	Gone          []LogPatternShare // that only the range before has
	Errors        []LogErrorKind
	Durations     []LogDuration
	Hours         []LogHour
	ComparedFrom  time.Time // begin of the range before, as long as the range itself
	ComparedLines int64
}

// LogPatternShare is one pattern within a range.
type LogPatternShare struct {
	ID       string
	Template string
	Level    string
	Count    int64
	Before   int64 // lines in the range before
	First    time.Time
	Last     time.Time
	Example  string
}

// LogErrorKind is a word that names an error, and how often lines have it.
type LogErrorKind struct {
	Kind    string
	Count   int64
	Example string
}

// LogDuration is how long something took as the lines of one pattern say.
type LogDuration struct {
	ID       string
	Template string
	Count    int64
	P50      time.Duration
	P90      time.Duration
	P99      time.Duration
	Max      time.Duration
}

// LogHour counts the lines of one hour of the range.
type LogHour struct {
	Start  time.Time
	Lines  int64
	Errors int64 // of level error or fatal
}

// The signals that detectors watch.
const (
	SignalMetrics = "metrics"
	SignalLogs    = "logs"
)

// Signal returns which signal a detector watches.
func (d Detector) Signal() string {
	if d.Log != nil {
		return SignalLogs
	}
	return SignalMetrics
}

// LogOf returns what a definition says with its two fields signal and log: nil
// for a detector on metrics. Signal may be left out.
func LogOf(signal string, rule *LogRule) (*LogRule, error) {
	var v Invalid
	switch {
	case signal != "" && signal != SignalMetrics && signal != SignalLogs:
		v.Add("/signal", "unknown_value", "signal is metrics or logs, not %q", signal)
	case signal == SignalMetrics && rule != nil:
		v.Add("/log", "one_of", "log belongs to detectors with signal: logs")
	case signal == SignalLogs && rule == nil:
		v.Add("/log", "required", "a detector with signal: logs needs log, which says what to watch, such as {kind: new_template}")
	}
	return rule, v.Err(SubjectDetector)
}
