package logmine

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts give into the scripts")

// A script is a list of commands, each with its input lines, a line of dashes
// and the expected output, parted by empty lines:
//
//	mine            mines the input lines; prints each one's template
//	templates       prints all templates with their counts
//	text A…         prints the texts of templates
//	name A words…   names a template; mark, pin and unpin work alike
//	merge A B       merges two templates
//	split A N       splits a template at its variable N
//	restart         goes on with a restored snapshot
//	upgrade         the same, as if the scanner had changed
//	miner key=N…    starts with an empty miner with bounds
//	# …             is a comment
//
// Templates are called A, B, C… in the order in which their ids first appear.
type script struct {
	t     *testing.T
	m     *Miner
	cfg   Config
	names map[ID]string
	ids   map[string]ID
}

func TestScripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.script")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".script"), func(t *testing.T) {
			t.Parallel()
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, want := runScript(t, string(b)), string(b)
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("the script gives something else; run with -rewrite and look at the difference\n%s", firstDifference(got, want))
			}
		})
	}
}

// A control: a script with a wrong expectation has to differ.
func TestScriptsCanFail(t *testing.T) {
	t.Parallel()
	s := "mine\nopened port 1\n----\nA  opened gate <*>\n"
	if runScript(t, s) == s {
		t.Fatal("a wrong expectation went through")
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d\n got %q\nwant %q", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}

func runScript(t *testing.T, text string) string {
	t.Helper()
	s := &script{t: t}
	s.start(Config{})
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimRight(text, "\n"), "\n\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		input, _, has := strings.Cut(block+"\n", "----\n")
		out.WriteString(input)
		if !has {
			continue // a comment
		}
		lines := strings.Split(strings.TrimSuffix(input, "\n"), "\n")
		for len(lines) > 0 && strings.HasPrefix(lines[0], "#") {
			lines = lines[1:]
		}
		out.WriteString("----\n" + s.run(strings.Fields(lines[0]), lines[1:]))
	}
	return out.String()
}

func (s *script) start(cfg Config) {
	s.t.Helper()
	m, err := New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.m, s.cfg, s.names, s.ids = m, cfg, map[ID]string{}, map[string]ID{}
}

func (s *script) label(id ID) string {
	if n, ok := s.names[id]; ok {
		return n
	}
	n := ""
	for k := len(s.names); ; k = k/26 - 1 {
		n = string(rune('A'+k%26)) + n
		if k < 26 {
			break
		}
	}
	s.names[id], s.ids[n] = n, id
	return n
}

func (s *script) run(command, input []string) string {
	s.t.Helper()
	out, err := s.command(command, input)
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	return out
}

func (s *script) command(command, input []string) (string, error) {
	s.t.Helper()
	var out strings.Builder
	id := func(i int) ID { return s.ids[command[i]] }
	switch command[0] {
	case "mine":
		var got []ID
		for _, l := range input {
			if q, err := strconv.Unquote(l); err == nil {
				l = q
			}
			got = append(got, s.m.Add([]byte(l)))
		}
		for _, id := range got {
			t, _ := s.m.Template(id)
			fmt.Fprintf(&out, "%s  %s\n", s.label(id), t.Text)
		}
	case "templates":
		for _, t := range s.m.Templates() {
			fmt.Fprintf(&out, "%s  %d  %s%s\n", s.label(t.ID), t.Count, t.Text, s.notes(t))
		}
	case "text":
		for i := range command[1:] {
			t, ok := s.m.Template(id(i + 1))
			if !ok {
				fmt.Fprintf(&out, "%s  gone\n", command[i+1])
				continue
			}
			fmt.Fprintf(&out, "%s  %s%s\n", s.label(t.ID), t.Text, s.notes(t))
		}
	case "name":
		return "", s.m.Name(id(1), strings.Join(command[2:], " "))
	case "mark":
		marks := map[string]Mark{"none": MarkNone, "ignored": MarkIgnored, "important": MarkImportant}
		return "", s.m.Mark(id(1), marks[command[2]])
	case "pin", "unpin":
		return "", s.m.Pin(id(1), command[0] == "pin")
	case "merge":
		kept, err := s.m.Merge(id(1), id(2))
		if err != nil {
			return "", err
		}
		return s.label(kept) + "\n", nil
	case "split":
		n, err := strconv.Atoi(command[2])
		if err != nil {
			return "", err
		}
		return "", s.m.Split(id(1), n)
	case "restart", "upgrade":
		m, err := New(s.cfg)
		if err != nil {
			return "", err
		}
		if err := m.restore(s.m.AppendSnapshot(nil), command[0] == "upgrade"); err != nil {
			return "", err
		}
		s.m = m
	case "miner":
		var cfg Config
		for _, o := range command[1:] {
			key, v, _ := strings.Cut(o, "=")
			n, err := strconv.Atoi(v)
			if err != nil {
				return "", err
			}
			switch key {
			case "templates":
				cfg.MaxTemplates = n
			case "line":
				cfg.MaxLineBytes = n
			case "tokens":
				cfg.MaxTokens = n
			}
		}
		s.start(cfg)
	default:
		s.t.Fatalf("unknown command %q", command[0])
	}
	return out.String(), nil
}

func (s *script) notes(t Template) string {
	var notes []string
	if t.Name != "" {
		notes = append(notes, strconv.Quote(t.Name))
	}
	if t.Pinned {
		notes = append(notes, "pinned")
	}
	if t.Mark != MarkNone {
		notes = append(notes, t.Mark.String())
	}
	if t.Parent != 0 {
		notes = append(notes, "of "+s.label(t.Parent))
	}
	if len(notes) == 0 {
		return ""
	}
	return "  [" + strings.Join(notes, ", ") + "]"
}
