package pipeline

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"aiops/internal/model"
)

// stepSource answers with one step of many series, from memory.
type stepSource struct {
	data []model.SeriesData
}

func newStepSource(n int) *stepSource {
	s := &stepSource{}
	for _, ls := range labelled(n) {
		s.data = append(s.data, model.SeriesData{Labels: ls, Samples: make([]model.Sample, 1)})
	}
	return s
}

func (s *stepSource) at(t int64) []model.SeriesData {
	for i := range s.data {
		s.data[i].Samples[0] = model.Sample{T: t, V: noise(i&1023, t)}
	}
	return s.data
}

func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkStep evaluates one step of 100,000 series, as the live path does
// each 30 s. bytes/series is the heap that a series takes; overhead is what is
// not the model's.
func BenchmarkStep(b *testing.B) {
	const n = 100_000
	for _, m := range []struct{ name, parameters string }{
		{"threshold", `{"above": 1000}`}, {"robust_zscore", `{"window": 240}`}, {"auto", ``},
	} {
		b.Run(m.name, func(b *testing.B) {
			d := testDetector(func(d *model.Detector) {
				d.Model, d.Parameters, d.Step = m.name, []byte(m.parameters), 30*time.Second
				d.Name = fmt.Sprint(b.Name())
			})
			src := newStepSource(n)
			before := heapBytes()
			c := newCore(newDefinition(d, Config{}.withDefaults()), 1, 0)
			c.prove = true
			next := func() {
				t := c.watermark + c.def.step
				data := src.at(t)
				b.StartTimer()
				if err := c.advance(context.Background(), t, data, 0); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
			}
			b.StopTimer()
			for range 100 {
				next()
			}
			used := heapBytes() - before
			var models int64
			for _, s := range c.series {
				models += int64(s.model.SizeBytes())
			}
			b.ReportAllocs()
			b.ResetTimer()
			b.StopTimer()
			for range b.N {
				next()
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "samples/s")
			b.ReportMetric(float64(used)/n, "bytes/series")
			b.ReportMetric((float64(used)-float64(models))/n, "overhead/series")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkSnapshot encodes the state of 10,000 series.
func BenchmarkSnapshot(b *testing.B) {
	src := newStepSource(10_000)
	d := testDetector(func(d *model.Detector) { d.Model, d.Parameters = "auto", nil })
	c := newCore(newDefinition(d, Config{}.withDefaults()), 1, 0)
	for range 300 {
		t := c.watermark + c.def.step
		if err := c.advance(context.Background(), t, src.at(t), 0); err != nil {
			b.Fatal(err)
		}
	}
	size := 0
	for b.Loop() {
		size = 0
		for _, p := range c.snapshot(time.Time{}).Parts {
			size += len(p)
		}
	}
	b.ReportMetric(float64(size)/10_000, "bytes/series")
}
