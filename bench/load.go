package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// LoadOptions say what Load measures. Zero fields take the full form.
type LoadOptions struct {
	Connections int           // of the mixed reads; 0 is 1,000
	Rate        float64       // mixed reads a second; 0 is 1,000
	For         time.Duration // each part; 0 is 10 s
	Dir         string        // for the databases; default a temporary folder
	Program     string        // the program under test; default this one
}

// LoadReport is what Load found. The server has one core, the generator
// another one; without a second core, or without taskset, they share.
type LoadReport struct {
	GoVersion string `json:"go_version"`
	Platform  string `json:"platform"`
	CPUs      int    `json:"cpus"`
	Pinned    bool   `json:"pinned"`

	Mixed  LoadResult     `json:"mixed_reads"`
	Cached LoadThroughput `json:"cached_read"`

	Unloaded LoadResult     `json:"unloaded"` // an expensive read at a fifth of its peak rate
	Overload []LoadOverload `json:"overload"`
	Control  LoadOverload   `json:"control_without_limiter"`
}

// LoadResult is what clients saw that ask at a fixed rate, whatever comes back.
// Times count from when a request was due.
type LoadResult struct {
	Connections int     `json:"connections"`
	PerSecond   float64 `json:"asked_per_second"`
	Served      int64   `json:"served"`
	Refused     int64   `json:"refused"` // 429 or 503 with Retry-After
	Failed      int64   `json:"failed"`  // any other answer, or none in time
	P50         float64 `json:"served_p50_ms"`
	P95         float64 `json:"served_p95_ms"`
	P99         float64 `json:"served_p99_ms"`
	RefusedP99  float64 `json:"refused_p99_ms"`
	Goodput     float64 `json:"goodput_per_second"`
	LateP99     float64 `json:"generator_late_p99_ms"` // how late the generator itself was; part of all times
}

// LoadThroughput compares a kept answer with a bare net/http handler that
// sends the same bytes. Both are asked in turn, a short slice of one beside
// each of the other, so that a machine that changes its speed changes it for both.
type LoadThroughput struct {
	Bytes      int        `json:"bytes"`
	Slices     int        `json:"slices"`     // of each of the two
	PerSecond  float64    `json:"per_second"` // median of the slices
	CPUMicros  float64    `json:"cpu_us_per_request"`
	Bare       float64    `json:"bare_per_second"` // median of the slices
	BareMicros float64    `json:"bare_cpu_us_per_request"`
	Ratio      LoadSpread `json:"ratio"` // of each slice to the one of the bare handler beside it
}

func (o LoadOptions) withDefaults() LoadOptions {
	if o.Connections <= 0 {
		o.Connections = 1000
	}
	if o.Rate <= 0 {
		o.Rate = 1000
	}
	if o.For <= 0 {
		o.For = 10 * time.Second
	}
	if o.Program == "" {
		o.Program = os.Args[0]
	}
	return o
}

// loadRole tells a child process of Load what it is.
const loadRole = "AIOPS_BENCH_LOAD_ROLE"

// patience is how long a client waits for an answer before it gives up.
const patience = time.Second

// expensive costs milliseconds and is never kept: it looks at every series.
const expensive = "/prometheus/api/v1/query?query=count%20by%20(job)%20(%7B__name__%3D~%22.%2B%22%7D)"

// Load measures the program under load: started as a user starts it, with its
// default limits, in a process of its own. It tells of its progress on w,
// which may be nil. In a process that Load started it does that process's part
// instead and does not return.
func Load(ctx context.Context, o LoadOptions, w io.Writer) (r LoadReport, err error) {
	if os.Getenv(loadRole) == "bare" {
		if err := serveBare(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	o = o.withDefaults()
	if w == nil {
		w = io.Discard
	}
	if err := liveFiles(2*o.Connections + 3000); err != nil {
		return r, err
	}
	if o.Dir == "" {
		dir, err := os.MkdirTemp("", "aiops-bench-load")
		if err != nil {
			return r, fmt.Errorf("making a folder for the databases: %w", err)
		}
		defer os.RemoveAll(dir)
		o.Dir = dir
	}
	r = LoadReport{GoVersion: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU()}
	unpin := r.pin()
	defer unpin()
	run := &loadRun{ctx: ctx, o: o, out: w, report: &r}
	return r, errors.Join(run.limited(), run.unlimited())
}

// loadRun is one run of Load.
type loadRun struct {
	ctx    context.Context
	o      LoadOptions
	out    io.Writer
	report *LoadReport
}

func (l *loadRun) say(format string, args ...any) { fmt.Fprintf(l.out, format+"\n", args...) }

// limited measures the program as it is.
func (l *loadRun) limited() error {
	s, err := startServer(l.ctx, l.o, filepath.Join(l.o.Dir, "limited"), "")
	if err != nil {
		return err
	}
	defer s.end()
	targets, err := s.targets()
	if err != nil {
		return err
	}
	r := l.report
	r.Mixed = openLoop(l.ctx, s.address, targets, l.o.Connections, l.o.Rate, l.o.For, 10*time.Second)
	l.say("%d connections, %.0f mixed reads/s: p50 %.1f ms, p95 %.1f ms, p99 %.1f ms, %d refused, %d failed",
		l.o.Connections, l.o.Rate, r.Mixed.P50, r.Mixed.P95, r.Mixed.P99, r.Mixed.Refused, r.Mixed.Failed)
	if r.Cached, err = l.throughput(s, targets[0]); err != nil {
		return err
	}
	l.say("cached read: %.0f/s (%.1f µs of CPU), bare handler %.0f/s (%.1f µs): ratio %.2f (%.2f to %.2f in %d slices)",
		r.Cached.PerSecond, r.Cached.CPUMicros, r.Cached.Bare, r.Cached.BareMicros, r.Cached.Ratio.Median, r.Cached.Ratio.Least, r.Cached.Ratio.Most, r.Cached.Slices)
	peak := l.peak(s)
	r.Unloaded = openLoop(l.ctx, s.address, []string{"GET " + expensive}, 20, max(1, peak.PerSecond/5), l.o.For/2, patience)
	l.say("an expensive read at a fifth of %.0f/s: p50 %.1f ms, p99 %.1f ms", peak.PerSecond, r.Unloaded.P50, r.Unloaded.P99)
	r.Overload = l.overloads(s, 2, 5, 10)
	return l.ctx.Err()
}

// unlimited is the control: the same overload without the limiter.
func (l *loadRun) unlimited() error {
	s, err := startServer(l.ctx, l.o, filepath.Join(l.o.Dir, "unlimited"), "admission: {disabled: true}\n")
	if err != nil {
		return err
	}
	defer s.end()
	l.say("without the limiter:")
	l.report.Control = l.overloads(s, 5)[0]
	return l.ctx.Err()
}
