package detect_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"aiops/internal/detect"
)

// hostSeries is like the CPU use of a host, in percent with one decimal: a
// daily wave, slow wandering, noise that grows with load, and short bursts.
func hostSeries(n int) []float64 {
	r := rand.New(rand.NewPCG(20, 26))
	values := make([]float64, n)
	wander, burst := 0.0, 0.0
	for i := range values {
		base := 22 + 12*math.Sin(2*math.Pi*float64(i)/5760)
		wander = 0.995*wander + 0.2*r.NormFloat64()
		burst *= 0.6
		if r.IntN(700) == 0 {
			burst = 20 + 20*r.ExpFloat64()
		}
		v := base + wander + burst + 0.06*base*r.NormFloat64()
		values[i] = math.Round(10*min(max(v, 0), 100)) / 10
	}
	return values
}

// BenchmarkStep measures scoring and learning one sample after a day of them,
// and what a series costs in memory and in a snapshot.
func BenchmarkStep(b *testing.B) {
	values := hostSeries(1 << 15)
	for _, s := range everyModel() {
		b.Run(s.Model, func(b *testing.B) {
			m := mustNew(b, s)
			step := s.Step.Milliseconds()
			var at int64
			for _, v := range values {
				at += step
				detect.Step(m, at, v)
			}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				at += step
				detect.Step(m, at, values[i&(1<<15-1)])
				i++
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "samples/s")
			b.ReportMetric(float64(m.SizeBytes()), "B/series")
			b.ReportMetric(float64(len(m.AppendSnapshot(nil))), "B/snapshot")
		})
	}
}

// BenchmarkSnapshot measures writing a snapshot and restoring it.
func BenchmarkSnapshot(b *testing.B) {
	for _, s := range everyModel() {
		b.Run(s.Model, func(b *testing.B) {
			m, other := mustNew(b, s), mustNew(b, s)
			var at int64
			for _, v := range hostSeries(5000) {
				at += s.Step.Milliseconds()
				m.Learn(at, v)
			}
			var buffer []byte
			for b.Loop() {
				buffer = m.AppendSnapshot(buffer[:0])
				if err := other.Restore(buffer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
