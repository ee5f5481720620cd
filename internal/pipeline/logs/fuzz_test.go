package logs

import (
	"context"
	"strings"
	"testing"
	"unicode/utf8"

	"aiops/internal/model"
)

// FuzzEditPattern edits patterns of any lines in any way: whatever happens, the
// stage can be stored, restored and listed, and shows valid and bounded text.
func FuzzEditPattern(f *testing.F) {
	f.Add("disk 7 is full", "disk 8 is full", "a name", "warning", 0, uint8(1))
	f.Add("\x1b[31mred\x00", "\xff\u202e", "\x1b]0;x\x07", "", -1, uint8(2))
	f.Add("unable to reach red", "unable to reach blue", "", "critical", 99, uint8(7))
	f.Fuzz(func(t *testing.T, first, second, name, severity string, split int, what uint8) {
		s := setup(t, Config{})
		s.take([]model.LogLine{{T: s.clock.UnixNano(), Text: first, Message: first}, {T: s.clock.UnixNano(), Text: second, Message: second}})
		a, b := s.stored[0].Template, s.stored[1].Template
		var e model.LogPatternEdit
		yes, level := true, model.Severity(severity)
		if what&1 != 0 {
			e.Name, e.Pinned = &name, &yes
		}
		if what&2 != 0 {
			e.SplitAt = &split
		}
		if what&4 != 0 {
			e.MergeWith = b
		}
		if what&8 != 0 {
			e.Severity, e.Expected = &level, &yes
		}
		_, _ = s.EditPattern(context.Background(), a, e, 0)
		s.open(Config{})
		s.take([]model.LogLine{{T: s.clock.UnixNano(), Text: first, Message: first}})
		list, _, err := s.Patterns(context.Background(), model.LogPatternFilter{})
		if err != nil || len(list) == 0 {
			t.Fatalf("%d patterns, %v", len(list), err)
		}
		for _, p := range list {
			if !utf8.ValidString(p.Template) || !utf8.ValidString(p.Name) || len(p.Name) > mostNameBytes || strings.ContainsAny(p.Name, "\x00\x1b\u202e") {
				t.Errorf("a pattern shows %q, %q", p.Template, p.Name)
			}
		}
	})
}

// FuzzDurations reads durations out of any text: they are few, and not negative.
func FuzzDurations(f *testing.F) {
	for _, seed := range []string{"took 12ms", `{"duration_ms": 17}`, "1.5 s and 3m2s", "99999999999999999999999h", "1e309 s", "12\xc2\xb5s", "5 hours"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		found := Durations(text)
		if len(found) > 8 {
			t.Errorf("%d durations", len(found))
		}
		for _, d := range found {
			if d < 0 {
				t.Errorf("%q names the duration %v", text, d)
			}
		}
	})
}
