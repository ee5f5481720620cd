package storetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aiops/internal/model"
	"aiops/internal/store"
)

// runJobs runs tasks until the test ends or the returned function is called.
func runJobs(t *testing.T, s *store.Store, funcs map[string]store.TaskFunc) (*store.Jobs, func()) {
	t.Helper()
	return runOwnedJobs(t, s, funcs, nil)
}

func runOwnedJobs(t *testing.T, s *store.Store, funcs map[string]store.TaskFunc, owned map[string]int) (*store.Jobs, func()) {
	t.Helper()
	j := must(store.NewJobs(s, funcs, owned))(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("running tasks: %v", err)
		}
	})
	t.Cleanup(stop)
	return j, stop
}

func awaitTask(t *testing.T, j *store.Jobs, id string, state model.TaskState) model.Task {
	t.Helper()
	var task model.Task
	eventually(t, fmt.Sprintf("task %s is %s", id, state), func() bool {
		task = must(j.Task(context.Background(), id))(t)
		if task.State.Final() && task.State != state {
			t.Fatalf("task %s is %s: %s", id, task.State, task.Error)
		}
		return task.State == state
	})
	return task
}

func tasksRun(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	step := make(chan struct{})
	j, _ := runJobs(t, s, map[string]store.TaskFunc{
		"sum": func(_ context.Context, task model.Task, progress func(float64)) (any, error) {
			progress(0.25)
			<-step
			return map[string]string{"args": string(task.Args)}, nil
		},
		"typed": func(context.Context, model.Task, func(float64)) (any, error) {
			return nil, model.WrapError(model.KindTooLittleData, model.SubjectDetector, errors.New("secret cause"), "too little data")
		},
		"plain": func(context.Context, model.Task, func(float64)) (any, error) { return nil, errors.New("secret cause") },
		"panic": func(context.Context, model.Task, func(float64)) (any, error) { panic("secret cause") },
		"odd":   func(context.Context, model.Task, func(float64)) (any, error) { return func() {}, nil },
	})
	task := must(j.Enqueue(ctx, "sum", map[string]int{"a": 1}))(t)
	if task.State != model.TaskQueued || task.ID == "" || string(task.Args) != `{"a":1}` {
		t.Fatalf("enqueued %+v", task)
	}
	eventually(t, "progress is written", func() bool {
		got := must(j.Task(ctx, task.ID))(t)
		return got.State == model.TaskRunning && got.Progress == 0.25
	})
	close(step)
	done := awaitTask(t, j, task.ID, model.TaskSucceeded)
	if done.Progress != 1 || string(done.Result) != `{"args":"{\"a\":1}"}` || done.Error != "" {
		t.Errorf("succeeded as %+v", done)
	}
	for kind, want := range map[string]string{"typed": "too little data", "plain": "failed unexpectedly", "panic": "failed unexpectedly", "odd": "cannot be stored"} {
		task := must(j.Enqueue(ctx, kind, nil))(t)
		failed := awaitTask(t, j, task.ID, model.TaskFailed)
		if !strings.Contains(failed.Error, want) || strings.Contains(failed.Error, "secret") {
			t.Errorf("%s says %q", kind, failed.Error)
		}
		wantKind(t, j.Cancel(ctx, task.ID), model.KindConflict)
	}
	_, err := j.Enqueue(ctx, "unheard", nil)
	wantKind(t, err, model.KindInvalid)
	_, err = j.Task(ctx, "task_none")
	wantKind(t, err, model.KindNotFound)
	var listed []string
	f := model.TaskFilter{State: model.TaskFailed, Limit: 3}
	for {
		page, next, err := j.Tasks(ctx, f)
		ok(t, err)
		for _, task := range page {
			listed = append(listed, task.Kind)
		}
		if next == "" {
			break
		}
		f.Cursor = next
	}
	if len(listed) != 4 {
		t.Errorf("failed are %q", listed)
	}
	if page, _, err := j.Tasks(ctx, model.TaskFilter{Kind: "sum"}); err != nil || len(page) != 1 {
		t.Errorf("of kind sum are %+v, %v", page, err)
	}
	about := must(j.Enqueue(ctx, "sum", map[string]string{"detector_id": "det_1"}))(t)
	must(j.Enqueue(ctx, "sum", map[string]string{"detector_id": "det_2"}))(t)
	must(j.Enqueue(ctx, "sum", "det_1"))(t)
	if page, _, err := j.Tasks(ctx, model.TaskFilter{DetectorID: "det_1"}); err != nil || len(page) != 1 || page[0].ID != about.ID {
		t.Errorf("about a detector are %+v, %v", page, err)
	}
}

func tasksCancel(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	started := make(chan struct{}, 100)
	var runs atomic.Int32
	j, stop := runJobs(t, s, map[string]store.TaskFunc{"wait": func(ctx context.Context, _ model.Task, _ func(float64)) (any, error) {
		runs.Add(1)
		started <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	running := must(j.Enqueue(ctx, "wait", nil))(t)
	<-started
	begin := time.Now()
	ok(t, j.Cancel(ctx, running.ID))
	awaitTask(t, j, running.ID, model.TaskCancelled)
	if d := time.Since(begin); d > time.Second {
		t.Errorf("cancelling took %v", d)
	}
	ok(t, j.Cancel(ctx, running.ID))
	wantKind(t, j.Cancel(ctx, "task_none"), model.KindNotFound)

	// Another runner on the same database is asked to cancel: this one hears of it.
	other := must(store.NewJobs(s, map[string]store.TaskFunc{"wait": nil}, nil))(t)
	running = must(j.Enqueue(ctx, "wait", nil))(t)
	<-started
	ok(t, other.Cancel(ctx, running.ID))
	awaitTask(t, j, running.ID, model.TaskCancelled)
	stop()

	queued := must(j.Enqueue(ctx, "wait", nil))(t)
	ok(t, j.Cancel(ctx, queued.ID))
	if got := must(j.Task(ctx, queued.ID))(t); got.State != model.TaskCancelled {
		t.Errorf("a queued task is %s after its cancellation", got.State)
	}
	before := runs.Load()
	again, _ := runJobs(t, s, map[string]store.TaskFunc{"wait": func(context.Context, model.Task, func(float64)) (any, error) {
		runs.Add(1)
		return nil, nil
	}})
	sentinel := must(again.Enqueue(ctx, "wait", nil))(t)
	awaitTask(t, again, sentinel.ID, model.TaskSucceeded)
	if got := runs.Load() - before; got != 1 {
		t.Errorf("%d tasks ran, the cancelled one among them", got)
	}
}

func tasksRestart(t *testing.T, fresh FreshFunc) {
	cfg := fresh(t)
	s := open(t, cfg)
	ctx := t.Context()
	started := make(chan struct{}, 10)
	j, stop := runJobs(t, s, map[string]store.TaskFunc{
		"quick": func(context.Context, model.Task, func(float64)) (any, error) {
			started <- struct{}{}
			return "drained", nil
		},
		"long": func(ctx context.Context, _ model.Task, progress func(float64)) (any, error) {
			progress(0.5)
			started <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}})
	quick, long := must(j.Enqueue(ctx, "quick", nil))(t), must(j.Enqueue(ctx, "long", nil))(t)
	<-started
	<-started
	stop()
	if got := must(j.Task(ctx, quick.ID))(t); got.State != model.TaskSucceeded {
		t.Errorf("the quick task is %s", got.State)
	}
	if got := must(j.Task(ctx, long.ID))(t); got.State != model.TaskQueued {
		t.Errorf("the interrupted task is %s: %s", got.State, got.Error)
	}
	ok(t, s.Close())
	again := open(t, cfg)
	j2, _ := runJobs(t, again, map[string]store.TaskFunc{"long": func(context.Context, model.Task, func(float64)) (any, error) { return "done", nil }})
	awaitTask(t, j2, long.ID, model.TaskSucceeded)
}

// tasksOwned runs tasks of kinds that the owner of a detector runs: as many of a
// kind at once as there may be, whatever another kind does, after a stop again,
// and without an owner too.
func tasksOwned(t *testing.T, fresh FreshFunc) {
	cfg := fresh(t)
	s, ctx := open(t, cfg), t.Context()
	started := make(chan string, 10)
	owned := map[string]int{"long": 2, "quick": 1}
	funcs := map[string]store.TaskFunc{
		"long": func(ctx context.Context, task model.Task, _ func(float64)) (any, error) {
			started <- task.ID
			<-ctx.Done()
			return nil, ctx.Err()
		},
		"quick": func(context.Context, model.Task, func(float64)) (any, error) { return "done", nil },
		"other": func(context.Context, model.Task, func(float64)) (any, error) { return "done", nil },
	}
	j, stop := runOwnedJobs(t, s, funcs, owned)
	of := map[string]string{"detector_id": "det_of_nobody"}
	var long []string
	for range 3 {
		long = append(long, must(j.Enqueue(ctx, "long", of))(t).ID)
	}
	seen := map[string]bool{<-started: true, <-started: true}
	for _, kind := range []string{"quick", "other", "quick"} {
		awaitTask(t, j, must(j.Enqueue(ctx, kind, of))(t).ID, model.TaskSucceeded)
	}
	if len(started) != 0 {
		t.Error("three of a kind run at once, of which there may be two")
	}
	for id := range seen {
		ok(t, j.Cancel(ctx, id))
		awaitTask(t, j, id, model.TaskCancelled)
	}
	third := <-started
	if seen[third] || !slices.Contains(long, third) {
		t.Errorf("%s began after %v", third, seen)
	}
	stop()
	if got := must(j.Task(ctx, third))(t); got.State != model.TaskQueued {
		t.Errorf("the interrupted task is %s: %s", got.State, got.Error)
	}
	ok(t, s.Close())
	funcs["long"] = funcs["quick"]
	j, _ = runOwnedJobs(t, open(t, cfg), funcs, owned)
	awaitTask(t, j, third, model.TaskSucceeded)
}

func reopen(t *testing.T, fresh FreshFunc) {
	cfg := fresh(t)
	s, err := store.Open(t.Context(), cfg, discard(), nil)
	ok(t, err)
	d := newDetector(t, s, "a")
	src := must(s.CreateSource(t.Context(), fullSource("main")))(t)
	a := newAnomaly(d, "an_1", 0, map[string]string{"x": "y"})
	commit(t, s, model.EventAnomalyOpened, a)
	ok(t, s.SetMeta(t.Context(), "k", "v"))
	_, cursor, err := s.Detectors(t.Context(), model.DetectorFilter{Limit: 1})
	ok(t, err)
	newDetector(t, s, "b")
	_, cursor, err = s.Detectors(t.Context(), model.DetectorFilter{Limit: 1, Cursor: cursor})
	ok(t, err)
	events := must(s.Events(t.Context(), 0, nil, 0))(t)
	stored := must(s.Anomaly(t.Context(), a.ID))(t)
	ok(t, s.Close())

	s = open(t, cfg)
	same(t, must(s.Detector(t.Context(), d.ID))(t), d)
	same(t, must(s.Source(t.Context(), src.ID))(t), src)
	same(t, must(s.Anomaly(t.Context(), a.ID))(t), stored)
	same(t, must(s.Events(t.Context(), 0, nil, 0))(t), events)
	if v, found, err := s.Meta(t.Context(), "k"); err != nil || !found || v != "v" {
		t.Errorf("meta is %q %v %v", v, found, err)
	}
	if _, found, err := s.Meta(t.Context(), "none"); err != nil || found {
		t.Errorf("unknown meta is %v %v", found, err)
	}
	if page, _, err := s.Detectors(t.Context(), model.DetectorFilter{Limit: 1, Cursor: cursor}); err != nil || len(page) != 1 || page[0].Name != "b" {
		t.Errorf("a cursor from before gives %+v, %v", page, err)
	}
	ok(t, s.IntegrityCheck(t.Context()))
	if n := must(s.SizeBytes(t.Context()))(t); n <= 0 {
		t.Errorf("the size is %d", n)
	}
}

func cancelledCaller(t *testing.T, fresh FreshFunc) {
	s := setup(t, fresh)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.SetMeta(ctx, "a", "b"); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled caller gets %v", err)
	}
	ctx, cancel = context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	wantKind(t, s.SetMeta(ctx, "a", "b"), model.KindTimeout)
	_, err := s.AllDetectors(ctx)
	wantKind(t, err, model.KindTimeout)
	if _, found, err := s.Meta(t.Context(), "a"); err != nil || found {
		t.Errorf("what was given up was written: %v %v", found, err)
	}
	// Callers that give up at any moment leave the store in order.
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*50*time.Microsecond)
			defer cancel()
			_, _ = s.CreateDetector(ctx, model.Detector{Name: fmt.Sprint("d", i)}) // either way is right
		})
	}
	wg.Wait()
	ok(t, s.Ping(t.Context()))
	if n, events := len(must(s.AllDetectors(t.Context()))(t)), last(t, s); int64(n) != events {
		t.Errorf("%d detectors, %d events", n, events)
	}
}

func maintain(t *testing.T, fresh FreshFunc) {
	cfg := fresh(t)
	cfg.Retention.Anomalies = model.Duration(24 * time.Hour)
	cfg.Retention.Events = model.Duration(24 * time.Hour)
	s, ctx := open(t, cfg), t.Context()
	d := newDetector(t, s, "a")
	labels := map[string]string{"x": "y\x00z", "a": "b"}
	over := func(id string, minute int) model.Anomaly {
		a := newAnomaly(d, id, minute, labels)
		a.State, a.ResolvedAt = model.AnomalyResolved, a.StartedAt.Add(time.Second)
		return a
	}
	many := make([]model.Anomaly, 700)
	for i := range many {
		many[i] = over(fmt.Sprint("an_old", i), 0)
	}
	commit(t, s, "", many...)
	ok(t, s.CommitAnomalies(ctx, []model.AnomalyChange{{Anomaly: over("an_taught", 0), Evidence: &model.Evidence{}}, {Anomaly: over("an_young", 3000)},
		{Anomaly: newAnomaly(d, "an_open", 0, labels)}, {Anomaly: over("an_evidence", 0), Evidence: &model.Evidence{}}}))
	yes := true
	must(s.LabelAnomaly(ctx, "an_taught", &yes, "ada", 0))(t)
	ok(t, s.Maintain(ctx, base.Add(49*time.Hour)))
	got := walk(t, s, model.AnomalyFilter{Matchers: map[string]string{"a": "b"}})
	if strings.Join(got, " ") != "an_young an_taught an_open" {
		t.Errorf("left are %q", got)
	}
	_, err := s.Evidence(ctx, "an_evidence")
	wantKind(t, err, model.KindNotFound)
	must(s.Evidence(ctx, "an_taught"))(t)
	ok(t, s.Maintain(ctx, time.Now().Add(48*time.Hour)))
	if oldest, newest := must(s.OldestEventID(ctx))(t), last(t, s); oldest != newest {
		t.Errorf("events %d to %d are left", oldest, newest)
	}
	ok(t, s.IntegrityCheck(ctx))
}

// backup copies a store that is being written to, and restores the copy
// elsewhere: every anomaly in it has its event, and the other way round.
func backup(t *testing.T, fresh FreshFunc) {
	const key = model.Secret("the same key for both, 32 characters")
	cfg := fresh(t)
	cfg.MasterKey = key
	s, ctx := open(t, cfg), t.Context()
	d := newDetector(t, s, "a")
	src := must(s.CreateSource(ctx, fullSource("main")))(t)
	ok(t, s.SaveSnapshot(ctx, model.Snapshot{DetectorID: d.ID, ModelVersion: 1, Watermark: 5, Parts: [][]byte{[]byte("a\\.\nb\x00c\t")}}))
	j := must(store.NewJobs(s, map[string]store.TaskFunc{"x": nil}, nil))(t)
	task := must(j.Enqueue(ctx, "x", "\\.\n"))(t)
	path := filepath.Join(t.TempDir(), "backup")
	stop := make(chan struct{})
	written := make(chan struct{}, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				commit(t, s, model.EventAnomalyOpened, newAnomaly(d, fmt.Sprint("an_", i), i, map[string]string{"x": "\\.\n"}))
				select {
				case written <- struct{}{}:
				default:
				}
			}
		}
	})
	<-written
	ok(t, s.Backup(ctx, path))
	close(stop)
	wg.Wait()
	st, err := os.Stat(path)
	ok(t, err)
	if st.Size() == 0 || st.Mode().Perm() != 0o600 {
		t.Errorf("the backup has %d bytes and mode %v", st.Size(), st.Mode())
	}
	wantKind(t, s.Backup(ctx, path), model.KindConflict)
	if left, _ := filepath.Glob(path + ".part"); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}

	other := fresh(t)
	other.MasterKey = key
	occupied := open(t, other)
	newDetector(t, occupied, "is replaced")
	if occupied.Engine() == "sqlite" {
		wantKind(t, store.Restore(ctx, other, path, discard()), model.KindConflict)
	}
	ok(t, occupied.Close())
	damaged := filepath.Join(t.TempDir(), "damaged")
	b, err := os.ReadFile(path)
	ok(t, err)
	ok(t, os.WriteFile(damaged, b[:len(b)/2], 0o600))
	wantKind(t, store.Restore(ctx, other, damaged, discard()), model.KindInvalid)
	wantKind(t, store.Restore(ctx, other, damaged+"none", discard()), model.KindNotFound)
	untouched, err := store.Open(ctx, other, discard(), nil)
	ok(t, err)
	must(untouched.DetectorByName(ctx, "is replaced"))(t)
	ok(t, untouched.Close())

	ok(t, store.Restore(ctx, other, path, discard()))
	r := open(t, other)
	ok(t, r.IntegrityCheck(ctx))
	same(t, must(r.Source(ctx, src.ID))(t), src)
	same(t, must(r.Task(ctx, task.ID))(t), task)
	same(t, must(r.LatestSnapshot(ctx, d.ID, 1))(t), must(s.LatestSnapshot(ctx, d.ID, 1))(t))
	ids := walk(t, r, model.AnomalyFilter{Sort: "started_at"})
	var opened []string
	for since := int64(0); ; {
		evs := must(r.Events(ctx, since, nil, 0))(t)
		if len(evs) == 0 {
			break
		}
		for _, e := range evs {
			if since++; e.ID != since {
				t.Fatalf("event %d follows %d", e.ID, since-1)
			}
			if e.Type == model.EventAnomalyOpened {
				opened = append(opened, strings.TrimPrefix(e.Topic, "anomalies/"))
			}
		}
	}
	if len(ids) == 0 || strings.Join(ids, " ") != strings.Join(opened, " ") {
		t.Errorf("%d anomalies, %d events of them", len(ids), len(opened))
	}
	again := must(store.NewJobs(r, map[string]store.TaskFunc{"x": nil}, nil))(t)
	must(again.Enqueue(ctx, "x", nil))(t) // numbers go on where they were
	newDetector(t, r, "b")
}
