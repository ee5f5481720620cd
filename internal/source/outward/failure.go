package outward

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"aiops/internal/model"
)

// Failure is why one request did not get an answer that its client can use,
// and what follows from it.
type Failure struct {
	Err     *model.Error
	Retry   bool    // the same request may succeed at once
	Fault   bool    // the source as a whole fails, not just this request
	Outcome Outcome // for the metric and for the source's health
}

// Error returns the text of Err.
func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap returns Err.
func (f *Failure) Unwrap() error { return f.Err }

// Outcome is how a request went, as the metric names it.
type Outcome string

// The outcomes.
const (
	OutcomeOK          Outcome = "ok"
	OutcomeQuery       Outcome = "query"       // it was answered: the question is wrong, or too expensive
	OutcomeAuth        Outcome = "auth"        // our credentials are refused
	OutcomeLimited     Outcome = "limited"     // we were told to wait
	OutcomeUnavailable Outcome = "unavailable" // no answer, or not a useful one
	OutcomeRefused     Outcome = "refused"     // not sent: breaker, bulkhead or a wait that was asked for
	OutcomeCancelled   Outcome = "cancelled"   // the caller gave up
)

// Question makes the Failure of a request that the source answered by refusing
// it, or that asks for more than a limit allows. It is never repeated and says
// nothing against the source.
func (p *Peer) Question(kind model.Kind, cause error, format string, args ...any) *Failure {
	return &Failure{Err: model.WrapError(kind, p.cfg.Subject, cause, "%s", fmt.Sprintf(format, args...)), Outcome: OutcomeQuery}
}

// Unavailable makes the Failure of a source that gives no answer, or none that
// can be used. It is repeated when retry is set.
func (p *Peer) Unavailable(cause error, retry bool, format string, args ...any) *Failure {
	return unavailable(p.cfg.Subject, cause, retry, format, args...)
}

func unavailable(subject string, cause error, retry bool, format string, args ...any) *Failure {
	return &Failure{
		Err:   model.WrapError(model.KindSourceUnavailable, subject, cause, "%s", fmt.Sprintf(format, args...)),
		Retry: retry, Fault: true, Outcome: OutcomeUnavailable,
	}
}

// errAddress marks a connection that AllowAddress refused.
var errAddress = errors.New("address not allowed")

// transportFailure explains an error of sending a request or of reading its
// answer. Timeout is how long the request was given.
func transportFailure(subject string, err error, timeout time.Duration) *Failure {
	var dns *net.DNSError
	var op *net.OpError
	var certificate *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, errAddress):
		return unavailable(subject, err, false, "the source's address is not among those that may be reached; ask the operator to allow it")
	case errors.As(err, &dns):
		return unavailable(subject, err, !dns.IsNotFound, "the source's host name cannot be resolved; check the URL and the name service")
	case errors.As(err, &certificate), errors.As(err, &authority):
		return unavailable(subject, err, false, "the source's certificate is not trusted; give its authority as ca_file, or its name as server_name")
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return unavailable(subject, err, false, "the source does not speak TLS; does its URL have to start with http://?")
	case errors.As(err, &op) && op.Op == "dial":
		if op.Timeout() {
			return unavailable(subject, err, true, "the source cannot be reached within %s; check that it runs and that no firewall is in between", min(connectTimeout, timeout).Round(time.Millisecond))
		}
		return unavailable(subject, err, true, "the source refuses the connection; check that it runs and its URL")
	case errors.Is(err, errOwnTimeout) || errors.Is(err, context.DeadlineExceeded) || isTimeout(err):
		return unavailable(subject, err, false, "the source did not answer within %s", timeout.Round(time.Millisecond))
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return unavailable(subject, err, true, "the source's answer broke off in the middle")
	}
	return unavailable(subject, err, true, "the connection to the source broke")
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// repeated says which statuses mean that the same request may succeed at once.
// Those of the fives that speak of what the server can do at all, or of the
// request itself, do not.
func repeated(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, http.StatusVariantAlsoNegotiates,
		http.StatusInsufficientStorage, http.StatusLoopDetected, http.StatusNotExtended,
		http.StatusNetworkAuthenticationRequired:
		return false
	}
	return status >= 500
}

// Status explains a status that the API itself did not explain. Said are the
// source's own words, "" if there are none.
func (p *Peer) Status(resp *http.Response, said string) *Failure {
	code, subject := resp.StatusCode, p.cfg.Subject
	var f *Failure
	switch {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return &Failure{
			Err:     model.Errorf(model.KindSourceAuth, subject, "the source refuses our credentials (HTTP %d); check its user name, password, token or headers", code),
			Outcome: OutcomeAuth,
		}
	case code == http.StatusOK:
		f = unavailable(subject, nil, true, "the source reports an error: %s", p.Clean(said))
	case code >= 300 && code < 400:
		f = unavailable(subject, nil, false, "the source answers with a redirect (HTTP %d), which is not followed; give the address it leads to as the URL", code)
	case code == http.StatusTooManyRequests:
		f = unavailable(subject, nil, true, "the source asks for fewer requests (HTTP 429)")
		f.Fault, f.Outcome = false, OutcomeLimited
	case code == http.StatusNotFound || code == http.StatusMethodNotAllowed:
		f = unavailable(subject, nil, false, "there is no %s API at the source's URL (HTTP %d); check the path before %s", p.cfg.API, code, p.cfg.Path)
	case code >= 500:
		text := fmt.Sprintf("the source fails (HTTP %d)", code)
		if said = p.Clean(said); said != "" {
			text += ": " + said
		}
		f = unavailable(subject, nil, repeated(code), "%s", text)
	default:
		f = unavailable(subject, nil, repeated(code), "the source answers with HTTP %d, which a %s API does not; check the URL", code, p.cfg.API)
	}
	f.Err.RetryAfter = retryAfter(resp.Header, p.guard.now())
	return f
}

// Clean makes a source's words fit to show: one line, bounded, printable, and
// without the secrets that were sent to it.
func (p *Peer) Clean(text string) string { return sanitize(text, p.secrets) }

// WrongContent names the type of an answer that cannot be JSON, or returns "".
// No type at all is taken for JSON.
func WrongContent(h http.Header) string {
	v := h.Get("Content-Type")
	if v == "" {
		return ""
	}
	kind, _, err := mime.ParseMediaType(v)
	if err != nil {
		return "an unknown type"
	}
	if kind == "application/json" || strings.HasSuffix(kind, "+json") || kind == "text/json" {
		return ""
	}
	if kind == "text/html" || kind == "text/plain" || kind == "text/xml" || kind == "application/xml" {
		return kind
	}
	return "another type"
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
