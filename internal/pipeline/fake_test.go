package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"aiops/internal/model"
)

// fakeSource answers queries from a function. It is the far end of a network.
type fakeSource struct {
	mu      sync.Mutex
	series  []model.Labels
	value   func(series int, t int64) (v float64, ok bool)
	health  model.SourceHealth
	late    time.Duration
	fail    error
	block   chan struct{} // queries wait until it is closed, or for their context
	deaf    bool          // queries that wait do not look at their context
	queries int
	newest  int64 // nothing behind it is answered; 0: no limit
	onQuery func()
}

func (f *fakeSource) QueryRange(ctx context.Context, _ string, start, end time.Time, step time.Duration, _ int) ([]model.SeriesData, error) {
	f.mu.Lock()
	f.queries++
	fail, block, deaf, newest, onQuery := f.fail, f.block, f.deaf, f.newest, f.onQuery
	f.mu.Unlock()
	if onQuery != nil {
		onQuery()
	}
	if block != nil {
		if deaf {
			<-block
		} else {
			select {
			case <-block:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
	if fail != nil {
		return nil, fail
	}
	var out []model.SeriesData
	for i, ls := range f.series {
		var samples []model.Sample
		for t := start.UnixMilli(); t <= end.UnixMilli(); t += step.Milliseconds() {
			if newest != 0 && t > newest {
				break
			}
			if v, ok := f.value(i, t); ok {
				samples = append(samples, model.Sample{T: t, V: v})
			}
		}
		if len(samples) > 0 {
			out = append(out, model.SeriesData{Labels: slices.Clone(ls), Samples: samples})
		}
	}
	return out, nil
}

func (f *fakeSource) Health() model.SourceHealth {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.health
}

func (f *fakeSource) LateData() time.Duration { return f.late }

// set changes the source while it is in use.
func (f *fakeSource) set(change func(*fakeSource)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fakeSource) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.queries
}

// labelled makes n label sets.
func labelled(n int) []model.Labels {
	out := make([]model.Labels, n)
	for i := range out {
		out[i] = model.LabelsFromMap(map[string]string{"__name__": "requests", "instance": fmt.Sprintf("host-%05d", i), "job": "shop"})
	}
	return out
}

// noise is a repeatable value around 50 for a series and a time, almost always
// within 10 of it.
func noise(series int, t int64) float64 {
	x := uint64(series)*0x9e3779b97f4a7c15 ^ uint64(t)*0xbf58476d1ce4e5b9
	sum := 0.0
	for range 6 {
		x ^= x >> 30
		x *= 0xbf58476d1ce4e5b9
		x ^= x >> 27
		x *= 0x94d049bb133111eb
		x ^= x >> 31
		sum += float64(x>>11) / (1 << 53)
	}
	return 50 + 4*(sum-3)
}

// fakeStore keeps what the engine hands over, with the rules of the real one:
// an anomaly only moves forward.
type fakeStore struct {
	mu        sync.Mutex
	detectors map[string]model.Detector
	anomalies map[string]model.Anomaly
	evidence  map[string]model.Evidence
	events    []string // type and anomaly
	snapshots []model.Snapshot
	versions  []model.ModelVersion
	fail      error
	commits   int
	fakeLifecycle
}

func newFakeStore(ds ...model.Detector) *fakeStore {
	s := &fakeStore{detectors: map[string]model.Detector{}, anomalies: map[string]model.Anomaly{}, evidence: map[string]model.Evidence{}}
	for _, d := range ds {
		s.detectors[d.ID] = d
	}
	return s
}

func (s *fakeStore) AllDetectors(context.Context) ([]model.Detector, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return nil, s.fail
	}
	var out []model.Detector
	for _, d := range s.detectors {
		out = append(out, d)
	}
	return out, nil
}

func rank(s model.AnomalyState) int {
	return slices.Index([]model.AnomalyState{model.AnomalyPending, model.AnomalyFiring, model.AnomalyResolved}, s)
}

func (s *fakeStore) CommitAnomalies(_ context.Context, changes []model.AnomalyChange) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	s.commits++
	for _, c := range changes {
		old, ok := s.anomalies[c.Anomaly.ID]
		if ok && (old.State == model.AnomalyResolved || rank(c.Anomaly.State) < rank(old.State) ||
			c.Anomaly.State == old.State && c.Anomaly.Score <= old.Score && c.Anomaly.Severity == old.Severity) {
			continue
		}
		a := c.Anomaly
		a.ResolvedBy, a.Version = old.ResolvedBy, old.Version+1
		s.anomalies[a.ID] = a
		if c.Evidence != nil {
			s.evidence[a.ID] = *c.Evidence
		}
		if c.Event != "" {
			s.events = append(s.events, fmt.Sprintf("%s %s", c.Event, a.ID))
		}
	}
	return nil
}

func (s *fakeStore) Anomaly(_ context.Context, id string) (model.Anomaly, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a, ok := s.anomalies[id]; ok {
		return a, nil
	}
	return model.Anomaly{}, model.NotFound(model.SubjectAnomaly, id)
}

func (s *fakeStore) Evidence(_ context.Context, id string) (model.Evidence, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.evidence[id]; ok {
		return e, nil
	}
	return model.Evidence{}, model.NotFound(model.SubjectAnomaly, id)
}

func (s *fakeStore) list(keep func(model.Anomaly) bool) []model.Anomaly {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []model.Anomaly
	for _, a := range s.anomalies {
		if keep(a) {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b model.Anomaly) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortStableFunc(out, func(a, b model.Anomaly) int { return a.StartedAt.Compare(b.StartedAt) })
	return out
}

func (s *fakeStore) OpenAnomalies(_ context.Context, id string) ([]model.Anomaly, error) {
	return s.list(func(a model.Anomaly) bool { return a.DetectorID == id && a.State != model.AnomalyResolved }), nil
}

func (s *fakeStore) AnomaliesBetween(_ context.Context, id string, from, to time.Time, limit int) ([]model.Anomaly, error) {
	out := s.list(func(a model.Anomaly) bool {
		return (id == "" || a.DetectorID == id) && !a.StartedAt.After(to) && (a.ResolvedAt.IsZero() || !a.ResolvedAt.Before(from))
	})
	slices.Reverse(out)
	return out[:min(limit, len(out))], nil
}

func (s *fakeStore) SaveSnapshot(_ context.Context, snap model.Snapshot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	for i, p := range snap.Parts {
		snap.Parts[i] = slices.Clone(p)
	}
	s.snapshots = append(s.snapshots, snap)
	return nil
}

func (s *fakeStore) LatestSnapshot(ctx context.Context, id string, version int64) (model.Snapshot, error) {
	return s.SnapshotBefore(ctx, id, version, 1<<62)
}

func (s *fakeStore) SnapshotBefore(_ context.Context, id string, version, watermark int64) (model.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	best := -1
	for i, snap := range s.snapshots {
		if snap.DetectorID == id && snap.ModelVersion == version && snap.Watermark <= watermark &&
			(best < 0 || snap.Watermark >= s.snapshots[best].Watermark) {
			best = i
		}
	}
	if best < 0 {
		return model.Snapshot{}, model.NotFound(model.SubjectModel, id)
	}
	return s.snapshots[best], nil
}

func (s *fakeStore) SaveModelVersion(_ context.Context, v model.ModelVersion) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	s.versions = slices.DeleteFunc(s.versions, func(o model.ModelVersion) bool { return o.DetectorID == v.DetectorID && o.Version == v.Version })
	for i := range s.versions {
		if v.State == model.ModelActive && s.versions[i].DetectorID == v.DetectorID {
			s.versions[i].State = model.ModelRetired
		}
	}
	s.versions = append(s.versions, v)
	s.events = append(s.events, fmt.Sprintf("%s %d", model.EventDetectorTrained, v.Version))
	return nil
}

func (s *fakeStore) ModelVersions(_ context.Context, id string) ([]model.ModelVersion, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return nil, s.fail
	}
	var out []model.ModelVersion
	for _, v := range s.versions {
		if v.DetectorID == id {
			out = append(out, v)
		}
	}
	slices.Reverse(out)
	return out, nil
}

// set changes the store while it is in use.
func (s *fakeStore) set(change func(*fakeStore)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *fakeStore) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// testDetector is a definition that learns quickly.
func testDetector(change func(*model.Detector)) model.Detector {
	d := model.Detector{ID: "det_test", Name: "requests", Source: "main", Query: "requests", Step: 10 * time.Second,
		Model: "robust_zscore", Parameters: []byte(`{"window": 64}`), FalseAlarmsPerWeek: 1, Enabled: true, Version: 1}
	Defaults(&d)
	if change != nil {
		change(&d)
	}
	if err := Validate(d); err != nil {
		panic(err)
	}
	return d
}

const testStep = int64(10_000)

// feed advances a core over the source's samples in one go.
func feed(c *core, src *fakeSource, to, gapUntil int64) {
	data, err := src.QueryRange(context.Background(), "", msTime(c.watermark+c.def.step), msTime(to), msDuration(c.def.step), 0)
	if err != nil {
		panic(err)
	}
	if err := c.advance(context.Background(), to, data, gapUntil); err != nil {
		panic(err)
	}
}
