package logmine

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"aiops/internal/model"
)

func newMiner(t testing.TB, cfg Config) *Miner {
	t.Helper()
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// drawLine draws lines that share words, so that they meet in templates.
func drawLine(t *rapid.T) []byte {
	token := rapid.OneOf(
		rapid.SampledFrom([]string{"open", "shut", "gate", "for", "user", "alice", "bob7", "a_b", "FastPath", "true", "x=y", "k: v,", "(on)", `"q r"`, "[1, 2, 3]", "\x1b[0m", "\x00", "é", "\xff", "node-1", "<*>"}),
		rapid.StringMatching(`[0-9]{1,6}|0x[0-9a-f]{4}|/[a-z]{1,4}/[a-z.]{1,6}|[0-9]{1,3}(\.[0-9]{1,3}){3}(:[0-9]{2,5})?|[a-z]{1,5}[0-9]{1,3}`),
		rapid.StringMatching(`[!-~]{1,12}`),
	)
	sep := rapid.SampledFrom([]string{" ", " ", " ", "  ", ", ", ":", "=", " = ", "/", "-", "@"})
	var line []byte
	for range rapid.IntRange(0, 12).Draw(t, "tokens") {
		line = append(line, token.Draw(t, "token")...)
		line = append(line, sep.Draw(t, "separator")...)
	}
	return line
}

func TestRestoredMinerGoesOnAlike(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{MaxTemplates: rapid.SampledFrom([]int{16, 40, 4096}).Draw(t, "templates")}
		m, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		step := func(m *Miner, line []byte, edit int) string {
			id := m.Add(line)
			switch edit {
			case 1:
				return fmt.Sprint(id, m.Name(id, "n"))
			case 2:
				return fmt.Sprint(id, m.Pin(id, true))
			case 3:
				return fmt.Sprint(id, m.Split(id, 0))
			case 4:
				all := m.Templates()
				kept, err := m.Merge(id, all[len(all)/2].ID)
				return fmt.Sprint(id, kept, err)
			}
			return id.String()
		}
		run := func(m *Miner, lines [][]byte, edits []int) (out []string) {
			for i, l := range lines {
				out = append(out, step(m, l, edits[i]))
			}
			return out
		}
		draw := func(what string) ([][]byte, []int) {
			lines := rapid.SliceOfN(rapid.Custom(drawLine), 1, 60).Draw(t, what)
			edits := rapid.SliceOfN(rapid.SampledFrom([]int{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}), len(lines), len(lines)).Draw(t, what+" edits")
			return lines, edits
		}
		before, edits := draw("before")
		run(m, before, edits)
		snapshot := m.AppendSnapshot(nil)
		again, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Restore(snapshot); err != nil {
			t.Fatalf("restoring: %v", err)
		}
		if again.SizeBytes() != m.SizeBytes() {
			t.Fatalf("%d bytes after restoring, want %d", again.SizeBytes(), m.SizeBytes())
		}
		after, edits := draw("after")
		want, got := run(m, after, edits), run(again, after, edits)
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("the restored miner went another way:\n%s", d)
		}
		if d := cmp.Diff(m.Templates(), again.Templates()); d != "" {
			t.Fatalf("the templates differ:\n%s", d)
		}
		if !bytes.Equal(m.AppendSnapshot(nil), again.AppendSnapshot(nil)) {
			t.Fatal("the snapshots differ")
		}
	})
}

// A control: the comparison above sees a miner that missed one line.
func TestSnapshotsTellMinersApart(t *testing.T) {
	t.Parallel()
	a, b := newMiner(t, Config{}), newMiner(t, Config{})
	a.Add([]byte("one line"))
	b.Add([]byte("one line"))
	b.Add([]byte("one line"))
	if bytes.Equal(a.AppendSnapshot(nil), b.AppendSnapshot(nil)) {
		t.Fatal("the snapshots of different miners are equal")
	}
}

func TestUpgradeKeepsIdsTextsAndDecisions(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		lines := rapid.SliceOfN(rapid.Custom(drawLine), 1, 60).Draw(t, "lines")
		ids := make([]ID, len(lines))
		for i, l := range lines {
			ids[i] = m.Add(l)
		}
		if err := m.Name(ids[0], "the first"); err != nil {
			t.Fatal(err)
		}
		again, err := New(Config{Seed: rapid.Uint64().Draw(t, "seed")})
		if err != nil {
			t.Fatal(err)
		}
		if err := again.restore(m.AppendSnapshot(nil), true); err != nil {
			t.Fatalf("restoring: %v", err)
		}
		for i, id := range ids {
			was, _ := m.Template(id)
			is, ok := again.Template(id)
			if !ok || is.ID != was.ID || is.Count != was.Count || is.Name != was.Name {
				t.Fatalf("line %d %q: %+v became %+v", i, lines[i], was, is)
			}
		}
	})
}

// The decisions of the scanner depend on digits only by being digits.
func TestDigitsDoNotMatter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		line := drawLine(t)
		other := bytes.Clone(line)
		for i, c := range other {
			if isDigit(c) {
				other[i] = '0' + byte(rapid.IntRange(0, 9).Draw(t, "digit"))
			}
		}
		var a, b scanner
		a.scan(line, 4096, 128)
		b.scan(other, 4096, 128)
		if a.h != b.h || a.n != b.n {
			t.Fatalf("%q and %q have skeletons %x and %x", line, other, a.h, b.h)
		}
	})
}

// A control: letters do matter.
func TestLettersMatter(t *testing.T) {
	t.Parallel()
	var a, b scanner
	a.scan([]byte("opened gate 1"), 4096, 128)
	b.scan([]byte("opened gaze 1"), 4096, 128)
	if a.h == b.h {
		t.Fatal("different words have one skeleton")
	}
}

func TestItemsAndGapsMakeUpTheLine(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		line := drawLine(t)
		var s scanner
		s.scan(line, 4096, 128)
		end := 0
		for i, it := range s.items[:s.n] {
			if int(it.start) < end || it.start >= it.end || int(it.end) > len(s.line) {
				t.Fatalf("%q: item %d is at [%d,%d) after %d of %d", line, i, it.start, it.end, end, len(s.line))
			}
			end = int(it.end)
		}
	})
}

func TestEveryLineHasATemplateFitToShow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m, err := New(Config{MaxTemplates: 16})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 80), 1, 30).Draw(t, "lines") {
			checkTemplate(t, m, m.Add(l))
		}
	})
}

type failer interface{ Fatalf(string, ...any) }

func checkTemplate(t failer, m *Miner, id ID) {
	got, ok := m.Template(id)
	if !ok || id == 0 {
		t.Fatalf("id %s has no template", id)
	}
	if !utf8.ValidString(got.Text) {
		t.Fatalf("the text %q is not UTF-8", got.Text)
	}
	for _, r := range got.Text {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			t.Fatalf("the text %q has the character %U", got.Text, r)
		}
	}
	for _, at := range got.Variables {
		if !strings.HasPrefix(got.Text[at:], wildcard) {
			t.Fatalf("the text %q has no variable at %d", got.Text, at)
		}
	}
}

func TestBoundsHoldUnderAttack(t *testing.T) {
	t.Parallel()
	word := func(r *rand.Rand) string {
		b := make([]byte, 3+r.IntN(12))
		for i := range b {
			b[i] = byte('a' + r.IntN(26))
		}
		return string(b)
	}
	const n = 20_000
	for name, line := range map[string]func(r *rand.Rand, i int) string{
		"words at one place": func(r *rand.Rand, i int) string { return "login of " + word(r) + " was refused by the gate" },
		"words at the start": func(r *rand.Rand, i int) string { return word(r) + " was refused by the gate" },
		"single words":       func(r *rand.Rand, i int) string { return word(r) },
		"random lines":       func(r *rand.Rand, i int) string { return strings.Repeat(word(r)+" ", 1+r.IntN(20)) },
		"random shapes": func(r *rand.Rand, i int) string {
			return strings.Repeat("x", i%97) + strings.Repeat("-;", i%89) + word(r)
		},
		"three words at once": func(r *rand.Rand, i int) string {
			return fmt.Sprintf("a %s b %s c %s d e f g h", word(r), word(r), word(r))
		},
		"keys":                 func(r *rand.Rand, i int) string { return word(r) + "=1 " + word(r) + "=2" },
		"lists of any length":  func(r *rand.Rand, i int) string { return "got" + strings.Repeat(" 7", i%120) },
		"ats and colons":       func(r *rand.Rand, i int) string { return strings.Repeat("1@a:", 1+i%900) },
		"quotes and backticks": func(r *rand.Rand, i int) string { return strings.Repeat("`a'\"b ", 1+i%600) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := Config{MaxTemplates: 512, MaxStateBytes: 256 << 10}
			m := newMiner(t, cfg)
			r := rand.New(rand.NewPCG(1, 2))
			lines := n
			if strings.Contains(name, " and ") {
				lines /= 50
			}
			for i := range lines {
				id := m.Add([]byte(line(r, i)))
				if i%997 == 0 {
					checkTemplate(t, m, id)
				}
			}
			largest := recordBytes + slotBytes*hardItems + defaultLineBytes
			if got := m.Len(); got > cfg.MaxTemplates {
				t.Errorf("%d templates, want at most %d", got, cfg.MaxTemplates)
			}
			if m.bytes > cfg.MaxStateBytes+largest {
				t.Errorf("%d bytes of templates, want at most %d", m.bytes, cfg.MaxStateBytes)
			}
			if got, most := len(m.AppendSnapshot(nil)), 4*cfg.MaxStateBytes; got > most {
				t.Errorf("a snapshot of %d bytes, want at most %d", got, most)
			}
			if len(m.aliases.order) > mostAliases || len(m.byShape) > cfg.MaxTemplates {
				t.Errorf("%d aliases and %d shapes", len(m.aliases.order), len(m.byShape))
			}
		})
	}
}

func TestWordsAtOnePlaceBecomeOneTemplate(t *testing.T) {
	t.Parallel()
	m := newMiner(t, Config{})
	var id ID
	for i := range 100_000 {
		b := []byte("login of ")
		for v := i; ; v /= 26 {
			b = append(b, byte('a'+v%26))
			if v < 26 {
				break
			}
		}
		id = m.Add(append(b, " was refused by the gate"...))
	}
	if m.Len() != 1 {
		t.Fatalf("%d templates, want 1", m.Len())
	}
	if got, _ := m.Template(id); got.Text != "login of <*> was refused by the gate" || got.Count != 100_000 {
		t.Fatalf("got %+v", got)
	}
}

func TestWarmMinerAllocatesNothing(t *testing.T) {
	m := newMiner(t, Config{})
	lines := [][]byte{
		[]byte(`10.0.0.1 "GET /v2/servers/detail HTTP/1.1" status: 200 len: 1893 time: 0.2477829`),
		[]byte("Failed password for root from 5.36.59.76 port 42393 ssh2"),
		[]byte("user=alice ready=true in state: open, [1, 2, 3]"),
	}
	for _, l := range lines {
		m.Add(l)
	}
	if n := testing.AllocsPerRun(100, func() {
		for _, l := range lines {
			m.Add(l)
		}
	}); n > 0 {
		t.Errorf("%.1f allocations for known lines, want none", n)
	}
}

// Ids are stored by others: what a line's first id is must never change.
func TestIdsAreForEver(t *testing.T) {
	t.Parallel()
	m := newMiner(t, Config{Seed: 7})
	for line, want := range map[string]string{
		"":                                "cbf29ce484222325",
		"link error":                      "0eea0ee55688db33",
		"Received block blk_1 of size 42": "58eedd5d110e7034",
		"user=alice from 10.0.0.1:80":     "d3c44f6a210d9d87",
	} {
		if got := m.Add([]byte(line)).String(); got != want {
			t.Errorf("%q has the id %s, want %s", line, got, want)
		}
	}
}

func TestIdsCanBeRead(t *testing.T) {
	t.Parallel()
	id := ID(0xabc)
	if got, err := ParseID(id.String()); err != nil || got != id {
		t.Errorf("got %v, %v", got, err)
	}
	for _, s := range []string{"", "abc", "0000000000000000", "zzzzzzzzzzzzzzzz", "+000000000000001"} {
		if got, err := ParseID(s); model.KindOf(err) != model.KindInvalid {
			t.Errorf("%q gave %v, %v", s, got, err)
		}
	}
}

func TestEvictedTemplateComesBackUnderItsId(t *testing.T) {
	t.Parallel()
	m := newMiner(t, Config{MaxTemplates: 16})
	id := m.Add([]byte("rare event here"))
	for i := range 200 {
		line := strings.Repeat("x", 1+i%40) + " " + strings.Repeat("y", 1+i/40)
		for range 3 {
			m.Add([]byte(line))
		}
	}
	if _, ok := m.Template(id); ok {
		t.Fatal("the rare template is still there")
	}
	if again := m.Add([]byte("rare event here")); again != id {
		t.Errorf("it came back as %s, want %s", again, id)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{{MaxTemplates: 1}, {MaxTemplates: 1 << 20}, {MaxStateBytes: -1}, {MaxLineBytes: 1 << 20}, {MaxTokens: 1000}} {
		if _, err := New(cfg); model.KindOf(err) != model.KindInvalid {
			t.Errorf("%+v gave %v", cfg, err)
		}
	}
	var e *model.Error
	if _, err := New(Config{MaxTemplates: 1, MaxTokens: 1}); !errors.As(err, &e) || len(e.Fields) != 2 {
		t.Errorf("want both faults, got %v", err)
	}
}

func TestDamagedSnapshotsAreRefused(t *testing.T) {
	t.Parallel()
	m := newMiner(t, Config{})
	for i := range 50 {
		m.Add(fmt.Appendf(nil, "line number %d of %s", i, strings.Repeat("q", i%7)))
	}
	good := m.AppendSnapshot(nil)
	for name, bad := range map[string][]byte{
		"empty":     nil,
		"foreign":   []byte("something else altogether"),
		"truncated": good[:len(good)/2],
		"flipped":   append(append(bytes.Clone(good[:200]), good[200]^1), good[201:]...),
		"newer":     append(append(bytes.Clone(good[:7]), 99), good[8:]...),
	} {
		again := newMiner(t, Config{})
		again.Add([]byte("what was there before"))
		err := again.Restore(bad)
		if model.KindOf(err) != model.KindInvalid {
			t.Errorf("%s: got %v", name, err)
		}
		if again.Len() != 0 || again.Add([]byte("x y")) == 0 {
			t.Errorf("%s: the miner is not empty and usable", name)
		}
	}
	if err := newMiner(t, Config{}).Restore(good); err != nil {
		t.Errorf("the whole one: %v", err)
	}
}

// Skeletons that fall on one set of the cache push each other out; what they
// belong to stays the same.
func TestCrowdedCacheSetLosesNothing(t *testing.T) {
	t.Parallel()
	m := newMiner(t, Config{})
	var s scanner
	s.seed = m.scan.seed
	var lines []string
	for i := 0; len(lines) < 5*cacheWays; i++ {
		line := fmt.Sprintf("%c%c%c %s", 'a'+i%26, 'a'+i/26%26, 'a'+i/676%26, strings.Repeat("z", 1+i/17576))
		if s.scan([]byte(line), defaultLineBytes, defaultTokens); s.h%cacheSets == 7 {
			lines = append(lines, line)
		}
	}
	ids := map[ID]bool{}
	for round := range 3 {
		for i, l := range lines {
			id := m.Add([]byte(l))
			if round == 0 {
				ids[id] = true
			}
			if got, _ := m.Template(id); got.Text != lines[i] {
				t.Fatalf("%q got the template %q", l, got.Text)
			}
		}
	}
	if len(ids) != len(lines) || m.Len() != len(lines) {
		t.Errorf("%d ids and %d templates for %d lines", len(ids), m.Len(), len(lines))
	}
	if m.Stats().Misses <= uint64(len(lines)) {
		t.Error("nothing was pushed out: the test shows nothing")
	}
}

func TestSeedsDoNotChangeIds(t *testing.T) {
	t.Parallel()
	a, b := newMiner(t, Config{}), newMiner(t, Config{Seed: 0xfeed})
	for i := range 500 {
		line := fmt.Appendf(nil, "user u%d moved from %s to /srv/%d in %d ms", i%7, [...]string{"red", "blue", "n1", "green"}[i%4], i, i*i)
		if x, y := a.Add(line), b.Add(line); x != y {
			t.Fatalf("%q has the ids %s and %s", line, x, y)
		}
	}
	a.scan.scan([]byte("one line"), defaultLineBytes, defaultTokens)
	b.scan.scan([]byte("one line"), defaultLineBytes, defaultTokens)
	if a.scan.h == b.scan.h {
		t.Error("the seed is not in the hash")
	}
}

// Snapshots of versions 1 to 3, as they were written then, are read: the
// templates are there with their ids and names, and new lines find them.
func TestOldSnapshots(t *testing.T) {
	t.Parallel()
	m := newMiner(t, Config{})
	for _, l := range []string{"shutdown began", "shutdown ended", "the work of this node has began", "gate 7 is open", "gate 12 is open",
		"took 5 items, 7 items, 9 items from store", "account root1 from 10.0.0.1", "account root22 from 10.0.0.2", "slow call of /x/y took 7 ms"} {
		m.Add([]byte(l))
	}
	gate := m.Add([]byte("gate 9 is open"))
	if err := m.Name(gate, "the gate"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"snapshot_v1.gz", "snapshot_v2.gz", "snapshot_v3.gz"} {
		f, err := os.Open(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		old, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		again := newMiner(t, Config{})
		if err := again.Restore(old); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(m.Templates(), again.Templates()); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if again.vocabulary != m.vocabulary {
			t.Errorf("%s: the vocabulary is another", name)
		}
		if id := again.Add([]byte("gate 4 is open")); id != gate {
			t.Errorf("%s: a line of the gate has the id %s, want %s", name, id, gate)
		}
		old[len(old)/2] ^= 1
		if again.Restore(old) == nil {
			t.Errorf("%s: a damaged one was read", name)
		}
	}
}
