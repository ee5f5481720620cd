package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"aiops/internal/detect"
	"aiops/internal/model"
)

// Limits on a definition.
const (
	MinStep = time.Second
	MaxStep = 24 * time.Hour

	maxNameBytes   = 200
	maxQueryBytes  = 16 << 10
	maxHold        = 7 * 24 * time.Hour
	maxLabels      = 32
	maxLabelBytes  = 256
	maxWeeklyAlarm = 10_000
	maxJointLabels = 8
)

// Defaults fills what a definition left out: step 30 s, model auto, one false
// alarm a week, both directions, missing data ignored, UTC. It does not enable
// the detector and never changes a field that is set.
func Defaults(d *model.Detector) {
	if d.Source == "" {
		d.Source = model.BuiltinSource
	}
	if d.Log != nil {
		logDefaults(d)
	}
	if d.Step == 0 {
		d.Step = 30 * time.Second
	}
	if d.Model == "" {
		d.Model = "auto"
	}
	if d.FalseAlarmsPerWeek == 0 {
		d.FalseAlarmsPerWeek = 1
	}
	if d.Direction == "" {
		d.Direction = model.DirectionBoth
	}
	if d.MissingData == "" {
		d.MissingData = model.MissingIgnore
	}
}

// logDefaults fills what follows from what a detector on logs watches: what is
// new says itself how surprising it is, each line that a pattern finds counts,
// and of what is unusual only more of it.
func logDefaults(d *model.Detector) {
	switch d.Log.Kind {
	case model.LogNewTemplate:
		if d.Model == "" {
			d.Model = "surprise"
		}
	case model.LogPatternKind:
		if d.Model == "" && d.Parameters == nil {
			d.Model, d.Parameters = "threshold", json.RawMessage(`{"above": 0}`)
		}
	case model.LogLevelRatio, model.LogMix:
	default:
		return
	}
	if d.Direction == "" {
		d.Direction = model.DirectionAbove
	}
}

// Validate finds every fault of a definition that can be found without its
// source, all at once, as a model.Error of KindInvalid. Call Defaults first.
func Validate(d model.Detector) error {
	var v model.Invalid
	validateText(&v, d)
	validateTimes(&v, d)
	switch d.MissingData {
	case model.MissingIgnore, model.MissingZero, model.MissingLast, model.MissingAnomaly:
	default:
		v.Add("/missing_data", "unknown_value", "missing_data is ignore, zero, last or anomaly, not %q", d.MissingData)
	}
	if f := d.FalseAlarmsPerWeek; !(f > 0 && f <= maxWeeklyAlarm) {
		v.Add("/false_alarms_per_week", "out_of_range", "false_alarms_per_week must be above 0 and at most %d", maxWeeklyAlarm)
	}
	validateJoint(&v, d.Joint)
	validateRetrain(&v, d.Retrain)
	validateModel(&v, d)
	if d.Log != nil {
		d.Log.Check(&v)
		if d.Step%model.LogBucket != 0 {
			v.Add("/step", "out_of_range", "the step of a detector on logs must be a multiple of %s", model.Duration(model.LogBucket))
		}
	}
	return v.Err(model.SubjectDetector)
}

func validateJoint(v *model.Invalid, j *model.Joint) {
	if j == nil {
		return
	}
	if !j.Peers && !j.Groups {
		v.Add("/joint", "required", "joint asks for peers, groups or both")
	}
	if len(j.By) > maxJointLabels {
		v.Add("/joint/by", "too_many", "%d labels make a group; at most %d are allowed", len(j.By), maxJointLabels)
	}
	for i, name := range j.By {
		if name == "" || len(name) > maxLabelBytes || name == model.JointLabel || !utf8.ValidString(name) {
			v.Add(fmt.Sprintf("/joint/by/%d", i), "invalid_name", "%q is not the name of a label that can make a group", truncate(name, 40))
		}
		if slices.Contains(j.By[:i], name) {
			v.Add(fmt.Sprintf("/joint/by/%d", i), "duplicate", "the label %q is named twice", truncate(name, 40))
		}
	}
}

func validateRetrain(v *model.Invalid, r model.Retrain) {
	if r.Every != 0 && (r.Every.Std() < time.Hour || r.Every.Std() > 366*24*time.Hour) {
		v.Add("/retrain/every", "out_of_range", "every must be from 1h to 366d, or left out")
	}
	switch r.Into {
	case "", model.ModelActive, model.ModelShadow:
	default:
		v.Add("/retrain/into", "unknown_value", "into is active or shadow, not %q", truncate(string(r.Into), 40))
	}
}

// validateModel adds what package detect finds. It knows wider bounds for the
// step than a schedule does.
func validateModel(v *model.Invalid, d model.Detector) {
	spec := (&definition{detector: d}).spec(0)
	spec.Step = min(max(d.Step, MinStep), MaxStep)
	_, unreadable := detect.ParseHolidays(d.Holidays)
	for _, err := range []error{detect.Validate(spec), unreadable} {
		var e *model.Error
		if !errors.As(err, &e) {
			continue
		}
		for _, f := range e.Fields {
			v.Add(f.Pointer, f.Code, "%s", f.Detail)
		}
	}
}

func validateText(v *model.Invalid, d model.Detector) {
	text := func(pointer, field, s string, required bool, limit int) {
		switch {
		case s == "" && required:
			v.Add(pointer, "required", "%s is missing", field)
		case len(s) > limit:
			v.Add(pointer, "too_long", "%s has %d bytes; at most %d are allowed", field, len(s), limit)
		case !utf8.ValidString(s):
			v.Add(pointer, "encoding", "%s is not valid UTF-8", field)
		}
	}
	text("/name", "name", d.Name, true, maxNameBytes)
	text("/source", "source", d.Source, true, maxNameBytes)
	text("/query", "query", d.Query, true, maxQueryBytes)
	if len(d.Labels) > maxLabels {
		v.Add("/labels", "too_many", "%d labels; at most %d are allowed", len(d.Labels), maxLabels)
	}
	for name, value := range d.Labels {
		if name == "" || len(name) > maxLabelBytes || !utf8.ValidString(name) {
			v.Add("/labels", "invalid_name", "a label's name has 1 to %d bytes of UTF-8, not %q", maxLabelBytes, truncate(name, 40))
			continue
		}
		if len(value) > maxLabelBytes || !utf8.ValidString(value) {
			v.Add("/labels", "invalid_value", "the value of label %q must be UTF-8 of at most %d bytes", name, maxLabelBytes)
		}
	}
}

func validateTimes(v *model.Invalid, d model.Detector) {
	if d.Step < MinStep || d.Step > MaxStep {
		v.Add("/step", "out_of_range", "step must be from %s to %s", MinStep, model.Duration(MaxStep))
	} else if d.Step%time.Second != 0 {
		v.Add("/step", "out_of_range", "step must be whole seconds")
	}
	if d.For < 0 || d.For > maxHold {
		v.Add("/for", "out_of_range", "for must be from 0s to %s", model.Duration(maxHold))
	}
	if d.Refractory < 0 || d.Refractory > maxHold {
		v.Add("/refractory", "out_of_range", "refractory must be from 0s to %s", model.Duration(maxHold))
	}
	if d.KeepFiringFor < 0 || d.KeepFiringFor > maxHold {
		v.Add("/keep_firing_for", "out_of_range", "keep_firing_for must be from 0s to %s", model.Duration(maxHold))
	}
}

// truncate cuts s to at most n bytes at a rune boundary.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
