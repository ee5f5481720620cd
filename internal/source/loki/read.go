package loki

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"aiops/internal/model"
	"aiops/internal/source"
	"aiops/internal/source/outward"
)

const (
	errorBytes  = 64 << 10 // how much of an error's body is read
	maxLabel    = 4 << 10  // bytes of a label's value that are kept
	mostLabels  = 128      // of one stream that are kept
	maxMeta     = 128      // bytes of a level, logger or trace id
	keptWarning = 400      // bytes of warnings
	mostLines   = 50_000   // of one answer; far more than is ever asked for
)

// answer is what a query for lines yields.
type answer struct {
	status  string
	said    string // of an error
	kind    string // of the result
	lines   []model.LogLine
	cut     int
	partial string
}

// numbersReader makes the function that reads series into *ans.
func (c *Client) numbersReader(query string, span source.Span, lim source.Limits, ans **source.Answer) outward.ReadFunc {
	return func(resp *http.Response) error {
		if err := c.well(resp, query); err != nil {
			return err
		}
		var kept bytes.Buffer // what tells lines from numbers stands in front
		body := io.TeeReader(resp.Body, &limited{&kept, 512})
		got, _, err := source.Decode(body, span, lim)
		switch {
		case bytes.Contains(kept.Bytes(), []byte(`"resultType":"streams"`)):
			return c.wrongQuery("the query yields log lines, not numbers; count them, for example with count_over_time(… [1m])", "")
		case err != nil:
			return c.unreadable(err, got, lim)
		case !got.OK:
			return c.way.Status(resp, got.ErrorText)
		case got.Count > lim.Series:
			return tooManySeries(got.Count, true, lim.Series)
		}
		*ans = got
		return nil
	}
}

// limited keeps the first bytes that are written.
type limited struct {
	b    *bytes.Buffer
	left int
}

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.b.Write(p[:n])
	l.left -= n
	return len(p), nil
}

// well reports what is wrong with an answer before its body is read.
func (c *Client) well(resp *http.Response, query string) error {
	if resp.StatusCode != http.StatusOK {
		return c.refusal(resp, query)
	}
	if what := outward.WrongContent(resp.Header); what != "" {
		return c.wrongContent(what)
	}
	return nil
}

func (c *Client) wrongContent(what string) error {
	return c.way.Unavailable(nil, false, "the source answers with %s instead of JSON; is this the URL of a Loki API, and not of its pages or of a login?", what)
}

// refusal explains an answer other than 200. Loki says what is wrong as plain
// text, gateways as JSON.
func (c *Client) refusal(resp *http.Response, query string) error {
	said := saidBy(resp)
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		if said != "" && !strings.HasPrefix(said, "<") {
			return c.wrongQuery(said, query)
		}
	case http.StatusGatewayTimeout:
		if strings.Contains(said, "time") {
			f := c.way.Question(model.KindTimeout, nil, "the query takes longer than the source allows: %s", c.way.Clean(said))
			f.Err.Fields = []model.FieldError{{Pointer: "/query", Code: "logql", Detail: f.Err.Message}}
			return f
		}
	}
	return c.way.Status(resp, said)
}

// saidBy reads an error's body: text, or the message in a JSON object.
func saidBy(resp *http.Response) string {
	data, _ := io.ReadAll(io.LimitReader(resp.Body, errorBytes))
	text := strings.TrimSpace(string(data))
	if strings.HasPrefix(text, "{") {
		var said struct {
			Message string `json:"message"`
			Error   string `json:"error"`
		}
		if json.Unmarshal(data, &said) == nil && said.Message+said.Error != "" {
			return strings.TrimSpace(said.Message + said.Error)
		}
	}
	return text
}

// wrongQuery explains that the query is at fault, with the source's own words.
func (c *Client) wrongQuery(said, query string) error {
	return &outward.Failure{Err: queryError(c.way.Clean(said), query), Outcome: outward.OutcomeQuery}
}

// unreadable explains an answer that could not be decoded. Errors of reading it
// are returned as they are.
func (c *Client) unreadable(err error, ans *source.Answer, lim source.Limits) error {
	switch {
	case errors.Is(err, source.ErrTooManySeries):
		return tooManySeries(ans.Count, false, lim.Series)
	case errors.Is(err, source.ErrTooManyBytes):
		f := c.way.Question(model.KindQuery, err, "the answer is larger than %d MiB; aggregate, or ask for less time", lim.Bytes>>20)
		f.Err.Fields = []model.FieldError{{Pointer: "/query", Code: "size_limit", Detail: f.Err.Message}}
		f.Err.Context = map[string]any{"limit_bytes": lim.Bytes}
		return f
	case errors.Is(err, source.ErrSyntax):
		return c.way.Unavailable(err, false, "the source's answer is not that of a Loki API; check the URL")
	}
	return err
}

func tooManySeries(n int, exact bool, limit int) error {
	var e *model.Error
	errors.As(source.SeriesLimit(n, exact, limit), &e)
	e.Subject = model.SubjectLoki
	return &outward.Failure{Err: e, Outcome: outward.OutcomeQuery}
}

// linesReader makes the function that reads lines into *ans.
func (c *Client) linesReader(query string, ans **answer) outward.ReadFunc {
	return func(resp *http.Response) error {
		if err := c.well(resp, query); err != nil {
			return err
		}
		got, err := decodeLines(source.NewScanner(source.Capped(resp.Body, c.cfg.MaxBytes)))
		switch {
		case err != nil:
			return c.unreadable(err, &source.Answer{}, source.Limits{Bytes: c.cfg.MaxBytes})
		case got.status != "success":
			return c.way.Status(resp, got.said)
		case got.kind != "streams" && got.kind != "":
			return c.wrongQuery("the query yields numbers, not log lines; leave out what counts them", "")
		}
		*ans = got
		return nil
	}
}

// decodeLines reads a whole answer.
func decodeLines(in *source.Scanner) (*answer, error) {
	a := &answer{}
	err := in.Object(func(name []byte) (err error) {
		switch string(name) {
		case "status":
			a.status, err = text(in, 64)
		case "error", "message":
			a.said, err = text(in, keptWarning)
		case "warnings":
			err = a.warnings(in)
		case "data":
			err = a.data(in)
		default:
			err = in.Skip()
		}
		return err
	})
	if err != nil {
		return a, err
	}
	if a.status != "success" && a.status != "error" {
		return a, source.SyntaxError("a status of %q", a.status)
	}
	return a, in.Finish()
}

func text(in *source.Scanner, limit int) (string, error) {
	t, _, err := in.TextUpTo(limit)
	return string(t), err
}

func (a *answer) warnings(in *source.Scanner) error {
	if null, err := in.IsNull(); null || err != nil {
		return err
	}
	return in.Array(func() error {
		w, err := text(in, keptWarning)
		if len(a.partial) < keptWarning {
			a.partial = strings.TrimPrefix(a.partial+"; "+w, "; ")
		}
		return err
	})
}

func (a *answer) data(in *source.Scanner) error {
	if null, err := in.IsNull(); null || err != nil {
		return err
	}
	return in.Object(func(name []byte) (err error) {
		switch string(name) {
		case "resultType":
			a.kind, err = text(in, 64)
		case "result":
			if a.kind != "" && a.kind != "streams" {
				return in.Skip()
			}
			err = a.streams(in)
		default:
			err = in.Skip()
		}
		return err
	})
}

// streams reads [{"stream": {…}, "values": [["ns", "line"], …]}, …].
func (a *answer) streams(in *source.Scanner) error {
	if null, err := in.IsNull(); null || err != nil {
		return err
	}
	return in.Array(func() error { return a.stream(in) })
}

func (a *answer) stream(in *source.Scanner) error {
	begin := len(a.lines)
	var labels model.Labels
	var shared model.LogLine // what labels say that differ from line to line
	err := in.Object(func(name []byte) (err error) {
		switch string(name) {
		case "stream":
			labels, err = streamLabels(in, &shared)
		case "metric": // numbers where lines were asked for
			a.kind = "matrix"
			err = in.Skip()
		case "values":
			if a.kind == "matrix" {
				return in.Skip()
			}
			err = in.Array(func() error { return a.line(in) })
		default:
			err = in.Skip()
		}
		return err
	})
	for i := begin; i < len(a.lines); i++ {
		l := &a.lines[i]
		l.Stream = labels
		if l.Level == "" {
			l.Level = shared.Level
		}
		if l.TraceID == "" {
			l.TraceID = shared.TraceID
		}
	}
	return err
}

// streamLabels reads the labels of a stream. Without categories Loki puts what
// belongs to single lines among them; what is known to differ from line to line
// becomes a field of the lines, so that streams stay streams.
func streamLabels(in *source.Scanner, shared *model.LogLine) (model.Labels, error) {
	labels := map[string]string{}
	err := in.Object(func(name []byte) error {
		key := string(name[:min(len(name), maxLabel)])
		value, err := text(in, maxLabel)
		switch {
		case err != nil:
			return err
		case key == "trace_id" || key == "traceID" || key == "detected_level":
			meta(shared, key, value)
		case key == "span_id":
		case len(labels) < mostLabels:
			labels[key] = value
		}
		return nil
	})
	return model.LabelsFromMap(labels), err
}

// meta takes a pair that stands beside a line.
func meta(l *model.LogLine, name, value string) {
	if value == "" || len(value) > maxMeta || value == "unknown" {
		return
	}
	switch name {
	case "level", "severity", "detected_level", "severity_text":
		if l.Level == "" {
			l.Level = value
		}
	case "logger", "logger_name", "scope_name":
		if l.Logger == "" {
			l.Logger = value
		}
	case "trace_id", "traceID", "traceid":
		if l.TraceID == "" {
			l.TraceID = value
		}
	}
}

// line reads ["ns", "line"] or ["ns", "line", {"structuredMetadata": {…}, "parsed": {…}}].
func (a *answer) line(in *source.Scanner) error {
	var l model.LogLine
	part := 0
	err := in.Array(func() error {
		part++
		switch part {
		case 1:
			t, err := text(in, 32)
			if err != nil {
				return err
			}
			if l.T, err = strconv.ParseInt(t, 10, 64); err != nil {
				return source.SyntaxError("a time that is no number of nanoseconds")
			}
			return nil
		case 2:
			t, cut, err := in.TextUpTo(model.MaxLineBytes)
			l.Text, l.Cut = strings.TrimRight(string(t), "\r\n"), cut
			return err
		case 3:
			return in.Object(func([]byte) error {
				if c, err := in.Peek(); err != nil || c != '{' {
					return in.Skip()
				}
				return in.Object(func(name []byte) error {
					key := string(name[:min(len(name), maxMeta)])
					if c, err := in.Peek(); err != nil || c != '"' {
						return in.Skip()
					}
					value, err := text(in, maxMeta+1)
					meta(&l, key, value)
					return err
				})
			})
		}
		return in.Skip()
	})
	if err != nil {
		return err
	}
	if part < 2 {
		return source.SyntaxError("a value without a time and a line")
	}
	if len(a.lines) >= mostLines {
		return source.ErrTooManyBytes
	}
	if l.Cut {
		a.cut++
	}
	a.lines = append(a.lines, l)
	return nil
}

// namesReader makes the function that reads a list of names.
func (c *Client) namesReader(names *[]string, partial *string) outward.ReadFunc {
	return c.listReader(partial, func(in *source.Scanner) error {
		name, err := text(in, maxLabel)
		if len(*names) < mostNames {
			*names = append(*names, name)
		}
		return err
	}, func() { *names = nil })
}

// seriesReader makes the function that reads a list of streams.
func (c *Client) seriesReader(streams *[]model.Labels, partial *string) outward.ReadFunc {
	return c.listReader(partial, func(in *source.Scanner) error {
		var shared model.LogLine
		ls, err := streamLabels(in, &shared)
		if len(*streams) < mostNames {
			*streams = append(*streams, ls)
		}
		return err
	}, func() { *streams = nil })
}

// listReader makes the function that reads {"status": …, "data": […]}. Reset is
// called before, because a request may be repeated.
func (c *Client) listReader(partial *string, element func(*source.Scanner) error, reset func()) outward.ReadFunc {
	return func(resp *http.Response) error {
		if err := c.well(resp, ""); err != nil {
			return err
		}
		reset()
		a := &answer{}
		in := source.NewScanner(source.Capped(resp.Body, c.cfg.MaxBytes))
		err := in.Object(func(name []byte) (err error) {
			switch string(name) {
			case "status":
				a.status, err = text(in, 64)
			case "error", "message":
				a.said, err = text(in, keptWarning)
			case "warnings":
				err = a.warnings(in)
			case "data":
				var null bool
				if null, err = in.IsNull(); !null && err == nil {
					err = in.Array(func() error { return element(in) })
				}
			default:
				err = in.Skip()
			}
			return err
		})
		if err == nil {
			err = in.Finish()
		}
		switch {
		case err != nil:
			return c.unreadable(err, &source.Answer{}, source.Limits{Bytes: c.cfg.MaxBytes})
		case a.status != "success":
			return c.way.Status(resp, a.said)
		}
		*partial = a.partial
		return nil
	}
}
