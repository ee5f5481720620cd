package model

import "time"

// AnomalyState is the state of an episode.
type AnomalyState string

// The states of an anomaly. Pending ones are not alarms yet.
const (
	AnomalyPending  AnomalyState = "pending"
	AnomalyFiring   AnomalyState = "firing"
	AnomalyResolved AnomalyState = "resolved"
)

// Severity grades an anomaly.
type Severity string

// The severities, in order.
const (
	SeverityInfo     Severity = "info"
	SeverityWarning  Severity = "warning"
	SeverityCritical Severity = "critical"
)

// Anomaly is one episode on one series. Value, Expected, Lower, Upper and
// Score are those of its peak: the most surprising sample so far.
type Anomaly struct {
	ID              string
	DetectorID      string
	DetectorName    string
	Series          Labels
	State           AnomalyState
	Severity        Severity
	StartedAt       time.Time // first anomalous step
	FiredAt         time.Time // zero while pending
	ResolvedAt      time.Time // zero while open
	PeakAt          time.Time
	Value           float64
	Expected        float64
	Lower           float64
	Upper           float64
	Score           float64
	OnceInSeconds   float64 // a value this rare is expected once in so long on this series
	Reason          string  // a sentence for people
	Label           *bool   // true or false alarm as people said, nil when nobody did
	AcknowledgedBy  string
	AcknowledgedAt  time.Time
	ResolvedBy      string // who ended it by hand, "" when it ended by itself
	DetectorVersion int64
	ModelVersion    int64
	Version         int64 // grows with each change, for If-Match
	UpdatedAt       time.Time
}

// Evidence is what an anomaly's peak was computed from, complete enough to
// compute it again bit for bit without the source. Its floats may be NaN or
// infinite, so it is encoded with gob, never with JSON.
type Evidence struct {
	AnomalyID       string
	Model           string
	Definition      []byte  // the detector's definition, as the pipeline encoded it
	ModelState      []byte  // snapshot just before Peak was learned
	Threshold       float64 // score at which a sample was anomalous
	SeriesActive    int     // series that shared the budget
	Peak            Sample
	Context         []ScoredPoint  // the samples before the peak, as scored live
	Contributions   []Contribution // what the score was made of
	Counterfactual  string         // "below 412 it would have been normal"
	DetectorVersion int64
	ModelVersion    int64
}

// Contribution is the share of one algorithm or feature in a score.
type Contribution struct {
	Name  string
	Score float64
	Share float64 // 0 to 1, adding up to 1
	Note  string
}

// AnomalyChange is one transition of an episode, for the store to write
// together with its event.
type AnomalyChange struct {
	Anomaly  Anomaly
	Event    EventType // anomaly.opened, anomaly.updated or anomaly.resolved; "" writes no event
	Evidence *Evidence // nil leaves stored evidence as it is
}
