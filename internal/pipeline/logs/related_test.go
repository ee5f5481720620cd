package logs

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"aiops/internal/model"
)

// QueryRange answers the queries of evidence from what was written.
func (f *fixture) QueryRange(_ context.Context, query string, start, end time.Time, _ time.Duration, _ int) ([]model.SeriesData, error) {
	metric, selector, _ := strings.Cut(query, "{")
	matchers, err := model.ParseSelector("{" + selector)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []model.SeriesData
	for key, samples := range f.samples {
		labels, err := model.ParseSeriesKey(key)
		if err != nil {
			return nil, err
		}
		fits := labels.Value(model.MetricName) == metric
		for _, m := range matchers {
			fits = fits && labels.Value(m.Name) == m.Value
		}
		if !fits {
			continue
		}
		one := model.SeriesData{Labels: labels}
		for at := start.UnixMilli(); at <= end.UnixMilli(); at += model.LogBucket.Milliseconds() {
			if v, ok := samples[at]; ok {
				one.Samples = append(one.Samples, model.Sample{T: at, V: v})
			}
		}
		out = append(out, one)
	}
	return out, nil
}

// Templates whose counts move with those of an anomaly are named with their
// correlation, in both directions; those that go their own way are not.
func TestTemplatesThatMoveTogether(t *testing.T) {
	t.Parallel()
	f := setup(t, Config{})
	second := 0
	say := func(service, level, message string, n int) {
		for range n {
			f.take(f.lines(service, level, message))
		}
	}
	step := func(burst bool) func() {
		return func() {
			second++
			say("cart", model.LevelInfo, "request served", 5+second%3)
			say("stock", model.LevelInfo, "cache refreshed at its usual time", 4+second*7%5)
			if burst {
				say("cart", model.LevelError, "store refused the connection", 20)
				say("payment", model.LevelError, "cart is away", 12)
			} else {
				say("cart", model.LevelError, "store refused the connection", 1)
				say("front", model.LevelInfo, "order taken", 15)
			}
		}
	}
	f.pass(15*time.Minute, step(false))
	opened := f.clock.Add(model.LogBucket)
	f.pass(time.Minute, step(true))
	resolved := f.clock
	f.pass(5*time.Minute, step(false))

	ids := map[string]string{}
	patterns, _, err := f.Patterns(context.Background(), model.LogPatternFilter{Limit: 100, Sort: "-count"})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range patterns {
		ids[p.Template] = p.ID
	}
	d := model.Detector{ID: "det", Name: "bursts", Source: model.BuiltinSource, Query: `{service="cart"}`, Step: model.LogBucket, Log: &model.LogRule{Kind: model.LogTemplate}}
	a := model.Anomaly{ID: "ano", DetectorID: "det", StartedAt: opened, PeakAt: opened, ResolvedAt: resolved,
		Series: model.LabelsFromMap(map[string]string{"service": "cart", "source": model.BuiltinSource, "level": "error", "template": ids["store refused the connection"]})}
	nothing := func(context.Context, string, string, model.LogFilter) ([]model.LogLine, string, error) {
		return nil, "", nil
	}
	e, err := f.FindEvidence(context.Background(), d, a, nothing, f)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, r := range e.Related {
		got[r.Text] = r.Correlation
	}
	if len(got) != 2 || got["cart is away"] < 0.95 || got["order taken"] > -0.95 {
		t.Errorf("what moved together: %v, want the errors of payment and, the other way, the orders of front", got)
	}
}

func TestCorrelation(t *testing.T) {
	t.Parallel()
	const large = 1e9
	for name, tc := range map[string]struct {
		x, y []float64
		want float64
	}{
		"the same":                 {[]float64{1, 2, 3}, []float64{1, 2, 3}, 1},
		"a multiple":               {[]float64{1, 2, 3}, []float64{10, 20, 30}, 1},
		"the other way":            {[]float64{1, 2, 3}, []float64{3, 2, 1}, -1},
		"nothing in common":        {[]float64{1, 2, 1, 2}, []float64{1, 1, 2, 2}, 0},
		"one that does not vary":   {[]float64{1, 2, 3}, []float64{7, 7, 7}, 0},
		"constant, but for digits": {[]float64{1, 2, 3}, []float64{large / 3, large / 3, large / 3}, 0},
		"large, varying by little": {[]float64{large, large + 1, large + 2}, []float64{1, 2, 3}, 1},
		"none":                     {nil, nil, 0},
	} {
		if got := correlation(tc.x, tc.y); math.Abs(got-tc.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
	if s := fmt.Sprint(correlation([]float64{0, 1}, []float64{0, 1})); s != "1" { // a control of the tolerance above
		t.Errorf("two points: %s", s)
	}
}
