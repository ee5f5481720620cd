package loki

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"aiops/internal/model"
)

var values = flag.Int("values", 20_000, "random values that TestQuotedValuesReadBack quotes")

// readQuoted reads a text in double quotes as LogQL's lexer does: Go's escapes,
// no line break. It shares nothing with what writes them.
func readQuoted(s string) (value, rest string, err error) {
	if s == "" || s[0] != '"' {
		return "", s, fmt.Errorf("no quotes at %.20q", s)
	}
	var out []byte
	for i := 1; i < len(s); {
		c := s[i]
		i++
		switch {
		case c == '"':
			return string(out), s[i:], nil
		case c < ' ' || c >= 0x7f:
			return "", s, fmt.Errorf("the byte %#x stands as it is", c)
		case c != '\\':
			out = append(out, c)
			continue
		}
		if i == len(s) {
			break
		}
		c = s[i]
		i++
		if at := strings.IndexByte(`abfnrtv\"`, c); at >= 0 {
			out = append(out, "\a\b\f\n\r\t\v\\\""[at])
			continue
		}
		digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
		if digits == 0 || i+digits > len(s) {
			return "", s, fmt.Errorf("the escape \\%c", c)
		}
		var n uint32
		for _, h := range []byte(s[i : i+digits]) {
			d := strings.IndexByte("0123456789abcdef", h|0x20)
			if d < 0 {
				return "", s, fmt.Errorf("the digit %q", h)
			}
			n = n<<4 | uint32(d)
		}
		i += digits
		if c == 'x' {
			out = append(out, byte(n))
		} else {
			out = utf8.AppendRune(out, rune(n))
		}
	}
	return "", s, fmt.Errorf("the quotes do not end in %.40q", s)
}

// randomValue draws values as an attacker would choose them.
func randomValue(r *rand.Rand) string {
	var b []byte
	for range r.IntN(24) {
		switch r.IntN(5) {
		case 0:
			b = append(b, byte(r.IntN(256)))
		case 1:
			const pieces = "\"\\'`{}[](),=~!|#\n\r\t\x00"
			b = append(b, pieces[r.IntN(len(pieces))])
		case 2:
			b = utf8.AppendRune(b, rune(r.IntN(utf8.MaxRune+1)))
		case 3:
			special := []string{`"} or vector(1) #`, `\"`, `"} | json`, "\u2028", "\ufeff", "\ufffd", "\u202e", `\x`, `{{.}}`}
			b = append(b, special[r.IntN(len(special))]...)
		default:
			b = append(b, byte('a'+r.IntN(26)))
		}
	}
	return string(b)
}

// What is built of any value reads back as that value, in a selector and as a
// filter of lines. The full figure: -args -values 1000000.
func TestQuotedValuesReadBack(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range *values {
		want := randomValue(r)
		if msg := readsBack(model.Selector{{Name: "app", Op: model.MatchNotEqual, Value: want}, {Name: "b", Op: model.MatchEqual, Value: "c"}}.String()+" |= "+Quote(want), want); msg != "" {
			t.Fatalf("%q: %s", want, msg)
		}
	}
}

// readsBack says what is wrong with a query that was built of a value, or "".
func readsBack(query, want string) string {
	rest, ok := strings.CutPrefix(query, "{app!=")
	if !ok {
		return "the selector begins with " + query
	}
	got, rest, err := readQuoted(rest)
	if err != nil || got != want {
		return fmt.Sprintf("the label reads back as %q (%v)", got, err)
	}
	if rest, ok = strings.CutPrefix(rest, `, b="c"} |= `); !ok {
		return "the value ended its quotes: " + rest
	}
	if got, rest, err = readQuoted(rest); err != nil || got != want || rest != "" {
		return fmt.Sprintf("the filter reads back as %q, then %q (%v)", got, rest, err)
	}
	return ""
}

// The control: built by joining texts, values do not read back.
func TestJoinedValuesDoNotReadBack(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		v := randomValue(r)
		if readsBack(`{app!="`+v+`", b="c"} |= "`+v+`"`, v) != "" {
			return
		}
	}
	t.Error("values that are joined into a query read back: the test proves nothing")
}
