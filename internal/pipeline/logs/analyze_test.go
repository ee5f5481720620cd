package logs

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"aiops/internal/model"
)

func TestDurations(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]time.Duration{
		"request served in 12 ms":                    {12 * time.Millisecond},
		`{"duration_ms": 17, "status": 200}`:         {17 * time.Millisecond},
		"took=1.5s retry=3":                          {1500 * time.Millisecond},
		"waited 3m2s for 2 locks":                    {182 * time.Second},
		"10.1.2.3:8080 answered 200 at 12:30:45":     nil,
		"2026-11-08 backup of 30 files, id=7a3f5ms9": nil,
		"elapsed_seconds=0.25 total 2 seconds":       {250 * time.Millisecond, 2 * time.Second},
	} {
		if got := Durations(text); !slices.Equal(got, want) {
			t.Errorf("%q names %v, want %v", text, got, want)
		}
	}
}

// TestAnalyze compares two hours: one as usual, one with a new error and
// without a pattern of before.
func TestAnalyze(t *testing.T) {
	t.Parallel()
	f := setup(t, Config{})
	mid := began.Add(-time.Hour)
	var all []model.LogLine
	line := func(at time.Time, level, text string) {
		all = append(all, model.LogLine{T: at.UnixNano(), Text: text, Message: text, Level: level})
	}
	for i := range 600 {
		at := mid.Add(time.Duration(i-300) * 12 * time.Second)
		line(at, model.LevelInfo, fmt.Sprintf("request %d served in %d ms", i, 1+i%100))
		if i < 300 {
			line(at, model.LevelInfo, "cache is warm")
		} else if i%3 == 0 {
			line(at, model.LevelError, fmt.Sprintf("order %d failed: TimeoutException in store", i))
		}
	}
	search := func(_ context.Context, _, _ string, q model.LogFilter) ([]model.LogLine, string, error) {
		var out []model.LogLine
		for i := len(all) - 1; i >= 0; i-- {
			if l := all[i]; l.T >= q.From && l.T < q.To {
				out = append(out, l)
			}
		}
		return out, "", nil
	}
	progress := 0.0
	got, err := f.Analyze(context.Background(), AnalyzeArgs{Source: model.BuiltinSource, From: mid, To: began}, search, func(p float64) { progress = p })
	if err != nil {
		t.Fatal(err)
	}
	if got.Lines != 400 || got.ComparedLines != 600 || progress != 1 || len(got.Patterns) != 2 || got.Patterns[0].Count != 300 {
		t.Errorf("%d and %d lines, progress %v, patterns %+v", got.Lines, got.ComparedLines, progress, got.Patterns)
	}
	if len(got.New) != 1 || got.New[0].Level != model.LevelError || len(got.Gone) != 1 || got.Gone[0].Template != "cache is warm" {
		t.Errorf("new %+v, gone %+v", got.New, got.Gone)
	}
	if len(got.Errors) != 1 || got.Errors[0].Kind != "TimeoutException" || got.Errors[0].Count != 100 {
		t.Errorf("errors %+v", got.Errors)
	}
	if len(got.Durations) != 1 || got.Durations[0].Count != 300 || got.Durations[0].Max != 100*time.Millisecond || got.Durations[0].P50 < 40*time.Millisecond || got.Durations[0].P50 > 60*time.Millisecond {
		t.Errorf("durations %+v", got.Durations)
	}
	if len(got.Hours) != 1 || got.Hours[0].Lines != 400 || got.Hours[0].Errors != 100 {
		t.Errorf("hours %+v", got.Hours)
	}
	if f.Stats().Templates != 0 {
		t.Error("the analysis taught the live miner")
	}
	if _, err := f.Analyze(context.Background(), AnalyzeArgs{From: began, To: mid}, search, func(float64) {}); model.KindOf(err) != model.KindInvalid {
		t.Errorf("a range that ends before it begins: %v", err)
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := f.Analyze(cancelled, AnalyzeArgs{From: mid, To: began}, search, func(float64) {}); err == nil {
		t.Error("a cancelled analysis goes on")
	}
}
