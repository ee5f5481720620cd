package builtin

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	prommodel "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"aiops/internal/model"
	"aiops/internal/source"
)

// Limits of the query API.
const (
	maxForm         = 1 << 20
	maxListed       = 100_000 // series, names or values in one answer
	maxListSelector = 64
)

// libraryVersion is the version of Prometheus whose engine and database these
// are.
const libraryVersion = "3.16.0"

// The error types of Prometheus' API.
const (
	errorBadData   = "bad_data"
	errorExec      = "execution"
	errorTimeout   = "timeout"
	errorCancelled = "canceled"
	errorInternal  = "internal"
)

// queryAPI serves the part of Prometheus' HTTP API that clients use to query
// and to look around, such as a data source of Grafana.
type queryAPI struct {
	s      *Source
	mux    *http.ServeMux
	parser parser.Parser
}

// QueryAPI serves Prometheus' query API below /api/v1, in Prometheus' own JSON:
// query, query_range, series, labels, label values, metadata, targets and what
// Grafana asks before it trusts a data source. Mount it with its prefix
// stripped. Queries share the limits of QueryRange.
func (s *Source) QueryAPI() http.Handler { return s.api.mux }

func newQueryAPI(s *Source) *queryAPI {
	a := &queryAPI{s: s, mux: http.NewServeMux(), parser: source.NewParser()}
	for path, answer := range map[string]answerFunc{
		"query":           a.query,
		"query_range":     a.queryRange,
		"query_exemplars": constant("[]"),
		"format_query":    a.formatQuery,
		"series":          a.series,
		"labels":          a.labelNames,
		// What a metric means is not kept.
		"metadata": constant("{}"),
	} {
		a.mux.Handle("GET /api/v1/"+path, a.handler(answer))
		a.mux.Handle("POST /api/v1/"+path, a.handler(answer))
	}
	for path, answer := range map[string]answerFunc{
		"label/{name}/values": a.labelValues,
		"targets":             a.targets,
		"rules":               constant(`{"groups":[]}`),
		"alerts":              constant(`{"alerts":[]}`),
		// Clients read from the version which functions they may use.
		"status/buildinfo": constant(`{"version":"` + libraryVersion + `","revision":"","branch":"","buildUser":"","buildDate":"","goVersion":""}`),
	} {
		a.mux.Handle("GET /api/v1/"+path, a.handler(answer))
	}
	a.mux.HandleFunc("GET /-/healthy", ok)
	a.mux.HandleFunc("GET /-/ready", ok)
	return a
}

func ok(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ready\n"))
}

// answerFunc writes the member "data" of an answer.
type answerFunc func(ctx context.Context, r *http.Request, out *jsonWriter) error

// constant answers always the same.
func constant(json string) answerFunc {
	return func(_ context.Context, _ *http.Request, out *jsonWriter) error {
		out.raw(json)
		return nil
	}
}

// apiError is a failure in the words of Prometheus' API.
type apiError struct {
	status int
	kind   string
	err    error
}

func (e *apiError) Error() string { return e.err.Error() }

func badData(format string, args ...any) *apiError {
	return &apiError{http.StatusBadRequest, errorBadData, fmt.Errorf(format, args...)}
}

func (a *queryAPI) handler(answer answerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		out := &jsonWriter{w: w}
		out.raw(`{"status":"success","data":`)
		err := r.ParseForm()
		if err != nil {
			err = badData("the form cannot be read: %w", err)
		} else {
			err = answer(r.Context(), r, out)
		}
		if err != nil {
			a.fail(w, err)
			return
		}
		out.raw("}\n")
		out.stream()
		out.flush()
	})
}

// fail writes an error as Prometheus does.
func (a *queryAPI) fail(w http.ResponseWriter, err error) {
	e := classify(err)
	out := &jsonWriter{w: w}
	out.raw(`{"status":"error","errorType":`)
	out.string(e.kind)
	out.raw(`,"error":`)
	out.string(shown(e.err))
	out.raw("}\n")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.status)
	_, _ = w.Write(out.buf)
}

func classify(err error) *apiError {
	var e *apiError
	if errors.As(err, &e) {
		return e
	}
	switch model.KindOf(err) {
	case model.KindQuery, model.KindInvalid:
		var m *model.Error
		if errors.As(err, &m) && len(m.Fields) > 0 && m.Fields[0].Code == "promql" {
			return &apiError{http.StatusBadRequest, errorBadData, err}
		}
		return &apiError{http.StatusUnprocessableEntity, errorExec, err}
	case model.KindTimeout:
		return &apiError{http.StatusServiceUnavailable, errorTimeout, err}
	}
	if errors.Is(err, context.Canceled) {
		return &apiError{http.StatusServiceUnavailable, errorCancelled, errors.New("the query was cancelled")}
	}
	return &apiError{http.StatusInternalServerError, errorInternal, errors.New("an internal failure; the log has the details")}
}

// parseTime reads a time as the API writes it: seconds, or RFC 3339.
func parseTime(text string, otherwise time.Time) (time.Time, error) {
	if text == "" {
		return otherwise, nil
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil {
		if math.IsNaN(f) || math.Abs(f) > 1<<40 {
			return time.Time{}, fmt.Errorf("%q is not a time", text)
		}
		return time.UnixMilli(int64(math.Round(f * 1000))), nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is not a time; write seconds since 1970, or RFC 3339", text)
	}
	return t, nil
}

// parseStep reads a duration: seconds, or Prometheus' form such as 5m.
func parseStep(text string) (time.Duration, error) {
	if f, err := strconv.ParseFloat(text, 64); err == nil {
		if !(math.Abs(f) < 1<<32) {
			return 0, fmt.Errorf("%q is not a duration", text)
		}
		return time.Duration(math.Round(f*1000)) * time.Millisecond, nil
	}
	d, err := prommodel.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration; write seconds, or for example 5m", text)
	}
	return time.Duration(d), nil
}

// queryContext applies the request's own timeout, which can only shorten ours.
func queryContext(ctx context.Context, r *http.Request) (context.Context, context.CancelFunc, error) {
	text := r.FormValue("timeout")
	if text == "" {
		return ctx, func() {}, nil
	}
	d, err := parseStep(text)
	if err != nil || d <= 0 {
		return nil, nil, badData("invalid parameter \"timeout\": %q is not a duration", text)
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	return ctx, cancel, nil
}

func (a *queryAPI) query(ctx context.Context, r *http.Request, out *jsonWriter) error {
	at, err := parseTime(r.FormValue("time"), a.s.now())
	if err != nil {
		return badData("invalid parameter \"time\": %w", err)
	}
	ctx, cancel, err := queryContext(ctx, r)
	if err != nil {
		return err
	}
	defer cancel()
	text := r.FormValue("query")
	if err := source.CheckText(text); err != nil {
		return err
	}
	q, err := a.s.engine.NewInstantQuery(ctx, a.s.db, nil, text, at)
	return a.run(ctx, q, err, out)
}

func (a *queryAPI) queryRange(ctx context.Context, r *http.Request, out *jsonWriter) error {
	start, err := parseTime(r.FormValue("start"), time.Time{})
	if err != nil {
		return badData("invalid parameter \"start\": %w", err)
	}
	end, err := parseTime(r.FormValue("end"), time.Time{})
	if err != nil {
		return badData("invalid parameter \"end\": %w", err)
	}
	step, err := parseStep(r.FormValue("step"))
	if err != nil {
		return badData("invalid parameter \"step\": %w", err)
	}
	if start.IsZero() || end.IsZero() {
		return badData("start and end are required")
	}
	span, err := source.NewSpan(start, end, step)
	if err != nil {
		return badData("%s", shown(err))
	}
	if span.Points() > source.MaxPoints {
		return badData("exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)")
	}
	ctx, cancel, err := queryContext(ctx, r)
	if err != nil {
		return err
	}
	defer cancel()
	answer, err := a.s.QueryRange(ctx, r.FormValue("query"), start, end, step, 0)
	if err != nil {
		return err
	}
	out.stream()
	out.matrix(answer)
	return nil
}

// run executes a query and writes its result.
func (a *queryAPI) run(ctx context.Context, q promql.Query, err error, out *jsonWriter) error {
	begin := time.Now()
	if err != nil {
		_ = a.s.finish(begin, a.s.queryError(ctx, err)) // counts it
		return &apiError{http.StatusBadRequest, errorBadData, err}
	}
	defer q.Close()
	result := q.Exec(ctx)
	if result.Err != nil {
		return a.s.finish(begin, a.s.queryError(ctx, result.Err))
	}
	n := 0
	switch v := result.Value.(type) {
	case promql.Vector:
		n = len(v)
	case promql.Matrix:
		n = len(v)
	}
	if n > a.s.cfg.Query.MaxSeries {
		return a.s.finish(begin, limitError(n, a.s.cfg.Query.MaxSeries))
	}
	out.stream()
	out.result(result.Value)
	warnings, infos := result.Warnings.AsStrings("", 10, 10)
	out.list(`,"warnings":`, warnings)
	out.list(`,"infos":`, infos)
	return a.s.finish(begin, nil)
}

func (a *queryAPI) formatQuery(_ context.Context, r *http.Request, out *jsonWriter) error {
	if len(r.FormValue("query")) > source.MaxQueryBytes {
		return badData("the query is longer than %d bytes", source.MaxQueryBytes)
	}
	expr, err := a.parser.ParseExpr(r.FormValue("query"))
	if err != nil {
		return &apiError{http.StatusBadRequest, errorBadData, err}
	}
	out.string(expr.Pretty(0))
	return nil
}

// lookAround is what the listing operations have in common.
type lookAround struct {
	from, to  int64
	selectors [][]*labels.Matcher
	limit     int
}

func (a *queryAPI) look(r *http.Request, needed bool) (lookAround, error) {
	var l lookAround
	start, err := parseTime(r.FormValue("start"), time.UnixMilli(math.MinInt64/2))
	if err != nil {
		return l, badData("invalid parameter \"start\": %w", err)
	}
	end, err := parseTime(r.FormValue("end"), time.UnixMilli(math.MaxInt64/2))
	if err != nil {
		return l, badData("invalid parameter \"end\": %w", err)
	}
	l.from, l.to, l.limit = start.UnixMilli(), end.UnixMilli(), maxListed
	if text := r.FormValue("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return l, badData("invalid parameter \"limit\": %q is not a number", text)
		}
		if n > 0 {
			l.limit = min(n, maxListed)
		}
	}
	matches := r.Form["match[]"]
	if len(matches) == 0 && needed {
		return l, badData("no match[] parameter provided")
	}
	if len(matches) > maxListSelector {
		return l, badData("there are %d match[] parameters; at most %d are allowed", len(matches), maxListSelector)
	}
	for _, m := range matches {
		if err := source.CheckText(m); err != nil {
			return l, err
		}
		selector, err := a.parser.ParseMetricSelector(m)
		if err != nil {
			return l, badData("invalid parameter \"match[]\": %w", err)
		}
		l.selectors = append(l.selectors, selector)
	}
	return l, nil
}

func (a *queryAPI) series(ctx context.Context, r *http.Request, out *jsonWriter) error {
	l, err := a.look(r, true)
	if err != nil {
		return err
	}
	release, err := a.slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	q, err := a.s.db.Querier(l.from, l.to)
	if err != nil {
		return err
	}
	defer q.Close()
	out.raw("[")
	seen := map[uint64]bool{}
	truncated := false
	for _, selector := range l.selectors {
		set := q.Select(ctx, false, nil, selector...)
		for set.Next() {
			ls := set.At().Labels()
			if h := ls.Hash(); seen[h] {
				continue
			} else if len(seen) >= l.limit {
				truncated = true
				break
			} else {
				seen[h] = true
			}
			if len(seen) > 1 {
				out.raw(",")
			}
			out.labels(ls)
		}
		if err := set.Err(); err != nil {
			return err
		}
	}
	out.raw("]")
	out.truncated(truncated)
	return nil
}

// slot takes a place among the queries.
func (a *queryAPI) slot(ctx context.Context) (release func(), err error) {
	i, err := a.s.slots.Insert(ctx, "")
	if err != nil {
		return nil, err
	}
	return func() { a.s.slots.Delete(i) }, nil
}

func (a *queryAPI) labelNames(ctx context.Context, r *http.Request, out *jsonWriter) error {
	return a.names(ctx, r, out, "")
}

var legalLabel = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

func (a *queryAPI) labelValues(ctx context.Context, r *http.Request, out *jsonWriter) error {
	name := r.PathValue("name")
	if strings.HasPrefix(name, "U__") {
		name = prommodel.UnescapeName(name, prommodel.ValueEncodingEscaping)
	}
	if !legalLabel.MatchString(name) && !prommodel.UTF8Validation.IsValidLabelName(name) {
		return badData("invalid label name: %q", name)
	}
	return a.names(ctx, r, out, name)
}

// names lists label names, or the values of a label.
func (a *queryAPI) names(ctx context.Context, r *http.Request, out *jsonWriter, label string) error {
	l, err := a.look(r, false)
	if err != nil {
		return err
	}
	release, err := a.slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	q, err := a.s.db.Querier(l.from, l.to)
	if err != nil {
		return err
	}
	defer q.Close()
	if len(l.selectors) == 0 {
		l.selectors = [][]*labels.Matcher{nil}
	}
	var all []string
	for _, selector := range l.selectors {
		var found []string
		if label == "" {
			found, _, err = q.LabelNames(ctx, nil, selector...)
		} else {
			found, _, err = q.LabelValues(ctx, label, nil, selector...)
		}
		if err != nil {
			return err
		}
		// The texts may lie in a mapped file that is gone after Close.
		for _, f := range found {
			all = append(all, strings.Clone(f))
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	truncated := len(all) > l.limit
	if truncated {
		all = all[:l.limit]
	}
	out.strings(all)
	out.truncated(truncated)
	return nil
}

func (a *queryAPI) targets(ctx context.Context, _ *http.Request, out *jsonWriter) error {
	list, err := a.s.Collectors(ctx)
	if err != nil {
		return err
	}
	out.targets(list)
	return nil
}
