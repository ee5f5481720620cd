package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"aiops/internal/model"
)

// queryParameters maps the parameters of an operation to whether they may be
// repeated.
func queryParameters(op *huma.Operation) map[string]bool {
	known := map[string]bool{}
	for _, p := range op.Parameters {
		if p.In == "query" {
			known[p.Name] = p.Schema != nil && p.Schema.Type == huma.TypeArray
		}
	}
	return known
}

// parameterFaults finds what huma does not look for: parameters that do not
// exist, so that a misspelt filter is not mistaken for none; repeated ones, of
// which it would silently take the first; and text that no store can keep.
// Probes, which many programs send, may carry any parameter.
func parameterFaults(r *http.Request, op *huma.Operation) []ProblemField {
	var faults []ProblemField
	add := func(in, name, code, detail string) {
		pointer := ""
		if name != "" {
			pointer = clip("/"+escapePointer(name), maxPointer)
		}
		faults = append(faults, ProblemField{Pointer: pointer, In: in, Code: code, Detail: detail})
	}
	if !storable(r.URL.Path) {
		add("path", "", "encoding", "the path is not valid UTF-8")
	}
	strict := strings.HasPrefix(op.Path, "/api/")
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil && strict {
		add("query", "", "encoding", "the query string is not valid")
	}
	known, _ := op.Metadata[metaQuery].(map[string]bool)
	for name, given := range values {
		repeatable, ok := known[name]
		switch {
		case !ok && strict:
			add("query", strings.ToValidUTF8(name, "�"), "unknown_parameter", noParameter(known))
		case ok && !repeatable && len(given) > 1:
			add("query", name, "duplicate", "the parameter is given more than once")
		case ok && slices.ContainsFunc(given, func(v string) bool { return !storable(v) }):
			add("query", name, "encoding", "the value is not valid UTF-8")
		}
	}
	slices.SortFunc(faults, func(a, b ProblemField) int { return strings.Compare(a.Pointer, b.Pointer) })
	return faults
}

// noParameter says which parameters there are instead.
func noParameter(known map[string]bool) string {
	if len(known) == 0 {
		return "there is no such parameter; this operation takes none"
	}
	return "there is no such parameter; use " + strings.Join(slices.Sorted(maps.Keys(known)), ", ")
}

func storable(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// badParameters is the problem of a request whose only faults are those of
// parameterFaults, nil for none.
func badParameters(ctx context.Context) error {
	info := requestOf(ctx)
	if info == nil || len(info.faults) == 0 {
		return nil
	}
	return humaError(ctx, http.StatusUnprocessableEntity, "")
}

// parameterFault is one fault of a query parameter.
func parameterFault(name, code, format string, args ...any) error {
	p := newProblem(CodeValidation, 0, sentence(fmt.Sprintf(format, args...)))
	p.Errors = []ProblemField{{Pointer: "/" + escapePointer(name), In: "query", Code: code, Detail: fmt.Sprintf(format, args...)}}
	return p
}

// under moves the faults of err below prefix. It returns nil for nil.
func under(prefix string, err error) error {
	var e *model.Error
	if !errors.As(err, &e) {
		return err
	}
	moved := *e
	moved.Fields = make([]model.FieldError, len(e.Fields))
	for i, f := range e.Fields {
		moved.Fields[i] = model.FieldError{Pointer: prefix + f.Pointer, Code: f.Code, Detail: f.Detail}
	}
	return &moved
}

func indexed(list string, i int, field string) string {
	return list + "/" + strconv.Itoa(i) + "/" + field
}

// addFaults copies the faults that err carries into v, except at places where v
// has one already: a fault of the form makes those of the meaning pointless.
func addFaults(v *model.Invalid, err error) {
	if err == nil {
		return
	}
	known := map[string]bool{}
	for _, f := range fieldsOf(v.Err("")) {
		known[f.Pointer] = true
	}
	for _, f := range fieldsOf(err) {
		if !known[f.Pointer] {
			v.Add(f.Pointer, f.Code, "%s", f.Detail)
		}
	}
}

// fieldsOf returns the faults that err carries; one that names no place is a
// fault of the whole, or of the query.
func fieldsOf(err error) []model.FieldError {
	var e *model.Error
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &e):
		return []model.FieldError{{Code: "invalid", Detail: "the definition is not valid"}}
	case len(e.Fields) > 0:
		return e.Fields
	case e.Kind == model.KindQuery:
		return []model.FieldError{{Pointer: "/query", Code: "query", Detail: e.Message}}
	}
	return []model.FieldError{{Code: "invalid", Detail: e.Message}}
}

// fault is a fault of the body's meaning on its way through huma.
type fault struct{ model.FieldError }

func (f fault) Error() string { return f.Detail }

// takeFaults moves the faults out of a KindInvalid error, leaving nil. Other
// errors stay.
func takeFaults(err *error) []error {
	var e *model.Error
	if !errors.As(*err, &e) || e.Kind != model.KindInvalid {
		return nil
	}
	out := make([]error, 0, len(e.Fields))
	for _, f := range fieldsOf(e) {
		out = append(out, fault{f})
	}
	*err = nil
	return out
}
