package builtin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
)

// quick makes rounds every second.
func quick(c *Config) { c.Interval = model.Duration(time.Second) }

func TestOwnMetricsAreScraped(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "jobs_total", Help: "x"}, []string{"job", "kind"})
	histogram := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "latency_seconds", Help: "x", Buckets: []float64{0.5, 1}, NativeHistogramBucketFactor: 1.1})
	summary := prometheus.NewSummary(prometheus.SummaryOpts{Name: "size_bytes", Help: "x", Objectives: map[float64]float64{0.5: 0.1, 1: 0}})
	reg.MustRegister(counter, histogram, summary)
	counter.WithLabelValues("a", "b").Add(3)
	histogram.Observe(0.7)
	histogram.Observe(7)
	summary.Observe(5)
	s := setup(t, quick, reg)
	run(t, s)
	ctx := context.Background()
	eventually(t, func() string {
		if got := s.Health().State; got != model.SourceUp {
			return fmt.Sprintf("the health is %s", got)
		}
		return ""
	})
	newest := s.tracker.Health().CheckedAt.Truncate(time.Second)
	for query, want := range map[string]float64{
		`jobs_total{job="aiops", instance="test", exported_job="a", kind="b"}`: 3,
		`latency_seconds_bucket{le="0.5"}`:                                     0,
		`latency_seconds_bucket{le="1.0"}`:                                     1,
		`latency_seconds_bucket{le="+Inf"}`:                                    2,
		`latency_seconds_count`:                                                2,
		`size_bytes{quantile="1.0"}`:                                           5,
		`size_bytes_sum`:                                                       5,
		`up{job="aiops"}`:                                                      1,
		`scrape_samples_scraped{job="aiops"}`:                                  10,
		`timestamp(up{job="aiops"}) % 1`:                                       0, // aligned
	} {
		got, err := s.Query(ctx, query, newest, 0)
		if err != nil || len(got) != 1 || got[0].Samples[0].V != want {
			t.Errorf("%s: %v, %v, want %v", query, got, err, want)
		}
	}
	list, err := s.Collectors(ctx)
	if err != nil || len(list) != 2 || list[0].Name != "process" || list[0].State != model.CollectorUp || list[0].Samples != 10 || list[0].LastScrape.IsZero() {
		t.Errorf("collectors %+v, %v", list, err)
	}
}

// A series that is gone, and all of a collector that fails, end at once.
func TestSeriesThatEnd(t *testing.T) {
	t.Parallel()
	s := setup(t, nil)
	var broken atomic.Bool
	var values atomic.Int64
	values.Store(2)
	s.collectors = []*collector{newCollector("host/x", "host", jobHost, originHost, 10, func(e *emitter) error {
		if broken.Load() {
			return errors.New("no such device")
		}
		for i := range values.Load() {
			e.emit("x", float64(i), "n", fmt.Sprint(i))
		}
		return nil
	})}
	done := make(chan reading, 1)
	ctx := context.Background()
	seen := func(at int64) string {
		got, err := s.Query(ctx, "count(x) or vector(0)", time.UnixMilli(at), 0)
		if err != nil {
			t.Fatal(err)
		}
		success, err := s.Query(ctx, "node_scrape_collector_success", time.UnixMilli(at), 0)
		if err != nil || len(success) != 1 {
			t.Fatal(success, err)
		}
		return fmt.Sprintf("%v series, success %v, %s", got[0].Samples[0].V, success[0].Samples[0].V, s.collectors[0].status().State)
	}
	step := func(round uint64, wants string) {
		t.Helper()
		at := int64(round) * 5000
		s.round(ctx, at, round, done)
		if got := seen(at); got != wants {
			t.Errorf("round %d: %s, want %s", round, got, wants)
		}
	}
	step(1, "2 series, success 1, up")
	values.Store(1)
	step(2, "1 series, success 1, up")
	broken.Store(true)
	step(3, "0 series, success 0, down")
	broken.Store(false)
	values.Store(50)
	step(4, "10 series, success 1, up")
	if said := s.collectors[0].status().Error; !strings.Contains(said, "some were dropped") {
		t.Errorf("a collector beyond its limit says %q", said)
	}
}

// A collector that hangs is left alone, marked down, and taken up again when it
// returns; the others go on in every round.
func TestCollectorsThatHang(t *testing.T) {
	t.Parallel()
	s := setup(t, func(c *Config) { c.LateData = model.Duration(200 * time.Millisecond) })
	release := make(chan struct{})
	var calls atomic.Int64
	s.collectors = []*collector{
		newCollector("host/good", "host", jobHost, originHost, 10, func(e *emitter) error { e.emit("good", 1); return nil }),
		newCollector("host/hung", "host", jobHost, originHost, 10, func(e *emitter) error {
			calls.Add(1)
			<-release
			e.emit("hung", 1)
			return nil
		}),
	}
	done := make(chan reading, 2)
	ctx := context.Background()
	count := func(query string, round int64) int {
		got, err := s.Query(ctx, query, time.UnixMilli(round*5000), 0)
		if err != nil {
			t.Fatal(err)
		}
		return len(got)
	}
	for round := int64(1); round <= 3; round++ {
		begin := time.Now()
		s.round(ctx, round*5000, uint64(round), done)
		if took := time.Since(begin); round > 1 && took > s.roundTime() {
			t.Errorf("round %d took %s with a collector that hangs", round, took)
		}
		if count("good", round) != 1 || count("hung", round) != 0 {
			t.Errorf("round %d has not the good collector's sample alone", round)
		}
		if st := s.collectors[1].status(); st.State != model.CollectorDown {
			t.Errorf("round %d: the hung collector is %+v", round, st)
		}
	}
	if calls.Load() != 1 {
		t.Errorf("the hung collector was started %d times", calls.Load())
	}
	close(release)
	late := <-done // what it read is too old to count
	done <- late
	s.round(ctx, 20_000, 4, done)
	if count("good", 4) != 1 || count("hung", 4) != 0 {
		t.Error("what came too late took the place of what is on time")
	}
	s.round(ctx, 25_000, 5, done)
	if count("hung", 5) != 1 || calls.Load() < 2 {
		t.Errorf("the collector is not taken up again after %d calls", calls.Load())
	}
}

func TestHealthWithoutAnythingToScrape(t *testing.T) {
	t.Parallel()
	s := setup(t, quick)
	if got := s.Health().State; got != model.SourceUnknown {
		t.Errorf("health %s before Run, want unknown", got)
	}
	run(t, s)
	eventually(t, func() string {
		if got := s.Health().State; got != model.SourceUp {
			return fmt.Sprintf("the health is %s", got)
		}
		return ""
	})
}
