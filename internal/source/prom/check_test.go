package prom

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"aiops/internal/model"
)

// scriptedSource answers the freshness query as its mode says.
type scriptedSource struct {
	mode   atomic.Value // up, down or old
	newest atomic.Int64 // milliseconds
}

func (s *scriptedSource) handle(w http.ResponseWriter, r *http.Request) {
	switch s.mode.Load() {
	case "down":
		http.Error(w, "", 503)
	case "old":
		sendJSON(w, 200, fmt.Sprintf(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[%s,"%.3f"]}]}}`, r.PostFormValue("time"), float64(s.newest.Load())/1000))
	default:
		s.newest.Store(time.Now().UnixMilli())
		sendJSON(w, 200, fmt.Sprintf(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[%s,"%.3f"]}]}}`, r.PostFormValue("time"), float64(s.newest.Load())/1000))
	}
}

// Run finds out by itself that a source goes down, comes back, and that its
// data stops; listeners hear of each.
func TestRunFollowsTheSource(t *testing.T) {
	t.Parallel()
	src := &scriptedSource{}
	src.mode.Store("up")
	f := serve(t, src.handle)
	c := connect(t, f.URL, func(c *Config) {
		c.CheckInterval, c.Interval = 10*time.Millisecond, 2*time.Second
	})
	heard := make(chan model.HealthState, 16)
	c.OnHealthChange(func(_, now model.SourceHealth) { heard <- now.State })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	expect := func(want model.HealthState) {
		t.Helper()
		select {
		case got := <-heard:
			if got != want {
				t.Fatalf("heard %s, want %s", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("never heard %s; the health is %+v", want, c.Health())
		}
	}
	expect(model.SourceUp)
	src.mode.Store("down")
	expect(model.SourceDown)
	src.mode.Store("up")
	expect(model.SourceUp)
	src.mode.Store("old")
	expect(model.SourceStale)
	src.mode.Store("up")
	expect(model.SourceUp)
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run ended with %v", err)
	}
}

func TestCheckOpensTheWayForQueries(t *testing.T) {
	t.Parallel()
	src := &scriptedSource{}
	src.mode.Store("down")
	f := serve(t, src.handle)
	c := connect(t, f.URL, nil)
	for range 10 {
		_, _ = c.Query(context.Background(), "up", t0, 0)
	}
	if got := c.Details()["breaker"]; got != "open" {
		t.Fatalf("breaker %v after ten failures", got)
	}
	if sent := f.requests.Load(); sent >= 10 {
		t.Errorf("%d requests for ten calls, want fewer", sent)
	}
	src.mode.Store("up")
	if _, err := c.Query(context.Background(), "up", t0, 0); model.KindOf(err) != model.KindSourceUnavailable {
		t.Errorf("while the breaker is open: %v", err)
	}
	if err := c.Check(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Query(context.Background(), "up", t0, 0); err != nil {
		t.Errorf("after a good check: %v", err)
	}
}

func TestCheckOfASourceWithoutUp(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"nothing":       `{"status":"success","data":{"resultType":"vector","result":[]}}`,
		"not a time":    `{"status":"success","data":{"resultType":"scalar","result":[1,"NaN"]}}`,
		"a future time": `{"status":"success","data":{"resultType":"scalar","result":[1,"99999999999"]}}`,
	} {
		f := serve(t, func(w http.ResponseWriter, _ *http.Request) { sendJSON(w, 200, body) })
		c := connect(t, f.URL, nil)
		if err := c.Check(context.Background()); err != nil || c.Health().State != model.SourceUp {
			t.Errorf("%s: %v, %+v, want up without knowing how new its data is", name, err, c.Health())
		}
	}
	refusing := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		sendJSON(w, 422, `{"status":"error","errorType":"execution","error":"too many series"}`)
	})
	c := connect(t, refusing.URL, nil)
	if err := c.Check(context.Background()); err != nil || c.Health().State != model.SourceUp {
		t.Errorf("a refused question: %v, %+v, want up", err, c.Health())
	}
}
