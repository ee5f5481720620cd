package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"aiops/internal/model"
)

const anomaliesPath = "/api/v1/anomalies"

// Anomaly is one episode on one series. Value, expected, lower, upper and
// score are those of its most surprising sample so far.
type Anomaly struct {
	ID              string     `json:"id" example:"an_2q7c"`
	DetectorID      string     `json:"detector_id"`
	DetectorName    string     `json:"detector_name"`
	Series          SeriesRef  `json:"series"`
	State           string     `json:"state" enum:"pending,firing,resolved"`
	Severity        string     `json:"severity" enum:"info,warning,critical"`
	StartedAt       time.Time  `json:"started_at" doc:"First anomalous step"`
	FiredAt         *time.Time `json:"fired_at,omitempty" doc:"Absent while pending"`
	ResolvedAt      *time.Time `json:"resolved_at,omitempty" doc:"Absent while open"`
	PeakAt          *time.Time `json:"peak_at,omitempty"`
	Value           Number     `json:"value"`
	Expected        Number     `json:"expected"`
	Lower           Number     `json:"lower"`
	Upper           Number     `json:"upper"`
	Score           Number     `json:"score"`
	OnceInSeconds   Number     `json:"once_in_seconds" doc:"A value this rare is expected once in so long on this series"`
	Reason          string     `json:"reason" doc:"A sentence for people"`
	Label           *bool      `json:"label" doc:"true: a real problem; false: a false alarm; null: nobody said"`
	AcknowledgedBy  string     `json:"acknowledged_by,omitempty"`
	AcknowledgedAt  *time.Time `json:"acknowledged_at,omitempty"`
	ResolvedBy      string     `json:"resolved_by,omitempty" doc:"Who ended it by hand; absent when it ended by itself"`
	DetectorVersion int64      `json:"detector_version"`
	ModelVersion    int64      `json:"model_version"`
	Version         int64      `json:"version" doc:"Grows with each change, for If-Match"`
	UpdatedAt       time.Time  `json:"updated_at"`
}

func anomalyOf(a model.Anomaly) Anomaly {
	return Anomaly{
		ID: a.ID, DetectorID: a.DetectorID, DetectorName: a.DetectorName, Series: seriesOf(a.Series), State: string(a.State), Severity: string(a.Severity),
		StartedAt: a.StartedAt.UTC(), FiredAt: timeOf(a.FiredAt), ResolvedAt: timeOf(a.ResolvedAt), PeakAt: timeOf(a.PeakAt),
		Value: Number(a.Value), Expected: Number(a.Expected), Lower: Number(a.Lower), Upper: Number(a.Upper), Score: Number(a.Score),
		OnceInSeconds: Number(a.OnceInSeconds), Reason: a.Reason, Label: a.Label, AcknowledgedBy: a.AcknowledgedBy, AcknowledgedAt: timeOf(a.AcknowledgedAt),
		ResolvedBy: a.ResolvedBy, DetectorVersion: a.DetectorVersion, ModelVersion: a.ModelVersion, Version: a.Version, UpdatedAt: a.UpdatedAt.UTC(),
	}
}

func anomaliesOf(as []model.Anomaly) []Anomaly {
	out := make([]Anomaly, len(as))
	for i, a := range as {
		out[i] = anomalyOf(a)
	}
	return out
}

func (s *server) registerAnomalies() {
	change := codes(changeCodes, CodeNotFound)
	register(s, operation{id: "list-anomalies", method: http.MethodGet, path: anomaliesPath, tag: tagAnomalies, summary: "List anomalies",
		description: "Every filter that is given must match. Without sort, the newest first.",
		codes:       codes(readCodes, CodeDetectorNotFound)}, s.listAnomalies)
	register(s, operation{id: "get-anomaly", method: http.MethodGet, path: anomaliesPath + "/{id}", tag: tagAnomalies, summary: "Get an anomaly",
		codes: codes(readCodes, CodeNotFound)}, s.getAnomaly)
	register(s, operation{id: "explain-anomaly", method: http.MethodGet, path: anomaliesPath + "/{id}/explain", tag: tagAnomalies, summary: "Explain an anomaly",
		description: "Computes it again from stored evidence, says whether the result is the same bit for bit, and what else moved.", timeout: longTimeout,
		codes: codes(readCodes, CodeNotFound, CodeConflict, CodeDetectorNotFound, CodeDetectorRuntime)}, s.explainAnomaly)
	register(s, operation{id: "acknowledge-anomaly", method: http.MethodPost, path: anomaliesPath + "/{id}/acknowledge", tag: tagAnomalies, summary: "Acknowledge an anomaly",
		description: "Says that someone takes care of it.", codes: change}, s.acknowledgeAnomaly)
	register(s, operation{id: "resolve-anomaly", method: http.MethodPost, path: anomaliesPath + "/{id}/resolve", tag: tagAnomalies, summary: "End an anomaly by hand",
		codes: change}, s.resolveAnomaly)
	register(s, operation{id: "label-anomaly", method: http.MethodPost, path: anomaliesPath + "/{id}/label", tag: tagAnomalies, summary: "Say whether an anomaly was real",
		description: "true: a real problem; false: a false alarm; null takes the label back.", codes: change, request: `{"label": false}`}, s.labelAnomaly)
}

type listAnomaliesInput struct {
	Page
	State        []string  `query:"state,explode" enum:"pending,firing,resolved" maxItems:"3" doc:"In one of these states; may be repeated"`
	Severity     []string  `query:"severity,explode" enum:"info,warning,critical" maxItems:"3" doc:"Of one of these severities; may be repeated"`
	DetectorID   string    `query:"detector_id" maxLength:"128" doc:"Only of the detector with this id"`
	Detector     string    `query:"detector" maxLength:"200" doc:"Only of the detector with this name or id"`
	Matcher      []string  `query:"matcher,explode" maxItems:"16" maxLength:"1024" doc:"A label that the series must have, as name=value; may be repeated" example:"instance=a"`
	Acknowledged string    `query:"acknowledged" enum:"true,false" doc:"Only acknowledged ones, or only the others"`
	Label        string    `query:"label" enum:"true,false,none" doc:"Only those labelled so; none: by nobody"`
	From         time.Time `query:"from" doc:"Only episodes that were open at this time or later"`
	To           time.Time `query:"to" doc:"Only episodes that began before this time"`
	Q            string    `query:"q" maxLength:"200" doc:"Part of the detector's name or of the reason"`
	Sort         string    `query:"sort" enum:"started_at,-started_at,score,-score" default:"-started_at" doc:"Order; with - descending"`
}

// AnomalyList is a page of anomalies.
type AnomalyList struct {
	Items      []Anomaly `json:"items"`
	NextCursor string    `json:"next_cursor" doc:"For the next page; empty on the last"`
}

type listAnomaliesOutput struct {
	Tagged
	Body AnomalyList
}

func (s *server) listAnomalies(ctx context.Context, in *listAnomaliesInput) (*listAnomaliesOutput, error) {
	f := model.AnomalyFilter{DetectorID: in.DetectorID, Label: in.Label, Acknowledged: optionalBool(in.Acknowledged),
		From: in.From, To: in.To, Query: in.Q, Cursor: in.Cursor, Limit: in.Limit, Sort: in.Sort}
	if !in.From.IsZero() && !in.To.IsZero() && !in.From.Before(in.To) {
		return nil, parameterFault("from", "out_of_range", "from must be before to")
	}
	for _, v := range in.State {
		f.State = append(f.State, model.AnomalyState(v))
	}
	for _, v := range in.Severity {
		f.Severity = append(f.Severity, model.Severity(v))
	}
	for _, m := range in.Matcher {
		name, value, ok := strings.Cut(m, "=")
		if !ok || name == "" {
			return nil, parameterFault("matcher", "matcher", "a matcher is name=value")
		}
		if f.Matchers == nil {
			f.Matchers = map[string]string{}
		}
		if old, twice := f.Matchers[name]; twice && old != value {
			return nil, parameterFault("matcher", "matcher", "a label cannot have two values")
		}
		f.Matchers[name] = value
	}
	if in.Detector != "" {
		id, err := s.detectorNamed(ctx, in.Detector)
		if err != nil {
			return nil, err
		}
		if f.DetectorID != "" && f.DetectorID != id {
			return nil, parameterFault("detector", "one_of", "detector and detector_id name different detectors; give one of them")
		}
		f.DetectorID = id
	}
	found, next, err := s.opts.Anomalies.Anomalies(ctx, f)
	if err != nil {
		return nil, err
	}
	return &listAnomaliesOutput{Body: AnomalyList{Items: anomaliesOf(found), NextCursor: next}}, nil
}

// detectorNamed returns the id of the detector that text names by name or id.
func (s *server) detectorNamed(ctx context.Context, text string) (string, error) {
	d, err := s.opts.Detectors.DetectorByName(ctx, text)
	if model.KindOf(err) == model.KindNotFound {
		// An id, perhaps of a deleted detector: its anomalies stay readable.
		return text, nil
	}
	return d.ID, err
}

// AnomalyPath is the path parameter of operations on one anomaly.
type AnomalyPath struct {
	ID string `path:"id" minLength:"1" maxLength:"128" doc:"Id of the anomaly" example:"an_2q7c"`
}

type anomalyAnswer struct {
	Tagged
	Body Anomaly
}

func answerAnomaly(a model.Anomaly, err error) (*anomalyAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &anomalyAnswer{Tagged: tagVersion(a.Version), Body: anomalyOf(a)}, nil
}

func (s *server) getAnomaly(ctx context.Context, in *AnomalyPath) (*anomalyAnswer, error) {
	return answerAnomaly(s.opts.Anomalies.Anomaly(ctx, in.ID))
}

type changeAnomalyInput struct {
	AnomalyPath
	Precondition
}

func (s *server) acknowledgeAnomaly(ctx context.Context, in *changeAnomalyInput) (*anomalyAnswer, error) {
	expect, err := in.version()
	if err != nil {
		return nil, err
	}
	return answerAnomaly(s.opts.Anomalies.AcknowledgeAnomaly(ctx, in.ID, identityOf(ctx).Name, s.now(), expect))
}

func (s *server) resolveAnomaly(ctx context.Context, in *changeAnomalyInput) (*anomalyAnswer, error) {
	expect, err := in.version()
	if err != nil {
		return nil, err
	}
	return answerAnomaly(s.opts.Anomalies.ResolveAnomaly(ctx, in.ID, identityOf(ctx).Name, s.now(), expect))
}

// LabelInput is what someone says of an anomaly.
type LabelInput struct {
	Label *bool `json:"label" doc:"true, false, or null for none"`
}

type labelAnomalyInput struct {
	AnomalyPath
	Precondition
	Body LabelInput
}

func (s *server) labelAnomaly(ctx context.Context, in *labelAnomalyInput) (*anomalyAnswer, error) {
	expect, err := in.version()
	if err != nil {
		return nil, err
	}
	return answerAnomaly(s.opts.Anomalies.LabelAnomaly(ctx, in.ID, in.Body.Label, identityOf(ctx).Name, expect))
}
