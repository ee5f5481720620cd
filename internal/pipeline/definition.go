package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/cespare/xxhash/v2"

	"aiops/internal/detect"
	"aiops/internal/model"
)

// definition is a detector as scoring needs it. It never changes; a changed
// detector gets a new one.
type definition struct {
	detector model.Detector
	step     int64 // milliseconds
	rules    rules
	holidays *detect.Holidays

	// fingerprint names everything that learned state depends on. State moves
	// from one definition to another exactly when it is equal.
	fingerprint string

	activeSteps int32 // missed steps after which a series does not share the budget
	ttlSteps    int32 // missed steps after which a series is dropped
	maxSeries   int
	deepBytes   int64 // what promoted models may take beyond auto
	calibrated  bool  // scores are tail probabilities that can be wrong
}

func newDefinition(d model.Detector, cfg Config) *definition {
	def := &definition{detector: d, step: d.Step.Milliseconds(), rules: rulesOf(d), holidays: holidaysOf(d), maxSeries: cfg.MaxSeries, calibrated: detect.Calibrated(d.Model)}
	def.fingerprint = fingerprintOf(d)
	if detect.Promotable(d.Model) {
		def.deepBytes = cfg.DeepBytesPerDetector
	}
	def.activeSteps = int32(max(10, 10*time.Minute/d.Step))
	def.ttlSteps = int32(max(100, cfg.SeriesTTL.Std()/d.Step))
	return def
}

// tuned returns def with what tu says.
func (def *definition) tuned(tu tuning) *definition {
	out := *def
	out.detector = tu.apply(def.detector)
	out.rules, out.holidays = rulesOf(out.detector), holidaysOf(out.detector)
	return &out
}

func holidaysOf(d model.Detector) *detect.Holidays {
	h, err := detect.ParseHolidays(d.Holidays)
	if err != nil {
		panic("BUG: the holidays of a validated definition cannot be read: " + err.Error())
	}
	return h
}

func fingerprintOf(d model.Detector) string {
	// Direction, least deviation, budget, hold times and holidays are left out: they
	// change what is done with a score, or what is expected on days to come, not what
	// was learned.
	parts := []any{"v1", d.Source, d.Query, d.Step, d.Model, string(d.Parameters), d.TimeZone, d.MissingData}
	if d.Log != nil {
		parts = append(parts, d.Log.Kind, d.Log.Pattern, d.Log.Template)
	}
	if d.Joint != nil {
		parts = append(parts, d.Joint)
	}
	b, err := json.Marshal(parts)
	if err != nil {
		panic("BUG: encoding a fingerprint: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// spec returns what detect needs to make the model of one series. The seed
// depends on the series alone, so that a backtest of an unsaved definition
// draws the same numbers as the saved one will.
func (def *definition) spec(seriesHash uint64) detect.Spec {
	d := def.detector
	return detect.Spec{Model: d.Model, Parameters: d.Parameters, Step: d.Step, Direction: d.Direction,
		MinDeviation: d.MinDeviation, TimeZone: d.TimeZone, Holidays: def.holidays, Seed: seriesHash}
}

// threshold is the one for scores that are exact.
func (def *definition) threshold(series int) float64 {
	return detect.Threshold(def.detector.FalseAlarmsPerWeek, def.detector.Step, series)
}

// floor returns the last step at or before t, in milliseconds.
func (def *definition) floor(t int64) int64 { return t - mod(t, def.step) }

// ceil returns the first step at or after t.
func (def *definition) ceil(t int64) int64 { return def.floor(t + def.step - 1) }

func mod(a, b int64) int64 { return ((a % b) + b) % b }

func hashKey(key []byte) uint64 { return xxhash.Sum64(key) }

// shareStep is the share by which the number of series may differ from the one that
// the threshold was worked out for: 5 % of the budget, less than the grain of a threshold.
const shareStep = 20

// sharers returns how many series share the budget when n are active and it was
// q before: n, unless that is nearly the same. It grows at once and shrinks at a
// turn only, so that series that are gone for a moment change nothing.
func sharers(q, n int, turn bool) int {
	n = max(n, 1)
	if n-q > q/shareStep || turn && q-n > q/shareStep {
		return n
	}
	return q
}
