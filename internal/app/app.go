// Package app is the composition root: it builds every part in order, connects
// them, runs them, reloads the configuration and stops everything in order.
//
// It owns no logic of its own beyond wiring. A part that fails stops the
// program with an error; what is acknowledged is on disk at any moment, so that
// a kill loses nothing.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"aiops/internal/admission"
	"aiops/internal/api"
	"aiops/internal/auth"
	"aiops/internal/config"
	"aiops/internal/demo"
	"aiops/internal/health"
	"aiops/internal/model"
	"aiops/internal/pipeline"
	"aiops/internal/pipeline/nodes"
	"aiops/internal/realtime"
	"aiops/internal/source"
	"aiops/internal/source/builtin"
	"aiops/internal/source/intake"
	"aiops/internal/source/lines"
	"aiops/internal/space"
	"aiops/internal/store"
	"aiops/internal/telemetry"
	"aiops/web"
)

// ErrConfig marks errors of usage and configuration.
var ErrConfig = errors.New("configuration")

// Options are what a command line says. The zero value serves on embedded
// parts with the defaults.
type Options struct {
	ConfigFile string
	Listen     string // overrides the environment and the file
	DataDir    string // overrides the environment and the file
	Env        config.LookupFunc
	Log        io.Writer        // default standard error
	Demo       bool             // run the shop and watch it
	DemoSeed   uint64           // of the shop
	Reload     <-chan struct{}  // each value reloads the configuration; may be nil
	Serving    func(url string) // called once everything is ready; may be nil
}

// LoadConfig reads and validates a configuration file, or the defaults when
// file is "", as Run does.
func LoadConfig(file string, env config.LookupFunc) (config.Config, error) {
	return config.Load(file, env, validateDetector)
}

// validateDetector fills defaults in and checks everything that needs no
// running source. A definition for the embedded source or Prometheus has to be
// PromQL, one on logs of the embedded source a selector of streams; LogQL is
// for Loki itself to check, when the detector runs.
func validateDetector(d *model.Detector, of model.SourceType) error {
	pipeline.Defaults(d)
	err := pipeline.Validate(*d)
	switch {
	case d.Log != nil && of == model.SourceBuiltin:
		_, bad := model.ParseSelector(d.Query)
		err = errors.Join(err, bad)
	case d.Log == nil && (of == model.SourceBuiltin || of == model.SourcePrometheus):
		err = errors.Join(err, source.ParseQuery(d.Query))
	}
	return err
}

// load reads the configuration that o asks for.
func (o Options) load() (config.Config, error) {
	env := o.Env
	if env == nil {
		env = os.LookupEnv
	}
	override := func(name string) (string, bool) {
		if name == "AIOPS_LISTEN" && o.Listen != "" {
			return o.Listen, true
		}
		if name == "AIOPS_DATA_DIR" && o.DataDir != "" {
			return o.DataDir, true
		}
		return env(name)
	}
	c, err := LoadConfig(o.ConfigFile, override)
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return c, c.AddProvided(o.Demo, validateDetector)
}

// program is everything that runs.
type program struct {
	options  Options
	config   atomic.Pointer[config.Config]
	log      *slog.Logger
	level    *slog.LevelVar
	life     *lifecycle
	registry *prometheus.Registry
	parts    *supervisor
	started  time.Time
	gate     *gate

	admission *admission.Admission
	requests  *requestMetrics
	listener  *admission.Listener
	responses *api.Responses
	queries   *source.Cache

	guard    *auth.Guard // nil: nobody is asked
	localKey string      // what commands on this machine and the demo show, "" without a guard
	tracing  *telemetry.Tracing

	disk       *space.Watch // of the data directory
	store      *store.Store
	jobs       *store.Jobs
	embedded   *builtin.Source
	sources    *sources
	lines      *lines.Store
	logs       *logWork
	intake     *intake.Intake
	engine     *pipeline.Engine
	provisions *provisioner
	nodes      *nodes.Member // nil: nobody shares the database
	relay      *nodes.Relay  // nil with nodes
	monitor    *health.Monitor

	heartbeat health.Heartbeat
	live      *realtime.Gateway
	shop      *demo.Shop

	ready    atomic.Bool
	draining atomic.Bool
}

// Run serves until ctx ends and then stops in order. It returns nil when it
// was stopped as asked, an ErrConfig for a bad configuration, and otherwise
// the error of the part that failed.
func Run(ctx context.Context, o Options) error {
	if o.Log == nil {
		o.Log = os.Stderr
	}
	c, err := o.load()
	if err != nil {
		return err
	}
	p := &program{options: o, level: new(slog.LevelVar), started: time.Now()}
	p.config.Store(&c)
	level, err := telemetry.ParseLevel(c.Log.Level)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	p.level.Set(level)
	gathered := telemetry.NewGatherer(o.Log)
	defer gathered.Flush()
	p.log = telemetry.NewLogger(c.Log, gathered, p.level)
	p.gate = &gate{starting: api.Starting(p.log.With("component", "api"))}
	p.registry = telemetry.NewRegistry(p.started)
	p.parts = newSupervisor(p.log.With("component", "app"), p.registry)
	p.life = newLifecycle(p.log)
	p.log.Info("starting", "version", telemetry.BuildInfo().Version, "commit", telemetry.BuildInfo().Commit, "data_dir", c.DataDir)

	if p.tracing, err = telemetry.NewTracing(c.Telemetry.Traces(nodeName()), p.log.With("component", "telemetry")); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	p.life.onStop("traces", p.tracing.Stop)
	url, err := p.build(ctx, c)
	if err == nil {
		p.ready.Store(true)
		p.log.Info("ready", "url", url, "duration_ms", time.Since(p.started).Milliseconds())
		if o.Serving != nil {
			o.Serving(url)
		}
		err = p.wait(ctx)
	}
	return errors.Join(err, p.stop())
}

// wait returns when the program has to stop: nil because it was asked to.
func (p *program) wait(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-p.life.failed:
			return err
		case <-p.store.Failed():
			return fmt.Errorf("the database failed, so nothing can be acknowledged any more: %w", p.store.Err())
		case <-p.options.Reload:
			if err := p.reload(ctx); err != nil {
				p.log.Error("configuration not reloaded; the running one stays", "err", err)
			}
		}
	}
}

// stop unwinds everything within the bound of the configuration.
func (p *program) stop() error {
	c := p.config.Load()
	p.draining.Store(true)
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), c.Server.StopTimeout.Std())
	defer cancel()
	left := p.leaveNodes(ctx)
	if delay := c.Server.DrainDelay.Std(); delay > 0 && p.ready.Load() {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	left()
	err := p.life.unwind(ctx)
	p.log.Info("stopped", "duration_ms", time.Since(began).Milliseconds())
	return err
}

// build starts every part in order and returns where the program is served.
func (p *program) build(ctx context.Context, c config.Config) (string, error) {
	listener, err := net.Listen("tcp", c.Server.Listen)
	if err != nil {
		return "", fmt.Errorf("listening on %s: %w", c.Server.Listen, err)
	}
	drain := p.serve(listener)

	p.disk = space.New(c.DataDir)
	if err := measureDisk(p.registry, p.disk); err != nil {
		return "", err
	}
	c.Builtin.Room, c.Builtin.Logs.Room = p.disk.Room, p.disk.Room
	if p.store, err = store.Open(ctx, c.Storage, p.log, p.registry); err != nil {
		return "", err
	}
	p.life.onStop("store", func(context.Context) error { return p.store.Close() })

	if p.options.Demo {
		if err := p.buildShop(&c, listener.Addr().String()); err != nil {
			return "", err
		}
	}
	if p.embedded, err = builtin.Open(c.Builtin.Config, p.log, p.registry, p.registry); err != nil {
		return "", err
	}
	p.life.onStop("embedded database", func(context.Context) error { return p.embedded.Close() })

	p.queries = source.NewCache(c.Cache.Queries, nil)
	p.sources = newSources(p.store, p.store.Engine() == "postgres", p.embedded, p.queries, p.parts, p.registry, p.log)
	p.provisions = newProvisioner(p.store, p.store.Engine() == "postgres", p.registry, p.log)
	if err := p.store.Exclusively(ctx, func() error { return p.provisions.apply(ctx, c, false) }); err != nil {
		return "", err
	}
	if err := p.sources.Sync(ctx); err != nil {
		p.log.Error("some sources cannot be used", "err", err)
	}
	p.requests = newRequestMetrics(p.registry)
	if p.admission, err = p.newAdmission(c); err != nil {
		return "", err
	}
	if err := p.buildLogs(ctx, c); err != nil {
		return "", err
	}
	if err := p.buildIntake(c); err != nil {
		return "", err
	}
	c.Pipeline.Pressure, c.Pipeline.Reading = p.pressure, p.logs.Reading
	if c.Auth.Enabled {
		if err := p.buildGuard(c); err != nil {
			return "", err
		}
	}
	c.Live.Client = p.admission.Client
	p.live = realtime.New(c.Live, p.store, p.authority(), p.log, p.registry)
	c.Pipeline.Retrain = p.retrain
	p.buildNodes(&c)
	c.Pipeline.Audience = audience{p.live, p.relay, p.log}
	p.engine = pipeline.New(c.Pipeline, p.logs, p.logs.Source, p.log, p.registry, time.Now)
	if p.jobs, err = newJobs(p.store, p.engine, p.logs); err != nil {
		return "", err
	}
	p.responses = api.NewResponses(c.Cache.Responses, p.store.Changes)
	if err := p.measureCaches(); err != nil {
		return "", err
	}
	p.monitor = health.NewMonitor(health.Config{OnChange: p.healthChanged}, p.checks())
	handler, err := p.handler(c)
	if err != nil {
		return "", err
	}

	p.life.run("admission", p.admission.Run)
	p.life.run("requests that were let in", p.admission.Watch)
	p.life.run("heartbeat", func(ctx context.Context) error {
		return p.heartbeat.Run(ctx, time.Second, func() { p.engine.Pulse(); p.monitor.Report() })
	})
	p.life.run("sources", p.sources.Run)
	p.life.run("log lines", p.lines.Run)
	p.life.run("log counts", p.logs.Stage.Run)
	p.life.run("logs", p.logs.Run)
	p.life.run("receivers of log lines", p.intake.Run)
	p.runNodes() // stopped behind the pipeline, which writes under its leases
	p.life.run("pipeline", func(ctx context.Context) error { return p.engine.Run(p.tracing.Context(ctx)) })
	p.life.run("store upkeep", p.kept("store upkeep", p.store.Run))
	p.life.run("tasks", p.jobs.Run)
	p.life.run("health checks", p.kept("health checks", p.monitor.Run))
	if p.shop != nil {
		p.life.run("demo shop", p.shop.Run)
	}
	// Behind the parts that requests need, so that it is stopped before them.
	p.life.onStop("requests", drain)
	p.life.run("live stream", p.live.Run)
	p.life.onStop("live clients", func(ctx context.Context) error {
		bounded, cancel := context.WithTimeout(ctx, 12*time.Second)
		defer cancel()
		p.live.Drain(bounded)
		return nil
	})
	select {
	case <-p.live.Started(): // a page that connects at once is not sent away
	case <-time.After(startTimeout):
		p.log.Warn("serving although the live stream cannot be followed yet")
	case <-ctx.Done():
	}
	p.gate.open(handler)
	p.listener.Use(p.admission)
	url := "http://" + listener.Addr().String()
	address := filepath.Join(c.DataDir, addressFile)
	if err := os.WriteFile(address, []byte(url+"\n"), 0o600); err != nil {
		p.log.Warn("other commands will not find this server", "err", err)
	}
	p.life.onStop("address", func(context.Context) error { return os.Remove(address) })
	return url, nil
}

// startTimeout is how long serving waits for the live stream.
const startTimeout = 10 * time.Second

// addressFile tells other commands on the same data directory where the
// server is.
const addressFile = "address"

// serve starts the HTTP server. Until the gate opens it answers probes only.
// The returned function takes no more requests and waits for those in flight,
// 10 s at most.
func (p *program) serve(listener net.Listener) (drain func(context.Context) error) {
	p.listener = admission.NewListener(listener, api.AppendFault)
	server := &http.Server{
		Handler:           p.gate,
		BaseContext:       func(net.Listener) context.Context { return p.tracing.Context(context.Background()) },
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(p.log.With("component", "http").Handler(), slog.LevelDebug),
	}
	go func() {
		if err := server.Serve(p.listener); !errors.Is(err, http.ErrServerClosed) {
			p.life.fail(fmt.Errorf("serving HTTP: %w", err))
		}
	}()
	drain = func(ctx context.Context) error {
		bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if err := server.Shutdown(bounded); err != nil {
			return server.Close()
		}
		return nil
	}
	p.life.onStop("http", drain)
	return drain
}

// handler connects the API.
func (p *program) handler(c config.Config) (http.Handler, error) {
	return api.New(api.Options{
		Detectors:        p.store,
		Models:           models{p.store, p.engine},
		Anomalies:        anomalies{p.store, p.engine},
		Sources:          p.store,
		Clients:          p.sources,
		Engine:           engine{p.engine, p.logs, p.nodes},
		Logs:             p.logs,
		Shadows:          shadows{p.engine, p.store, p.jobs},
		Versions:         p.store,
		KnownEvents:      p.store,
		Tasks:            p.jobs,
		Health:           p.monitor,
		Idempotency:      idempotency{p.store},
		Auth:             p.authenticator(),
		Live:             p.live,
		Responses:        p.responses,
		ValidateDetector: pipeline.Validate,
		DefaultDetector:  pipeline.Defaults,
		Ready:            p.readiness,
		Alive:            p.alive,
		Started:          p.ready.Load,
		Deployment:       p.deployment,
		Reload:           p.reload,
		Metrics:          promhttp.HandlerFor(p.registry, promhttp.HandlerOpts{EnableOpenMetrics: true}),
		Mounts: map[string]http.Handler{
			"/prometheus/*": http.StripPrefix("/prometheus", p.embedded.QueryAPI()),
			"/api/v1/write": p.embedded.RemoteWrite(),

			"/loki/api/v1/push": p.intake.LokiPush(),
			"/v1/logs":          p.intake.OTLP(),

			"/api/v1/ws":     p.live.WebSocket(),
			"/api/v1/events": p.live.SSE(),
		},
		UI:         web.Dist(),
		Gate:       p.admission.Handler,
		Middleware: []func(http.Handler) http.Handler{p.admission.PerKey},
		Client:     p.admission.Client,

		Hosts:     c.Server.Hosts,
		Guarded:   !c.Auth.Enabled,
		OnRequest: p.requests.observe,
		OnPanic:   p.requests.panicked,
		LogLevel:  p.level,
		Version:   telemetry.BuildInfo().Version,
		Logger:    p.log.With("component", "api"),
	})
}

// wedgedAfter is how long the core of the program may stand still before a
// restart is what helps.
const wedgedAfter = 30 * time.Second

// alive is nil unless the core of the program stands still. It depends on
// nothing outside of the process.
func (p *program) alive() error {
	if err := p.heartbeat.Stopped(wedgedAfter); err != nil {
		return fmt.Errorf("BUG: the core of the program is wedged: %w", err)
	}
	return nil
}

// readiness is nil when the program serves.
func (p *program) readiness() error {
	if p.draining.Load() {
		return errors.New("the program is stopping")
	}
	if !p.ready.Load() {
		return errors.New("the program is starting")
	}
	for _, c := range p.monitor.Report().Components {
		if c.Critical && c.Status == health.Unhealthy {
			return fmt.Errorf("%s is unhealthy: %s", c.Name, c.Message)
		}
	}
	return nil
}

// kept makes a part begin anew when it fails, instead of ending the program.
func (p *program) kept(name string, f func(ctx context.Context) error) func(ctx context.Context) error {
	return func(ctx context.Context) error { return p.parts.run(ctx, name, f) }
}

func levelVar(level string) *slog.LevelVar {
	v := new(slog.LevelVar)
	if l, err := telemetry.ParseLevel(level); err == nil {
		v.Set(l)
	}
	return v
}

func panicked(name string, value any) {
	fmt.Fprintf(os.Stderr, "BUG: %s panicked: %v\n%s\n", name, value, debug.Stack())
}
