package health_test

import (
	"context"
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
		r := m.Report()
		if r.Status != health.Unhealthy || r.Components[0].Status != health.Unhealthy || r.Components[1].Status != health.Healthy {
			t.Errorf("report = %+v", r)
		}
		cancel()
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if len(changes) != 2 || len(m.History()) != 2 {
			t.Errorf("changes = %+v", changes)
		}
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
