package nodes

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"aiops/internal/model"
)

// world is what all nodes see, for tests of the plan.
type world struct {
	nodes     []model.Node
	detectors []detector
	holders   map[string]holder
}

func newWorld(nodes, shared, pinnedOnes int) *world {
	w := &world{holders: map[string]holder{}}
	for i := range nodes {
		w.join(i)
	}
	for i := range shared + pinnedOnes {
		w.detectors = append(w.detectors, detector{fmt.Sprintf("det_%05d", i), i >= shared})
		w.holders[w.detectors[i].id] = holder{free: true}
	}
	return w
}

func (w *world) join(i int) {
	w.nodes = append(w.nodes, model.Node{Name: fmt.Sprint("n", i), Instance: fmt.Sprint("i", i), JoinedAt: time.Unix(int64(i), 0)})
}

// leave removes a node and frees what it had.
func (w *world) leave(i int) {
	gone := w.nodes[i].Instance
	w.nodes = append(w.nodes[:i:i], w.nodes[i+1:]...)
	for id, h := range w.holders {
		if h.instance == gone {
			w.holders[id] = holder{gone, true}
		}
	}
}

// settle lets the nodes act on what they see until nothing moves, and returns
// how many detectors changed hands.
func (w *world) settle(t *testing.T) (moved int) {
	t.Helper()
	for round := range 20 {
		type move struct {
			node int
			take []string
			give []string
		}
		var moves []move
		for i, n := range w.nodes {
			take, give := plan(view{me: n.Instance, nodes: w.nodes, detectors: w.detectors, holders: w.holders})
			moves = append(moves, move{i, take, give})
		}
		acted := 0
		for _, m := range moves {
			me := w.nodes[m.node].Instance
			for _, id := range m.give {
				if w.holders[id].instance != me {
					t.Fatalf("%s gives %s, which it does not have", me, id)
				}
				w.holders[id] = holder{me, true}
				acted++
			}
		}
		for _, m := range moves {
			for _, id := range m.take {
				if !w.holders[id].free {
					t.Fatalf("round %d: %s is taken twice", round, id)
				}
				w.holders[id] = holder{instance: w.nodes[m.node].Instance}
				moved++
				acted++
			}
		}
		if acted == 0 {
			return moved
		}
	}
	t.Fatal("the nodes do not come to rest")
	return 0
}

// check fails unless everything is owned and nobody has more than its share.
func (w *world) check(t *testing.T) {
	t.Helper()
	count := map[string]int{}
	for _, d := range w.detectors {
		h := w.holders[d.id]
		if h.free || h.instance == "" {
			t.Fatalf("%s has no owner", d.id)
		}
		if d.pinned {
			if h.instance != w.nodes[0].Instance {
				t.Fatalf("%s is pinned, but not with the eldest", d.id)
			}
			continue
		}
		count[h.instance]++
	}
	least, most := len(w.detectors), 0
	for _, n := range w.nodes {
		least, most = min(least, count[n.Instance]), max(most, count[n.Instance])
	}
	if shared := w.shared(); most > (shared+len(w.nodes)-1)/len(w.nodes) {
		t.Fatalf("shares from %d to %d of %d", least, most, shared)
	}
}

func (w *world) shared() (n int) {
	for _, d := range w.detectors {
		if !d.pinned {
			n++
		}
	}
	return n
}

func TestPlanShares(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 100, 7)
	if n := w.settle(t); n != 107 {
		t.Errorf("%d of 107 were taken", n)
	}
	w.check(t)
	w.join(1)
	if n := w.settle(t); n != 50 {
		t.Errorf("%d moved to a second node, want 50", n)
	}
	w.check(t)
	w.join(2)
	if n := w.settle(t); n < 32 || n > 34 {
		t.Errorf("%d moved to a third node, want 33", n)
	}
	w.check(t)
	if n := w.settle(t); n != 0 {
		t.Errorf("%d moved without a reason", n)
	}
	w.leave(0)
	if n := w.settle(t); n < 33+7 || n > 34+7 {
		t.Errorf("%d moved from a node that went", n)
	}
	w.check(t)
	w.detectors = append(w.detectors, detector{"det_new", false})
	w.holders["det_new"] = holder{free: true}
	if n := w.settle(t); n != 1 {
		t.Errorf("a new detector moved %d", n)
	}
	w.check(t)
}

// TestPlanComesToRest does many things to many worlds.
func TestPlanComesToRest(t *testing.T) {
	t.Parallel()
	for seed := range 200 {
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		w := newWorld(1+r.IntN(5), r.IntN(60), r.IntN(5))
		next := len(w.nodes)
		for range 10 {
			switch r.IntN(3) {
			case 0:
				w.join(next)
				next++
			case 1:
				if len(w.nodes) > 1 {
					w.leave(r.IntN(len(w.nodes)))
				}
			}
			w.settle(t)
			w.check(t)
		}
	}
}

// The control: what does not see that a detector is owned takes it twice.
func TestPlanOfTheBlindTakesTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(2, 10, 0)
	w.settle(t)
	blind := map[string]holder{}
	for id := range w.holders {
		blind[id] = holder{free: true}
	}
	taken := map[string]int{}
	for i, n := range w.nodes {
		take, _ := plan(view{me: n.Instance, nodes: w.nodes[i : i+1], detectors: w.detectors, holders: blind})
		for _, id := range take {
			taken[id]++
		}
	}
	if taken["det_00000"] != 2 {
		t.Errorf("control: %v", taken)
	}
}
