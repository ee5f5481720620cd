package api

import (
	"context"
	"net/http"
	"time"

	"aiops/internal/model"
)

const maxPoints = 11_000

func (s *server) registerReplay() {
	register(s, operation{id: "replay-detector", method: http.MethodGet, path: detectorsPath + "/{id}/replay", tag: tagDetectors,
		summary: "Replay the past of one series", timeout: longTimeout,
		description: "Values, expected values, band, score and anomalies as the detector saw them: what a chart shows. At most 11,000 points; each fault of the range is an error, never a silent cut.",
		codes: codes(readCodes, CodeQuery, CodeNotFound, CodeConflict, CodePayloadTooLarge, CodeDetectorNotFound, CodeDetectorConflict, CodeDetectorRuntime, CodeDetectorTraining,
			CodePrometheus, CodeLoki, CodeSourceAuth, CodeNetwork)}, s.replay)
}

type replayInput struct {
	DetectorPath
	Series string    `query:"series" maxLength:"8192" doc:"Key of the series; may be left out when the detector has one" example:"{instance=\"a\"}"`
	From   time.Time `query:"from" doc:"Begin; default 200 steps before to"`
	To     time.Time `query:"to" doc:"End, included; default now"`
}

// Replay is the past of one series as its detector saw it.
type Replay struct {
	DetectorID  string       `json:"detector_id"`
	Series      SeriesRef    `json:"series"`
	StepSeconds float64      `json:"step_seconds"`
	Points      []Point      `json:"points"`
	Anomalies   []Anomaly    `json:"anomalies" doc:"Episodes that touch the range"`
	KnownEvents []KnownEvent `json:"known_events" required:"false" doc:"Those of the detector that touch the range and match the series; of more than 1,000 that touch it the latest are looked at"`
	Learning    bool         `json:"learning" doc:"true when the range begins before there was enough history"`
}

type replayOutput struct {
	Tagged
	Body Replay
}

func (s *server) replay(ctx context.Context, in *replayInput) (*replayOutput, error) {
	d, err := s.opts.Detectors.Detector(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if in.To.IsZero() {
		in.To = s.now()
	}
	if in.From.IsZero() {
		in.From = in.To.Add(-200 * d.Step)
	}
	switch {
	case !in.From.Before(in.To):
		return nil, parameterFault("from", "out_of_range", "from must be before to")
	case in.From.Year() < 1970 || in.To.Year() > 2200:
		return nil, parameterFault("from", "out_of_range", "the range must lie between 1970 and 2200")
	case d.Step > 0 && in.To.Sub(in.From)/d.Step >= maxPoints:
		return nil, &model.Error{Kind: model.KindQuery, Subject: model.SubjectDetector,
			Message: "The range holds more than 11,000 steps of this detector. Ask for a shorter one.",
			Context: map[string]any{"limit": maxPoints, "step_seconds": d.Step.Seconds()}}
	}
	if in.Series != "" {
		if _, err := model.ParseSeriesKey(in.Series); err != nil {
			return nil, parameterFault("series", "series", `series is a key such as {instance="a"}, as /series lists them`)
		}
	}
	r, err := s.opts.Engine.Replay(ctx, in.ID, in.Series, in.From.UTC(), in.To.UTC())
	if err != nil {
		return nil, err
	}
	known, err := s.knownIn(ctx, d, r.Series, in.From, in.To)
	if err != nil {
		return nil, err
	}
	return &replayOutput{Body: Replay{KnownEvents: known, DetectorID: r.DetectorID, Series: seriesOf(r.Series), StepSeconds: r.Step.Seconds(),
		Points: pointsOf(r.Points), Anomalies: anomaliesOf(r.Anomalies), Learning: r.Learning}}, nil
}

// knownIn returns the known events that touch a range and match a series, those
// that begin latest first.
func (s *server) knownIn(ctx context.Context, d model.Detector, series model.Labels, from, to time.Time) ([]KnownEvent, error) {
	out := []KnownEvent{}
	if s.opts.KnownEvents == nil {
		return out, nil
	}
	found, _, err := s.opts.KnownEvents.KnownEvents(ctx, model.KnownEventFilter{DetectorID: d.ID, From: from, To: to, Limit: model.MaxKnownEvents})
	if err != nil {
		return nil, err
	}
	for _, e := range found {
		if e.Matches(d.ID, d.Labels, series) {
			out = append(out, knownEventOf(e))
		}
	}
	return out, nil
}
