package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"aiops/internal/health"
	"aiops/internal/model"
	"aiops/internal/telemetry"
)

func (s *server) registerSystem() {
	register(s, operation{id: "get-health", method: http.MethodGet, path: "/health", tag: tagSystem, summary: "Get the health of every component",
		description: "A report: it is answered with 200 whatever it says. Machines that decide by status code ask /readyz.",
		codes:       []Code{CodeValidation}}, s.health)
	register(s, operation{id: "get-component-health", method: http.MethodGet, path: "/health/{component}", tag: tagSystem, summary: "Get the health of one component",
		codes: []Code{CodeValidation, CodeNotFound}}, s.componentHealth)
	for _, p := range []struct{ id, path, summary, text string }{
		{"get-readyz", "/readyz", "Is the program ready to serve", "503 while a component without which nothing works is unhealthy, while starting, and while stopping."},
		{"get-ready", "/ready", "Is the program ready to serve (same as /readyz)", ""},
	} {
		register(s, operation{id: p.id, method: http.MethodGet, path: p.path, tag: tagSystem, summary: p.summary, description: p.text, codes: []Code{CodeValidation}}, s.ready)
	}
	register(s, operation{id: "get-readyz-component", method: http.MethodGet, path: "/readyz/{component}", tag: tagSystem, summary: "Does one component keep the program from being ready",
		description: "503 while the component is critical and unhealthy or not known.", codes: []Code{CodeValidation, CodeNotFound}}, s.readyComponent)
	for _, p := range []struct{ id, path, summary, text string }{
		{"get-livez", "/livez", "Is the process alive", "Depends on nothing outside the process."},
		{"get-alive", "/alive", "Is the process alive (same as /livez)", ""},
	} {
		register(s, operation{id: p.id, method: http.MethodGet, path: p.path, tag: tagSystem, summary: p.summary, description: p.text}, s.live)
	}
	register(s, operation{id: "get-startupz", method: http.MethodGet, path: "/startupz", tag: tagSystem, summary: "Is starting over",
		description: "200 once migration and recovery are done."}, s.started)
	register(s, operation{id: "get-deployment", method: http.MethodGet, path: "/api/deployment", tag: tagSystem, summary: "Describe this program and how it runs",
		codes: []Code{CodeValidation}}, s.deployment)
	register(s, operation{id: "reload", method: http.MethodPost, path: "/-/reload", tag: tagSystem, summary: "Reload the configuration file",
		description: "A file with a fault changes nothing: the faults are answered and the program goes on as before.", timeout: longTimeout,
		codes: codes(writeCodes)}, s.reload)
	register(s, operation{id: "get-log-level", method: http.MethodGet, path: "/api/v1/log-level", tag: tagSystem, summary: "Get the level of the log",
		codes: codes(readCodes, CodeConflict)}, s.logLevel)
	register(s, operation{id: "set-log-level", method: http.MethodPut, path: "/api/v1/log-level", tag: tagSystem, summary: "Change the level of the log",
		description: "At once, until it is changed again, the configuration is reloaded, or the program starts again.",
		codes:       codes(writeCodes), request: `{"level": "debug"}`}, s.setLogLevel)
	s.raw(operation{id: "get-metrics", method: http.MethodGet, path: "/metrics", tag: tagSystem, summary: "Get the program's own metrics",
		description: "In the Prometheus text format or, when asked for, OpenMetrics.", codes: []Code{CodeNotFound}}, "text/plain", false, s.metrics)
}

// raw adds a route that is not JSON, with its entry in the document.
func (s *server) raw(o operation, contentType string, tagged bool, handler http.HandlerFunc) {
	headers := map[string]*huma.Param{}
	if tagged {
		headers["ETag"] = &huma.Param{Description: "Version of the answer, for If-None-Match", Schema: &huma.Schema{Type: huma.TypeString}}
	}
	s.api.OpenAPI().AddOperation(&huma.Operation{
		OperationID: o.id, Method: o.method, Path: o.path, Tags: []string{o.tag}, Summary: o.summary, Description: o.description,
		Responses: map[string]*huma.Response{"200": {Description: "OK", Headers: headers, Content: map[string]*huma.MediaType{contentType: {Schema: &huma.Schema{Type: huma.TypeString}}}}},
	})
	s.document(o)
	s.router.Method(o.method, o.path, s.guarded(o.id, handler))
}

// Health is the health of the whole and of its components.
type Health struct {
	Status     string                     `json:"status" enum:"healthy,degraded,unhealthy,unknown" doc:"The worst of the components, where one that is not critical makes it degraded at most"`
	Components map[string]ComponentHealth `json:"components"`
	History    []HealthChange             `json:"history,omitempty" doc:"Latest changes, oldest first; with verbose"`
}

// ComponentHealth is the last known health of one component.
type ComponentHealth struct {
	Status    string         `json:"status" enum:"healthy,degraded,unhealthy,unknown"`
	Message   string         `json:"message"`
	CheckedAt *time.Time     `json:"checked_at,omitempty" doc:"Absent: never"`
	Since     *time.Time     `json:"since,omitempty"`
	LatencyMS float64        `json:"latency_ms"`
	Critical  bool           `json:"critical" doc:"Whether the program is not ready while this is unhealthy"`
	Details   map[string]any `json:"details,omitempty"`
}

// HealthChange is a component that went from one state to another.
type HealthChange struct {
	Component string    `json:"component"`
	From      string    `json:"from"`
	To        string    `json:"to"`
	Message   string    `json:"message"`
	Time      time.Time `json:"time"`
}

func componentOf(c health.Component, details bool) ComponentHealth {
	out := ComponentHealth{Status: string(c.Status), Message: c.Message, CheckedAt: timeOf(c.CheckedAt), Since: timeOf(c.Since), LatencyMS: c.LatencyMS, Critical: c.Critical}
	if details {
		out.Details = c.Details
	}
	return out
}

type healthInput struct {
	Verbose string   `query:"verbose" maxLength:"16" doc:"With details and history; any value but false"`
	Exclude []string `query:"exclude,explode" maxItems:"16" maxLength:"64" doc:"Leave this component out; may be repeated"`
}

// verbose is asked for by the parameter's presence: huma leaves an empty one
// out, so ?verbose alone is read from the request itself.
func verbose(ctx context.Context, value string) bool {
	if value != "" {
		return value != "false" && value != "0"
	}
	info := requestOf(ctx)
	return info != nil && info.verbose
}

type healthOutput struct {
	CacheControl string `header:"Cache-Control" hidden:"true"`
	Body         Health
}

func (s *server) health(ctx context.Context, in *healthInput) (*healthOutput, error) {
	report := s.report(in.Exclude)
	out := &healthOutput{CacheControl: "no-store", Body: Health{Status: string(report.Status), Components: map[string]ComponentHealth{}}}
	full := verbose(ctx, in.Verbose)
	for _, c := range report.Components {
		out.Body.Components[c.Name] = componentOf(c, full)
	}
	if full && s.opts.Health != nil {
		for _, c := range s.opts.Health.History() {
			out.Body.History = append(out.Body.History, HealthChange{Component: c.Component, From: string(c.From), To: string(c.To), Message: c.Message, Time: c.Time.UTC()})
		}
	}
	return out, nil
}

// report is the last known health without the excluded components.
func (s *server) report(exclude []string) health.Report {
	if s.opts.Health == nil {
		return health.Report{Status: health.Healthy}
	}
	report := s.opts.Health.Report()
	if len(exclude) > 0 {
		report.Components = slices.DeleteFunc(slices.Clone(report.Components), func(c health.Component) bool { return slices.Contains(exclude, c.Name) })
		report.Status = health.Aggregate(report.Components)
	}
	return report
}

type componentInput struct {
	Component string `path:"component" maxLength:"64" doc:"Name of the component" example:"database"`
}

type componentOutput struct {
	CacheControl string `header:"Cache-Control" hidden:"true"`
	Body         ComponentHealth
}

func (s *server) componentHealth(_ context.Context, in *componentInput) (*componentOutput, error) {
	if s.opts.Health != nil {
		if c, ok := s.opts.Health.Component(in.Component); ok {
			return &componentOutput{CacheControl: "no-store", Body: componentOf(c, true)}, nil
		}
	}
	return nil, model.Errorf(model.KindNotFound, "", "There is no component %q; /health lists them.", in.Component)
}

// Probe is the answer of a probe that found no fault.
type Probe struct {
	Status string   `json:"status" enum:"ok"`
	Checks []string `json:"checks,omitempty" doc:"What was looked at; with verbose"`
}

type probeOutput struct {
	CacheControl string `header:"Cache-Control" hidden:"true"`
	Body         Probe
}

func ok(checks ...string) *probeOutput {
	return &probeOutput{CacheControl: "no-store", Body: Probe{Status: "ok", Checks: checks}}
}

// ready looks at what is known; it waits for nothing.
func (s *server) ready(ctx context.Context, in *healthInput) (*probeOutput, error) {
	if err := s.startedErr(); err != nil {
		return nil, err
	}
	if s.opts.Ready != nil {
		if err := s.opts.Ready(); err != nil {
			var known *model.Error
			if errors.As(err, &known) {
				return nil, err
			}
			return nil, model.WrapError(model.KindUnavailable, "", err, "The program is not ready.")
		}
	}
	var failing, checks []string
	for _, c := range s.report(in.Exclude).Components {
		if c.Critical && (c.Status == health.Unhealthy || c.Status == health.Unknown) {
			failing = append(failing, c.Name)
			checks = append(checks, "[-]"+c.Name+" "+string(c.Status))
			continue
		}
		checks = append(checks, "[+]"+c.Name+" ok")
	}
	if len(failing) > 0 {
		return nil, notReady(failing, checks)
	}
	if !verbose(ctx, in.Verbose) {
		checks = nil
	}
	return ok(checks...), nil
}

// notReady names the critical components that keep the program from working.
func notReady(failing, checks []string) error {
	known := map[string]any{"failing": failing}
	if checks != nil {
		known["checks"] = checks
	}
	return &model.Error{Kind: model.KindUnavailable, Message: "Not ready: " + strings.Join(failing, ", ") + ".", Context: known}
}

// readyComponent looks at what is known of one component.
func (s *server) readyComponent(_ context.Context, in *componentInput) (*probeOutput, error) {
	if s.opts.Health != nil {
		if c, found := s.opts.Health.Component(in.Component); found {
			if c.Critical && (c.Status == health.Unhealthy || c.Status == health.Unknown) {
				return nil, &model.Error{Kind: model.KindUnavailable, Message: "Not ready: " + c.Name + " is " + string(c.Status) + ".",
					Context: map[string]any{"failing": []string{c.Name}}}
			}
			return ok("[+]" + c.Name + " ok"), nil
		}
	}
	return nil, model.Errorf(model.KindNotFound, "", "There is no component %q; /health lists them.", in.Component)
}

func (s *server) live(context.Context, *struct{}) (*probeOutput, error) {
	if s.opts.Alive != nil {
		if err := s.opts.Alive(); err != nil {
			return nil, err // INTERNAL_ERROR: a restart is what helps
		}
	}
	return ok(), nil
}

func (s *server) startedErr() error {
	if s.opts.Started != nil && !s.opts.Started() {
		return model.Errorf(model.KindUnavailable, "", "The program is still starting: the database is being migrated or state is being recovered.")
	}
	return nil
}

func (s *server) started(context.Context, *struct{}) (*probeOutput, error) {
	if err := s.startedErr(); err != nil {
		return nil, err
	}
	return ok(), nil
}

type deploymentOutput struct {
	CacheControl string `header:"Cache-Control" hidden:"true"`
	Body         Deployment
}

func (s *server) deployment(context.Context, *struct{}) (*deploymentOutput, error) {
	var d Deployment
	if s.opts.Deployment != nil {
		d = s.opts.Deployment()
	}
	if d.Features == nil {
		d.Features = []string{}
	}
	if d.Limits == nil {
		d.Limits = map[string]any{}
	}
	return &deploymentOutput{CacheControl: "no-store", Body: d}, nil
}

func (s *server) reload(ctx context.Context, _ *struct{}) (*struct{}, error) {
	if s.opts.Reload == nil {
		return nil, model.Errorf(model.KindConflict, "", "This program was started without a configuration file, so there is nothing to reload.")
	}
	return nil, s.opts.Reload(ctx)
}

// LogLevel is how much is logged.
type LogLevel struct {
	Level string `json:"level" enum:"debug,info,warn,error" doc:"Lines below it are left out"`
}

type logLevelOutput struct {
	CacheControl string `header:"Cache-Control" hidden:"true"`
	Body         LogLevel
}

type logLevelInput struct{ Body LogLevel }

func (s *server) logLevel(context.Context, *struct{}) (*logLevelOutput, error) {
	if s.opts.LogLevel == nil {
		return nil, model.Errorf(model.KindConflict, "", "The level of this program's log is fixed.")
	}
	return &logLevelOutput{CacheControl: "no-store", Body: LogLevel{Level: strings.ToLower(s.opts.LogLevel.Level().String())}}, nil
}

func (s *server) setLogLevel(ctx context.Context, in *logLevelInput) (*logLevelOutput, error) {
	level, err := telemetry.ParseLevel(in.Body.Level)
	if err != nil {
		return nil, parameterFault("level", "enum", "%s", err)
	}
	if s.opts.LogLevel != nil {
		from := s.opts.LogLevel.Level()
		s.opts.LogLevel.Set(level)
		s.log.LogAttrs(ctx, slog.LevelWarn, "level of the log changed", slog.String("from", from.String()), slog.String("to", level.String()), slog.String("by", identityOf(ctx).Subject))
	}
	return s.logLevel(ctx, nil)
}

func (s *server) metrics(w http.ResponseWriter, r *http.Request) {
	if s.opts.Metrics == nil {
		WriteProblem(w, r, CodeNotFound, "This program does not show its metrics.", 0)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	s.opts.Metrics.ServeHTTP(w, r)
}
