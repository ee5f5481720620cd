package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"aiops/internal/model"
	"aiops/internal/store"
)

// TestNodesTakeOverWhatExpired: of several nodes one takes each detector, keeps
// it while it renews its lease, and loses it to another when it does not.
func TestNodesTakeOverWhatExpired(t *testing.T) {
	t.Parallel()
	cfg := postgresConfig(t)
	nodes := []*store.Store{node(t, cfg), node(t, cfg), node(t, cfg)}
	var ids []string
	for i := range 20 {
		d, err := nodes[0].CreateDetector(t.Context(), model.Detector{Name: fmt.Sprint("d", i)})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, d.ID)
	}
	const short = 300 * time.Millisecond
	for i, n := range nodes {
		lease := time.Minute
		if i == 0 {
			lease = short
		}
		if mine, err := n.RenewNode(t.Context(), "h", lease, true); err != nil || !mine {
			t.Fatal(mine, err)
		}
	}
	first, err := nodes[0].TakeLeases(t.Context(), ids[:1])
	if err != nil || first[ids[0]] != 1 {
		t.Fatal(first, err)
	}
	// All at once, each detector has one owner.
	taken := make([]map[string]int64, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes[1:] {
		wg.Go(func() {
			got, err := n.TakeLeases(context.Background(), ids[1:])
			if err != nil {
				t.Error(err)
			}
			taken[i] = got
		})
	}
	wg.Wait()
	owners := map[string]int{}
	for _, m := range taken {
		for id, token := range m {
			owners[id]++
			if token != 1 {
				t.Errorf("token %d of a lease that nobody had", token)
			}
		}
	}
	for _, id := range ids[1:] {
		if owners[id] != 1 {
			t.Errorf("%s has %d owners", id, owners[id])
		}
	}
	// The lease of the first runs out, and the second takes its detector.
	deadline := time.Now().Add(20 * time.Second)
	for {
		got, err := nodes[1].TakeLeases(t.Context(), ids[:1])
		if err != nil {
			t.Fatal(err)
		}
		if got[ids[0]] == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("an expired lease is not taken over")
		}
		<-time.After(10 * time.Millisecond)
	}
	stale := nodes[0].WithFence(t.Context(), ids[0], 1)
	err = nodes[0].CommitAnomalies(stale, []model.AnomalyChange{{Anomaly: childAnomaly(ids[0], "an_x"), Event: model.EventAnomalyOpened}})
	if !model.IsDeposed(err) {
		t.Errorf("a deposed owner wrote: %v", err)
	}
	if _, err := nodes[0].TakeLeases(t.Context(), ids[:1]); !model.IsDeposed(err) {
		t.Errorf("a node whose lease has expired takes others: %v", err)
	}
	// Back again, it is a member, and owns what nobody took.
	if mine, err := nodes[0].RenewNode(t.Context(), "h", time.Minute, false); err != nil || !mine {
		t.Errorf("an expired node cannot come back: %v %v", mine, err)
	}
	owner := nodes[1].WithFence(t.Context(), ids[0], 2)
	if err := nodes[1].CommitAnomalies(owner, []model.AnomalyChange{{Anomaly: childAnomaly(ids[0], "an_x"), Event: model.EventAnomalyOpened}}); err != nil {
		t.Error(err)
	}
}
