package builtin_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
	"aiops/internal/source/builtin"
)

func Example() {
	dir, err := os.MkdirTemp("", "builtin-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	registry := prometheus.NewRegistry()
	s, err := builtin.Open(builtin.Config{Dir: dir}, slog.New(slog.DiscardHandler), registry, registry)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	err = s.Append(context.Background(), []model.SeriesData{{
		Labels:  model.LabelsFromMap(map[string]string{"__name__": "queue_length", "queue": "mail"}),
		Samples: []model.Sample{{T: 1_000, V: 3}, {T: 2_000, V: 5}},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	answer, err := s.QueryRange(context.Background(), "2 * queue_length", time.UnixMilli(1_000), time.UnixMilli(2_000), time.Second, 10)
	for _, series := range answer {
		fmt.Println(series.Labels, series.Samples, err)
	}
	// Output:
	// {queue="mail"} [{1000 6} {2000 10}] <nil>
}
