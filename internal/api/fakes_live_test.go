package api

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"aiops/internal/health"
	"aiops/internal/model"
)

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

func (f clientFake) Details(string) map[string]any { return map[string]any{"breaker": "closed"} }

func (f clientFake) Health(name string) (model.SourceHealth, bool) {
	return model.SourceHealth{State: model.SourceUp, Since: testTime, CheckedAt: testTime, Latency: 12 * time.Millisecond}, name != "gone"
}

func (f clientFake) Test(_ context.Context, name string) (model.SourceHealth, error) {
	return model.SourceHealth{State: model.SourceDown, Since: testTime, LastError: "connection refused"}, nil
}

func (f clientFake) Collectors(context.Context, string) ([]model.Collector, error) {
	return []model.Collector{{Name: "cpu", Kind: "host", State: model.CollectorUp, LastScrape: testTime, Duration: time.Millisecond, Samples: 5}, {Name: "new", Kind: "target"}}, f.fail
}

func (f clientFake) Query(ctx context.Context, _, _ string, at time.Time, _ int) ([]model.SeriesData, error) {
	return f.QueryRange(ctx, "", "", at, at, time.Second, 0)
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
	return model.DetectorStatus{State: model.DetectorRunning, SeriesActive: 2, Lag: 1500 * time.Millisecond, LastEvaluatedAt: testTime, Threshold: 4.2, ThresholdAsked: 4.2, ThresholdBasis: "counted", MemoryBytes: 4096}, id == "det_1"
}

func (f engineFake) Series(_ string, after string, limit int) ([]model.SeriesStatus, time.Time, error) {
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
	return out, testTime, f.fail
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
	return Explanation{Anomaly: a, Summary: "latency was 12, which happens once in 12 days on this series.", Evidence: model.Evidence{AnomalyID: id, Model: "seasonal", Threshold: 4, SeriesActive: 2, Counterfactual: "below 10 it would have been normal",
		Contributions: []model.Contribution{{Name: "level", Score: 5, Share: 1}}, Context: []model.ScoredPoint{{T: 1}}},
		Reproduced: true, AlsoMoved: []Moved{{DetectorID: "det_1", DetectorName: "latency", Series: a.Series, AnomalyID: "an_2"}}, Similar: []Similar{{a, 0.9, "same series"}}, Probability: "about once in 12 days",
		Counterfactual: Counterfactual{Text: "up to 10 it would have been normal", Upper: ExplainedFlip{10, 10.5, "score"}, Lower: ExplainedFlip{math.NaN(), math.NaN(), ""},
			Gates: []ExplainedGate{{"threshold", "a score above 4"}}}}, nil
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

func (f taskFake) Tasks(_ context.Context, q model.TaskFilter) ([]model.Task, string, error) {
	defer f.lock()()
	var out []model.Task
	for _, id := range slices.Sorted(maps.Keys(f.tasks)) {
		if t := f.tasks[id]; (q.Kind == "" || t.Kind == q.Kind) && (q.State == "" || t.State == q.State) &&
			(q.DetectorID == "" || strings.Contains(string(t.Args), `"`+q.DetectorID+`"`)) {
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

func (f keyFake) Begin(_ context.Context, k model.IdempotencyKey) (model.IdempotencyState, *model.StoredAnswer, error) {
	defer f.lock()()
	r, ok := f.keys[k.Principal+"\x00"+k.Key]
	switch {
	case !ok:
		f.keys[k.Principal+"\x00"+k.Key] = &keyRecord{key: k}
		return model.IdempotencyFresh, nil, nil
	case r.key != k:
		return model.IdempotencyMismatch, nil, nil
	case r.lost:
		return model.IdempotencyUnanswered, nil, nil
	case r.answer == nil:
		return model.IdempotencyInProgress, nil, nil
	}
	return model.IdempotencyReplay, r.answer, nil
}

func (f keyFake) Bind(ctx context.Context, _ model.IdempotencyKey) context.Context { return ctx }

func (f keyFake) Finish(_ context.Context, k model.IdempotencyKey, a *model.StoredAnswer) error {
	defer f.lock()()
	if a == nil {
		delete(f.keys, k.Principal+"\x00"+k.Key)
		return nil
	}
	f.keys[k.Principal+"\x00"+k.Key].answer = a
	return nil
}
