package builtin

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"golang.org/x/sys/unix"

	"aiops/internal/model"
)

// processor says how much processor time this process has used, which other
// work on the machine does not blur as it does the time on the clock.
func processor(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measure runs a benchmark's loop and reports processor time as well.
func measure(b *testing.B, step func()) {
	b.Helper()
	b.ReportAllocs()
	begin := processor(b)
	for b.Loop() {
		step()
	}
	b.ReportMetric(float64((processor(b)-begin).Microseconds())/1000/float64(b.N), "cpu-ms/op")
}

// wide makes n series with the labels of a usual exporter.
func wide(n int) []labels.Labels {
	all := make([]labels.Labels, n)
	for i := range all {
		all[i] = labels.FromStrings("__name__", "http_requests_total", "instance", fmt.Sprintf("10.0.%d.%d:9090", i>>8&255, i&255),
			"job", "api", "method", "GET", "path", fmt.Sprintf("/p/%d", i), "status", "200")
	}
	return all
}

// loaded opens a source with n series of the given number of samples, 15 s apart.
func loaded(b *testing.B, n, samples int) (*Source, int64) {
	b.Helper()
	s := setup(b, nil)
	all := wide(n)
	refs := make([]storage.SeriesRef, n)
	var t int64
	for i := range samples {
		t = 1_700_000_000_000 + int64(i)*15_000
		app := s.db.AppenderV2(context.Background())
		for j, ls := range all {
			ref, err := app.Append(refs[j], ls, 0, t, float64(i*j), nil, nil, storage.AOptions{})
			if err != nil {
				b.Fatal(err)
			}
			refs[j] = ref
		}
		if err := app.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	return s, t
}

func BenchmarkQueryOneStep(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		s, t := loaded(b, n, 20)
		for _, query := range []string{"http_requests_total", "rate(http_requests_total[2m])", "sum by (status) (rate(http_requests_total[2m]))"} {
			b.Run(fmt.Sprintf("%s/series=%d", query, n), func(b *testing.B) {
				measure(b, func() {
					got, err := s.QueryRange(context.Background(), query, time.UnixMilli(t), time.UnixMilli(t), 15*time.Second, 0)
					if err != nil || len(got) != n && len(got) != 1 {
						b.Fatal(len(got), err)
					}
				})
				b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "series/s")
			})
		}
	}
}

func BenchmarkQueryManySteps(b *testing.B) {
	s, t := loaded(b, 1_000, 240)
	for _, query := range []string{"http_requests_total", "rate(http_requests_total[2m])"} {
		b.Run(query, func(b *testing.B) {
			measure(b, func() {
				got, err := s.QueryRange(context.Background(), query, time.UnixMilli(t-3_000_000), time.UnixMilli(t), 15*time.Second, 0)
				if err != nil || len(got) != 1_000 {
					b.Fatal(len(got), err)
				}
			})
			b.ReportMetric(1_000*201*float64(b.N)/b.Elapsed().Seconds(), "samples/s")
		})
	}
}

// Known series, as scrapes and rounds append them.
func BenchmarkAppendKnown(b *testing.B) {
	const n = 100_000
	s, t := loaded(b, n, 1)
	all := wide(n)
	refs := make([]storage.SeriesRef, n)
	measure(b, func() {
		t += 15_000
		app := writer{s, originTarget}.appender(context.Background())
		for j, ls := range all {
			ref, err := app.Append(refs[j], ls, 0, t, float64(t), nil, nil, storage.AOptions{})
			if err != nil {
				b.Fatal(err)
			}
			refs[j] = ref
		}
		if err := app.Commit(); err != nil {
			b.Fatal(err)
		}
	})
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "samples/s")
}

func BenchmarkRemoteWrite(b *testing.B) {
	const n = 2_000
	for _, v := range []struct {
		name, kind string
		message    func(...model.SeriesData) []byte
	}{{"1.0", type1, message1}, {"2.0", type2, message2}} {
		b.Run(v.name, func(b *testing.B) {
			s := setup(b, nil)
			t := time.Now().UnixMilli() - 3_600_000
			var all []model.SeriesData
			for _, ls := range wide(n) {
				all = append(all, model.SeriesData{Labels: model.LabelsFromMap(ls.Map()), Samples: []model.Sample{{}}})
			}
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				t += 100
				for i := range all {
					all[i].Samples[0] = model.Sample{T: t, V: float64(i)}
				}
				body := snappy.Encode(nil, v.message(all...))
				b.StartTimer()
				if w := post(s, v.kind, body); w.Code != 204 {
					b.Fatal(w.Code, w.Body)
				}
			}
			b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "samples/s")
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{2_000, 100_000} {
		b.Run(fmt.Sprintf("series=%d", n), func(b *testing.B) {
			dir := b.TempDir()
			s := open(b, dir, nil)
			for i := range 20 {
				app := s.db.AppenderV2(context.Background())
				for _, ls := range wide(n) {
					if _, err := app.Append(0, ls, 0, int64(1_700_000_000_000+i*15_000), 1, nil, nil, storage.AOptions{}); err != nil {
						b.Fatal(err)
					}
				}
				if err := app.Commit(); err != nil {
					b.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			measure(b, func() {
				if err := open(b, dir, nil).Close(); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

func BenchmarkHostRound(b *testing.B) {
	s := setup(b, func(c *Config) { c.Host = HostConfig{} })
	done := make(chan reading, len(s.collectors))
	t := int64(1_700_000_000_000)
	var round uint64
	measure(b, func() {
		t += 5000
		round++
		s.round(context.Background(), t, round, done)
	})
}
