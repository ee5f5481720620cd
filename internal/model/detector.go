package model

import (
	"encoding/json"
	"time"
)

// Direction says which side of the expected value can be an anomaly.
type Direction string

// The directions. Both is the default.
const (
	DirectionBoth  Direction = "both"
	DirectionAbove Direction = "above"
	DirectionBelow Direction = "below"
)

// MissingData says what a step without a sample means while the source is
// healthy. It never applies while the source is down or late.
type MissingData string

// The policies for missing data. Ignore is the default.
const (
	MissingIgnore  MissingData = "ignore"  // nothing happens; open episodes hold
	MissingZero    MissingData = "zero"    // the step counts as 0
	MissingLast    MissingData = "last"    // the step repeats the last value
	MissingAnomaly MissingData = "anomaly" // a series that falls silent is an anomaly
)

// MinDeviation is the least distance from the expected value that counts,
// however improbable the value is. A value must pass both gates that are set.
type MinDeviation struct {
	Absolute float64 `json:"absolute,omitempty" yaml:"absolute,omitempty"` // in the unit of the series
	Relative float64 `json:"relative,omitempty" yaml:"relative,omitempty"` // share of the expected value: 0.2 is 20 %
}

// Detector is a named, versioned definition of what to watch. Version grows
// by one with each change of the definition, starting at 1.
type Detector struct {
	ID                 string
	Name               string   // unique
	Source             string   // name of the source
	Query              string   // PromQL, or the source's own language; of a detector on logs the streams
	Log                *LogRule // what a detector on logs watches; nil: it watches metrics
	Step               time.Duration
	Model              string          // a name from detect's table, such as "auto"
	Parameters         json.RawMessage // of the model; an object, or nil for defaults
	FalseAlarmsPerWeek float64         // tolerable false alarms of the whole detector
	Direction          Direction
	MinDeviation       MinDeviation
	For                time.Duration // how long a deviation lasts before the anomaly fires
	KeepFiringFor      time.Duration // how long values stay normal before it resolves
	Refractory         time.Duration // how long a series stays quiet after an anomaly resolved
	MissingData        MissingData
	TimeZone           string   // IANA name for daily and weekly rhythms; "" is UTC
	Holidays           []string // days like another day of the week, as detect.ParseHolidays reads them
	Joint              *Joint   // nil: each series by itself
	Retrain            Retrain
	Labels             map[string]string // of the owner: team, service, severity
	Provisioned        bool              // defined by the config file: locked for the API
	Enabled            bool
	Version            int64
	CreatedAt          time.Time
	UpdatedAt          time.Time
}

// DetectorState is what a detector is doing.
type DetectorState string

// The states of a detector.
const (
	DetectorLearning DetectorState = "learning" // too little history: scores, but does not alert
	DetectorRunning  DetectorState = "running"
	DetectorStopped  DetectorState = "stopped"
	DetectorDegraded DetectorState = "degraded" // runs with loss: source stale, series capped, lag
	DetectorFailed   DetectorState = "failed"   // cannot be evaluated; retried with backoff
)

// DetectorStatus is the live side of a detector.
type DetectorStatus struct {
	State           DetectorState
	SeriesActive    int
	SeriesLearning  int
	SeriesDropped   int // refused because of the cap on series
	OpenAnomalies   int
	Lag             time.Duration // from the last step that is due to the last one evaluated
	LastEvaluatedAt time.Time     // zero: never
	LastError       string        // safe to show; "" when the last evaluation succeeded
	MemoryBytes     int64         // of all model state
	Threshold       float64       // score at which a sample is anomalous now
	ThresholdAsked  float64       // what it would be if scores were exact; 0: unknown
	ThresholdBasis  string        // what the difference rests on: assumed, extrapolated or counted; "" when unknown
	Drift           Drift
	Node            string // that evaluates it; "" where nobody shares the database, or no node does
}

// SeriesStatus is the live side of one series of a detector.
type SeriesStatus struct {
	Labels    Labels
	LastT     int64 // milliseconds; 0: no sample yet
	Last      ScoredPoint
	Learning  bool
	Model     string       // the algorithm in use; for auto the one it chose
	Why       string       // why auto chose it, or what is missing to stop learning
	Anomaly   AnomalyState // "" when no episode is open
	AnomalyID string
}

// ScoredPoint is a sample and what a model said of it.
type ScoredPoint struct {
	T         int64 // milliseconds
	Value     float64
	Expected  float64 // NaN while unknown
	Lower     float64
	Upper     float64
	Score     float64 // surprise: −log10 of the calibrated tail probability
	Anomalous bool    // beyond the threshold and all gates
}

// Replay is the past of one series as its detector saw it.
type Replay struct {
	DetectorID string
	Series     Labels
	Step       time.Duration
	Points     []ScoredPoint
	Anomalies  []Anomaly
	Learning   bool // true when the range begins before enough history
}

// ModelState is the life cycle of a trained model version.
type ModelState string

// The states of a model version. One version of a detector is active.
const (
	ModelActive  ModelState = "active"
	ModelShadow  ModelState = "shadow"
	ModelRetired ModelState = "retired"
)

// ModelVersion describes one trained generation of a detector's models, over
// all of its series.
type ModelVersion struct {
	DetectorID      string
	Version         int64
	DetectorVersion int64 // the definition it was trained for
	State           ModelState
	TrainedFrom     time.Time
	TrainedTo       time.Time
	Series          int
	SizeBytes       int64
	CreatedAt       time.Time
	Reason          string // created, trained, definition changed, rolled back
}

// Snapshot is the state of all series of a detector at Watermark: everything
// up to and including that step has been scored. Restoring it and replaying
// the samples after Watermark gives the state of a process that never stopped.
type Snapshot struct {
	DetectorID      string
	DetectorVersion int64
	ModelVersion    int64
	Watermark       int64    // milliseconds, aligned to the step
	Parts           [][]byte // opaque, in order; the pipeline's format
	Series          int
	CreatedAt       time.Time
}

// BacktestResult is what a definition would have done over a past range.
type BacktestResult struct {
	From, To           time.Time
	Series             int
	Samples            int64
	Anomalies          []Anomaly // at most the first 1,000
	AnomalyCount       int
	AlarmsPerWeek      float64
	FalseAlarmsPerWeek float64 // the budget that was asked for
	Elapsed            time.Duration
}

// Budget returns the false alarms per week that a definition asks for: perWeek
// when it is given, else what sensitivity means (low 0.1, medium 1, high 10),
// else 1. Giving both is an error.
func Budget(perWeek *float64, sensitivity string) (float64, error) {
	if perWeek != nil && sensitivity != "" {
		return 0, &Error{Kind: KindInvalid, Subject: SubjectDetector, Message: "give false_alarms_per_week or sensitivity, not both",
			Fields: []FieldError{{Pointer: "/sensitivity", Code: "one_of", Detail: "give false_alarms_per_week or sensitivity, not both"}}}
	}
	if perWeek != nil {
		return *perWeek, nil
	}
	switch sensitivity {
	case "low":
		return 0.1, nil
	case "", "medium":
		return 1, nil
	case "high":
		return 10, nil
	}
	return 0, &Error{Kind: KindInvalid, Subject: SubjectDetector, Message: "sensitivity is low, medium or high",
		Fields: []FieldError{{Pointer: "/sensitivity", Code: "unknown", Detail: "sensitivity is low, medium or high"}}}
}
