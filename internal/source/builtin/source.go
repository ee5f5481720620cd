package builtin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/scrape"

	"aiops/internal/model"
	"aiops/internal/source"
)

// Source is the embedded source. It is safe for concurrent use.
type Source struct {
	cfg        Config
	log        *slog.Logger
	reg        *registrar
	db         *database
	engine     *promql.Engine
	slots      *slots
	labels     *labelCache
	tracker    *source.Tracker
	metrics    *metrics
	collectors []*collector
	receiver   *receiver
	api        *queryAPI
	now        func() time.Time

	mu       sync.Mutex
	targets  []Target
	scraper  *scrape.Manager // nil while Run does not scrape targets
	retarget chan struct{}   // holds a token while targets wait to be applied

	running atomic.Bool
	closed  atomic.Bool
}

// Open opens the database in cfg.Dir, which it creates when it is missing, and
// repairs it as far as that goes. Gatherers are what Run scrapes as this
// process; reg receives the libraries' metrics and our own. Scraping starts with
// Run, queries and writes work at once. Errors: KindInvalid for a wrong
// configuration, KindConflict when another process uses the directory,
// KindUnavailable when it cannot be used.
func Open(cfg Config, logger *slog.Logger, reg prometheus.Registerer, gatherers ...prometheus.Gatherer) (*Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	log := logger.With("component", "source/builtin")
	s := &Source{
		cfg: cfg, log: log, reg: &registrar{reg: reg}, now: time.Now, targets: cfg.Targets,
		labels: newLabelCache(cfg.Query.MaxSeries), retarget: make(chan struct{}, 1),
		tracker: source.NewTracker(source.TrackerConfig{Interval: cfg.Interval.Std(), SlowAfter: cfg.Interval.Std()}, nil),
	}
	libraries := slog.New(quietHandler{log.Handler()})
	var err error
	if s.db, err = openDatabase(cfg, libraries, s.reg); err != nil {
		s.reg.unregister()
		return nil, err
	}
	if err := s.build(libraries, gatherers); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// build makes everything above the database.
func (s *Source) build(libraries *slog.Logger, gatherers []prometheus.Gatherer) error {
	s.slots = newSlots(s.cfg.Query.Concurrency)
	s.engine = promql.NewEngine(promql.EngineOpts{
		Logger:                   libraries,
		Reg:                      s.reg,
		MaxSamples:               s.cfg.Query.MaxSamples,
		Timeout:                  s.cfg.Query.Timeout.Std(),
		ActiveQueryTracker:       s.slots,
		LookbackDelta:            s.cfg.Query.Lookback.Std(),
		NoStepSubqueryIntervalFn: func(int64) int64 { return s.cfg.Interval.Std().Milliseconds() },
		EnableAtModifier:         true,
		EnableNegativeOffset:     true,
		Parser:                   source.NewParser(),
	})
	s.metrics = newMetrics(s)
	for _, c := range append(s.metrics.all(), source.NewHealthCollector(s.tracker)) {
		if err := prometheus.WrapRegistererWith(prometheus.Labels{"source": model.BuiltinSource}, s.reg).Register(c); err != nil {
			return fmt.Errorf("registering the metrics of the embedded source: %w", err)
		}
	}
	if len(gatherers) > 0 {
		s.collectors = append(s.collectors, newCollector("process", "process", jobProcess, originProcess, processLimit, readGatherers(gatherers)))
	}
	if !s.cfg.Host.Disabled {
		host, err := hostCollectors(s.cfg.Host)
		if err != nil {
			s.log.Warn("this host is not watched", "err", err)
		}
		s.collectors = append(s.collectors, host...)
	}
	s.receiver = newReceiver(s)
	s.api = newQueryAPI(s)
	if err := s.markInterrupted(context.Background()); err != nil {
		s.log.Warn("series that were scraped before the last stop have no end; queries may hold their last value for a while", "err", err)
	}
	return nil
}

// Close writes what is in memory to disk and releases the directory. Run must
// have returned. Queries under way fail.
func (s *Source) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	var errs []error
	if s.engine != nil {
		errs = append(errs, s.engine.Close())
	}
	errs = append(errs, s.db.Close())
	s.reg.unregister()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("closing the embedded database: %w", err)
	}
	return nil
}

// Run scrapes and tells of health changes until ctx ends. It returns when all
// that it started has ended; it may be called once.
func (s *Source) Run(ctx context.Context) error {
	if s.running.Swap(true) {
		panic("BUG: Run of the embedded source was called twice")
	}
	var parts sync.WaitGroup
	parts.Go(func() { s.tracker.Run(ctx) })
	parts.Go(func() { s.scrapeTargets(ctx) })
	s.rounds(ctx)
	parts.Wait()
	return nil
}

// OnHealthChange registers a function that Run calls after each change of the
// health state, in order.
func (s *Source) OnHealthChange(f func(old, now model.SourceHealth)) { s.tracker.OnChange(f) }

// Health returns the health: up while samples of this process or host were
// written within the last two intervals, down when they cannot be written,
// unknown before the first. It never blocks.
func (s *Source) Health() model.SourceHealth { return s.tracker.Health() }

// MaxSeries is how many series there may be in memory.
func (s *Source) MaxSeries() int { return s.cfg.MaxSeries }

// LateData returns how long samples may come late, as configured.
func (s *Source) LateData() time.Duration { return s.cfg.LateData.Std() }

// ParseQuery is source.ParseQuery.
func (s *Source) ParseQuery(query string) error { return source.ParseQuery(query) }

// Check asks the database for something cheap.
func (s *Source) Check(ctx context.Context) error {
	if _, err := s.Query(ctx, "vector(1)", s.now(), 1); err != nil {
		return fmt.Errorf("checking the embedded database: %w", err)
	}
	s.tracker.Tick()
	return nil
}

// Details returns facts about the database, for people.
func (s *Source) Details() map[string]any {
	d := map[string]any{
		"series":            s.db.Head().NumSeries(),
		"series_limit":      s.cfg.MaxSeries,
		"blocks":            len(s.db.Blocks()),
		"queries_in_flight": s.slots.used(),
	}
	if len(s.db.quarantined) > 0 {
		d["damaged"] = s.db.quarantined
	}
	return d
}

// Collectors lists what is scraped and received, and how it went.
func (s *Source) Collectors(ctx context.Context) ([]model.Collector, error) {
	list := make([]model.Collector, 0, len(s.collectors)+1)
	for _, c := range s.collectors {
		list = append(list, c.status())
	}
	list = append(list, s.targetStates(ctx)...)
	return append(list, s.receiver.status()), nil
}

// room returns an error while the disk is too full to write.
func (s *Source) room() error {
	if s.cfg.Room == nil {
		return nil
	}
	return s.cfg.Room()
}

// writeError tells why nothing could be written.
func writeError(err error) error {
	if err == nil || model.KindOf(err) == model.KindStorageFull {
		return err
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return model.WrapError(model.KindStorageFull, model.SubjectSource, err, "the embedded database cannot write, because the disk is full; free some space")
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return model.WrapError(model.KindDatabase, model.SubjectSource, err, "the embedded database cannot write; see the log")
}

// shown is what may be shown of an error to people.
func shown(err error) string {
	var e *model.Error
	if errors.As(err, &e) {
		return e.Message
	}
	const most = 300
	text := []rune(err.Error())
	if len(text) > most {
		text = append(text[:most], '…')
	}
	return string(text)
}

// quietHandler passes on what the libraries log from warnings up, because what
// they do in the steady state is not worth an operator's time.
type quietHandler struct{ slog.Handler }

// Enabled implements slog.Handler.
func (h quietHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && h.Handler.Enabled(ctx, l)
}

// WithAttrs implements slog.Handler.
func (h quietHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return quietHandler{h.Handler.WithAttrs(a)}
}

// WithGroup implements slog.Handler.
func (h quietHandler) WithGroup(name string) slog.Handler {
	return quietHandler{h.Handler.WithGroup(name)}
}
