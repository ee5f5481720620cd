package outward

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"time"

	"golang.org/x/net/http/httpguts"

	"aiops/internal/model"
)

// Config says where a source is and what the way to it may cost. Source.Name,
// Source.URL, API, Path and Subject are required.
type Config struct {
	Source  model.Source // Timeout is for one call with its repetitions; 0 is 30 s
	API     string       // whose API the source speaks, for messages: "Prometheus"
	Path    string       // where that API begins, for messages: "/api/v1"
	Subject string       // of errors: model.SubjectPrometheus or model.SubjectLoki

	MaxConnections int // to the source; 0 is 16, at most 100
	Concurrency    int // requests at the same time; 0 is 8

	// AllowAddress decides, for each connection, whether the address that the
	// host name resolved to may be reached. Nil allows every address.
	AllowAddress func(netip.AddrPort) bool
}

const (
	defaultMaxConnections = 16
	mostConnections       = 100
	defaultConcurrency    = 8
	defaultTimeout        = 30 * time.Second
	connectTimeout        = 3 * time.Second
	idleTimeout           = 90 * time.Second
	maxRetryAfter         = time.Hour
)

func (c Config) withDefaults() Config {
	if c.MaxConnections == 0 {
		c.MaxConnections = defaultMaxConnections
	}
	if c.Concurrency == 0 {
		c.Concurrency = defaultConcurrency
	}
	if c.Source.Timeout == 0 {
		c.Source.Timeout = defaultTimeout
	}
	return c
}

// Check adds everything that is wrong with c to v, at pointers into the
// source's definition. It opens no file and no connection.
func (c Config) Check(v *model.Invalid) {
	if c.Source.Name == "" {
		v.Add("/name", "required", "the source needs a name")
	}
	c.checkURL(v)
	checkAuth(v, c.Source.Auth)
	checkHeaders(v, c.Source.Headers)
	if t := c.Source.TLS; (t.CertFile == "") != (t.KeyFile == "") {
		v.Add("/tls", "incomplete", "a client certificate needs both cert_file and key_file")
	}
	if c.Source.Timeout < 0 {
		v.Add("/timeout", "out_of_range", "timeout is negative; leave it out for its default")
	}
	if c.Concurrency < 0 {
		v.Add("/concurrency", "out_of_range", "concurrency is negative; leave it out for its default")
	}
	if c.MaxConnections < 0 || c.MaxConnections > mostConnections {
		v.Add("/max_connections", "out_of_range", "max_connections is %d; it can be 1 to %d", c.MaxConnections, mostConnections)
	}
}

func (c Config) checkURL(v *model.Invalid) {
	if c.Source.URL == "" {
		v.Add("/url", "required", "the source needs a URL, for example http://prometheus:9090")
		return
	}
	u, err := url.Parse(c.Source.URL)
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
		v.Add("/url", "invalid", "the URL has a query or a fragment; give only the address and the path before %s", c.Path)
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

// pathless removes the path from an error of opening a file.
func pathless(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// secrets are the texts that no message may repeat.
func (c Config) secrets() []string {
	a := c.Source.Auth
	out := []string{a.BearerToken.Reveal()}
	if a.Password != "" {
		both := a.Username + ":" + a.Password.Reveal()
		out = append(out, base64.StdEncoding.EncodeToString([]byte(both)), a.Password.Reveal())
	}
	for _, s := range c.Source.Headers {
		out = append(out, s.Reveal())
	}
	for _, s := range slices.Clone(out) {
		out = append(out, url.QueryEscape(s))
	}
	out = slices.DeleteFunc(out, func(s string) bool { return s == "" })
	// A secret that holds another one goes first.
	slices.SortFunc(out, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(out)
}
