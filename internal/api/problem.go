package api

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"aiops/internal/model"
)

const (
	problemType    = "application/problem+json"
	errorsPath     = "/api/v1/errors/"
	maxFieldErrors = 100
	maxPointer     = 256
	maxDetail      = 1024
	maxInstance    = 512
)

// Problem is the body of every answer that is not 2xx or 3xx (RFC 9457).
type Problem struct {
	Type         string         `json:"type" format:"uri-reference" doc:"Address of the description of this code" example:"/api/v1/errors/DETECTOR_NOT_FOUND"`
	Title        string         `json:"title" doc:"Short name of the problem, the same each time" example:"No such detector"`
	Status       int            `json:"status" doc:"HTTP status" example:"404"`
	Detail       string         `json:"detail" doc:"What went wrong this time and what to do" example:"no detector with id \"det_1\""`
	Instance     string         `json:"instance" format:"uri-reference" doc:"Path of the request" example:"/api/v1/detectors/det_1"`
	Code         Code           `json:"code" doc:"Stable code; see /api/v1/errors" example:"DETECTOR_NOT_FOUND"`
	Retryable    bool           `json:"retryable" doc:"true: the same request can succeed later"`
	RetryAfterMS int64          `json:"retry_after_ms,omitempty" minimum:"0" doc:"How long to wait before trying again"`
	RequestID    string         `json:"request_id" doc:"To find the request in the log"`
	Context      map[string]any `json:"context,omitempty" doc:"Facts about the problem, such as ids, limits and positions"`
	Errors       []ProblemField `json:"errors,omitempty" doc:"Every fault of the input"`
}

// ProblemField is one fault of an input.
type ProblemField struct {
	Pointer string `json:"pointer" doc:"JSON pointer to the fault; for a parameter its name" example:"/step"`
	In      string `json:"in" enum:"body,query,path,header" doc:"Part of the request that pointer points into"`
	Code    string `json:"code" doc:"Stable code of the fault" example:"out_of_range"`
	Detail  string `json:"detail" doc:"What is wrong, for people" example:"step is between 1s and 24h"`
}

// Error returns the detail.
func (p *Problem) Error() string { return p.Detail }

// GetStatus returns the HTTP status; huma asks for it.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType returns the type of a problem; huma asks for it.
func (p *Problem) ContentType(string) string { return problemType }

// newProblem fills what the table knows of code. A status of 0 is the row's.
func newProblem(code Code, status int, detail string) *Problem {
	row, ok := LookupError(code)
	if !ok {
		row, _ = LookupError(CodeInternal)
	}
	if status == 0 {
		status = row.Status
	}
	if detail == "" {
		detail = row.Meaning
	}
	p := &Problem{
		Type: errorsPath + string(row.Code), Title: row.Title, Status: status,
		Detail: clip(detail, maxDetail), Code: row.Code, Retryable: row.Retryable,
	}
	if row.Retryable {
		p.RetryAfterMS = row.RetryAfter.Milliseconds()
	}
	return p
}

// problemOf turns any error into a problem. Only a model.Error's own message
// is shown, and not even that where it would tell internals.
func problemOf(err error) *Problem {
	var done *Problem
	if errors.As(err, &done) {
		copied := *done
		return &copied
	}
	code, status := codeOf(err)
	p := newProblem(code, status, "")
	var e *model.Error
	if !errors.As(err, &e) {
		if code == CodePayloadTooLarge {
			p.Detail = "The body is larger than this operation reads."
		}
		return p
	}
	if code != CodeInternal && code != CodeDatabase {
		if e.Message != "" {
			p.Detail = clip(e.Message, maxDetail)
		}
		p.Context = e.Context
		for _, f := range e.Fields {
			if len(p.Errors) == maxFieldErrors {
				break
			}
			p.Errors = append(p.Errors, ProblemField{
				Pointer: clip(f.Pointer, maxPointer), In: "body", Code: f.Code, Detail: clip(f.Detail, maxDetail)})
		}
	}
	if p.Retryable && e.RetryAfter > 0 {
		p.RetryAfterMS = wholeMillis(e.RetryAfter)
	}
	return p
}

func wholeMillis(d time.Duration) int64 {
	return int64(math.Ceil(float64(d) / float64(time.Millisecond)))
}

// stamp adds what only the request knows.
func (p *Problem) stamp(ctx context.Context) *Problem {
	if info := requestOf(ctx); info != nil {
		p.RequestID = info.id
		p.Instance = info.path
		info.problem = p
	}
	return p
}

// retryAfter is the value of the Retry-After header, "" for none.
func (p *Problem) retryAfter() string {
	if !p.Retryable || p.RetryAfterMS <= 0 {
		return ""
	}
	return strconv.FormatInt((p.RetryAfterMS+999)/1000, 10)
}

// failure is the problem that err stands for in the request of ctx. The cause
// goes to the log.
func failure(ctx context.Context, err error) *Problem {
	noteError(ctx, err)
	p := problemOf(err).stamp(ctx)
	if info := requestOf(ctx); info != nil && info.bodyless {
		for i := range p.Errors {
			if p.Errors[i].In == "body" {
				p.Errors[i].In = "query" // such as a cursor that the store refuses
			}
		}
	}
	return p
}

// WriteError answers r with the problem that err stands for. It is for
// handlers that are mounted beside the operations, and for middleware in
// front of them. The cause is logged with the request, not shown.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	failure(r.Context(), err).write(w)
}

// WriteProblem answers r with a problem of the given code. An empty detail is
// replaced by what the code means; a retryAfter of 0 by the code's own.
func WriteProblem(w http.ResponseWriter, r *http.Request, code Code, detail string, retryAfter time.Duration) {
	p := newProblem(code, 0, detail).stamp(r.Context())
	if retryAfter > 0 && p.Retryable {
		p.RetryAfterMS = wholeMillis(retryAfter)
	}
	p.write(w)
}

// humaError makes a problem of a failure that huma found. The submitted
// values that huma adds are dropped: they may be secrets.
func humaError(ctx context.Context, status int, msg string, errs ...error) *Problem {
	if len(errs) == 1 && status == http.StatusInternalServerError {
		return failure(ctx, errs[0])
	}
	p := newProblem(codeOfStatus(status), 0, "")
	if status == http.StatusBadRequest {
		p.Status = status
	}
	_ = p.stamp(ctx)
	if p.Status >= 500 {
		noteError(ctx, errors.Join(append([]error{errors.New(msg)}, errs...)...))
		return p
	}
	if info := requestOf(ctx); info != nil {
		p.Errors = append(p.Errors, info.faults...)
	}
	p.Errors = append(p.Errors, bodyFaults(errs)...)
	count := len(p.Errors)
	p.Errors = p.Errors[:min(count, maxFieldErrors)]
	switch {
	case len(p.Errors) == 1:
		p.Detail = clip(p.Errors[0].Detail+" ("+p.Errors[0].Pointer+")", maxDetail)
	case len(p.Errors) > 1:
		p.Detail = strconv.Itoa(count) + " parts of the request are not valid; see errors."
	case msg != "":
		p.Detail = sentence(msg)
	}
	return p
}

// bodyFaults lists faults of the form first; one of the meaning is left out
// where the form is at fault already.
func bodyFaults(errs []error) []ProblemField {
	var out []ProblemField
	seen := map[string]bool{}
	for _, err := range errs {
		if f, ok := err.(fault); ok && (seen[f.Pointer] || seen[""]) { //nolint:errorlint // made by takeFaults, never wrapped
			continue
		}
		if err != nil {
			f := fieldOf(err)
			if f.In == "body" {
				seen[f.Pointer] = true
			}
			out = append(out, f)
		}
	}
	return out
}

// fieldOf translates one of huma's validation errors.
func fieldOf(err error) ProblemField {
	if f, ok := err.(fault); ok { //nolint:errorlint
		return ProblemField{Pointer: clip(f.Pointer, maxPointer), In: "body", Code: f.Code, Detail: clip(f.Detail, maxDetail)}
	}
	var d huma.ErrorDetailer
	if !errors.As(err, &d) {
		return ProblemField{Pointer: "", In: "body", Code: "invalid", Detail: "the request is not valid"}
	}
	detail := d.ErrorDetail()
	in, pointer := pointerOf(detail.Location)
	message := detail.Message
	switch {
	case strings.HasPrefix(message, "json: "):
		message = "a value does not fit its field" // huma shows the types of Go here
	case strings.HasPrefix(message, "invalid date/time"):
		message = "invalid time; write RFC 3339, such as 2026-11-08T12:00:00Z"
	}
	code, name := faultOf(message)
	if name != "" {
		pointer += "/" + escapePointer(name)
	}
	return ProblemField{Pointer: clip(pointer, maxPointer), In: in, Code: code, Detail: clip(message, maxDetail)}
}

// pointerOf reads a location such as body.items[3].tags or query.limit.
func pointerOf(location string) (in, pointer string) {
	in, rest, _ := strings.Cut(location, ".")
	switch in {
	case "body", "query", "path", "header":
	default:
		in, rest = "body", location
	}
	if in != "body" {
		if rest == "" {
			return in, ""
		}
		return in, "/" + escapePointer(rest)
	}
	var b strings.Builder
	for _, part := range strings.FieldsFunc(rest, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		b.WriteByte('/')
		b.WriteString(escapePointer(part))
	}
	return in, b.String()
}

func escapePointer(s string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(s)
}

// faults maps how huma's messages begin to stable codes.
var faults = []struct{ prefix, code string }{
	{"unexpected property", "unknown_field"},
	{"unknown query parameter", "unknown_parameter"},
	{"expected required property", "required"},
	{"required", "required"},
	{"expected value to be one of", "not_allowed"},
	{"expected value to be", "not_allowed"},
	{"expected number >", "out_of_range"},
	{"expected number <", "out_of_range"},
	{"expected number to be a multiple", "out_of_range"},
	{"expected length", "length"},
	{"expected array length", "length"},
	{"expected object with", "length"},
	{"expected array items to be unique", "duplicate"},
	{"expected string to", "format"},
	{"expected boolean", "type"},
	{"expected number", "type"},
	{"expected integer", "type"},
	{"expected string", "type"},
	{"expected array", "type"},
	{"expected object", "type"},
	{"invalid", "format"},
	{"a value does not fit", "type"},
}

func faultOf(message string) (code, property string) {
	for _, f := range faults {
		if strings.HasPrefix(message, f.prefix) {
			if rest, ok := strings.CutPrefix(message, "expected required property "); ok {
				property = strings.TrimSuffix(rest, " to be present")
			}
			return f.code, property
		}
	}
	return "invalid", ""
}

func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// clip shortens s to at most n bytes at a character's border.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n-3], "") + "…"
}
