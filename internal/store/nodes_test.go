package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"aiops/internal/model"
	"aiops/internal/store"
	"aiops/internal/testkit"
)

// node opens one more node on a shared database.
func node(t *testing.T, cfg store.Config) *store.Store {
	t.Helper()
	return nodeAt(t, cfg, t.TempDir())
}

// nodeAt is node with a data directory that may have been used before.
func nodeAt(t *testing.T, cfg store.Config, dir string) *store.Store {
	t.Helper()
	cfg.DataDir = dir
	cfg.MasterKey = "a key of at least 32 characters, shared"
	s, err := store.Open(t.Context(), cfg, quietLog(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestNodesStartTogether opens an empty database from several nodes at once:
// one migrates it, the others wait.
func TestNodesStartTogether(t *testing.T) {
	t.Parallel()
	cfg := postgresConfig(t)
	var wg sync.WaitGroup
	nodes := make([]*store.Store, 4)
	for i := range nodes {
		wg.Go(func() { nodes[i] = node(t, cfg) })
	}
	wg.Wait()
	for _, n := range nodes {
		if n == nil {
			t.Fatal("a node did not start")
		}
		if err := n.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestNodesShareEvents lets two nodes write at once while a reader on a third
// follows: numbers have no gap for it, and it is woken at once.
func TestNodesShareEvents(t *testing.T) {
	t.Parallel()
	cfg := postgresConfig(t)
	a, b, reader := node(t, cfg), node(t, cfg), node(t, cfg)
	signal, stop := reader.EventSignal()
	defer stop()
	const writers, each = 3, 40
	var wg sync.WaitGroup
	for _, n := range []*store.Store{a, b} {
		for range writers {
			wg.Go(func() {
				for range each {
					if _, err := n.AppendEvent(context.Background(), model.Event{Type: model.EventLoadChanged, Topic: "system"}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	var seen int64
	for seen < 2*writers*each {
		evs, err := reader.Events(t.Context(), seen, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range evs {
			if e.ID != seen+1 {
				t.Fatalf("event %d follows %d", e.ID, seen)
			}
			seen = e.ID
		}
		if len(evs) == 0 {
			select {
			case <-signal:
			case <-time.After(20 * time.Second):
				t.Fatalf("no signal after event %d", seen)
			}
		}
	}
	wg.Wait()
	drain(signal)
	begin := time.Now()
	if _, err := a.AppendEvent(t.Context(), model.Event{Type: model.EventLoadChanged, Topic: "system"}); err != nil {
		t.Fatal(err)
	}
	<-signal
	t.Logf("a reader on another node was woken after %v", time.Since(begin))
}

func drain(c <-chan struct{}) {
	for {
		select {
		case <-c:
		case <-time.After(1500 * time.Millisecond): // longer than the polling
			return
		}
	}
}

// TestNodesDoNotLoseUpdates lets nodes change the same things at once.
func TestNodesDoNotLoseUpdates(t *testing.T) {
	t.Parallel()
	cfg := postgresConfig(t)
	nodes := []*store.Store{node(t, cfg), node(t, cfg)}
	d, err := nodes[0].CreateDetector(t.Context(), model.Detector{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	const each = 20
	for i, n := range nodes {
		wg.Go(func() {
			for done := 0; done < each; {
				cur, err := n.Detector(context.Background(), d.ID)
				if err != nil {
					t.Error(err)
					return
				}
				next := cur
				next.FalseAlarmsPerWeek++
				_, err = n.UpdateDetector(context.Background(), next, cur.Version, model.EventDetectorUpdated)
				if err == nil {
					done++
				} else if model.KindOf(err) != model.KindPrecondition {
					t.Error(err)
					return
				}
			}
		})
		wg.Go(func() { // the same episodes, twice
			for k := range each {
				if err := n.CommitAnomalies(context.Background(), []model.AnomalyChange{{Anomaly: childAnomaly(d.ID, fmt.Sprint("an_", k)), Event: model.EventAnomalyOpened}}); err != nil &&
					model.KindOf(err) != model.KindConflict {
					t.Errorf("node %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	got, err := nodes[1].Detector(t.Context(), d.ID)
	if err != nil || got.Version != 1+2*each || got.FalseAlarmsPerWeek != 2*each {
		t.Errorf("%+v, %v", got, err)
	}
	opened := map[string]int{}
	evs, err := nodes[0].Events(t.Context(), 0, []string{"anomalies"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range evs {
		opened[e.Topic]++
	}
	if len(evs) != each || len(opened) != each {
		t.Errorf("%d events of %d anomalies", len(evs), len(opened))
	}
}

// TestADeadlockIsTriedAgain waits for a lock that another session holds, while
// that one waits for a lock of ours: the database gives our write up, and it
// is written all the same.
func TestADeadlockIsTriedAgain(t *testing.T) {
	t.Parallel()
	cfg := postgresConfig(t)
	s := node(t, cfg)
	var ids []string
	for _, name := range []string{"a", "b"} {
		d, err := s.CreateDetector(t.Context(), model.Detector{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, d.ID)
	}
	slices.Sort(ids) // as they are locked
	other, err := sql.Open("pgx", string(cfg.Postgres.URL))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	session, err := other.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Rollback()
	lock := func(id string) {
		t.Helper()
		if _, err := session.ExecContext(t.Context(), `SELECT 1 FROM detectors WHERE id = $1 FOR UPDATE`, id); err != nil {
			t.Fatalf("the other session was given up, not ours: %v", err)
		}
	}
	if _, err := session.ExecContext(t.Context(), `SET LOCAL deadlock_timeout = '1min'`); err != nil {
		t.Fatal(err)
	}
	lock(ids[1])
	done := make(chan error, 1)
	go func() {
		done <- s.CommitAnomalies(context.Background(), []model.AnomalyChange{
			{Anomaly: childAnomaly(ids[0], "an_0"), Event: model.EventAnomalyOpened}, {Anomaly: childAnomaly(ids[1], "an_1"), Event: model.EventAnomalyOpened}})
	}()
	for waiting := 0; waiting == 0; {
		if err := other.QueryRowContext(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	lock(ids[0]) // comes back when ours was given up
	if err := session.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("the write is lost: %v", err)
	}
	for _, id := range []string{"an_0", "an_1"} {
		if _, err := s.Anomaly(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}

// TestServerAway stops the server: callers get a typed error soon, nothing
// hangs, and everything works again when it is back.
func TestServerAway(t *testing.T) {
	t.Parallel()
	p := testkit.RequirePostgres(t)
	url, err := p.CreateDatabase("away")
	if err != nil {
		t.Fatal(err)
	}
	s := node(t, store.Config{Postgres: store.PostgresConfig{URL: model.Secret(url), MaxConnections: 4}})
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Stop()
	for range 5 {
		begin := time.Now()
		err := s.SetMeta(t.Context(), "a", "b")
		_, rerr := s.AllDetectors(t.Context())
		if kind := model.KindOf(err); kind != model.KindUnavailable {
			t.Errorf("writing without a server: %v", err)
		}
		if kind := model.KindOf(rerr); kind != model.KindUnavailable {
			t.Errorf("reading without a server: %v", rerr)
		}
		if d := time.Since(begin); d > 2*time.Second {
			t.Errorf("the answers took %v", d)
		}
	}
	if s.Err() != nil {
		t.Fatalf("a server that is away made the store fail: %v", s.Err())
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("with the server back: %v", err)
	}
	signal, stop := s.EventSignal()
	defer stop()
	if _, err := s.AppendEvent(t.Context(), model.Event{Type: model.EventLoadChanged, Topic: "system"}); err != nil {
		t.Fatal(err)
	}
	<-signal
}

// TestCrashingTask runs a task whose program ends in the middle, again and
// again: in the end it has failed, with a reason.
func TestCrashingTask(t *testing.T) {
	t.Parallel()
	cfg := sqliteConfig(t)
	var id string
	for i := range 4 {
		s, err := store.Open(t.Context(), cfg, quietLog(), nil)
		if err != nil {
			t.Fatal(err)
		}
		started := make(chan struct{}, 1)
		block := make(chan struct{})
		j, err := store.NewJobs(s, map[string]store.TaskFunc{"x": func(context.Context, model.Task, func(float64)) (any, error) {
			started <- struct{}{}
			<-block
			return nil, nil
		}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			task, err := j.Enqueue(t.Context(), "x", nil)
			if err != nil {
				t.Fatal(err)
			}
			id = task.ID
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- j.Run(ctx) }()
		if i == 3 {
			for {
				task, err := j.Task(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				if task.State == model.TaskFailed {
					if task.Error != "the program ended 3 times while this task ran; it is not tried again" {
						t.Errorf("it failed with %q", task.Error)
					}
					break
				}
				<-time.After(10 * time.Millisecond)
			}
		} else {
			<-started
			// As after a crash: what the runner would write when it stops is lost.
			s.LoseWrites()
		}
		close(block)
		cancel()
		<-done
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestNodesKeepTheirOwnLogState: what nodes learn of their lines at the same
// time does not take the place of what others learnt. A restarted node has its
// own, and a new one begins with the latest.
func TestNodesKeepTheirOwnLogState(t *testing.T) {
	t.Parallel()
	cfg := postgresConfig(t)
	at := func(dir string) *store.Store { return nodeAt(t, cfg, dir) }
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	a, b := at(dirs[0]), at(dirs[1])
	want := func(s *store.Store, state string) {
		t.Helper()
		got, err := s.LogState(t.Context())
		if err != nil || string(got) != state {
			t.Errorf("the state is %q, %v, want %q", got, err, state)
		}
	}
	save := func(s *store.Store, state string) {
		t.Helper()
		if err := s.SaveLogState(t.Context(), []byte(state)); err != nil {
			t.Fatal(err)
		}
	}
	save(a, "of a")
	want(b, "of a") // b has none of its own yet
	save(b, "of b")
	save(a, "of a, later")
	want(a, "of a, later")
	want(b, "of b")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	want(at(dirs[1]), "of b")
	want(at(dirs[2]), "of a, later")
}

// TestNodesNumberLogDecisions: the decisions of nodes that store at once have
// numbers without gaps, and a reader on a third sees each once, in order.
func TestNodesNumberLogDecisions(t *testing.T) {
	t.Parallel()
	cfg := postgresConfig(t)
	a, b, reader := node(t, cfg), node(t, cfg), node(t, cfg)
	const writers, each = 3, 20
	var wg sync.WaitGroup
	for _, n := range []*store.Store{a, b} {
		for range writers {
			wg.Go(func() {
				for range each {
					if _, err := n.AppendLogDecision(context.Background(), []byte("{}")); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	limit := time.Now().Add(time.Minute)
	for seen := int64(0); seen < 2*writers*each; {
		found, err := reader.LogDecisions(t.Context(), seen)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range found {
			if d.ID != seen+1 {
				t.Fatalf("decision %d follows %d", d.ID, seen)
			}
			seen = d.ID
		}
		if time.Now().After(limit) {
			t.Fatalf("%d decisions were seen", seen)
		}
	}
	wg.Wait()
}

// TestNodesAnnounce sends short texts from one node to another.
func TestNodesAnnounce(t *testing.T) {
	t.Parallel()
	cfg := postgresConfig(t)
	a, b := node(t, cfg), node(t, cfg)
	long := strings.Repeat("x", store.MaxAnnouncement)
	for range 100 { // a node that does not listen yet hears nothing
		if err := a.Announce(t.Context(), []string{"hello", long}); err != nil {
			t.Fatal(err)
		}
		got := []string{}
		timeout := time.After(300 * time.Millisecond)
		for len(got) < 2 {
			select {
			case text := <-b.Announcements():
				got = append(got, text)
				continue
			case <-timeout:
			}
			break
		}
		if len(got) == 2 {
			if got[0] != "hello" || got[1] != long {
				t.Errorf("it heard %.20q", got)
			}
			if err := a.Announce(t.Context(), []string{long + "x"}); model.KindOf(err) != model.KindInvalid {
				t.Errorf("a text that is too long: %v", err)
			}
			return
		}
	}
	t.Error("the other node hears nothing")
}

// TestNodesJoinHealth lets one of two nodes lose a source: what is shown is one
// state, which does not alternate, and what a node said is forgotten with it.
func TestNodesJoinHealth(t *testing.T) {
	t.Parallel()
	ctx, cfg := t.Context(), postgresConfig(t)
	a, b := node(t, cfg), node(t, cfg)
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for host, n := range map[string]*store.Store{"a": a, "b": b} {
		_, err := n.RenewNode(ctx, host, time.Minute, true)
		ok(err)
	}
	var since int64
	// told returns the events since it was called last.
	told := func() string {
		t.Helper()
		events, err := a.Events(ctx, since, []string{"sources"}, 0)
		ok(err)
		var out []string
		for _, e := range events {
			since = e.ID
			out = append(out, string(e.Type))
		}
		return strings.Join(out, " ")
	}
	at := time.Date(2026, 11, 8, 0, 0, 0, 0, time.UTC)
	say := func(n *store.Store, state model.HealthState, reason string) {
		t.Helper()
		at = at.Add(time.Second)
		ok(n.SetSourceHealth(ctx, "main", model.SourceHealth{State: state, Since: at, CheckedAt: at, LastError: reason}))
	}
	shown := func() string {
		t.Helper()
		h, err := b.SourceHealth(ctx, "main")
		ok(err)
		return fmt.Sprintf("%s: %s", h.State, h.LastError)
	}
	for _, c := range []struct {
		n            *store.Store
		state        model.HealthState
		reason       string
		event, shown string
	}{
		{a, model.SourceUp, "", "source.up", "up: "},
		{b, model.SourceUp, "", "", "up: "},
		{b, model.SourceDown, "refused", "source.degraded", "degraded: down on node b: refused"},
		{a, model.SourceUp, "", "", "degraded: down on node b: refused"}, // a restart of the check: this alternated before
		{b, model.SourceDown, "refused", "", "degraded: down on node b: refused"},
		{a, model.SourceDown, "refused", "source.down", "down: refused"},
		{a, model.SourceUp, "", "source.degraded", "degraded: down on node b: refused"},
	} {
		say(c.n, c.state, c.reason)
		if got := told(); got != c.event {
			t.Errorf("%s %s: told %q, want %q", c.state, c.reason, got, c.event)
		}
		if got := shown(); got != c.shown {
			t.Errorf("%s %s: shown %q, want %q", c.state, c.reason, got, c.shown)
		}
	}
	all, err := a.NodesSourceHealth(ctx)
	ok(err)
	if list := all["main"]; len(all) != 1 || len(list) != 2 || list[0].Mine == list[1].Mine || list[0].Host == list[1].Host || told() != "" {
		t.Errorf("%+v", all)
	}
	ok(b.LeaveNode(ctx))
	all, err = a.NodesSourceHealth(ctx)
	ok(err)
	if got := told(); len(all["main"]) != 1 || got != "source.up" || shown() != "up: " {
		t.Errorf("without the node: %+v, told %q, shown %q", all, got, shown())
	}
	ok(a.Maintain(ctx, time.Now()))
	if _, err := b.RenewNode(ctx, "b", time.Minute, false); err != nil {
		t.Fatal(err)
	}
	if all, err = a.NodesSourceHealth(ctx); err != nil || len(all["main"]) != 1 {
		t.Errorf("what a node that is gone said is kept: %+v %v", all, err)
	}
}

// TestNodesProvision keeps who applied which definitions, the newest first.
func TestNodesProvision(t *testing.T) {
	t.Parallel()
	ctx, cfg := t.Context(), postgresConfig(t)
	a, b := node(t, cfg), node(t, cfg)
	if a.Fingerprint([]byte("x")) != b.Fingerprint([]byte("x")) || a.Fingerprint([]byte("x")) == a.Fingerprint([]byte("y")) {
		t.Error("fingerprints do not tell definitions apart")
	}
	for host, n := range map[string]*store.Store{"a": a, "b": b} {
		if _, err := n.RenewNode(ctx, host, time.Minute, true); err != nil {
			t.Fatal(err)
		}
	}
	shown := func() (out string) {
		t.Helper()
		list, err := a.Provisions(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range list {
			out += fmt.Sprintf("%s=%s live=%v mine=%v ", p.Host, p.Print, p.Live, p.Mine)
		}
		return out
	}
	for _, c := range []struct {
		n           *store.Store
		host, print string
		want        string
	}{
		{a, "a", "one", "a=one live=true mine=true "},
		{b, "b", "two", "b=two live=true mine=false a=one live=true mine=true "},
		{a, "a", "three", "a=three live=true mine=true b=two live=true mine=false "},
	} {
		if err := c.n.SaveProvision(ctx, c.host, c.print); err != nil {
			t.Fatal(err)
		}
		if got := shown(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	if err := b.LeaveNode(ctx); err != nil {
		t.Fatal(err)
	}
	if got := shown(); got != "a=three live=true mine=true b=two live=false mine=false " {
		t.Errorf("after it left: %q", got)
	}
}

// TestServerFrozen stops a server where it is: whoever waits for it is refused soon,
// and a write that it was committing is not said to have failed. Nothing would end
// the wait within a minute otherwise.
func TestServerFrozen(t *testing.T) {
	t.Parallel()
	p := testkit.RequirePostgres(t)
	url, err := p.CreateDatabase("frozen")
	if err != nil {
		t.Fatal(err)
	}
	s := node(t, store.Config{Postgres: store.PostgresConfig{URL: model.Secret(url)}})
	other, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, stmt := range []string{ // which makes the commit of a detector take a second
		`CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$`,
		`CREATE CONSTRAINT TRIGGER slowly AFTER INSERT ON detectors DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slowly()`,
	} {
		if _, err := other.ExecContext(t.Context(), stmt); err != nil {
			t.Fatal(err)
		}
	}
	committing := make(chan error, 1)
	go func() {
		_, err := s.CreateDetector(context.Background(), model.Detector{Name: "committed"})
		committing <- err
	}()
	for n := 0; n == 0; {
		if err := other.QueryRowContext(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	p.Freeze()
	defer p.Thaw() // before it is ended
	begin := time.Now()
	reading := make(chan error, 1)
	go func() {
		_, err := s.AllDetectors(context.Background())
		reading <- err
	}()
	if err := <-reading; model.KindOf(err) != model.KindUnavailable {
		t.Errorf("reading: %v", err)
	}
	if err := <-committing; model.KindOf(err) != model.KindUnavailable || !strings.Contains(err.Error(), "may have written this") {
		t.Errorf("a write that was being committed: %v", err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("the answers took %v", took)
	}
	if err := s.SetMeta(context.Background(), "a", "b"); model.KindOf(err) != model.KindUnavailable || strings.Contains(err.Error(), "may have") {
		t.Errorf("a write that was not begun: %v", err)
	}
	p.Thaw()
	again, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		_, err := s.DetectorByName(again, "committed")
		if err == nil {
			break
		}
		if kind := model.KindOf(err); kind != model.KindUnavailable && kind != model.KindNotFound {
			t.Fatalf("what was committed after the return: %v", err)
		}
		select {
		case <-again.Done():
			t.Fatalf("what was committed is not there: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
