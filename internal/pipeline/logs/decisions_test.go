package logs

import (
	"context"
	"errors"
	"testing"

	"aiops/internal/model"
)

// peer returns another node that shares the decisions of f.
func (f *fixture) peer() *fixture {
	f.t.Helper()
	o := &fixture{t: f.t, clock: f.clock, samples: map[string]map[int64]float64{}, decisions: f.decisions}
	o.open(Config{})
	return o
}

func (f *fixture) say(lines ...string) []string {
	f.t.Helper()
	var in []model.LogLine
	for _, l := range lines {
		in = append(in, model.LogLine{T: f.clock.UnixNano(), Stream: model.Labels{{Name: "service", Value: "shop"}}, Text: l, Message: l})
	}
	if err := f.Take(f.t.Context(), model.BuiltinSource, in); err != nil {
		f.t.Fatal(err)
	}
	var ids []string
	for _, l := range in {
		ids = append(ids, l.Template)
	}
	return ids
}

func (f *fixture) decide(id string, e model.LogPatternEdit) model.LogPattern {
	f.t.Helper()
	p, err := f.EditPattern(f.t.Context(), id, e, 0)
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

func (f *fixture) takeUp() {
	f.t.Helper()
	if err := f.TakeUp(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) show(id string) model.LogPattern {
	f.t.Helper()
	p, err := f.Stage.Pattern(f.t.Context(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

func to[T any](v T) *T { return &v }

// What is decided on one node is in force on another, which saw other lines of
// the pattern, later ones, or none.
func TestDecisionsOnOtherNodes(t *testing.T) {
	t.Parallel()
	a := setup(t, Config{})
	b, late := a.peer(), a.peer()
	first := a.say("payment 17 of order 4 took 3 ms", "payment 18 of order 9 took 4 ms")[0]
	other := b.say("noise on line 4", "payment 5 of order 7 took 80 ms")[1]
	if other != first {
		t.Fatalf("the nodes know the pattern as %s and %s", first, other)
	}
	p := a.decide(first, model.LogPatternEdit{Name: to("payments"), Pinned: to(true), Severity: to(model.SeverityCritical)})
	b.takeUp()
	late.takeUp()
	for name, node := range map[string]*fixture{"b": b, "late": late} {
		got := node.show(first)
		if got.Name != "payments" || !got.Pinned || got.Severity != model.SeverityCritical || got.Version < p.Version || got.Template != p.Template {
			t.Errorf("%s has %+v, want %+v", name, got, p)
		}
	}
	if got := late.say("payment 99 of order 1 took 1 ms")[0]; got != first {
		t.Errorf("the line of a pattern that was decided on before it came has the id %s, want %s", got, first)
	}
	if got := late.show(first); got.Count != 1 {
		t.Errorf("it counts %d lines, want 1", got.Count)
	}

	// A pattern that the other node knows by another id.
	x := a.say("'red-eye' opened the shop gate", "'blue-eye' opened the shop gate")[0]
	y := b.say("'pink-eye' opened the shop gate")[0]
	a.decide(x, model.LogPatternEdit{Expected: to(true)})
	b.takeUp()
	if got := b.show(y); !got.Expected {
		t.Errorf("b has %+v", got)
	}
	if got := b.show(x); got.ID != y {
		t.Errorf("the id of a leads to %s on b, want %s", got.ID, y)
	}
}

// Merges and splits carry over.
func TestMergesAndSplitsOnOtherNodes(t *testing.T) {
	t.Parallel()
	a := setup(t, Config{})
	b, late := a.peer(), a.peer()
	lines := []string{"cannot reach red", "cannot reach blue", "gave up on all of it", "job of 'mail-x' done", "job of 'disk-x' done"}
	ids, there := a.say(lines...), b.say(lines...)
	a.decide(ids[0], model.LogPatternEdit{MergeWith: ids[1]})
	a.decide(ids[0], model.LogPatternEdit{MergeWith: ids[2]})
	a.decide(ids[3], model.LogPatternEdit{SplitAt: to(0)})
	for name, node := range map[string]*fixture{"a": a, "b": b, "late": late} {
		node.takeUp()
		again := node.say("cannot reach red", "cannot reach blue", "gave up on all of it", "job of 'mail-x' done", "job of 'disk-x' done")
		if again[0] != again[1] || again[0] != again[2] {
			t.Errorf("%s gives merged lines %v", name, again[:3])
		}
		if again[3] == again[4] || again[3] == there[3] {
			t.Errorf("%s gives split lines %v", name, again[3:])
		}
	}
	child := a.say("job of 'mail-x' done")[0]
	a.decide(child, model.LogPatternEdit{Name: to("mail")})
	b.takeUp()
	if got := b.show(child); got.Name != "mail" {
		t.Errorf("the child on b is %+v", got)
	}
}

// Two nodes on which people decide at once come to the same.
func TestDecisionsAtOnce(t *testing.T) {
	t.Parallel()
	a := setup(t, Config{})
	b := a.peer()
	id := a.say("gate 7 is open")[0]
	b.say("gate 9 is open")
	a.decide(id, model.LogPatternEdit{Name: to("by a")})
	b.decide(id, model.LogPatternEdit{Name: to("by b")})
	a.decide(id, model.LogPatternEdit{Pinned: to(true)})
	a.takeUp()
	b.takeUp()
	for _, node := range []*fixture{a, b} {
		if p := node.show(id); p.Name != "by b" || !p.Pinned {
			t.Errorf("a node has %q, pinned %v", p.Name, p.Pinned)
		}
	}
	if _, err := b.EditPattern(t.Context(), id, model.LogPatternEdit{Name: to("stale")}, 1); model.KindOf(err) != model.KindPrecondition {
		t.Errorf("an edit of an old version gave %v", err)
	}

	// One that cannot be read is passed over.
	if _, err := a.AppendLogDecision(t.Context(), []byte("{")); err != nil {
		t.Fatal(err)
	}
	a.decide(id, model.LogPatternEdit{Name: to("later")})
	b.takeUp()
	if p := b.show(id); p.Name != "later" {
		t.Errorf("behind a damaged decision the name is %q", p.Name)
	}
}

// A decision outlives a state that cannot be read, and one that could not be
// stored is an error.
func TestDecisionsOutliveTheState(t *testing.T) {
	t.Parallel()
	f := setup(t, Config{})
	id := f.say("gate 7 is open")[0]
	f.decide(id, model.LogPatternEdit{Name: to("the gate")})
	f.state = []byte("damaged")
	f.open(Config{})
	if p := f.show(id); p.Name != "the gate" {
		t.Errorf("after a restart it is %+v", p)
	}
	f.states = brokenDecisions{f}
	if _, err := f.EditPattern(t.Context(), id, model.LogPatternEdit{Name: to("x")}, 0); err == nil {
		t.Error("a decision that was not stored was acknowledged")
	}
}

type brokenDecisions struct{ *fixture }

func (brokenDecisions) AppendLogDecision(context.Context, []byte) (int64, error) {
	return 0, errors.New("disk full")
}
