package source

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"

	"aiops/internal/model"
)

// Limits on a range. Prometheus refuses more than 11,000 steps in one query.
const (
	MaxPoints = 11_000
	MaxParts  = 1_000
)

// Span is the times start, start+step, … up to end, in milliseconds, both ends
// included.
type Span struct {
	Start, End, Step int64
}

// NewSpan makes the span of a range query. The end is moved back to the last
// step, so that End−Start is a multiple of Step. It returns a KindQuery error
// when the range is empty, the step is not a positive whole number of
// milliseconds, or the range has more than MaxPoints × MaxParts steps.
func NewSpan(start, end time.Time, step time.Duration) (Span, error) {
	s := Span{start.UnixMilli(), end.UnixMilli(), step.Milliseconds()}
	switch {
	case s.Step <= 0 || step%time.Millisecond != 0:
		return Span{}, rangeError("/step", "the step is %s; give a positive whole number of milliseconds", step)
	case s.End < s.Start:
		return Span{}, rangeError("/end", "the range ends %s before it starts; give an end after the start", start.Sub(end))
	}
	s.End -= (s.End - s.Start) % s.Step
	if s.Points() > MaxPoints*MaxParts {
		return Span{}, rangeError("/step", "the range has %d steps; at most %d are allowed: ask for less time or a longer step", s.Points(), MaxPoints*MaxParts)
	}
	return s, nil
}

func rangeError(pointer, format string, args ...any) error {
	e := model.Errorf(model.KindQuery, "", format, args...)
	e.Fields = []model.FieldError{{Pointer: pointer, Code: "out_of_range", Detail: e.Message}}
	return e
}

// Points is the number of times in s.
func (s Span) Points() int64 { return (s.End-s.Start)/s.Step + 1 }

// Holds reports whether t is one of the times in s.
func (s Span) Holds(t int64) bool {
	return t >= s.Start && t <= s.End && (t-s.Start)%s.Step == 0
}

// Split cuts s into parts of at most points times, and at most MaxPoints, in
// order, without gap or overlap.
func (s Span) Split(points int64) []Span {
	points = min(max(points, 1), MaxPoints)
	var parts []Span
	for at := s.Start; at <= s.End; at += points * s.Step {
		parts = append(parts, Span{at, min(at+(points-1)*s.Step, s.End), s.Step})
	}
	return parts
}

// PartFunc fetches the answer for one part of a range.
type PartFunc func(ctx context.Context, part Span) ([]model.SeriesData, error)

// QueryParts fetches the parts of a range, at most concurrency at a time, and
// joins the answers by series. The parts are in order of time, and each part's
// samples must be clean. The first error ends the whole; an answer of more than
// maxSeries series in all parts together is a SeriesLimit error.
func QueryParts(ctx context.Context, parts []Span, concurrency, maxSeries int, fetch PartFunc) ([]model.SeriesData, error) {
	if len(parts) == 1 {
		return fetch(ctx, parts[0])
	}
	answers := make([][]model.SeriesData, len(parts))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(1, concurrency))
	for i, part := range parts {
		group.Go(func() (err error) {
			// A panic in a goroutine of its own would end the program.
			defer func() {
				if p := recover(); p != nil {
					err = fmt.Errorf("BUG: fetching part %d of %d panicked: %v\n%s", i+1, len(parts), p, debug.Stack())
				}
			}()
			answer, err := fetch(ctx, part)
			if err != nil {
				return fmt.Errorf("fetching part %d of %d: %w", i+1, len(parts), err)
			}
			answers[i] = answer
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return joinParts(answers, maxSeries)
}

// joinParts joins answers that are in order of time. It consumes them.
func joinParts(answers [][]model.SeriesData, maxSeries int) ([]model.SeriesData, error) {
	var joined []model.SeriesData
	at := map[string]int{}
	var key []byte
	for i, answer := range answers {
		for _, series := range answer {
			key = series.Labels.AppendKey(key[:0])
			n, ok := at[string(key)]
			if !ok {
				at[string(key)] = len(joined)
				joined = append(joined, series)
				continue
			}
			joined[n].Samples = append(joined[n].Samples, series.Samples...)
		}
		answers[i] = nil
	}
	if len(joined) > maxSeries {
		return nil, SeriesLimit(len(joined), true, maxSeries)
	}
	return joined, nil
}

// SeriesLimit is the error for an answer of n series where limit are allowed.
// Exact says whether n is their number or only as far as was counted.
func SeriesLimit(n int, exact bool, limit int) error {
	count := fmt.Sprint(n)
	if !exact {
		count = "at least " + count
	}
	e := model.Errorf(model.KindQuery, "", "the query yields %s series; at most %d are allowed: aggregate, or select fewer", count, limit)
	e.Fields = []model.FieldError{{Pointer: "/query", Code: "series_limit", Detail: e.Message}}
	e.Context = map[string]any{"series": n, "limit": limit}
	return e
}
