package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivertype"

	"aiops/internal/model"
)

// TaskFunc does the work of one kind of task. It has to return soon after ctx
// ends. progress takes the share that is done, 0 to 1, and may be called as
// often as one likes. result is encoded as JSON. An error that is a
// *model.Error is shown with its message, any other is only logged.
type TaskFunc func(ctx context.Context, t model.Task, progress func(float64)) (result any, err error)

// Jobs runs tasks. River queues and fetches them; the table tasks is what
// people see. A task is written together with its job, runs on one node at a
// time, and after a crash runs again, three times at most. Tasks of an owned
// kind have no job: the node that owns their detector finds them.
type Jobs struct {
	s      *Store
	funcs  map[string]TaskFunc
	owned  map[string]int // how many of an owned kind this process runs at once
	client *river.Client[*sql.Tx]
	log    *slog.Logger

	mu      sync.Mutex
	running map[string]context.CancelCauseFunc // of this process, by task
	begun   map[string]string                  // tasks of owned kinds in this process, with their kind
}

// How tasks are run.
const (
	taskAttempts   = 3                      // runs of a task that crashes keep interrupting
	taskLimit      = 24 * time.Hour         // for one run
	taskFetch      = 250 * time.Millisecond // how often the queue is looked at
	taskWatch      = 500 * time.Millisecond // how often a running task looks for a request to cancel
	taskBeat       = 5 * time.Second        // how often a running task says that it is alive
	taskDead       = 30 * time.Second       // silence after which another node takes a task over
	taskRetry      = time.Second            // between two tries to begin
	taskProgress   = time.Second            // least time between two writes of progress
	taskDrain      = 5 * time.Second        // for running tasks to finish when the program stops
	taskStopping   = 15 * time.Second       // for them to return after they were cancelled
	maxTaskResult  = 8 << 20
	taskJobQueue   = "tasks"
	taskJobRetries = 20
)

var errTaskCancelled = errors.New("the task was cancelled")

// taskJob is what River keeps of a task.
type taskJob struct {
	TaskID string `json:"task_id"`
}

// Kind implements river.JobArgs.
func (taskJob) Kind() string { return "task" }

func (s *Store) riverDriver() riverdriver.Driver[*sql.Tx] {
	if s.eng.Name() == "postgres" {
		return riverdatabasesql.New(s.write.DB)
	}
	return riversqlite.New(s.write.DB)
}

// NewJobs returns the runner of tasks for the given kinds. It runs nothing
// before Run, but takes tasks at once. Tasks of a kind in owned are run by the node
// that owns the detector which their arguments name as detector_id, so many of that
// kind at once; by any node when nobody ever owned it. All others are run by any
// node, a few at once.
func NewJobs(s *Store, funcs map[string]TaskFunc, owned map[string]int) (*Jobs, error) {
	j := &Jobs{s: s, funcs: funcs, owned: owned, log: s.log, running: make(map[string]context.CancelCauseFunc), begun: make(map[string]string)}
	workers := river.NewWorkers()
	if err := river.AddWorkerSafely(workers, &taskWorker{jobs: j}); err != nil {
		return nil, fmt.Errorf("preparing tasks: %w", err)
	}
	client, err := river.NewClient(s.riverDriver(), &river.Config{
		ID:                   s.instance,
		Logger:               slog.New(levelAtLeast{s.log.Handler(), slog.LevelWarn}),
		Queues:               map[string]river.QueueConfig{taskJobQueue: {MaxWorkers: max(2, runtime.GOMAXPROCS(0)/2)}},
		Workers:              workers,
		PollOnly:             true,
		FetchCooldown:        taskFetch / 2,
		FetchPollInterval:    taskFetch,
		JobTimeout:           taskLimit,
		RescueStuckJobsAfter: 2 * taskLimit, // Jobs itself finds interrupted tasks, sooner
		SoftStopTimeout:      taskDrain,
	})
	if err != nil {
		return nil, fmt.Errorf("preparing tasks: %w", err)
	}
	j.client = client
	return j, nil
}

// levelAtLeast hides what River tells of its steady state.
type levelAtLeast struct {
	slog.Handler
	least slog.Level
}

// Enabled implements slog.Handler.
func (h levelAtLeast) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.least && h.Handler.Enabled(ctx, l)
}

// WithAttrs implements slog.Handler.
func (h levelAtLeast) WithAttrs(a []slog.Attr) slog.Handler {
	return levelAtLeast{h.Handler.WithAttrs(a), h.least}
}

// WithGroup implements slog.Handler.
func (h levelAtLeast) WithGroup(name string) slog.Handler {
	return levelAtLeast{h.Handler.WithGroup(name), h.least}
}

// Enqueue writes a task and its job, if it needs one, in one transaction and returns the task,
// queued. args is encoded as JSON. A kind without a function is KindInvalid.
func (j *Jobs) Enqueue(ctx context.Context, kind string, args any) (model.Task, error) {
	if _, ok := j.funcs[kind]; !ok {
		return model.Task{}, model.Errorf(model.KindInvalid, model.SubjectTask, "there is no task of the kind %q", kind)
	}
	b, err := json.Marshal(args)
	if err != nil {
		return model.Task{}, model.WrapError(model.KindInvalid, model.SubjectTask, err, "the arguments of the task cannot be stored")
	}
	var subject struct {
		DetectorID string `json:"detector_id"`
	}
	_ = json.Unmarshal(b, &subject) // arguments of another shape name no detector
	r := taskRow{ID: newID("task"), Kind: kind, State: string(model.TaskQueued), Args: string(b)}
	err = j.s.commit(ctx, "enqueuing a task", func(ctx context.Context, tx *tx) error {
		r.CreatedAt, r.UpdatedAt = tx.now, tx.now
		if r.JobID, err = j.insertJob(ctx, tx, r); err != nil {
			return err
		}
		return tx.exec(ctx, `INSERT INTO tasks (`+taskColumns+`, detector_id) VALUES ($1, $2, $3, 0, $4, '', '', 0, 0, '', $5, $6, $6, 0, $7)`,
			r.ID, r.Kind, r.State, r.Args, r.JobID, tx.now, cleanText(subject.DetectorID))
	})
	if err != nil {
		return model.Task{}, err
	}
	return r.task(), nil
}

// insertJob gives a task a job and returns its id, 0 when the task needs none.
func (j *Jobs) insertJob(ctx context.Context, tx *tx, r taskRow) (int64, error) {
	if j.ofOwner(r.Kind) {
		return 0, nil
	}
	res, err := j.client.InsertTx(ctx, tx.Tx, taskJob{r.ID}, &river.InsertOpts{Queue: taskJobQueue, MaxAttempts: taskJobRetries})
	if err != nil {
		return 0, fmt.Errorf("inserting a job: %w", err)
	}
	return res.Job.ID, nil
}

// ofOwner reports whether a kind is owned.
func (j *Jobs) ofOwner(kind string) bool {
	_, ok := j.owned[kind]
	return ok
}

// Task returns the task with the given id, or a KindNotFound error.
func (j *Jobs) Task(ctx context.Context, id string) (model.Task, error) { return j.s.Task(ctx, id) }

// Tasks lists tasks, newest first.
func (j *Jobs) Tasks(ctx context.Context, f model.TaskFilter) ([]model.Task, string, error) {
	return j.s.Tasks(ctx, f)
}

// Cancel ends a task: a queued one at once, a running one by the end of its
// context, within a second, after which its state follows. One that was
// cancelled already stays as it is; one that ended otherwise is a KindConflict.
func (j *Jobs) Cancel(ctx context.Context, id string) error {
	var local bool
	err := j.s.commit(ctx, "cancelling a task", func(ctx context.Context, tx *tx) error {
		r, err := tx.taskRow(ctx, id)
		if err != nil {
			return err
		}
		local = false
		switch state := model.TaskState(r.State); state {
		case model.TaskQueued:
			// The job finds its task ended, and ends.
			return tx.exec(ctx, `UPDATE tasks SET state = $2, error = $3, cancel_requested = 1, updated_at = $4 WHERE id = $1`,
				id, string(model.TaskCancelled), "cancelled before it started", tx.now)
		case model.TaskRunning:
			local = true
			return tx.exec(ctx, `UPDATE tasks SET cancel_requested = 1, updated_at = $2 WHERE id = $1`, id, tx.now)
		case model.TaskCancelled:
			return nil
		default:
			return &model.Error{Kind: model.KindConflict, Subject: model.SubjectTask,
				Message: fmt.Sprintf("the task has %s already", state), Context: map[string]any{"id": id, "state": state}}
		}
	})
	if err == nil && local {
		j.cancelLocal(id)
	}
	return err
}

func (j *Jobs) cancelLocal(id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if cancel := j.running[id]; cancel != nil {
		cancel(errTaskCancelled)
	}
}

// Run runs tasks until ctx ends. Then it takes no more, gives running ones a
// few seconds to finish, cancels the rest, which run again after the next
// start, and returns when all have returned.
func (j *Jobs) Run(ctx context.Context) error {
	for {
		err := j.recover(ctx, true)
		if err == nil {
			break
		}
		if j.s.Err() != nil {
			return err
		}
		j.log.Warn("looking for interrupted tasks did not succeed; it is repeated", "err", err)
		if !pause(ctx, taskRetry) {
			return nil
		}
	}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	if err := j.client.Start(work); err != nil {
		return j.s.wrap(err, "starting the runner of tasks")
	}
	owned := make(chan struct{})
	go func() {
		defer close(owned)
		j.runOwned(ctx)
	}()
	for pause(ctx, taskDead) {
		if err := j.recover(ctx, false); err != nil && ctx.Err() == nil {
			j.log.Warn("looking for interrupted tasks did not succeed; it is repeated", "err", err)
		}
	}
	stop, cancelStop := context.WithTimeout(context.WithoutCancel(ctx), taskDrain+taskStopping)
	defer cancelStop()
	if err := j.client.Stop(stop); err != nil {
		return fmt.Errorf("stopping tasks: %w", err)
	}
	select {
	case <-owned:
		return nil
	case <-stop.Done():
		return fmt.Errorf("stopping tasks: %w", stop.Err())
	}
}

// recover finds the tasks that a process left behind, and queues them again,
// or ends them when that happened too often.
func (j *Jobs) recover(ctx context.Context, starting bool) error {
	live, err := rows[taskRow](ctx, j.s.read, j.s.read.DB, `SELECT `+taskColumns+` FROM tasks WHERE state IN ('queued', 'running')
		ORDER BY created_at, id`)
	if err != nil {
		return j.s.wrap(err, "looking for interrupted tasks")
	}
	for _, r := range live {
		lost, err := j.leftBehind(ctx, r, starting)
		if err != nil {
			return err
		}
		if !lost {
			continue
		}
		if err := j.s.commit(ctx, "recovering a task", func(ctx context.Context, tx *tx) error { return j.requeue(ctx, tx, r) }); err != nil {
			return err
		}
	}
	return nil
}

// leftBehind reports whether nobody runs or will run a task. SQLite has one
// process: at its start nothing runs. On PostgreSQL, who is silent is dead.
func (j *Jobs) leftBehind(ctx context.Context, r taskRow, starting bool) (bool, error) {
	alone := starting && j.s.eng.Name() == "sqlite"
	silent := j.s.now().UnixMilli()-max(r.BeatAt, r.UpdatedAt) > taskDead.Milliseconds()
	if !alone && !silent {
		return false, nil
	}
	if r.State == string(model.TaskRunning) {
		return true, nil
	}
	if j.ofOwner(r.Kind) {
		return false, nil // its node finds it
	}
	// A queued task is lost when its job is: fetched by a process that ended
	// before it claimed the task, or gone.
	job, err := j.client.JobGet(ctx, r.JobID)
	if errors.Is(err, river.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, j.s.wrap(err, "looking for the job of a task")
	}
	switch job.State {
	case rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateScheduled, rivertype.JobStateRetryable:
		return false, nil
	case rivertype.JobStateRunning:
		return alone || job.AttemptedAt == nil || j.s.now().Sub(*job.AttemptedAt) > taskDead, nil
	}
	return true, nil
}

// requeue queues a task again that was found as seen, or ends it when it was
// interrupted too often.
func (j *Jobs) requeue(ctx context.Context, tx *tx, seen taskRow) error {
	r, err := tx.taskRow(ctx, seen.ID)
	if err != nil || r != seen {
		return err // somebody was quicker
	}
	switch {
	case r.CancelRequested != 0:
		return tx.endTask(ctx, r.ID, model.TaskCancelled, r.Progress, "", "cancelled")
	case r.Attempts >= taskAttempts:
		return tx.endTask(ctx, r.ID, model.TaskFailed, r.Progress, "",
			fmt.Sprintf("the program ended %d times while this task ran; it is not tried again", r.Attempts))
	}
	job, err := j.insertJob(ctx, tx, r)
	if err != nil {
		return err
	}
	return tx.exec(ctx, `UPDATE tasks SET state = $2, job_id = $3, owner = '', updated_at = $4 WHERE id = $1`,
		r.ID, string(model.TaskQueued), job, tx.now)
}
