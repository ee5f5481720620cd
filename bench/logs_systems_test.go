package bench

import (
	"bufio"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// system is a description of what one kind of system logs: its events, each
// with how often it comes, and pools of values, the most frequent first.
type system struct {
	name   string
	events []systemEvent
	pools  map[string][]string
}

type systemEvent struct {
	weight float64
	form   string // text with {pool} for each value
}

var placeholder = regexp.MustCompile(`\{[a-z]+\d*\}`)

// readSystem reads a description: "@pool value value" or, for values of several
// words, "@pool value|value"; "weight form"; lines that begin with # are comments.
func readSystem(t *testing.T, path string) system {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := system{name: strings.TrimSuffix(filepath.Base(path), ".txt"), pools: map[string][]string{}}
	for in := bufio.NewScanner(f); in.Scan(); {
		head, rest, _ := strings.Cut(in.Text(), " ")
		switch {
		case head == "#":
		case head[0] == '@' && strings.Contains(rest, "|"):
			s.pools[head[1:]] = strings.Split(rest, "|")
		case head[0] == '@':
			s.pools[head[1:]] = strings.Fields(rest)
		default:
			w, err := strconv.ParseFloat(head, 64)
			if err != nil {
				t.Fatalf("%s: %q: %v", path, in.Text(), err)
			}
			s.events = append(s.events, systemEvent{w, rest})
		}
	}
	return s
}

// draw makes n lines, each of an event by its weight, with values drawn from
// their pools, skewed to the first ones.
func (s *system) draw(t *testing.T, n int, seed uint64) logSet {
	r := rand.New(rand.NewPCG(seed, uint64(len(s.events))))
	out := logSet{name: s.name}
	var sums []float64
	total := 0.0
	for _, e := range s.events {
		total += e.weight
		sums = append(sums, total)
		out.text = append(out.text, placeholder.ReplaceAllString(e.form, "<*>"))
	}
	for range n {
		g, _ := slices.BinarySearch(sums, r.Float64()*total)
		line := s.events[g].form
		for placeholder.MatchString(line) {
			line = placeholder.ReplaceAllStringFunc(line, func(p string) string { return s.value(t, r, p[1:len(p)-1]) })
		}
		out.lines, out.group = append(out.lines, []byte(line)), append(out.group, g)
	}
	return out.compact()
}

// value draws one value of a pool or of a kind that every system has.
func (s *system) value(t *testing.T, r *rand.Rand, kind string) string {
	if pool := s.pools[kind]; len(pool) > 0 {
		return pool[int(float64(len(pool))*math.Pow(r.Float64(), 1.5))]
	}
	if digits, err := strconv.Atoi(strings.TrimPrefix(kind, "hex")); err == nil {
		var b strings.Builder
		for range digits {
			fmt.Fprintf(&b, "%x", r.IntN(16))
		}
		return b.String()
	}
	switch kind {
	case "d":
		return fmt.Sprint(r.IntN(10))
	case "int":
		return fmt.Sprint(r.IntN(1 << (3 + r.IntN(14))))
	case "big":
		return fmt.Sprint(1<<20 + r.IntN(1<<30))
	case "port":
		return fmt.Sprint(1024 + r.IntN(60000))
	case "float":
		return fmt.Sprintf("%.3f", 10*r.Float64())
	case "pct":
		return fmt.Sprintf("%.1f", 100*r.Float64())
	case "ip":
		return fmt.Sprintf("10.%d.%d.%d", r.IntN(4), r.IntN(256), r.IntN(256))
	case "mac":
		return fmt.Sprintf("02:%02x:%02x:%02x:%02x:%02x", r.IntN(256), r.IntN(256), r.IntN(256), r.IntN(256), r.IntN(256))
	case "clock":
		return fmt.Sprintf("%02d:%02d:%02d", r.IntN(24), r.IntN(60), r.IntN(60))
	case "date":
		return fmt.Sprintf("20%02d-%02d-%02d", r.IntN(30), 1+r.IntN(12), 1+r.IntN(28))
	case "size":
		return fmt.Sprintf("%d%s", 1+r.IntN(900), [...]string{"MB", "kB", "GB"}[r.IntN(3)])
	case "uuid":
		return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", r.Uint32(), r.IntN(1<<16), r.IntN(1<<16), r.IntN(1<<16), r.Uint64()>>16)
	}
	t.Fatalf("%s has no pool %q", s.name, kind)
	return ""
}

// systemSets draws a few sets of n lines of each system.
func systemSets(t *testing.T, n int) []logSet {
	t.Helper()
	paths, err := filepath.Glob("testdata/logsystems/*.txt")
	if err != nil || len(paths) < 7 {
		t.Fatalf("%d systems, %v", len(paths), err)
	}
	var out []logSet
	for _, path := range paths {
		s := readSystem(t, path)
		for seed := range uint64(5) {
			out = append(out, s.draw(t, n, seed+1))
		}
	}
	return out
}

// Databases, agents of clusters, brokers, hosts, services, firewalls and build
// jobs, many of whose values are plain words: most lines are in the right group
// in the end. The miner was not made for these.
func TestSystems(t *testing.T) {
	t.Parallel()
	sets := systemSets(t, 400)
	var final, emitted, other, one LogAccuracy
	share := 1 / float64(len(sets))
	for i := range sets {
		s := &sets[i]
		f, e, _, _, err := mineOnce(s)
		if err != nil {
			t.Fatal(err)
		}
		final.add(f, share)
		emitted.add(e, share)
		one.add(f, 1./5)
		if i%5 == 4 {
			t.Logf("%-10s %2d templates, final %.3f/%.3f", s.name, len(s.text), one.Grouping, one.GroupingF1)
			one = LogAccuracy{}
		}
		again := renamed(s, uint64(i))
		if f, _, _, _, err = mineOnce(&again); err != nil {
			t.Fatal(err)
		}
		other.add(f, share)
		for k := range s.group { // a control: labels that are wrong
			s.group[k] = k % len(s.text)
		}
		if f, _, _, _, _ := mineOnce(s); f.Grouping > 0.1 {
			t.Errorf("%s: wrong labels give %v", s.name, f.Grouping)
		}
	}
	t.Logf("mean final %.3f/%.3f, as emitted %.3f/%.3f, renamed %.3f/%.3f", final.Grouping, final.GroupingF1,
		emitted.Grouping, emitted.GroupingF1, other.Grouping, other.GroupingF1)
	if final.Grouping < 0.86 || final.GroupingF1 < 0.81 || emitted.Grouping < 0.75 || emitted.GroupingF1 < 0.70 ||
		other.Grouping < final.Grouping-0.02 || other.GroupingF1 < final.GroupingF1-0.02 {
		t.Errorf("final %+v, as emitted %+v, renamed %+v", final, emitted, other)
	}
}

// plainValues returns which share of the values in the lines of a set are plain
// words, and which share of its templates have a place with two such words.
func plainValues(s *logSet) (values, templates float64) {
	word := regexp.MustCompile(`^[a-z]{2,}$`)
	forms := make([]*regexp.Regexp, len(s.text))
	for g, text := range s.text {
		forms[g] = regexp.MustCompile(`^\s*` + strings.ReplaceAll(regexp.QuoteMeta(text), `<\*>`, `(.*?)`) + `\s*$`)
	}
	type place struct{ group, at int }
	first, mixed := map[place]string{}, map[int]bool{}
	all, plain := 0, 0
	for i, l := range s.lines {
		g := s.group[i]
		m := forms[g].FindSubmatch(l)
		for k := 1; k < len(m); k++ {
			all++
			if v := string(m[k]); word.MatchString(v) {
				plain++
				if w, ok := first[place{g, k}]; ok && w != v {
					mixed[g] = true
				}
				first[place{g, k}] = v
			}
		}
	}
	return float64(plain) / float64(max(all, 1)), float64(len(mixed)) / float64(len(s.text))
}

var labelledLogs = flag.String("labelled-logs", "", "folder of labelled log sets whose values are counted, as for aiops bench logs --data")

// TestPlainValues counts how many values are plain words in the systems here,
// and in labelled sets if asked for.
func TestPlainValues(t *testing.T) {
	t.Parallel()
	count := func(name string, sets []logSet) (values, templates float64) {
		for i := range sets {
			v, m := plainValues(&sets[i])
			values += v / float64(len(sets))
			templates += m / float64(len(sets))
		}
		t.Logf("%s: %.3f of the values are plain words, %.3f of the templates have a place with two of them", name, values, templates)
		return values, templates
	}
	if v, m := count("systems", systemSets(t, 400)); v < 0.1 || m < 0.1 {
		t.Errorf("%.3f and %.3f: these sets show nothing about plain words", v, m)
	}
	if *labelledLogs == "" {
		return
	}
	sets, err := loadLogSets(*labelledLogs, nil)
	if err != nil {
		t.Fatal(err)
	}
	count(*labelledLogs, sets)
}
