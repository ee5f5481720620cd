package api

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"aiops/internal/model"
)

// Detector is a definition and what it is doing.
type Detector struct {
	ID                 string            `json:"id" example:"det_4f9k2m"`
	Name               string            `json:"name" example:"checkout latency"`
	Source             string            `json:"source" doc:"Name of the source" example:"main"`
	Signal             string            `json:"signal" enum:"metrics,logs" doc:"What it watches"`
	Query              string            `json:"query" doc:"PromQL, or the source's own language; of a detector on logs the streams"`
	Log                *LogRule          `json:"log,omitempty" doc:"What a detector on logs watches"`
	Step               Duration          `json:"step" doc:"How often it is evaluated"`
	Model              string            `json:"model" example:"auto"`
	Parameters         Object            `json:"parameters" doc:"Of the model; empty for defaults"`
	FalseAlarmsPerWeek float64           `json:"false_alarms_per_week" doc:"Tolerable false alarms of the whole detector" example:"1"`
	Direction          string            `json:"direction" enum:"both,above,below"`
	MinDeviation       MinDeviation      `json:"min_deviation"`
	For                Duration          `json:"for" doc:"How long a deviation lasts before the anomaly fires"`
	KeepFiringFor      Duration          `json:"keep_firing_for" doc:"How long values stay normal before it resolves"`
	Refractory         Duration          `json:"refractory" required:"false" doc:"How long a series stays quiet after an anomaly resolved"`
	Joint              *Joint            `json:"joint,omitempty" doc:"Absent: each series by itself"`
	Retrain            *Retrain          `json:"retrain,omitempty" doc:"Absent: only when asked to"`
	MissingData        string            `json:"missing_data" enum:"ignore,zero,last,anomaly"`
	TimeZone           string            `json:"time_zone" doc:"IANA name for daily and weekly rhythms; empty is UTC"`
	Holidays           []string          `json:"holidays,omitempty" doc:"Days that are like another day of the week in the time zone"`
	Labels             map[string]string `json:"labels" doc:"Of the owner, such as team and service"`
	Provisioned        bool              `json:"provisioned" doc:"Defined by the configuration file, so locked here"`
	Enabled            bool              `json:"enabled"`
	Version            int64             `json:"version" doc:"Grows by one with each change"`
	CreatedAt          time.Time         `json:"created_at"`
	UpdatedAt          time.Time         `json:"updated_at"`
	Status             DetectorStatus    `json:"status"`
}

// LogRule is what a detector on logs watches.
type LogRule struct {
	Kind     string `json:"kind" enum:"template,new_template,rate,level_ratio,mix,pattern" doc:"template: lines of each pattern. new_template: patterns never seen before. rate: lines of each stream. level_ratio: share of errors. mix: how far the shares of the patterns are from the usual ones. pattern: lines that a regular expression finds."`
	Pattern  string `json:"pattern,omitempty" maxLength:"1024" doc:"Regular expression (RE2), of kind pattern"`
	Template string `json:"template,omitempty" maxLength:"16" doc:"Id of the only pattern to watch, of kind template"`
	Severity string `json:"severity,omitempty" enum:"info,warning,critical" doc:"Of every anomaly; without it the severity follows the score"`
}

func (r *LogRule) rule() *model.LogRule {
	if r == nil {
		return nil
	}
	return &model.LogRule{Kind: model.LogKind(r.Kind), Pattern: r.Pattern, Template: r.Template, Severity: model.Severity(r.Severity)}
}

func logRuleOf(r *model.LogRule) *LogRule {
	if r == nil {
		return nil
	}
	return &LogRule{Kind: string(r.Kind), Pattern: r.Pattern, Template: r.Template, Severity: string(r.Severity)}
}

// MinDeviation is the least distance from the expected value that counts.
type MinDeviation struct {
	Absolute float64 `json:"absolute" required:"false" minimum:"0" maximum:"1e300" doc:"In the unit of the series"`
	Relative float64 `json:"relative" required:"false" minimum:"0" maximum:"1e9" doc:"Share of the expected value: 0.2 is 20 %"`
}

// Joint says which series are also looked at together.
type Joint struct {
	Peers  bool     `json:"peers,omitempty" doc:"Compare each member of a group with the median of the group: one replica among many"`
	Groups bool     `json:"groups,omitempty" doc:"Judge how surprising all members of a group are together"`
	By     []string `json:"by,omitempty" maxItems:"8" doc:"Labels that make a group; none: all series are one group" example:"[\"job\"]"`
}

// JointOf shows j; nil stays nil.
func JointOf(j *model.Joint) *Joint {
	if j == nil {
		return nil
	}
	return &Joint{Peers: j.Peers, Groups: j.Groups, By: j.By}
}

func (j *Joint) definition() *model.Joint {
	if j == nil || !j.Peers && !j.Groups && len(j.By) == 0 {
		return nil
	}
	return &model.Joint{Peers: j.Peers, Groups: j.Groups, By: j.By}
}

// Retrain says when the models learn anew by themselves.
type Retrain struct {
	Every   Duration `json:"every,omitempty" doc:"At least 1h; absent: not by the clock" example:"7d"`
	OnDrift bool     `json:"on_drift,omitempty" doc:"When the scores no longer fit their calibration"`
	Into    string   `json:"into,omitempty" enum:"active,shadow" doc:"What becomes of the new version; default active"`
}

// RetrainOf shows r; nil when it asks for nothing.
func RetrainOf(r model.Retrain) *Retrain {
	if r == (model.Retrain{}) {
		return nil
	}
	out := &Retrain{OnDrift: r.OnDrift, Into: string(r.Into)}
	if r.Every != 0 {
		out.Every = durationOf(r.Every.Std())
	}
	return out
}

func (r *Retrain) definition(v *model.Invalid) model.Retrain {
	if r == nil {
		return model.Retrain{}
	}
	return model.Retrain{Every: model.Duration(r.Every.parse(v, "/retrain/every")), OnDrift: r.OnDrift, Into: model.ModelState(r.Into)}
}

// DetectorStatus is the live side of a detector.
type DetectorStatus struct {
	State           string     `json:"state" enum:"learning,running,stopped,degraded,failed"`
	SeriesActive    int        `json:"series_active"`
	SeriesLearning  int        `json:"series_learning"`
	SeriesDropped   int        `json:"series_dropped" doc:"Refused because of the cap on series"`
	OpenAnomalies   int        `json:"open_anomalies"`
	LagSeconds      float64    `json:"lag_seconds" doc:"From the last step that is due to the last one evaluated"`
	LastEvaluatedAt *time.Time `json:"last_evaluated_at,omitempty" doc:"Absent: never"`
	LastError       string     `json:"last_error,omitempty" doc:"Absent when the last evaluation succeeded"`
	MemoryBytes     int64      `json:"memory_bytes" doc:"Of all model state"`
	Threshold       Number     `json:"threshold" doc:"Score at which a sample is anomalous now; null while unknown"`
	ThresholdAsked  Number     `json:"threshold_asked" required:"false" doc:"What it would be if scores were exact: it differs where all series together show that they are not. null while unknown"`
	ThresholdBasis  string     `json:"threshold_basis,omitempty" enum:"assumed,extrapolated,counted" doc:"What the threshold rests on. counted: exceedances so rare were counted over all series. extrapolated: less rare ones were, and the rest is what the tails of the series say. assumed: too few samples yet, the scores are taken at their word. Absent while unknown"`
	Gates           Gates      `json:"gates" required:"false" doc:"What stands between a score and an alarm"`
	Drift           Drift      `json:"drift" required:"false" doc:"How far the scores are from their calibration"`
	Node            string     `json:"node,omitempty" doc:"Host of the node that evaluates it, where several share a database; absent elsewhere, and while none does"`
}

// DetectorInput is a definition as clients write it. Fields that only answers
// have may be sent back; they are ignored.
type DetectorInput struct {
	Name               string            `json:"name" minLength:"1" maxLength:"200" doc:"Unique" example:"checkout latency"`
	Source             string            `json:"source,omitempty" maxLength:"200" doc:"Name of the source; default builtin"`
	Signal             string            `json:"signal,omitempty" enum:"metrics,logs" doc:"What it watches; default metrics"`
	Query              string            `json:"query" minLength:"1" maxLength:"16384" doc:"PromQL, or the source's own language; of a detector on logs the streams, such as {service=\"checkout\"}" example:"rate(http_requests_total[5m])"`
	Log                *LogRule          `json:"log,omitempty" doc:"What a detector with signal logs watches"`
	Step               Duration          `json:"step,omitempty" doc:"How often it is evaluated, 1s to 24h; default 30s"`
	Model              string            `json:"model,omitempty" maxLength:"64" doc:"The model that scores: auto (the default), deep, robust_zscore, ewma, iqr, window, seasonal, holt_winters, level_shift, rate_of_change, counts, flat_line, spread, relative_entropy, spectral_residual, isolation_forest, random_cut_forest, matrix_profile, threshold or surprise; docs/detection.md says what each is for" example:"auto"`
	Parameters         Object            `json:"parameters,omitempty" doc:"Of the model; leave out for defaults"`
	FalseAlarmsPerWeek *float64          `json:"false_alarms_per_week,omitempty" exclusiveMinimum:"0" maximum:"10000" doc:"Tolerable false alarms of the whole detector; default 1" example:"1"`
	Sensitivity        string            `json:"sensitivity,omitempty" enum:"low,medium,high" doc:"Another way to say false_alarms_per_week: low is 0.1, medium is 1, high is 10. Give one of the two."`
	Direction          string            `json:"direction,omitempty" enum:"both,above,below" doc:"Default both"`
	MinDeviation       *MinDeviation     `json:"min_deviation,omitempty"`
	For                Duration          `json:"for,omitempty" doc:"How long a deviation lasts before the anomaly fires, up to 7d; default 0s"`
	KeepFiringFor      Duration          `json:"keep_firing_for,omitempty" doc:"How long values stay normal before it resolves, up to 7d; default 0s"`
	Refractory         Duration          `json:"refractory,omitempty" doc:"How long a series stays quiet after an anomaly resolved, up to 7d; default 0s"`
	Joint              *Joint            `json:"joint,omitempty"`
	Retrain            *Retrain          `json:"retrain,omitempty"`
	MissingData        string            `json:"missing_data,omitempty" enum:"ignore,zero,last,anomaly" doc:"What a step without a sample means while the source is healthy; default ignore"`
	TimeZone           string            `json:"time_zone,omitempty" maxLength:"64" doc:"IANA name for daily and weekly rhythms; default UTC" example:"Europe/Berlin"`
	Holidays           []string          `json:"holidays,omitempty" nullable:"false" maxItems:"400" doc:"Days that are like a Sunday in the time zone: 12-25 in each year, 2026-04-03 once, 12-24=saturday like another day of the week. For the models auto, deep, seasonal and holt_winters with a season of a week."`
	Labels             map[string]string `json:"labels,omitempty" maxProperties:"32" doc:"Of the owner, such as team and service"`
	Enabled            *bool             `json:"enabled,omitempty" doc:"Default true"`

	ID          any `json:"id,omitempty" hidden:"true"`
	Provisioned any `json:"provisioned,omitempty" hidden:"true"`
	Version     any `json:"version,omitempty" hidden:"true"`
	CreatedAt   any `json:"created_at,omitempty" hidden:"true"`
	UpdatedAt   any `json:"updated_at,omitempty" hidden:"true"`
	Status      any `json:"status,omitempty" hidden:"true"`
}

// Object is any JSON object, kept as it was written.
type Object json.RawMessage

// Schema describes an object with any fields; huma asks for it.
func (Object) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
}

// MarshalJSON writes the object; none is written as an empty one.
func (o Object) MarshalJSON() ([]byte, error) {
	if len(o) == 0 {
		return []byte("{}"), nil
	}
	return o, nil
}

// UnmarshalJSON keeps a copy; null and an empty object are none.
func (o *Object) UnmarshalJSON(b []byte) error {
	*o = nil
	if text := bytes.TrimSpace(b); !bytes.Equal(text, []byte("null")) && !bytes.Equal(text, []byte("{}")) {
		*o = append(Object(nil), text...)
	}
	return nil
}

// definition turns what a client wrote into a detector, with all faults noted
// in v.
func (in DetectorInput) definition(v *model.Invalid) model.Detector {
	d := model.Detector{
		Name: in.Name, Source: in.Source, Query: in.Query, Model: in.Model, Parameters: json.RawMessage(in.Parameters),
		Direction: model.Direction(in.Direction), MissingData: model.MissingData(in.MissingData),
		TimeZone: in.TimeZone, Holidays: in.Holidays, Labels: in.Labels, Enabled: in.Enabled == nil || *in.Enabled,
		Step: in.Step.parse(v, "/step"), For: in.For.parse(v, "/for"), KeepFiringFor: in.KeepFiringFor.parse(v, "/keep_firing_for"),
		Refractory: in.Refractory.parse(v, "/refractory"), Joint: in.Joint.definition(), Retrain: in.Retrain.definition(v),
	}
	if in.Step != "" && d.Step == 0 {
		v.Add("/step", "out_of_range", "step must be at least 1s")
	}
	if in.MinDeviation != nil {
		d.MinDeviation = model.MinDeviation{Absolute: in.MinDeviation.Absolute, Relative: in.MinDeviation.Relative}
	}
	rule, err := model.LogOf(in.Signal, in.Log.rule())
	addFaults(v, err)
	d.Log = rule
	budget, err := model.Budget(in.FalseAlarmsPerWeek, in.Sensitivity)
	addFaults(v, err)
	d.FalseAlarmsPerWeek = budget
	return d
}

// inputOf is the inverse of definition: what a client would write for d.
func inputOf(d model.Detector) DetectorInput {
	return DetectorInput{
		Name: d.Name, Source: d.Source, Query: d.Query, Log: logRuleOf(d.Log), Step: durationOf(d.Step), Model: d.Model, Parameters: Object(d.Parameters),
		FalseAlarmsPerWeek: &d.FalseAlarmsPerWeek, Direction: string(d.Direction),
		MinDeviation: &MinDeviation{Absolute: d.MinDeviation.Absolute, Relative: d.MinDeviation.Relative},
		For:          durationOf(d.For), KeepFiringFor: durationOf(d.KeepFiringFor), MissingData: string(d.MissingData),
		TimeZone: d.TimeZone, Holidays: d.Holidays, Labels: d.Labels, Enabled: &d.Enabled,
		Refractory: durationOf(d.Refractory), Joint: JointOf(d.Joint), Retrain: RetrainOf(d.Retrain),
	}
}

// detectorOf shows a stored definition with its live side.
func (s *server) detectorOf(d model.Detector) Detector {
	labels := d.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	return Detector{
		ID: d.ID, Name: d.Name, Source: d.Source, Signal: d.Signal(), Query: d.Query, Log: logRuleOf(d.Log), Step: durationOf(d.Step), Model: d.Model, Parameters: Object(d.Parameters),
		FalseAlarmsPerWeek: d.FalseAlarmsPerWeek, Direction: string(d.Direction),
		Refractory: durationOf(d.Refractory), Joint: JointOf(d.Joint), Retrain: RetrainOf(d.Retrain),
		MinDeviation: MinDeviation{Absolute: d.MinDeviation.Absolute, Relative: d.MinDeviation.Relative},
		For:          durationOf(d.For), KeepFiringFor: durationOf(d.KeepFiringFor), MissingData: string(d.MissingData),
		TimeZone: d.TimeZone, Holidays: d.Holidays, Labels: labels, Provisioned: d.Provisioned, Enabled: d.Enabled, Version: d.Version,
		CreatedAt: d.CreatedAt.UTC(), UpdatedAt: d.UpdatedAt.UTC(), Status: s.statusOf(d),
	}
}

// statusOf is the live side of d. A definition that the engine has not taken
// up yet is learning, or stopped when it is not enabled.
func (s *server) statusOf(d model.Detector) DetectorStatus {
	st, ok := s.opts.Engine.Status(d.ID)
	if !ok {
		st = model.DetectorStatus{State: model.DetectorLearning}
	}
	if !d.Enabled {
		st.State = model.DetectorStopped
	}
	threshold, asked := Number(st.Threshold), Number(st.ThresholdAsked)
	if st.Threshold <= 0 {
		threshold = unknown()
	}
	if st.ThresholdAsked <= 0 {
		asked = unknown()
	}
	return DetectorStatus{
		State: string(st.State), SeriesActive: st.SeriesActive, SeriesLearning: st.SeriesLearning, SeriesDropped: st.SeriesDropped,
		OpenAnomalies: st.OpenAnomalies, LagSeconds: st.Lag.Seconds(), LastEvaluatedAt: timeOf(st.LastEvaluatedAt),
		LastError: clip(st.LastError, maxDetail), MemoryBytes: st.MemoryBytes, Threshold: threshold,
		ThresholdAsked: asked, ThresholdBasis: st.ThresholdBasis, Gates: gatesOf(d, st.Threshold), Drift: driftOf(st.Drift), Node: clip(st.Node, maxDetail),
	}
}
