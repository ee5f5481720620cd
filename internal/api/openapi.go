package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
)

// The areas of the document.
const (
	tagDetectors = "detectors"
	tagModels    = "models"
	tagAnomalies = "anomalies"
	tagSources   = "sources"
	tagLogs      = "logs"
	tagTasks     = "tasks"
	tagAuth      = "access"
	tagLive      = "live"
	tagErrors    = "errors"
	tagSystem    = "system"
)

const (
	documentIntro = "Watches metrics and logs, learns what is normal for every series, and says what broke, how sure it is and why.\n\n" +
		"Every answer that is not a success is a problem document (RFC 9457) with a `code`; `retryable` says whether the same request can succeed later. " +
		"The codes are listed at `/api/v1/errors`.\n\n" +
		"Lists have `items` and `next_cursor`. Times are RFC 3339, durations are texts such as `\"30s\"`, and numbers that are not finite are `null`. " +
		"Answers carry an `ETag`: send it back in `If-None-Match` to save a body, or in `If-Match` to change only the version that was read. " +
		"An `Idempotency-Key` makes a request that changes something safe to repeat."

	sensitivityText = "sensitivity may be given in place of false_alarms_per_week: low is 0.1, medium is 1 and high is 10 false alarms a week."

	exampleDetector = `{"name": "checkout latency", "source": "main", "query": "histogram_quantile(0.99, sum by (le, route) (rate(http_request_duration_seconds_bucket{job=\"checkout\"}[5m])))", ` +
		`"step": "30s", "model": "auto", "false_alarms_per_week": 1, "direction": "above", "min_deviation": {"relative": 0.2}, "for": "2m", "keep_firing_for": "5m", "labels": {"team": "shop"}}`
	exampleSource = `{"name": "mimir", "type": "prometheus", "url": "http://mimir:9009/prometheus", "auth": {"bearer_token": "token"}, "headers": {"X-Scope-OrgID": "team-a"}}`
)

func documentTags() []*huma.Tag {
	return []*huma.Tag{
		{Name: tagDetectors, Description: "Definitions of what to watch, and what they are doing."},
		{Name: tagModels, Description: "Trained generations of a detector's models."},
		{Name: tagAnomalies, Description: "Episodes on one series, and what people did with them."},
		{Name: tagSources, Description: "Places that data comes from."},
		{Name: tagLogs, Description: "Patterns of log lines, and the lines."},
		{Name: tagTasks, Description: "Long work with progress."},
		{Name: tagAuth, Description: "Who may do what: API keys and sessions."},
		{Name: tagLive, Description: "Who follows the live stream. The stream itself is described in docs/live.md."},
		{Name: tagErrors, Description: "Every code that a problem can have."},
		{Name: tagSystem, Description: "Health, deployment and this document."},
	}
}

// Problems that kinds of operations share. Common ones come from what stands
// before every operation.
var (
	commonCodes = []Code{CodeForbidden, CodeRateLimit, CodeInternal, CodeServiceUnavailable, CodeOverloaded, CodeTimeout}
	readCodes   = []Code{CodeValidation, CodeDatabase}
	inputCodes  = []Code{CodeValidation, CodePayloadTooLarge, CodeUnsupportedMediaType, CodeDatabase}
	writeCodes  = codes(inputCodes, CodeConflict, CodeStorageFull)
	changeCodes = codes(writeCodes, CodePreconditionFailed)
)

func codes(base []Code, more ...Code) []Code {
	out := append(append([]Code(nil), base...), more...)
	slices.Sort(out)
	return slices.Compact(out)
}

// documents are the OpenAPI document in its two forms, each made on first use:
// rendering them takes longer than all the rest of New.
type documents struct {
	json, yaml func() []byte
}

// document completes what huma derived from the types: problems by status,
// examples, headers that every answer has.
func (s *server) document(o operation) {
	item := s.api.OpenAPI().Paths[o.path]
	op := operationOf(item, o.method)
	body := o.method != http.MethodGet
	delete(op.Responses, "default")
	documentSecurity(op)
	s.operations = append(s.operations, o.id)
	common := commonCodes
	if len(op.Security) > 0 {
		common = codes(commonCodes, CodeUnauthorized)
	}
	for status, list := range byStatus(codes(common, o.codes...), body) {
		op.Responses[strconv.Itoa(status)] = s.problemResponse(status, list)
	}
	if o.method == http.MethodGet && op.Responses["200"] != nil && op.Responses["200"].Headers["ETag"] != nil {
		op.Parameters = append(op.Parameters, &huma.Param{Name: "If-None-Match", In: "header", Description: "ETag of an answer that the client has; the same answer is then not sent again", Schema: textSchema(1024)})
		op.Responses["304"] = &huma.Response{Description: "The client has this answer already"}
	}
	if body && !o.changesNothing && !o.secret && strings.HasPrefix(o.path, "/api/v1/") {
		op.Parameters = append(op.Parameters, &huma.Param{Name: "Idempotency-Key", In: "header", Description: "Makes the request safe to repeat: the first answer is sent again. Made by the client, new for each request, kept for 24 hours.", Schema: textSchema(255)})
	}
	if op.Metadata == nil {
		op.Metadata = map[string]any{}
	}
	op.Metadata[metaQuery] = queryParameters(op)
	if op.RequestBody != nil {
		media := op.RequestBody.Content["application/json"]
		if o.request != "" {
			var example any
			if err := json.Unmarshal([]byte(o.request), &example); err != nil {
				panic("BUG: the example of " + o.id + " is not JSON: " + err.Error())
			}
			media.Example = example
		}
		if o.mergePatch {
			op.RequestBody.Content["application/merge-patch+json"] = media
		}
	}
}

func textSchema(limit int) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, MaxLength: &limit}
}

// byStatus groups codes by the statuses they are sent with. Requests without a
// body are never unparseable.
func byStatus(list []Code, body bool) map[int][]Code {
	out := map[int][]Code{}
	for _, c := range list {
		row, ok := LookupError(c)
		if !ok {
			panic("BUG: code " + string(c) + " is not in the table")
		}
		out[row.Status] = append(out[row.Status], c)
		if row.AltStatus != 0 && (c != CodeValidation || body) {
			out[row.AltStatus] = append(out[row.AltStatus], c)
		}
	}
	return out
}

func problemText(list []Code) string {
	parts := make([]string, len(list))
	for i, c := range list {
		row, _ := LookupError(c)
		parts[i] = fmt.Sprintf("`%s`: %s", c, row.Title)
	}
	return strings.Join(parts, "; ")
}

// problemResponse refers to the description of the given problems, which
// operations share.
func (s *server) problemResponse(status int, list []Code) *huma.Response {
	c := s.api.OpenAPI().Components
	name := strconv.Itoa(status)
	for _, code := range list {
		name += "." + string(code)
	}
	ref := &huma.Response{Ref: "#/components/responses/" + name}
	if c.Responses[name] != nil {
		return ref
	}
	examples := map[string]*huma.Example{}
	headers := map[string]*huma.Param{"X-Request-Id": requestIDHeader()}
	for _, code := range list {
		p := newProblem(code, status, "")
		p.RequestID, p.Instance = "req_0123456789abcdef01234567", "/api/v1/detectors"
		if code == CodeValidation && status == http.StatusUnprocessableEntity {
			p.Errors = []ProblemField{{Pointer: "/limit", In: "query", Code: "out_of_range", Detail: "expected number <= 500"}}
		}
		examples[string(code)] = &huma.Example{Summary: p.Title, Value: p}
		if p.Retryable {
			headers["Retry-After"] = &huma.Param{Description: "Seconds to wait before trying again", Schema: &huma.Schema{Type: huma.TypeInteger}}
		}
	}
	c.Responses[name] = &huma.Response{Description: problemText(list), Headers: headers, Content: map[string]*huma.MediaType{
		problemType: {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}, Examples: examples}}}
	return ref
}

func requestIDHeader() *huma.Param {
	return &huma.Param{Description: "Id of the request, to find it in the log", Schema: &huma.Schema{Type: huma.TypeString}}
}

func operationOf(item *huma.PathItem, method string) *huma.Operation {
	switch method {
	case http.MethodGet:
		return item.Get
	case http.MethodPost:
		return item.Post
	case http.MethodPut:
		return item.Put
	case http.MethodPatch:
		return item.Patch
	case http.MethodDelete:
		return item.Delete
	}
	return nil
}

// finishDocument adds what every answer has, once every operation is
// registered. The document is not changed afterwards.
func (s *server) finishDocument() {
	doc := s.api.OpenAPI()
	for _, item := range doc.Paths {
		for _, m := range methods {
			op := operationOf(item, m)
			if op == nil {
				continue
			}
			for _, r := range op.Responses {
				if r.Ref != "" {
					continue
				}
				if r.Headers == nil {
					r.Headers = map[string]*huma.Param{}
				}
				r.Headers["X-Request-Id"] = requestIDHeader()
			}
		}
	}
	s.documents.json = sync.OnceValue(func() []byte {
		text, err := json.MarshalIndent(doc, "", "  ")
		if err != nil {
			panic("BUG: the OpenAPI document cannot be written as JSON: " + err.Error())
		}
		return append(text, '\n')
	})
	s.documents.yaml = sync.OnceValue(func() []byte {
		text, err := doc.YAML()
		if err != nil {
			panic("BUG: the OpenAPI document cannot be written as YAML: " + err.Error())
		}
		return text
	})
}

// Document returns the OpenAPI document as JSON, the same bytes each time: it
// needs no store, no engine and no network.
func Document() ([]byte, error) {
	// Nothing is called, so empty implementations will do.
	s, err := newServer(Options{
		Detectors: struct{ DetectorStore }{}, Anomalies: struct{ AnomalyStore }{}, Sources: struct{ SourceStore }{},
		Clients: struct{ SourceClients }{}, Engine: struct{ Engine }{}, Tasks: struct{ TaskQueue }{}, Version: "1",
	})
	if err != nil {
		return nil, err
	}
	return s.documents.json(), nil
}
