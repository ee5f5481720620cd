package model

import "time"

// MaxLineBytes is how much of a log line is kept; what is beyond is dropped
// and LogLine.Cut says so.
const MaxLineBytes = 64 << 10

// The levels of log lines, from the least to the most severe. A line whose
// level is not known has "".
const (
	LevelDebug = "debug"
	LevelInfo  = "info"
	LevelWarn  = "warn"
	LevelError = "error"
	LevelFatal = "fatal"
)

// LogLine is one line of a log. Its texts are what somebody chose to send:
// markup, control characters, escapes for terminals, bidirectional marks and
// bytes that are not UTF-8 are kept as data. Whoever shows them escapes them;
// encoding/json replaces what is not UTF-8.
type LogLine struct {
	T        int64  // nanoseconds since the Unix epoch
	Stream   Labels // which stream it belongs to; shared between lines, not to be changed
	Text     string // as it came, without the newline at its end, at most MaxLineBytes
	Cut      bool   // Text is the beginning of a longer line
	Message  string // what the template is mined from: Text without its header, or the message within it
	Level    string // one of the levels, or ""
	Logger   string // the part of the program that wrote it, or ""
	TraceID  string // or ""
	Template string // id of its template, "" before it is mined
}

// LogFilter selects and orders lines. Zero fields select everything. A line is
// at or after From and before To, both in nanoseconds; a To of 0 is no end.
type LogFilter struct {
	From, To    int64
	Selector    Selector // labels of the stream
	Contains    string   // part of Text, byte by byte
	Templates   []string // ids, any of these: a template that was merged has several
	Level       string
	OldestFirst bool   // otherwise the newest line comes first
	Limit       int    // default 100, at most 5,000
	Cursor      string // from the page before; it belongs to the same filter and order
}

// Bounds of a LogFilter.
const (
	DefaultLogLimit = 100
	MostLogLimit    = 5000
	MaxContains     = 1 << 10 // bytes of LogFilter.Contains
	mostTemplates   = 1000
)

// Validate returns every fault of f as a KindQuery error. The cursor is
// checked by the store that made it.
func (f LogFilter) Validate() error {
	var v Invalid
	f.Selector.check(&v)
	if f.To != 0 && f.To < f.From {
		v.Add("/to", "out_of_range", "the end is before the start")
	}
	if len(f.Contains) > MaxContains {
		v.Add("/contains", "too_long", "the text to look for has %d bytes; at most %d are allowed", len(f.Contains), MaxContains)
	}
	if len(f.Templates) > mostTemplates {
		v.Add("/template", "too_many", "%d templates are asked for; at most %d are allowed", len(f.Templates), mostTemplates)
	}
	switch f.Level {
	case "", LevelDebug, LevelInfo, LevelWarn, LevelError, LevelFatal:
	default:
		v.Add("/level", "unknown", "the level is debug, info, warn, error or fatal, not %q", f.Level)
	}
	if f.Limit < 0 || f.Limit > MostLogLimit {
		v.Add("/limit", "out_of_range", "the limit is between 1 and %d, not %d", MostLogLimit, f.Limit)
	}
	return v.errOf(KindQuery, "")
}

// LogStats is what a store of lines holds and what became of the lines it was
// given.
type LogStats struct {
	Streams     int           // with at least one line
	Lines       int64         // held now
	Bytes       int64         // taken on disk
	Blocks      int           // held now
	Oldest      int64         // time of the oldest line in nanoseconds, 0 without a line
	Newest      int64         // likewise of the newest
	Appended    int64         // lines taken since the start
	Expired     int64         // lines given up since the start, by age or by the bound on bytes
	Damaged     int64         // blocks left out because they could not be read, since the start
	Retention   time.Duration // by age
	MaxBytes    int64         // the bound on Bytes
	Unsynced    int64         // lines that a power cut now would lose
	StreamLimit int           // streams beyond it share one
}
