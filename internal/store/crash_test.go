package store_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"aiops/internal/model"
	"aiops/internal/store"
	"aiops/internal/testkit"
)

// kills returns how often the harness kills; AIOPS_KILLS asks for more.
func kills(t *testing.T, def int) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("AIOPS_KILLS"))
	if err != nil {
		return def
	}
	return n
}

// longest is the time from opening to having recovered.
const longest = 5 * time.Second

// ledger is what the client was promised, kept outside of the store.
type ledger struct {
	t        *testing.T
	promises []string          // acknowledged lines, not yet checked
	tried    map[string]string // anomalies announced, by id, with their detector
	read     int64             // the last event that the resuming reader saw
	opened   map[string]int    // events anomaly.opened by topic
	tasks    []string
	total    int
}

func newLedger(t *testing.T) *ledger {
	return &ledger{t: t, tried: map[string]string{}, opened: map[string]int{}}
}

func (l *ledger) add(lines []string) {
	for _, line := range lines {
		if id, ok := strings.CutPrefix(line, "try "); ok {
			id, det, _ := strings.Cut(id, " ")
			l.tried[id] = det
			continue
		}
		l.total++
		l.promises = append(l.promises, line)
	}
}

// check holds a store that was opened again against what was promised. It
// returns how many promises were broken.
func (l *ledger) check(s *store.Store) (broken int) {
	l.t.Helper()
	ctx := context.Background()
	for _, line := range l.promises {
		if err := kept(ctx, s, strings.Fields(line)); err != nil {
			broken++
			if broken < 5 {
				l.t.Logf("broken: %q: %v", line, err)
			}
		}
		if id, ok := strings.CutPrefix(line, "task "); ok {
			l.tasks = append(l.tasks, id)
		}
	}
	l.promises = nil
	return broken
}

// kept returns an error when one promise was not kept.
func kept(ctx context.Context, s *store.Store, f []string) error {
	switch f[0] {
	case "detector":
		d, err := s.Detector(ctx, f[1])
		if err == nil && d.Name != f[2] {
			return fmt.Errorf("its name is %q", d.Name)
		}
		return err
	case "version":
		d, err := s.Detector(ctx, f[1])
		if err == nil && fmt.Sprint(d.Version) != f[2] {
			return fmt.Errorf("its version is %d", d.Version)
		}
		return err
	case "anomaly":
		if _, err := s.Evidence(ctx, f[1]); err != nil {
			return err
		}
		page, _, err := s.Anomalies(ctx, model.AnomalyFilter{Matchers: map[string]string{"id": f[1]}})
		if err == nil && len(page) != 1 {
			return fmt.Errorf("%d found by label", len(page))
		}
		return err
	case "acknowledged":
		a, err := s.Anomaly(ctx, f[1])
		if err == nil && a.AcknowledgedBy != "ada" {
			return errors.New("it is not acknowledged")
		}
		return err
	case "event":
		id, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return err
		}
		evs, err := s.Events(ctx, id-1, nil, 1)
		if err == nil && (len(evs) != 1 || evs[0].ID != id || string(evs[0].Data) != `"`+f[2]+`"`) {
			return fmt.Errorf("there is %+v", evs)
		}
		return err
	case "meta":
		v, _, err := s.Meta(ctx, f[1])
		if err == nil && v < f[2] {
			return fmt.Errorf("it is %q", v)
		}
		return err
	case "snapshot":
		mark, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil {
			return err
		}
		snap, err := s.SnapshotBefore(ctx, f[1], 1, mark)
		if err == nil && snap.Watermark != mark {
			return fmt.Errorf("the nearest is %d", snap.Watermark)
		}
		return err
	case "answer":
		state, a, err := s.BeginIdempotent(ctx, model.IdempotencyKey{Principal: "child", Key: f[1], Operation: "POST /x", BodyHash: "h"})
		if err == nil && (state != model.IdempotencyReplay || string(a.Body) != f[1]) {
			return fmt.Errorf("it is %v", state)
		}
		return err
	case "task":
		_, err := s.Task(ctx, f[1])
		return err
	}
	return fmt.Errorf("unknown promise %q", f)
}

// resume reads the events on from where the reader stopped: without a gap,
// without a repetition.
func (l *ledger) resume(s *store.Store) {
	l.t.Helper()
	for {
		evs, err := s.Events(context.Background(), l.read, nil, 0)
		if err != nil {
			l.t.Fatal(err)
		}
		if len(evs) == 0 {
			return
		}
		for _, e := range evs {
			if e.ID != l.read+1 {
				l.t.Fatalf("event %d follows event %d", e.ID, l.read)
			}
			l.read = e.ID
			if e.Type == model.EventAnomalyOpened {
				l.opened[e.Topic]++
			}
		}
	}
}

// retry sends everything again that was tried, as a client does that got no
// answer: it must not have a second effect.
func (l *ledger) retry(s *store.Store) {
	l.t.Helper()
	for id, det := range l.tried {
		err := s.CommitAnomalies(context.Background(), []model.AnomalyChange{{Anomaly: childAnomaly(det, id), Event: model.EventAnomalyOpened}})
		if err != nil {
			l.t.Fatalf("repeating %s: %v", id, err)
		}
	}
	l.resume(s)
	for id := range l.tried {
		if n := l.opened["anomalies/"+id]; n != 1 {
			l.t.Errorf("anomaly %s was opened %d times", id, n)
		}
	}
}

// finishTasks runs what is left: no task may hang.
func (l *ledger) finishTasks(s *store.Store) {
	l.t.Helper()
	j, err := store.NewJobs(s, taskFuncs(), nil)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	states := map[model.TaskState]int{}
	deadline := time.Now().Add(60 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, id := range l.tasks {
		for {
			task, err := j.Task(ctx, id)
			if err != nil {
				l.t.Fatal(err)
			}
			if task.State.Final() {
				if states[task.State]++; task.State == model.TaskFailed && !strings.Contains(task.Error, "the program ended") {
					l.t.Errorf("task %s failed: %s", id, task.Error)
				}
				break
			}
			if time.Now().After(deadline) {
				l.t.Fatalf("task %s is still %s", id, task.State)
			}
			<-tick.C
		}
	}
	l.t.Logf("%d tasks: %v", len(l.tasks), states)
	cancel()
	if err := <-done; err != nil {
		l.t.Error(err)
	}
}

// reopen opens the store of the orders and measures how long that takes.
func (l *ledger) reopen(o orders) *store.Store {
	l.t.Helper()
	begin := time.Now()
	s, err := store.Open(context.Background(), o.config(), slog.New(slog.DiscardHandler), nil)
	if err != nil {
		l.t.Fatalf("opening after the kill: %v", err)
	}
	if err := s.Ping(context.Background()); err != nil {
		l.t.Fatalf("opening after the kill: %v", err)
	}
	if d := time.Since(begin); d > longest {
		l.t.Errorf("opening took %v", d)
	}
	return s
}

// killLoop kills a writing child again and again and checks what is left.
func killLoop(t *testing.T, o orders, n int) {
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	l := newLedger(t)
	o.Jobs = true
	begin := time.Now()
	for i := range n {
		o.Run = i + 1
		c := startChild(t, o)
		if i%5 == 4 {
			// While it starts: it migrates, recovers, or has just begun.
			await(t, c, time.Duration(r.IntN(100))*time.Millisecond, 0)
		} else {
			await(t, c, time.Duration(r.IntN(150))*time.Millisecond, 1+r.IntN(60))
		}
		l.add(c.kill())
		s := l.reopen(o)
		if broken := l.check(s); broken > 0 {
			t.Errorf("kill %d: %d promises were broken", i, broken)
		}
		l.resume(s)
		if i%10 == 9 || i == n-1 {
			if err := s.IntegrityCheck(context.Background()); err != nil {
				t.Errorf("kill %d: %v: %v", i, err, errors.Unwrap(err))
			}
		}
		if i == n-1 {
			l.retry(s)
			l.finishTasks(s)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d kills, %d acknowledged writes, %d events, in %v", n, l.total, l.read, time.Since(begin).Round(time.Millisecond))
	if l.total < 5*n {
		t.Errorf("only %d writes were acknowledged: the load proves nothing", l.total)
	}
}

// await waits until a child has said so many lines, and then for a while.
func await(t *testing.T, c *child, wait time.Duration, lines int) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for len(c.said()) < lines {
		select {
		case <-tick.C:
		case <-c.done:
			t.Fatalf("the child ended: %s", c.errs)
		}
	}
	select {
	case <-time.After(wait):
	case <-c.done:
		t.Fatalf("the child ended: %s", c.errs)
	}
}

func TestKillSQLite(t *testing.T) {
	t.Parallel()
	killLoop(t, orders{Dir: t.TempDir()}, kills(t, 20))
}

func TestKillPostgresClient(t *testing.T) {
	t.Parallel()
	killLoop(t, orders{Dir: t.TempDir(), Postgres: postgresConfig(t).Postgres.URL.Reveal()}, kills(t, 20))
}

// TestKillPostgresServer kills the server while the child writes. The child
// goes on by itself when the server is back.
func TestKillPostgresServer(t *testing.T) {
	t.Parallel()
	p := testkit.RequirePostgres(t)
	url, err := p.CreateDatabase("kill")
	if err != nil {
		t.Fatal(err)
	}
	o := orders{Dir: t.TempDir(), Postgres: url, Run: 1, Jobs: true, Persist: true}
	c := startChild(t, o)
	defer c.kill()
	<-c.ready
	checker := o
	checker.Dir = t.TempDir() // another node on the same database
	l := newLedger(t)
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	seen := 0
	n := kills(t, 5)
	for i := range n {
		await(t, c, time.Duration(r.IntN(200))*time.Millisecond, len(c.said())+20) // it writes, or does so again
		p.Kill()
		said := c.said()
		l.add(said[seen:])
		seen = len(said)
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		s := l.reopen(checker)
		if broken := l.check(s); broken > 0 {
			t.Errorf("kill %d: %d promises were broken", i, broken)
		}
		l.resume(s)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	l.add(c.kill()[seen:])
	s := l.reopen(o)
	if broken := l.check(s); broken > 0 {
		t.Errorf("%d promises were broken", broken)
	}
	if err := s.IntegrityCheck(context.Background()); err != nil {
		t.Error(err)
	}
	l.retry(s)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("%d kills of the server, %d acknowledged writes, %d events", n, l.total, l.read)
}
