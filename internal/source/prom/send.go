package prom

import (
	"errors"
	"io"
	"net/http"
	"net/url"

	"aiops/internal/model"
	"aiops/internal/source"
	"aiops/internal/source/outward"
)

// errorBytes is how much of an error's body is read.
const errorBytes = 64 << 10

// question is the request that asks path for what form says. Queries change
// nothing, so they may be sent twice.
func question(path string, form url.Values) outward.Request {
	return outward.Request{Method: http.MethodPost, Path: path, Form: form, DeadlineField: "timeout", Safe: true}
}

// reader makes the function that reads an answer into what *ans points at.
func (c *Client) reader(span source.Span, lim source.Limits, ans **source.Answer) outward.ReadFunc {
	return func(resp *http.Response) error {
		if resp.StatusCode != http.StatusOK {
			said, _, _ := source.Decode(io.LimitReader(resp.Body, errorBytes), span, source.Limits{Bytes: errorBytes})
			return c.refusal(resp, said)
		}
		if what := outward.WrongContent(resp.Header); what != "" {
			return c.way.Unavailable(nil, false, "the source answers with %s instead of JSON; is this the URL of a Prometheus API, and not of its pages or of a login?", what)
		}
		got, _, err := source.Decode(resp.Body, span, lim)
		if err != nil {
			return c.unreadable(err, got, lim)
		}
		*ans = got
		return c.accept(resp, got, lim)
	}
}

// accept judges an answer that was read in full.
func (c *Client) accept(resp *http.Response, ans *source.Answer, lim source.Limits) error {
	if !ans.OK {
		return c.refusal(resp, ans)
	}
	if ans.Count > lim.Series {
		return c.tooManySeries(ans.Count, true, lim.Series)
	}
	if ans.Did.Histograms > 0 && len(ans.Series) == 0 {
		return c.wrongQuery(model.KindQuery, "the query yields native histograms, which have no single value; apply histogram_quantile(), histogram_avg() or histogram_count()", "")
	}
	c.metrics.count(ans.Did)
	return nil
}

// refusal explains an answer other than a success. Said is what its body said,
// as far as it could be read.
func (c *Client) refusal(resp *http.Response, said *source.Answer) error {
	text, status := c.way.Clean(said.ErrorText), resp.StatusCode
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return c.way.Status(resp, text)
	case said.ErrorType == "timeout" || said.ErrorType == "canceled":
		return c.wrongQuery(model.KindTimeout, "the query takes longer than the source allows", text)
	case said.ErrorType == "bad_data" || said.ErrorType == "execution",
		(status == http.StatusBadRequest || status == http.StatusUnprocessableEntity) && said.ErrorType != "":
		return c.wrongQuery(model.KindQuery, "the source refuses the query", text)
	}
	return c.way.Status(resp, text)
}

// unreadable explains an answer that could not be decoded. Errors of reading it
// are returned as they are.
func (c *Client) unreadable(err error, ans *source.Answer, lim source.Limits) error {
	switch {
	case errors.Is(err, source.ErrTooManySeries):
		return c.tooManySeries(ans.Count, false, lim.Series)
	case errors.Is(err, source.ErrTooManyBytes):
		f := c.way.Question(model.KindQuery, err, "the answer is larger than %d MiB; aggregate, or ask for less time or fewer series", lim.Bytes>>20)
		f.Err.Fields = []model.FieldError{{Pointer: "/query", Code: "size_limit", Detail: f.Err.Message}}
		f.Err.Context = map[string]any{"limit_bytes": lim.Bytes}
		return f
	case errors.Is(err, source.ErrSyntax):
		return c.way.Unavailable(err, false, "the source's answer is not that of a Prometheus API; check the URL")
	}
	return err
}

func (c *Client) tooManySeries(n int, exact bool, limit int) error {
	var e *model.Error
	errors.As(source.SeriesLimit(n, exact, limit), &e)
	e.Subject = model.SubjectPrometheus
	return &outward.Failure{Err: e, Outcome: outward.OutcomeQuery}
}

// wrongQuery explains that the query is at fault, with the source's own words.
func (c *Client) wrongQuery(kind model.Kind, what, said string) error {
	if said != "" {
		what += ": " + said
	}
	f := c.way.Question(kind, nil, "%s", what)
	f.Err.Fields = []model.FieldError{{Pointer: "/query", Code: "promql", Detail: what}}
	return f
}
