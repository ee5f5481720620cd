package model

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// MatchOp is how a Matcher compares.
type MatchOp string

// The comparisons, as PromQL and LogQL write them. Patterns are RE2 and match
// the whole value.
const (
	MatchEqual      MatchOp = "="
	MatchNotEqual   MatchOp = "!="
	MatchPattern    MatchOp = "=~"
	MatchNotPattern MatchOp = "!~"
)

// Matcher selects series or streams by one label. A label that is missing has
// the value "".
type Matcher struct {
	Name  string
	Op    MatchOp
	Value string
}

// Selector selects what all of its matchers select; an empty one selects all.
type Selector []Matcher

// Bounds of selectors. Patterns are RE2, so matching takes time linear in the
// value, but compiling a huge one is not free.
const (
	MaxPatternBytes = 1 << 10
	mostMatchers    = 32
	maxMatcherValue = 64 << 10
)

func (s Selector) check(v *Invalid) {
	if len(s) > mostMatchers {
		v.Add("/selector", "too_many", "the selector has %d matchers; at most %d are allowed", len(s), mostMatchers)
		return
	}
	for i, m := range s {
		if _, err := m.compile(); err != nil {
			v.Add(fmt.Sprintf("/selector/%d", i), "selector", "%s", err)
		}
	}
}

// Compile returns a function that says whether labels are selected. It is safe
// for concurrent use. The error is of KindQuery and names every fault.
func (s Selector) Compile() (func(Labels) bool, error) {
	var v Invalid
	if s.check(&v); len(v.fields) > 0 {
		return nil, v.errOf(KindQuery, "")
	}
	matches := make([]func(string) bool, len(s))
	for i, m := range s {
		matches[i], _ = m.compile() // checked above
	}
	return func(ls Labels) bool {
		for i, m := range s {
			if !matches[i](ls.Value(m.Name)) {
				return false
			}
		}
		return true
	}, nil
}

// compile returns a function that says whether a value is selected.
func (m Matcher) compile() (func(value string) bool, error) {
	switch {
	case m.Name == "" || len(m.Name) > 1024:
		return nil, fmt.Errorf("a matcher names a label of 1 to 1024 bytes")
	case len(m.Value) > maxMatcherValue:
		return nil, fmt.Errorf("the value for label %q has %d bytes; at most %d are allowed", m.Name, len(m.Value), maxMatcherValue)
	}
	switch m.Op {
	case MatchEqual:
		return func(value string) bool { return value == m.Value }, nil
	case MatchNotEqual:
		return func(value string) bool { return value != m.Value }, nil
	case MatchPattern, MatchNotPattern:
		if len(m.Value) > MaxPatternBytes {
			return nil, fmt.Errorf("the pattern for label %q has %d bytes; at most %d are allowed", m.Name, len(m.Value), MaxPatternBytes)
		}
		pattern, err := regexp.Compile("^(?s:" + m.Value + ")$")
		if err != nil {
			return nil, fmt.Errorf("the pattern for label %q is no regular expression (RE2): %w", m.Name, err)
		}
		want := m.Op == MatchPattern
		return func(value string) bool { return pattern.MatchString(value) == want }, nil
	}
	return nil, fmt.Errorf("a matcher has the comparison %q; use =, !=, =~ or !~", string(m.Op))
}

// String returns the selector as LogQL and PromQL write it, {app="a", env=~"b"}.
// Values are quoted in ASCII, so none of them can end the quotes, whatever it
// holds; ParseSelector, Loki and Prometheus read the same values back. Names
// have to be checked before, with Compile: they stand as they are.
func (s Selector) String() string {
	out := []byte{'{'}
	for i, m := range s {
		if i > 0 {
			out = append(out, ", "...)
		}
		out = append(out, m.Name...)
		out = append(out, m.Op...)
		out = strconv.AppendQuoteToASCII(out, m.Value)
	}
	return string(append(out, '}'))
}

// ParseSelector reads a selector such as {app="a", env=~"b|c"}: names are
// ASCII letters, digits, underscores, dots and colons; values are quoted as in
// Go, with double quotes or backticks. The text "" and {} select everything.
// The error is of KindQuery, with the line's column in its Context.
func ParseSelector(text string) (Selector, error) {
	p := selectorReader{rest: strings.TrimSpace(text), all: text}
	if p.rest == "" {
		return nil, nil
	}
	s, err := p.selector()
	if err != nil {
		return nil, err
	}
	if _, err := s.Compile(); err != nil {
		return nil, err
	}
	return s, nil
}

type selectorReader struct{ all, rest string }

func (p *selectorReader) fault(format string, args ...any) error {
	column := len([]rune(p.all[:len(p.all)-len(p.rest)])) + 1
	detail := fmt.Sprintf("column %d: %s", column, fmt.Sprintf(format, args...))
	return &Error{Kind: KindQuery, Message: detail, Context: map[string]any{"column": column},
		Fields: []FieldError{{Pointer: "/selector", Code: "selector", Detail: detail}}}
}

func (p *selectorReader) space() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

func (p *selectorReader) take(token string) bool {
	p.space()
	rest, ok := strings.CutPrefix(p.rest, token)
	if ok {
		p.rest = rest
	}
	return ok
}

func (p *selectorReader) selector() (Selector, error) {
	s := Selector{}
	if !p.take("{") {
		return nil, p.fault("a selector starts with {, as in {app=\"checkout\"}")
	}
	for !p.take("}") {
		if len(s) > 0 && !p.take(",") {
			return nil, p.fault("a comma or } is missing")
		}
		if len(s) > 0 && p.take("}") {
			break
		}
		m, err := p.matcher()
		if err != nil {
			return nil, err
		}
		if s = append(s, m); len(s) > mostMatchers {
			return nil, p.fault("the selector has more than %d matchers", mostMatchers)
		}
	}
	if p.space(); p.rest != "" {
		return nil, p.fault("there is text after the selector")
	}
	return s, nil
}

func (p *selectorReader) matcher() (Matcher, error) {
	p.space()
	n := 0
	for n < len(p.rest) && labelByte(p.rest[n]) {
		n++
	}
	if n == 0 {
		return Matcher{}, p.fault("the name of a label is missing")
	}
	m := Matcher{Name: p.rest[:n]}
	p.rest = p.rest[n:]
	for _, op := range []MatchOp{MatchPattern, MatchNotPattern, MatchNotEqual, MatchEqual} {
		if p.take(string(op)) {
			m.Op = op
			break
		}
	}
	if m.Op == "" {
		return m, p.fault("one of =, !=, =~ and !~ is missing")
	}
	p.space()
	quoted, err := strconv.QuotedPrefix(p.rest)
	if err == nil && quoted[0] == '\'' {
		err = strconv.ErrSyntax
	}
	if err == nil {
		m.Value, err = strconv.Unquote(quoted)
	}
	if err != nil {
		return m, p.fault("the value of %q has to be in double quotes", m.Name)
	}
	p.rest = p.rest[len(quoted):]
	return m, nil
}

func labelByte(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c == '_' || c == '.' || c == ':'
}
