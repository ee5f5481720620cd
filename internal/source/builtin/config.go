package builtin

import (
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"aiops/internal/model"
)

// Config is the embedded source's configuration. The zero value of every field
// but Dir stands for its default.
type Config struct {
	Dir              string         `yaml:"-"`                   // of the data; required
	Interval         model.Duration `yaml:"interval"`            // between scrapes of this process and the host; 5s
	LateData         model.Duration `yaml:"late_data"`           // how long samples may come late; queries of detectors end this far in the past; 2s
	RetentionTime    model.Duration `yaml:"retention_time"`      // how long samples are kept; 15d
	RetentionBytes   int64          `yaml:"retention_bytes"`     // of the blocks on disk; 0 is no limit
	OutOfOrderWindow model.Duration `yaml:"out_of_order_window"` // how far back, from the newest sample, samples are taken; 48h
	MaxSeries        int            `yaml:"max_series"`          // in memory; 500000
	Instance         string         `yaml:"instance"`            // value of the label "instance" for this process and host; the host name
	Query            QueryConfig    `yaml:"query"`
	Host             HostConfig     `yaml:"host"`
	Targets          []Target       `yaml:"targets"`
	Room             func() error   `yaml:"-"` // asked before each write, which its error refuses; nil: there always is room
}

// QueryConfig bounds the cost of queries.
type QueryConfig struct {
	Timeout     model.Duration `yaml:"timeout"`     // of one query; 30s
	MaxSamples  int            `yaml:"max_samples"` // in memory during one query; 20000000
	MaxSeries   int            `yaml:"max_series"`  // in one answer; 200000
	Concurrency int            `yaml:"concurrency"` // queries at the same time; 4
	Lookback    model.Duration `yaml:"lookback"`    // how old a sample may be to count as the value now; 5m
}

// HostConfig says what is read from this host.
type HostConfig struct {
	Disabled bool   `yaml:"disabled"`
	ProcPath string `yaml:"proc_path"` // /proc
	SysPath  string `yaml:"sys_path"`  // /sys
	RootPath string `yaml:"root_path"` // where the host's root is mounted, for a container; /
}

// Target is a job: a group of HTTP endpoints to scrape.
type Target struct {
	Job         string                  `yaml:"job"`
	URLs        []string                `yaml:"urls"`     // such as http://127.0.0.1:9100/metrics
	Interval    model.Duration          `yaml:"interval"` // the source's
	Timeout     model.Duration          `yaml:"timeout"`  // the interval, at most 10s
	Labels      map[string]string       `yaml:"labels"`   // added to every series
	Username    string                  `yaml:"username"`
	Password    model.Secret            `yaml:"password"`
	BearerToken model.Secret            `yaml:"bearer_token"`
	Headers     map[string]model.Secret `yaml:"headers"`
	TLS         model.TLSOptions        `yaml:"tls"`
	MaxBytes    int64                   `yaml:"max_bytes"`   // of one answer; 33554432
	MaxSamples  int                     `yaml:"max_samples"` // of one answer; 100000
}

// Defaults and bounds of the configuration.
const (
	defaultInterval         = 5 * time.Second
	defaultLateData         = 2 * time.Second
	defaultRetention        = 15 * 24 * time.Hour
	defaultOutOfOrderWindow = 48 * time.Hour
	defaultMaxSeries        = 500_000
	defaultQueryTimeout     = 30 * time.Second
	defaultMaxSamples       = 20_000_000
	defaultAnswerSeries     = 200_000
	defaultConcurrency      = 4
	defaultLookback         = 5 * time.Minute
	defaultTargetTimeout    = 10 * time.Second
	defaultTargetBytes      = 32 << 20
	defaultTargetSamples    = 100_000
	leastInterval           = time.Second
	leastRetention          = 2 * time.Hour
	mostTargets             = 1_000
)

// The jobs of what is scraped without being configured.
const (
	jobProcess = "aiops"
	jobHost    = "node"
)

const (
	labelJob      = "job"
	labelInstance = "instance"
)

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// withDefaults returns c with every default in place, and its own Targets.
func (c Config) withDefaults() Config {
	setDefault(&c.Interval, model.Duration(defaultInterval))
	setDefault(&c.LateData, model.Duration(defaultLateData))
	setDefault(&c.RetentionTime, model.Duration(defaultRetention))
	setDefault(&c.OutOfOrderWindow, model.Duration(defaultOutOfOrderWindow))
	setDefault(&c.MaxSeries, defaultMaxSeries)
	setDefault(&c.Query.Timeout, model.Duration(defaultQueryTimeout))
	setDefault(&c.Query.MaxSamples, defaultMaxSamples)
	setDefault(&c.Query.MaxSeries, defaultAnswerSeries)
	setDefault(&c.Query.Concurrency, defaultConcurrency)
	setDefault(&c.Query.Lookback, model.Duration(defaultLookback))
	setDefault(&c.Host.ProcPath, "/proc")
	setDefault(&c.Host.SysPath, "/sys")
	setDefault(&c.Host.RootPath, "/")
	if c.Instance == "" {
		if name, err := os.Hostname(); err == nil {
			c.Instance = name
		} else {
			c.Instance = "localhost"
		}
	}
	targets := make([]Target, len(c.Targets))
	for i, t := range c.Targets {
		targets[i] = t.withDefaults(c.Interval)
	}
	c.Targets = targets
	return c
}

func (t Target) withDefaults(interval model.Duration) Target {
	setDefault(&t.Interval, interval)
	setDefault(&t.Timeout, min(t.Interval, model.Duration(defaultTargetTimeout)))
	setDefault(&t.MaxBytes, defaultTargetBytes)
	setDefault(&t.MaxSamples, defaultTargetSamples)
	return t
}

// Validate reports everything that is wrong with c. It opens nothing.
func (c Config) Validate() error {
	var v model.Invalid
	c = c.withDefaults()
	if c.Dir == "" {
		v.Add("/dir", "required", "the embedded database needs a directory")
	}
	least := func(pointer string, d model.Duration, least time.Duration) {
		if d.Std() < least {
			v.Add(pointer, "out_of_range", "%s is %s; at least %s is needed", strings.TrimPrefix(pointer, "/"), d, model.Duration(least))
		}
	}
	least("/interval", c.Interval, leastInterval)
	least("/late_data", c.LateData, 0)
	least("/retention_time", c.RetentionTime, leastRetention)
	least("/out_of_order_window", c.OutOfOrderWindow, 0)
	least("/query/timeout", c.Query.Timeout, time.Millisecond)
	least("/query/lookback", c.Query.Lookback, time.Second)
	if c.Interval.Std()%time.Millisecond != 0 {
		v.Add("/interval", "invalid", "interval is %s; give a whole number of milliseconds", c.Interval)
	}
	positive := func(pointer string, n int64) {
		if n < 0 {
			v.Add(pointer, "out_of_range", "%s is negative; leave it out for its default", strings.TrimPrefix(pointer, "/"))
		}
	}
	positive("/retention_bytes", c.RetentionBytes)
	positive("/max_series", int64(c.MaxSeries))
	positive("/query/max_samples", int64(c.Query.MaxSamples))
	positive("/query/max_series", int64(c.Query.MaxSeries))
	positive("/query/concurrency", int64(c.Query.Concurrency))
	checkTargets(&v, c.Targets)
	return v.Err(model.SubjectSource)
}

func checkTargets(v *model.Invalid, targets []Target) {
	jobs := map[string]int{jobProcess: -1, jobHost: -1}
	urls := 0
	for i, t := range targets {
		pointer := fmt.Sprintf("/targets/%d", i)
		urls += len(t.URLs)
		switch first, taken := jobs[t.Job]; {
		case t.Job == "":
			v.Add(pointer+"/job", "required", "a target needs the name of its job")
		case taken && first < 0:
			v.Add(pointer+"/job", "reserved", "the job %q is the name of what is scraped anyway; choose another", t.Job)
		case taken:
			v.Add(pointer+"/job", "duplicate", "the job %q is already target %d; put all URLs of a job in one target", t.Job, first)
		default:
			jobs[t.Job] = i
		}
		t.check(v, pointer)
	}
	if urls > mostTargets {
		v.Add("/targets", "too_many", "there are %d URLs to scrape; at most %d are allowed", urls, mostTargets)
	}
}

var labelName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

func (t Target) check(v *model.Invalid, pointer string) {
	if len(t.URLs) == 0 {
		v.Add(pointer+"/urls", "required", "a target needs at least one URL")
	}
	for i, raw := range t.URLs {
		at := fmt.Sprintf("%s/urls/%d", pointer, i)
		u, err := url.Parse(raw)
		switch {
		case err != nil:
			v.Add(at, "invalid", "the URL cannot be parsed")
		case u.Scheme != "http" && u.Scheme != "https":
			v.Add(at, "scheme", "the URL starts with %q; use http:// or https://", u.Scheme)
		case u.Hostname() == "":
			v.Add(at, "invalid", "the URL names no host")
		case u.User != nil:
			v.Add(at, "credentials", "the URL holds credentials; give them as username and password, where they are kept secret")
		case u.Fragment != "":
			v.Add(at, "invalid", "the URL has a fragment")
		}
	}
	if t.Interval.Std() < leastInterval {
		v.Add(pointer+"/interval", "out_of_range", "interval is %s; at least %s is needed", t.Interval, model.Duration(leastInterval))
	}
	if t.Timeout <= 0 || t.Timeout > t.Interval {
		v.Add(pointer+"/timeout", "out_of_range", "timeout is %s; it can be up to the interval of %s", t.Timeout, t.Interval)
	}
	if t.BearerToken != "" && (t.Username != "" || t.Password != "") {
		v.Add(pointer, "conflict", "give either a bearer token or a user name with a password")
	}
	if t.MaxBytes < 0 || t.MaxSamples < 0 {
		v.Add(pointer, "out_of_range", "a limit is negative; leave it out for its default")
	}
	if (t.TLS.CertFile == "") != (t.TLS.KeyFile == "") {
		v.Add(pointer+"/tls", "incomplete", "a client certificate needs both cert_file and key_file")
	}
	for name := range t.Labels {
		if !labelName.MatchString(name) || strings.HasPrefix(name, "__") || name == labelJob {
			v.Add(pointer+"/labels/"+name, "invalid", "%q cannot be the name of an added label", name)
		}
	}
	for name, value := range t.Headers {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value.Reveal()) {
			v.Add(pointer+"/headers/"+name, "invalid", "%q is not a header that can be sent", name)
		}
	}
}
