package model

import "time"

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
