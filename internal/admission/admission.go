package admission

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
)

// Options are what the package needs of others.
type Options struct {
	// Class names a request's class by its method and path. It must be cheap.
	Class func(method, path string) Class
	// Refuse answers a request that is not let in with the problem that err
	// stands for: a model.Error.
	Refuse func(w http.ResponseWriter, r *http.Request, err error)
	// Answer returns what appends to b the whole HTTP/1.1 answer with which a
	// Listener's connection refuses a request: the problem that err stands for.
	// New calls it a few times. Nil: connections refuse none.
	Answer func(err error) func(b []byte, h Head) []byte
	// Identity is who asks, "" for anybody; PerKey calls it. Nil: nobody is known.
	Identity func(ctx context.Context) string
	// OnChange is told of each change of the load state, one at a time; it
	// may take its time. Nil: nobody is told.
	OnChange func(Change)
	// Registerer takes the metrics; nil: nothing is measured.
	Registerer prometheus.Registerer
}

// Admission lets requests in. Its methods are safe for concurrent use.
type Admission struct {
	config  Config
	opts    Options
	proxies proxies
	limiter *limiter
	control chan struct{}
	clients *rates[clientKey]
	keys    *rates[string]
	heavy   *heavy
	ahead   *ahead
	metrics *instruments
	answers []func(b []byte, h Head) []byte // of connections, with waits spread over a second; none: they refuse none

	load atomic.Pointer[Load]
}

// Load is how hard pressed the program is and by what.
type Load struct {
	State       State
	Since       time.Time
	Reason      string
	CPUWait     time.Duration // 90th percentile of the last tenth of a second
	MemoryRatio float64       // of what may be used; 0 when that is not known
	Limit       int           // of requests in flight
	InFlight    int
	Refused     uint64 // for want of a place, since the start
}

// New returns an Admission. The load state is followed only while Run runs.
func New(config Config, opts Options) (*Admission, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config = config.WithDefaults()
	trusted, err := newProxies(config.TrustedProxies)
	if err != nil {
		return nil, fmt.Errorf("reading the trusted proxies: %w", err)
	}
	if opts.Identity == nil {
		opts.Identity = func(context.Context) string { return "" }
	}
	if opts.OnChange == nil {
		opts.OnChange = func(Change) {}
	}
	if opts.Registerer == nil {
		opts.Registerer = prometheus.NewRegistry()
	}
	a := &Admission{
		config: config, opts: opts, proxies: trusted, limiter: newLimiter(config.MaxConcurrency, config.TargetDelay.Std()), control: make(chan struct{}, maxControl),
		clients: newRates[clientKey]("client", config.MaxClients),
		keys:    newRates[string]("key", config.MaxClients), heavy: newHeavy(), ahead: newAhead(),
	}
	for i := range spread {
		if opts.Answer != nil {
			a.answers = append(a.answers, opts.Answer(busy(time.Second+time.Duration(i)*time.Second/spread)))
		}
	}
	a.load.Store(&Load{State: Normal, Since: time.Now(), Reason: "the program has just started", Limit: a.limiter.state().limit})
	if a.metrics, err = newInstruments(opts.Registerer, a); err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	return a, nil
}

// Config returns the configuration in force, defaults included.
func (a *Admission) Config() Config { return a.config }

// Client returns the address that a request comes from, as text, seen through
// the trusted proxies.
func (a *Admission) Client(r *http.Request) string {
	if addr := a.proxies.client(r); addr.IsValid() {
		return addr.String()
	}
	return r.RemoteAddr
}

// Handler lets requests through to next, or refuses them.
func (a *Admission) Handler(next http.Handler) http.Handler {
	if a.config.Disabled {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		class := a.opts.Class(r.Method, r.URL.Path)
		if class == Probe {
			a.metrics.admitted[class].Inc()
			next.ServeHTTP(w, r)
			return
		}
		addr := a.proxies.client(r)
		if wait, ok := a.clients.take(w.Header(), clientKey{network(addr), class == Control}, a.rateOf(addr), time.Now()); !ok {
			a.tooMany(w, r, class, "client_rate", wait)
			return
		}
		switch class {
		case Stream:
			a.metrics.admitted[class].Inc()
			next.ServeHTTP(w, r)
		case Control:
			a.serveControl(w, r, next)
		default:
			a.serve(w, r, class, next)
		}
	})
}

func (a *Admission) rateOf(addr netip.Addr) Rate {
	if addr.IsLoopback() || !addr.IsValid() {
		return a.config.Loopback
	}
	return a.config.Client
}

func (a *Admission) serve(w http.ResponseWriter, r *http.Request, class Class, next http.Handler) {
	done, err := a.ahead.read(w, r, class)
	defer done()
	if err != nil {
		a.refuse(w, r, class, "body", err)
		return
	}
	place := a.limiter.acquire(r.Context(), class)
	if place == nil {
		a.refuse(w, r, class, "overloaded", busy(aWhile()))
		return
	}
	var once sync.Once
	giveBack := func() { once.Do(func() { a.limiter.release(place) }) }
	defer giveBack()
	// By the time an answer begins the work is done, and a client that reads
	// slowly, or not at all, must not hold the place.
	if b, ok := w.(interface{ OnBegin(f func()) }); ok {
		b.OnBegin(giveBack)
	}
	a.metrics.admitted[class].Inc()
	next.ServeHTTP(w, r)
}

func (a *Admission) serveControl(w http.ResponseWriter, r *http.Request, next http.Handler) {
	done, err := a.ahead.read(w, r, Control)
	defer done()
	if err != nil {
		a.refuse(w, r, Control, "body", err)
		return
	}
	select {
	case a.control <- struct{}{}:
		defer func() { <-a.control }()
		a.metrics.admitted[Control].Inc()
		next.ServeHTTP(w, r)
	default:
		a.refuse(w, r, Control, "overloaded", busy(aWhile()))
	}
}

// PerKey holds each identity to its rate, and each user, by address when nobody
// is known, to a few heavy requests at a time. It belongs behind whatever
// finds out who asks.
func (a *Admission) PerKey(next http.Handler) http.Handler {
	if a.config.Disabled {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		class := a.opts.Class(r.Method, r.URL.Path)
		if class == Probe || class == Control {
			next.ServeHTTP(w, r)
			return
		}
		who := a.opts.Identity(r.Context())
		if who != "" {
			if wait, ok := a.keys.take(w.Header(), who, a.config.Key, time.Now()); !ok {
				a.tooMany(w, r, class, "key_rate", wait)
				return
			}
		}
		if class == Batch {
			if who == "" {
				who = network(a.proxies.client(r)).String() // no identity looks like that
			}
			done := a.heavy.take(r.Context(), who)
			if done == nil {
				e := model.Errorf(model.KindRateLimit, "", "At most %d heavy requests of one user are served at once. Wait until others are answered.", MaxHeavy)
				e.Context = map[string]any{"limit": MaxHeavy}
				e.RetryAfter = aWhile()
				a.refuse(w, r, class, "heavy", e)
				return
			}
			defer done()
		}
		next.ServeHTTP(w, r)
	})
}

func (a *Admission) tooMany(w http.ResponseWriter, r *http.Request, class Class, reason string, wait time.Duration) {
	e := model.Errorf(model.KindRateLimit, "", "This client sends more requests than it may. Wait, then send fewer.")
	e.RetryAfter = wait
	a.refuse(w, r, class, reason, e)
}

// spread is how many different waits connections refuse with.
const spread = 64

// busy is a refusal for want of a place, to be sent again after a wait.
func busy(wait time.Duration) error {
	return &model.Error{Kind: model.KindOverloaded, Message: "The program is busy with other requests. Send it again shortly.", RetryAfter: wait}
}

// aWhile is a wait that is spread over a second, so that those refused together
// do not come back together.
func aWhile() time.Duration { return time.Second + rand.N(time.Second) }

func (a *Admission) refuse(w http.ResponseWriter, r *http.Request, class Class, reason string, err error) {
	a.metrics.refused.WithLabelValues(class.String(), reason).Inc()
	a.opts.Refuse(w, r, err)
}

// State returns the load state.
func (a *Admission) State() State { return a.load.Load().State }

// Load returns how hard pressed the program is. It never blocks.
func (a *Admission) Load() Load {
	l := *a.load.Load()
	s := a.limiter.state()
	l.Limit, l.InFlight, l.Refused = s.limit, s.inFlight, s.shed
	return l
}

const (
	tick         = 100 * time.Millisecond // how often the load is read
	shedRecently = 500 * time.Millisecond // how long a refusal counts
)

// Watch lets probes and refusals go before requests that were let in, until
// ctx ends. Without it everything is let in and refused all the same.
func (a *Admission) Watch(ctx context.Context) error { return a.limiter.lookout.watch(ctx) }

// Run follows the load until ctx ends.
func (a *Admission) Run(ctx context.Context) error {
	changes := make(chan Change, 16)
	told := make(chan struct{})
	go func() {
		defer close(told)
		for c := range changes {
			a.opts.OnChange(c)
		}
	}()
	defer func() { close(changes); <-told }()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	g := newGauge()
	m := machine{state: Normal}
	shed, shedAt := a.limiter.state().shed, time.Time{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		delay, memory := g.read()
		s := signals{delay: time.Duration(delay * float64(time.Second)), target: a.config.TargetDelay.Std()}
		if a.config.MemoryBytes > 0 {
			s.memory = float64(memory) / float64(a.config.MemoryBytes)
		}
		now := time.Now()
		if n := a.limiter.state().shed; n != shed {
			shed, shedAt = n, now
		}
		s.waited, s.shedding = a.limiter.waited(now), now.Sub(shedAt) < shedRecently
		a.follow(&m, s, changes)
	}
}

// follow moves the state machine on and tells of a change.
func (a *Admission) follow(m *machine, s signals, changes chan<- Change) {
	wanted, reason := s.read()
	old := a.load.Load()
	next := &Load{State: m.state, Since: old.Since, Reason: old.Reason, CPUWait: s.delay, MemoryRatio: s.memory}
	change, changed := m.step(time.Now(), wanted, reason)
	if changed {
		next.State, next.Since, next.Reason = change.To, change.Time, reason
		a.metrics.changes.Inc()
	}
	a.load.Store(next)
	if changed {
		select {
		case changes <- change:
		default: // whoever is told is slower than the load changes; the state itself is right
		}
	}
}
