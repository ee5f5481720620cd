package detect_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"aiops/internal/detect"
	"aiops/internal/model"
)

// TestScripts runs testdata/*.txt. A script is a sequence of blocks: commands,
// a line of four dashes, and what the commands print, up to an empty line.
// With -rewrite the printed text is written in place of the expected one.
//
//	new MODEL [step=1m] [direction=above] [zone=Europe/Berlin] [seed=1] [at=TIME] [{parameters}]
//	learn VALUES     learns without printing
//	score VALUES     scores each, prints, does not learn
//	step VALUES      scores and learns each, printing the anomalous ones
//	threshold SCORE  sets the threshold; the default is 4
//	describe         prints the algorithm and why
//	contributions    prints what the last score was made of
//	restart          takes a snapshot and goes on with a new model restored from it
//	gate VALUE threshold=4 direction=above absolute=1 relative=0.1   what holds the value back
//
// VALUES are separated by blanks: 3 is a value; 3x5 is it five times; 3+2x4 is
// 3 5 7 9; 10~2x100 is a hundred values around 10 with a standard deviation of
// 2, the same in each run; 50^30x1440 is a wave of one day around 50 with the
// amplitude 30, one sample each; _ is a missing step, _x9 nine. A # begins a
// comment.
func TestScripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(string(text))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(text) {
				t.Errorf("the output differs; look at it with -rewrite and git diff:\n%s", firstDifference(string(text), got))
			}
		})
	}
}

// A control: a script with a wrong expectation has to differ.
func TestScriptsCanFail(t *testing.T) {
	t.Parallel()
	const wrong = "new threshold {\"above\": 5}\nscore 6\n----\n6: all is well\n\n"
	if runScript(wrong) == wrong {
		t.Error("a wrong expectation passed")
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		a, b := "(end)", "(end)"
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			return fmt.Sprintf("line %d\nwant %s\ngot  %s", i+1, a, b)
		}
	}
	return ""
}

// script is the state of a running script.
type script struct {
	spec      detect.Spec
	model     detect.Model
	at        int64
	step      int64
	noise     func() float64
	threshold float64
	out       strings.Builder
}

// runScript returns the script with its output in place of what it expected.
func runScript(text string) string {
	var out strings.Builder
	s := &script{}
	expected := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case expected && line != "":
			continue
		case expected:
			expected = false
			out.WriteString("\n")
		case line == "----":
			expected = true
			out.WriteString(line + "\n" + s.out.String())
			s.out.Reset()
		default:
			out.WriteString(line + "\n")
			s.run(line)
		}
	}
	return out.String()
}

func (s *script) printf(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

func (s *script) run(line string) {
	line, _, _ = strings.Cut(line, "#")
	command, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	if command == "" {
		return
	}
	if command == "new" {
		s.create(rest)
		return
	}
	if s.model == nil {
		s.printf("there is no model")
		return
	}
	switch command {
	case "threshold":
		s.threshold, _ = strconv.ParseFloat(rest, 64)
		s.model.SetThreshold(s.threshold)
	case "describe":
		name, why := s.model.Describe()
		s.printf("%s: %s", name, why)
	case "contributions":
		for _, c := range s.model.Contributions() {
			s.printf("%s score %.2f share %.0f %%: %s", c.Name, c.Score, 100*c.Share, c.Note)
		}
	case "restart":
		m, err := detect.New(s.spec)
		if err == nil {
			err = m.Restore(s.model.AppendSnapshot(nil))
		}
		if err != nil {
			s.printf("%v", err)
		}
		s.model = m
	case "gate":
		s.gate(strings.Fields(rest))
	case "learn", "score", "step":
		for _, field := range strings.Fields(rest) {
			if err := s.values(command, field); err != nil {
				s.printf("%v", err)
			}
		}
	default:
		s.printf("there is no command %q", command)
	}
}

func (s *script) create(rest string) {
	*s = script{noise: detectNoise(1), threshold: detect.DefaultThreshold, out: s.out}
	s.spec = detect.Spec{Step: time.Minute}
	at := time.Date(2026, time.January, 5, 0, 0, 0, 0, time.UTC) // a Monday
	rest, parameters, ok := strings.Cut(rest, "{")
	if ok {
		s.spec.Parameters = json.RawMessage("{" + parameters)
	}
	for i, field := range strings.Fields(rest) {
		key, value, _ := strings.Cut(field, "=")
		var err error
		switch {
		case i == 0:
			s.spec.Model = field
		case key == "step":
			s.spec.Step, err = time.ParseDuration(value)
		case key == "direction":
			s.spec.Direction = model.Direction(value)
		case key == "zone":
			s.spec.TimeZone = value
		case key == "seed":
			s.spec.Seed, err = strconv.ParseUint(value, 10, 64)
		case key == "at":
			at, err = time.Parse(time.RFC3339, value)
		case key == "absolute":
			s.spec.MinDeviation.Absolute, err = strconv.ParseFloat(value, 64)
		case key == "relative":
			s.spec.MinDeviation.Relative, err = strconv.ParseFloat(value, 64)
		default:
			err = fmt.Errorf("there is no option %q", key)
		}
		if err != nil {
			s.printf("%v", err)
		}
	}
	s.step, s.at = s.spec.Step.Milliseconds(), at.UnixMilli()
	m, err := detect.New(s.spec)
	if v := detect.Validate(s.spec); fmt.Sprint(v) != fmt.Sprint(err) {
		s.printf("Validate says %v, New says %v", v, err)
	}
	if err != nil {
		var invalid *model.Error
		if !errors.As(err, &invalid) || invalid.Kind != model.KindInvalid {
			s.printf("not an error of kind invalid: %v", err)
			return
		}
		for _, f := range invalid.Fields {
			s.printf("%s %s: %s", f.Pointer, f.Code, f.Detail)
		}
		return
	}
	s.model = m
}

// values runs a command on the values that a field stands for.
func (s *script) values(command, field string) error {
	times := 1
	if head, count, ok := strings.Cut(field, "x"); ok {
		n, err := strconv.Atoi(count)
		if err != nil || n < 1 {
			return fmt.Errorf("%q: the count is not a number", field)
		}
		field, times = head, n
	}
	if field == "_" {
		s.at += int64(times) * s.step
		return nil
	}
	base, by, kind := field, 0.0, byte(0)
	if i := strings.IndexAny(field[1:], "+~^"); i >= 0 && !strings.HasSuffix(field[:i+1], "e") {
		var err error
		if by, err = strconv.ParseFloat(field[i+2:], 64); err != nil {
			return err
		}
		base, kind = field[:i+1], field[i+1]
	}
	v, err := strconv.ParseFloat(base, 64)
	if err != nil {
		return err
	}
	for i := range times {
		x := v
		switch kind {
		case '+':
			x += by * float64(i)
		case '~':
			x += by * math.Sqrt(3) / 2 * s.noise()
		case '^':
			x += by * math.Sin(2*math.Pi*float64(s.at+s.step)/86_400_000)
		}
		s.value(command, x)
	}
	return nil
}

func (s *script) value(command string, v float64) {
	t := s.at + s.step
	if command == "learn" {
		s.model.Learn(t, v)
		s.at = t
		return
	}
	r := s.model.Score(t, v)
	if command == "score" || r.Score > s.threshold {
		s.printf("%s: %s", short(v), sentence(r))
	}
	if command == "step" {
		s.model.Learn(t, v)
		s.at = t
	}
}

func short(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }

func sentence(r detect.Result) string {
	text := fmt.Sprintf("score %.2f, expected %s, band %s to %s, %v", r.Score, short(r.Expected), short(r.Lower), short(r.Upper), r.Reason)
	if r.Learning {
		text += ", learning"
	}
	if r.Extrapolated {
		text += ", extrapolated"
	}
	return text
}

func (s *script) gate(fields []string) {
	v, threshold, d, m := 0.0, s.threshold, s.spec.Direction, s.spec.MinDeviation
	for i, field := range fields {
		key, value, _ := strings.Cut(field, "=")
		x, _ := strconv.ParseFloat(value, 64)
		switch {
		case i == 0:
			v, _ = strconv.ParseFloat(field, 64)
		case key == "threshold":
			threshold = x
		case key == "direction":
			d = model.Direction(value)
		case key == "absolute":
			m.Absolute = x
		case key == "relative":
			m.Relative = x
		}
	}
	s.printf("%s: %v", short(v), detect.Gates(s.model.Score(s.at+s.step, v), v, threshold, d, m))
}
