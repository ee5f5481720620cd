package store

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"aiops/internal/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func setup(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{DataDir: t.TempDir()}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestSmoke(t *testing.T) {
	t.Parallel()
	s := setup(t)
	ctx := context.Background()
	if err := s.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	d, err := s.CreateDetector(ctx, model.Detector{Name: "a", Source: "builtin", Enabled: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CommitAnomalies(ctx, []model.AnomalyChange{{Anomaly: model.Anomaly{ID: "an_1", DetectorID: d.ID, Series: model.Labels{{Name: "a", Value: "b"}},
		State: model.AnomalyFiring, StartedAt: time.Unix(100, 0), Score: 5}, Event: model.EventAnomalyOpened, Evidence: &model.Evidence{AnomalyID: "an_1"}}}); err != nil {
		t.Fatal(err)
	}
	for _, f := range []AnomalyFilter{{}, {Matchers: map[string]string{"a": "b"}, State: []model.AnomalyState{model.AnomalyFiring}}, {Sort: "score", Query: "b"}, {From: time.Unix(1, 0), To: time.Unix(1000, 0)}} {
		got, next, err := s.Anomalies(ctx, f)
		if err != nil || len(got) != 1 || next != "" {
			t.Fatalf("%+v %q %v", got, next, err)
		}
	}
	evs, err := s.Events(ctx, 0, []string{"anomalies"}, 10)
	if err != nil || len(evs) != 1 || evs[0].ID != 2 {
		t.Fatalf("%+v %v", evs, err)
	}
	j, err := NewJobs(s, map[string]TaskFunc{"x": func(ctx context.Context, _ model.Task, _ func(float64)) (any, error) { return 1, nil }})
	if err != nil {
		t.Fatal(err)
	}
	run, cancel := context.WithCancel(ctx)
	done := make(chan error)
	go func() { done <- j.Run(run) }()
	task, err := j.Enqueue(ctx, "x", nil)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for task.State != model.TaskSucceeded {
		if task, err = s.Task(ctx, task.ID); err != nil || time.Since(start) > 10*time.Second {
			t.Fatal(err, task)
		}
	}
	t.Log(time.Since(start))
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Log(time.Since(start))
}
