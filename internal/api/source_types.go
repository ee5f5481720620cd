package api

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"aiops/internal/model"
)

// Source is a place that data comes from. Secrets are never shown, only
// whether they are set.
type Source struct {
	ID          string       `json:"id" example:"src_8h2k"`
	Name        string       `json:"name" example:"main"`
	Type        string       `json:"type" enum:"builtin,prometheus,loki"`
	URL         string       `json:"url" doc:"Empty for the embedded source" example:"http://prometheus:9090"`
	Auth        SourceAuth   `json:"auth"`
	TLS         TLS          `json:"tls"`
	HeaderNames []string     `json:"header_names" doc:"Headers that are sent with each request; their values are secret"`
	LateData    Duration     `json:"late_data" doc:"How long samples may come late; queries end this far in the past"`
	Timeout     Duration     `json:"timeout" doc:"For one query; 0s is the default of 30s"`
	Provisioned bool         `json:"provisioned" doc:"Defined by the configuration file, so locked here"`
	Version     int64        `json:"version"`
	CreatedAt   time.Time    `json:"created_at"`
	UpdatedAt   time.Time    `json:"updated_at"`
	Health      SourceHealth `json:"health"`
}

// SourceAuth says how the program identifies itself to a source.
type SourceAuth struct {
	Username       string `json:"username"`
	PasswordSet    bool   `json:"password_set"`
	BearerTokenSet bool   `json:"bearer_token_set"`
}

// TLS changes how a source's certificate is checked and ours is shown.
type TLS struct {
	CAFile             string `json:"ca_file" required:"false" maxLength:"1024" doc:"Path on the server"`
	CertFile           string `json:"cert_file" required:"false" maxLength:"1024" doc:"Path on the server"`
	KeyFile            string `json:"key_file" required:"false" maxLength:"1024" doc:"Path on the server"`
	ServerName         string `json:"server_name" required:"false" maxLength:"255"`
	InsecureSkipVerify bool   `json:"insecure_skip_verify" required:"false"`
}

// SourceHealth is how well a source answers.
type SourceHealth struct {
	State     string     `json:"state" enum:"up,degraded,down,stale,unknown" doc:"stale: it answers, but its data stopped moving. Of several nodes: degraded when some of them can use it and some cannot"`
	Since     *time.Time `json:"since,omitempty"`
	CheckedAt *time.Time `json:"checked_at,omitempty"`
	LastError string     `json:"last_error,omitempty"`
	LatencyMS float64    `json:"latency_ms"`

	Details map[string]any `json:"details,omitempty" doc:"Only where one source's health is asked for: the breaker, requests under way and waiting, connections, the budget for repetitions; nodes, how each one sees it, when several share a database"`
}

func sourceHealthOf(h model.SourceHealth) SourceHealth {
	state := h.State
	if state == "" {
		state = model.SourceUnknown
	}
	return SourceHealth{State: string(state), Since: timeOf(h.Since), CheckedAt: timeOf(h.CheckedAt), LastError: clip(h.LastError, maxDetail),
		LatencyMS: float64(h.Latency.Microseconds()) / 1000}
}

func (s *server) sourceOf(src model.Source) Source {
	h, _ := s.opts.Clients.Health(src.Name)
	names := make([]string, 0, len(src.Headers))
	for name := range src.Headers {
		names = append(names, name)
	}
	slices.Sort(names)
	return Source{
		ID: src.ID, Name: src.Name, Type: string(src.Type), URL: withoutPassword(src.URL),
		Auth: SourceAuth{Username: src.Auth.Username, PasswordSet: src.Auth.Password != "", BearerTokenSet: src.Auth.BearerToken != ""},
		TLS:  TLS(src.TLS), HeaderNames: names, LateData: durationOf(src.LateData), Timeout: durationOf(src.Timeout),
		Provisioned: src.Provisioned, Version: src.Version, CreatedAt: src.CreatedAt.UTC(), UpdatedAt: src.UpdatedAt.UTC(), Health: sourceHealthOf(h),
	}
}

// withoutPassword is a second net: a URL with credentials is refused on input.
func withoutPassword(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.User == nil {
		return raw
	}
	u.User = nil
	return u.String()
}

// SourceInput is a source as clients write it. Secrets can be written and not
// read: left out they keep their value, empty they are removed. Fields that
// only answers have may be sent back; they are ignored.
type SourceInput struct {
	Name     string             `json:"name" minLength:"1" maxLength:"200" pattern:"^[^\\x00-\\x1f/]+$" patternDescription:"a name without slashes and control characters" doc:"Unique" example:"main"`
	Type     string             `json:"type" enum:"prometheus,loki" doc:"The embedded source exists once and cannot be created"`
	URL      string             `json:"url" minLength:"1" maxLength:"2048" doc:"http or https, without credentials" example:"http://prometheus:9090"`
	Auth     *SourceAuthInput   `json:"auth,omitempty" doc:"Left out: as it is"`
	TLS      *TLS               `json:"tls,omitempty"`
	Headers  map[string]*string `json:"headers,omitempty" maxProperties:"32" doc:"Sent with each request. Left out: as they are. A name with null keeps its value, a name that is missing is removed."`
	LateData Duration           `json:"late_data,omitempty" doc:"How long samples may come late, up to 1h; default 0s"`
	Timeout  Duration           `json:"timeout,omitempty" doc:"For one query, up to 5m; default 30s"`

	ID          any `json:"id,omitempty" hidden:"true"`
	HeaderNames any `json:"header_names,omitempty" hidden:"true"`
	Provisioned any `json:"provisioned,omitempty" hidden:"true"`
	Version     any `json:"version,omitempty" hidden:"true"`
	CreatedAt   any `json:"created_at,omitempty" hidden:"true"`
	UpdatedAt   any `json:"updated_at,omitempty" hidden:"true"`
	Health      any `json:"health,omitempty" hidden:"true"`
}

// SourceAuthInput is how the program shall identify itself to a source: with a
// username and password, or with a bearer token. Giving one removes the other.
type SourceAuthInput struct {
	Username    string  `json:"username,omitempty" maxLength:"256"`
	Password    *string `json:"password,omitempty" writeOnly:"true" maxLength:"4096" doc:"Left out: as it is; empty: removed"`
	BearerToken *string `json:"bearer_token,omitempty" writeOnly:"true" maxLength:"16384" doc:"Left out: as it is; empty: removed"`

	PasswordSet    any `json:"password_set,omitempty" hidden:"true"`
	BearerTokenSet any `json:"bearer_token_set,omitempty" hidden:"true"`
}

const (
	maxLateData      = time.Hour
	maxSourceTimeout = 5 * time.Minute
)

// apply writes the input over old, which is zero for a new source, and returns
// every fault at once.
func (in SourceInput) apply(old model.Source) (model.Source, error) {
	var v model.Invalid
	src := old
	src.Name, src.Type, src.URL = in.Name, model.SourceType(in.Type), strings.TrimRight(in.URL, "/")
	src.LateData, src.Timeout = in.LateData.parse(&v, "/late_data"), in.Timeout.parse(&v, "/timeout")
	if src.LateData < 0 || src.LateData > maxLateData {
		v.Add("/late_data", "out_of_range", "late_data must be from 0s to 1h")
	}
	if src.Timeout < 0 || src.Timeout > maxSourceTimeout {
		v.Add("/timeout", "out_of_range", "timeout must be from 0s to 5m")
	}
	u, err := url.Parse(src.URL)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		v.Add("/url", "url", "url must be a complete http or https address such as http://prometheus:9090")
	case u.User != nil:
		v.Add("/url", "credentials", "url must not hold credentials; write them in auth")
	case u.RawQuery != "" || u.Fragment != "":
		v.Add("/url", "url", "url must not have a query or a fragment")
	}
	src.TLS = model.TLSOptions{}
	if in.TLS != nil {
		src.TLS = model.TLSOptions(*in.TLS)
		if (src.TLS.CertFile == "") != (src.TLS.KeyFile == "") {
			v.Add("/tls/key_file", "required", "cert_file and key_file go together")
		}
	}
	kept := in.secrets(&src, old, &v)
	if kept && err == nil && old.URL != "" && !sameOrigin(old.URL, src.URL) {
		v.Add("/url", "secret_required", "the address changed: send the secrets again, so that they are not sent to another host by accident")
	}
	return src, v.Err(model.SubjectSource)
}

// secrets sets auth and headers and reports whether any stored secret stays.
func (in SourceInput) secrets(src *model.Source, old model.Source, v *model.Invalid) (kept bool) {
	if in.Auth != nil {
		kept = in.Auth.apply(&src.Auth, v)
	} else {
		kept = src.Auth != model.SourceAuth{}
	}
	if in.Headers == nil {
		return kept || len(old.Headers) > 0
	}
	src.Headers = map[string]model.Secret{}
	for name, value := range in.Headers {
		at := "/headers/" + escapePointer(clip(name, 64))
		stored, known := old.Headers[name]
		switch {
		case !headerName(name):
			v.Add(at, "header", "%q is not the name of a header that can be set", clip(name, 64))
		case value == nil && !known:
			v.Add(at, "required", "the header has no stored value to keep; send one")
		case value == nil:
			src.Headers[name], kept = stored, true
		case len(*value) > 4096 || strings.ContainsAny(*value, "\r\n\x00"):
			v.Add(at, "header", "the value is one line of at most 4096 bytes")
		default:
			src.Headers[name] = model.Secret(*value)
		}
	}
	return kept
}

// apply writes the input over what is stored and reports whether any stored
// secret stays. Giving one way of identification removes the other.
func (in SourceAuthInput) apply(auth *model.SourceAuth, v *model.Invalid) (kept bool) {
	old := *auth
	byToken := in.BearerToken != nil && *in.BearerToken != ""
	byName := in.Username != "" || in.Password != nil && *in.Password != ""
	if byToken && byName {
		v.Add("/auth", "one_of", "give a username and password, or a bearer token, not both")
	}
	switch {
	case in.BearerToken != nil:
		auth.BearerToken = model.Secret(*in.BearerToken)
	case byName:
		auth.BearerToken = ""
	}
	auth.Username = in.Username
	switch {
	case in.Password != nil:
		auth.Password = model.Secret(*in.Password)
	case byToken || old.Username != "" && in.Username == "":
		auth.Password = ""
	}
	return auth.Password != "" && in.Password == nil || auth.BearerToken != "" && in.BearerToken == nil
}

// headerName refuses what is no token, and the headers that HTTP itself or
// auth sets.
func headerName(name string) bool {
	if name == "" || len(name) > 128 {
		return false
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("-_.~!#$%&'*+^`|", c) >= 0) {
			return false
		}
	}
	switch strings.ToLower(name) {
	case "host", "content-length", "content-type", "transfer-encoding", "connection", "upgrade", "trailer", "te", "authorization":
		return false
	}
	return true
}

func sameOrigin(a, b string) bool {
	ua, errA := url.Parse(a)
	ub, errB := url.Parse(b)
	return errA == nil && errB == nil && ua.Scheme == ub.Scheme && strings.EqualFold(ua.Host, ub.Host)
}
