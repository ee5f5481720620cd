package prom

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"aiops/internal/model"
	"aiops/internal/source"
)

// errorBytes is how much of an error's body is read.
const errorBytes = 64 << 10

// newTransport makes the connection pool. There is no proxy from the
// environment: which address is reached must follow from the configuration.
func newTransport(cfg Config) (*http.Transport, error) {
	tlsCfg, err := tlsConfig(cfg.Source.TLS)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: connectTimeout, KeepAlive: 15 * time.Second}
	if cfg.AllowAddress != nil {
		dialer.Control = func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil || !cfg.AllowAddress(netip.AddrPortFrom(at.Addr().Unmap(), at.Port())) {
				return errAddress
			}
			return nil
		}
	}
	return &http.Transport{
		DialContext:         dialer.DialContext,
		TLSClientConfig:     tlsCfg,
		TLSHandshakeTimeout: connectTimeout,
		ForceAttemptHTTP2:   true,
		// Half-open connections are found out by pings instead of by a query.
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: connectTimeout},
		MaxConnsPerHost:        cfg.MaxConnections,
		MaxIdleConns:           cfg.MaxConnections,
		MaxIdleConnsPerHost:    cfg.MaxConnections,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}, nil
}

func (c *Client) newRequest(ctx context.Context, path string, form url.Values) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	for name, value := range c.cfg.Source.Headers {
		req.Header.Set(name, value.Reveal())
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "aiops")
	}
	// Queries change nothing, so the transport may repeat one on a new
	// connection when a kept one turns out to be closed. An empty list says that
	// without sending the header.
	req.Header["X-Idempotency-Key"] = nil
	switch auth := c.cfg.Source.Auth; {
	case auth.BearerToken != "":
		req.Header.Set("Authorization", "Bearer "+auth.BearerToken.Reveal())
	case auth.Username != "":
		req.SetBasicAuth(auth.Username, auth.Password.Reveal())
	}
	return req, nil
}

// send sends one request and decodes its answer. The error is a *failure, or
// the context's own when the caller gave up.
func (c *Client) send(ctx context.Context, path string, form url.Values, span source.Span, lim limits) (*answer, error) {
	begin := time.Now()
	c.running.Add(1)
	defer c.running.Add(-1)
	ans, err := c.exchange(ctx, path, form, span, lim)
	outcome := outcomeOK
	var f *failure
	switch {
	case errors.As(err, &f):
		outcome = f.label
		c.log.Debug("request failed", "path", path, "err", f.err)
	case err != nil:
		outcome = outcomeCancelled
	case ans.partial != "":
		outcome = outcomePartial
	}
	c.metrics.requests.WithLabelValues(outcome).Inc()
	c.metrics.duration.Observe(time.Since(begin).Seconds())
	return ans, err
}

func (c *Client) exchange(ctx context.Context, path string, form url.Values, span source.Span, lim limits) (*answer, error) {
	timeout := c.cfg.Source.Timeout
	if deadline, ok := ctx.Deadline(); ok {
		// The source should not go on when we no longer wait.
		timeout = max(time.Until(deadline), time.Millisecond)
		form.Set("timeout", strconv.FormatInt(max(timeout.Milliseconds(), 1), 10)+"ms")
	}
	req, err := c.newRequest(ctx, path, form)
	if err != nil {
		return nil, unavailable(err, false, "the source's URL cannot be used for a request")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, explain(ctx, err, timeout)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		ans, _, _ := decode(io.LimitReader(resp.Body, errorBytes), span, limits{bytes: errorBytes})
		return nil, statusFailure(resp, ans, c.clean, time.Now())
	}
	if what := wrongContent(resp.Header); what != "" {
		return nil, unavailable(nil, false, "the source answers with %s instead of JSON; is this the URL of a Prometheus API, and not of its pages or of a login?", what)
	}
	ans, read, err := decode(resp.Body, span, lim)
	c.metrics.bytes.Add(float64(read))
	if err != nil {
		if ctx.Err() != nil && ans.count <= lim.series {
			return nil, explain(ctx, err, timeout)
		}
		return nil, bodyFailure(err, ans, lim, timeout)
	}
	return c.accept(resp, ans, lim)
}

// explain turns an error into a failure, or into the context's own error when
// the caller gave up.
func explain(ctx context.Context, err error, timeout time.Duration) error {
	if ctx.Err() != nil && !errors.Is(context.Cause(ctx), errOwnTimeout) {
		return ctx.Err()
	}
	return transportFailure(err, timeout)
}

// accept judges an answer that was read in full.
func (c *Client) accept(resp *http.Response, ans *answer, lim limits) (*answer, error) {
	if !ans.ok {
		return nil, statusFailure(resp, ans, c.clean, time.Now())
	}
	if ans.count > lim.series {
		return nil, tooManySeries(ans.count, true, lim.series)
	}
	if ans.did.Histograms > 0 && len(ans.series) == 0 {
		return nil, queryFailure(model.KindQuery, "the query yields native histograms, which have no single value; apply histogram_quantile(), histogram_avg() or histogram_count()", "")
	}
	c.metrics.count(ans.did)
	return ans, nil
}

func (c *Client) clean(text string) string { return sanitize(text, c.secrets) }

// wrongContent names the type of an answer that cannot be one of the API's, or
// returns "". No type at all is taken for JSON.
func wrongContent(h http.Header) string {
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

var _ slog.LogValuer = (*Client)(nil)

// LogValue shows the source's name only.
func (c *Client) LogValue() slog.Value { return slog.StringValue(c.cfg.Source.Name) }
