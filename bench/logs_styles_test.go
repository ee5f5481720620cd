package bench

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// styleSet reads lines in the style of one kind of system: a line that begins
// with "= " is a template, and its lines follow. The set holds them in turn, as
// a system writes them.
func styleSet(t *testing.T, path string) logSet {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := logSet{name: strings.TrimSuffix(filepath.Base(path), ".txt")}
	var blocks [][][]byte
	for _, l := range bytes.Split(bytes.TrimSpace(b), []byte("\n")) {
		if text, ok := bytes.CutPrefix(l, []byte("= ")); ok {
			s.text = append(s.text, string(text))
			blocks = append(blocks, nil)
			continue
		}
		blocks[len(blocks)-1] = append(blocks[len(blocks)-1], l)
	}
	for round, more := 0, true; more; round++ {
		more = false
		for g, lines := range blocks {
			if round < len(lines) {
				s.lines, s.group = append(s.lines, lines[round]), append(s.group, g)
				more = true
			}
		}
	}
	return s
}

// shuffled returns the set in another order.
func (s logSet) shuffled(seed uint64) logSet {
	out := logSet{name: s.name, text: s.text}
	for _, i := range rand.New(rand.NewPCG(seed, 1)).Perm(len(s.lines)) {
		out.lines, out.group = append(out.lines, s.lines[i]), append(out.group, s.group[i])
	}
	return out
}

// Lines in the styles of web servers, batch systems, phones, Unix hosts, laptops,
// proxies and clusters are grouped as people would, at once and with renamed
// words too. In another order a word may come before what shows that it is a
// value, with two lines of a kind for good.
func TestStyles(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/logstyles/*.txt")
	if err != nil || len(paths) < 8 {
		t.Fatalf("%d styles, %v", len(paths), err)
	}
	check := func(name string, s *logSet, least float64) {
		f, e, _, _, err := mineOnce(s)
		if err != nil {
			t.Fatal(err)
		}
		if f.GroupingF1 < least || min(e.Grouping, e.GroupingF1) < least {
			t.Errorf("%s %s: final %.3f/%.3f, as emitted %.3f/%.3f", s.name, name, f.Grouping, f.GroupingF1, e.Grouping, e.GroupingF1)
		}
	}
	for _, path := range paths {
		s := styleSet(t, path)
		check("as it is", &s, 1)
		for seed := range uint64(3) {
			other := s.shuffled(seed)
			check("shuffled", &other, 0.9)
			other = renamed(&s, seed+1)
			check("renamed", &other, 1)
		}
		s.group[0] = s.group[1] // a control
		if f, _, _, _, _ := mineOnce(&s); f.Grouping == 1 {
			t.Errorf("%s: a wrong label went unnoticed", s.name)
		}
	}
}
