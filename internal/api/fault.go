package api

import (
	"context"
	"errors"
	"fmt"
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
		faults = append(faults, ProblemField{Pointer: clip("/"+escapePointer(name), maxPointer), In: in, Code: code, Detail: detail})
	}
	if !storable(r.URL.Path) {
		add("path", "", "encoding", "the path is not valid UTF-8")
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		add("query", "", "encoding", "the query string is not valid")
	}
	strict := strings.HasPrefix(op.Path, "/api/")
	known, _ := op.Metadata[metaQuery].(map[string]bool)
	for name, given := range values {
		repeatable, ok := known[name]
		switch {
		case !ok && strict:
			add("query", strings.ToValidUTF8(name, "�"), "unknown_parameter", "there is no such parameter")
		case ok && !repeatable && len(given) > 1:
			add("query", name, "duplicate", "the parameter is given more than once")
		case ok && slices.ContainsFunc(given, func(v string) bool { return !storable(v) }):
			add("query", name, "encoding", "the value is not valid UTF-8")
		}
	}
	slices.SortFunc(faults, func(a, b ProblemField) int { return strings.Compare(a.Pointer, b.Pointer) })
	return faults
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
