package api

import (
	"context"
	"time"

	"aiops/internal/model"
)

// QueryInput is a query at one time, or over a range.
type QueryInput struct {
	Query string     `json:"query" minLength:"1" maxLength:"16384" doc:"In the source's own language" example:"up"`
	Time  *time.Time `json:"time,omitempty" doc:"When to evaluate it; default now. Not together with from, to and step."`
	From  *time.Time `json:"from,omitempty" doc:"Begin of a range"`
	To    *time.Time `json:"to,omitempty" doc:"End of a range, included; default now"`
	Step  Duration   `json:"step,omitempty" doc:"Distance of the points of a range; default such that there are about 250"`
	Limit int        `json:"limit,omitempty" minimum:"1" maximum:"1000" doc:"Most series in the answer; default 100. More are an error, never a silent cut."`
}

type querySourceInput struct {
	SourcePath
	Body QueryInput
}

// QueryAnswer is the series that a query gave.
type QueryAnswer struct {
	StepSeconds float64       `json:"step_seconds" doc:"0 for one time"`
	Series      []QuerySeries `json:"series"`
}

// QuerySeries is one series of a query's answer.
type QuerySeries struct {
	Series SeriesRef    `json:"series"`
	Points []QueryPoint `json:"points"`
}

// QueryPoint is a sample.
type QueryPoint struct {
	T     time.Time `json:"t"`
	Value Number    `json:"value"`
}

type querySourceOutput struct{ Body QueryAnswer }

func (s *server) querySource(ctx context.Context, in *querySourceInput) (*querySourceOutput, error) {
	src, err := s.source(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	q := in.Body
	if q.Limit == 0 {
		q.Limit = 100
	}
	from, to, step, err := q.span(s.now())
	if err != nil {
		return nil, err
	}
	if err := s.opts.Clients.ParseQuery(src.Name, q.Query); err != nil {
		return nil, err
	}
	var found []model.SeriesData
	if step == 0 {
		found, err = s.opts.Clients.Query(ctx, src.Name, q.Query, to, q.Limit)
	} else {
		found, err = s.opts.Clients.QueryRange(ctx, src.Name, q.Query, from, to, step, q.Limit)
	}
	if err != nil {
		return nil, err
	}
	body := QueryAnswer{StepSeconds: step.Seconds(), Series: make([]QuerySeries, len(found))}
	for i, data := range found {
		one := QuerySeries{Series: seriesOf(data.Labels), Points: make([]QueryPoint, len(data.Samples))}
		for j, p := range data.Samples {
			one.Points[j] = QueryPoint{T: millis(p.T), Value: Number(p.V)}
		}
		body.Series[i] = one
	}
	return &querySourceOutput{Body: body}, nil
}

// span returns the range to evaluate, aligned to the step; a step of 0 means
// one time, in to.
func (q QueryInput) span(now time.Time) (from, to time.Time, step time.Duration, err error) {
	var v model.Invalid
	step = q.Step.parse(&v, "/step")
	if q.From == nil && q.To == nil && q.Step == "" {
		to = now
		if q.Time != nil {
			to = *q.Time
		}
		if y := to.Year(); y < 1970 || y > 2200 {
			v.Add("/time", "out_of_range", "the year must be from 1970 to 2200")
		}
		return to, to.UTC(), 0, v.Err("")
	}
	if q.Time != nil {
		v.Add("/time", "one_of", "give time, or from, to and step, not both")
	}
	to = now
	if q.To != nil {
		to = *q.To
	}
	if q.From == nil {
		v.Add("/from", "required", "a range needs from")
		return from, to, step, v.Err("")
	}
	from = *q.From
	if y1, y2 := from.Year(), to.Year(); y1 < 1970 || y2 > 2200 || !from.Before(to) {
		v.Add("/from", "out_of_range", "from must be before to, and both between 1970 and 2200")
		return from, to, step, v.Err("")
	}
	length := to.Sub(from)
	if q.Step == "" {
		step = max(time.Second, (length / 250).Round(time.Second))
	}
	if step < time.Second || step%time.Second != 0 {
		v.Add("/step", "out_of_range", "step must be whole seconds, at least 1s")
		return from, to, step, v.Err("")
	}
	if length/step >= maxPoints {
		return from, to, step, &model.Error{Kind: model.KindQuery, Message: "The range holds more than 11,000 steps. Ask for a shorter one or a longer step.",
			Context: map[string]any{"limit": maxPoints}}
	}
	return align(from, step), align(to, step), step, v.Err("")
}

// align moves t back to a whole number of steps since 1970.
func align(t time.Time, step time.Duration) time.Time {
	ms := t.UnixMilli()
	return millis(ms - ms%step.Milliseconds())
}
