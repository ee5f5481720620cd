package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
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
	key    IdempotencyKey
	answer *StoredAnswer
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
	w.models["det_1"] = []model.ModelVersion{{DetectorID: "det_1", Version: 2, DetectorVersion: 7, State: model.ModelActive, CreatedAt: testTime, Reason: "trained"},
		{DetectorID: "det_1", Version: 1, DetectorVersion: 6, State: model.ModelRetired, TrainedFrom: testTime, TrainedTo: testTime, CreatedAt: testTime, Reason: "created"}}
}

func (w *world) options() Options {
	return Options{
		Detectors: detectorFake{w}, Models: modelFake{w}, Anomalies: anomalyFake{w}, Sources: sourceFake{w}, Clients: clientFake{w},
		Engine: engineFake{w}, Tasks: taskFake{w}, Health: healthFake{w}, Idempotency: keyFake{w},
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

func (f detectorFake) Detectors(_ context.Context, q DetectorFilter) ([]model.Detector, string, error) {
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

func (f modelFake) ShadowModel(_ context.Context, id string, version int64) (model.ModelVersion, error) {
	return model.ModelVersion{}, model.Errorf(model.KindConflict, model.SubjectModel, "Shadow scoring is not available.")
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

func (f anomalyFake) Anomalies(_ context.Context, q AnomalyFilter) ([]model.Anomaly, string, error) {
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

type sourceFake struct{ *world }

func (f sourceFake) CreateSource(_ context.Context, s model.Source) (model.Source, error) {
	defer f.lock()()
	for _, other := range f.sources {
		if other.Name == s.Name {
			return s, model.Errorf(model.KindConflict, model.SubjectSource, "A source called %q exists already.", s.Name)
		}
	}
	f.next++
	s.ID, s.Version, s.CreatedAt, s.UpdatedAt = fmt.Sprintf("src_new%d", f.next), 1, testTime, testTime
	f.sources[s.ID] = s
	return s, f.fail
}

func (f sourceFake) UpdateSource(_ context.Context, s model.Source, expect int64) (model.Source, error) {
	defer f.lock()()
	old := f.sources[s.ID]
	if expect != 0 && old.Version != expect {
		return s, &model.Error{Kind: model.KindPrecondition, Subject: model.SubjectSource, Message: "It was changed meanwhile."}
	}
	s.Version = old.Version + 1
	f.sources[s.ID] = s
	return s, f.fail
}

func (f sourceFake) DeleteSource(_ context.Context, id string, expect int64) error {
	defer f.lock()()
	if expect != 0 && f.sources[id].Version != expect {
		return &model.Error{Kind: model.KindPrecondition, Subject: model.SubjectSource, Message: "It was changed meanwhile."}
	}
	delete(f.sources, id)
	return f.fail
}

func (f sourceFake) Source(_ context.Context, id string) (model.Source, error) {
	defer f.lock()()
	s, ok := f.sources[id]
	if !ok {
		return s, model.NotFound(model.SubjectSource, id)
	}
	return s, f.fail
}

func (f sourceFake) Sources(context.Context) ([]model.Source, error) {
	defer f.lock()()
	var out []model.Source
	for _, id := range slices.Sorted(maps.Keys(f.sources)) {
		out = append(out, f.sources[id])
	}
	return out, f.fail
}

type clientFake struct{ *world }

func (f clientFake) Sync(context.Context) error { return nil }

func (f clientFake) Health(name string) (model.SourceHealth, bool) {
	return model.SourceHealth{State: model.SourceUp, Since: testTime, CheckedAt: testTime, Latency: 12 * time.Millisecond}, name != "gone"
}

func (f clientFake) Test(_ context.Context, name string) (model.SourceHealth, error) {
	return model.SourceHealth{State: model.SourceDown, Since: testTime, LastError: "connection refused"}, nil
}

func (f clientFake) Collectors(context.Context, string) ([]model.Collector, error) {
	return []model.Collector{{Name: "cpu", Kind: "host", State: model.CollectorUp, LastScrape: testTime, Duration: time.Millisecond, Samples: 5}, {Name: "new", Kind: "target"}}, f.fail
}

func (f clientFake) Query(_ context.Context, _, _ string, at time.Time, _ int) ([]model.SeriesData, error) {
	return f.QueryRange(nil, "", "", at, at, time.Second, 0)
}

func (f clientFake) QueryRange(_ context.Context, _, _ string, start, end time.Time, step time.Duration, _ int) ([]model.SeriesData, error) {
	if f.fail != nil {
		return nil, f.fail
	}
	data := model.SeriesData{Labels: model.LabelsFromMap(map[string]string{"instance": "a"})}
	for t := start; !t.After(end) && len(data.Samples) < 20; t = t.Add(step) {
		data.Samples = append(data.Samples, model.Sample{T: t.UnixMilli(), V: math.NaN()})
	}
	return []model.SeriesData{data}, nil
}

func (f clientFake) ParseQuery(_, query string) error {
	if strings.Contains(query, "((") || strings.Contains(query, "bad") {
		return &model.Error{Kind: model.KindQuery, Message: "The query ends in the middle.", Context: map[string]any{"line": 1, "column": 2},
			Fields: []model.FieldError{{Pointer: "/query", Code: "promql", Detail: "ends in the middle"}}}
	}
	return nil
}

type engineFake struct{ *world }

func (f engineFake) Sync(context.Context) error {
	defer f.lock()()
	f.syncs++
	return nil
}

func (f engineFake) Status(id string) (model.DetectorStatus, bool) {
	return model.DetectorStatus{State: model.DetectorRunning, SeriesActive: 2, Lag: 1500 * time.Millisecond, LastEvaluatedAt: testTime, Threshold: 4.2, MemoryBytes: 4096}, id == "det_1"
}

func (f engineFake) Series(_ string, after string, limit int) ([]model.SeriesStatus, error) {
	var out []model.SeriesStatus
	for _, name := range []string{"a", "b", "c"} {
		ls := model.LabelsFromMap(map[string]string{"instance": name})
		if ls.Key() > after && len(out) < limit {
			st := model.SeriesStatus{Labels: ls, Model: "seasonal", Why: "a daily rhythm"}
			if name == "a" {
				st.LastT, st.Last = 1_000, model.ScoredPoint{T: 1_000, Value: 1, Expected: math.NaN(), Lower: math.NaN(), Upper: math.NaN()}
				st.Anomaly, st.AnomalyID = model.AnomalyFiring, "an_1"
			}
			out = append(out, st)
		}
	}
	return out, f.fail
}

func (f engineFake) Replay(ctx context.Context, id, series string, from, _ time.Time) (model.Replay, error) {
	if f.panics {
		panic("the engine broke: canary-panic")
	}
	if f.fail != nil {
		return model.Replay{}, f.fail
	}
	if err := ctx.Err(); err != nil {
		return model.Replay{}, err
	}
	return model.Replay{DetectorID: id, Series: model.LabelsFromMap(map[string]string{"instance": "a"}), Step: 30 * time.Second,
		Points:    []model.ScoredPoint{{T: from.UnixMilli(), Value: 1, Expected: math.NaN(), Lower: math.Inf(-1), Upper: math.Inf(1)}},
		Anomalies: []model.Anomaly{f.anomalies["an_1"]}, Learning: true}, nil
}

func (f engineFake) Detect(_ context.Context, _ string, _ model.Labels, samples []model.Sample) ([]model.ScoredPoint, error) {
	out := make([]model.ScoredPoint, len(samples))
	for i, s := range samples {
		out[i] = model.ScoredPoint{T: s.T, Value: s.V, Score: 1}
	}
	return out, f.fail
}

func (f engineFake) Explain(_ context.Context, id string) (Explanation, error) {
	if f.fail != nil {
		return Explanation{}, f.fail
	}
	a, ok := f.anomalies[id]
	if !ok {
		return Explanation{}, model.NotFound(model.SubjectAnomaly, id)
	}
	return Explanation{Anomaly: a, Evidence: model.Evidence{AnomalyID: id, Model: "seasonal", Threshold: 4, SeriesActive: 2, Counterfactual: "below 10 it would have been normal",
		Contributions: []model.Contribution{{Name: "level", Score: 5, Share: 1}}, Context: []model.ScoredPoint{{T: 1}}},
		Reproduced: true, AlsoMoved: []Moved{{DetectorID: "det_1", DetectorName: "latency", Series: a.Series, AnomalyID: "an_2"}}, Similar: []model.Anomaly{a}}, nil
}

type taskFake struct{ *world }

func (f taskFake) Enqueue(_ context.Context, kind string, args any) (model.Task, error) {
	defer f.lock()()
	if f.fail != nil {
		return model.Task{}, f.fail
	}
	text, err := json.Marshal(args)
	if err != nil {
		return model.Task{}, err
	}
	f.next++
	t := model.Task{ID: fmt.Sprintf("task_new%d", f.next), Kind: kind, State: model.TaskQueued, Args: text, CreatedAt: testTime, UpdatedAt: testTime}
	f.tasks[t.ID] = t
	return t, nil
}

func (f taskFake) Task(_ context.Context, id string) (model.Task, error) {
	defer f.lock()()
	t, ok := f.tasks[id]
	if !ok {
		return t, model.NotFound(model.SubjectTask, id)
	}
	return t, f.fail
}

func (f taskFake) Tasks(_ context.Context, q TaskFilter) ([]model.Task, string, error) {
	defer f.lock()()
	var out []model.Task
	for _, id := range slices.Sorted(maps.Keys(f.tasks)) {
		if t := f.tasks[id]; (q.Kind == "" || t.Kind == q.Kind) && (q.State == "" || t.State == q.State) {
			out = append(out, t)
		}
	}
	if f.fail != nil {
		return nil, "", f.fail
	}
	return paged(out, q.Cursor, q.Limit)
}

func (f taskFake) Cancel(_ context.Context, id string) error {
	defer f.lock()()
	t := f.tasks[id]
	t.State = model.TaskCancelled
	f.tasks[id] = t
	return f.fail
}

type healthFake struct{ *world }

func (f healthFake) Report() health.Report {
	defer f.lock()()
	return health.Report{Status: health.Aggregate(f.health), Components: f.health}
}

func (f healthFake) Component(name string) (health.Component, bool) {
	defer f.lock()()
	for _, c := range f.health {
		if c.Name == name {
			return c, true
		}
	}
	return health.Component{}, false
}

func (f healthFake) History() []health.Change {
	return []health.Change{{Component: "database", From: health.Unknown, To: health.Healthy, Time: testTime}}
}

type keyFake struct{ *world }

func (f keyFake) Begin(_ context.Context, k IdempotencyKey) (IdempotencyState, *StoredAnswer, error) {
	defer f.lock()()
	r, ok := f.keys[k.Principal+"\x00"+k.Key]
	switch {
	case !ok:
		f.keys[k.Principal+"\x00"+k.Key] = &keyRecord{key: k}
		return IdempotencyFresh, nil, nil
	case r.key != k:
		return IdempotencyMismatch, nil, nil
	case r.answer == nil:
		return IdempotencyInProgress, nil, nil
	}
	return IdempotencyReplay, r.answer, nil
}

func (f keyFake) Finish(_ context.Context, k IdempotencyKey, a *StoredAnswer) error {
	defer f.lock()()
	if a == nil {
		delete(f.keys, k.Principal+"\x00"+k.Key)
		return nil
	}
	f.keys[k.Principal+"\x00"+k.Key].answer = a
	return nil
}
