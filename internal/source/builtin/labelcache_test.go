package builtin

import (
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
)

func TestLabelCache(t *testing.T) {
	t.Parallel()
	c := newLabelCache(100)
	a, b := labels.FromStrings("__name__", "a", "x", "1"), labels.FromStrings("__name__", "b")
	first := c.loader(2).labels(a)
	if first.Key() != `{__name__="a", x="1"}` {
		t.Errorf("labels %s", first)
	}
	if again := c.loader(1).labels(labels.FromStrings("__name__", "a", "x", "1")); &again[0] != &first[0] {
		t.Error("equal labels are built twice")
	}
	if none := c.loader(1).labels(labels.EmptyLabels()); none == nil || len(none) != 0 {
		t.Errorf("no labels became %#v", none)
	}
	// Another label set of the same hash must not be taken for this one.
	c.put(b.Hash(), cached{theirs: a, ours: first})
	if got := c.loader(1).labels(b); got.Key() != `{__name__="b"}` {
		t.Errorf("a collision gives %s", got)
	}
	for i := range 1000 {
		ls := labels.FromStrings("n", fmt.Sprint(i))
		if got := c.loader(1000 - i).labels(ls); got.Value("n") != fmt.Sprint(i) {
			t.Fatalf("%s became %s", ls, got)
		}
	}
	if n := len(c.young) + len(c.old); n > 200 {
		t.Errorf("the cache holds %d entries, want at most 200", n)
	}
	// What is asked for again and again survives the change of generations.
	c = newLabelCache(10)
	keep := c.loader(1).labels(a)
	for i := range 1000 {
		c.loader(1).labels(labels.FromStrings("n", fmt.Sprint(i)))
		if got := c.loader(1).labels(a); &got[0] != &keep[0] {
			t.Fatalf("forgotten after %d others", i)
		}
	}
}
