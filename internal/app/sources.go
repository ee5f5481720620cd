package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/logmine"
	"aiops/internal/model"
	"aiops/internal/pipeline"
	"aiops/internal/source"
	"aiops/internal/source/builtin"
	"aiops/internal/source/loki"
	"aiops/internal/source/prom"
)

// client is what every source has in common.
type client interface {
	pipeline.Source
	Query(ctx context.Context, query string, at time.Time, maxSeries int) ([]model.SeriesData, error)
	Check(ctx context.Context) error
	ParseQuery(query string) error
	Collectors(ctx context.Context) ([]model.Collector, error)
	Details() map[string]any
	OnHealthChange(f func(old, now model.SourceHealth))
	Run(ctx context.Context) error
	Close() error
}

// sourceStore is where the definitions of sources are and where their health
// is told of.
type sourceStore interface {
	Sources(ctx context.Context) ([]model.Source, error)
	SetSourceHealth(ctx context.Context, name string, h model.SourceHealth) error
	NodesSourceHealth(ctx context.Context) (map[string][]model.NodeHealth, error)
	Node() (name, instance string)
}

// sources owns the running clients of the sources. The embedded source is
// always among them. Its methods are safe for concurrent use.
type sources struct {
	store      sourceStore
	shared     bool // other nodes use the store, too
	log        *slog.Logger
	registerer prometheus.Registerer
	receivers  func() []model.Collector // of log lines, shown with the embedded source; nil: none
	cache      *source.Cache
	parts      *supervisor

	syncing sync.Mutex // one Sync at a time

	mu      sync.RWMutex
	clients map[string]*running
	written map[string]model.HealthState  // what of this node the store has
	others  map[string][]model.NodeHealth // what other nodes say of sources
	heard   time.Time                     // when that was read
	base    context.Context               // of the clients' goroutines; nil before Run
}

// running is a client with its definition and its goroutine.
type running struct {
	client
	cached     *source.Cached // the same, from memory where that is as good
	definition model.Source
	cancel     context.CancelFunc // nil until started
	done       chan struct{}
}

func newSources(store sourceStore, shared bool, embedded *builtin.Source, cache *source.Cache, parts *supervisor, registerer prometheus.Registerer, log *slog.Logger) *sources {
	s := &sources{store: store, shared: shared, log: log.With("component", "sources"), registerer: registerer, cache: cache, parts: parts,
		clients: map[string]*running{}, written: map[string]model.HealthState{}}
	s.clients[model.BuiltinSource] = &running{client: embedded, cached: cache.For(embedded), definition: model.Source{Name: model.BuiltinSource, Type: model.SourceBuiltin}}
	s.tellHealth(model.BuiltinSource, embedded)
	return s
}

// tellHealth writes each change of a client's health to the store, which
// makes the event.
func (s *sources) tellHealth(name string, c client) {
	c.OnHealthChange(func(old, now model.SourceHealth) {
		s.log.Info("source changed", "source", name, "from", old.State, "to", now.State, "reason", now.LastError)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.writeHealth(ctx, name, now); err != nil {
			s.log.Error("recording a source's health; trying again", "source", name, "err", err)
		}
	})
}

func (s *sources) writeHealth(ctx context.Context, name string, h model.SourceHealth) error {
	if err := s.store.SetSourceHealth(ctx, name, h); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written[name] = h.State
	return nil
}

// How what other nodes say of sources is followed.
const (
	healthEvery = 5 * time.Second  // between two looks
	healthLasts = 30 * time.Second // without one, after which it does not count
)

// shareHealth follows what other nodes say of the sources, and writes again what
// could not be written of this node, until ctx ends.
func (s *sources) shareHealth(ctx context.Context) {
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		bounded, cancel := context.WithTimeout(ctx, healthEvery)
		if err := s.compareHealth(bounded); err != nil && ctx.Err() == nil {
			s.log.Debug("what other nodes say of the sources is not known", "err", err)
		}
		cancel()
	}
}

// compareHealth reads what other nodes say, where there can be some, and writes
// what the store does not have of this one.
func (s *sources) compareHealth(ctx context.Context) error {
	if s.shared {
		if err := s.readHealth(ctx); err != nil {
			return err
		}
	}
	s.mu.Lock()
	own := maps.Clone(s.written)
	now := make(map[string]model.SourceHealth, len(s.clients))
	for name, r := range s.clients {
		now[name] = r.Health()
	}
	s.mu.Unlock()
	var errs []error
	for name, h := range now {
		if h.State != model.SourceUnknown && own[name] != h.State {
			errs = append(errs, s.writeHealth(ctx, name, h))
		}
	}
	return errors.Join(errs...)
}

func (s *sources) readHealth(ctx context.Context) error {
	said, err := s.store.NodesSourceHealth(ctx)
	if err != nil {
		return err
	}
	own := map[string]model.HealthState{}
	for name, list := range said {
		if i := slices.IndexFunc(list, func(n model.NodeHealth) bool { return n.Mine }); i >= 0 {
			own[name] = list[i].State
			said[name] = slices.Delete(list, i, i+1)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written, s.others, s.heard = own, said, time.Now()
	return nil
}

// Run starts the clients and returns when ctx has ended and all of them have
// stopped.
func (s *sources) Run(ctx context.Context) error {
	s.mu.Lock()
	s.base = ctx
	for _, r := range s.clients {
		s.start(r)
	}
	s.mu.Unlock()
	s.shareHealth(ctx)
	s.syncing.Lock()
	defer s.syncing.Unlock()
	s.mu.Lock()
	stopped := slices.Collect(maps.Values(s.clients))
	s.mu.Unlock()
	var errs []error
	for _, r := range stopped {
		errs = append(errs, s.stop(r))
	}
	return errors.Join(errs...)
}

// start runs r's goroutine. It needs mu and base.
func (s *sources) start(r *running) {
	ctx, cancel := context.WithCancel(s.base)
	r.cancel, r.done = cancel, make(chan struct{})
	go func() {
		defer close(r.done)
		_ = s.parts.run(ctx, "source "+r.definition.Name, r.Run) // it returns nil
	}()
}

// stop ends r's goroutine and closes the client; the embedded database is
// closed by whoever opened it.
func (s *sources) stop(r *running) error {
	if r.cancel != nil {
		r.cancel()
		<-r.done
	}
	if r.definition.Type == model.SourceBuiltin {
		return nil
	}
	if err := r.Close(); err != nil {
		return fmt.Errorf("closing source %s: %w", r.definition.Name, err)
	}
	return nil
}

// Sync makes the running clients match the definitions in the store. A client
// whose definition did not change is left alone.
func (s *sources) Sync(ctx context.Context) error {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	wanted, err := s.store.Sources(ctx)
	if err != nil {
		return fmt.Errorf("reading the sources: %w", err)
	}
	names := map[string]bool{model.BuiltinSource: true}
	var errs []error
	for _, definition := range wanted {
		if definition.Type == model.SourceBuiltin {
			continue
		}
		names[definition.Name] = true
		s.mu.RLock()
		old := s.clients[definition.Name]
		s.mu.RUnlock()
		if old != nil && sameSource(old.definition, definition) {
			continue
		}
		errs = append(errs, s.replace(old, definition))
	}
	s.mu.Lock()
	var gone []*running
	for name, r := range s.clients {
		if !names[name] {
			gone = append(gone, r)
			delete(s.clients, name)
		}
	}
	s.mu.Unlock()
	for _, r := range gone {
		errs = append(errs, s.stop(r))
	}
	if err := s.compareHealth(ctx); err != nil {
		s.log.Debug("what other nodes say of the sources is not known", "err", err) // asked for again soon
	}
	return errors.Join(errs...)
}

// sameSource reports whether two definitions need the same client.
func sameSource(a, b model.Source) bool {
	a.Version, a.CreatedAt, a.UpdatedAt, a.Provisioned = b.Version, b.CreatedAt, b.UpdatedAt, b.Provisioned
	return reflect.DeepEqual(a, b)
}

func (s *sources) replace(old *running, definition model.Source) error {
	if old != nil {
		// The metrics of a client carry its name, so the old one has to
		// unregister before the new one registers.
		s.mu.Lock()
		delete(s.clients, definition.Name)
		s.mu.Unlock()
		if err := s.stop(old); err != nil {
			s.log.Warn("source closed with an error", "source", definition.Name, "err", err)
		}
	}
	c, err := s.open(definition)
	if err != nil {
		return fmt.Errorf("starting source %s: %w", definition.Name, err)
	}
	r := &running{client: c, cached: s.cache.For(c), definition: definition}
	s.tellHealth(definition.Name, c)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients[definition.Name] = r
	if s.base != nil {
		s.start(r)
	}
	return nil
}

func (s *sources) open(definition model.Source) (client, error) {
	switch definition.Type {
	case model.SourcePrometheus:
		return prom.New(prom.Config{Source: definition}, s.log, s.registerer)
	case model.SourceLoki:
		return loki.New(loki.Config{Source: definition, Describe: logmine.Describe}, s.log, s.registerer)
	default:
		return nil, model.Errorf(model.KindConflict, model.SubjectSource, "sources of type %s cannot be queried by this version", definition.Type)
	}
}

// find returns the running client of a source.
func (s *sources) find(name string) (client, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if r := s.clients[name]; r != nil {
		return r.client, nil
	}
	return nil, model.NotFound(model.SubjectSource, name)
}

// Source returns the source called name, for the pipeline.
func (s *sources) Source(name string) (pipeline.Source, bool) {
	c, err := s.find(name)
	return c, err == nil
}

// reading is a source for people who look at its past.
type reading struct {
	client
	cached *source.Cached
}

// QueryRange answers from memory where that is as good.
func (r reading) QueryRange(ctx context.Context, query string, start, end time.Time, step time.Duration, maxSeries int) ([]model.SeriesData, error) {
	return r.cached.QueryRange(ctx, query, start, end, step, maxSeries)
}

// Reading returns the source called name, for those who look at its past.
func (s *sources) Reading(name string) (pipeline.Source, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r := s.clients[name]
	if r == nil {
		return nil, false
	}
	return reading{r.client, r.cached}, true
}

// Health returns the last known health of a source: what follows from what this
// node and the others see.
func (s *sources) Health(name string) (model.SourceHealth, bool) {
	seen := s.seen(name)
	if seen == nil {
		return model.SourceHealth{State: model.SourceUnknown}, false
	}
	return model.JoinHealth(seen), true
}

// seen returns the health of a source as every node sees it, this one first;
// nil when it does not run here.
func (s *sources) seen(name string) []model.NodeHealth {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r := s.clients[name]
	if r == nil {
		return nil
	}
	node, _ := s.store.Node()
	seen := []model.NodeHealth{{Node: node, Host: nodeName(), Mine: true, SourceHealth: r.Health()}}
	if time.Since(s.heard) > healthLasts {
		return seen
	}
	return append(seen, s.others[name]...)
}

// Details returns facts about this node's way to a source, and how every node
// sees it when there are several.
func (s *sources) Details(name string) map[string]any {
	c, err := s.find(name)
	if err != nil {
		return nil
	}
	details := c.Details()
	seen := s.seen(name)
	if len(seen) < 2 {
		return details
	}
	type view struct {
		Node      string            `json:"node"`
		Here      bool              `json:"here,omitempty"`
		State     model.HealthState `json:"state"`
		Since     time.Time         `json:"since"`
		LastError string            `json:"last_error,omitempty"`
	}
	views := make([]view, len(seen))
	for i, n := range seen {
		views[i] = view{cmp.Or(n.Host, n.Node), n.Mine, n.State, n.Since.UTC(), n.LastError}
	}
	details = maps.Clone(details)
	if details == nil {
		details = map[string]any{}
	}
	details["nodes"] = views
	return details
}

// All returns the health of every source of a type, as this node sees it.
func (s *sources) All(of model.SourceType) map[string]model.SourceHealth {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := map[string]model.SourceHealth{}
	for name, r := range s.clients {
		if r.definition.Type == of {
			out[name] = r.Health()
		}
	}
	return out
}

// Test asks a source now. A source that does not answer is a finding.
func (s *sources) Test(ctx context.Context, name string) (model.SourceHealth, error) {
	c, err := s.find(name)
	if err != nil {
		return model.SourceHealth{}, err
	}
	began := time.Now()
	err = c.Check(ctx)
	h := c.Health()
	h.CheckedAt, h.Latency = began, time.Since(began)
	if err != nil {
		h.State, h.LastError = model.SourceDown, safeMessage(err)
	}
	return h, nil
}

// safeMessage is what may be shown of an error: the message of a model.Error,
// never its cause.
func safeMessage(err error) string {
	var e *model.Error
	if errors.As(err, &e) {
		return e.Message
	}
	return "an unexpected failure; the log has the details"
}

// Collectors lists what a source scrapes.
func (s *sources) Collectors(ctx context.Context, name string) ([]model.Collector, error) {
	c, err := s.find(name)
	if err != nil {
		return nil, err
	}
	list, err := c.Collectors(ctx)
	if err == nil && name == model.BuiltinSource && s.receivers != nil {
		list = append(list, s.receivers()...)
	}
	return list, err
}

// Query evaluates query at one time.
func (s *sources) Query(ctx context.Context, name, query string, at time.Time, maxSeries int) ([]model.SeriesData, error) {
	c, err := s.find(name)
	if err != nil {
		return nil, err
	}
	return c.Query(ctx, query, at, maxSeries)
}

// QueryRange evaluates query at each step from start to end, from memory where
// that is as good.
func (s *sources) QueryRange(ctx context.Context, name, query string, start, end time.Time, step time.Duration, maxSeries int) ([]model.SeriesData, error) {
	r, ok := s.Reading(name)
	if !ok {
		return nil, model.NotFound(model.SubjectSource, name)
	}
	return r.QueryRange(ctx, query, start, end, step, maxSeries)
}

// ParseQuery says whether query is well formed for a source.
func (s *sources) ParseQuery(name, query string) error {
	c, err := s.find(name)
	if err != nil {
		return err
	}
	return c.ParseQuery(query)
}
