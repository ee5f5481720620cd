package store_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"aiops/internal/model"
	"aiops/internal/store"
)

// childEnv holds the orders of a child: this test binary, run again as the
// writer that gets killed.
const childEnv = "AIOPS_STORE_CHILD"

// orders say what a child writes to.
type orders struct {
	Dir         string
	Postgres    string
	Synchronous string
	Run         int  // makes names unique over several children
	Jobs        bool // runs tasks, too
	Persist     bool // goes on after errors
}

func (o orders) config() store.Config {
	c := store.Config{DataDir: o.Dir, MasterKey: "a key of at least 32 characters, shared", Postgres: store.PostgresConfig{URL: model.Secret(o.Postgres), MaxConnections: 6}}
	return c.WithSynchronous(o.Synchronous)
}

// The exit codes of a child.
const (
	childBroken = 10 // it could not do what it should
	childFailed = 11 // the store failed, as it says itself
)

// childMain writes a mixed load until it is killed. On standard output it says
// what it is about to write and what was acknowledged, a line each.
func childMain(text string) int {
	var o orders
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return childBroken
	}
	s, err := store.Open(context.Background(), o.config(), slog.New(slog.DiscardHandler), nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, "opening:", err)
		return childBroken
	}
	w := &writer{o: o, s: s}
	if err := w.setUp(); err != nil {
		fmt.Fprintln(os.Stderr, "setting up:", err)
		return childBroken
	}
	w.say("ready")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { w.work(i) })
	}
	wg.Wait()
	if s.Err() != nil {
		fmt.Fprintln(os.Stderr, "failed:", s.Err())
		return childFailed
	}
	return childBroken
}

type writer struct {
	o    orders
	s    *store.Store
	jobs *store.Jobs
	det  model.Detector
	mu   sync.Mutex
}

func (w *writer) setUp() error {
	var err error
	if w.det, err = w.s.CreateDetector(context.Background(), model.Detector{Name: fmt.Sprintf("main %d", w.o.Run)}); err != nil {
		return err
	}
	if !w.o.Jobs {
		return nil
	}
	if w.jobs, err = store.NewJobs(w.s, taskFuncs(), nil); err != nil {
		return err
	}
	go func() { _ = w.jobs.Run(context.Background()) }() // the kill ends it
	return nil
}

// taskFuncs is one kind of task, which takes a moment.
func taskFuncs() map[string]store.TaskFunc {
	return map[string]store.TaskFunc{"nap": func(ctx context.Context, t model.Task, progress func(float64)) (any, error) {
		progress(0.5)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(30 * time.Millisecond):
			return t.ID, nil
		}
	}}
}

// say writes a line in one piece.
func (w *writer) say(format string, args ...any) {
	line := fmt.Sprintf(format, args...) + "\n"
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _ = os.Stdout.WriteString(line) // a parent that is gone needs no answer
}

func (w *writer) work(id int) {
	r := rand.New(rand.NewPCG(uint64(w.o.Run), uint64(id)))
	for n := 0; ; n++ {
		if err := w.one(r, id, n); err != nil {
			if w.s.Err() != nil || !w.o.Persist {
				fmt.Fprintln(os.Stderr, "writing:", err)
				return
			}
			<-time.After(5 * time.Millisecond)
		}
	}
}

// one does one write and says so before and after.
func (w *writer) one(r *rand.Rand, id, n int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	name := fmt.Sprintf("%d-%d-%d", w.o.Run, id, n)
	switch k := r.IntN(20); {
	case k < 3:
		d, err := w.s.CreateDetector(ctx, model.Detector{Name: name, Query: strings.Repeat("x", r.IntN(2000))})
		if err != nil {
			return err
		}
		w.say("detector %s %s", d.ID, d.Name)
		d.Query += "y"
		if d, err = w.s.UpdateDetector(ctx, d, 1, model.EventDetectorUpdated); err != nil {
			return err
		}
		w.say("version %s %d", d.ID, d.Version)
	case k < 11:
		return w.anomaly(ctx, name)
	case k < 14:
		e, err := w.s.AppendEvent(ctx, model.Event{Type: model.EventLoadChanged, Topic: "system", Data: json.RawMessage(`"` + name + `"`)})
		if err != nil {
			return err
		}
		w.say("event %d %s", e.ID, name)
	case k < 16:
		if err := w.s.SetMeta(ctx, fmt.Sprint("worker", id), fmt.Sprintf("%06d-%09d", w.o.Run, n)); err != nil {
			return err
		}
		w.say("meta worker%d %06d-%09d", id, w.o.Run, n)
	case k < 17:
		mark := int64(w.o.Run)*1_000_000 + int64(n)*10 + int64(id)
		part := make([]byte, r.IntN(200_000))
		for i := range part {
			part[i] = byte(r.Uint32())
		}
		if err := w.s.SaveSnapshot(ctx, model.Snapshot{DetectorID: w.det.ID, ModelVersion: 1, Watermark: mark, Parts: [][]byte{part}}); err != nil {
			return err
		}
		w.say("snapshot %s %d", w.det.ID, mark)
	case k < 19:
		key := model.IdempotencyKey{Principal: "child", Key: name, Operation: "POST /x", BodyHash: "h"}
		if _, _, err := w.s.BeginIdempotent(ctx, key); err != nil {
			return err
		}
		if err := w.s.FinishIdempotent(ctx, key, &model.StoredAnswer{Status: 201, Body: []byte(name)}); err != nil {
			return err
		}
		w.say("answer %s", name)
	case w.jobs != nil:
		t, err := w.jobs.Enqueue(ctx, "nap", nil)
		if err != nil {
			return err
		}
		w.say("task %s", t.ID)
	}
	return nil
}

func (w *writer) anomaly(ctx context.Context, name string) error {
	a := childAnomaly(w.det.ID, "an_"+name)
	w.say("try %s %s", a.ID, w.det.ID)
	if err := w.s.CommitAnomalies(ctx, []model.AnomalyChange{{Anomaly: a, Event: model.EventAnomalyOpened, Evidence: &model.Evidence{AnomalyID: a.ID}}}); err != nil {
		return err
	}
	w.say("anomaly %s", a.ID)
	if _, err := w.s.AcknowledgeAnomaly(ctx, a.ID, "ada", time.Time{}, 0); err != nil {
		return err
	}
	w.say("acknowledged %s", a.ID)
	return nil
}

func childAnomaly(detector, id string) model.Anomaly {
	at := time.UnixMilli(1_700_000_000_000)
	return model.Anomaly{ID: id, DetectorID: detector, Series: model.Labels{{Name: "id", Value: id}}, State: model.AnomalyFiring,
		Severity: model.SeverityWarning, StartedAt: at, PeakAt: at, Score: 5}
}

// child is a running writer as its parent sees it.
type child struct {
	cmd   *exec.Cmd
	ready chan struct{} // closed when it writes
	done  chan struct{} // closed when its output has ended
	errs  *strings.Builder

	mu    sync.Mutex
	lines []string
	at    []time.Time
}

// startChild runs this binary again with the given orders, below wrap when
// that is not empty.
func startChild(t *testing.T, o orders, wrap ...string) *child {
	t.Helper()
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	args := append(slices.Clone(wrap), os.Args[0], "-test.run=^$")
	c := &child{cmd: exec.Command(args[0], args[1:]...), ready: make(chan struct{}), done: make(chan struct{}), errs: &strings.Builder{}}
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(b))
	c.cmd.Stderr = c.errs
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go c.read(out)
	return c
}

func (c *child) read(out io.Reader) {
	defer close(c.done)
	sc := bufio.NewScanner(out)
	for sc.Scan() {
		if sc.Text() == "ready" {
			close(c.ready)
			continue
		}
		c.mu.Lock()
		c.lines = append(c.lines, sc.Text())
		c.at = append(c.at, time.Now())
		c.mu.Unlock()
	}
}

// kill ends the child as kill -9 does and returns all that it said.
func (c *child) kill() []string {
	_ = c.cmd.Process.Kill() // it may have ended already
	return c.wait()
}

func (c *child) wait() []string {
	<-c.done
	_ = c.cmd.Wait() // how it ended is asked of its state
	return c.said()
}

func (c *child) said() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.lines...)
}
