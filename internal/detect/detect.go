package detect

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"aiops/internal/model"
)

// MaxScore is the largest score there is. A fixed bound that is crossed scores
// it; a learned model stays far below it.
const MaxScore = 300

// DefaultThreshold is the threshold of a new model: one sample in ten thousand.
const DefaultThreshold = 4

// Model scores one series. It is not safe for concurrent use.
type Model interface {
	// Score says how surprising v is at t, in milliseconds since the epoch,
	// given what was learned so far. It changes nothing that a snapshot shows;
	// it may leave scratch that a following Learn with the same t and v uses.
	// A value that is not finite scores 0 with ReasonNotANumber.
	Score(t int64, v float64) Result

	// Learn takes v at t into the model. Times strictly increase and are
	// aligned to the step; a gap is simply a jump in t. A value that is not
	// finite is ignored, and so is a time that does not increase.
	Learn(t int64, v float64)

	// AppendSnapshot appends the whole state to dst. Restore then gives the same
	// results bit for bit, on any machine.
	AppendSnapshot(dst []byte) []byte

	// Restore replaces the state with that of a snapshot of a model with the
	// same name, parameters, step, time zone and seed; direction and holidays may differ.
	// The threshold is part of the state. On error, a *SnapshotError, the
	// model is as it was before. The model keeps no reference to snapshot.
	Restore(snapshot []byte) error

	// SizeBytes is the resident size of the model.
	SizeBytes() int

	// SetThreshold sets the score at which the band of a Result ends. It
	// changes neither scores nor what is learned.
	SetThreshold(score float64)

	// Describe names the algorithm in use and says in a sentence why, or what
	// is missing to stop learning.
	Describe() (algorithm, why string)

	// Contributions says what the last Score was made of. The caller owns the
	// slice. It is nil before the first Score and after Restore.
	Contributions() []model.Contribution
}

// Result is what a model says of one sample.
type Result struct {
	// Score is the surprise: −log10 of the probability that a sample of this
	// series deviates so far, in the detector's direction. 4 is one in ten
	// thousand. It is between 0 and MaxScore.
	Score float64

	// Strength orders the samples of a series where a model knows more than
	// their rarity: the sum of an ensemble before calibration. 0: there is
	// none, and Score orders them.
	Strength float64

	// Distance is how far the value is from what is usual at this time, in usual
	// distances of a long past. It stays high while a deviation lasts. 0: the
	// model does not say, or there is none.
	Distance float64

	// Expected is the most likely value, NaN while unknown and in models of a
	// whole stretch that expect no value.
	Expected float64

	// Lower and Upper end the band: the values whose score is the threshold.
	// They are NaN while unknown and where no single value ends a band, and
	// infinite on a side that the direction does not watch.
	Lower, Upper float64

	// Learning is true while the model has less than its least history.
	Learning bool

	// Extrapolated is true when the score is beyond what the history can show:
	// it then comes from a heavy parametric tail, and the true rarity is
	// probably greater.
	Extrapolated bool

	Reason Reason
}

// Reason says in a word what a Result means.
type Reason uint8

// The reasons. Above and below are relative to the band.
const (
	ReasonNormal     Reason = iota // inside the band
	ReasonLearning                 // too little history to judge
	ReasonNotANumber               // the value is not finite
	ReasonAbove                    // above the band
	ReasonBelow                    // below the band
	ReasonAboveBound               // above a fixed bound
	ReasonBelowBound               // below a fixed bound
	ReasonPattern                  // an unusual pattern, not an unusual value
	ReasonFlat                     // the series has stopped moving
	ReasonWider                    // it varies more than usual
	ReasonCalmer                   // it varies less than usual
	ReasonMix                      // its values are spread over their range in another way
)

// String returns a few words for people.
func (r Reason) String() string {
	switch r {
	case ReasonNormal:
		return "inside the band"
	case ReasonLearning:
		return "still learning"
	case ReasonNotANumber:
		return "not a number"
	case ReasonAbove:
		return "above the band"
	case ReasonBelow:
		return "below the band"
	case ReasonAboveBound:
		return "above the fixed bound"
	case ReasonBelowBound:
		return "below the fixed bound"
	case ReasonPattern:
		return "an unusual pattern"
	case ReasonFlat:
		return "it has stopped moving"
	case ReasonWider:
		return "it varies more than usual"
	case ReasonCalmer:
		return "it varies less than usual"
	case ReasonMix:
		return "its values are distributed in another way"
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// Step scores v at t and then learns it.
func Step(m Model, t int64, v float64) Result {
	r := m.Score(t, v)
	m.Learn(t, v)
	return r
}

// Spec says which model to make for a series.
type Spec struct {
	Model        string          // a name of Names
	Parameters   json.RawMessage // an object, or nil for the defaults
	Step         time.Duration   // between samples
	Direction    model.Direction // "" is both
	MinDeviation model.MinDeviation
	TimeZone     string // IANA name for daily and weekly rhythms; "" is UTC
	Holidays     *Holidays
	Seed         uint64 // for algorithms that draw at random; the same seed gives the same results
}

// The limits of a step.
const (
	MinStep = 100 * time.Millisecond
	MaxStep = 24 * time.Hour
)

// New makes a model that has learned nothing. Bad input gives a *model.Error
// of KindInvalid that holds every fault with its pointer.
func New(spec Spec) (Model, error) {
	c, err := prepare(spec)
	if err != nil {
		return nil, err
	}
	return c.entry.build(c)
}

// Validate returns the error that New would return.
func Validate(spec Spec) error {
	_, err := prepare(spec)
	return err
}

// Calibrated reports whether the scores of the model with that name are tail
// probabilities, estimated from history. Those of fixed bounds and of values
// that are scores already are taken at their word.
func Calibrated(name string) bool { return name != "threshold" && name != "surprise" }

// Names lists the models there are, in the order in which to show them.
func Names() []Info {
	rows := table()
	infos := make([]Info, len(rows))
	for i, r := range rows {
		infos[i] = r.Info
	}
	return infos
}

const week = 7 * 24 * time.Hour

// Threshold returns the score at which a sample is anomalous so that a
// detector with that many active series raises about falseAlarmsPerWeek alarms
// a week on data without anomalies: −log10(budget ÷ samples a week). One
// sample counts as one alarm, so that deviations that last, which make one
// episode of many samples, leave the budget partly unused. The result is
// between 1 and 15; fewer than one series counts as one, and a budget that is
// not positive as one alarm a week.
func Threshold(falseAlarmsPerWeek float64, step time.Duration, series int) float64 {
	if !(falseAlarmsPerWeek > 0) {
		falseAlarmsPerWeek = 1
	}
	if series < 1 {
		series = 1
	}
	if step < MinStep {
		step = MinStep
	}
	samples := mul(float64(week)/float64(step), float64(series))
	return min(max(log10(samples/falseAlarmsPerWeek), 1), 15)
}

// finite reports whether v is a number that can be scored.
func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
