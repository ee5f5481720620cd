package bench

import (
	"bytes"
	"encoding/binary"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var generateLogs = flag.String("generate-logs", "", "folder to write the generated log sets to, for aiops bench logs --data")

// catalogues are programs whose messages are on most systems, as the keys of
// their translations.
var catalogues = [...]string{
	"apt", "avahi", "bash", "coreutils", "dpkg", "findutils", "gettext-tools", "glib20", "gnupg2", "gstreamer-1.0", "libc",
	"gtk30", "make", "man-db", "plpgsql-15", "postgres-15", "procps-ng", "psql-15", "shadow", "tar", "wget",
}

// messages returns the keys of a GNU message catalogue that are lines of a log
// in form: some words, at least one variable, one line.
func messages(name string) ([]string, error) {
	paths, err := filepath.Glob("/usr/share/locale/*/LC_MESSAGES/" + name + ".mo")
	if err != nil || len(paths) == 0 {
		return nil, errors.New("no catalogue of " + name)
	}
	var out []string
	for _, path := range paths { // each translation lacks some
		data, err := os.ReadFile(path)
		if err != nil || len(data) < 28 || binary.LittleEndian.Uint32(data) != 0x950412de {
			continue
		}
		n, table := binary.LittleEndian.Uint32(data[8:]), binary.LittleEndian.Uint32(data[12:])
		for i := range n {
			length, at := binary.LittleEndian.Uint32(data[table+8*i:]), binary.LittleEndian.Uint32(data[table+8*i+4:])
			key, _, _ := bytes.Cut(data[at:at+length], []byte{0}) // without the plural
			text := strings.TrimSpace(string(key))
			if _, after, ok := strings.Cut(text, "\x04"); ok { // a context
				text = after
			}
			words := len(regexp.MustCompile(`[A-Za-z]{2,}`).FindAllString(verb.ReplaceAllString(text, " "), -1))
			if words >= 3 && words <= 16 && !strings.ContainsAny(text, "\n\t<>|") && verb.MatchString(text) {
				out = append(out, text)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

var verb = regexp.MustCompile(`%(?:\d+\$)?[-+ #0']*\d*(?:\.\d+)?(?:hh|ll|[hljzt])?[a-zA-Z]`)

// valueMaker draws the values of one place.
type valueMaker func(r *rand.Rand) string

// generatedSet makes a set of n lines from messages. Of the places of texts
// four in ten hold plain words: names from a pool of their own, as users,
// queues and states are, skewed as those are.
func generatedSet(name string, messages []string, n int, seed uint64) logSet {
	r := rand.New(rand.NewPCG(seed, uint64(len(messages))))
	var ordinary []string // words that the program uses itself
	for _, m := range messages {
		ordinary = append(ordinary, regexp.MustCompile(`\b[a-z]{3,10}\b`).FindAllString(verb.ReplaceAllString(m, " "), -1)...)
	}
	r.Shuffle(len(messages), func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })
	messages = messages[:min(len(messages), 115)]
	s := logSet{name: name}
	known := map[string]int{}
	type template struct {
		parts  []string
		values []valueMaker
		group  int
	}
	var templates []template
	for _, m := range messages {
		t := template{parts: verb.Split(m, -1)}
		text := t.parts[0]
		for i, v := range verb.FindAllString(m, -1) {
			t.values = append(t.values, newValue(r, v[len(v)-1], ordinary))
			text += "<*>" + t.parts[i+1]
		}
		for strings.Contains(text, "<*><*>") {
			text = strings.ReplaceAll(text, "<*><*>", "<*>")
		}
		g, ok := known[text]
		if !ok {
			g = len(s.text)
			known[text] = g
			s.text = append(s.text, text)
		}
		t.group = g
		templates = append(templates, t)
	}
	total := 0.0
	weight := make([]float64, len(templates))
	for i := range weight {
		total += 1 / math.Pow(float64(i+1), 1.1)
		weight[i] = total
	}
	for range n {
		i, _ := slices.BinarySearch(weight, r.Float64()*total)
		t := &templates[min(i, len(templates)-1)]
		line := t.parts[0]
		for k, v := range t.values {
			line += v(r) + t.parts[k+1]
		}
		s.lines = append(s.lines, []byte(strings.ReplaceAll(line, "%%", "%")))
		s.group = append(s.group, t.group)
	}
	return s.compact()
}

// compact leaves out the templates without a line.
func (s logSet) compact() logSet {
	out := logSet{name: s.name, lines: s.lines}
	at := map[int]int{}
	for _, g := range s.group {
		if _, ok := at[g]; !ok {
			at[g] = len(out.text)
			out.text = append(out.text, s.text[g])
		}
		out.group = append(out.group, at[g])
	}
	return out
}

func newValue(r *rand.Rand, verb byte, ordinary []string) valueMaker {
	switch verb {
	case 'd', 'i', 'u', 'f', 'g', 'x', 'X', 'o':
		most := 1 << (3 + r.IntN(16))
		return func(r *rand.Rand) string { return fmt.Sprint(r.IntN(most)) }
	case 'c':
		return func(r *rand.Rand) string { return string(rune('a' + r.IntN(26))) }
	}
	switch kind := r.IntN(10); {
	case kind < 4:
		pool := make([]string, 3+r.IntN(40))
		for i := range pool {
			if r.IntN(10) < 3 && len(ordinary) > 0 {
				pool[i] = ordinary[r.IntN(len(ordinary))]
			} else {
				pool[i] = madeUp(r)
			}
		}
		return func(r *rand.Rand) string { return pool[int(float64(len(pool))*math.Pow(r.Float64(), 1.5))] }
	case kind < 6:
		return func(r *rand.Rand) string { return "/" + madeUp(r) + "/" + madeUp(r) }
	case kind < 8:
		base := madeUp(r)
		return func(r *rand.Rand) string { return fmt.Sprint(base, r.IntN(64)) }
	case kind < 9:
		return func(r *rand.Rand) string { return fmt.Sprintf("10.%d.%d.%d", r.IntN(9), r.IntN(255), r.IntN(255)) }
	}
	return func(r *rand.Rand) string { return fmt.Sprintf("%08x", r.Uint32()) }
}

// madeUp returns a word that nobody knows.
func madeUp(r *rand.Rand) string {
	const consonants, vowels = "bcdfghklmnprstvz", "aeiou"
	b := make([]byte, 0, 10)
	for range 2 + r.IntN(3) {
		b = append(b, consonants[r.IntN(len(consonants))], vowels[r.IntN(len(vowels))])
	}
	return string(b)
}

// TestWriteGeneratedLogs writes the generated sets, which is not done unless
// asked for.
func TestWriteGeneratedLogs(t *testing.T) {
	if *generateLogs == "" {
		t.Skip("no folder given: -generate-logs DIR")
	}
	for i, name := range catalogues {
		m, err := messages(name)
		if err != nil {
			t.Fatal(err)
		}
		set := generatedSet(name, m, 2000, uint64(i+1))
		dir := filepath.Join(*generateLogs, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		var labels bytes.Buffer
		w := csv.NewWriter(&labels)
		_ = w.Write([]string{"LineId", "EventId", "EventTemplate"})
		for k, g := range set.group {
			_ = w.Write([]string{fmt.Sprint(k + 1), fmt.Sprint("E", g), set.text[g]})
		}
		w.Flush()
		if err := errors.Join(os.WriteFile(filepath.Join(dir, "content.txt"), append(bytes.Join(set.lines, []byte("\n")), '\n'), 0o644),
			os.WriteFile(filepath.Join(dir, "gt.csv"), labels.Bytes(), 0o644)); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d messages, %d templates", name, len(m), len(set.text))
	}
}

// The labels of a generated set are those of its lines: one template that
// nothing can be mistaken in is found as it is.
func TestGeneratedLabelsFitTheLines(t *testing.T) {
	t.Parallel()
	set := generatedSet("one", []string{"shelf %d of %d is empty in house %d"}, 50, 1)
	final, emitted, found, covered, err := mineOnce(&set)
	if err != nil {
		t.Fatal(err)
	}
	if all := (LogAccuracy{1, 1, 1, 1}); final != all || emitted != all || found != 1 || covered != 1 {
		t.Errorf("final %+v, emitted %+v, %d templates, %v covered", final, emitted, found, covered)
	}
	set.group[7] = 1
	set.text = append(set.text, "another")
	if final, _, _, _, _ := mineOnce(&set); final.Grouping != 0 { // a control
		t.Errorf("with a wrong label the accuracy is %v", final.Grouping)
	}
}
