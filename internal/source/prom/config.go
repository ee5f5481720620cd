package prom

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"aiops/internal/model"
)

// Config says where a source is and how much it may cost. Only Source.Name and
// Source.URL are required. A Source.LateData of 0 is 5 s, because a scrape's
// samples carry the time at which it began.
type Config struct {
	Source model.Source

	MaxSeries      int           // series in one answer; 0 is 100,000
	MaxBytes       int64         // bytes of one answer, after decompression; 0 is 256 MiB
	MaxConnections int           // to the source; 0 is 16, at most 100
	Concurrency    int           // requests at the same time; 0 is 8
	CheckInterval  time.Duration // between two health checks; 0 is 5 s
	Interval       time.Duration // between the source's own samples, until it is learned; 0 is 1 min
	FreshnessQuery string        // its value is the time of the newest sample; "" is max(timestamp(up))

	// AllowAddress decides, for each connection, whether the address that the
	// host name resolved to may be reached. Nil allows every address.
	AllowAddress func(netip.AddrPort) bool
}

const (
	defaultMaxSeries      = 100_000
	defaultMaxBytes       = 256 << 20
	defaultMaxConnections = 16
	mostConnections       = 100
	defaultConcurrency    = 8
	defaultTimeout        = 30 * time.Second
	defaultCheckInterval  = 5 * time.Second
	defaultInterval       = time.Minute
	defaultLateData       = 5 * time.Second
	defaultFreshness      = "max(timestamp(up))"
	connectTimeout        = 3 * time.Second
	maxRetryAfter         = time.Hour
)

func (c Config) withDefaults() Config {
	if c.MaxSeries == 0 {
		c.MaxSeries = defaultMaxSeries
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = defaultMaxBytes
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = defaultMaxConnections
	}
	if c.Concurrency == 0 {
		c.Concurrency = defaultConcurrency
	}
	if c.Source.Timeout == 0 {
		c.Source.Timeout = defaultTimeout
	}
	if c.Source.LateData == 0 {
		c.Source.LateData = defaultLateData
	}
	if c.CheckInterval == 0 {
		c.CheckInterval = defaultCheckInterval
	}
	if c.Interval == 0 {
		c.Interval = defaultInterval
	}
	if c.FreshnessQuery == "" {
		c.FreshnessQuery = defaultFreshness
	}
	return c
}

// Validate reports everything that is wrong with c, at pointers into the
// source's definition. It opens no file and no connection.
func (c Config) Validate() error {
	var v model.Invalid
	c = c.withDefaults()
	if c.Source.Name == "" {
		v.Add("/name", "required", "the source needs a name")
	}
	checkURL(&v, c.Source.URL)
	checkAuth(&v, c.Source.Auth)
	checkHeaders(&v, c.Source.Headers)
	if t := c.Source.TLS; (t.CertFile == "") != (t.KeyFile == "") {
		v.Add("/tls", "incomplete", "a client certificate needs both cert_file and key_file")
	}
	positive := func(pointer string, n int64) {
		if n < 0 {
			v.Add(pointer, "out_of_range", "%s is negative; leave it out for its default", strings.TrimPrefix(pointer, "/"))
		}
	}
	positive("/late_data", int64(c.Source.LateData))
	positive("/timeout", int64(c.Source.Timeout))
	positive("/max_series", int64(c.MaxSeries))
	positive("/max_bytes", c.MaxBytes)
	positive("/concurrency", int64(c.Concurrency))
	positive("/check_interval", int64(c.CheckInterval))
	positive("/interval", int64(c.Interval))
	if c.MaxConnections < 0 || c.MaxConnections > mostConnections {
		v.Add("/max_connections", "out_of_range", "max_connections is %d; it can be 1 to %d", c.MaxConnections, mostConnections)
	}
	return v.Err(model.SubjectSource)
}

func checkURL(v *model.Invalid, raw string) {
	if raw == "" {
		v.Add("/url", "required", "the source needs a URL, for example http://prometheus:9090")
		return
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		// The parser's error quotes the text, which may hold a password.
		v.Add("/url", "invalid", "the URL cannot be parsed")
	case u.Scheme != "http" && u.Scheme != "https":
		v.Add("/url", "scheme", "the URL starts with %q; use http:// or https://", u.Scheme)
	case u.Host == "" || u.Hostname() == "":
		v.Add("/url", "invalid", "the URL names no host")
	case u.User != nil:
		v.Add("/url", "credentials", "the URL holds credentials; give them as username and password, where they are kept secret")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		v.Add("/url", "invalid", "the URL has a query or a fragment; give only the address and the path before /api/v1")
	}
}

func checkAuth(v *model.Invalid, a model.SourceAuth) {
	if a.BearerToken != "" && (a.Username != "" || a.Password != "") {
		v.Add("/auth", "conflict", "give either a bearer token or a user name with a password")
	}
	if a.Password != "" && a.Username == "" {
		v.Add("/auth/username", "required", "a password needs a user name")
	}
	if !httpguts.ValidHeaderFieldValue(a.BearerToken.Reveal()) {
		v.Add("/auth/bearer_token", "invalid", "the bearer token holds a character that no header can carry; is there a line break at its end?")
	}
}

// ownHeaders are set by the client itself or belong to a connection.
var ownHeaders = map[string]bool{
	"Host": true, "Content-Type": true, "Content-Length": true, "Transfer-Encoding": true, "Connection": true,
	"Accept-Encoding": true, "Upgrade": true, "Te": true, "Trailer": true, "Keep-Alive": true,
}

func checkHeaders(v *model.Invalid, headers map[string]model.Secret) {
	for name, value := range headers {
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			v.Add("/headers", "invalid", "%q is not the name of a header", name)
		case ownHeaders[http.CanonicalHeaderKey(name)]:
			v.Add("/headers/"+name, "reserved", "the header %s cannot be set", name)
		case !httpguts.ValidHeaderFieldValue(value.Reveal()):
			v.Add("/headers/"+name, "invalid", "the value of the header %s holds a character that no header can carry", name)
		}
	}
}

// tlsConfig reads the authorities' file. The client certificate is read again
// for each connection, so that a renewed one is used without a restart.
func tlsConfig(o model.TLSOptions) (*tls.Config, error) {
	cfg := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         o.ServerName,
		InsecureSkipVerify: o.InsecureSkipVerify, //nolint:gosec // the operator asked for it
	}
	var v model.Invalid
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			v.Add("/tls/ca_file", "unreadable", "the authorities' file cannot be read: %v", pathless(err))
		} else {
			cfg.RootCAs = x509.NewCertPool()
			if !cfg.RootCAs.AppendCertsFromPEM(pem) {
				v.Add("/tls/ca_file", "invalid", "the authorities' file holds no certificate in PEM form")
			}
		}
	}
	if o.CertFile != "" {
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
			if err != nil {
				return nil, fmt.Errorf("reading the client certificate: %w", err)
			}
			return &pair, nil
		}
		if _, err := load(); err != nil {
			v.Add("/tls/cert_file", "unreadable", "the client certificate cannot be used: %v", pathless(err))
		}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return cfg, v.Err(model.SubjectSource)
}
