package api

import (
	"context"
	"math"
	"time"
)

// ExplanationAnswer is why an anomaly is one.
type ExplanationAnswer struct {
	Anomaly         Anomaly          `json:"anomaly"`
	Summary         string           `json:"summary" doc:"A sentence for people"`
	Probability     string           `json:"probability" required:"false" doc:"In words, such as: about once in 12 days on this series at this step"`
	Counterfactual  string           `json:"counterfactual" doc:"What would have been normal"`
	NormalAbove     *Flip            `json:"normal_above,omitempty" doc:"Where the normal values end above the expected one; absent when none above is an anomaly"`
	NormalBelow     *Flip            `json:"normal_below,omitempty" doc:"And below"`
	Gates           []GateState      `json:"gates" required:"false" doc:"What the alarm had to pass, as it was then"`
	Reproduced      bool             `json:"reproduced" doc:"The stored evidence, scored again, gives the same bit for bit"`
	Difference      string           `json:"difference,omitempty" doc:"What differs when it was not reproduced"`
	Peak            Point            `json:"peak" doc:"The peak, scored again from stored evidence"`
	Context         []Point          `json:"context" doc:"The samples before the peak, as scored live"`
	Contributions   []Contribution   `json:"contributions" doc:"What the score is made of"`
	AlsoMoved       []RelatedSeries  `json:"also_moved" doc:"Other series that moved around that time, most telling first"`
	Similar         []SimilarAnomaly `json:"similar" doc:"Earlier episodes of the same detector with their labels, most similar first"`
	Logs            *LogEvidence     `json:"logs,omitempty" doc:"What lines say about it; only of detectors on logs"`
	Threshold       Number           `json:"threshold" doc:"Score at which a sample was anomalous"`
	SeriesActive    int              `json:"series_active" doc:"Series that shared the false-alarm budget"`
	Model           string           `json:"model" doc:"The algorithm"`
	ModelVersion    int64            `json:"model_version"`
	DetectorVersion int64            `json:"detector_version"`
	TrainedFrom     *time.Time       `json:"trained_from,omitempty" doc:"First sample the model version was trained on"`
	TrainedTo       *time.Time       `json:"trained_to,omitempty"`
}

// Flip is where the decision changes between two neighbouring values.
type Flip struct {
	Normal    Number `json:"normal" doc:"The last value that would have been normal"`
	Anomalous Number `json:"anomalous" doc:"The next one, which would not"`
	Gate      string `json:"gate" doc:"What holds the normal one back"`
}

// GateState is a gate that an alarm had to pass.
type GateState struct {
	Name   string `json:"name" example:"min_deviation"`
	Detail string `json:"detail"`
}

// SimilarAnomaly is an earlier episode and why it resembles the one explained.
type SimilarAnomaly struct {
	Anomaly
	Similarity Number       `json:"similarity" required:"false" doc:"0 to 1"`
	Why        string       `json:"why" required:"false"`
	Logs       *LogEvidence `json:"logs,omitempty" doc:"What lines say about it; only of detectors on logs"`
}

// Contribution is the share of one algorithm or feature in a score.
type Contribution struct {
	Name  string `json:"name"`
	Score Number `json:"score"`
	Share Number `json:"share" doc:"0 to 1"`
	Note  string `json:"note,omitempty"`
}

// RelatedSeries is a series that moved around the time of an anomaly.
type RelatedSeries struct {
	DetectorID   string    `json:"detector_id"`
	DetectorName string    `json:"detector_name"`
	Series       SeriesRef `json:"series"`
	At           time.Time `json:"at" doc:"When its score was highest"`
	Score        Number    `json:"score"`
	Value        Number    `json:"value" required:"false"`
	Expected     Number    `json:"expected" required:"false"`
	SharedLabels int       `json:"shared_labels" doc:"Labels with the same value as the anomaly's series"`
	AnomalyID    string    `json:"anomaly_id,omitempty" doc:"Its own anomaly; absent when it raised none"`
}

type explainOutput struct {
	Tagged
	Body ExplanationAnswer
}

func (s *server) explainAnomaly(ctx context.Context, in *AnomalyPath) (*explainOutput, error) {
	e, err := s.opts.Engine.Explain(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &explainOutput{Tagged: tagVersion(e.Anomaly.Version), Body: ExplanationOf(e)}, nil
}

// ExplanationOf returns the explanation as clients see it.
func ExplanationOf(e Explanation) ExplanationAnswer {
	ev := e.Evidence
	body := ExplanationAnswer{
		Anomaly: anomalyOf(e.Anomaly), Summary: e.Summary, Counterfactual: ev.Counterfactual, Reproduced: e.Reproduced, Difference: e.Difference,
		Peak: PointOf(e.Recomputed), Context: pointsOf(ev.Context), Contributions: []Contribution{}, AlsoMoved: []RelatedSeries{},
		Similar: []SimilarAnomaly{}, Probability: e.Probability, Gates: []GateState{}, Threshold: Number(ev.Threshold), SeriesActive: ev.SeriesActive, Model: ev.Model,
		ModelVersion: ev.ModelVersion, DetectorVersion: ev.DetectorVersion, TrainedFrom: timeOf(e.Model.TrainedFrom), TrainedTo: timeOf(e.Model.TrainedTo),
		Logs: logEvidenceOf(e.Logs),
	}
	if c := e.Counterfactual; c.Text != "" {
		body.Counterfactual, body.NormalAbove, body.NormalBelow = c.Text, flipOf(c.Upper), flipOf(c.Lower)
		for _, g := range c.Gates {
			body.Gates = append(body.Gates, GateState(g))
		}
	}
	for _, s := range e.Similar {
		body.Similar = append(body.Similar, SimilarAnomaly{Anomaly: anomalyOf(s.Anomaly), Similarity: Number(s.Similarity), Why: s.Why})
	}
	contributions := e.Contributions
	if len(contributions) == 0 {
		contributions = ev.Contributions
	}
	for _, c := range contributions {
		body.Contributions = append(body.Contributions, Contribution{Name: c.Name, Score: Number(c.Score), Share: Number(c.Share), Note: c.Note})
	}
	for _, m := range e.AlsoMoved {
		body.AlsoMoved = append(body.AlsoMoved, RelatedSeries{DetectorID: m.DetectorID, DetectorName: m.DetectorName, Series: seriesOf(m.Series),
			At: millis(m.Point.T), Score: Number(m.Point.Score), Value: Number(m.Point.Value), Expected: Number(m.Point.Expected), SharedLabels: m.SharedLabels, AnomalyID: m.AnomalyID})
	}
	return body
}

// flipOf shows f; nil when there is none.
func flipOf(f ExplainedFlip) *Flip {
	if math.IsNaN(f.Normal) {
		return nil
	}
	return &Flip{Normal: Number(f.Normal), Anomalous: Number(f.Anomalous), Gate: f.Gate}
}
