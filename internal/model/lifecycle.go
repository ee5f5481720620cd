package model

import "time"

// Retrain says when the models of a detector learn anew by themselves.
type Retrain struct {
	Every   Duration   `json:"every,omitempty" yaml:"every,omitempty"`       // 0: not by the clock
	OnDrift bool       `json:"on_drift,omitempty" yaml:"on_drift,omitempty"` // when the scores no longer fit their calibration
	Into    ModelState `json:"into,omitempty" yaml:"into,omitempty"`         // active (the default) or shadow
}

// Joint says which series a detector also looks at together. Each judgement
// is a series of its own, with the label JointLabel, that shares the budget.
type Joint struct {
	Peers  bool     `json:"peers,omitempty" yaml:"peers,omitempty"`   // each member of a group against the median of the group
	Groups bool     `json:"groups,omitempty" yaml:"groups,omitempty"` // how surprising all members of a group are together
	By     []string `json:"by,omitempty" yaml:"by,omitempty"`         // labels that make a group; none: all series are one
}

// JointLabel marks a series that a detector makes of several others: its value
// is JointPeers or JointGroup. Series of a source that carry it are refused
// where a detector looks at series together.
const (
	JointLabel = "aiops_joint"
	JointPeers = "peers"
	JointGroup = "group"
)

// Shadow is a definition, or another model version, that scores beside the
// live one of its detector and tells nobody. A detector has at most one.
type Shadow struct {
	DetectorID   string
	Definition   Detector // what it scores by; its id and name are those of the detector
	BasedOn      int64    // version of the detector that it was derived from
	ModelVersion int64
	Since        time.Time // first step that both scored; zero while it learns
	Reason       string    // why it was begun
	CreatedAt    time.Time
	UpdatedAt    time.Time
	Version      int64 // grows with each change of this record, for If-Match
}

// ShadowStart asks for a shadow. ModelVersion 0 makes a new model version that
// learns what the definition asks for; another one is a stored version of the
// detector's own definition.
type ShadowStart struct {
	DetectorID   string
	Definition   Detector
	BasedOn      int64
	ModelVersion int64
	Reason       string
}

// ShadowState is what a shadow is doing.
type ShadowState string

// The states of a shadow.
const (
	ShadowLearning ShadowState = "learning" // it learns from history and does not compare yet
	ShadowRunning  ShadowState = "running"
	ShadowWaiting  ShadowState = "waiting" // its detector is stopped, held or not loaded
	ShadowFailed   ShadowState = "failed"  // it cannot be scored; discard it
)

// Agreement counts the samples that a definition and its shadow both scored,
// by what they said of them.
type Agreement struct {
	Samples    int64
	Both       int64 // anomalous for both
	OnlyLive   int64
	OnlyShadow int64
}

// ShadowPair is an alarm that both raised on the same series at the same time.
type ShadowPair struct {
	Live, Shadow Anomaly
}

// ShadowReport is a shadow and how it compares with the live definition.
type ShadowReport struct {
	Shadow      Shadow
	State       ShadowState
	Error       string // safe to show
	Progress    float64
	Series      int
	Learning    int
	MemoryBytes int64
	Threshold   float64
	Watermark   time.Time // last step that it scored
	Agreement   Agreement
	Gained      []Anomaly // alarms of the shadow alone, newest first
	Lost        []Anomaly // alarms of the live definition alone, newest first
	Shared      []ShadowPair
	Truncated   bool // there are more alarms than are compared
}

// KnownEvent is a stretch of time that people know about: maintenance, a
// deploy, a sale. Samples inside are not learned, and are no alarms when Mute
// is set.
type KnownEvent struct {
	ID         string
	Name       string
	DetectorID string            // "" is every detector
	Matchers   map[string]string // labels that a series, or else its detector, must have
	From, To   time.Time         // both ends included
	Mute       bool              // samples inside raise no alarm
	CreatedBy  string
	CreatedAt  time.Time
	UpdatedAt  time.Time
	Version    int64
}

// Matches reports whether the event applies to a series of a detector.
func (e KnownEvent) Matches(detectorID string, detector map[string]string, series Labels) bool {
	if e.DetectorID != "" && e.DetectorID != detectorID {
		return false
	}
	for name, want := range e.Matchers {
		got := series.Value(name)
		if got == "" {
			got = detector[name]
		}
		if got != want {
			return false
		}
	}
	return true
}

// MaxKnownEvents is how many events are looked at for a detector, those that
// begin latest.
const MaxKnownEvents = 1000

// KnownEventFilter selects known events.
type KnownEventFilter struct {
	DetectorID string    // those of this detector and of every detector; "" is all
	From, To   time.Time // those that touch the range; zero is open
	Cursor     string
	Limit      int
}

// Drift says how far the scores of a detector are from their calibration: one
// sample in ten has a score of 1 or more while nothing changed.
type Drift struct {
	Share    float64   // of the samples of the last block that scored 1 or more
	Expected float64   // what the calibration promises
	Sum      float64   // of the sequential test
	Limit    float64   // at which the test says that the scores drift
	Drifting bool      // Sum reached Limit
	Since    time.Time // when it did; zero: it did not
	Blocks   int       // that the test has seen
}
