package bench

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLogMeasuresByHand(t *testing.T) {
	t.Parallel()
	set := &logSet{group: []int{0, 0, 0, 1, 1, 2}, text: []string{"a <*>", "b", "c"}}
	for _, c := range []struct {
		name  string
		group []int
		text  []string
		want  LogAccuracy
	}{
		{"all right", []int{7, 7, 7, 8, 8, 9}, []string{"a <*>", "a <*>", "a <*>", "b", "b", "c"}, LogAccuracy{1, 1, 1, 1}},
		{"one text wrong", []int{7, 7, 7, 8, 8, 9}, []string{"a 1", "a 1", "a 1", "b", "b", "c"}, LogAccuracy{1, 1, 0.5, 4. / 6}},
		{"one group split", []int{7, 7, 5, 8, 8, 9}, []string{"a <*>", "a <*>", "a <*>", "b", "b", "c"}, LogAccuracy{0.5, 4. / 7, 1, 4. / 7}},
		{"two groups merged", []int{7, 7, 7, 8, 8, 8}, []string{"a <*>", "a <*>", "a <*>", "b", "b", "b"}, LogAccuracy{0.5, 2. / 5, 5. / 6, 2. / 5}},
		{"all one", []int{1, 1, 1, 1, 1, 1}, make([]string, 6), LogAccuracy{0, 0, 0, 0}},
	} {
		if d := cmp.Diff(c.want, measureLogs(set, c.group, c.text)); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func TestRenamingIsConsistentAndKeepsForms(t *testing.T) {
	t.Parallel()
	set := &logSet{lines: [][]byte{[]byte("Open gate7 open 0xbeef of Open"), []byte("open a Open")}, group: []int{0, 1}, text: []string{"Open <*> open <*> of Open", "open a Open"}}
	got := renamed(set, 1)
	words := strings.Fields(string(got.lines[0]))
	if words[1] != "gate7" || words[3] != "0xbeef" {
		t.Errorf("words beside digits changed: %q", got.lines[0])
	}
	if words[0] == "Open" || words[0] != words[5] || words[0][0] < 'A' || words[0][0] > 'Z' || words[2] == words[0] {
		t.Errorf("got %q", got.lines[0])
	}
	if want := words[0] + " <*> " + words[2] + " <*> " + words[4] + " " + words[0]; got.text[0] != want {
		t.Errorf("the template became %q, want %q", got.text[0], want)
	}
	if string(got.lines[1]) != words[2]+" a "+words[0] || string(got.lines[1]) != got.text[1] {
		t.Errorf("got %q and %q", got.lines[1], got.text[1])
	}
	if other := renamed(set, 2); cmp.Equal(other.lines, got.lines) {
		t.Error("another seed gives the same words")
	}
}

func TestRedrawChangesDigitsOnly(t *testing.T) {
	t.Parallel()
	rng := rand.NewPCG(1, 2)
	line := []byte("port 1234567890 of node-7")
	seen := map[byte]bool{}
	for range 50 {
		got := redraw(nil, line, rng)
		for i, c := range got {
			if digit(c) != digit(line[i]) || !digit(c) && c != line[i] {
				t.Fatalf("%q became %q", line, got)
			}
		}
		seen[got[len(got)-1]] = true
	}
	if len(seen) != 10 {
		t.Errorf("the last digit took %d values, want 10", len(seen))
	}
}

func TestEachLine(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 3*longestLogLine/2)
	for _, c := range []struct {
		in   string
		want []string
	}{
		{"", nil},
		{"\n", []string{""}},
		{"a\n\nb", []string{"a", "", "b"}},
		{"a\r\nb\r\n", []string{"a", "b"}},
		{long + "\nb\n" + long, []string{long[:longestLogLine], "b", long[:longestLogLine]}},
		{long[:1<<16] + "\nb", []string{long[:1<<16], "b"}},
	} {
		var got []string
		if err := eachLine(strings.NewReader(c.in), func(l []byte) error { got = append(got, string(l)); return nil }); err != nil {
			t.Fatal(err)
		}
		if !cmp.Equal(got, c.want) {
			t.Errorf("%.20q: %d lines, want %d", c.in, len(got), len(c.want))
		}
	}
}

func TestMine(t *testing.T) {
	t.Parallel()
	in := "user \"alice\", in\n\nuser \"bob\", in\n\x1b[31mport 1\r\nuser \"carol\", in"
	var out bytes.Buffer
	s, err := Mine(strings.NewReader(in), &out)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&out).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 6 || s.Lines != 5 || s.Templates != 3 {
		t.Fatalf("%d rows, %+v", len(rows), s)
	}
	want := []string{"EventTemplate", `user "<*>", in`, "", `user "<*>", in`, "port <*>", `user "<*>", in`}
	for i, r := range rows {
		if r[2] != want[i] {
			t.Errorf("row %d is %q, want the template %q", i, r, want[i])
		}
		if i > 0 && (r[0] != fmt.Sprint(i) || len(r[1]) != 16) {
			t.Errorf("row %d is %q", i, r)
		}
	}
	if rows[1][1] != rows[3][1] || rows[1][1] == rows[4][1] {
		t.Errorf("wrong groups: %q", rows)
	}
}

func TestMineKeepsTextsOfEvictedTemplates(t *testing.T) {
	t.Parallel()
	var in strings.Builder
	const n = 10_000
	for i := range n {
		fmt.Fprintf(&in, "%s %s\n", strings.Repeat("x", 1+i%100), strings.Repeat("y", 1+i/100))
	}
	var out bytes.Buffer
	s, err := Mine(strings.NewReader(in.String()), &out)
	if err != nil {
		t.Fatal(err)
	}
	if s.Evicted == 0 {
		t.Fatal("nothing was evicted: the test shows nothing")
	}
	rows, err := csv.NewReader(&out).ReadAll()
	if err != nil || len(rows) != n+1 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for _, r := range rows[1:] {
		if r[2] == "" {
			t.Fatalf("line %s has no template", r[0])
		}
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestMineReportsWriteErrors(t *testing.T) {
	t.Parallel()
	if _, err := Mine(strings.NewReader("a\n"), brokenWriter{}); err == nil {
		t.Fatal("a full disk went unnoticed")
	}
}

func TestLogsOnASmallSet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var content, labels strings.Builder
	labels.WriteString("LineId,Content,EventId,EventTemplate\n")
	for i := range 60 {
		line, id, text := fmt.Sprintf("opened gate %d for staff", i), "E1", "opened gate <*> for staff"
		if i%3 == 0 {
			line, id, text = fmt.Sprintf("shut down after %d s", i), "E2", "shut down after <*> s"
		}
		fmt.Fprintln(&content, line)
		fmt.Fprintf(&labels, "%d,%s,%s,%s\n", i+1, line, id, text)
	}
	folder := filepath.Join(dir, "small")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"content.txt": content.String(), "gt.csv": labels.String()} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Logs(t.Context(), LogsOptions{Data: dir, Lines: 40_000})
	if err != nil {
		t.Fatal(err)
	}
	all := LogAccuracy{1, 1, 1, 1}
	if m := r.Mean; m.Final != all || m.Emitted != all || m.Coverage != 1 || m.Found != 2 {
		t.Errorf("got %+v", m)
	}
	if len(r.Speed) != 2 || r.Speed[0].Late != 2 || r.Speed[0].LinesPerS <= 0 {
		t.Errorf("got %+v", r.Speed)
	}
	var table, doc bytes.Buffer
	if err := errors.Join(r.WriteTable(&table), r.WriteJSON(&doc)); err != nil {
		t.Fatal(err)
	}
	if !json.Valid(doc.Bytes()) || !strings.Contains(table.String(), "small") {
		t.Errorf("got %s\n%s", table.String(), doc.String())
	}
	if _, err := Logs(t.Context(), LogsOptions{Data: t.TempDir()}); err == nil {
		t.Error("a folder without sets went through")
	}
}
