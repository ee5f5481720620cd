package api

import (
	"context"
	"encoding/base64"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"aiops/internal/model"
)

const (
	maxDetectSamples = 10_000
	defaultTraining  = 7 * 24 * time.Hour
	maxRange         = 400 * 24 * time.Hour
)

func (s *server) registerDetectorActions() {
	on := func(action string) string { return detectorsPath + "/{id}/" + action }
	missing := codes(writeCodes, CodeDetectorNotFound)
	register(s, operation{id: "start-detector", method: http.MethodPost, path: on("start"), tag: tagDetectors, summary: "Start a detector",
		description: "Does nothing when it runs already. A detector of the configuration file can be started and stopped, too; the next reload sets it to what the file says.",
		codes:       codes(missing, CodePreconditionFailed)}, s.startDetector)
	register(s, operation{id: "stop-detector", method: http.MethodPost, path: on("stop"), tag: tagDetectors, summary: "Stop a detector",
		description: "What it learned is kept. Does nothing when it is stopped already.",
		codes:       codes(missing, CodePreconditionFailed)}, s.stopDetector)
	register(s, operation{id: "train-detector", method: http.MethodPost, path: on("train"), tag: tagDetectors, summary: "Train a detector anew",
		description: "Learns from the source's history as a task. Without a range, from the last 7 days.", status: http.StatusAccepted,
		codes: missing, request: `{"from": "2026-11-01T00:00:00Z", "to": "2026-11-08T00:00:00Z"}`}, s.trainDetector)
	register(s, operation{id: "backtest-detector", method: http.MethodPost, path: on("backtest"), tag: tagDetectors, summary: "Backtest a detector",
		description: "Finds as a task what the saved definition would have done over a past range.", status: http.StatusAccepted,
		codes: missing, request: `{"from": "2026-11-01T00:00:00Z", "to": "2026-11-08T00:00:00Z"}`}, s.backtestDetector)
	register(s, operation{id: "backtest-definition", method: http.MethodPost, path: detectorsPath + "/backtest", tag: tagDetectors, summary: "Backtest an unsaved definition",
		description: "Finds as a task what a definition would have done over a past range, without saving it.", status: http.StatusAccepted,
		codes:   codes(writeCodes, CodeQuery),
		request: `{"detector": ` + exampleDetector + `, "from": "2026-11-01T00:00:00Z", "to": "2026-11-08T00:00:00Z"}`}, s.backtestDefinition)
	register(s, operation{id: "detect", method: http.MethodPost, path: on("detect"), tag: tagDetectors, summary: "Score given samples",
		description: "Scores samples on a copy of a series' live model. Nothing is learned or stored.", timeout: longTimeout, changesNothing: true,
		codes:   codes(inputCodes, CodeConflict, CodeNotFound, CodeDetectorNotFound, CodeDetectorConflict, CodeDetectorRuntime, CodeDetectorTraining),
		request: `{"series": {"instance": "a"}, "samples": [{"t": "2026-11-08T00:00:00Z", "value": 1.5}]}`}, s.detect)
	register(s, operation{id: "get-detector-status", method: http.MethodGet, path: on("status"), tag: tagDetectors, summary: "Get the live status",
		codes: codes(readCodes, CodeDetectorNotFound)}, s.detectorStatus)
	register(s, operation{id: "get-detector-health", method: http.MethodGet, path: on("health"), tag: tagDetectors, summary: "Get the health of a detector",
		description: "The status in the words of /health, with the state of its source.",
		codes:       codes(readCodes, CodeDetectorNotFound)}, s.detectorHealth)
	register(s, operation{id: "list-detector-series", method: http.MethodGet, path: on("series"), tag: tagDetectors, summary: "List the series of a detector",
		description: "In the order of their keys, with the last scored sample of each.",
		codes:       codes(readCodes, CodeDetectorNotFound, CodeNotFound)}, s.listSeries)
}

type switchInput struct {
	DetectorPath
	Precondition
}

func (s *server) startDetector(ctx context.Context, in *switchInput) (*detectorAnswer, error) {
	return s.switchDetector(ctx, in, true, model.EventDetectorStarted)
}

func (s *server) stopDetector(ctx context.Context, in *switchInput) (*detectorAnswer, error) {
	return s.switchDetector(ctx, in, false, model.EventDetectorStopped)
}

// switchDetector enables or disables. People press these in trouble, so a
// change that came between is no reason to refuse.
func (s *server) switchDetector(ctx context.Context, in *switchInput, enabled bool, event model.EventType) (*detectorAnswer, error) {
	expect, err := in.version()
	if err != nil {
		return nil, err
	}
	const tries = 3
	for try := 1; ; try++ {
		d, err := s.opts.Detectors.Detector(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		if expect != 0 && d.Version != expect {
			return nil, stale(d.Version)
		}
		if d.Enabled == enabled {
			return s.answerDetector(d), nil
		}
		d.Enabled = enabled
		saved, err := s.opts.Detectors.UpdateDetector(ctx, d, d.Version, event)
		if model.KindOf(err) == model.KindPrecondition && expect == 0 && try < tries {
			continue
		}
		if err != nil {
			return nil, err
		}
		s.syncEngine(ctx)
		return s.answerDetector(saved), nil
	}
}

func stale(current int64) error {
	return &model.Error{Kind: model.KindPrecondition, Message: "It was changed meanwhile. Read it again and apply the change to the new version.",
		Context: map[string]any{"version": current}}
}

// TimeRange is a past range of time.
type TimeRange struct {
	From *time.Time `json:"from,omitempty" doc:"Begin, RFC 3339; default 7 days before to"`
	To   *time.Time `json:"to,omitempty" doc:"End, RFC 3339; default now"`
}

// bounds fills in defaults and notes what is wrong in v.
func (r TimeRange) bounds(now time.Time, v *model.Invalid) (from, to time.Time) {
	to = now
	if r.To != nil {
		to = *r.To
	}
	from = to.Add(-defaultTraining)
	if r.From != nil {
		from = *r.From
	}
	switch {
	case !from.Before(to):
		v.Add("/from", "out_of_range", "from must be before to")
	case to.Sub(from) > maxRange:
		v.Add("/from", "out_of_range", "the range must be at most %d days", int(maxRange.Hours()/24))
	case from.After(now):
		v.Add("/from", "out_of_range", "the range must begin in the past")
	case from.Year() < 1970:
		v.Add("/from", "out_of_range", "the range must begin in 1970 or later")
	}
	return from.UTC(), to.UTC()
}

type trainInput struct {
	DetectorPath
	Body *TimeRange
}

// Accepted is long work that has begun.
type Accepted struct {
	Location string `header:"Location" doc:"Path of the task"`
	Body     Task
}

func (s *server) trainDetector(ctx context.Context, in *trainInput) (*Accepted, error) {
	if _, err := s.opts.Detectors.Detector(ctx, in.ID); err != nil {
		return nil, err
	}
	from, to, err := s.taskRange(in.Body)
	if err != nil {
		return nil, err
	}
	return s.enqueue(ctx, TaskTrain, TrainArgs{DetectorID: in.ID, From: from, To: to})
}

func (s *server) backtestDetector(ctx context.Context, in *trainInput) (*Accepted, error) {
	d, err := s.opts.Detectors.Detector(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	from, to, err := s.taskRange(in.Body)
	if err != nil {
		return nil, err
	}
	return s.enqueue(ctx, TaskBacktest, BacktestArgs{DetectorID: d.ID, Definition: d, From: from, To: to})
}

func (s *server) taskRange(r *TimeRange) (from, to time.Time, err error) {
	if r == nil {
		r = &TimeRange{}
	}
	var v model.Invalid
	from, to = r.bounds(s.now(), &v)
	return from, to, v.Err("")
}

// BacktestInput is an unsaved definition and the range to try it on.
type BacktestInput struct {
	TimeRange
	Detector DetectorInput `json:"detector"`
}

type backtestDefinitionInput struct {
	Body     BacktestInput
	checked  checkedDetector
	from, to time.Time
}

// Resolve checks the definition and the range while huma checks their form.
func (in *backtestDefinitionInput) Resolve(ctx huma.Context) []error {
	s := requestOf(ctx.Context()).server
	var v model.Invalid
	in.from, in.to = in.Body.bounds(s.now(), &v)
	in.checked.detector, in.checked.err = s.checkDetector(ctx.Context(), in.Body.Detector)
	in.checked.err = under("/detector", in.checked.err)
	err := v.Err("")
	return append(takeFaults(&err), takeFaults(&in.checked.err)...)
}

func (s *server) backtestDefinition(ctx context.Context, in *backtestDefinitionInput) (*Accepted, error) {
	if in.checked.err != nil {
		return nil, in.checked.err
	}
	return s.enqueue(ctx, TaskBacktest, BacktestArgs{Definition: in.checked.detector, From: in.from, To: in.to})
}

type detectInput struct {
	DetectorPath
	Body DetectInput
}

// DetectInput is samples to score.
type DetectInput struct {
	Series  map[string]string `json:"series,omitempty" maxProperties:"64" doc:"Labels of the series; may be left out when the detector has one series"`
	Samples []Sample          `json:"samples" minItems:"1" maxItems:"10000" doc:"In order of time, each time once"`
}

// Sample is a value at a time.
type Sample struct {
	T     time.Time `json:"t"`
	Value float64   `json:"value"`
}

// Scored is samples with their scores.
type Scored struct {
	DetectorID string  `json:"detector_id"`
	Points     []Point `json:"points"`
}

type detectOutput struct{ Body Scored }

func (s *server) detect(ctx context.Context, in *detectInput) (*detectOutput, error) {
	if _, err := s.opts.Detectors.Detector(ctx, in.ID); err != nil {
		return nil, err
	}
	var v model.Invalid
	samples := make([]model.Sample, len(in.Body.Samples))
	for i, p := range in.Body.Samples {
		samples[i] = model.Sample{T: p.T.UnixMilli(), V: p.Value}
		if i > 0 && samples[i].T <= samples[i-1].T {
			v.Add(indexed("/samples", i, "t"), "order", "the time must be after that of the sample before")
		}
		if y := p.T.Year(); y < 1970 || y > 2200 {
			v.Add(indexed("/samples", i, "t"), "out_of_range", "the year must be from 1970 to 2200")
		}
	}
	if err := v.Err(""); err != nil {
		return nil, err
	}
	points, err := s.opts.Engine.Detect(ctx, in.ID, model.LabelsFromMap(in.Body.Series), samples)
	if err != nil {
		return nil, err
	}
	return &detectOutput{Body: Scored{DetectorID: in.ID, Points: pointsOf(points)}}, nil
}

type detectorStatusOutput struct {
	Tagged
	Body DetectorStatus
}

func (s *server) detectorStatus(ctx context.Context, in *DetectorPath) (*detectorStatusOutput, error) {
	d, err := s.opts.Detectors.Detector(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &detectorStatusOutput{Body: s.statusOf(d)}, nil
}

// DetectorHealth is how well a detector can do its work.
type DetectorHealth struct {
	Status          string        `json:"status" enum:"healthy,degraded,unhealthy,unknown"`
	State           string        `json:"state" enum:"learning,running,stopped,degraded,failed"`
	Message         string        `json:"message"`
	LagSeconds      float64       `json:"lag_seconds"`
	LastEvaluatedAt *time.Time    `json:"last_evaluated_at,omitempty"`
	LastError       string        `json:"last_error,omitempty"`
	Source          string        `json:"source"`
	SourceHealth    *SourceHealth `json:"source_health,omitempty" doc:"Absent when the source does not run"`
}

type detectorHealthOutput struct {
	Tagged
	Body DetectorHealth
}

func (s *server) detectorHealth(ctx context.Context, in *DetectorPath) (*detectorHealthOutput, error) {
	d, err := s.opts.Detectors.Detector(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	st := s.statusOf(d)
	h := DetectorHealth{State: st.State, LagSeconds: st.LagSeconds, LastEvaluatedAt: st.LastEvaluatedAt, LastError: st.LastError, Source: d.Source}
	switch model.DetectorState(st.State) {
	case model.DetectorRunning:
		h.Status, h.Message = "healthy", "running"
	case model.DetectorLearning:
		h.Status, h.Message = "healthy", "learning what is normal; alerts follow when there is enough history"
	case model.DetectorStopped:
		h.Status, h.Message = "healthy", "stopped on request"
	case model.DetectorDegraded:
		h.Status, h.Message = "degraded", "runs with loss; see last_error and source_health"
	case model.DetectorFailed:
		h.Status, h.Message = "unhealthy", "cannot be evaluated; it is tried again"
	default:
		h.Status = "unknown"
	}
	if sh, ok := s.opts.Clients.Health(d.Source); ok {
		shown := sourceHealthOf(sh)
		h.SourceHealth = &shown
	}
	return &detectorHealthOutput{Body: h}, nil
}

type listSeriesInput struct {
	DetectorPath
	Page
}

// Series is one series of a detector and what its model says now.
type Series struct {
	Series    SeriesRef `json:"series"`
	Last      *Point    `json:"last,omitempty" doc:"The last sample; absent before the first"`
	Learning  bool      `json:"learning"`
	Model     string    `json:"model" doc:"The algorithm in use; for auto the one it chose"`
	Why       string    `json:"why" doc:"Why it was chosen, or what is missing to stop learning"`
	Anomaly   string    `json:"anomaly,omitempty" enum:"pending,firing,resolved" doc:"State of the open episode; absent when there is none"`
	AnomalyID string    `json:"anomaly_id,omitempty"`
}

// SeriesList is a page of series.
type SeriesList struct {
	Items      []Series `json:"items"`
	NextCursor string   `json:"next_cursor" doc:"For the next page; empty on the last"`

	AsOf *time.Time `json:"as_of,omitempty" doc:"The step that the rows were evaluated up to: the newest one on the node that evaluates the detector, and on another node that of the newest snapshot, some minutes ago. Absent while nothing was evaluated"`
}

type listSeriesOutput struct {
	Tagged
	Body SeriesList
}

func (s *server) listSeries(ctx context.Context, in *listSeriesInput) (*listSeriesOutput, error) {
	if _, err := s.opts.Detectors.Detector(ctx, in.ID); err != nil {
		return nil, err
	}
	after, err := base64.RawURLEncoding.DecodeString(in.Cursor)
	if err != nil {
		return nil, parameterFault("cursor", "cursor", "cursor is the next_cursor of the answer before")
	}
	found, asOf, err := s.opts.Engine.Series(in.ID, string(after), in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &listSeriesOutput{Body: SeriesList{Items: make([]Series, 0, len(found)), AsOf: timeOf(asOf)}}
	for i, st := range found {
		if i == in.Limit {
			out.Body.NextCursor = base64.RawURLEncoding.EncodeToString([]byte(found[i-1].Labels.Key()))
			break
		}
		item := Series{Series: seriesOf(st.Labels), Learning: st.Learning, Model: st.Model, Why: st.Why, Anomaly: string(st.Anomaly), AnomalyID: st.AnomalyID}
		if st.LastT != 0 {
			p := PointOf(st.Last)
			item.Last = &p
		}
		out.Body.Items = append(out.Body.Items, item)
	}
	return out, nil
}
