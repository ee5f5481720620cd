package store_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"aiops/internal/model"
	"aiops/internal/store"
)

// A change and the event that tells of it are one transaction: who reads on
// from the last event it saw misses nothing.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "aiops-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(ctx, store.Config{DataDir: dir}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()

	d, err := s.CreateDetector(ctx, model.Detector{ID: "det_1", Name: "checkout latency", Source: "main", Query: "up"})
	if err != nil {
		fmt.Println(err)
		return
	}
	d.Query = "sum(up)"
	if _, err := s.UpdateDetector(ctx, d, 7, model.EventDetectorUpdated); err != nil {
		fmt.Println(err)
	}
	events, err := s.Events(ctx, 0, []string{"detectors"}, 10)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range events {
		fmt.Println(e.ID, e.Type, e.Topic)
	}
	// Output:
	// the detector has changed: you saw version 7, it is at 1; read it again and repeat the change
	// 1 detector.created detectors/det_1
}
