// Package config reads the one configuration file, lets the environment
// override it, and says with line, column and a caret what is wrong with it.
//
// It owns the file's shape and the order of precedence: flags, environment,
// file, defaults. It applies nothing: package app does. An unknown key is an
// error. Secrets come from the environment (${NAME}) or from files
// (file:/path), so that the file itself can be shown and committed.
package config

import (
	"encoding/json"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"aiops/internal/admission"
	"aiops/internal/api"
	"aiops/internal/auth"
	"aiops/internal/model"
	"aiops/internal/pipeline"
	"aiops/internal/pipeline/logs"
	"aiops/internal/pipeline/nodes"
	"aiops/internal/realtime"
	"aiops/internal/source"
	"aiops/internal/source/builtin"
	"aiops/internal/source/intake"
	"aiops/internal/source/lines"
	"aiops/internal/store"
	"aiops/internal/telemetry"
)

// Config is the whole configuration. The zero value plus ApplyDefaults is a
// program that watches itself and its host on loopback.
type Config struct {
	Server    Server              `yaml:"server"`
	Auth      auth.Config         `yaml:"auth"`
	DataDir   string              `yaml:"data_dir"` // default ./aiops-data
	Log       telemetry.LogConfig `yaml:"log"`
	Telemetry Telemetry           `yaml:"telemetry"`
	Storage   store.Config        `yaml:"storage"`
	Builtin   Builtin             `yaml:"builtin"`
	Pipeline  pipeline.Config     `yaml:"pipeline"`
	Nodes     nodes.Config        `yaml:"nodes"`
	LogCounts logs.Config         `yaml:"log_counts"`
	Live      realtime.Config     `yaml:"live"`
	Admission admission.Config    `yaml:"admission"`
	Cache     Cache               `yaml:"cache"`
	Sources   []Source            `yaml:"sources"`
	Detectors []Detector          `yaml:"detectors"`
}

// Builtin is the embedded source: its metrics, the log lines that it keeps, and
// the files that lines come from.
type Builtin struct {
	builtin.Config `yaml:",inline"`
	Logs           lines.Config  `yaml:"logs"`
	Files          []intake.File `yaml:"files"`
}

// Validate reports everything that is wrong with b.
func (b Builtin) Validate() error {
	var v model.Invalid
	addFaults(&v, "", b.Config.Validate())
	addFaults(&v, "/logs", b.Logs.Validate())
	addFaults(&v, "", intake.Config{Files: b.Files}.Validate())
	return v.Err(model.SubjectSource)
}

// Server says where the program listens.
type Server struct {
	Listen      string         `yaml:"listen"`       // host:port; default 127.0.0.1:8080
	Hosts       []string       `yaml:"hosts"`        // further Host headers to answer to
	DrainDelay  model.Duration `yaml:"drain_delay"`  // how long to keep serving after a stop was asked for; default 0 on loopback
	StopTimeout model.Duration `yaml:"stop_timeout"` // bound of a graceful stop; default 30s
}

// Cache bounds what is kept in memory to answer faster.
type Cache struct {
	Responses api.ResponsesConfig `yaml:"responses"`
	Queries   source.CacheConfig  `yaml:"queries"`
}

// Telemetry says where the program sends what it measures of itself.
type Telemetry struct {
	OTLP OTLP `yaml:"otlp"`
}

// OTLP sends traces to a collector. Nothing is sent without an endpoint.
type OTLP struct {
	Endpoint    string                  `yaml:"endpoint"`     // such as http://collector:4318; /v1/traces is added
	Headers     map[string]model.Secret `yaml:"headers"`      // sent with each request
	SampleRatio *float64                `yaml:"sample_ratio"` // share of traces that are recorded; default 1
}

// Traces returns the same in the words of package telemetry, for a process
// called node.
func (t Telemetry) Traces(node string) telemetry.TraceConfig {
	out := telemetry.TraceConfig{Endpoint: t.OTLP.Endpoint, Ratio: 1, Node: node, Headers: map[string]string{}}
	if t.OTLP.SampleRatio != nil {
		out.Ratio = *t.OTLP.SampleRatio
	}
	for name, value := range t.OTLP.Headers {
		out.Headers[name] = value.Reveal()
	}
	return out
}

// check finds the faults of the section.
func (t Telemetry) check(v *model.Invalid) {
	if r := t.OTLP.SampleRatio; r != nil && !(*r >= 0 && *r <= 1) {
		v.Add("/telemetry/otlp/sample_ratio", "out_of_range", "sample_ratio is a share from 0 to 1")
	}
	if t.OTLP.Endpoint == "" {
		if len(t.OTLP.Headers) > 0 {
			v.Add("/telemetry/otlp/endpoint", "required", "headers without an endpoint send nothing; give the endpoint, such as http://collector:4318")
		}
		return
	}
	u, err := url.Parse(t.OTLP.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		v.Add("/telemetry/otlp/endpoint", "url", "the endpoint is a URL such as http://collector:4318")
	}
}

// Source is a provisioned data source.
type Source struct {
	Name        string                  `yaml:"name"`
	Type        model.SourceType        `yaml:"type"`
	URL         string                  `yaml:"url"`
	Username    string                  `yaml:"username"`
	Password    model.Secret            `yaml:"password"`
	BearerToken model.Secret            `yaml:"bearer_token"`
	TLS         TLS                     `yaml:"tls"`
	Headers     map[string]model.Secret `yaml:"headers"`
	LateData    model.Duration          `yaml:"late_data"`
	Timeout     model.Duration          `yaml:"timeout"`
}

// TLS says how to check a source's certificate and which one to show.
type TLS struct {
	CAFile             string `yaml:"ca_file"`
	CertFile           string `yaml:"cert_file"`
	KeyFile            string `yaml:"key_file"`
	ServerName         string `yaml:"server_name"`
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify"`
}

// Detector is a provisioned detector.
type Detector struct {
	Name               string             `yaml:"name"`
	Source             string             `yaml:"source"` // default builtin
	Query              string             `yaml:"query"`
	Signal             string             `yaml:"signal"` // metrics (default) or logs
	Log                *model.LogRule     `yaml:"log"`    // of signal logs
	Step               model.Duration     `yaml:"step"`
	Model              string             `yaml:"model"`
	Parameters         map[string]any     `yaml:"parameters"`
	FalseAlarmsPerWeek *float64           `yaml:"false_alarms_per_week"`
	Sensitivity        string             `yaml:"sensitivity"` // low, medium or high: 0.1, 1 or 10 false alarms per week
	Direction          model.Direction    `yaml:"direction"`
	MinDeviation       model.MinDeviation `yaml:"min_deviation"`
	For                model.Duration     `yaml:"for"`
	KeepFiringFor      model.Duration     `yaml:"keep_firing_for"`
	Refractory         model.Duration     `yaml:"refractory"`
	MissingData        model.MissingData  `yaml:"missing_data"`
	TimeZone           string             `yaml:"time_zone"`
	Holidays           []string           `yaml:"holidays"`
	Joint              *model.Joint       `yaml:"joint"`
	Retrain            model.Retrain      `yaml:"retrain"`
	Labels             map[string]string  `yaml:"labels"`
	Enabled            *bool              `yaml:"enabled"` // default true
}

// ApplyDefaults fills what is not set.
func (c *Config) ApplyDefaults() {
	if c.Server.Listen == "" {
		c.Server.Listen = "127.0.0.1:8080"
	}
	if c.Server.StopTimeout == 0 {
		c.Server.StopTimeout = model.Duration(30 * time.Second)
	}
	if c.DataDir == "" {
		c.DataDir = "./aiops-data"
	}
	c.Storage.DataDir = c.DataDir
	c.Builtin.Dir = filepath.Join(c.DataDir, "metrics")
	c.Builtin.Logs.Dir = filepath.Join(c.DataDir, "lines")
	if c.Builtin.Interval == 0 {
		c.Builtin.Interval = model.Duration(5 * time.Second)
	}
}

// Definition returns the source in the words of package model.
func (s Source) Definition() model.Source {
	return model.Source{
		Name: s.Name, Type: s.Type, URL: s.URL,
		Auth:    model.SourceAuth{Username: s.Username, Password: s.Password, BearerToken: s.BearerToken},
		TLS:     model.TLSOptions(s.TLS),
		Headers: s.Headers, LateData: s.LateData.Std(), Timeout: s.Timeout.Std(), Provisioned: true,
	}
}

// Definition returns the detector in the words of package model, without the
// defaults of the pipeline.
func (d Detector) Definition() (model.Detector, error) {
	out := model.Detector{
		Name: d.Name, Source: d.Source, Query: d.Query, Step: d.Step.Std(), Model: d.Model,
		Direction: d.Direction, MinDeviation: d.MinDeviation, For: d.For.Std(), KeepFiringFor: d.KeepFiringFor.Std(),
		Refractory: d.Refractory.Std(), Joint: d.Joint, Retrain: d.Retrain,
		MissingData: d.MissingData, TimeZone: d.TimeZone, Holidays: d.Holidays, Labels: d.Labels,
		Provisioned: true, Enabled: d.Enabled == nil || *d.Enabled,
	}
	if out.Source == "" {
		out.Source = model.BuiltinSource
	}
	var err error
	if out.Log, err = model.LogOf(d.Signal, d.Log); err != nil {
		return out, err
	}
	budget, err := model.Budget(d.FalseAlarmsPerWeek, d.Sensitivity)
	if err != nil {
		return out, err
	}
	out.FalseAlarmsPerWeek = budget
	if len(d.Parameters) > 0 {
		if out.Parameters, err = json.Marshal(d.Parameters); err != nil {
			return out, &model.Error{Kind: model.KindInvalid, Subject: model.SubjectDetector, Message: "parameters cannot be written as JSON",
				Fields: []model.FieldError{{Pointer: "/parameters", Code: "type", Detail: err.Error()}}}
		}
	}
	return out, nil
}

// Loopback reports whether address, a host:port, listens on this machine only.
func Loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// checks collects what is wrong with the parts that this package owns, as
// JSON pointers into the file.
func (c *Config) checks(v *model.Invalid) {
	if _, _, err := net.SplitHostPort(c.Server.Listen); err != nil {
		v.Add("/server/listen", "address", "%q is not host:port", c.Server.Listen)
	} else if !c.Auth.Enabled && !Loopback(c.Server.Listen) {
		v.Add("/server/listen", "not_loopback", "without authentication the program listens on loopback only, such as 127.0.0.1:8080, not on %q; set auth: {enabled: true}", c.Server.Listen)
	}
	addFaults(v, "/auth", c.Auth.Validate())
	if err := c.Log.Validate(); err != nil {
		v.Add("/log", "log", "%s", err)
	}
	addFaults(v, "/storage", c.Storage.Validate())
	addFaults(v, "/builtin", c.Builtin.Validate())
	addFaults(v, "/nodes", c.Nodes.Validate())
	addFaults(v, "/log_counts", c.LogCounts.Validate())
	addFaults(v, "/pipeline", c.Pipeline.Validate())
	addFaults(v, "/live", c.Live.Validate())
	addFaults(v, "/admission", c.Admission.Validate())
	addFaults(v, "/cache/responses", c.Cache.Responses.Validate())
	addFaults(v, "/cache/queries", c.Cache.Queries.Validate())
	if d := c.Server.StopTimeout.Std(); d < time.Second || d > 10*time.Minute {
		v.Add("/server/stop_timeout", "out_of_range", "stop_timeout is between 1s and 10m, not %s", c.Server.StopTimeout)
	}
	if d := c.Server.DrainDelay.Std(); d < 0 || d > c.Server.StopTimeout.Std() {
		v.Add("/server/drain_delay", "out_of_range", "drain_delay is between 0s and stop_timeout, not %s", c.Server.DrainDelay)
	}
}
