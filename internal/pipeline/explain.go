package pipeline

import "aiops/internal/model"

// Explanation is why an anomaly is one: what was stored when it happened, the
// same computed again, and what else happened around that time.
type Explanation struct {
	Anomaly    model.Anomaly
	Evidence   model.Evidence
	Recomputed RecomputeResult
	AlsoMoved  []Moved         // other series with high scores around the peak, closest first
	Similar    []model.Anomaly // earlier episodes of the same detector, same series first
	Model      model.ModelVersion
}

// RecomputeResult is what the stored evidence gives when it is scored again.
type RecomputeResult struct {
	Point         model.ScoredPoint // the peak, scored again from ModelState
	Contributions []model.Contribution
	Reproduced    bool   // Point equals what was stored, bit for bit
	Difference    string // what differs, "" when Reproduced
}

// Moved is a series that moved around the time of an anomaly.
type Moved struct {
	DetectorID   string
	DetectorName string
	Series       model.Labels
	Point        model.ScoredPoint // its highest score around that time
	SharedLabels int               // labels with the same value as the anomaly's series
	AnomalyID    string            // its own anomaly, "" when it raised none
}
