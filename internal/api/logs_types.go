package api

import (
	"context"
	"time"

	"aiops/internal/model"
)

// Logs are the templates and lines of logs, and what detectors on logs need.
type Logs interface {
	// CheckQuery says whether query selects streams of a source that detectors
	// on logs can watch; a KindQuery error with the pointer /query when not.
	CheckQuery(source, query string) error
	Patterns(ctx context.Context, f model.LogPatternFilter) ([]model.LogPattern, string, error)
	Pattern(ctx context.Context, id string) (model.LogPattern, error)
	// EditPattern returns when the change is durable. Expect is the version
	// that the client saw, 0 for any.
	EditPattern(ctx context.Context, id string, e model.LogPatternEdit, expect int64) (model.LogPattern, error)
	// Lines returns a page of lines. The query selects streams of sources that
	// are not the embedded one, whose streams the filter selects.
	Lines(ctx context.Context, source, query string, f model.LogFilter) ([]model.LogLine, string, error)
}

// Analyzer is the long work on logs.
type Analyzer interface {
	Analyze(ctx context.Context, args AnalyzeArgs, progress func(float64)) (model.LogAnalysis, error)
}

// AnalyzeArgs are the arguments of a task of kind TaskAnalyze. Query is a
// selector of the embedded source, or a query in the language of another one.
type AnalyzeArgs struct {
	Source   string    `json:"source"`
	Query    string    `json:"query,omitempty"`
	Contains string    `json:"contains,omitempty"`
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
}

// LogAnalysis is the result of a task of kind analyze_logs.
type LogAnalysis struct {
	From          time.Time         `json:"from"`
	To            time.Time         `json:"to"`
	Lines         int64             `json:"lines"`
	Truncated     bool              `json:"truncated" doc:"There were more lines than are looked at: the newest ones were"`
	Patterns      []LogPatternShare `json:"patterns" doc:"Those with the most lines, at most 50"`
	New           []LogPatternShare `json:"new" doc:"Those that the range before does not have"`
	Gone          []LogPatternShare `json:"gone" doc:"Those that only the range before has"`
	Errors        []LogErrorKind    `json:"errors"`
	Durations     []LogDuration     `json:"durations"`
	Hours         []LogHour         `json:"hours"`
	ComparedFrom  time.Time         `json:"compared_from" doc:"Begin of the range before"`
	ComparedLines int64             `json:"compared_lines"`
}

// LogPatternShare is one pattern within a range.
type LogPatternShare struct {
	ID       string    `json:"id"`
	Template string    `json:"template"`
	Level    string    `json:"level"`
	Count    int64     `json:"count"`
	Before   int64     `json:"before" doc:"Lines in the range before"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Example  string    `json:"example"`
}

// LogErrorKind is a word that names an error.
type LogErrorKind struct {
	Kind    string `json:"kind" example:"TimeoutException"`
	Count   int64  `json:"count"`
	Example string `json:"example"`
}

// LogDuration is how long something took as the lines of one pattern say.
type LogDuration struct {
	ID         string  `json:"id"`
	Template   string  `json:"template"`
	Count      int64   `json:"count"`
	P50Seconds float64 `json:"p50_seconds"`
	P90Seconds float64 `json:"p90_seconds"`
	P99Seconds float64 `json:"p99_seconds"`
	MaxSeconds float64 `json:"max_seconds"`
}

// LogHour counts the lines of one hour.
type LogHour struct {
	Start  time.Time `json:"start"`
	Lines  int64     `json:"lines"`
	Errors int64     `json:"errors" doc:"Of level error or fatal"`
}

func logAnalysisOf(a model.LogAnalysis) LogAnalysis {
	shares := func(list []model.LogPatternShare) []LogPatternShare {
		out := make([]LogPatternShare, len(list))
		for i, p := range list {
			out[i] = LogPatternShare{ID: p.ID, Template: shownText(p.Template), Level: p.Level, Count: p.Count, Before: p.Before, First: p.First.UTC(), Last: p.Last.UTC(), Example: shownText(p.Example)}
		}
		return out
	}
	out := LogAnalysis{From: a.From.UTC(), To: a.To.UTC(), Lines: a.Lines, Truncated: a.Truncated, Patterns: shares(a.Patterns), New: shares(a.New), Gone: shares(a.Gone),
		Errors: []LogErrorKind{}, Durations: []LogDuration{}, Hours: []LogHour{}, ComparedFrom: a.ComparedFrom.UTC(), ComparedLines: a.ComparedLines}
	for _, e := range a.Errors {
		out.Errors = append(out.Errors, LogErrorKind{Kind: shownText(e.Kind), Count: e.Count, Example: shownText(e.Example)})
	}
	for _, d := range a.Durations {
		out.Durations = append(out.Durations, LogDuration{ID: d.ID, Template: shownText(d.Template), Count: d.Count,
			P50Seconds: d.P50.Seconds(), P90Seconds: d.P90.Seconds(), P99Seconds: d.P99.Seconds(), MaxSeconds: d.Max.Seconds()})
	}
	for _, h := range a.Hours {
		out.Hours = append(out.Hours, LogHour{Start: h.Start.UTC(), Lines: h.Lines, Errors: h.Errors})
	}
	return out
}

// LogEvidence is what lines say about an anomaly of a detector on logs.
type LogEvidence struct {
	Patterns  []LogPattern      `json:"patterns" doc:"Those the anomaly is about, those with the most lines first"`
	Before    []LogLine         `json:"before" doc:"A few lines from before it, oldest first"`
	During    []LogLine         `json:"during"`
	After     []LogLine         `json:"after"`
	Related   []RelatedTemplate `json:"related" doc:"Patterns whose lines moved together with it, closest first"`
	Truncated bool              `json:"truncated" doc:"There were more lines than were looked at"`
}

// RelatedTemplate is a pattern whose lines moved together with an anomaly.
type RelatedTemplate struct {
	Series      SeriesRef `json:"series"`
	Pattern     string    `json:"pattern" doc:"Id of the pattern"`
	Template    string    `json:"template"`
	Correlation Number    `json:"correlation" doc:"Pearson's, over the time around the anomaly: -1 to 1"`
}

func logEvidenceOf(e *model.LogEvidence) *LogEvidence {
	if e == nil {
		return nil
	}
	out := &LogEvidence{Patterns: []LogPattern{}, Before: logLinesOf(e.Before), During: logLinesOf(e.During), After: logLinesOf(e.After),
		Related: []RelatedTemplate{}, Truncated: e.Truncated}
	for _, p := range e.Patterns {
		out.Patterns = append(out.Patterns, logPatternOf(p))
	}
	for _, r := range e.Related {
		out.Related = append(out.Related, RelatedTemplate{Series: seriesOf(r.Series), Pattern: r.Template, Template: shownText(r.Text), Correlation: Number(r.Correlation)})
	}
	return out
}
