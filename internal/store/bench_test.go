package store

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"aiops/internal/model"
)

// BenchmarkCommit measures group commit: commits, writes and rows a second for
// callers that each wait for their own write.
func BenchmarkCommit(b *testing.B) {
	for _, rows := range []int{1, 100} {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("rows=%d/callers=%d", rows, callers), func(b *testing.B) {
				s := openBench(b)
				d, err := s.CreateDetector(b.Context(), model.Detector{Name: "a"})
				if err != nil {
					b.Fatal(err)
				}
				var n atomic.Int64
				b.SetParallelism(callers)
				b.ResetTimer()
				start := time.Now()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						changes := make([]model.AnomalyChange, rows)
						for i := range changes {
							id := n.Add(1)
							changes[i] = model.AnomalyChange{Anomaly: model.Anomaly{ID: fmt.Sprintf("an_%d", id), DetectorID: d.ID, DetectorName: "a",
								Series: model.Labels{{Name: "instance", Value: fmt.Sprint(id % 100)}, {Name: "job", Value: "a"}},
								State:  model.AnomalyFiring, StartedAt: time.UnixMilli(1e12 + id), Score: 5}, Event: model.EventAnomalyOpened}
						}
						if err := s.CommitAnomalies(context.Background(), changes); err != nil {
							b.Fatal(err)
						}
					}
				})
				sec := time.Since(start).Seconds()
				b.ReportMetric(float64(b.N)/sec, "writes/s")
				b.ReportMetric(float64(n.Load())/sec, "anomalies/s")
			})
		}
	}
}

// BenchmarkMeta is the smallest write there is.
func BenchmarkMeta(b *testing.B) {
	for _, callers := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s := openBench(b)
			var n atomic.Int64
			b.SetParallelism(callers)
			b.ResetTimer()
			start := time.Now()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := s.SetMeta(context.Background(), fmt.Sprint("key", n.Add(1)), "v"); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "writes/s")
		})
	}
}
