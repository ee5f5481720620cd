package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"aiops/internal/model"
)

const tasksPath = "/api/v1/tasks"

// The kinds of tasks that the API enqueues.
const (
	TaskTrain    = "train"
	TaskBacktest = "backtest"
	TaskAnalyze  = "analyze_logs"
	TaskRetrain  = "retrain"
)

// TrainArgs are the arguments of a task of kind TaskTrain.
type TrainArgs struct {
	DetectorID string    `json:"detector_id"`
	From       time.Time `json:"from"`
	To         time.Time `json:"to"`
}

// RetrainArgs are the arguments of a task of kind TaskRetrain, which the engine
// asks for by itself.
type RetrainArgs struct {
	DetectorID string `json:"detector_id"`
	Reason     string `json:"reason"`
}

// BacktestArgs are the arguments of a task of kind TaskBacktest. DetectorID is
// empty for an unsaved definition.
type BacktestArgs struct {
	DetectorID string         `json:"detector_id,omitempty"`
	Definition model.Detector `json:"definition"`
	From       time.Time      `json:"from"`
	To         time.Time      `json:"to"`
}

// Trainer is the long work of the engine.
type Trainer interface {
	Train(ctx context.Context, id string, from, to time.Time, progress func(float64)) (model.ModelVersion, error)
	Backtest(ctx context.Context, d model.Detector, from, to time.Time, progress func(float64)) (model.BacktestResult, error)
	// Retrain trains by what the definition says of retraining.
	Retrain(ctx context.Context, id, reason string, progress func(float64)) (model.ModelVersion, error)
	Suggest(ctx context.Context, id string, limits model.TuneLimits, progress func(float64)) (model.TuneResult, error)
	Search(ctx context.Context, id string, space model.TuneSpace, limits model.TuneLimits, progress func(float64)) (model.TuneResult, error)
}

// TaskFuncs returns what carries out each kind of task that the API enqueues.
// Their results are what clients see in a task's result.
func TaskFuncs(t Trainer, logs Analyzer) map[string]func(ctx context.Context, task model.Task, progress func(float64)) (any, error) {
	return map[string]func(context.Context, model.Task, func(float64)) (any, error){
		TaskAnalyze: func(ctx context.Context, task model.Task, progress func(float64)) (any, error) {
			var args AnalyzeArgs
			if err := json.Unmarshal(task.Args, &args); err != nil {
				return nil, model.WrapError(model.KindInternal, model.SubjectTask, err, "The task's arguments cannot be read.")
			}
			a, err := logs.Analyze(ctx, args, progress)
			if err != nil {
				return nil, err
			}
			return logAnalysisOf(a), nil
		},
		TaskTrain: func(ctx context.Context, task model.Task, progress func(float64)) (any, error) {
			var args TrainArgs
			if err := json.Unmarshal(task.Args, &args); err != nil {
				return nil, model.WrapError(model.KindInternal, model.SubjectTask, err, "The task's arguments cannot be read.")
			}
			v, err := t.Train(ctx, args.DetectorID, args.From, args.To, progress)
			if err != nil {
				return nil, err
			}
			return modelVersionOf(v), nil
		},
		TaskRetrain: func(ctx context.Context, task model.Task, progress func(float64)) (any, error) {
			var args RetrainArgs
			if err := json.Unmarshal(task.Args, &args); err != nil {
				return nil, model.WrapError(model.KindInternal, model.SubjectTask, err, "The task's arguments cannot be read.")
			}
			v, err := t.Retrain(ctx, args.DetectorID, args.Reason, progress)
			if err != nil {
				return nil, err
			}
			return modelVersionOf(v), nil
		},
		TaskSuggest: tuneTask(func(ctx context.Context, args TuneArgs, progress func(float64)) (model.TuneResult, error) {
			return t.Suggest(ctx, args.DetectorID, args.Limits, progress)
		}),
		TaskSearch: tuneTask(func(ctx context.Context, args TuneArgs, progress func(float64)) (model.TuneResult, error) {
			return t.Search(ctx, args.DetectorID, args.Space, args.Limits, progress)
		}),
		TaskBacktest: func(ctx context.Context, task model.Task, progress func(float64)) (any, error) {
			var args BacktestArgs
			if err := json.Unmarshal(task.Args, &args); err != nil {
				return nil, model.WrapError(model.KindInternal, model.SubjectTask, err, "The task's arguments cannot be read.")
			}
			r, err := t.Backtest(ctx, args.Definition, args.From, args.To, progress)
			if err != nil {
				return nil, err
			}
			return BacktestOf(args.DetectorID, r), nil
		},
	}
}

// Backtest is the result of a task of kind backtest.
type Backtest struct {
	DetectorID         string    `json:"detector_id,omitempty"`
	From               time.Time `json:"from"`
	To                 time.Time `json:"to"`
	Series             int       `json:"series"`
	Samples            int64     `json:"samples"`
	AnomalyCount       int       `json:"anomaly_count"`
	Anomalies          []Anomaly `json:"anomalies" doc:"At most the first 1,000"`
	AlarmsPerWeek      Number    `json:"alarms_per_week"`
	FalseAlarmsPerWeek float64   `json:"false_alarms_per_week" doc:"The budget that was asked for"`
	ElapsedSeconds     float64   `json:"elapsed_seconds"`
}

// BacktestOf returns the result of a backtest as clients see it; id is empty for
// an unsaved definition.
func BacktestOf(id string, r model.BacktestResult) Backtest {
	return Backtest{DetectorID: id, From: r.From.UTC(), To: r.To.UTC(), Series: r.Series, Samples: r.Samples, AnomalyCount: r.AnomalyCount,
		Anomalies: anomaliesOf(r.Anomalies), AlarmsPerWeek: Number(r.AlarmsPerWeek), FalseAlarmsPerWeek: r.FalseAlarmsPerWeek, ElapsedSeconds: r.Elapsed.Seconds()}
}

// Task is long work with progress.
type Task struct {
	ID         string    `json:"id" example:"task_12"`
	Kind       string    `json:"kind" example:"backtest"`
	State      string    `json:"state" enum:"queued,running,succeeded,failed,cancelled"`
	Progress   float64   `json:"progress" minimum:"0" maximum:"1"`
	DetectorID string    `json:"detector_id,omitempty" doc:"The detector it works on, if any"`
	Result     any       `json:"result" doc:"A Backtest, a ModelVersion, a Suggestion or a LogAnalysis when it succeeded, else null"`
	Error      string    `json:"error,omitempty" doc:"Why it failed"`
	CreatedAt  time.Time `json:"created_at"`
	UpdatedAt  time.Time `json:"updated_at"`
}

func taskOf(t model.Task) Task {
	var subject struct {
		DetectorID string `json:"detector_id"`
	}
	if len(t.Args) > 0 {
		_ = json.Unmarshal(t.Args, &subject) // arguments of another kind name no detector
	}
	out := Task{ID: t.ID, Kind: t.Kind, State: string(t.State), Progress: min(max(t.Progress, 0), 1), DetectorID: subject.DetectorID,
		Error: clip(t.Error, maxDetail), CreatedAt: t.CreatedAt.UTC(), UpdatedAt: t.UpdatedAt.UTC()}
	if len(t.Result) > 0 {
		out.Result = t.Result
	}
	return out
}

func (s *server) enqueue(ctx context.Context, kind string, args any) (*Accepted, error) {
	t, err := s.opts.Tasks.Enqueue(ctx, kind, args)
	if err != nil {
		return nil, err
	}
	return &Accepted{Location: tasksPath + "/" + t.ID, Body: taskOf(t)}, nil
}

func (s *server) registerTasks() {
	register(s, operation{id: "list-tasks", fresh: true, method: http.MethodGet, path: tasksPath, tag: tagTasks, summary: "List tasks",
		description: "Newest first.", codes: readCodes}, s.listTasks)
	register(s, operation{id: "get-task", fresh: true, method: http.MethodGet, path: tasksPath + "/{id}", tag: tagTasks, summary: "Get a task",
		codes: codes(readCodes, CodeNotFound)}, s.getTask)
	register(s, operation{id: "cancel-task", method: http.MethodPost, path: tasksPath + "/{id}/cancel", tag: tagTasks, summary: "Cancel a task",
		description: "Does nothing when it is cancelled already; a task that is over otherwise is a conflict. Running work stops soon after.",
		codes:       codes(writeCodes, CodeNotFound)}, s.cancelTask)
}

type listTasksInput struct {
	Page
	Kind       string `query:"kind" maxLength:"64" doc:"Only tasks of this kind"`
	State      string `query:"state" enum:"queued,running,succeeded,failed,cancelled" doc:"Only tasks in this state"`
	DetectorID string `query:"detector_id" maxLength:"64" doc:"Only tasks that work on this detector"`
}

// TaskList is a page of tasks.
type TaskList struct {
	Items      []Task `json:"items"`
	NextCursor string `json:"next_cursor" doc:"For the next page; empty on the last"`
}

type listTasksOutput struct {
	Tagged
	Body TaskList
}

func (s *server) listTasks(ctx context.Context, in *listTasksInput) (*listTasksOutput, error) {
	found, next, err := s.opts.Tasks.Tasks(ctx, model.TaskFilter{Kind: in.Kind, State: model.TaskState(in.State), DetectorID: in.DetectorID, Cursor: in.Cursor, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	out := &listTasksOutput{Body: TaskList{Items: make([]Task, len(found)), NextCursor: next}}
	for i, t := range found {
		out.Body.Items[i] = taskOf(t)
	}
	return out, nil
}

// TaskPath is the path parameter of operations on one task.
type TaskPath struct {
	ID string `path:"id" minLength:"1" maxLength:"128" doc:"Id of the task" example:"task_12"`
}

type taskAnswer struct {
	Tagged
	Body Task
}

func (s *server) getTask(ctx context.Context, in *TaskPath) (*taskAnswer, error) {
	t, err := s.opts.Tasks.Task(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &taskAnswer{Body: taskOf(t)}, nil
}

func (s *server) cancelTask(ctx context.Context, in *TaskPath) (*taskAnswer, error) {
	t, err := s.opts.Tasks.Task(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if t.State != model.TaskCancelled {
		if t.State.Final() {
			return nil, model.Errorf(model.KindConflict, model.SubjectTask, "The task is over already: it %s.", t.State)
		}
		if err := s.opts.Tasks.Cancel(ctx, in.ID); err != nil {
			return nil, err
		}
		if t, err = s.opts.Tasks.Task(ctx, in.ID); err != nil {
			return nil, err
		}
	}
	return &taskAnswer{Body: taskOf(t)}, nil
}
