package loki

import (
	"net/netip"
	"strings"
	"time"

	"aiops/internal/model"
	"aiops/internal/source/outward"
)

// Config says where a source is and how much it may cost. Only Source.Name and
// Source.URL are required. A Source.LateData of 0 is 5 s.
type Config struct {
	Source model.Source

	// Describe fills in what the text of a line says, such as its level; nil
	// leaves lines as they came.
	Describe func(*model.LogLine)

	MaxSeries      int           // series in one answer; 0 is 100,000
	MaxBytes       int64         // bytes of one answer, after decompression; 0 is 256 MiB
	MaxConnections int           // to the source; 0 is 16, at most 100
	Concurrency    int           // requests at the same time; 0 is 8
	CheckInterval  time.Duration // between two health checks; 0 is 5 s

	// AllowAddress decides, for each connection, whether the address that the
	// host name resolved to may be reached. Nil allows every address.
	AllowAddress func(netip.AddrPort) bool
}

const (
	defaultMaxSeries     = 100_000
	defaultMaxBytes      = 256 << 20
	defaultCheckInterval = 5 * time.Second
	defaultLateData      = 5 * time.Second
)

func (c Config) withDefaults() Config {
	if c.MaxSeries == 0 {
		c.MaxSeries = defaultMaxSeries
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = defaultMaxBytes
	}
	if c.Source.LateData == 0 {
		c.Source.LateData = defaultLateData
	}
	if c.CheckInterval == 0 {
		c.CheckInterval = defaultCheckInterval
	}
	return c
}

// Validate reports everything that is wrong with c, at pointers into the
// source's definition. It opens no file and no connection.
func (c Config) Validate() error {
	var v model.Invalid
	c.outward().Check(&v)
	positive := func(pointer string, n int64) {
		if n < 0 {
			v.Add(pointer, "out_of_range", "%s is negative; leave it out for its default", strings.TrimPrefix(pointer, "/"))
		}
	}
	positive("/late_data", int64(c.Source.LateData))
	positive("/max_series", int64(c.MaxSeries))
	positive("/max_bytes", c.MaxBytes)
	positive("/check_interval", int64(c.CheckInterval))
	return v.Err(model.SubjectSource)
}

// outward is the part of c that says how the source is reached.
func (c Config) outward() outward.Config {
	return outward.Config{
		Source: c.Source, API: "Loki", Path: "/loki/api/v1", Subject: model.SubjectLoki,
		MaxConnections: c.MaxConnections, Concurrency: c.Concurrency, AllowAddress: c.AllowAddress,
	}
}
