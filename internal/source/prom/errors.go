package prom

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"aiops/internal/model"
	"aiops/internal/source"
)

// failure is why one request did not get an answer, and what follows from it.
type failure struct {
	err   *model.Error
	retry bool   // the same request may succeed at once
	fault bool   // the source as a whole fails, not just this query
	label string // for the metric
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// The outcomes of a request, as the metric names them.
const (
	outcomeOK          = "ok"
	outcomePartial     = "partial"
	outcomeQuery       = "query"       // the query is wrong, or too expensive
	outcomeAuth        = "auth"        // our credentials are refused
	outcomeLimited     = "limited"     // we were told to wait
	outcomeUnavailable = "unavailable" // no answer, or not a useful one
	outcomeRefused     = "refused"     // not sent: breaker, bulkhead or a wait that was asked for
	outcomeCancelled   = "cancelled"   // the caller gave up
)

func unavailable(cause error, retry bool, format string, args ...any) *failure {
	msg := fmt.Sprintf(format, args...)
	return &failure{
		err:   model.WrapError(model.KindSourceUnavailable, model.SubjectPrometheus, cause, "%s", msg),
		retry: retry, fault: true, label: outcomeUnavailable,
	}
}

// errAddress marks a connection that AllowAddress refused.
var errAddress = errors.New("address not allowed")

// transportFailure explains an error of sending a request or of reading its
// answer. Timeout is how long the request was given.
func transportFailure(err error, timeout time.Duration) *failure {
	var dns *net.DNSError
	var op *net.OpError
	var certificate *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, errAddress):
		return unavailable(err, false, "the source's address is not among those that may be reached; ask the operator to allow it")
	case errors.As(err, &dns):
		return unavailable(err, !dns.IsNotFound, "the source's host name cannot be resolved; check the URL and the name service")
	case errors.As(err, &certificate), errors.As(err, &authority):
		return unavailable(err, false, "the source's certificate is not trusted; give its authority as ca_file, or its name as server_name")
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return unavailable(err, false, "the source does not speak TLS; does its URL have to start with http://?")
	case errors.As(err, &op) && op.Op == "dial":
		if op.Timeout() {
			return unavailable(err, true, "the source cannot be reached within %s; check that it runs and that no firewall is in between", min(connectTimeout, timeout).Round(time.Millisecond))
		}
		return unavailable(err, true, "the source refuses the connection; check that it runs and its URL")
	case errors.Is(err, errOwnTimeout) || errors.Is(err, context.DeadlineExceeded) || isTimeout(err):
		return unavailable(err, false, "the source did not answer within %s", timeout.Round(time.Millisecond))
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return unavailable(err, true, "the source's answer broke off in the middle")
	}
	return unavailable(err, true, "the connection to the source broke")
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// bodyFailure explains an answer that could not be decoded.
func bodyFailure(err error, ans *answer, lim limits, timeout time.Duration) *failure {
	switch {
	case errors.Is(err, errTooManySeries):
		return tooManySeries(ans.count, false, lim.series)
	case errors.Is(err, errTooManyBytes):
		e := model.WrapError(model.KindQuery, model.SubjectPrometheus, err, "the answer is larger than %d MiB; aggregate, or ask for less time or fewer series", lim.bytes>>20)
		e.Fields = []model.FieldError{{Pointer: "/query", Code: "size_limit", Detail: e.Message}}
		e.Context = map[string]any{"limit_bytes": lim.bytes}
		return &failure{err: e, label: outcomeQuery}
	case errors.Is(err, errSyntax):
		return unavailable(err, false, "the source's answer is not that of a Prometheus API; check the URL")
	}
	return transportFailure(err, timeout)
}

func tooManySeries(n int, exact bool, limit int) *failure {
	var e *model.Error
	errors.As(source.SeriesLimit(n, exact, limit), &e)
	e.Subject = model.SubjectPrometheus
	return &failure{err: e, label: outcomeQuery}
}

// statusFailure explains an answer other than 200. Ans holds what its body said,
// as far as it could be read.
func statusFailure(resp *http.Response, ans *answer, clean func(string) string, now time.Time) *failure {
	said := clean(ans.errorText)
	code := resp.StatusCode
	switch {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return &failure{
			err:   model.Errorf(model.KindSourceAuth, model.SubjectPrometheus, "the source refuses our credentials (HTTP %d); check its user name, password, token or headers", code),
			fault: false, label: outcomeAuth,
		}
	case ans.errorType == "timeout" || ans.errorType == "canceled":
		return queryFailure(model.KindTimeout, "the query takes longer than the source allows", said)
	case ans.errorType == "bad_data" || ans.errorType == "execution",
		(code == http.StatusBadRequest || code == http.StatusUnprocessableEntity) && ans.errorType != "":
		return queryFailure(model.KindQuery, "the source refuses the query", said)
	case code == http.StatusOK:
		return unavailable(nil, true, "the source reports an error: %s", said)
	case code == http.StatusTooManyRequests:
		f := unavailable(nil, true, "the source asks for fewer requests (HTTP 429)")
		f.err.RetryAfter = retryAfter(resp.Header, now)
		f.fault, f.label = false, outcomeLimited
		return f
	case code >= 300 && code < 400:
		return unavailable(nil, false, "the source answers with a redirect (HTTP %d), which is not followed; give the address it leads to as the URL", code)
	case code == http.StatusNotFound || code == http.StatusMethodNotAllowed:
		return unavailable(nil, false, "there is no Prometheus API at the source's URL (HTTP %d); check the path before /api/v1", code)
	case code >= 500:
		text := fmt.Sprintf("the source fails (HTTP %d)", code)
		if said != "" {
			text += ": " + said
		}
		f := unavailable(nil, code != http.StatusNotImplemented, "%s", text)
		f.err.RetryAfter = retryAfter(resp.Header, now)
		return f
	}
	return unavailable(nil, false, "the source answers with HTTP %d, which a Prometheus API does not; check the URL", code)
}

func queryFailure(kind model.Kind, what, said string) *failure {
	msg := what
	if said != "" {
		msg += ": " + said
	}
	e := model.Errorf(kind, model.SubjectPrometheus, "%s", msg)
	e.Fields = []model.FieldError{{Pointer: "/query", Code: "promql", Detail: msg}}
	return &failure{err: e, label: outcomeQuery}
}

// retryAfter reads the header, in seconds or as a date, up to an hour.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	var d time.Duration
	if seconds, err := strconv.ParseInt(v, 10, 64); err == nil {
		d = time.Duration(min(seconds, int64(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(v); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}

// maxSaid bounds what a message repeats of a source's own words.
const maxSaid = 400

// sanitize makes a source's words fit to show: one line, bounded, printable,
// and without the secrets that were sent to it.
func sanitize(text string, secrets []string) string {
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "<secret>")
		}
	}
	var b strings.Builder
	n, space := 0, false
	for _, r := range text {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) {
			space = n > 0
			continue
		}
		if n >= maxSaid {
			b.WriteString("…")
			break
		}
		if space {
			b.WriteByte(' ')
			space = false
			n++
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}

// pathless removes the path from an error of opening a file.
func pathless(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
