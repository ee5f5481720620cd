package api

import (
	"context"
	"strings"
	"time"

	"aiops/internal/model"
)

const testPattern = "8f3a5c0e11d2b746"

// hostile is what a line can hold.
const hostile = "\x1b[31m<script>alert(1)</script>\x00 \u202eevil \xff\xfe"

type logFake struct{ *world }

func (f logFake) pattern() model.LogPattern {
	return model.LogPattern{ID: testPattern, Template: "refused <*> " + hostile, Variables: 1, Level: model.LevelError, Count: 12, FirstSeen: testTime, LastSeen: testTime,
		Sources: []string{"builtin"}, Streams: []model.Labels{{{Name: "service", Value: "cart"}}}, Examples: []string{hostile}, Sparkline: []uint32{0, 3},
		SparkStep: 2 * time.Minute, Version: 4}
}

func (f logFake) CheckQuery(source, query string) error {
	if source != model.BuiltinSource {
		return nil
	}
	_, err := model.ParseSelector(query)
	return err
}

func (f logFake) Patterns(_ context.Context, filter model.LogPatternFilter) ([]model.LogPattern, string, error) {
	defer f.lock()()
	if f.fail != nil {
		return nil, "", f.fail
	}
	other := f.pattern()
	other.ID = strings.Repeat("0", 15) + "1"
	return paged([]model.LogPattern{f.pattern(), other}, filter.Cursor, filter.Limit)
}

func (f logFake) Pattern(_ context.Context, id string) (model.LogPattern, error) {
	defer f.lock()()
	if f.fail != nil {
		return model.LogPattern{}, f.fail
	}
	if id != testPattern {
		return model.LogPattern{}, model.NotFound(model.SubjectLogPattern, id)
	}
	return f.pattern(), nil
}

func (f logFake) EditPattern(ctx context.Context, id string, e model.LogPatternEdit, expect int64) (model.LogPattern, error) {
	p, err := f.Pattern(ctx, id)
	if err != nil {
		return p, err
	}
	if expect != 0 && expect != p.Version {
		return p, stale(p.Version)
	}
	if e.Name != nil {
		p.Name = *e.Name
	}
	if e.Severity != nil {
		p.Severity = *e.Severity
	}
	if e.Pinned != nil {
		p.Pinned = *e.Pinned
	}
	p.Version++
	return p, nil
}

func (f logFake) Lines(_ context.Context, _, _ string, filter model.LogFilter) ([]model.LogLine, string, error) {
	defer f.lock()()
	if f.fail != nil {
		return nil, "", f.fail
	}
	line := model.LogLine{T: testTime.UnixNano(), Stream: model.Labels{{Name: "service", Value: "cart"}}, Text: hostile, Level: model.LevelError, Template: testPattern}
	return paged([]model.LogLine{line, line}, filter.Cursor, filter.Limit)
}

type analyzerFake struct{ err error }

func (f analyzerFake) Analyze(_ context.Context, args AnalyzeArgs, progress func(float64)) (model.LogAnalysis, error) {
	progress(1)
	share := []model.LogPatternShare{{ID: testPattern, Template: hostile, Count: 3, First: args.From, Last: args.To, Example: hostile}}
	return model.LogAnalysis{From: args.From, To: args.To, Lines: 3, Patterns: share, New: share,
		Errors: []model.LogErrorKind{{Kind: "TimeoutError", Count: 1, Example: hostile}},
		Hours:  []model.LogHour{{Start: args.From, Lines: 3}}, Durations: []model.LogDuration{{ID: testPattern, Count: 1, P50: time.Second}}}, f.err
}
