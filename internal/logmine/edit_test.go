package logmine

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"aiops/internal/model"
)

// A miner that adopts the templates of another shows the same texts under the
// same ids, finds their lines, and its snapshot is whole.
func TestAdopt(t *testing.T) {
	t.Parallel()
	a, b := newMiner(t, Config{}), newMiner(t, Config{Seed: 7})
	lines := func(i int) [][]byte {
		return [][]byte{
			fmt.Appendf(nil, "user u%d moved from 'q%c' to /srv/%d in %d ms", i%7, 'a'+i%20, i, i*i),
			fmt.Appendf(nil, "took %d, %d, %d and then nothing", i, i+1, i+2),
			fmt.Appendf(nil, "mode=%s of gate gate%d", [...]string{"fast", "slow"}[i%2], i%3),
			fmt.Appendf(nil, "the %s door of house %d is shut now", [...]string{"red", "blue", "pink", "grey", "green", "brown"}[i%6], i),
		}
	}
	for i := range 40 {
		for _, l := range lines(i) {
			a.Add(l)
		}
	}
	split := a.Add(lines(1)[2])
	if err := a.Split(split, 0); err != nil {
		t.Fatal(err)
	}
	child := a.Add(lines(1)[2])
	b.Add(lines(3)[0]) // b knows one of them already
	for _, x := range a.Templates() {
		if x.Parent != 0 {
			continue
		}
		record, err := a.Record(x.ID)
		if err != nil {
			t.Fatal(err)
		}
		id, err := b.Adopt(record, true)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := b.Template(id)
		if got.Text != x.Text {
			t.Errorf("%q became %q", x.Text, got.Text)
		}
		if again, err := b.Adopt(record, true); again != id || err != nil {
			t.Errorf("adopted again it is %s, %v, want %s", again, err, id)
		}
		for cut := range record {
			if _, err := b.Adopt(record[:cut], true); model.KindOf(err) != model.KindInvalid {
				t.Fatalf("a record cut off at %d gave %v", cut, err)
			}
		}
	}
	record, err := a.Record(child)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newMiner(t, Config{}).Adopt(record, true); model.KindOf(err) != model.KindNotFound {
		t.Errorf("a child without its parent gave %v", err)
	}
	if id, err := b.Adopt(record, true); id != child || err != nil {
		t.Errorf("the child is %s, %v, want %s", id, err, child)
	}
	templates := b.Len()
	for i := range 40 {
		for k, l := range lines(i) {
			x, _ := a.Resolve(a.Add(l))
			y, _ := b.Resolve(b.Add(l))
			if x != y && (k != 2 || i%2 == 1) { // the other child came as a new one
				t.Fatalf("%q has the ids %s and %s", l, x, y)
			}
		}
	}
	if n := b.Len(); n > templates+4 {
		t.Errorf("%d templates became %d", templates, n)
	}
	again := newMiner(t, Config{Seed: 7})
	if err := again.Restore(b.AppendSnapshot(nil)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(b.Templates(), again.Templates()); d != "" {
		t.Error(d)
	}
}
