package source

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"aiops/internal/model"
)

// 100,000 values of one label: bounded, counted, and others are as before.
func TestStreamLimiter(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	l, err := NewStreamLimiter(prometheus.NewRegistry(), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	streams := map[string]int{}
	sink := l.Limit(func(_ context.Context, _ string, lines []model.LogLine) error {
		for _, line := range lines {
			streams[line.Stream.Key()]++
		}
		return nil
	})
	give := func(labels map[string]string) {
		t.Helper()
		if err := sink(t.Context(), "builtin", []model.LogLine{{Stream: model.LabelsFromMap(labels)}}); err != nil {
			t.Fatal(err)
		}
	}
	give(map[string]string{"app": "good", "zone": "a"})
	for i := range 100_000 {
		give(map[string]string{"app": "bad", "id": fmt.Sprint(i)})
	}
	if len(streams) != limitValues+2 || streams[`{app="bad", id="(other)"}`] != 100_000-limitValues {
		t.Errorf("%d streams, %d lines in the other one", len(streams), streams[`{app="bad", id="(other)"}`])
	}
	if got := testutil.ToFloat64(l.changed.WithLabelValues("builtin")); got != 100_000-limitValues {
		t.Errorf("%v lines are counted", got)
	}
	now = now.Add(limitPeriod)
	for i := range limitValues { // a flood that comes first in the next period
		give(map[string]string{"app": fmt.Sprint("x", i), "id": fmt.Sprint("y", i)})
	}
	give(map[string]string{"app": "good", "zone": "a"})
	if streams[`{app="good", zone="a"}`] != 2 {
		t.Error("a stream that was there before was changed by a flood of others")
	}
	for i := range 300 {
		give(map[string]string{fmt.Sprint("name", i): "v"})
	}
	if n := len(l.current); n != limitNames {
		t.Errorf("%d names of labels are kept", n)
	}
}
