package builtin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"aiops/internal/model"
)

// setup opens a source that watches neither this process nor the host.
func setup(t testing.TB, change func(*Config), gatherers ...prometheus.Gatherer) *Source {
	t.Helper()
	s := open(t, t.TempDir(), change, gatherers...)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// open opens a source in dir, for the caller to close.
func open(t testing.TB, dir string, change func(*Config), gatherers ...prometheus.Gatherer) *Source {
	t.Helper()
	cfg := Config{Dir: dir, Instance: "test", Host: HostConfig{Disabled: true}}
	if change != nil {
		change(&cfg)
	}
	s, err := Open(cfg, slog.New(slog.NewTextHandler(io.Discard, nil)), prometheus.NewRegistry(), gatherers...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// run runs a source until the returned function is called.
func run(t testing.TB, s *Source) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// eventually waits until check returns "" and fails with what it says otherwise.
func eventually(t testing.TB, check func() string) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		said := check()
		if said == "" {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal(said)
		}
	}
}

func series(name, instance string, timesAndValues ...float64) model.SeriesData {
	d := model.SeriesData{Labels: model.LabelsFromMap(map[string]string{"__name__": name, "instance": instance})}
	for i := 0; i+1 < len(timesAndValues); i += 2 {
		d.Samples = append(d.Samples, model.Sample{T: int64(timesAndValues[i]), V: timesAndValues[i+1]})
	}
	return d
}

func show(answer []model.SeriesData) string {
	var b strings.Builder
	for _, s := range answer {
		b.WriteString(s.Labels.Value("instance"))
		for _, p := range s.Samples {
			fmt.Fprintf(&b, " %d=%g", p.T, p.V)
		}
		b.WriteString("; ")
	}
	return strings.TrimSuffix(b.String(), "; ")
}

func millis(ms int64) time.Time { return time.UnixMilli(ms) }

func TestAppendAndQuery(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := setup(t, nil)
	err := s.Append(ctx, []model.SeriesData{
		series("x", "a", 1000, 1, 2000, 2, 3000, math.NaN(), 4000, math.Inf(1)),
		series("x", "b", 1000, 10, 3000, 30),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		query            string
		start, end, step int64
		wants            string
	}{
		{"x", 1000, 4000, 1000, "a 1000=1 2000=2 3000=NaN 4000=+Inf; b 1000=10 2000=10 3000=30 4000=30"},
		{"x", 2000, 2000, 1000, "a 2000=2; b 2000=10"},
		{"x", 2000, 2999, 1000, "a 2000=2; b 2000=10"},
		{`x{instance="b"}`, 3000, 4000, 500, "b 3000=30 3500=30 4000=30"},
		{"sum(x)", 2000, 2000, 1000, " 2000=12"},
		{"scalar(sum(x))", 1000, 2000, 1000, " 1000=11 2000=12"},
		{"7", 1000, 1000, 1000, " 1000=7"},
		{"nothing", 1000, 4000, 1000, ""},
		{"rate(x[2s])", 2000, 2000, 1000, "a 2000=1"},
	} {
		got, err := s.QueryRange(ctx, tc.query, millis(tc.start), millis(tc.end), time.Duration(tc.step)*time.Millisecond, 0)
		if err != nil {
			t.Errorf("%s: %v", tc.query, err)
		}
		if show(got) != tc.wants {
			t.Errorf("%s: %q, want %q", tc.query, show(got), tc.wants)
		}
	}
	now, err := s.Query(ctx, "x", millis(2500), 0)
	if err != nil || show(now) != "a 2500=2; b 2500=10" {
		t.Errorf("instant query: %q, %v", show(now), err)
	}
}

// A single step takes a quicker way through the engine; it must give the same.
func TestOneStepEqualsManySteps(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := setup(t, nil)
	var data []model.SeriesData
	for i := range 20 {
		d := series("x", fmt.Sprint(i))
		for at := range int64(100) {
			d.Samples = append(d.Samples, model.Sample{T: at * 5000, V: float64(at*int64(i)) / 3})
		}
		data = append(data, d)
	}
	if err := s.Append(ctx, data); err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{"x", "rate(x[1m])", "sum(x)", "topk(3, x)", "x / on (instance) x", "quantile(0.9, x)", "x offset 30s", "count_over_time(x[5m:10s])", "scalar(sum(x))", "absent(x)", "time()"} {
		whole, err := s.QueryRange(ctx, query, millis(200_000), millis(300_000), 10*time.Second, 0)
		if err != nil {
			t.Fatal(err)
		}
		for at := int64(200_000); at <= 300_000; at += 10_000 {
			one, err := s.QueryRange(ctx, query, millis(at), millis(at), 10*time.Second, 0)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]float64{}
			for _, d := range whole {
				for _, p := range d.Samples {
					if p.T == at {
						want[d.Labels.Key()] = p.V
					}
				}
			}
			if len(one) != len(want) {
				t.Fatalf("%s at %d: %d series, want %d", query, at, len(one), len(want))
			}
			for _, d := range one {
				v := want[d.Labels.Key()]
				if got := d.Samples[0]; got.V != v && !(math.IsNaN(v) && math.IsNaN(got.V)) || got.T != at {
					t.Fatalf("%s at %d: %s is %v, want %v", query, at, d.Labels, d.Samples, v)
				}
			}
		}
	}
}

// Stale markers end a series and never come out.
func TestStaleMarkers(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := setup(t, nil)
	if err := s.Append(ctx, []model.SeriesData{series("x", "a", 1000, 1, 2000, staleMarker, 4000, 4)}); err != nil {
		t.Fatal(err)
	}
	got, err := s.QueryRange(ctx, "x", millis(1000), millis(4000), time.Second, 0)
	if err != nil || show(got) != "a 1000=1 4000=4" {
		t.Errorf("%q, %v", show(got), err)
	}
	got, err = s.QueryRange(ctx, "x", millis(2000), millis(2000), time.Second, 0)
	if err != nil || len(got) != 0 {
		t.Errorf("at the marker: %q, %v", show(got), err)
	}
}

func TestQueryErrors(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := setup(t, func(c *Config) { c.Query.MaxSamples, c.Query.MaxSeries = 1000, 50 })
	var data []model.SeriesData
	for i := range 60 {
		data = append(data, series("x", fmt.Sprint(i), 1000, 1))
	}
	if err := s.Append(ctx, data); err != nil {
		t.Fatal(err)
	}
	expired, cancel := context.WithDeadline(ctx, time.Unix(0, 0))
	defer cancel()
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	for _, tc := range []struct {
		name, query string
		ctx         context.Context
		end         int64
		max         int
		kind        model.Kind
		wants       string
	}{
		{"syntax", "x{", ctx, 1000, 0, model.KindQuery, "line 1, column 3"},
		{"type", "x[1m]", ctx, 1000, 0, model.KindQuery, "wrap it in a function"},
		{"cap of the source", "x", ctx, 1000, 0, model.KindQuery, "yields 60 series; at most 50"},
		{"cap of the caller", "x", ctx, 1000, 10, model.KindQuery, "yields 60 series; at most 10"},
		{"a caller cannot raise the cap", "x", ctx, 2000, 1000, model.KindQuery, "yields 60 series; at most 50"},
		{"samples", "x", ctx, 100_000, 0, model.KindQuery, "more than 1000 samples"},
		{"matching", "x + on () x", ctx, 1000, 0, model.KindQuery, "cannot be evaluated"},
		{"backward", "x", ctx, 0, 0, model.KindQuery, "before it starts"},
		{"deadline", "x", expired, 1000, 0, model.KindTimeout, "the caller allowed"},
		{"cancelled", "x", cancelled, 1000, 0, model.KindInternal, "context canceled"},
	} {
		_, err := s.QueryRange(tc.ctx, tc.query, millis(1000), millis(tc.end), time.Second, tc.max)
		if model.KindOf(err) != tc.kind || err == nil || !strings.Contains(err.Error(), tc.wants) {
			t.Errorf("%s: %v of kind %q, want %q with %q", tc.name, err, model.KindOf(err), tc.kind, tc.wants)
		}
		if tc.name == "cancelled" && !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v hides the cause", err)
		}
	}
}

// A query that would run for long ends soon after its caller gives up, or after
// the timeout.
func TestQueriesEnd(t *testing.T) {
	t.Parallel()
	s := setup(t, func(c *Config) { c.Query.Timeout = model.Duration(200 * time.Millisecond) })
	data := series("x", "a")
	for at := range int64(20_000) {
		data.Samples = append(data.Samples, model.Sample{T: at * 1000, V: float64(at)})
	}
	if err := s.Append(context.Background(), []model.SeriesData{data}); err != nil {
		t.Fatal(err)
	}
	heavy := "quantile_over_time(0.9, x[5h:1s])"
	ask := func(ctx context.Context) (time.Duration, error) {
		begin := time.Now()
		_, err := s.QueryRange(ctx, heavy, millis(18_000_000), millis(20_000_000), time.Second, 0)
		return time.Since(begin), err
	}
	took, err := ask(context.Background())
	if model.KindOf(err) != model.KindTimeout || took > 2*time.Second {
		t.Errorf("after %s: %v, want a timeout soon after 200 ms", took, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if took, err := ask(ctx); model.KindOf(err) != model.KindTimeout || took > 2*time.Second {
		t.Errorf("after %s: %v, want the caller's timeout", took, err)
	}
	if n := s.slots.used(); n != 0 {
		t.Errorf("%d queries still run", n)
	}
}

func TestSeriesCap(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := setup(t, func(c *Config) { c.MaxSeries = 10 })
	many := func(n int, at, v float64) (all []model.SeriesData) {
		for i := range n {
			all = append(all, series("x", fmt.Sprint(i), at, v))
		}
		return all
	}
	if err := s.Append(ctx, many(10, 1000, 1)); err != nil {
		t.Fatal(err)
	}
	err := s.Append(ctx, many(25, 2000, 2))
	var e *model.Error
	if !errors.As(err, &e) || e.Context["series_limit"] != 15 {
		t.Fatalf("%v, want 15 samples refused by the limit on series", err)
	}
	got, err := s.Query(ctx, "x == 2", millis(2000), 0)
	if err != nil || len(got) != 10 {
		t.Errorf("%d known series got their sample (%v), want 10", len(got), err)
	}
	if n := testutil.ToFloat64(s.metrics.refused.WithLabelValues(originProgram, "series_limit")); n != 15 {
		t.Errorf("%v samples counted as refused, want 15", n)
	}
}

func TestSamplesOutOfOrder(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := setup(t, func(c *Config) { c.OutOfOrderWindow = model.Duration(time.Hour) })
	hour := float64(time.Hour / time.Millisecond)
	if err := s.Append(ctx, []model.SeriesData{series("x", "a", 10*hour, 10)}); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(ctx, []model.SeriesData{series("x", "a", 9.5*hour, 9)}); err != nil {
		t.Errorf("half an hour back: %v", err)
	}
	err := s.Append(ctx, []model.SeriesData{series("x", "a", 8*hour, 8, 10*hour+1000, 11)})
	var e *model.Error
	if !errors.As(err, &e) || e.Context["too_old"] != 1 || !strings.Contains(e.Message, "1 are older than the out-of-order window") {
		t.Errorf("two hours back: %v, want one sample refused", err)
	}
	got, err := s.Query(ctx, "count_over_time(x[2h])", millis(int64(10*hour)+1000), 0)
	if err != nil || len(got) != 1 || got[0].Samples[0].V != 3 {
		t.Errorf("stored %v, %v, want 3 samples", got, err)
	}
}

func TestMetricsAreTakenBack(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	dir := t.TempDir()
	for range 2 {
		s, err := Open(Config{Dir: dir, Host: HostConfig{Disabled: true}}, slog.New(slog.DiscardHandler), reg)
		if err != nil {
			t.Fatal(err)
		}
		if problems, err := testutil.GatherAndLint(reg, "aiops_source_builtin_series", "aiops_source_builtin_queries_total", "aiops_source_health"); len(problems) > 0 || err != nil {
			t.Errorf("lint: %v, %v", problems, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if n, err := testutil.GatherAndCount(reg); n != 0 || err != nil {
			t.Errorf("%d metrics stay after Close: %v", n, err)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	if err := (Config{Dir: "x"}).Validate(); err != nil {
		t.Errorf("the defaults are invalid: %v", err)
	}
	var e *model.Error
	err := Config{
		Interval: -1, RetentionTime: model.Duration(time.Minute), MaxSeries: -1,
		Targets: []Target{
			{Job: "node", URLs: []string{"ftp://x", "http://u:hunter2@h", "http://"}},
			{Job: "a", URLs: []string{"http://x"}, Timeout: model.Duration(time.Hour), BearerToken: "x", Username: "y"},
			{Job: "a", Labels: map[string]string{"__x": "1"}, Headers: map[string]model.Secret{"a b": "c"}, TLS: model.TLSOptions{KeyFile: "k"}},
			{},
		},
	}.Validate()
	if !errors.As(err, &e) || e.Kind != model.KindInvalid {
		t.Fatalf("%v, want KindInvalid", err)
	}
	got := map[string]bool{}
	for _, f := range e.Fields {
		got[f.Pointer] = true
		if strings.Contains(f.Detail, "hunter2") {
			t.Errorf("the error tells a password: %s", f.Detail)
		}
	}
	for _, want := range []string{
		"/dir", "/interval", "/retention_time", "/max_series", "/targets/0/job", "/targets/0/urls/0", "/targets/0/urls/1", "/targets/0/urls/2",
		"/targets/1/timeout", "/targets/1", "/targets/2/job", "/targets/2/urls", "/targets/2/labels/__x", "/targets/2/headers/a b", "/targets/2/tls", "/targets/3/job",
	} {
		if !got[want] {
			t.Errorf("no fault at %s; got %v", want, e.Fields)
		}
	}
}
