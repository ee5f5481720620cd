// Package telemetry is how the program speaks about itself: structured logs,
// metrics and build information.
//
// It owns the format and the level of logs and the registry of metrics. It
// decides nothing and stores nothing. Log lines are JSON unless a person reads
// them on a terminal; values are data and never part of a format.
package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/trace"
)

// LogConfig says how to log.
type LogConfig struct {
	Level  string `yaml:"level"`  // debug, info (default), warn or error
	Format string `yaml:"format"` // json, text, or auto (default): text on a terminal, else json
}

// Validate returns an error that names the field at fault.
func (c LogConfig) Validate() error {
	if _, err := ParseLevel(c.Level); err != nil {
		return err
	}
	switch c.Format {
	case "", "auto", "json", "text":
		return nil
	}
	return fmt.Errorf("log format %q is not one of auto, json, text", c.Format)
}

// ParseLevel reads a level; "" is info.
func ParseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "debug":
		return slog.LevelDebug, nil
	case "", "info":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("log level %q is not one of debug, info, warn, error", s)
}

// NewLogger returns a logger that writes to w at the level that level holds,
// which may be changed at any time.
func NewLogger(c LogConfig, w io.Writer, level *slog.LevelVar) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "text" || (c.Format != "json" && isTerminal(w)) {
		return slog.New(requestHandler{slog.NewTextHandler(w, options)})
	}
	return slog.New(requestHandler{slog.NewJSONHandler(w, options)})
}

// requestHandler adds the ids of the request and of the trace that a line was
// written for.
type requestHandler struct{ slog.Handler }

// Handle implements slog.Handler.
func (h requestHandler) Handle(ctx context.Context, r slog.Record) error {
	id := RequestID(ctx)
	if id == "" {
		return h.Handler.Handle(ctx, r)
	}
	named := false
	r.Attrs(func(a slog.Attr) bool {
		named = a.Key == "request_id"
		return !named
	})
	if !named {
		r.AddAttrs(slog.String("request_id", id))
	}
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h requestHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return requestHandler{h.Handler.WithAttrs(a)}
}

// WithGroup implements slog.Handler.
func (h requestHandler) WithGroup(name string) slog.Handler {
	return requestHandler{h.Handler.WithGroup(name)}
}

func isTerminal(w io.Writer) bool {
	if g, ok := w.(*Gatherer); ok {
		w = g.w
	}
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// The linker sets these: see the Makefile.
var (
	version = ""
	commit  = ""
	date    = ""
)

// Build says which build of the program this is.
type Build struct {
	Version   string `json:"version"`
	Commit    string `json:"commit"`
	Date      string `json:"date"` // of the commit, RFC 3339
	GoVersion string `json:"go_version"`
	Platform  string `json:"platform"`
}

// BuildInfo returns what the linker stamped, or what the Go tool knows of a
// build that was not stamped.
func BuildInfo() Build {
	b := Build{Version: version, Commit: commit, Date: date, GoVersion: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision" && b.Commit == "":
				b.Commit = s.Value
			case s.Key == "vcs.time" && b.Date == "":
				b.Date = s.Value
			}
		}
	}
	if b.Version == "" {
		b.Version = "devel"
	}
	return b
}

// String returns one line for people.
func (b Build) String() string {
	return fmt.Sprintf("aiops %s (commit %s, %s, %s, %s)", b.Version, orUnknown(b.Commit), orUnknown(b.Date), b.GoVersion, b.Platform)
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// NewRegistry returns a registry that already holds the metrics of the Go
// runtime, of this process, of the build and of the start time.
func NewRegistry(started time.Time) *prometheus.Registry {
	r := prometheus.NewRegistry()
	b := BuildInfo()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "aiops_build_info", Help: "Always 1; the labels say which build this is.",
		ConstLabels: prometheus.Labels{"version": b.Version, "commit": b.Commit, "go_version": b.GoVersion},
	})
	info.Set(1)
	start := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "aiops_start_time_seconds", Help: "When the program started, in seconds since the Unix epoch.",
	})
	start.Set(float64(started.UnixMilli()) / 1000)
	r.MustRegister(info, start, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
