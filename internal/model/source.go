package model

import (
	"net/url"
	"strings"
	"time"
	"unicode"
)

// SourceType is the kind of a data source.
type SourceType string

// The types of sources.
const (
	SourceBuiltin    SourceType = "builtin"
	SourcePrometheus SourceType = "prometheus"
	SourceLoki       SourceType = "loki"
)

// BuiltinSource is the name of the embedded source.
const BuiltinSource = "builtin"

// Secret is a text that does not print: every formatting verb and every
// encoder shows a placeholder. Reveal is the only way to the value.
type Secret string

const redacted = "<secret>"

// Reveal returns the secret. Call it only where the value is used.
func (s Secret) Reveal() string { return string(s) }

// String returns a placeholder, or "" when there is no secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString returns the placeholder.
func (s Secret) GoString() string { return s.String() }

// MarshalText writes the placeholder.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes the text as the secret.
func (s *Secret) UnmarshalText(b []byte) error { *s = Secret(b); return nil }

// Source is a place that data comes from.
type Source struct {
	ID          string
	Name        string // unique
	Type        SourceType
	URL         string // http or https, without credentials; "" for builtin
	Auth        SourceAuth
	TLS         TLSOptions
	Headers     map[string]Secret // sent with each request, such as X-Scope-OrgID
	LateData    time.Duration     // how long samples may come late; queries end this far in the past
	Timeout     time.Duration     // for one query; 0 is the default of 30 s
	Provisioned bool
	Version     int64
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// SourceAuth is how we identify ourselves to a source. At most one way is set.
type SourceAuth struct {
	Username    string
	Password    Secret
	BearerToken Secret
}

// TLSOptions change how a source's certificate is checked and ours is shown.
type TLSOptions struct {
	CAFile             string
	CertFile           string
	KeyFile            string
	ServerName         string
	InsecureSkipVerify bool
}

// HealthState is how well a source answers.
type HealthState string

// The states of a source. Down: it does not answer. Stale: it answers, but
// its data stopped moving. Degraded: it answers slowly, partly, or only some
// of the time. Unknown: not checked yet.
const (
	SourceUp       HealthState = "up"
	SourceDegraded HealthState = "degraded"
	SourceDown     HealthState = "down"
	SourceStale    HealthState = "stale"
	SourceUnknown  HealthState = "unknown"
)

// Usable reports whether data of a source in this state may resolve an
// anomaly, teach a model or justify an action.
func (s HealthState) Usable() bool { return s == SourceUp || s == SourceDegraded }

// SourceHealth is the health of one source and since when.
type SourceHealth struct {
	State     HealthState   `json:"state"`
	Since     time.Time     `json:"since"`
	CheckedAt time.Time     `json:"checked_at"`
	LastError string        `json:"last_error,omitempty"` // safe to show
	Latency   time.Duration `json:"-"`
}

// CollectorState is how a collector's last round went.
type CollectorState string

// The states of a collector. Unknown: it had no round yet. Disabled: it has
// nothing to read on this system, which is not a fault.
const (
	CollectorUp       CollectorState = "up"
	CollectorDown     CollectorState = "down"
	CollectorUnknown  CollectorState = "unknown"
	CollectorDisabled CollectorState = "disabled"
)

// Collector is one thing that a source reads its data from: a scrape target,
// a part of the host, or this process.
type Collector struct {
	Name       string         `json:"name"`
	Kind       string         `json:"kind"` // process, host, target or receiver
	State      CollectorState `json:"state"`
	LastScrape time.Time      `json:"last_scrape"` // zero: never
	Duration   time.Duration  `json:"-"`
	Samples    int            `json:"samples"`         // taken in the last round
	Error      string         `json:"error,omitempty"` // safe to show
}

// Validate returns every fault of a source's definition that shows without
// asking the source.
func (s Source) Validate() error {
	var v Invalid
	if !validName(s.Name) {
		v.Add("/name", "name", "a name is 1 to 128 printable characters")
	}
	switch s.Type {
	case SourceBuiltin:
		v.Add("/type", "builtin", "the embedded source exists already; its name is %q", BuiltinSource)
	case SourcePrometheus, SourceLoki:
		u, err := url.Parse(s.URL)
		switch {
		case s.URL == "":
			v.Add("/url", "required", "a source needs a URL")
		case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
			v.Add("/url", "url", "the URL starts with http:// or https:// and names a host")
		case u.User != nil:
			v.Add("/url", "credentials", "write credentials into username and password, not into the URL")
		case u.RawQuery != "" || u.Fragment != "":
			v.Add("/url", "url", "the URL has no query and no fragment")
		}
	default:
		v.Add("/type", "unknown", "the type is %s or %s, not %q", SourcePrometheus, SourceLoki, s.Type)
	}
	if s.Name == BuiltinSource {
		v.Add("/name", "reserved", "the name %q belongs to the embedded source", BuiltinSource)
	}
	if s.Auth.BearerToken != "" && (s.Auth.Username != "" || s.Auth.Password != "") {
		v.Add("/bearer_token", "one_of", "give a bearer token or a username with password, not both")
	}
	if (s.TLS.CertFile == "") != (s.TLS.KeyFile == "") {
		v.Add("/tls", "together", "cert_file and key_file go together")
	}
	for name := range s.Headers {
		if !validHeader(name) {
			v.Add("/headers", "header", "%q is not a header that may be set", name)
		}
	}
	if s.LateData < 0 || s.LateData > 24*time.Hour {
		v.Add("/late_data", "out_of_range", "late_data is between 0s and 24h")
	}
	if s.Timeout < 0 || s.Timeout > 5*time.Minute {
		v.Add("/timeout", "out_of_range", "timeout is between 0s and 5m")
	}
	return v.Err(SubjectSource)
}

// validName reports whether s can name a source or a detector.
func validName(s string) bool {
	if s == "" || len(s) > 128 || strings.TrimSpace(s) != s {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// validHeader reports whether a person may set the header: it is a token and
// does not govern the connection or the message's length.
func validHeader(name string) bool {
	if name == "" || len(name) > 128 {
		return false
	}
	for _, c := range []byte(name) {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && !('0' <= c && c <= '9') && c != '-' && c != '_' {
			return false
		}
	}
	switch strings.ToLower(name) {
	case "host", "content-length", "transfer-encoding", "connection", "authorization", "cookie", "upgrade":
		return false
	}
	return true
}
