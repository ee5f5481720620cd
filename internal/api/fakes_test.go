package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"aiops/internal/health"
	"aiops/internal/model"
)

var testTime = time.Date(2026, 11, 8, 12, 0, 0, 0, time.UTC)

// world is everything behind the API, in memory. Set fail to make every call
// of the store fail with that error.
type world struct {
	mu        sync.Mutex
	detectors map[string]model.Detector
	anomalies map[string]model.Anomaly
	sources   map[string]model.Source
	tasks     map[string]model.Task
	models    map[string][]model.ModelVersion
	keys      map[string]*keyRecord
	events    []model.EventType
	syncs     int
	next      int
	fail      error // of the stores and the engine
	panics    bool  // of the engine's Replay
	health    []health.Component
	before    func(ctx context.Context) // called before each write of a detector
}

type keyRecord struct {
	key    model.IdempotencyKey
	lost   bool // carried out, without an answer
	answer *model.StoredAnswer
}

func newWorld() *world {
	w := &world{}
	w.reset()
	return w
}

// reset puts the first things back.
func (w *world) reset() {
	defer w.lock()()
	w.detectors, w.anomalies, w.sources = map[string]model.Detector{}, map[string]model.Anomaly{}, map[string]model.Source{}
	w.tasks, w.models, w.keys = map[string]model.Task{}, map[string][]model.ModelVersion{}, map[string]*keyRecord{}
	w.events = nil
	w.health = []health.Component{
		{Name: "database", Status: health.Healthy, Message: "writes and reads", CheckedAt: testTime, Critical: true, Details: map[string]any{"rows": 1}},
		{Name: "prometheus", Status: health.Degraded, Message: "slow", CheckedAt: testTime},
	}
	w.sources["src_builtin"] = model.Source{ID: "src_builtin", Name: "builtin", Type: model.SourceBuiltin, Provisioned: true, Version: 1, CreatedAt: testTime, UpdatedAt: testTime}
	w.sources["src_main"] = model.Source{ID: "src_main", Name: "main", Type: model.SourcePrometheus, URL: "http://prometheus:9090", Version: 1, CreatedAt: testTime, UpdatedAt: testTime,
		Auth: model.SourceAuth{Username: "reader", Password: "hunter2-canary"}, Headers: map[string]model.Secret{"X-Scope-OrgID": "tenant-canary"}}
	w.sources["src_file"] = model.Source{ID: "src_file", Name: "file", Type: model.SourcePrometheus, URL: "http://other:9090", Provisioned: true, Version: 1, CreatedAt: testTime, UpdatedAt: testTime}
	w.sources["src_free"] = model.Source{ID: "src_free", Name: "free", Type: model.SourceLoki, URL: "http://loki:3100", Version: 1, CreatedAt: testTime, UpdatedAt: testTime}
	w.detectors["det_1"] = model.Detector{ID: "det_1", Name: "latency", Source: "main", Query: "latency", Step: 30 * time.Second, Model: "auto", FalseAlarmsPerWeek: 1,
		Direction: model.DirectionAbove, MissingData: model.MissingIgnore, Labels: map[string]string{"team": "shop"}, Enabled: true, Version: 7, CreatedAt: testTime, UpdatedAt: testTime}
	w.detectors["det_file"] = model.Detector{ID: "det_file", Name: "from file", Source: "builtin", Query: "node_load1", Step: 5 * time.Second, Model: "auto", FalseAlarmsPerWeek: 1,
		Direction: model.DirectionBoth, MissingData: model.MissingIgnore, Provisioned: true, Enabled: true, Version: 1, CreatedAt: testTime, UpdatedAt: testTime}
	w.anomalies["an_1"] = model.Anomaly{ID: "an_1", DetectorID: "det_1", DetectorName: "latency", Series: model.LabelsFromMap(map[string]string{"instance": "a"}),
		State: model.AnomalyFiring, Severity: model.SeverityCritical, StartedAt: testTime, FiredAt: testTime, PeakAt: testTime, Value: 12, Expected: math.NaN(), Lower: math.Inf(-1), Upper: 10,
		Score: 5, OnceInSeconds: 12 * 86400, Reason: "above what is normal", DetectorVersion: 7, ModelVersion: 1, Version: 3, UpdatedAt: testTime}
	w.tasks["task_1"] = model.Task{ID: "task_1", Kind: TaskTrain, State: model.TaskRunning, Progress: 0.5, Args: json.RawMessage(`{"detector_id":"det_1"}`), CreatedAt: testTime, UpdatedAt: testTime}
	w.tasks["task_2"] = model.Task{ID: "task_2", Kind: TaskBacktest, State: model.TaskSucceeded, Progress: 1, Result: json.RawMessage(`{"series":1}`), CreatedAt: testTime, UpdatedAt: testTime}
	w.tasks["task_3"] = model.Task{ID: "task_3", Kind: TaskSuggest, State: model.TaskSucceeded, Progress: 1, Result: json.RawMessage(`{"detector_id":"det_1","based_on":7,"improved":true,"patch":{"for":"2m"}}`), CreatedAt: testTime, UpdatedAt: testTime}
	w.models["det_1"] = []model.ModelVersion{{DetectorID: "det_1", Version: 2, DetectorVersion: 7, State: model.ModelActive, CreatedAt: testTime, Reason: "trained"},
		{DetectorID: "det_1", Version: 1, DetectorVersion: 6, State: model.ModelRetired, TrainedFrom: testTime, TrainedTo: testTime, CreatedAt: testTime, Reason: "created"}}
}

func (w *world) options() Options {
	return Options{
		Detectors: detectorFake{w}, Models: modelFake{w}, Anomalies: anomalyFake{w}, Sources: sourceFake{w}, Clients: clientFake{w},
		Engine: engineFake{w}, Logs: logFake{w}, Tasks: taskFake{w}, Shadows: shadowFake{w}, Versions: versionFake{w}, KnownEvents: knownFake{w}, Health: healthFake{w}, Idempotency: keyFake{w}, Auth: fakeAuth{world: w}, Live: w, LogLevel: new(slog.LevelVar),
		Now: func() time.Time { return testTime }, Version: "test",
	}
}

func (w *world) lock() func() { w.mu.Lock(); return w.mu.Unlock }

// paged cuts a page out of items; its cursor is the index of the next one.
func paged[T any](items []T, cursor string, limit int) ([]T, string, error) {
	start := 0
	if cursor != "" {
		text, err := base64.RawURLEncoding.DecodeString(cursor)
		if err == nil {
			_, err = fmt.Sscanf(string(text), "%d", &start)
		}
		if err != nil || start < 0 || start > len(items) {
			return nil, "", &model.Error{Kind: model.KindInvalid, Message: "The cursor is not one of ours.", Fields: []model.FieldError{{Pointer: "/cursor", Code: "cursor", Detail: "not a cursor"}}}
		}
	}
	end := min(len(items), start+limit)
	next := ""
	if end < len(items) {
		next = base64.RawURLEncoding.EncodeToString([]byte(fmt.Sprint(end)))
	}
	return items[start:end], next, nil
}

type detectorFake struct{ *world }

func (f detectorFake) CreateDetector(_ context.Context, d model.Detector) (model.Detector, error) {
	defer f.lock()()
	if f.fail != nil {
		return d, f.fail
	}
	for _, other := range f.detectors {
		if other.Name == d.Name {
			return d, model.Errorf(model.KindConflict, model.SubjectDetector, "A detector called %q exists already.", d.Name)
		}
	}
	f.next++
	d.ID, d.Version, d.CreatedAt, d.UpdatedAt = fmt.Sprintf("det_new%d", f.next), 1, testTime, testTime
	f.detectors[d.ID] = d
	f.events = append(f.events, model.EventDetectorCreated)
	return d, nil
}

func (f detectorFake) UpdateDetector(ctx context.Context, d model.Detector, expect int64, ev model.EventType) (model.Detector, error) {
	if f.before != nil {
		f.before(ctx)
	}
	defer f.lock()()
	if f.fail != nil {
		return d, f.fail
	}
	old, ok := f.detectors[d.ID]
	if !ok {
		return d, model.NotFound(model.SubjectDetector, d.ID)
	}
	if expect != 0 && old.Version != expect {
		return d, &model.Error{Kind: model.KindPrecondition, Subject: model.SubjectDetector, Message: "It was changed meanwhile."}
	}
	d.Version = old.Version + 1
	f.detectors[d.ID] = d
	f.events = append(f.events, ev)
	return d, nil
}

func (f detectorFake) DeleteDetector(_ context.Context, id string, expect int64) error {
	defer f.lock()()
	if f.fail != nil {
		return f.fail
	}
	old, ok := f.detectors[id]
	if !ok {
		return model.NotFound(model.SubjectDetector, id)
	}
	if expect != 0 && old.Version != expect {
		return &model.Error{Kind: model.KindPrecondition, Subject: model.SubjectDetector, Message: "It was changed meanwhile."}
	}
	delete(f.detectors, id)
	return nil
}

func (f detectorFake) Detector(_ context.Context, id string) (model.Detector, error) {
	defer f.lock()()
	if f.fail != nil {
		return model.Detector{}, f.fail
	}
	d, ok := f.detectors[id]
	if !ok {
		return d, model.NotFound(model.SubjectDetector, id)
	}
	return d, nil
}

func (f detectorFake) DetectorByName(_ context.Context, name string) (model.Detector, error) {
	defer f.lock()()
	for _, d := range f.detectors {
		if d.Name == name {
			return d, f.fail
		}
	}
	return model.Detector{}, model.NotFound(model.SubjectDetector, name)
}

func (f detectorFake) Detectors(_ context.Context, q model.DetectorFilter) ([]model.Detector, string, error) {
	defer f.lock()()
	if f.fail != nil {
		return nil, "", f.fail
	}
	var out []model.Detector
	for _, id := range slices.Sorted(maps.Keys(f.detectors)) {
		d := f.detectors[id]
		if strings.Contains(d.Name, q.Query) && (q.Source == "" || d.Source == q.Source) &&
			(q.Enabled == nil || d.Enabled == *q.Enabled) && (q.Provisioned == nil || d.Provisioned == *q.Provisioned) {
			out = append(out, d)
		}
	}
	return paged(out, q.Cursor, q.Limit)
}

type modelFake struct{ *world }

func (f modelFake) ModelVersions(_ context.Context, id string) ([]model.ModelVersion, error) {
	defer f.lock()()
	return f.models[id], f.fail
}

func (f modelFake) PromoteModel(_ context.Context, id string, version int64) (model.ModelVersion, error) {
	defer f.lock()()
	for _, v := range f.models[id] {
		if v.Version == version {
			v.State = model.ModelActive
			return v, f.fail
		}
	}
	return model.ModelVersion{}, model.NotFound(model.SubjectModel, fmt.Sprint(version))
}

func (f modelFake) RollbackModel(ctx context.Context, id string) (model.ModelVersion, error) {
	if len(f.models[id]) < 2 {
		return model.ModelVersion{}, model.Errorf(model.KindConflict, model.SubjectModel, "There is no earlier version.")
	}
	return f.PromoteModel(ctx, id, f.models[id][1].Version)
}

type anomalyFake struct{ *world }

func (f anomalyFake) Anomaly(_ context.Context, id string) (model.Anomaly, error) {
	defer f.lock()()
	if f.fail != nil {
		return model.Anomaly{}, f.fail
	}
	a, ok := f.anomalies[id]
	if !ok {
		return a, model.NotFound(model.SubjectAnomaly, id)
	}
	return a, nil
}

func (f anomalyFake) Anomalies(_ context.Context, q model.AnomalyFilter) ([]model.Anomaly, string, error) {
	defer f.lock()()
	if f.fail != nil {
		return nil, "", f.fail
	}
	var out []model.Anomaly
	for _, id := range slices.Sorted(maps.Keys(f.anomalies)) {
		a := f.anomalies[id]
		match := (len(q.State) == 0 || slices.Contains(q.State, a.State)) && (len(q.Severity) == 0 || slices.Contains(q.Severity, a.Severity)) &&
			(q.DetectorID == "" || a.DetectorID == q.DetectorID) && (q.Acknowledged == nil || *q.Acknowledged == (a.AcknowledgedBy != ""))
		for n, v := range q.Matchers {
			match = match && a.Series.Value(n) == v
		}
		if match {
			out = append(out, a)
		}
	}
	return paged(out, q.Cursor, q.Limit)
}

func (f anomalyFake) change(id string, expect int64, apply func(*model.Anomaly)) (model.Anomaly, error) {
	defer f.lock()()
	if f.fail != nil {
		return model.Anomaly{}, f.fail
	}
	a, ok := f.anomalies[id]
	if !ok {
		return a, model.NotFound(model.SubjectAnomaly, id)
	}
	if expect != 0 && expect != a.Version {
		return a, &model.Error{Kind: model.KindPrecondition, Subject: model.SubjectAnomaly, Message: "It was changed meanwhile."}
	}
	apply(&a)
	a.Version++
	f.anomalies[id] = a
	return a, nil
}

func (f anomalyFake) AcknowledgeAnomaly(_ context.Context, id, by string, at time.Time, expect int64) (model.Anomaly, error) {
	return f.change(id, expect, func(a *model.Anomaly) { a.AcknowledgedBy, a.AcknowledgedAt = by, at })
}

func (f anomalyFake) ResolveAnomaly(_ context.Context, id, by string, at time.Time, expect int64) (model.Anomaly, error) {
	return f.change(id, expect, func(a *model.Anomaly) { a.State, a.ResolvedBy, a.ResolvedAt = model.AnomalyResolved, by, at })
}

func (f anomalyFake) LabelAnomaly(_ context.Context, id string, label *bool, _ string, expect int64) (model.Anomaly, error) {
	return f.change(id, expect, func(a *model.Anomaly) { a.Label = label })
}
