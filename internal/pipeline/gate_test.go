package pipeline

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestGateOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 1, func() Level { return PressureNone })
		first, err := g.enter(t.Context(), classLive, time.Second, "a")
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var order []string
		var all sync.WaitGroup
		for _, w := range []struct {
			name string
			c    class
			step time.Duration
		}{{"background", classBackground, time.Second}, {"catchup", classCatchUp, time.Second}, {"slow step", classLive, time.Minute}, {"quick step", classLive, time.Second}} {
			all.Go(func() {
				leave, err := g.enter(context.Background(), w.c, w.step, "a")
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, w.name)
				mu.Unlock()
				leave()
				leave() // giving a place back twice frees one
			})
			synctest.Wait()
		}
		first()
		all.Wait()
		if want := "quick step, slow step, catchup, background"; strings.Join(order, ", ") != want {
			t.Fatalf("order %v", order)
		}
		if g.running != 0 || len(g.sources) != 0 || g.inBack != 0 {
			t.Fatalf("left over: %d running, %v, %d", g.running, g.sources, g.inBack)
		}
	})
}

func TestGateLimits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var level atomic.Int32
		g := newGate(4, 2, func() Level { return Level(level.Load()) })
		inside := map[string]int{}
		var mu sync.Mutex
		var leaves []func()
		var all sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		enter := func(c class, source string) {
			all.Go(func() {
				leave, err := g.enter(ctx, c, time.Second, source)
				if err != nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				inside[fmt.Sprintf("%d %s", c, source)]++
				leaves = append(leaves, leave)
			})
			synctest.Wait()
		}
		for range 5 {
			enter(classLive, "slow")
		}
		if inside["0 slow"] != 2 {
			t.Fatalf("%d evaluations use one source, want 2", inside["0 slow"])
		}
		level.Store(int32(PressureSevere))
		enter(classBackground, "other")
		if inside["2 other"] != 0 {
			t.Fatal("background work was let in under severe pressure")
		}
		enter(classLive, "other")
		if inside["0 other"] != 1 {
			t.Fatal("live work waits for a slow source of others")
		}
		level.Store(int32(PressureElevated))
		elapse(2 * time.Second)
		enter(classBackground, "third")
		if got := inside["2 other"] + inside["2 third"]; got != 1 {
			t.Fatalf("%d pieces of background work under elevated pressure, want 1", got)
		}
		cancel()
		synctest.Wait()
		mu.Lock()
		for _, leave := range slices.Clone(leaves) {
			leave()
		}
		mu.Unlock()
		all.Wait()
		if g.running != 0 || len(g.waiting) != 0 {
			t.Fatalf("%d running, %d waiting", g.running, len(g.waiting))
		}
	})
}
