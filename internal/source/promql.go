package source

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"aiops/internal/model"
)

// MaxQueryBytes bounds the text of queries, and so the time and memory of
// parsing, whoever wrote the query.
const MaxQueryBytes = 32 << 10

// NewParser returns the PromQL parser that this program uses everywhere, so
// that a query which is accepted when it is saved is accepted when it runs.
// Experimental functions are allowed: whether a source has them is for the
// source to say. Parsers are safe for concurrent use.
func NewParser() parser.Parser {
	return parser.NewParser(parser.Options{EnableExperimentalFunctions: true})
}

// ParseQuery reports whether query is PromQL that can be evaluated at each
// step of a range, which is the case for instant vectors and scalars. The
// error is a *model.Error of KindQuery. It has one field at /query with code
// "promql" for each fault, and in its Context the "line", "column" (both from
// 1, columns count characters) and "caret" (the line with a mark under the
// place) of the first. VictoriaMetrics' own extensions of PromQL are refused.
func ParseQuery(query string) error {
	_, err := parse(query)
	return err
}

// CheckText reports whether query is PromQL of any type, within the limits on
// texts. The error is as ParseQuery's.
func CheckText(query string) error {
	_, err := parseAny(query)
	return err
}

// parse reads a query that can be evaluated at each step of a range.
func parse(query string) (parser.Expr, error) {
	expr, err := parseAny(query)
	if err != nil {
		return nil, err
	}
	switch expr.Type() {
	case parser.ValueTypeVector, parser.ValueTypeScalar:
		return expr, nil
	case parser.ValueTypeMatrix:
		return nil, queryError([]fault{{detail: "the query yields a range of samples at each step; wrap it in a function such as rate() or avg_over_time()"}}, query)
	default:
		return nil, queryError([]fault{{detail: fmt.Sprintf("the query yields a %s; only an instant vector or a scalar can be watched", parser.DocumentedType(expr.Type()))}}, query)
	}
}

func parseAny(query string) (parser.Expr, error) {
	if strings.TrimSpace(query) == "" {
		return nil, queryError([]fault{{detail: "the query is empty; write PromQL, for example rate(http_requests_total[5m])"}}, query)
	}
	if len(query) > MaxQueryBytes {
		return nil, queryError([]fault{{detail: fmt.Sprintf("the query has %d bytes; at most %d are allowed", len(query), MaxQueryBytes)}}, "")
	}
	if !utf8.ValidString(query) {
		return nil, queryError([]fault{{detail: "the query is not valid UTF-8"}}, "")
	}
	expr, err := NewParser().ParseExpr(query)
	if err != nil {
		return nil, parseFaults(query, err)
	}
	if faults := longPatterns(expr); len(faults) > 0 {
		return nil, queryError(faults, query)
	}
	return expr, nil
}

// longPatterns finds regular expressions above the limit. The parser's own
// expressions are RE2, so their matching time is linear, but compiling a huge
// one is not free.
func longPatterns(expr parser.Expr) []fault {
	var faults []fault
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		vs, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		for _, m := range vs.LabelMatchers {
			if isPattern(m.Type) && len(m.Value) > model.MaxPatternBytes {
				faults = append(faults, fault{
					pos:    int(vs.PosRange.Start),
					detail: fmt.Sprintf("the pattern for label %q has %d bytes; at most %d are allowed", m.Name, len(m.Value), model.MaxPatternBytes),
				})
			}
		}
		return nil
	})
	return faults
}

func isPattern(t labels.MatchType) bool {
	return t == labels.MatchRegexp || t == labels.MatchNotRegexp
}

// fault is one thing wrong with a query, at a byte offset into it.
type fault struct {
	pos    int
	detail string
}

func parseFaults(query string, err error) error {
	var faults []fault
	var list parser.ParseErrors
	var one *parser.ParseErr
	switch {
	case errors.As(err, &list):
		for i := range list {
			faults = append(faults, fault{int(list[i].PositionRange.Start), list[i].Err.Error()})
		}
	case errors.As(err, &one):
		faults = append(faults, fault{int(one.PositionRange.Start), one.Err.Error()})
	}
	if len(faults) == 0 {
		faults = append(faults, fault{0, err.Error()})
	}
	return queryError(faults, query)
}

// queryError makes the error for the faults of a query. An empty query gives
// an error without positions.
func queryError(faults []fault, query string) error {
	e := &model.Error{Kind: model.KindQuery, Subject: model.SubjectPrometheus}
	for i, f := range faults {
		detail := f.detail
		if query != "" {
			line, column, caret := Locate(query, f.pos)
			detail = fmt.Sprintf("line %d, column %d: %s", line, column, f.detail)
			if i == 0 {
				e.Context = map[string]any{"line": line, "column": column, "caret": caret}
			}
		}
		e.Fields = append(e.Fields, model.FieldError{Pointer: "/query", Code: "promql", Detail: detail})
	}
	e.Message = e.Fields[0].Detail
	return e
}

// caretWidth is how many characters of a long line Locate shows.
const caretWidth = 76

// Locate turns a byte offset into text into a line and column for people, both
// from 1, and into that line with a caret under the place. Long lines are cut
// around the place. An offset outside of text means its nearest end.
func Locate(text string, offset int) (line, column int, caret string) {
	offset = min(max(offset, 0), len(text))
	begin := strings.LastIndexByte(text[:offset], '\n') + 1
	line = strings.Count(text[:begin], "\n") + 1
	end := len(text)
	if i := strings.IndexByte(text[offset:], '\n'); i >= 0 {
		end = offset + i
	}
	column = utf8.RuneCountInString(text[begin:offset]) + 1

	runes := []rune(strings.Map(func(r rune) rune {
		if r == '\t' || r == '\r' {
			return ' '
		}
		return r
	}, text[begin:end]))
	from := max(0, min(column-1-caretWidth/2, len(runes)-caretWidth))
	to := min(len(runes), from+caretWidth)
	return line, column, string(runes[from:to]) + "\n" + strings.Repeat(" ", max(0, column-1-from)) + "^"
}

// compileMatcher makes the parser's form of m.
func compileMatcher(m model.Matcher) (*labels.Matcher, error) {
	types := map[model.MatchOp]labels.MatchType{
		model.MatchEqual: labels.MatchEqual, model.MatchNotEqual: labels.MatchNotEqual,
		model.MatchPattern: labels.MatchRegexp, model.MatchNotPattern: labels.MatchNotRegexp,
	}
	t, ok := types[m.Op]
	switch {
	case !ok:
		return nil, model.Errorf(model.KindQuery, model.SubjectPrometheus, "a matcher has the comparison %q; use =, !=, =~ or !~", string(m.Op))
	case m.Name == "" || !utf8.ValidString(m.Name):
		return nil, model.Errorf(model.KindQuery, model.SubjectPrometheus, "a matcher has the label name %q; give a name in UTF-8", m.Name)
	case !utf8.ValidString(m.Value):
		return nil, model.Errorf(model.KindQuery, model.SubjectPrometheus, "the value for label %q is not valid UTF-8", m.Name)
	case isPattern(t) && len(m.Value) > model.MaxPatternBytes:
		return nil, model.Errorf(model.KindQuery, model.SubjectPrometheus, "the pattern for label %q has %d bytes; at most %d are allowed", m.Name, len(m.Value), model.MaxPatternBytes)
	}
	c, err := labels.NewMatcher(t, m.Name, m.Value)
	if err != nil {
		return nil, model.Errorf(model.KindQuery, model.SubjectPrometheus, "the pattern for label %q: %v", m.Name, err)
	}
	return c, nil
}

// WithMatchers returns query with every matcher added to every selector in
// it. Names and values go through the syntax tree, so no value can change the
// meaning of the query. The label selector in the second argument of info()
// is left alone, because it selects labels, not series; so this is a way to
// narrow a query, not to fence off a tenant.
func WithMatchers(query string, matchers ...model.Matcher) (string, error) {
	expr, err := parse(query)
	if err != nil {
		return "", err
	}
	compiled := make([]*labels.Matcher, 0, len(matchers))
	for _, m := range matchers {
		c, err := compileMatcher(m)
		if err != nil {
			return "", err
		}
		compiled = append(compiled, c)
	}
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		if vs, ok := n.(*parser.VectorSelector); ok && !vs.BypassEmptyMatcherCheck {
			vs.LabelMatchers = append(vs.LabelMatchers, compiled...)
		}
		return nil
	})
	built := printable(expr)
	if err := ParseQuery(built); err != nil {
		return "", fmt.Errorf("checking the query with its matchers: %w", err)
	}
	return built, nil
}

// printable prints an expression so that it parses again. The parser's printer
// leaves U+FFFD as it is, and its lexer takes that for broken UTF-8; printed
// expressions hold it inside double quotes only, where the escape means the same.
func printable(expr parser.Expr) string {
	return strings.ReplaceAll(expr.String(), "\ufffd", `\ufffd`)
}

// Selector returns the PromQL selector for the series that all matchers
// select. At least one matcher must refuse the empty value, as PromQL demands.
func Selector(matchers ...model.Matcher) (string, error) {
	vs := &parser.VectorSelector{}
	for _, m := range matchers {
		c, err := compileMatcher(m)
		if err != nil {
			return "", err
		}
		vs.LabelMatchers = append(vs.LabelMatchers, c)
	}
	built := printable(vs)
	if err := ParseQuery(built); err != nil {
		return "", fmt.Errorf("checking the selector: %w", err)
	}
	return built, nil
}
