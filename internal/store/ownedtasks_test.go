package store_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"aiops/internal/model"
	"aiops/internal/store"
)

// owner is a node that runs tasks and notes which.
type owner struct {
	*store.Store
	jobs *store.Jobs

	mu      sync.Mutex
	asked   int  // how often the function of a task was called
	refuses bool // it says that another node has to do it
}

func startOwner(t *testing.T, cfg store.Config, kind string) *owner {
	t.Helper()
	o := &owner{Store: node(t, cfg)}
	if _, err := o.RenewNode(t.Context(), "host", time.Minute, true); err != nil {
		t.Fatal(err)
	}
	f := func(context.Context, model.Task, func(float64)) (any, error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.asked++
		if o.refuses {
			return nil, store.ErrNotHere
		}
		return nil, nil
	}
	var err error
	if o.jobs, err = store.NewJobs(o.Store, map[string]store.TaskFunc{kind: f}, map[string]int{kind: 2}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.jobs.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return o
}

func (o *owner) refuse(yes bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refuses = yes
}

func (o *owner) times() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked
}

func (o *owner) take(t *testing.T, id string) {
	t.Helper()
	if taken, err := o.TakeLeases(t.Context(), []string{id}); err != nil || taken[id] == 0 {
		t.Fatalf("taking %s: %v %v", id, taken, err)
	}
}

// ended waits until a task has succeeded.
func (o *owner) ended(t *testing.T, task model.Task) {
	t.Helper()
	limit := time.Now().Add(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		now, err := o.Task(t.Context(), task.ID)
		if err != nil {
			t.Fatal(err)
		}
		if now.State == model.TaskSucceeded {
			return
		}
		if now.State.Final() || time.Now().After(limit) {
			t.Fatalf("the task is %s: %s", now.State, now.Error)
		}
		<-tick.C
	}
}

// TestNodesRunTasksOfTheirDetectors: a task of an owned kind goes to the node that
// owns its detector and to no other, wherever it was enqueued; with the lease it
// goes to the next owner, and without a detector to anybody.
func TestNodesRunTasksOfTheirDetectors(t *testing.T) {
	t.Parallel()
	cfg := postgresConfig(t)
	a, b := startOwner(t, cfg, "x"), startOwner(t, cfg, "x")
	d, err := a.CreateDetector(t.Context(), model.Detector{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	of := map[string]string{"detector_id": d.ID}
	enqueue := func(o *owner) model.Task {
		t.Helper()
		task, err := o.jobs.Enqueue(t.Context(), "x", of)
		if err != nil {
			t.Fatal(err)
		}
		return task
	}
	a.take(t, d.ID)
	const n = 12
	for range n {
		a.ended(t, enqueue(b))
	}
	if a.times() != n || b.times() != 0 {
		t.Fatalf("the owner was asked %d times for %d tasks, the other node %d times", a.times(), n, b.times())
	}

	// The owner has just lost it: what it refuses waits until the next one has the lease.
	a.refuse(true)
	task := enqueue(b)
	limit := time.Now().Add(time.Minute)
	for a.times() < n+2 && time.Now().Before(limit) {
		<-time.After(10 * time.Millisecond)
	}
	if now, err := a.Task(t.Context(), task.ID); err != nil || now.State.Final() || b.times() != 0 {
		t.Fatalf("the task that its owner refuses is %s, the other node was asked %d times, %v", now.State, b.times(), err)
	}
	if err := a.LeaveNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.take(t, d.ID)
	b.ended(t, task)
	if b.times() != 1 {
		t.Errorf("the next owner was asked %d times", b.times())
	}

	a.refuse(false)
	if err := b.DeleteDetector(t.Context(), d.ID, 0); err != nil {
		t.Fatal(err)
	}
	b.ended(t, enqueue(b))
}
