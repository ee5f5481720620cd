package pipeline_test

import (
	"context"
	"fmt"
	"time"

	"aiops/internal/model"
	"aiops/internal/pipeline"
)

// memory is a source of one series that doubles for a minute.
type memory struct{ jump time.Time }

func (m memory) QueryRange(_ context.Context, _ string, start, end time.Time, step time.Duration, _ int) ([]model.SeriesData, error) {
	s := model.SeriesData{Labels: model.Labels{{Name: "instance", Value: "a"}}}
	for t := start; !t.After(end); t = t.Add(step) {
		v := 40 + float64(t.Unix()/30%7)
		if !t.Before(m.jump) && t.Before(m.jump.Add(time.Minute)) {
			v = 95
		}
		s.Samples = append(s.Samples, model.Sample{T: t.UnixMilli(), V: v})
	}
	return []model.SeriesData{s}, nil
}

func (memory) Health() model.SourceHealth { return model.SourceHealth{State: model.SourceUp} }
func (memory) LateData() time.Duration    { return 0 }

// A backtest runs a definition that is stored nowhere, with the code of the
// live path.
func ExampleEngine_Backtest() {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	sources := func(model.Detector) (pipeline.Source, bool) { return memory{jump: now.Add(-time.Hour)}, true }
	engine := pipeline.New(pipeline.Config{}, nil, sources, nil, nil, func() time.Time { return now })

	detector := model.Detector{Name: "memory in use", Query: "memory_used_percent", Model: "threshold", Parameters: []byte(`{"above": 90}`)}
	result, err := engine.Backtest(context.Background(), detector, now.Add(-24*time.Hour), now, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(result.Samples, "samples,", result.AnomalyCount, "anomaly")
	fmt.Println(result.Anomalies[0].Reason)
	// Output:
	// 2881 samples, 1 anomaly
	// memory in use 95 where at most 90 is allowed
}
