package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/riverqueue/river"

	"aiops/internal/model"
)

type taskRow struct {
	ID              string  `bun:"id"`
	Kind            string  `bun:"kind"`
	State           string  `bun:"state"`
	Progress        float64 `bun:"progress"`
	Args            string  `bun:"args"`
	Result          string  `bun:"result"`
	Error           string  `bun:"error"`
	Attempts        int     `bun:"attempts"`
	CancelRequested int     `bun:"cancel_requested"`
	Owner           string  `bun:"owner"`
	JobID           int64   `bun:"job_id"`
	CreatedAt       int64   `bun:"created_at"`
	UpdatedAt       int64   `bun:"updated_at"`
	BeatAt          int64   `bun:"beat_at"`
}

const taskColumns = `id, kind, state, progress, args, result, error, attempts, cancel_requested, owner, job_id, created_at, updated_at, beat_at`

func (r taskRow) task() model.Task {
	return model.Task{ID: r.ID, Kind: r.Kind, State: model.TaskState(r.State), Progress: r.Progress, Args: rawJSON(r.Args),
		Result: rawJSON(r.Result), Error: r.Error, CreatedAt: fromMillis(r.CreatedAt), UpdatedAt: fromMillis(r.UpdatedAt)}
}

func rawJSON(s string) json.RawMessage {
	if s == "" {
		return nil
	}
	return json.RawMessage(s)
}

// Task returns the task with the given id, or a KindNotFound error.
func (s *Store) Task(ctx context.Context, id string) (model.Task, error) {
	found, err := rows[taskRow](ctx, s.read, s.read.DB, `SELECT `+taskColumns+` FROM tasks WHERE id = $1`, cleanText(id))
	if err != nil {
		return model.Task{}, s.wrap(err, "reading a task")
	}
	if len(found) == 0 {
		return model.Task{}, model.NotFound(model.SubjectTask, id)
	}
	return found[0].task(), nil
}

// Tasks returns one page of the tasks that f selects, newest first, and the
// cursor of the page after it, "" on the last one.
func (s *Store) Tasks(ctx context.Context, f model.TaskFilter) ([]model.Task, string, error) {
	p, err := s.newPage("tasks", map[string]sortKey{"created_at": {column: "created_at"}}, "-created_at", "", f.Cursor, f.Limit, f.Kind, string(f.State), f.DetectorID)
	if err != nil {
		return nil, "", err
	}
	if f.Kind != "" {
		p.where("kind = " + p.arg(cleanText(f.Kind)))
	}
	if f.DetectorID != "" {
		p.where("detector_id = " + p.arg(cleanText(f.DetectorID)))
	}
	if f.State != "" {
		p.where("state = " + p.arg(cleanText(string(f.State))))
	}
	found, err := rows[taskRow](ctx, s.read, s.read.DB, p.query("SELECT "+taskColumns+" FROM tasks"), p.args...)
	if err != nil {
		return nil, "", s.wrap(err, "listing tasks")
	}
	next := ""
	if len(found) > p.limit {
		found = found[:p.limit]
		last := found[len(found)-1]
		next = p.next(last.CreatedAt, last.ID)
	}
	out := make([]model.Task, len(found))
	for i, r := range found {
		out[i] = r.task()
	}
	return out, next, nil
}

// PruneTasks deletes the tasks that ended before the given time.
func (s *Store) PruneTasks(ctx context.Context, before time.Time) (int64, error) {
	return s.prune(ctx, "pruning tasks", func(ctx context.Context, tx *tx) (int64, error) {
		return tx.affected(ctx, `DELETE FROM tasks WHERE id IN (SELECT id FROM tasks
			WHERE state NOT IN ('queued', 'running') AND updated_at < $1 ORDER BY created_at LIMIT $2)`, toMillis(before), pruneStep)
	})
}

// taskRow reads and locks a task.
func (t *tx) taskRow(ctx context.Context, id string) (taskRow, error) {
	found, err := rows[taskRow](ctx, t.bun, t, `SELECT `+taskColumns+` FROM tasks WHERE id = $1`+t.forUpdate, id)
	if err != nil {
		return taskRow{}, fmt.Errorf("reading the task: %w", err)
	}
	if len(found) == 0 {
		return taskRow{}, model.NotFound(model.SubjectTask, id)
	}
	return found[0], nil
}

func (t *tx) endTask(ctx context.Context, id string, state model.TaskState, progress float64, result, message string) error {
	return t.exec(ctx, `UPDATE tasks SET state = $2, progress = $3, result = $4, error = $5, updated_at = $6 WHERE id = $1`,
		id, string(state), progress, result, cleanText(message), t.now)
}

// taskWorker runs the jobs of tasks.
type taskWorker struct {
	river.WorkerDefaults[taskJob]
	jobs *Jobs
}

// Work implements river.Worker. What a task ended with is in its own table, so
// the job itself ends well, except when the program stops: then it is left for
// the next start.
func (w *taskWorker) Work(ctx context.Context, job *river.Job[taskJob]) error {
	task, mine, err := w.jobs.claim(ctx, job.Args.TaskID, job.ID)
	if err != nil || !mine {
		return err
	}
	queued, err := w.jobs.run(ctx, task)
	if err == nil && queued {
		return river.JobSnooze(0)
	}
	return err
}

// run runs a task that was claimed and writes how it ended. It reports whether
// the task is queued again.
func (j *Jobs) run(ctx context.Context, task model.Task) (queued bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	j.mu.Lock()
	j.running[task.ID] = cancel
	j.mu.Unlock()
	defer func() {
		j.mu.Lock()
		delete(j.running, task.ID)
		j.mu.Unlock()
	}()

	p := &progressWriter{jobs: j, id: task.ID}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		j.watch(ctx, task.ID, cancel, p)
	}()
	result, err := j.call(ctx, task, p.set)
	cause := context.Cause(ctx)
	cancel(nil)
	<-watched
	interrupted := cause != nil && !errors.Is(cause, errTaskCancelled) && !errors.Is(cause, context.DeadlineExceeded)
	if errors.Is(err, ErrNotHere) && cause == nil || err != nil && interrupted {
		return true, j.putBack(context.WithoutCancel(ctx), task.ID)
	}
	return false, j.finish(context.WithoutCancel(ctx), task.ID, p.last(), result, err, cause)
}

// claim makes a queued task a running one of this process. It is not ours when
// it was cancelled, ended, or belongs to another job by now. jobID is 0 for a task
// of an owned kind, and only for such.
func (j *Jobs) claim(ctx context.Context, id string, jobID int64) (model.Task, bool, error) {
	var task model.Task
	var mine bool
	err := j.s.commit(ctx, "starting a task", func(ctx context.Context, tx *tx) error {
		mine = false
		r, err := tx.taskRow(ctx, id)
		if model.KindOf(err) == model.KindNotFound {
			return nil // pruned
		}
		if err != nil || r.State != string(model.TaskQueued) || j.ofOwner(r.Kind) != (jobID == 0) || jobID != 0 && r.JobID != jobID {
			return err
		}
		r.State, r.UpdatedAt = string(model.TaskRunning), tx.now
		mine, task = true, r.task()
		return tx.exec(ctx, `UPDATE tasks SET state = $2, owner = $3, attempts = attempts + 1, updated_at = $4, beat_at = $4, progress = 0
			WHERE id = $1`, id, r.State, j.s.instance, tx.now)
	})
	return task, mine, err
}

// call runs the function of a task; a panic becomes an error.
func (j *Jobs) call(ctx context.Context, task model.Task, progress func(float64)) (result any, err error) {
	f, ok := j.funcs[task.Kind]
	if !ok {
		return nil, model.Errorf(model.KindInternal, model.SubjectTask, "this version of the program has no task of the kind %q", task.Kind)
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the task panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return f(ctx, task, progress)
}

// watch writes progress, says that the task is alive, and looks for requests
// to cancel it that came to another node.
func (j *Jobs) watch(ctx context.Context, id string, cancel context.CancelCauseFunc, p *progressWriter) {
	beat := j.s.now()
	for pause(ctx, taskWatch) {
		var requested int
		err := j.s.read.DB.QueryRowContext(ctx, `SELECT cancel_requested FROM tasks WHERE id = $1`, id).Scan(&requested)
		if err == nil && requested != 0 {
			cancel(errTaskCancelled)
			return
		}
		p.write(ctx)
		if j.s.now().Sub(beat) < taskBeat {
			continue
		}
		beat = j.s.now()
		if err := j.s.commit(ctx, "keeping a task alive", func(ctx context.Context, tx *tx) error {
			return tx.exec(ctx, `UPDATE tasks SET beat_at = $2 WHERE id = $1`, id, tx.now)
		}); err != nil && ctx.Err() == nil {
			j.log.Warn("a running task cannot say that it is alive", "task", id, "err", err)
		}
	}
}

// finish writes how a task ended.
func (j *Jobs) finish(ctx context.Context, id string, progress float64, result any, err, cause error) error {
	state, message, encoded := model.TaskSucceeded, "", ""
	switch {
	case errors.Is(cause, errTaskCancelled):
		state, message = model.TaskCancelled, "cancelled"
	case err != nil:
		state, message = model.TaskFailed, j.explain(id, err)
	default:
		b, err := json.Marshal(result)
		if err != nil || len(b) > maxTaskResult {
			j.log.Error("the result of a task cannot be stored", "task", id, "bytes", len(b), "err", err)
			state, message = model.TaskFailed, "the result of the task cannot be stored"
		} else {
			progress, encoded = 1, string(b)
		}
	}
	return j.s.commit(ctx, "ending a task", func(ctx context.Context, tx *tx) error {
		r, err := tx.taskRow(ctx, id)
		if err != nil || r.Owner != j.s.instance || r.State != string(model.TaskRunning) {
			return err // taken over by another node meanwhile
		}
		return tx.endTask(ctx, id, state, progress, encoded, message)
	})
}

// putBack queues a task again that the stop of the program interrupted, or that
// another node has to run, which does not count as a failed run.
func (j *Jobs) putBack(ctx context.Context, id string) error {
	return j.s.commit(ctx, "putting back a task", func(ctx context.Context, tx *tx) error {
		return tx.exec(ctx, `UPDATE tasks SET state = $2, owner = '', attempts = attempts - 1, updated_at = $3
			WHERE id = $1 AND state = $4 AND owner = $5`, id, string(model.TaskQueued), tx.now, string(model.TaskRunning), j.s.instance)
	})
}

// explain returns what people may read of an error, and logs the rest.
func (j *Jobs) explain(id string, err error) string {
	var typed *model.Error
	if errors.As(err, &typed) && typed.Message != "" {
		if typed.Err != nil {
			j.log.Warn("a task failed", "task", id, "err", err)
		}
		return typed.Message
	}
	j.log.Error("a task failed", "task", id, "err", err)
	if errors.Is(err, context.DeadlineExceeded) {
		return "the task took longer than the time allowed"
	}
	return "the task failed unexpectedly; the log of the program says why"
}

// progressWriter keeps the newest progress and writes it at most once a second.
type progressWriter struct {
	jobs *Jobs
	id   string

	mu      sync.Mutex
	value   float64
	written float64
	at      time.Time
}

func (p *progressWriter) set(v float64) {
	if !(v >= 0) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.value = min(v, 1)
}

func (p *progressWriter) last() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.value
}

func (p *progressWriter) write(ctx context.Context) {
	p.mu.Lock()
	v, now := p.value, p.jobs.s.now()
	due := v != p.written && now.Sub(p.at) >= taskProgress
	if due {
		p.written, p.at = v, now
	}
	p.mu.Unlock()
	if !due {
		return
	}
	if err := p.jobs.s.commit(ctx, "writing progress", func(ctx context.Context, tx *tx) error {
		return tx.exec(ctx, `UPDATE tasks SET progress = $2, updated_at = $3, beat_at = $3 WHERE id = $1`, p.id, v, tx.now)
	}); err != nil && ctx.Err() == nil {
		p.jobs.log.Warn("the progress of a task cannot be written", "task", p.id, "err", err)
	}
}
