package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"aiops/internal/model"
)

const (
	logPatternsPath = "/api/v1/logs/patterns"
	logLinesPath    = "/api/v1/logs/lines"
	logAnalyzePath  = "/api/v1/logs/analyze"

	defaultAnalysis = time.Hour
	maxAnalysis     = 31 * 24 * time.Hour
)

func (s *server) registerLogs() {
	asks := []Code{CodeNotFound, CodeConflict, CodeQuery, CodeLoki, CodeSourceAuth, CodeNetwork}
	register(s, operation{id: "list-log-patterns", method: http.MethodGet, path: logPatternsPath, tag: tagLogs, summary: "List the patterns of log lines",
		description: "Templates with their counts since the start, the newest hour in steps of two minutes, and examples. " +
			"Texts come from whoever wrote the lines; escape them where they are shown. Sorted by count or time, a pattern may move between pages while lines come; sorted by id each appears once.",
		codes: codes(readCodes, CodeConflict, CodeQuery)}, s.listLogPatterns)
	register(s, operation{id: "get-log-pattern", method: http.MethodGet, path: logPatternsPath + "/{id}", tag: tagLogs, summary: "Get a pattern",
		description: "The id of a pattern that was merged into another leads to that one.",
		codes:       codes(readCodes, CodeNotFound, CodeConflict)}, s.getLogPattern)
	register(s, operation{id: "update-log-pattern", method: http.MethodPatch, path: logPatternsPath + "/{id}", tag: tagLogs, summary: "Decide about a pattern",
		description: "Name it, pin it, merge it with another, split it at a variable, expect it, or give its anomalies a severity. What is left out stays. It is in force for all lines from now on and survives a restart.",
		codes:       codes(changeCodes, CodeNotFound), request: `{"name": "connection refused", "pinned": true}`, mergePatch: true}, s.updateLogPattern)
	register(s, operation{id: "list-log-lines", method: http.MethodGet, path: logLinesPath, tag: tagLogs, summary: "List log lines",
		description: "Lines of a source, newest first unless order says otherwise. Without a source those that were sent here.", timeout: longTimeout,
		codes: codes(readCodes, asks...)}, s.listLogLines)
	register(s, operation{id: "analyze-logs", method: http.MethodPost, path: logAnalyzePath, tag: tagLogs, summary: "Analyse the lines of a time range",
		description: "Finds as a task what the lines are about: top patterns, those that are new or gone against the range before, kinds of errors, durations that lines name, and lines per hour. Without a range, the last hour.",
		status:      http.StatusAccepted, codes: codes(writeCodes, CodeQuery, CodeNotFound),
		request: `{"selector": "{service=\"checkout\"}", "from": "2026-11-08T00:00:00Z", "to": "2026-11-08T01:00:00Z"}`}, s.analyzeLogs)
}

// noLogs stands in for Logs when there are none.
func noLogs() error {
	return model.Errorf(model.KindConflict, "", "This program takes no log lines.")
}

// LogPattern is a template of log lines and what is known of it.
type LogPattern struct {
	ID               string              `json:"id" example:"8f3a5c0e11d2b746"`
	Template         string              `json:"template" doc:"Words as in the lines, <*> for variables" example:"connection to <*> refused"`
	Variables        int                 `json:"variables" doc:"Number of variables; split_at counts them from 0"`
	Name             string              `json:"name" doc:"As people called it; empty without one"`
	Pinned           bool                `json:"pinned" doc:"Lines do not change its template"`
	Expected         bool                `json:"expected" doc:"People said that it is of no interest: it raises no alarm"`
	Severity         string              `json:"severity" enum:",info,warning,critical" doc:"Of the anomalies on its lines, as people said; empty: it follows the score"`
	Level            string              `json:"level" enum:",debug,info,warn,error,fatal" doc:"Of most of its lines; empty when unknown"`
	Count            uint64              `json:"count" doc:"Lines so far"`
	FirstSeen        *time.Time          `json:"first_seen,omitempty"`
	LastSeen         *time.Time          `json:"last_seen,omitempty"`
	Parent           string              `json:"parent,omitempty" doc:"The pattern that it was split off from"`
	Sources          []string            `json:"sources" doc:"Names of the sources that have it"`
	Streams          []map[string]string `json:"streams" doc:"The labels that counts tell apart, of at most 16 streams that have it"`
	Examples         []string            `json:"examples" doc:"Lines, cut to 512 bytes"`
	Sparkline        []uint32            `json:"sparkline" doc:"Lines per step of the newest hour, oldest first; the last step is not over yet"`
	SparkStepSeconds float64             `json:"spark_step_seconds"`
	Version          int64               `json:"version" doc:"Grows with each change by people"`
}

func logPatternOf(p model.LogPattern) LogPattern {
	out := LogPattern{ID: p.ID, Template: shownText(p.Template), Variables: p.Variables, Name: shownText(p.Name), Pinned: p.Pinned, Expected: p.Expected, Severity: string(p.Severity),
		Level: p.Level, Count: p.Count, FirstSeen: timeOf(p.FirstSeen), LastSeen: timeOf(p.LastSeen), Parent: p.Parent, Sources: append([]string{}, p.Sources...),
		Streams: []map[string]string{}, Examples: []string{}, Sparkline: append([]uint32{}, p.Sparkline...), SparkStepSeconds: p.SparkStep.Seconds(), Version: p.Version}
	for _, ls := range p.Streams {
		out.Streams = append(out.Streams, ls.Map())
	}
	for _, x := range p.Examples {
		out.Examples = append(out.Examples, shownText(x))
	}
	return out
}

// shownText makes a text that is valid UTF-8, so that what JSON shows is what
// it can be sent back as.
func shownText(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

type listLogPatternsInput struct {
	Page
	Source    string    `query:"source" maxLength:"200" doc:"Only those of the source of this name"`
	Selector  string    `query:"selector" maxLength:"8192" doc:"Only those of streams with these labels, such as {service=\"checkout\"}"`
	Level     string    `query:"level" enum:"debug,info,warn,error,fatal" doc:"Only those of this level"`
	Q         string    `query:"q" maxLength:"200" doc:"Part of the template or the name"`
	Pinned    string    `query:"pinned" enum:"true,false" doc:"Only those that are pinned, or not"`
	Expected  string    `query:"expected" enum:"true,false" doc:"Only those that are expected, or not"`
	SeenSince time.Time `query:"seen_since" doc:"Only those that were seen at or after this time"`
	NewSince  time.Time `query:"new_since" doc:"Only those that were first seen at or after this time"`
	Sort      string    `query:"sort" enum:"count,-count,first_seen,-first_seen,last_seen,-last_seen,id,-id" default:"-count" doc:"Order; with - descending"`
}

// LogPatternList is a page of patterns.
type LogPatternList struct {
	Items      []LogPattern `json:"items"`
	NextCursor string       `json:"next_cursor" doc:"For the next page; empty on the last"`
}

type listLogPatternsOutput struct {
	Tagged
	Body LogPatternList
}

func (s *server) listLogPatterns(ctx context.Context, in *listLogPatternsInput) (*listLogPatternsOutput, error) {
	if s.opts.Logs == nil {
		return nil, noLogs()
	}
	selector, err := model.ParseSelector(in.Selector)
	if err != nil {
		return nil, err
	}
	found, next, err := s.opts.Logs.Patterns(ctx, model.LogPatternFilter{Source: in.Source, Selector: selector, Level: in.Level, Query: in.Q,
		Pinned: optionalBool(in.Pinned), Expected: optionalBool(in.Expected), SeenSince: in.SeenSince, NewSince: in.NewSince,
		Cursor: in.Cursor, Limit: in.Limit, Sort: in.Sort})
	if err != nil {
		return nil, err
	}
	out := &listLogPatternsOutput{Body: LogPatternList{Items: make([]LogPattern, len(found)), NextCursor: next}}
	for i, p := range found {
		out.Body.Items[i] = logPatternOf(p)
	}
	return out, nil
}

// LogPatternPath is the path parameter of operations on one pattern.
type LogPatternPath struct {
	ID string `path:"id" minLength:"1" maxLength:"128" doc:"Id of the pattern" example:"8f3a5c0e11d2b746"`
}

type logPatternAnswer struct {
	Tagged
	Body LogPattern
}

func (s *server) getLogPattern(ctx context.Context, in *LogPatternPath) (*logPatternAnswer, error) {
	if s.opts.Logs == nil {
		return nil, noLogs()
	}
	p, err := s.opts.Logs.Pattern(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	// No version as its ETag: count and examples change without one.
	return &logPatternAnswer{Body: logPatternOf(p)}, nil
}

// LogPatternEdit is what people decide about a pattern.
type LogPatternEdit struct {
	Name      *string `json:"name,omitempty" maxLength:"200" doc:"Printable characters; empty takes the name away"`
	Pinned    *bool   `json:"pinned,omitempty" doc:"Whether lines may change its template"`
	Expected  *bool   `json:"expected,omitempty" doc:"Whether it is of no interest and raises no alarm"`
	Severity  *string `json:"severity,omitempty" enum:",info,warning,critical" doc:"Of the anomalies on its lines; empty: it follows the score"`
	MergeWith string  `json:"merge_with,omitempty" maxLength:"16" doc:"Id of a pattern to merge it with; the id of a pinned one stays, else of the one with more lines, else of the elder; the other leads to it"`
	SplitAt   *int    `json:"split_at,omitempty" minimum:"0" maximum:"4095" doc:"Number of the variable whose texts get patterns of their own from now on"`
}

type updateLogPatternInput struct {
	LogPatternPath
	Precondition
	Body LogPatternEdit
}

func (s *server) updateLogPattern(ctx context.Context, in *updateLogPatternInput) (*logPatternAnswer, error) {
	if s.opts.Logs == nil {
		return nil, noLogs()
	}
	expect, err := in.version()
	if err != nil {
		return nil, err
	}
	e := model.LogPatternEdit{Name: in.Body.Name, Pinned: in.Body.Pinned, Expected: in.Body.Expected, MergeWith: in.Body.MergeWith, SplitAt: in.Body.SplitAt}
	if in.Body.Severity != nil {
		severity := model.Severity(*in.Body.Severity)
		e.Severity = &severity
	}
	p, err := s.opts.Logs.EditPattern(ctx, in.ID, e, expect)
	if err != nil {
		return nil, err
	}
	return &logPatternAnswer{Tagged: tagVersion(p.Version), Body: logPatternOf(p)}, nil
}

// LogLine is one line.
type LogLine struct {
	T       time.Time         `json:"t"`
	Stream  map[string]string `json:"stream" doc:"Labels of the stream"`
	Text    string            `json:"text" doc:"As it came; bytes that are not UTF-8 are replaced"`
	Cut     bool              `json:"cut" doc:"The text is the beginning of a longer line"`
	Level   string            `json:"level" doc:"debug, info, warn, error or fatal; empty when unknown"`
	Logger  string            `json:"logger,omitempty"`
	TraceID string            `json:"trace_id,omitempty"`
	Pattern string            `json:"pattern,omitempty" doc:"Id of its pattern; absent for lines that were not mined"`
}

func logLineOf(l model.LogLine) LogLine {
	return LogLine{T: time.Unix(0, l.T).UTC(), Stream: l.Stream.Map(), Text: shownText(l.Text), Cut: l.Cut, Level: l.Level, Logger: shownText(l.Logger), TraceID: shownText(l.TraceID), Pattern: l.Template}
}

func logLinesOf(ls []model.LogLine) []LogLine {
	out := make([]LogLine, len(ls))
	for i, l := range ls {
		out[i] = logLineOf(l)
	}
	return out
}

type listLogLinesInput struct {
	Limit    int       `query:"limit" default:"100" minimum:"1" maximum:"1000" doc:"Lines in one answer"`
	Cursor   string    `query:"cursor" maxLength:"1024" doc:"next_cursor of the answer before; empty for the first page"`
	Source   string    `query:"source" maxLength:"200" default:"builtin" doc:"Name of the source"`
	Selector string    `query:"selector" maxLength:"8192" doc:"Labels of the streams, such as {service=\"checkout\"}; for a source that is not builtin a query in its own language"`
	Contains string    `query:"contains" maxLength:"1024" doc:"Part of the line"`
	Template string    `query:"template" maxLength:"16" doc:"Id of a pattern, on the source builtin"`
	Level    string    `query:"level" enum:"debug,info,warn,error,fatal" doc:"Only lines of this level"`
	From     time.Time `query:"from" doc:"Only lines at or after this time; default an hour before to"`
	To       time.Time `query:"to" doc:"Only lines before this time; default now"`
	Order    string    `query:"order" enum:"newest,oldest" default:"newest" doc:"Which lines come first"`
}

// LogLineList is a page of lines.
type LogLineList struct {
	Items      []LogLine `json:"items"`
	NextCursor string    `json:"next_cursor" doc:"For the next page; empty on the last"`
}

type listLogLinesOutput struct {
	Tagged
	Body LogLineList
}

// lineTime turns a time into nanoseconds, within what those can say.
func lineTime(t time.Time, v *model.Invalid, pointer string) int64 {
	if y := t.Year(); y < 1970 || y > 2200 {
		v.Add(pointer, "out_of_range", "the year must be from 1970 to 2200")
		return 0
	}
	return t.UnixNano()
}

func (s *server) listLogLines(ctx context.Context, in *listLogLinesInput) (*listLogLinesOutput, error) {
	if s.opts.Logs == nil {
		return nil, noLogs()
	}
	src, err := s.sourceByName(ctx, in.Source)
	if err != nil {
		return nil, err
	}
	if src == nil {
		return nil, model.NotFound(model.SubjectSource, clip(in.Source, 64))
	}
	var v model.Invalid
	to, from := in.To, in.From
	if to.IsZero() {
		to = s.now()
	}
	if from.IsZero() {
		from = to.Add(-time.Hour)
	}
	f := model.LogFilter{From: lineTime(from, &v, "/from"), To: lineTime(to, &v, "/to"), Contains: in.Contains, Level: in.Level,
		OldestFirst: in.Order == "oldest", Limit: in.Limit, Cursor: in.Cursor}
	if err := v.Err(""); err != nil {
		return nil, err
	}
	if src.Type == model.SourceBuiltin {
		if f.Selector, err = model.ParseSelector(in.Selector); err != nil {
			return nil, err
		}
	}
	if in.Template != "" {
		f.Templates = []string{in.Template}
	}
	if err := f.Validate(); err != nil {
		return nil, err
	}
	found, next, err := s.opts.Logs.Lines(ctx, src.Name, in.Selector, f)
	if err != nil {
		return nil, err
	}
	return &listLogLinesOutput{Body: LogLineList{Items: logLinesOf(found), NextCursor: next}}, nil
}

// AnalyzeInput is which lines to analyse.
type AnalyzeInput struct {
	Source   string     `json:"source,omitempty" maxLength:"200" doc:"Name of the source; default builtin"`
	Selector string     `json:"selector,omitempty" maxLength:"8192" doc:"Labels of the streams; for a source that is not builtin a query in its own language"`
	Contains string     `json:"contains,omitempty" maxLength:"1024" doc:"Only lines with this text"`
	From     *time.Time `json:"from,omitempty" doc:"Begin; default an hour before to"`
	To       *time.Time `json:"to,omitempty" doc:"End; default now"`
}

type analyzeLogsInput struct {
	Body     *AnalyzeInput `required:"false"`
	from, to time.Time
	query    error
}

// Resolve checks the range and the selector while huma checks their form.
func (in *analyzeLogsInput) Resolve(ctx huma.Context) []error {
	if in.Body == nil {
		in.Body = &AnalyzeInput{}
	}
	if in.Body.Source == "" {
		in.Body.Source = model.BuiltinSource
	}
	s := requestOf(ctx.Context()).server
	var v model.Invalid
	in.to = s.now()
	if in.Body.To != nil {
		in.to = *in.Body.To
	}
	in.from = in.to.Add(-defaultAnalysis)
	if in.Body.From != nil {
		in.from = *in.Body.From
	}
	lineTime(in.from, &v, "/from")
	lineTime(in.to, &v, "/to")
	switch {
	case !in.from.Before(in.to):
		v.Add("/from", "out_of_range", "from must be before to")
	case in.to.Sub(in.from) > maxAnalysis:
		v.Add("/from", "out_of_range", "the range must be at most %d days", int(maxAnalysis.Hours()/24))
	}
	if in.Body.Source == model.BuiltinSource {
		_, in.query = model.ParseSelector(in.Body.Selector)
	}
	err := v.Err("")
	return takeFaults(&err)
}

func (s *server) analyzeLogs(ctx context.Context, in *analyzeLogsInput) (*Accepted, error) {
	if s.opts.Logs == nil {
		return nil, noLogs()
	}
	if in.query != nil {
		return nil, in.query
	}
	src, err := s.sourceByName(ctx, in.Body.Source)
	if err != nil {
		return nil, err
	}
	if src == nil {
		return nil, model.NotFound(model.SubjectSource, clip(in.Body.Source, 64))
	}
	return s.enqueue(ctx, TaskAnalyze, AnalyzeArgs{Source: src.Name, Query: in.Body.Selector, Contains: in.Body.Contains, From: in.from.UTC(), To: in.to.UTC()})
}
