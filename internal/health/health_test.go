package health_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"aiops/internal/health"
)

func healthy(context.Context) health.Result {
	return health.Result{State: health.Healthy, Message: "fine"}
}

func TestAHungCheckIsUnhealthyAndHangsNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var changes []health.Change
		m := health.NewMonitor(health.Config{OnChange: func(c health.Change) { changes = append(changes, c) }}, []health.Check{
			{Name: "database", Critical: true, Run: func(ctx context.Context) health.Result {
				<-ctx.Done()
				time.Sleep(time.Hour)
				return health.Result{State: health.Healthy}
			}},
			{Name: "prometheus", Run: healthy},
		})
		ctx, cancel := context.WithCancel(t.Context())
		go m.Run(ctx)
		if s := m.Report().Status; s != health.Unknown {
			t.Errorf("before the first check the program is %s, want unknown", s)
		}
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if c, _ := m.Component("database"); c.Status != health.Degraded {
			t.Errorf("a check that takes long is %s, want degraded", c.Status)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		r := m.Report()
		if r.Status != health.Unhealthy || r.Components[0].Status != health.Unhealthy || r.Components[1].Status != health.Healthy {
			t.Errorf("report = %+v", r)
		}
		cancel()
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if len(changes) != 3 || len(m.History()) != 3 {
			t.Errorf("changes = %+v", changes)
		}
	})
}

// A database that answers after 1.5 s is slow, also for who is told of it; one that
// then does not answer is unhealthy although who is told waits for it.
func TestASlowCheckIsDegraded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var takes atomic.Int64
		takes.Store(int64(1500 * time.Millisecond))
		ctx, cancel := context.WithCancel(t.Context())
		m := health.NewMonitor(health.Config{OnChange: func(health.Change) { time.Sleep(5 * time.Second) }}, []health.Check{
			{Name: "database", Critical: true, Run: func(ctx context.Context) health.Result {
				time.Sleep(time.Duration(takes.Load()))
				return healthy(ctx)
			}},
		})
		go m.Run(ctx)
		for second := range 10 { // at half past it
			time.Sleep(500 * time.Millisecond)
			if s := m.Report().Status; second > 0 && s != health.Degraded {
				t.Errorf("after %d.5 s: %s, want degraded", second, s)
			}
			time.Sleep(500 * time.Millisecond)
		}
		takes.Store(int64(3 * time.Second)) // for the run at 10 s, and the next
		time.Sleep(2500 * time.Millisecond)
		for second := range 10 {
			if s := m.Report().Status; s != health.Unhealthy {
				t.Errorf("%d s after the second second without an answer: %s, want unhealthy", second, s)
			}
			time.Sleep(time.Second)
		}
		takes.Store(int64(time.Millisecond))
		time.Sleep(5 * time.Second)
		if s := m.Report().Status; s != health.Healthy {
			t.Errorf("answers again: %s", s)
		}
		cancel()
		time.Sleep(time.Minute) // who is told of the last one is done
	})
}

func TestAPanickingCheckIsUnhealthyAndIsRunAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		m := health.NewMonitor(health.Config{}, []health.Check{{Name: "cache", Run: func(context.Context) health.Result {
			runs++
			if runs == 1 {
				panic("boom")
			}
			return health.Result{State: health.Healthy}
		}}})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go m.Run(ctx)
		synctest.Wait()
		if c, _ := m.Component("cache"); c.Status != health.Unhealthy {
			t.Errorf("after the panic: %+v", c)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if c, _ := m.Component("cache"); c.Status != health.Healthy {
			t.Errorf("after the second run: %+v", c)
		}
	})
}

func TestAggregate(t *testing.T) {
	t.Parallel()
	component := func(s health.State, critical bool) health.Component {
		return health.Component{Status: s, Critical: critical}
	}
	for name, test := range map[string]struct {
		in   []health.Component
		want health.State
	}{
		"nothing":                    {nil, health.Healthy},
		"all healthy":                {[]health.Component{component(health.Healthy, true)}, health.Healthy},
		"optional part unhealthy":    {[]health.Component{component(health.Healthy, true), component(health.Unhealthy, false)}, health.Degraded},
		"critical part degraded":     {[]health.Component{component(health.Degraded, true)}, health.Degraded},
		"critical part unhealthy":    {[]health.Component{component(health.Degraded, false), component(health.Unhealthy, true)}, health.Unhealthy},
		"critical part not yet seen": {[]health.Component{component(health.Healthy, true), component(health.Unknown, true)}, health.Unknown},
	} {
		if got := health.Aggregate(test.in); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}
