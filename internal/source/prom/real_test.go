package prom

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"aiops/internal/model"
	"aiops/internal/testkit"
)

// history is an hour of two series at 15 s, in OpenMetrics.
func history() string {
	var b strings.Builder
	b.WriteString("# TYPE shop_queue gauge\n")
	for _, instance := range []string{"a", "b"} {
		for i := range 240 {
			v := fmt.Sprint(i)
			if i == 100 {
				v = "NaN"
			}
			fmt.Fprintf(&b, "shop_queue{instance=%q,odd=\"\\\"ü\\n\"} %s %d\n", instance, v, t0.Unix()+int64(i*15))
		}
	}
	b.WriteString("# EOF\n")
	return b.String()
}

func TestRealPrometheus(t *testing.T) {
	t.Parallel()
	p := testkit.RequirePrometheus(t, testkit.PrometheusOptions{OpenMetrics: history()})
	c := connect(t, p.URL(), nil)
	ctx := context.Background()

	got, err := c.QueryRange(ctx, "shop_queue", t0, t0.Add(time.Hour-15*time.Second), 15*time.Second, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || len(got[0].Samples) != 240 || len(got[1].Samples) != 240 {
		t.Fatalf("%d series, want 2 of 240 samples", len(got))
	}
	want := model.LabelsFromMap(map[string]string{"__name__": "shop_queue", "instance": "a", "odd": "\"ü\n"})
	if got[0].Labels.Key() != want.Key() {
		t.Errorf("labels %s, want %s", got[0].Labels, want)
	}
	for i, s := range got[0].Samples {
		if s.T != t0.UnixMilli()+int64(i)*15_000 || s.V != float64(i) && !(i == 100 && math.IsNaN(s.V)) {
			t.Fatalf("sample %d is %+v", i, s)
		}
	}

	now, err := c.Query(ctx, "sum(shop_queue)", t0.Add(150*time.Second), 0)
	if err != nil || len(now) != 1 || now[0].Samples[0].V != 20 || len(now[0].Labels) != 0 {
		t.Errorf("instant query: %v, %v, want one series of 20", now, err)
	}
	if got, err := c.Query(ctx, "nothing", t0, 0); err != nil || len(got) != 0 {
		t.Errorf("a query of nothing: %v, %v", got, err)
	}
	if got, err := c.Query(ctx, "scalar(sum(shop_queue))", t0.Add(150*time.Second), 0); err != nil || len(got) != 1 || got[0].Samples[0].V != 20 {
		t.Errorf("scalar: %v, %v", got, err)
	}
	_, err = c.QueryRange(ctx, "shop_queue", t0, t0, time.Second, 1)
	requireError(t, err, model.KindQuery, "yields 2 series; at most 1 are allowed")
	_, err = c.Query(ctx, "shop_queue + on () shop_queue", t0.Add(150*time.Second), 0)
	requireError(t, err, model.KindQuery, "the source refuses the query: found duplicate series")
}

// A server is frozen, killed and started again; the client's health follows and
// queries recover, without help.
func TestRealPrometheusComesAndGoes(t *testing.T) {
	t.Parallel()
	p := testkit.RequirePrometheus(t, testkit.PrometheusOptions{OpenMetrics: history()})
	c := connect(t, p.URL(), func(c *Config) {
		c.Source.Timeout = 500 * time.Millisecond
		c.CheckInterval = 50 * time.Millisecond
	})
	heard := make(chan model.SourceHealth, 16)
	c.OnHealthChange(func(_, now model.SourceHealth) { heard <- now })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = c.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	expect := func(want model.HealthState) model.SourceHealth {
		t.Helper()
		select {
		case h := <-heard:
			if h.State != want {
				t.Fatalf("heard %+v, want %s", h, want)
			}
			return h
		case <-time.After(30 * time.Second):
			t.Fatalf("never heard %s; the health is %+v", want, c.Health())
			return model.SourceHealth{}
		}
	}
	query := func() error {
		_, err := c.Query(ctx, "shop_queue", t0, 0)
		return err
	}
	expect(model.SourceUp)
	if err := query(); err != nil {
		t.Fatal(err)
	}

	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	if h := expect(model.SourceDown); !strings.Contains(h.LastError, "did not answer within") {
		t.Errorf("frozen: %+v", h)
	}
	requireError(t, query(), model.KindSourceUnavailable, "")
	if err := p.Thaw(); err != nil {
		t.Fatal(err)
	}
	expect(model.SourceUp)
	if err := query(); err != nil {
		t.Errorf("after the thaw: %v", err)
	}

	p.Kill()
	if h := expect(model.SourceDown); !strings.Contains(h.LastError, "refuses the connection") && !strings.Contains(h.LastError, "broke") {
		t.Errorf("killed: %+v", h)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	expect(model.SourceUp)
	if err := query(); err != nil {
		t.Errorf("after the restart: %v", err)
	}
}

// A server that scrapes knows its targets and how new its data is.
func TestRealPrometheusScrapes(t *testing.T) {
	t.Parallel()
	exporter := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "a 1") })
	p := testkit.RequirePrometheus(t, testkit.PrometheusOptions{Config: fmt.Sprintf(
		"global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n- job_name: good\n  static_configs: [{targets: [%q]}]\n- job_name: bad\n  static_configs: [{targets: ['127.0.0.1:1']}]\n",
		strings.TrimPrefix(exporter.URL, "http://"))})
	c := connect(t, p.URL(), nil)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		states := map[string]model.CollectorState{}
		list, err := c.Collectors(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, col := range list {
			name, _, _ := strings.Cut(col.Name, "/")
			states[name] = col.State
		}
		if states["good"] == model.CollectorUp && states["bad"] == model.CollectorDown {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the targets stay at %v", states)
		}
	}
	if err := c.Check(ctx); err != nil {
		t.Fatal(err)
	}
	now, err := c.Query(ctx, "max(timestamp(up))", time.Now(), 0)
	if err != nil || len(now) != 1 {
		t.Fatalf("%v, %v", now, err)
	}
	if age := time.Since(newestSample(now, time.Now())); age > 5*time.Second {
		t.Errorf("the newest sample is %s old", age)
	}
}
