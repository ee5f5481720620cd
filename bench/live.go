package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// LiveOptions say what Live measures. Zero fields take the quick form.
type LiveOptions struct {
	Clients int           // WebSockets; 0 is 1,000, the full form is 10,000
	Rate    float64       // events per second to everybody; 0 is 10 for up to 2,000 clients, else 2
	For     time.Duration // how long each side is measured; 0 is 10 s
	Burst   int           // events at once; 0 is 100
	Slow    float64       // share of the clients that stop reading; 0 is a tenth, below 0 none
	Crash   bool          // also kill the server and watch everybody come back
	Dir     string        // for the databases; default a temporary folder
	// Child is the command that runs this measure's other processes: a program
	// that calls Live again. Default this program with its own arguments.
	Child []string
}

// smallRound are the clients of the round that the full form adds.
const smallRound = 1000

// LiveReport is what Live found.
type LiveReport struct {
	GoVersion string      `json:"go_version"`
	Platform  string      `json:"platform"`
	CPUs      int         `json:"cpus"`
	LoadBegin string      `json:"load_average_at_begin"` // as the system tells it, "" where it does not
	LoadEnd   string      `json:"load_average_at_end"`
	Rounds    []LiveRound `json:"rounds"`
	Aims      []LiveAim   `json:"aims"`
}

// LiveRound is one number of clients on both servers: the gateway on a SQLite
// log, and a plain loop over its own connections that writes the same frames
// and stores nothing. Both have all their clients all the time and are measured
// in turn, in slices, so that a change of the machine's load falls on both.
// While one is measured the other one is halted.
type LiveRound struct {
	Clients   int        `json:"clients"`
	Rate      float64    `json:"events_per_second"`
	Seconds   float64    `json:"seconds"` // of each side
	Slices    int        `json:"slices"`
	Burst     int        `json:"burst_events"`
	Gateway   LiveSide   `json:"gateway"`
	Bare      LiveSide   `json:"bare_loop"`
	P99Ratio  float64    `json:"p99_ratio"` // of the gateway to the bare loop, from the commit
	Slow      *LiveSlow  `json:"slow_clients,omitempty"`
	Crash     *LiveCrash `json:"crash,omitempty"`
	Incorrect int64      `json:"lost_repeated_or_out_of_order"` // events, over all parts and both sides
}

// LiveSide is one server.
type LiveSide struct {
	ConnectSeconds float64     `json:"connect_seconds"`
	IdleBytes      int64       `json:"idle_rss_bytes"`
	ConnectedBytes int64       `json:"connected_rss_bytes"`
	LoadedBytes    int64       `json:"loaded_rss_bytes"` // after the steady part
	PerClientBytes int64       `json:"bytes_per_connection"`
	Committed      LiveLatency `json:"steady_from_commit"` // the last event of each slice is not among them
	Steady         LiveLatency `json:"steady"`             // from before the commit, which the bare loop does not have
	SliceP99       []float64   `json:"from_commit_p99_ms_up_to_slice"`
	Burst          LiveLatency `json:"burst"`
	MicrosPerSend  float64     `json:"server_cpu_us_per_delivery"`
	CommitP50      float64     `json:"commit_p50_ms"` // how much of the latency is the commit to disk; the bare loop has none
	CommitP99      float64     `json:"commit_p99_ms"`
}

// LiveLatency is the time until the clients of an event have read it: from
// before its commit, or, where it says so, from the end of the commit.
type LiveLatency struct {
	Deliveries int64   `json:"deliveries"`
	P50        float64 `json:"p50_ms"`
	P90        float64 `json:"p90_ms"`
	P99        float64 `json:"p99_ms"`
	Max        float64 `json:"max_ms"`
	Lost       int64   `json:"lost"`
	Repeated   int64   `json:"repeated"` // or out of order
}

// LiveSlow is what happened when some clients stopped reading.
type LiveSlow struct {
	Clients   int         `json:"clients"`
	CutOff    int         `json:"cut_off"`
	LastCutS  float64     `json:"last_cut_off_after_seconds"`
	Before    LiveLatency `json:"others_before"` // everybody, right before
	Others    LiveLatency `json:"others"`
	P99Ratio  float64     `json:"others_p99_ratio"`
	GrowBytes int64       `json:"rss_growth_bytes"`
}

// LiveCrash is what happened when the server was killed.
type LiveCrash struct {
	FirstSeconds float64 `json:"first_back_after_seconds"`
	BackSeconds  float64 `json:"all_back_after_seconds"`
	MostInSecond int64   `json:"most_back_in_one_second"`
	Missed       int64   `json:"missed"`
	Repeated     int64   `json:"repeated"`
}

func (o LiveOptions) withDefaults() LiveOptions {
	if o.Clients <= 0 {
		o.Clients = 1000
	}
	if o.Rate <= 0 {
		if o.Rate = 10; o.Clients > 2000 {
			o.Rate = 2
		}
	}
	if o.For <= 0 {
		o.For = 10 * time.Second
	}
	if o.Burst <= 0 {
		o.Burst = 100
	}
	if o.Slow == 0 {
		o.Slow = 0.1
	}
	if len(o.Child) == 0 {
		o.Child = os.Args
	}
	return o
}

// liveRole tells a child process of Live what it is.
const liveRole = "AIOPS_BENCH_LIVE_ROLE"

// Live measures the live stream from before the commit to the client's read:
// servers and clients are processes of their own on loopback, each client with
// an address shared by at most twenty. With more than 2,000 clients a round of
// 1,000 at 10 events per second comes first. It tells of its progress on w,
// which may be nil. In a process that Live started it does that process's part
// instead and does not return a report.
func Live(ctx context.Context, o LiveOptions, w io.Writer) (r LiveReport, err error) {
	if role := os.Getenv(liveRole); role != "" {
		if err := liveChild(ctx, role, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	o = o.withDefaults()
	if w == nil {
		w = io.Discard
	}
	if o.Dir == "" {
		dir, err := os.MkdirTemp("", "aiops-bench-live")
		if err != nil {
			return r, fmt.Errorf("making a folder for the databases: %w", err)
		}
		defer os.RemoveAll(dir)
		o.Dir = dir
	}
	r = LiveReport{GoVersion: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), LoadBegin: loadAverage()}
	rounds := []LiveOptions{o}
	if o.Clients > 2000 {
		small := o
		small.Clients, small.Rate, small.For, small.Slow, small.Crash = smallRound, 10, min(o.For, time.Minute), -1, false
		small.Dir = filepath.Join(o.Dir, "small")
		rounds = []LiveOptions{small, o}
	}
	for _, round := range rounds {
		run := &liveRun{ctx: ctx, o: round, out: w}
		if err := run.measure(); err != nil {
			return r, fmt.Errorf("measuring %d clients: %w", round.Clients, err)
		}
		r.Rounds = append(r.Rounds, run.round)
	}
	r.LoadEnd = loadAverage()
	r.Aims = liveAims(r.Rounds)
	return r, nil
}

// loadAverage is what the system says of its load, "" where it does not.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	var one, five, fifteen, tasks string
	if _, err := fmt.Sscan(string(text), &one, &five, &fifteen, &tasks); err != nil {
		return ""
	}
	return one + " " + five + " " + fifteen + ", " + tasks + " runnable"
}
