package app

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"aiops/internal/api"
	"aiops/internal/config"
	"aiops/internal/model"
	"aiops/internal/pipeline"
	"aiops/internal/pipeline/logs"
	"aiops/internal/source/builtin"
	"aiops/internal/source/lines"
	"aiops/internal/store"
)

// lineReader is a source that keeps lines.
type lineReader interface {
	Lines(ctx context.Context, query string, f model.LogFilter) ([]model.LogLine, string, error)
}

// logWork connects what has to do with lines: the stage that counts them, the
// store that keeps them, the detectors that watch them, and the lines that are
// kept of their anomalies. It is the store as the pipeline asks for it.
type logWork struct {
	*logs.Stage
	*store.Store
	lines    *lines.Store
	sources  *sources
	embedded *builtin.Source
	log      *slog.Logger
	owner    pipeline.Owner // nil: this node owns everything

	mu        sync.Mutex // guards what follows
	detectors map[string]model.Detector
	due       map[string]time.Time // when the lines of an anomaly are kept
	followers map[followKey]*follower
	base      context.Context // of the followers; nil before Run
}

// buildLogs opens what has to do with lines.
func (p *program) buildLogs(ctx context.Context, c config.Config) error {
	var err error
	if p.lines, err = lines.Open(c.Builtin.Logs, p.log, p.registry); err != nil {
		return err
	}
	p.life.onStop("log lines", func(context.Context) error { return p.lines.Close() })
	stage, err := logs.Open(ctx, logs.Options{Config: c.LogCounts, Series: p.embedded, Lines: p.lines, States: p.store, Logger: p.log, Registerer: p.registry})
	if err != nil {
		return err
	}
	p.logs = newLogWork(stage, p.store, p.lines, p.sources, p.embedded, p.log)
	return nil
}

// mostDue bounds the anomalies whose lines wait to be kept; of further ones
// they are looked for when somebody asks.
const mostDue = 1000

// When the lines of an anomaly are kept: soon after it opened, and again when
// there are lines from after it.
const (
	keepSoon  = 2 * time.Second
	keepAfter = 30 * time.Second
)

func newLogWork(stage *logs.Stage, s *store.Store, kept *lines.Store, sources *sources, embedded *builtin.Source, log *slog.Logger) *logWork {
	return &logWork{Stage: stage, Store: s, lines: kept, sources: sources, embedded: embedded, log: log.With("component", "logs"),
		detectors: map[string]model.Detector{}, due: map[string]time.Time{}, followers: map[followKey]*follower{}}
}

// Source returns the source of a detector, for the pipeline.
func (w *logWork) Source(d model.Detector) (pipeline.Source, bool) {
	c, err := w.sources.find(d.Source)
	if err != nil {
		return nil, false
	}
	if d.Log == nil {
		return c, true
	}
	if d.Source == model.BuiltinSource {
		return w.Stage.Detector(d, w.embedded, w.embedded.Health, 0), true
	}
	return w.Stage.Detector(d, w.embedded, func() model.SourceHealth { return worse(c.Health(), w.embedded.Health()) }, c.LateData()), true
}

// Reading is Source for those who look at the past.
func (w *logWork) Reading(d model.Detector) (pipeline.Source, bool) {
	if d.Log != nil {
		return w.Source(d)
	}
	return w.sources.Reading(d.Source)
}

// worse returns the health with which less can be done.
func worse(a, b model.SourceHealth) model.SourceHealth {
	if a.State.Usable() && !b.State.Usable() && b.State != model.SourceUnknown {
		return b
	}
	return a
}

// Sync makes what is counted and followed match the detectors in the store.
func (w *logWork) Sync(ctx context.Context) error {
	all, err := w.AllDetectors(ctx)
	if err != nil {
		return fmt.Errorf("reading detectors: %w", err)
	}
	all = slices.DeleteFunc(all, func(d model.Detector) bool { return d.Log == nil })
	w.mu.Lock()
	clear(w.detectors)
	for _, d := range all {
		w.detectors[d.ID] = d
	}
	w.mu.Unlock()
	w.follow(all)
	return w.Watch(all)
}

// Run keeps the lines of anomalies and looks after the followers until ctx
// ends.
func (w *logWork) Run(ctx context.Context) error {
	w.mu.Lock()
	w.base = ctx
	w.mu.Unlock()
	tick, sync := time.NewTicker(time.Second), time.NewTicker(time.Minute)
	defer tick.Stop()
	defer sync.Stop()
	if err := w.Sync(ctx); err != nil {
		w.log.Warn("some detectors on logs are not counted", "err", err)
	}
	for {
		select {
		case <-ctx.Done():
			w.stopFollowers()
			return nil
		case <-tick.C:
			w.keepDue(ctx)
		case <-sync.C:
			if err := w.Sync(ctx); err != nil && ctx.Err() == nil {
				w.log.Warn("some detectors on logs are not counted", "err", err)
			}
		}
	}
}

// CheckQuery says whether detectors on logs can watch a query.
func (w *logWork) CheckQuery(source, query string) error {
	if source == model.BuiltinSource {
		return w.Stage.CheckQuery(source, query)
	}
	c, err := w.sources.find(source)
	if err != nil {
		return err
	}
	if _, ok := c.(lineFollower); !ok {
		return &model.Error{Kind: model.KindQuery, Message: "the source has no log lines; use builtin or a source of type loki",
			Fields: []model.FieldError{{Pointer: "/source", Code: "no_logs", Detail: "the source has no log lines; use builtin or a source of type loki"}}}
	}
	return c.ParseQuery(query)
}

// Lines returns a page of the lines of a source.
func (w *logWork) Lines(ctx context.Context, source, query string, f model.LogFilter) ([]model.LogLine, string, error) {
	if source == model.BuiltinSource {
		var ids []string
		for _, id := range f.Templates {
			found, err := w.IDs(id)
			if err != nil {
				return nil, "", err
			}
			ids = append(ids, found...)
		}
		f.Templates = ids
		return w.lines.Search(ctx, f)
	}
	return w.elsewhere(ctx, source, query, f)
}

func (w *logWork) elsewhere(ctx context.Context, source, query string, f model.LogFilter) ([]model.LogLine, string, error) {
	c, err := w.sources.find(source)
	if err != nil {
		return nil, "", err
	}
	reader, ok := c.(lineReader)
	if !ok {
		return nil, "", model.Errorf(model.KindConflict, model.SubjectSource, "the source %q has no log lines", source)
	}
	return reader.Lines(ctx, query, f)
}

// search is Lines with the templates as they are: for evidence, which knows
// all ids of a template.
func (w *logWork) search(ctx context.Context, source, query string, f model.LogFilter) ([]model.LogLine, string, error) {
	if source == model.BuiltinSource {
		return w.lines.Search(ctx, f)
	}
	f.Selector, f.Templates = nil, nil
	return w.elsewhere(ctx, source, query, f)
}

// Analyze reads the lines of a range.
func (w *logWork) Analyze(ctx context.Context, args api.AnalyzeArgs, progress func(float64)) (model.LogAnalysis, error) {
	in := logs.AnalyzeArgs{Source: args.Source, Query: args.Query, Contains: args.Contains, From: args.From, To: args.To}
	if args.Source == model.BuiltinSource {
		var err error
		if in.Selector, err = model.ParseSelector(args.Query); err != nil {
			return model.LogAnalysis{}, err
		}
	}
	return w.Stage.Analyze(ctx, in, w.search, progress)
}

// CommitAnomalies writes changes. Those of detectors on logs say which pattern
// they are about, have the severity that people gave it, and their lines are
// kept soon after.
func (w *logWork) CommitAnomalies(ctx context.Context, changes []model.AnomalyChange) error {
	changes = slices.Clone(changes)
	var about []model.AnomalyChange
	for i := range changes {
		a := &changes[i].Anomaly
		d, ok := w.detector(a.DetectorID)
		if !ok {
			continue
		}
		if text := w.Describe(d, *a); text != "" {
			a.Reason += ": " + text
		}
		if s := w.Severity(a.Series.Value("template")); s != "" {
			a.Severity = s
		}
		if changes[i].Event != "" {
			about = append(about, changes[i])
		}
	}
	if err := w.Store.CommitAnomalies(ctx, changes); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range about {
		after := keepSoon
		if c.Event == model.EventAnomalyResolved {
			after = keepAfter
		}
		if _, known := w.due[c.Anomaly.ID]; known || len(w.due) < mostDue {
			w.due[c.Anomaly.ID] = time.Now().Add(after)
		}
	}
	return nil
}

func (w *logWork) detector(id string) (model.Detector, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d, ok := w.detectors[id]
	return d, ok
}

// keepDue keeps the lines of anomalies whose time has come.
func (w *logWork) keepDue(ctx context.Context) {
	w.mu.Lock()
	var ids []string
	for id, at := range w.due {
		if !time.Now().Before(at) && len(ids) < 10 {
			ids = append(ids, id)
			delete(w.due, id)
		}
	}
	w.mu.Unlock()
	for _, id := range ids {
		bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := w.keep(bounded, id)
		cancel()
		if err != nil && ctx.Err() == nil && model.KindOf(err) != model.KindNotFound {
			w.log.Warn("the lines of an anomaly were not kept", "anomaly_id", id, "err", err)
		}
	}
}

func (w *logWork) keep(ctx context.Context, id string) error {
	a, err := w.Anomaly(ctx, id)
	if err != nil {
		return err
	}
	if w.owner != nil {
		token, write, _ := w.owner.Hold(a.DetectorID)
		if !write {
			return nil // its owner keeps them
		}
		ctx = w.owner.Fence(ctx, a.DetectorID, token)
	}
	e, err := w.LogEvidenceOf(ctx, a)
	if err != nil || e == nil {
		return err
	}
	return w.SaveLogEvidence(ctx, id, *e)
}

// LogEvidenceOf returns what lines say about an anomaly, nil when it is not one
// of a detector on logs. What is not there any more comes from what was kept.
func (w *logWork) LogEvidenceOf(ctx context.Context, a model.Anomaly) (*model.LogEvidence, error) {
	kept, err := w.LogEvidence(ctx, a.ID)
	has := err == nil
	if err != nil && model.KindOf(err) != model.KindNotFound {
		return nil, err
	}
	d, ok := w.detector(a.DetectorID)
	if !ok { // the detector is gone: what was kept is all there is
		if has {
			return &kept, nil
		}
		return nil, nil
	}
	now, err := w.FindEvidence(ctx, d, a, w.search, w.embedded)
	switch {
	case err != nil && has:
		return &kept, nil
	case err != nil:
		return nil, err
	case !has:
		return &now, nil
	}
	for _, section := range []struct{ now, kept *[]model.LogLine }{{&now.Before, &kept.Before}, {&now.During, &kept.During}, {&now.After, &kept.After}} {
		if len(*section.now) < len(*section.kept) {
			*section.now = *section.kept
		}
	}
	if len(now.Patterns) == 0 {
		now.Patterns = kept.Patterns
	}
	if len(now.Related) == 0 {
		now.Related = kept.Related
	}
	return &now, nil
}
