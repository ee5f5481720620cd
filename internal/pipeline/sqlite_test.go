package pipeline_test

import (
	"context"
	"log/slog"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"aiops/internal/model"
	"aiops/internal/pipeline"
	"aiops/internal/store"
)

var _ pipeline.Store = (*store.Store)(nil)

// wave is a source of three series, one of which jumps for a while.
type wave struct{ from, to int64 }

func (w wave) QueryRange(_ context.Context, _ string, start, end time.Time, step time.Duration, _ int) ([]model.SeriesData, error) {
	out := make([]model.SeriesData, 3)
	for i := range out {
		out[i].Labels = model.LabelsFromMap(map[string]string{"instance": string(rune('a' + i)), "path": "C:\\ \"x\"\n"})
		for t := start.UnixMilli(); t <= end.UnixMilli(); t += step.Milliseconds() {
			x := float64(t/step.Milliseconds()*int64(i+3)%97) / 97
			v := 50 + 10*math.Sin(2*math.Pi*x)
			if i == 0 && t >= w.from && t < w.to {
				v += 5000
			}
			out[i].Samples = append(out[i].Samples, model.Sample{T: t, V: v})
		}
	}
	return out, nil
}

func (wave) Health() model.SourceHealth { return model.SourceHealth{State: model.SourceUp} }
func (wave) LateData() time.Duration    { return 5 * time.Second }

// The engine on the real store: what it hands over comes back bit for bit, a
// restart goes on where it was, and the evidence still reproduces.
func TestOnSQLite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := slog.New(slog.DiscardHandler)
		open := func() *store.Store {
			s, err := store.Open(t.Context(), store.Config{DataDir: dir}, log, nil)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		s := open()
		d := model.Detector{Name: "wave", Query: "wave", Source: "wave", Step: 10 * time.Second, Model: "robust_zscore", Enabled: true,
			KeepFiringFor: 30 * time.Second}
		pipeline.Defaults(&d)
		d, err := s.CreateDetector(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		from := time.Now().Add(5 * time.Minute)
		src := wave{from.UnixMilli(), from.Add(time.Minute).UnixMilli()}
		run := func(s *store.Store, f func(*pipeline.Engine)) {
			e := pipeline.New(pipeline.Config{History: model.Duration(time.Hour)}, s,
				func(model.Detector) (pipeline.Source, bool) { return src, true }, log, nil, time.Now)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- e.Run(ctx) }()
			f(e)
			cancel()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		wait := func(d time.Duration) { <-time.After(d) }
		var anomaly model.Anomaly
		var before model.Replay
		run(s, func(e *pipeline.Engine) {
			wait(5*time.Minute + 40*time.Second)
			found, err := s.OpenAnomalies(t.Context(), d.ID)
			if err != nil || len(found) != 1 {
				t.Fatalf("%d open anomalies, %v", len(found), err)
			}
			anomaly = found[0]
			before, err = e.Replay(t.Context(), d.ID, anomaly.Series.Key(), from.Add(-time.Minute), from.Add(time.Minute))
			if err != nil || len(before.Points) == 0 || len(before.Anomalies) != 1 || before.Anomalies[0].ID != anomaly.ID {
				t.Fatalf("%+v, %v", before, err)
			}
		})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open()
		run(s, func(e *pipeline.Engine) {
			wait(5 * time.Minute)
			st, ok := e.Status(d.ID)
			if !ok || st.State != model.DetectorRunning || st.OpenAnomalies != 0 {
				t.Fatalf("after the restart: %+v", st)
			}
			versions, err := s.ModelVersions(t.Context(), d.ID)
			if err != nil || len(versions) != 1 {
				t.Fatalf("model versions %+v, %v", versions, err)
			}
			x, err := e.Explain(t.Context(), anomaly.ID)
			if err != nil || !x.Recomputed.Reproduced || x.Anomaly.State != model.AnomalyResolved || x.Recomputed.Point.Score != x.Anomaly.Score {
				t.Fatalf("%+v, %v", x, err)
			}
			after, err := e.Replay(t.Context(), d.ID, anomaly.Series.Key(), from.Add(-time.Minute), from.Add(time.Minute))
			if err != nil || len(after.Points) < len(before.Points) {
				t.Fatalf("%+v, %v", after, err)
			}
			for i, p := range before.Points {
				if after.Points[i] != p {
					t.Fatalf("point %d was %+v and is %+v", i, p, after.Points[i])
				}
			}
			events, err := s.Events(t.Context(), 0, nil, 100)
			if err != nil {
				t.Fatal(err)
			}
			count := map[model.EventType]int{}
			for _, e := range events {
				count[e.Type]++
			}
			if count[model.EventAnomalyOpened] != 1 || count[model.EventAnomalyResolved] != 1 || count[model.EventDetectorTrained] != 1 {
				t.Fatalf("events %v", count)
			}
		})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
