package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/api"
	"aiops/internal/config"
	"aiops/internal/model"
	"aiops/internal/pipeline"
	"aiops/internal/pipeline/logs"
	"aiops/internal/source"
	"aiops/internal/source/builtin"
	"aiops/internal/store"
	"aiops/internal/telemetry"
)

// The functions here are the commands that work on what a server has stored.
// A data directory belongs to one process: while a server runs on it, it is
// asked over HTTP; otherwise the parts are opened here.

// server is a running server, as the other commands ask it.
type server struct {
	url   string
	token string // AIOPS_TOKEN, or else what the server left in its data directory
}

// runningServer returns the server that runs on the data directory, or false
// when none answers.
func (o Options) runningServer(ctx context.Context, dataDir string) (server, bool) {
	data, err := os.ReadFile(filepath.Join(dataDir, addressFile))
	if err != nil {
		return server{}, false
	}
	s := server{url: strings.TrimSpace(string(data))}
	env := o.Env
	if env == nil {
		env = os.LookupEnv
	}
	if token, ok := env("AIOPS_TOKEN"); ok && token != "" {
		s.token = token
	} else if left, err := os.ReadFile(filepath.Join(dataDir, localKeyFile)); err == nil {
		s.token = strings.TrimSpace(string(left))
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	status, _, err := s.request(ctx, http.MethodGet, "/livez", nil)
	return s, err == nil && status == http.StatusOK
}

func (s server) request(ctx context.Context, method, path string, body any) (int, []byte, error) {
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		reader = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, reader)
	if err != nil {
		return 0, nil, err
	}
	if s.token != "" {
		r.Header.Set("Authorization", "Bearer "+s.token)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil, fmt.Errorf("asking the running server: %w", err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, 64<<20))
	return response.StatusCode, data, err
}

// ask sends a request to the running server and decodes its answer.
func (s server) ask(ctx context.Context, method, path string, body, into any) error {
	status, data, err := s.request(ctx, method, path, body)
	if err != nil {
		return err
	}
	if status < 200 || status > 299 {
		var problem struct {
			Detail string             `json:"detail"`
			Errors []model.FieldError `json:"errors"`
		}
		if json.Unmarshal(data, &problem) == nil && problem.Detail != "" {
			for _, e := range problem.Errors {
				problem.Detail += fmt.Sprintf("\n  %s: %s", e.Pointer, e.Detail)
			}
			return errors.New(problem.Detail)
		}
		return fmt.Errorf("the running server answered %d", status)
	}
	return json.Unmarshal(data, into)
}

// openStore opens the store of a data directory that no server uses.
func (o Options) openStore(ctx context.Context) (*store.Store, config.Config, error) {
	c, err := o.load()
	if err != nil {
		return nil, c, err
	}
	s, err := store.Open(ctx, c.Storage, telemetry.NewLogger(c.Log, o.Log, levelVar("warn")), prometheus.NewRegistry())
	return s, c, err
}

// Migrate brings the database to this version, with a snapshot before.
func Migrate(ctx context.Context, o Options) error {
	s, _, err := o.openStore(ctx)
	if err != nil {
		return err
	}
	return s.Close()
}

// Backup writes a consistent copy of the database to path, whether or not a
// server is using it.
func Backup(ctx context.Context, o Options, path string) error {
	c, err := o.load()
	if err != nil {
		return err
	}
	return store.Backup(ctx, c.Storage, path)
}

// Restore puts the backup at path in the place of the database. No server may
// be using it.
func Restore(ctx context.Context, o Options, path string) error {
	c, err := o.load()
	if err != nil {
		return err
	}
	return store.Restore(ctx, c.Storage, path, telemetry.NewLogger(c.Log, o.Log, levelVar("warn")))
}

// Explain returns an explanation of an anomaly as text, and whether its
// evidence, scored again, gives what was stored.
func Explain(ctx context.Context, o Options, id string) (text string, reproduced bool, err error) {
	c, err := o.load()
	if err != nil {
		return "", false, err
	}
	var answer api.ExplanationAnswer
	if running, ok := o.runningServer(ctx, c.DataDir); ok {
		if err := running.ask(ctx, http.MethodGet, "/api/v1/anomalies/"+id+"/explain", nil, &answer); err != nil {
			return "", false, err
		}
		return explanationText(answer), answer.Reproduced, nil
	}
	s, c, err := o.openStore(ctx)
	if err != nil {
		return "", false, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	engine := pipeline.New(c.Pipeline, s, func(model.Detector) (pipeline.Source, bool) { return nil, false }, nil, nil, nil)
	x, err := engine.Explain(ctx, id)
	if err != nil {
		return "", false, err
	}
	answer = api.ExplanationOf(explanation(x))
	return explanationText(answer), answer.Reproduced, nil
}

// explanationText writes an explanation for a terminal. Labels come from
// outside, so what could steer a terminal is quoted.
func explanationText(a api.ExplanationAnswer) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-16s %s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	line("anomaly", "%s, %s, %s", a.Anomaly.ID, a.Anomaly.State, a.Anomaly.Severity)
	line("detector", "%s (version %d, model version %d)", a.Anomaly.DetectorName, a.Anomaly.DetectorVersion, a.Anomaly.ModelVersion)
	line("series", "%s", a.Anomaly.Series.Key)
	line("started", "%s", a.Anomaly.StartedAt.Format(time.RFC3339))
	line("what", "%s", a.Summary)
	line("how rare", "%s", a.Probability)
	if a.Model == "" {
		line("computed again", "not possible: %s", a.Difference)
		return b.String()
	}
	line("otherwise", "%s", a.Counterfactual)
	for _, g := range a.Gates {
		line("gate", "%s: %s", g.Name, g.Detail)
	}
	line("model", "%s", a.Model)
	line("peak", "value %.5g, expected %.5g, normal %s, score %.2f (threshold %.2f)", a.Peak.Value, a.Peak.Expected, bandText(a.Peak.Lower, a.Peak.Upper), a.Peak.Score, a.Threshold)
	for _, c := range a.Contributions {
		line("made of", "%s, %.0f %%: %s", c.Name, float64(c.Share)*100, c.Note)
	}
	for _, m := range a.AlsoMoved {
		line("also moved", "%s %s: %.5g where %.5g was expected, score %.1f at %s", m.DetectorName, m.Series.Key, m.Value, m.Expected, m.Score, m.At.Format(time.RFC3339))
	}
	for _, s := range a.Similar {
		label := "not labelled"
		if s.Label != nil {
			label = fmt.Sprintf("labelled %t", *s.Label)
		}
		line("similar", "%s at %s, %s, %s (%.0f %%)", s.ID, s.StartedAt.Format(time.RFC3339), label, s.Why, 100*float64(s.Similarity))
	}
	if a.Reproduced {
		line("computed again", "the stored evidence gives the same, bit for bit")
	} else {
		line("computed again", "DIFFERENT: %s", a.Difference)
	}
	return b.String()
}

// bandText writes a band that may be open on a side.
func bandText(lower, upper api.Number) string {
	below, above := !math.IsNaN(float64(lower)) && !math.IsInf(float64(lower), 0), !math.IsNaN(float64(upper)) && !math.IsInf(float64(upper), 0)
	switch {
	case below && above:
		return fmt.Sprintf("%.5g to %.5g", lower, upper)
	case below:
		return fmt.Sprintf("from %.5g", lower)
	case above:
		return fmt.Sprintf("up to %.5g", upper)
	}
	return "unknown"
}

// printable replaces control characters.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '�'
		}
		return r
	}, s)
}

// Backtest says what the detector in file would have done from from to to.
func Backtest(ctx context.Context, o Options, file string, from, to time.Time, progress func(float64)) (any, error) {
	c, err := o.load()
	if err != nil {
		return nil, err
	}
	env := o.Env
	if env == nil {
		env = os.LookupEnv
	}
	d, err := config.LoadDetector(file, env, validateDetector)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if running, ok := o.runningServer(ctx, c.DataDir); ok {
		return running.backtest(ctx, d, from, to, progress)
	}
	return backtestHere(ctx, o, d, from, to, progress)
}

// backtestHere opens the sources and runs the backtest in this process.
func backtestHere(ctx context.Context, o Options, d model.Detector, from, to time.Time, progress func(float64)) (_ any, err error) {
	s, c, err := o.openStore(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	log := telemetry.NewLogger(c.Log, o.Log, levelVar("warn"))
	registry := prometheus.NewRegistry()
	embedded, err := builtin.Open(c.Builtin.Config, log, registry)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, embedded.Close()) }()
	clients := newSources(s, false, embedded, source.NewCache(source.CacheConfig{MaxBytes: -1}, nil), newSupervisor(log, registry), registry, log)
	if err := provisionSources(ctx, s, c.Sources, log); err != nil {
		return nil, err
	}
	if err := clients.Sync(ctx); err != nil {
		return nil, err
	}
	found := func(d model.Detector) (pipeline.Source, bool) {
		if d.Log != nil {
			return logs.History(c.LogCounts, d, embedded), true
		}
		return clients.Source(d.Source)
	}
	result, err := pipeline.New(c.Pipeline, s, found, log, registry, time.Now).Backtest(ctx, d, from, to, progress)
	if err != nil {
		return nil, err
	}
	return api.BacktestOf(d.ID, result), nil
}

// backtest runs the backtest as a task of the running server, and cancels it
// when ctx ends.
func (s server) backtest(ctx context.Context, d model.Detector, from, to time.Time, progress func(float64)) (any, error) {
	var task api.Task
	body := map[string]any{"detector": definitionInput(d), "from": from, "to": to}
	if err := s.ask(ctx, http.MethodPost, "/api/v1/detectors/backtest", body, &task); err != nil {
		return nil, err
	}
	at := "/api/v1/tasks/" + task.ID
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := s.ask(ctx, http.MethodGet, at, nil, &task); err != nil {
			return nil, err
		}
		progress(task.Progress)
		switch model.TaskState(task.State) {
		case model.TaskSucceeded:
			return task.Result, nil
		case model.TaskFailed, model.TaskCancelled:
			return nil, fmt.Errorf("the backtest is %s: %s", task.State, task.Error)
		}
		select {
		case <-ctx.Done():
			bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			return nil, errors.Join(ctx.Err(), s.ask(bounded, http.MethodPost, at+"/cancel", nil, &task))
		case <-tick.C:
		}
	}
}

// definitionInput is a definition as the API takes it.
func logRule(r *model.LogRule) *api.LogRule {
	if r == nil {
		return nil
	}
	return &api.LogRule{Kind: string(r.Kind), Pattern: r.Pattern, Template: r.Template, Severity: string(r.Severity)}
}

func definitionInput(d model.Detector) api.DetectorInput {
	duration := func(d time.Duration) api.Duration { return api.Duration(model.Duration(d).String()) }
	return api.DetectorInput{
		Name: d.Name, Source: d.Source, Query: d.Query, Log: logRule(d.Log), Step: duration(d.Step), Model: d.Model, Parameters: api.Object(d.Parameters),
		FalseAlarmsPerWeek: &d.FalseAlarmsPerWeek, Direction: string(d.Direction),
		MinDeviation: &api.MinDeviation{Absolute: d.MinDeviation.Absolute, Relative: d.MinDeviation.Relative},
		For:          duration(d.For), KeepFiringFor: duration(d.KeepFiringFor), MissingData: string(d.MissingData),
		TimeZone: d.TimeZone, Holidays: d.Holidays, Labels: d.Labels, Refractory: duration(d.Refractory), Joint: api.JointOf(d.Joint), Retrain: api.RetrainOf(d.Retrain),
	}
}
