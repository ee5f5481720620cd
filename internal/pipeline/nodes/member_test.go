package nodes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aiops/internal/model"
)

// database is the far end that members share, with the rules of the real one.
type database struct {
	mu      sync.Mutex
	nodes   map[string]*row // by name
	leases  map[string]*model.Lease
	changes int
	away    bool
}

type row struct {
	model.Node
	expires time.Time
}

func newDatabase(detectors int) *database {
	db := &database{nodes: map[string]*row{}, leases: map[string]*model.Lease{}}
	for i := range detectors {
		id := fmt.Sprintf("det_%02d", i)
		db.leases[id] = &model.Lease{DetectorID: id}
	}
	return db
}

func (db *database) live(instance string) bool {
	for _, n := range db.nodes {
		if n.Instance == instance && instance != "" && time.Now().Before(n.expires) {
			return true
		}
	}
	return false
}

// fakeStore is the database as one node sees it.
type fakeStore struct {
	*database
	name, instance string
	cut            bool // this node cannot reach it
}

var errAway = errors.New("the database does not answer")

// reach locks the database, or says that it cannot be reached.
func (s *fakeStore) reach() (unlock func(), err error) {
	s.mu.Lock()
	if s.away || s.cut {
		s.mu.Unlock()
		return nil, errAway
	}
	return s.mu.Unlock, nil
}

func (s *fakeStore) Node() (name, instance string) { return s.name, s.instance }

func (s *fakeStore) RenewNode(_ context.Context, host string, lease time.Duration, first bool) (bool, error) {
	unlock, err := s.reach()
	if err != nil {
		return false, err
	}
	defer unlock()
	n := s.nodes[s.name]
	if n == nil {
		n = &row{Node: model.Node{Name: s.name, JoinedAt: time.Now()}}
		s.nodes[s.name] = n
	}
	if s.live(n.Instance) && n.Instance != s.instance && !first {
		return false, nil
	}
	if !s.live(n.Instance) || n.Instance != s.instance {
		s.changes++
		n.Leaving = false
	}
	n.Instance, n.Host, n.expires = s.instance, host, time.Now().Add(lease)
	return true, nil
}

func (s *fakeStore) LeavingNode(context.Context) error {
	unlock, err := s.reach()
	if err != nil {
		return err
	}
	defer unlock()
	s.nodes[s.name].Leaving = true
	s.changes++
	return nil
}

func (s *fakeStore) LeaveNode(context.Context) error {
	unlock, err := s.reach()
	if err != nil {
		return err
	}
	defer unlock()
	for _, l := range s.leases {
		if l.Instance == s.instance {
			l.Instance = ""
		}
	}
	if n := s.nodes[s.name]; n != nil && n.Instance == s.instance {
		n.Instance = ""
	}
	s.changes++
	return nil
}

func (s *fakeStore) NodesState(context.Context) (string, error) {
	unlock, err := s.reach()
	if err != nil {
		return "", err
	}
	defer unlock()
	live := 0
	for _, n := range s.nodes {
		if s.live(n.Instance) {
			live++
		}
	}
	return fmt.Sprint(s.changes, live), nil
}

func (s *fakeStore) Cluster(context.Context) (model.Cluster, error) {
	unlock, err := s.reach()
	if err != nil {
		return model.Cluster{}, err
	}
	defer unlock()
	var c model.Cluster
	for _, name := range slices.Sorted(maps.Keys(s.nodes)) {
		n := s.nodes[name].Node
		n.Live = s.live(n.Instance)
		c.Nodes = append(c.Nodes, n)
	}
	for _, id := range slices.Sorted(maps.Keys(s.leases)) {
		c.Leases = append(c.Leases, *s.leases[id])
	}
	return c, nil
}

func (s *fakeStore) TakeLeases(_ context.Context, ids []string) (map[string]int64, error) {
	unlock, err := s.reach()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if !s.live(s.instance) {
		return nil, model.Errorf(model.KindConflict, model.SubjectLease, "expired")
	}
	taken := map[string]int64{}
	for _, id := range ids {
		if l := s.leases[id]; !s.live(l.Instance) {
			l.Instance = s.instance
			l.Token++
			taken[id] = l.Token
			s.changes++
		}
	}
	return taken, nil
}

func (s *fakeStore) ReleaseLeases(_ context.Context, tokens map[string]int64) error {
	unlock, err := s.reach()
	if err != nil {
		return err
	}
	defer unlock()
	for id, token := range tokens {
		if l := s.leases[id]; l.Instance == s.instance && l.Token == token {
			l.Instance = ""
			s.changes++
		}
	}
	return nil
}

func (s *fakeStore) ReportLeases(_ context.Context, reports []model.LeaseReport) error {
	unlock, err := s.reach()
	if err != nil {
		return err
	}
	defer unlock()
	for _, r := range reports {
		if l := s.leases[r.DetectorID]; l.Instance == s.instance && l.Token == r.Token {
			l.Report = r.Report
		}
	}
	return nil
}

func (s *fakeStore) WithFence(ctx context.Context, _ string, _ int64) context.Context { return ctx }

// fakeEngine evaluates nothing, and notes what it was asked to hand over.
type fakeEngine struct {
	db     *database
	mu     sync.Mutex
	handed []string
	fail   error
}

func (e *fakeEngine) Definitions() []model.Detector {
	e.db.mu.Lock()
	defer e.db.mu.Unlock()
	var out []model.Detector
	for id := range e.db.leases {
		d := model.Detector{ID: id, Source: "main"}
		if id == "det_00" {
			d.Source = model.BuiltinSource
		}
		out = append(out, d)
	}
	return out
}

func (e *fakeEngine) HandOver(_ context.Context, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.handed = append(e.handed, id)
	return e.fail
}

func (e *fakeEngine) Recheck([]string) {}

func (e *fakeEngine) Report(id string) []byte { return []byte("report of " + id) }

// one is a member that runs, in a bubble of synctest.
type one struct {
	*Member
	store  *fakeStore
	engine *fakeEngine
	stop   func()
}

const testLease = 8 * time.Second

func startMember(t *testing.T, db *database, name, instance string) *one {
	t.Helper()
	s := &fakeStore{database: db, name: name, instance: instance}
	m := &one{store: s, engine: &fakeEngine{db: db}, Member: New(Options{Store: s, Host: "host-" + name,
		Pinned: func(d model.Detector) bool { return d.Source == model.BuiltinSource }})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx, m.engine) }()
	m.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v", err)
		}
	}
	return m
}

// die ends a member as a kill does: the database hears nothing of it.
func (m *one) die() {
	m.store.mu.Lock()
	m.store.cut = true
	m.store.mu.Unlock()
	m.stop()
}

// active returns what a member may evaluate now.
func (m *one) active() (ids []string) {
	for _, d := range m.engine.Definitions() {
		if _, write, _ := m.Hold(d.ID); write {
			ids = append(ids, d.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// scored returns how many detectors a member may score, if only in memory.
func scored(m *one) (n int) {
	for _, d := range m.engine.Definitions() {
		if _, _, score := m.Hold(d.ID); score {
			n++
		}
	}
	return n
}

// twice returns a detector that two members may evaluate at the same time, ""
// for none.
func twice(members ...*one) string {
	owners := map[string]int{}
	for i, m := range members {
		for _, id := range m.active() {
			if _, ok := owners[id]; ok {
				return id
			}
			owners[id] = i
		}
	}
	return ""
}

// elapse lets time pass in small steps and looks at the owners after each.
func elapse(t *testing.T, d time.Duration, members ...*one) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		<-time.After(100 * time.Millisecond)
		synctest.Wait()
		if id := twice(members...); id != "" {
			t.Fatalf("%s has two owners", id)
		}
	}
}

func TestMembersShareAndTakeOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := newDatabase(9)
		a := startMember(t, db, "a", "a1")
		elapse(t, 2*time.Second, a)
		if n := len(a.active()); n != 9 {
			t.Fatalf("alone it owns %d of 9", n)
		}
		b := startMember(t, db, "b", "b1")
		elapse(t, 10*time.Second, a, b)
		if n, m := len(a.active()), len(b.active()); n != 5 || m != 4 { // four each, and what is pinned
			t.Fatalf("together they own %d and %d", n, m)
		}
		if len(a.engine.handed) != 4 {
			t.Errorf("%v were handed over", a.engine.handed)
		}
		if raw, node, age := a.Report(b.active()[0]); string(raw) != "report of "+b.active()[0] || node != "host-b" || age > 10*time.Second {
			t.Errorf("what b tells is %q of %q, %s old", raw, node, age)
		}
		killed := time.Now()
		a.die()
		for len(b.active()) < 9 && time.Since(killed) < time.Minute {
			elapse(t, 100*time.Millisecond, b)
		}
		if d := time.Since(killed); d < testLease*4/5-time.Second || d > testLease+2*time.Second {
			t.Errorf("taken over after %s", d)
		}
		// The next life of the same data directory is back at once.
		a = startMember(t, db, "a", "a2")
		elapse(t, 5*time.Second, a, b)
		if n := len(a.active()); n != 5 || !slices.Contains(a.active(), "det_00") {
			t.Errorf("after its return the eldest owns %v", a.active())
		}
		// In order it takes a moment.
		stopped := time.Now()
		a.Leave(context.Background())
		for len(b.active()) < 9 && time.Since(stopped) < time.Minute {
			elapse(t, 100*time.Millisecond, a, b)
		}
		if d := time.Since(stopped); d > 2*time.Second {
			t.Errorf("handed over after %s", d)
		}
		a.stop()
		b.stop()
	})
}

// A life that follows at once needs no waiting, although the one before has not
// released anything.
func TestMemberReplacesItsEarlierLife(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := newDatabase(5)
		a := startMember(t, db, "a", "a1")
		elapse(t, 2*time.Second, a)
		a.die()
		a = startMember(t, db, "a", "a2")
		elapse(t, 1500*time.Millisecond, a)
		if n := len(a.active()); n != 5 {
			t.Errorf("it owns %d of 5", n)
		}
		if token, _, _ := a.Hold("det_01"); token != 2 {
			t.Errorf("token %d", token)
		}
		a.stop()
	})
}

// A node that cannot reach the database stops before others can take over, and
// goes on with the same token when nobody did.
func TestMemberStopsBeforeItsLeaseEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := newDatabase(6)
		a, b := startMember(t, db, "a", "a1"), startMember(t, db, "b", "b1")
		elapse(t, 10*time.Second, a, b)
		before, _, _ := a.Hold("det_00")
		cut := func(m *one, away bool) {
			db.mu.Lock()
			defer db.mu.Unlock()
			m.store.cut = away
		}
		cut(a, true)
		elapse(t, testLease*2/3-time.Second, a, b)
		if len(a.active()) == 0 {
			t.Error("it stops at once")
		}
		elapse(t, time.Second+testLease/5, a, b)
		if n := len(a.active()); n != 0 {
			t.Errorf("it goes on with %d", n)
		}
		if token, _, _ := a.Hold("det_00"); token != before {
			t.Errorf("it dropped what nobody has taken: token %d", token)
		}
		cut(a, false) // back before the lease ended
		elapse(t, 3*time.Second, a, b)
		if token, write, _ := a.Hold("det_00"); !write || token != before {
			t.Errorf("it does not go on: token %d, %v", token, write)
		}
		cut(a, true)
		elapse(t, 2*testLease, a, b)
		if n := len(b.active()); n != 6 {
			t.Errorf("the other one owns %d of 6", n)
		}
		cut(a, false)
		elapse(t, 10*time.Second, a, b)
		if token, write, _ := a.Hold("det_00"); !write || token <= before {
			t.Errorf("back again: token %d, %v", token, write)
		}
		a.stop()
		b.stop()
	})
}

// After an outage of the database everybody's lease has expired. Nothing moves.
func TestMembersKeepTheirsThroughAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := newDatabase(8)
		a, b := startMember(t, db, "a", "a1"), startMember(t, db, "b", "b1")
		elapse(t, 10*time.Second, a, b)
		want := map[string]int64{}
		for id, l := range db.leases {
			want[id] = l.Token
		}
		away := func(away bool) {
			db.mu.Lock()
			defer db.mu.Unlock()
			db.away = away
		}
		away(true)
		elapse(t, time.Minute, a, b)
		if n := len(a.active()) + len(b.active()); n != 0 {
			t.Errorf("without a database %d are evaluated", n)
		}
		if n := scored(a) + scored(b); n != 8 {
			t.Errorf("without a database %d of 8 are scored in memory", n)
		}
		elapse(t, aloneAtMost, a, b)
		if n := scored(a) + scored(b); n != 0 {
			t.Errorf("after %s without a database %d are still scored", time.Minute+aloneAtMost, n)
		}
		away(false)
		elapse(t, 5*time.Second, a, b)
		if n := len(a.active()) + len(b.active()); n != 8 {
			t.Errorf("with the database back %d of 8 are evaluated", n)
		}
		for id, l := range db.leases {
			if l.Token != want[id] {
				t.Errorf("%s has moved", id)
			}
		}
		a.stop()
		b.stop()
	})
}

// A copied data directory is a second node of the same name: the later one
// wins, the earlier one stops. Until it hears of that both believe to be the
// owner, which is what the fence is for, and the control of twice.
func TestMemberIsDisplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := newDatabase(3)
		a := startMember(t, db, "a", "a1")
		elapse(t, 2*time.Second, a)
		copied := startMember(t, db, "a", "a2")
		both := 0
		for range 50 {
			<-time.After(100 * time.Millisecond)
			synctest.Wait()
			if twice(a, copied) != "" {
				both++
			}
		}
		if both == 0 {
			t.Error("control: two owners at once are not noticed")
		}
		elapse(t, 20*time.Second, a, copied)
		if len(a.active()) != 0 || len(copied.active()) != 3 {
			t.Errorf("they own %v and %v", a.active(), copied.active())
		}
		a.stop()
		copied.stop()
	})
}

// A detector whose state cannot be stored is released all the same, and a
// release that fails is repeated.
func TestMemberReleasesInAnyCase(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := newDatabase(4)
		a := startMember(t, db, "a", "a1")
		elapse(t, 2*time.Second, a)
		a.engine.fail = errors.New("wedged")
		b := startMember(t, db, "b", "b1")
		elapse(t, 5*time.Second, a, b)
		if len(a.active())+len(b.active()) != 4 || len(b.active()) == 0 {
			t.Errorf("they own %v and %v", a.active(), b.active())
		}
		a.stop()
		b.stop()
	})
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for lease, ok := range map[time.Duration]bool{0: true, time.Second: true, 8 * time.Second: true, 5 * time.Minute: true, time.Millisecond: false, -1: false, time.Hour: false} {
		if err := (Config{Lease: model.Duration(lease)}).Validate(); (err == nil) != ok {
			t.Errorf("%s: %v", lease, err)
		}
	}
}
