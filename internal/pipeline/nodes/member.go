package nodes

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
)

// Store keeps nodes and leases. All methods are safe for concurrent use.
type Store interface {
	// Node names this node, and this life of it.
	Node() (name, instance string)
	// RenewNode says that this node lives for the time of lease from now on. One
	// that is first takes the place of an earlier life; later, false means that
	// another process has taken the place of this one.
	RenewNode(ctx context.Context, host string, lease time.Duration, first bool) (bool, error)
	// LeavingNode says that this node takes nothing more; LeaveNode ends its
	// lease and releases what it still has.
	LeavingNode(ctx context.Context) error
	LeaveNode(ctx context.Context) error
	// NodesState is a text that differs when Cluster may differ.
	NodesState(ctx context.Context) (string, error)
	Cluster(ctx context.Context) (model.Cluster, error)
	// TakeLeases takes what no live node has and returns the tokens.
	TakeLeases(ctx context.Context, ids []string) (map[string]int64, error)
	ReleaseLeases(ctx context.Context, tokens map[string]int64) error
	ReportLeases(ctx context.Context, reports []model.LeaseReport) error
	// WithFence returns a context whose writes fail once the token is not the
	// newest any more.
	WithFence(ctx context.Context, detectorID string, token int64) context.Context
}

// Engine is what evaluates detectors.
type Engine interface {
	Definitions() []model.Detector
	// HandOver ends the evaluation of a detector and stores its state.
	HandOver(ctx context.Context, id string) error
	// Recheck makes the engine ask Hold again.
	Recheck(ids []string)
	// Report is what other nodes are told of a detector.
	Report(id string) []byte
}

// Bounds of the loops.
const (
	watchAtMost    = time.Second      // between two looks at the other nodes
	readAgain      = 5 * time.Second  // the whole picture is read at least this often
	reportEvery    = 2 * time.Second  // between two reports
	mostReports    = 2000             // detectors in one report; the others follow
	mostHandOvers  = 8                // at the same time
	handOverWithin = 30 * time.Second // one that takes longer is tried again
	leaveWithin    = 2 * time.Second  // for writing down that this node ends
	aloneAtMost    = 10 * time.Minute // that detectors are scored in memory while renewals fail
)

// Options are what a Member is made of.
type Options struct {
	Config Config
	Store  Store
	Host   string // of this machine, for people
	// Pinned says which detectors need what lies in a node's data directory; they
	// all belong to the eldest node. nil: none.
	Pinned     func(model.Detector) bool
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: nothing is measured
}

// Member is this node among those that share a database. Its methods are safe
// for concurrent use, and those that Run does not wait for do not block.
type Member struct {
	o        Options
	lease    time.Duration
	instance string
	log      *slog.Logger
	metrics  *metrics
	woken    chan struct{} // capacity 1

	mu      sync.Mutex
	engine  Engine           // nil before Run
	held    map[string]int64 // token by detector
	giving  map[string]bool  // what is being handed over, until it is seen that it was released
	until   time.Time        // up to when this node may act
	since   time.Time        // from when on it has been a member without a break
	checked bool             // what is held was compared with the database since then
	cut     time.Time        // when renewals began to fail, until the database was read again; zero: they do not
	leaving bool
	others  map[string]model.Lease // by detector, as they were read
	readAt  time.Time
	hosts   map[string]string // of live nodes, by instance
}

// New makes a member, which does nothing before Run. It panics when the
// registerer holds the metrics of another member.
func New(o Options) *Member {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Pinned == nil {
		o.Pinned = func(model.Detector) bool { return false }
	}
	m := &Member{o: o, lease: o.Config.lease(), log: o.Logger.With("component", "nodes"), woken: make(chan struct{}, 1),
		held: map[string]int64{}, giving: map[string]bool{}, others: map[string]model.Lease{}, hosts: map[string]string{}}
	_, m.instance = o.Store.Node()
	m.metrics = newMetrics(m)
	if o.Registerer != nil {
		o.Registerer.MustRegister(m.metrics.all()...)
	}
	return m
}

// Hold returns the token under which this node owns a detector, 0 when it does
// not. write says that it may evaluate it and write what it finds. score without
// write says that the database does not answer: nobody else is known to have
// taken the detector, so that it may be scored in memory for a while.
func (m *Member) Hold(id string) (token int64, write, score bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	token = m.held[id]
	write = token != 0 && m.checked && now.Before(m.until)
	return token, write, write || token != 0 && !m.cut.IsZero() && now.Sub(m.cut) < aloneAtMost
}

// Fence returns the context for what the owner of a detector writes.
func (m *Member) Fence(ctx context.Context, id string, token int64) context.Context {
	return m.o.Store.WithFence(ctx, id, token)
}

// Report returns what the owner of a detector told of it last, and how old that
// is. node is the host of the owner, "" for none.
func (m *Member) Report(id string) (report []byte, node string, age time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.others[id]
	return l.Report, m.hosts[l.Instance], l.ReportAge + time.Since(m.readAt)
}

// Node names this node for people.
func (m *Member) Node() string { return m.o.Host }

// Wake makes the member look at the detectors and the other nodes at once.
func (m *Member) Wake() {
	select {
	case m.woken <- struct{}{}:
	default:
	}
}

// Run keeps this node a member until ctx ends, and then releases what it still
// has. It joins as soon as the database can be reached.
func (m *Member) Run(ctx context.Context, engine Engine) error {
	m.mu.Lock()
	m.engine = engine
	m.mu.Unlock()
	var loops sync.WaitGroup
	loops.Go(func() { m.renewals(ctx) })
	loops.Go(func() { m.watch(ctx) })
	loops.Go(func() { m.reports(ctx) })
	loops.Wait()
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWithin)
	defer cancel()
	if err := m.o.Store.LeaveNode(bounded); err != nil {
		m.log.Warn("what this node owned is not released; the others take it over when its lease ends", "err", err)
	}
	m.lose(nil, true)
	return nil
}

// Leave hands over everything, while other nodes take it, and returns when that
// is done or ctx ends. Afterwards this node takes nothing more.
func (m *Member) Leave(ctx context.Context) {
	m.mu.Lock()
	engine := m.engine
	m.leaving = true
	ids := slices.Sorted(maps.Keys(m.held))
	m.mu.Unlock()
	if engine == nil {
		return
	}
	if err := m.o.Store.LeavingNode(ctx); err != nil {
		m.log.Warn("the other nodes do not know that this one leaves", "err", err)
	}
	m.handOver(ctx, engine, ids)
}

// renewals says five times in the time of the lease that this node lives.
func (m *Member) renewals(ctx context.Context) {
	tick := time.NewTicker(m.lease / 5)
	defer tick.Stop()
	first := true
	for {
		if m.renew(ctx, first) {
			first = false
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// renew reports whether this node is a member afterwards.
func (m *Member) renew(ctx context.Context, first bool) bool {
	began := time.Now() // before the database can have begun to count
	// One that is not answered has failed before the node stops acting, so that
	// its detectors go on in memory from then on.
	bounded, cancel := context.WithTimeout(ctx, m.lease*2/5)
	defer cancel()
	mine, err := m.o.Store.RenewNode(bounded, m.o.Host, m.lease, first)
	if ctx.Err() != nil {
		return false
	}
	switch {
	case err != nil:
		m.metrics.renewals.WithLabelValues("failed").Inc()
		m.suspended(err)
		return false
	case !mine:
		m.metrics.renewals.WithLabelValues("displaced").Inc()
		m.log.Error("another process with the same data directory's name has taken the place of this node; give each node a directory of its own")
		m.lose(nil, true)
		return false
	}
	m.metrics.renewals.WithLabelValues("done").Inc()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !began.Before(m.until) { // it was not a member for a while
		m.since, m.checked = began, false
		m.Wake()
	} else if m.checked {
		m.cut = time.Time{}
	}
	m.until = began.Add(m.lease * 2 / 3)
	return true
}

// suspended makes the engine stop writing, once, when the lease can end before
// it is renewed.
func (m *Member) suspended(err error) {
	m.mu.Lock()
	now := time.Now()
	if m.cut.IsZero() {
		m.cut = now
	}
	ended := m.checked && !now.Before(m.until)
	if ended {
		m.checked = false
	}
	engine, ids := m.engine, slices.Collect(maps.Keys(m.held))
	m.mu.Unlock()
	if ended && len(ids) > 0 {
		m.log.Warn("this node cannot say that it lives; its detectors are scored in memory and nothing is written", "detectors", len(ids), "at_most", aloneAtMost, "err", err)
		engine.Recheck(ids)
	}
}

// watch looks at the others, takes what is free and gives what is too much.
func (m *Member) watch(ctx context.Context) {
	tick := time.NewTicker(min(watchAtMost, m.lease/8))
	defer tick.Stop()
	var handing sync.WaitGroup
	defer handing.Wait()
	state, woken := "", true
	for {
		bounded, cancel := context.WithTimeout(ctx, readAgain)
		now, err := m.o.Store.NodesState(bounded)
		if err == nil && (woken || now != state || m.due()) {
			if err = m.round(bounded, &handing); err == nil {
				state = now
			}
		}
		cancel()
		if err != nil && ctx.Err() == nil {
			m.log.Debug("the other nodes are not known at the moment", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			woken = false
		case <-m.woken:
			woken = true
		}
	}
}

// due reports whether the whole picture has to be read although nothing seems to
// have changed.
func (m *Member) due() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.checked || time.Since(m.readAt) >= readAgain {
		return true
	}
	for _, l := range m.others {
		if l.Instance != "" && m.hosts[l.Instance] == "" {
			return true // its owner has gone: time alone makes it free
		}
	}
	return false
}

// round reads the whole picture and acts on it.
func (m *Member) round(ctx context.Context, handing *sync.WaitGroup) error {
	began := time.Now()
	c, err := m.o.Store.Cluster(ctx)
	if err != nil {
		return err
	}
	v, left := m.settle(c, began)
	if len(left) > 0 {
		if err := m.o.Store.ReleaseLeases(ctx, left); err != nil {
			return err
		}
	}
	take, give := plan(v)
	if len(take) > 0 {
		taken, err := m.o.Store.TakeLeases(ctx, take)
		if err != nil {
			return err
		}
		m.gain(taken)
	}
	give = m.startGiving(give)
	if len(give) > 0 {
		handing.Go(func() {
			bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), handOverWithin)
			defer cancel()
			m.handOver(bounded, m.engine, give)
		})
	}
	return nil
}

// settle takes over what was read: what this node has lost is dropped, and what
// it took without hearing of it is its own. left is what it has handed over and
// could not release.
func (m *Member) settle(c model.Cluster, began time.Time) (v view, left map[string]int64) {
	m.mu.Lock()
	v, left = view{me: m.instance, holders: map[string]holder{}}, map[string]int64{}
	hosts, known := map[string]string{}, map[string]bool{}
	for _, n := range c.Nodes {
		known[n.Instance] = n.Instance != ""
		if n.Live {
			hosts[n.Instance] = cmp.Or(n.Host, n.Name)
		}
		if n.Live && !n.Leaving {
			v.nodes = append(v.nodes, n)
		}
	}
	// After an outage of the database every lease has expired: who is back first
	// leaves the others the time to come back, too.
	patient := time.Since(m.since) >= m.lease
	m.others = make(map[string]model.Lease, len(c.Leases))
	var changed []string
	for _, l := range c.Leases {
		m.others[l.DetectorID] = l
		live := hosts[l.Instance] != ""
		free := l.Instance == "" || !known[l.Instance] || !live && patient
		v.holders[l.DetectorID] = holder{l.Instance, free}
		token, mine := m.held[l.DetectorID]
		switch {
		case mine && (l.Instance != m.instance || l.Token != token) && l.Token >= token:
			delete(m.held, l.DetectorID)
			delete(m.giving, l.DetectorID)
			changed = append(changed, l.DetectorID)
		case !mine && l.Instance == m.instance && m.giving[l.DetectorID]:
			left[l.DetectorID] = l.Token
		case !mine && live && l.Instance == m.instance:
			m.held[l.DetectorID] = l.Token
			changed = append(changed, l.DetectorID)
		case !mine && l.Instance != m.instance:
			delete(m.giving, l.DetectorID)
		}
	}
	for id := range m.held {
		if _, ok := m.others[id]; !ok { // deleted
			delete(m.held, id)
			delete(m.giving, id)
		}
	}
	m.hosts, m.readAt = hosts, time.Now()
	if !m.checked && hosts[m.instance] != "" && !m.since.IsZero() && !began.Before(m.since) {
		m.checked, m.cut = true, time.Time{}
		changed = append(changed, slices.Collect(maps.Keys(m.held))...)
	}
	engine, leaving := m.engine, m.leaving
	m.mu.Unlock()
	if len(changed) > 0 {
		engine.Recheck(changed)
	}
	if leaving {
		v.nodes = nil // nothing is taken any more
		return v, left
	}
	for _, d := range engine.Definitions() {
		if _, ok := v.holders[d.ID]; !ok {
			v.holders[d.ID] = holder{free: true}
		}
		v.detectors = append(v.detectors, detector{d.ID, m.o.Pinned(d)})
	}
	slices.SortFunc(v.detectors, func(a, b detector) int { return strings.Compare(a.id, b.id) })
	return v, left
}

// gain notes what was taken and makes the engine begin.
func (m *Member) gain(taken map[string]int64) {
	if len(taken) == 0 {
		return
	}
	m.mu.Lock()
	for id, token := range taken {
		m.held[id] = token
		delete(m.giving, id)
		m.others[id] = model.Lease{DetectorID: id, Instance: m.instance, Token: token}
	}
	m.mu.Unlock()
	m.metrics.moves.WithLabelValues("taken").Add(float64(len(taken)))
	m.log.Info("detectors are evaluated here from now on", "detectors", len(taken))
	m.engine.Recheck(slices.Collect(maps.Keys(taken)))
}

// startGiving marks some of ids as being handed over and returns them.
func (m *Member) startGiving(ids []string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, id := range ids {
		if len(m.giving) >= mostHandOvers {
			break
		}
		if m.held[id] != 0 && !m.giving[id] {
			m.giving[id] = true
			out = append(out, id)
		}
	}
	return out
}

// handOver ends the evaluation of detectors and releases each as soon as its
// state is stored.
func (m *Member) handOver(ctx context.Context, engine Engine, ids []string) {
	next := make(chan string)
	var workers sync.WaitGroup
	for range min(mostHandOvers, len(ids)) {
		workers.Go(func() {
			for id := range next {
				m.handOverOne(ctx, engine, id)
			}
		})
	}
	for _, id := range ids {
		next <- id
	}
	close(next)
	workers.Wait()
}

// handOverOne releases a detector in any case once it has begun: what could not
// be stored, the next owner finds out again, and the fence keeps a late
// evaluation here from writing. A release that fails is repeated by a round.
func (m *Member) handOverOne(ctx context.Context, engine Engine, id string) {
	m.mu.Lock()
	token := m.held[id]
	m.giving[id] = true
	m.mu.Unlock()
	if token == 0 {
		return
	}
	if err := engine.HandOver(ctx, id); err != nil {
		m.log.Warn("a detector is handed over without its newest state", "detector_id", id, "err", err)
	}
	m.lose([]string{id}, false)
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWithin)
	defer cancel()
	if err := m.o.Store.ReleaseLeases(bounded, map[string]int64{id: token}); err != nil {
		m.log.Warn("a detector was not released; trying again", "detector_id", id, "err", err)
		return
	}
	m.metrics.moves.WithLabelValues("given").Inc()
}

// lose forgets detectors, or all of them, and makes the engine drop them.
func (m *Member) lose(ids []string, all bool) {
	m.mu.Lock()
	if all {
		ids = slices.Collect(maps.Keys(m.held))
		m.until, m.cut = time.Time{}, time.Time{}
	}
	for _, id := range ids {
		delete(m.held, id)
	}
	engine := m.engine
	m.mu.Unlock()
	if engine != nil {
		engine.Recheck(ids)
	}
}
