package detect

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"strings"
	"time"
	_ "time/tzdata" // so that time zones work on machines without zone files

	"aiops/internal/model"
)

// row is one model: what people read of it and how it is made.
type row struct {
	Info
	revision uint64 // raised when the same state means something else; 0: never was
	build    func(config) (Model, error)
	check    func(config, *model.Invalid) // of parameters that depend on each other; nil: none do
}

// config is a validated Spec.
type config struct {
	entry     row
	params    values
	step      time.Duration
	direction model.Direction
	location  *time.Location
	holidays  *Holidays
	seed      uint64
	ident     uint64 // fingerprint of all that a learned state depends on
}

// table lists every model. A new one is a file, a test script and a row here.
func table() []row {
	return []row{
		{Info: Info{Name: "auto",
			Summary:    "chooses the model from the history of the series and says why",
			Parameters: autoParameters(), MinHistory: autoMinHistory}, revision: 5, build: newAuto},
		{Info: Info{Name: "deep",
			Summary:    "auto with unusual patterns over a long history; for the series that matter",
			MinHistory: deepMinHistory}, revision: 6, build: newDeep},
		{Info: Info{Name: "robust_zscore",
			Summary:    "distance from the rolling median in units of the median absolute deviation",
			Parameters: []Parameter{windowParameter(240)}, MinHistory: windowMinHistory(240)}, build: newRobust},
		{Info: Info{Name: "ewma",
			Summary:    "distance from an exponentially weighted mean in weighted standard deviations",
			Parameters: []Parameter{halfLifeParameter(defaultHalfLife)}, MinHistory: ewmaMinHistory}, build: newEWMA},
		{Info: Info{Name: "iqr",
			Summary:    "distance from the rolling median in units of the rolling quartiles, each side its own",
			Parameters: []Parameter{windowParameter(240)}, MinHistory: windowMinHistory(240)}, build: newIQR},
		{Info: Info{Name: "window",
			Summary:    "distance from the sliding mean in sliding standard deviations",
			Parameters: []Parameter{windowParameter(240)}, MinHistory: windowMinHistory(240)}, build: newSliding},
		{Info: Info{Name: "seasonal",
			Summary: "what is usual at this hour of this day of the week, in the time zone of the detector",
			Parameters: []Parameter{
				{Name: "slots_per_hour", Type: TypeInteger, Default: 1, Min: 1, Max: 4,
					Summary: "how finely the hour is divided"},
				{Name: "level_half_life", Type: TypeNumber, Default: 2, Min: 0.1, Max: 168,
					Summary: "hours in which the level follows a lasting shift"},
			}, MinHistory: seasonalMinHistory}, build: newSeasonal},
		{Info: Info{Name: "holt_winters",
			Summary:    "robust exponential smoothing of level, trend and one season of any length",
			Parameters: holtParameters(), MinHistory: holtMinHistory}, build: newHolt, check: checkHolt},
		{Info: Info{Name: "level_shift",
			Summary:    "distance from the level since it last shifted; a shift alarms and is then normal",
			Parameters: levelShiftParameters(), MinHistory: levelShiftMinHistory}, build: newLevelShift},
		{Info: Info{Name: "rate_of_change",
			Summary:    "difference from the sample before, in units of the usual size of such differences",
			Parameters: rateOfChangeParameters(), MinHistory: levelShiftMinHistory}, build: newRateOfChange},
		{Info: Info{Name: "counts",
			Summary:    "tail of a Poisson or negative binomial distribution; for events that are few per step",
			Parameters: countsParameters(), MinHistory: countsMinHistory}, build: newCounts},
		{Info: Info{Name: "flat_line",
			Summary:    "samples without any movement, where the series used to move",
			Parameters: flatParameters(), MinHistory: flatMinHistory}, build: newFlat},
		{Info: Info{Name: "spread",
			Summary:    "how widely the last samples vary, against how widely they usually do",
			Parameters: spreadParameters(), MinHistory: spreadMinHistory}, build: newSpread},
		{Info: Info{Name: "relative_entropy",
			Summary:    "how differently the last values are distributed from those before",
			Parameters: entropyParameters(), MinHistory: entropyMinHistory}, build: newRelativeEntropy},
		{Info: Info{Name: "spectral_residual",
			Summary:    "what stands out of the last samples once their spectrum is taken away",
			MinHistory: spectralMinHistory}, build: newSpectral},
		{Info: Info{Name: "isolation_forest",
			Summary: "values, differences and short means that random cuts separate quickly from the recent past",
			Parameters: []Parameter{
				{Name: "window", Type: TypeInteger, Default: 256, Min: 64, Max: maxWindow,
					Summary: "samples of recent history to compare with"},
				{Name: "trees", Type: TypeInteger, Default: 24, Min: 4, Max: 128,
					Summary: "more trees make a steadier score and cost more"},
			}, MinHistory: forestMinHistory}, build: newForest},
		{Info: Info{Name: "random_cut_forest",
			Summary:    "runs of values that random cuts separate quickly from the recent past",
			Parameters: cutParameters(), MinHistory: cutMinHistory}, build: newCutForest},
		{Info: Info{Name: "matrix_profile",
			Summary:    "patterns unlike any earlier one, of the length of the series' own period",
			MinHistory: profileMinHistory}, build: newMatrixProfile},
		{Info: Info{Name: "threshold",
			Summary: "fixed bounds above and below; needs no history",
			Parameters: []Parameter{
				{Name: "above", Type: TypeNumber, Default: math.NaN(), Min: -math.MaxFloat64, Max: math.MaxFloat64,
					Summary: "values above it are anomalous; without it there is no upper bound"},
				{Name: "below", Type: TypeNumber, Default: math.NaN(), Min: -math.MaxFloat64, Max: math.MaxFloat64,
					Summary: "values below it are anomalous; without it there is no lower bound"},
			}, MinHistory: func(time.Duration) int { return 0 }}, build: newBounds, check: checkBounds},
		{Info: Info{Name: "surprise",
			Summary:    "the value is a surprise already, as the novelty of log templates is; needs no history",
			MinHistory: func(time.Duration) int { return 0 }}, build: newSurprise},
	}
}

// The limits of a window, in samples.
const (
	minWindow = 16
	maxWindow = 4096
)

func windowParameter(def float64) Parameter {
	return Parameter{Name: "window", Type: TypeInteger, Default: def, Min: minWindow, Max: maxWindow,
		Summary: "samples of recent history to compare with"}
}

func windowMinHistory(window int) func(time.Duration) int {
	return func(time.Duration) int { return windowLeast(window) }
}

// windowLeast is how much of a window must be filled before a model judges.
func windowLeast(window int) int { return max(minWindow, window/4) }

// prepare validates spec and collects every fault.
func prepare(spec Spec) (config, error) {
	var bad model.Invalid
	c := config{step: spec.Step, direction: spec.Direction, seed: spec.Seed, location: time.UTC, holidays: spec.Holidays}
	rows := table()
	for _, r := range rows {
		if r.Name == spec.Model {
			c.entry = r
		}
	}
	if c.entry.build == nil {
		names := make([]string, len(rows))
		for i, r := range rows {
			names[i] = r.Name
		}
		bad.Add("/model", "unknown_model", "there is no model %q; the models are %s", spec.Model, strings.Join(names, ", "))
	} else {
		c.params = parseParameters(spec.Parameters, c.entry.Parameters, &bad)
		if c.entry.check != nil {
			c.entry.check(c, &bad)
		}
	}
	if spec.Step < MinStep || spec.Step > MaxStep {
		bad.Add("/step", "out_of_range", "the step must be between %v and %v", MinStep, MaxStep)
	}
	switch spec.Direction {
	case "":
		c.direction = model.DirectionBoth
	case model.DirectionBoth, model.DirectionAbove, model.DirectionBelow:
	default:
		bad.Add("/direction", "unknown_direction", "the direction must be both, above or below")
	}
	if a := spec.MinDeviation.Absolute; !(a >= 0) || math.IsInf(a, 0) {
		bad.Add("/min_deviation/absolute", "out_of_range", "the least absolute deviation must be 0 or more")
	}
	if r := spec.MinDeviation.Relative; !(r >= 0) || math.IsInf(r, 0) {
		bad.Add("/min_deviation/relative", "out_of_range", "the least relative deviation must be 0 or more")
	}
	if spec.TimeZone != "" {
		loc, err := time.LoadLocation(spec.TimeZone)
		if err != nil || spec.TimeZone == "Local" {
			bad.Add("/time_zone", "unknown_time_zone", "there is no time zone %q; write a name such as Europe/Berlin", spec.TimeZone)
		} else {
			c.location = loc
		}
	}
	if err := bad.Err(model.SubjectDetector); err != nil {
		return config{}, err
	}
	c.ident = c.fingerprint()
	return c, nil
}

// fingerprint condenses all that a learned state depends on, so that a
// snapshot of another definition is refused.
func (c config) fingerprint() uint64 {
	h := fnv.New64a()
	var b [8]byte
	word := func(v uint64) {
		binary.LittleEndian.PutUint64(b[:], v)
		h.Write(b[:])
	}
	text := func(s string) {
		word(uint64(len(s)))
		_, _ = io.WriteString(h, s) // a hash takes everything
	}
	text(c.entry.Name)
	if r := c.entry.revision; r > 0 {
		word(r)
	}
	for i, d := range c.params.defs {
		text(d.Name)
		v := c.params.v[i]
		if math.IsNaN(v) {
			v = math.NaN() // one bit pattern for "not given"
		}
		word(math.Float64bits(v))
	}
	word(uint64(c.step))
	text(c.location.String())
	word(c.seed)
	return h.Sum64()
}

// SnapshotError says why a snapshot cannot be restored. The model that refused
// it is unchanged; train it from samples instead.
type SnapshotError struct {
	Problem string
}

// Error returns the problem and what to do.
func (e *SnapshotError) Error() string {
	return fmt.Sprintf("restoring a model: %s; train it again from its history", e.Problem)
}
