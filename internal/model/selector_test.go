package model_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"aiops/internal/model"
)

func TestSelectorsMatch(t *testing.T) {
	t.Parallel()
	labels := model.LabelsFromMap(map[string]string{"app": "checkout", "env": "prod\nblue"})
	for _, tc := range []struct {
		text string
		want bool
	}{
		{"", true}, {"{}", true},
		{`{app="checkout"}`, true}, {`{app="check"}`, false}, {`{app!="check"}`, true},
		{`{app=~"check.*"}`, true}, {`{app=~"check"}`, false}, {`{app!~"check"}`, true}, {`{app!~"check.*"}`, false},
		{`{env=~"prod.blue"}`, true},
		{`{region=""}`, true}, {`{region!=""}`, false},
		{"{ app = `checkout` , env =~ \"prod.+\", }", true},
		{`{app="checkout", env="test"}`, false},
	} {
		s, err := model.ParseSelector(tc.text)
		if err != nil {
			t.Fatalf("ParseSelector(%q): %v", tc.text, err)
		}
		matches, err := s.Compile()
		if err != nil {
			t.Fatal(err)
		}
		if got := matches(labels); got != tc.want {
			t.Errorf("%s selects %v: %v, want %v", tc.text, labels, got, tc.want)
		}
	}
}

func TestSelectorsAreRefused(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		`app="x"`:                  "column 1: a selector starts with {",
		`{app}`:                    "column 5: one of",
		`{app="x}`:                 "column 6: the value of",
		`{app='x'}`:                "column 6: the value of",
		`{="x"}`:                   "column 2: the name",
		`{app="x" env="y"}`:        "column 10: a comma",
		`{app="x"} |= "y"`:         "column 11: there is text after",
		`{,}`:                      "column 2: the name",
		`{app=~"("}`:               "no regular expression",
		`{app=~"(a{1000}){1000}"}`: "no regular expression",
		`{app=~"` + strings.Repeat("a", model.MaxPatternBytes+1) + `"}`: "at most 1024",
		"{" + strings.Repeat(`a="b",`, 40) + "}":                        "more than 32",
	} {
		_, err := model.ParseSelector(text)
		if model.KindOf(err) != model.KindQuery || !strings.Contains(err.Error(), says) {
			t.Errorf("ParseSelector(%.40q) = %v, want KindQuery with %q", text, err, says)
		}
	}
}

// What String builds has to read back as it was given, whatever it holds.
func TestSelectorsReadBackAsBuilt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.OneOf(rapid.String(),
			rapid.StringOfN(rapid.SampledFrom([]rune("\"\\'`{}[](),=~!#\n\r\t\x00 \u2028ü𝄞aZ09_:.-")), 0, 40, -1),
			rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 20), func(b []byte) string { return string(b) }))
		var want model.Selector
		for range rapid.IntRange(1, 4).Draw(t, "matchers") {
			want = append(want, model.Matcher{
				Name:  rapid.StringMatching(`[a-zA-Z_][a-zA-Z0-9_]{0,9}`).Draw(t, "name"),
				Op:    rapid.SampledFrom([]model.MatchOp{model.MatchEqual, model.MatchNotEqual}).Draw(t, "op"),
				Value: values.Draw(t, "value"),
			})
		}
		got, err := model.ParseSelector(want.String())
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%s reads back as %v (%v)", want, got, err)
		}
	})
}

func TestLogFiltersAreChecked(t *testing.T) {
	t.Parallel()
	if err := (model.LogFilter{Level: model.LevelWarn, Limit: model.MostLogLimit}).Validate(); err != nil {
		t.Errorf("a good filter: %v", err)
	}
	for _, f := range []model.LogFilter{
		{From: 2, To: 1}, {Contains: strings.Repeat("x", model.MaxContains+1)}, {Level: "loud"}, {Limit: -1},
		{Limit: model.MostLogLimit + 1}, {Templates: make([]string, 2000)},
		{Selector: model.Selector{{Name: "a", Op: model.MatchPattern, Value: "("}}},
	} {
		if err := f.Validate(); model.KindOf(err) != model.KindQuery {
			t.Errorf("Validate of %+.60v = %v, want KindQuery", f, err)
		}
	}
}

func FuzzParseSelector(f *testing.F) {
	f.Add(`{app="a", env=~"b|c"}`)
	f.Add("{a!~`x`,}")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := model.ParseSelector(text)
		if err != nil {
			if model.KindOf(err) != model.KindQuery {
				t.Fatalf("ParseSelector(%q) = %v, want KindQuery", text, err)
			}
			return
		}
		if again, err := model.ParseSelector(s.String()); err != nil || !slices.Equal(again, s) {
			t.Fatalf("%q was read as %s, which reads back as %s (%v)", text, s, again, err)
		}
	})
}
