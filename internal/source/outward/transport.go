package outward

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"

	"aiops/internal/telemetry"
)

// dialling is how connections to a source are made.
type dialling struct {
	connect func(ctx context.Context, network, address string) (net.Conn, error)
	tls     *tls.Config
}

func newDialling(cfg Config, conns *pool) (dialling, error) {
	tlsCfg, err := tlsConfig(cfg.Source.TLS)
	if err != nil {
		return dialling{}, err
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
	return dialling{tls: tlsCfg, connect: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return conns.opened(c), nil
	}}, nil
}

// newTransport makes the connection pool, and a span and a traceparent for each
// request. There is no proxy from the environment: which address is reached
// must follow from the configuration.
func newTransport(cfg Config, dial dialling) http.RoundTripper {
	transport := &http.Transport{
		DialContext:         dial.connect,
		TLSClientConfig:     dial.tls,
		TLSHandshakeTimeout: connectTimeout,
		ForceAttemptHTTP2:   true,
		// Half-open connections are found out by pings instead of by a query.
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: connectTimeout},
		MaxConnsPerHost:        cfg.MaxConnections,
		MaxIdleConns:           min(cfg.MaxConnections, cfg.Concurrency),
		MaxIdleConnsPerHost:    min(cfg.MaxConnections, cfg.Concurrency),
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: 64 << 10,
	}
	return &traced{
		RoundTripper: otelhttp.NewTransport(transport,
			otelhttp.WithPropagators(propagation.TraceContext{}),
			otelhttp.WithSpanNameFormatter(func(string, *http.Request) string { return "ask " + cfg.API }),
		),
		idle: transport.CloseIdleConnections,
	}
}

// traced lets http.Client close idle connections, which otelhttp hides.
type traced struct {
	http.RoundTripper
	idle func()
}

func (t *traced) CloseIdleConnections() { t.idle() }

// pool counts the connections to a source.
type pool struct {
	metrics *metrics
	open    atomic.Int64
	inUse   atomic.Int64 // requests that hold a connection; several share one of HTTP/2
}

func (p *pool) opened(c net.Conn) net.Conn {
	p.open.Add(1)
	p.metrics.dialled.Inc()
	return &countedConn{Conn: c, pool: p}
}

// countedConn tells its pool once that it was closed.
type countedConn struct {
	net.Conn
	pool   *pool
	closed atomic.Bool
}

func (c *countedConn) Close() error {
	if !c.closed.Swap(true) {
		c.pool.open.Add(-1)
	}
	return c.Conn.Close()
}

// trace measures how long req waits for a connection and notes in held that it
// has one.
func (p *pool) trace(req *http.Request, held *atomic.Bool) *http.Request {
	ctx := req.Context()
	var asked time.Time
	return req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { asked = time.Now() },
		GotConn: func(httptrace.GotConnInfo) {
			telemetry.Observe(ctx, p.metrics.wait, time.Since(asked).Seconds())
			if !held.Swap(true) {
				p.inUse.Add(1)
			}
		},
	}))
}

func (p *pool) release(held *atomic.Bool) {
	if held.Load() {
		p.inUse.Add(-1)
	}
}
