package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"text/tabwriter"
	"time"
)

// LiveOptions say what Live measures. Zero fields take the quick form.
type LiveOptions struct {
	Clients int           // WebSockets; 0 is 1,000, the full form is 10,000
	Rate    float64       // events per second to everybody; 0 is 10 for up to 2,000 clients, else 2
	For     time.Duration // how long; 0 is 10 s
	Burst   int           // events at once; 0 is 100
	Slow    float64       // share of the clients that stop reading; 0 is a tenth, below 0 none
	Crash   bool          // also kill the server and watch everybody come back
	Dir     string        // for the databases; default a temporary folder
	// Child is the command that runs this measure's other processes: a program
	// that calls Live again. Default this program with its own arguments.
	Child []string
}

// LiveReport is what Live found.
type LiveReport struct {
	GoVersion string  `json:"go_version"`
	Platform  string  `json:"platform"`
	CPUs      int     `json:"cpus"`
	Clients   int     `json:"clients"`
	Rate      float64 `json:"events_per_second"`
	Seconds   float64 `json:"seconds"`
	Burst     int     `json:"burst_events"`

	Gateway   LiveSide   `json:"gateway"`
	Bare      LiveSide   `json:"bare_loop"`
	P99Ratio  float64    `json:"p99_ratio"` // of the gateway to the bare loop
	Slow      *LiveSlow  `json:"slow_clients,omitempty"`
	Crash     *LiveCrash `json:"crash,omitempty"`
	Incorrect int64      `json:"lost_repeated_or_out_of_order"` // events, over all parts
}

// LiveSide is one server: the gateway on a SQLite log, or a plain loop over
// the same connections that writes the same frames and stores nothing.
type LiveSide struct {
	ConnectSeconds float64     `json:"connect_seconds"`
	IdleBytes      int64       `json:"idle_rss_bytes"`
	ConnectedBytes int64       `json:"connected_rss_bytes"`
	LoadedBytes    int64       `json:"loaded_rss_bytes"` // after the steady part
	PerClientBytes int64       `json:"bytes_per_connection"`
	Steady         LiveLatency `json:"steady"`
	Burst          LiveLatency `json:"burst"`
	MicrosPerSend  float64     `json:"server_cpu_us_per_delivery"`
}

// LiveLatency is the time from before an event is committed until its client
// has read it.
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
	Others    LiveLatency `json:"others"`
	P99Ratio  float64     `json:"others_p99_ratio"` // to the same clients before
	GrowBytes int64       `json:"rss_growth_bytes"`
}

// LiveCrash is what happened when the server was killed.
type LiveCrash struct {
	BackSeconds float64 `json:"all_back_after_seconds"`
	Missed      int64   `json:"missed"`
	Repeated    int64   `json:"repeated"`
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

// Live measures the live stream: a gateway on a SQLite log in one process,
// clients on loopback in another, and the same clients on a bare loop. It
// tells of its progress on w, which may be nil. In a process that Live started
// it does that process's part instead and does not return a report.
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
	if err := liveFiles(o.Clients + 500); err != nil {
		return r, err
	}
	if o.Dir == "" {
		dir, err := os.MkdirTemp("", "aiops-bench-live")
		if err != nil {
			return r, fmt.Errorf("making a folder for the databases: %w", err)
		}
		defer os.RemoveAll(dir)
		o.Dir = dir
	}
	r = LiveReport{GoVersion: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(),
		Clients: o.Clients, Rate: o.Rate, Seconds: o.For.Seconds(), Burst: o.Burst}
	for _, part := range []struct {
		role string
		side *LiveSide
	}{{"bare", &r.Bare}, {"gateway", &r.Gateway}} {
		run := &liveRun{ctx: ctx, o: o, out: w, role: part.role, side: part.side, report: &r}
		if err := run.measure(); err != nil {
			return r, fmt.Errorf("measuring the %s server: %w", part.role, err)
		}
	}
	if r.Bare.Steady.P99 > 0 {
		r.P99Ratio = r.Gateway.Steady.P99 / r.Bare.Steady.P99
	}
	return r, nil
}

// liveRun is one server with its clients.
type liveRun struct {
	ctx    context.Context
	o      LiveOptions
	out    io.Writer
	role   string
	side   *LiveSide
	report *LiveReport

	server, clients *liveProcess
}

func (l *liveRun) say(format string, args ...any) {
	fmt.Fprintf(l.out, "%s: "+format+"\n", append([]any{l.role}, args...)...)
}

func (l *liveRun) measure() (err error) {
	if l.server, err = startLive(l.ctx, l.o.Child, l.role); err != nil {
		return err
	}
	defer func() { l.server.end() }()
	if l.clients, err = startLive(l.ctx, l.o.Child, "clients"); err != nil {
		return err
	}
	defer l.clients.end()
	var up liveAnswer
	if err := l.server.ask(liveOrder{Do: "open", Dir: l.o.Dir, Clients: l.o.Clients}, &up); err != nil {
		return err
	}
	l.side.IdleBytes = up.RSS
	var a liveAnswer
	if err := l.clients.ask(liveOrder{Do: "connect", Address: up.Address, Clients: l.o.Clients}, &a); err != nil {
		return err
	}
	l.side.ConnectSeconds = a.Seconds
	l.say("%d clients connected in %.1f s", l.o.Clients, a.Seconds)
	if err := l.server.ask(liveOrder{Do: "state", After: 2 * time.Second}, &a); err != nil {
		return err
	}
	l.side.ConnectedBytes = a.RSS
	// One round first, so that neither side pays for its first allocations.
	if _, err := l.send(3, 10, l.o.Clients); err != nil {
		return err
	}
	before, err := l.state()
	if err != nil {
		return err
	}
	count := max(2, int(l.o.Rate*l.o.For.Seconds()))
	if l.side.Steady, err = l.send(count, l.o.Rate, l.o.Clients); err != nil {
		return err
	}
	after, err := l.state()
	if err != nil {
		return err
	}
	l.side.LoadedBytes = after.RSS
	l.side.PerClientBytes = (max(after.RSS, l.side.ConnectedBytes) - l.side.IdleBytes) / int64(l.o.Clients)
	if n := l.side.Steady.Deliveries; n > 0 {
		l.side.MicrosPerSend = (after.CPU - before.CPU) * 1e6 / float64(n)
	}
	l.say("%.0f events/s: p50 %.1f ms, p99 %.1f ms", l.o.Rate, l.side.Steady.P50, l.side.Steady.P99)
	if l.side.Burst, err = l.send(l.o.Burst, 0, l.o.Clients); err != nil {
		return err
	}
	l.say("%d events at once: all delivered after %.0f ms", l.o.Burst, l.side.Burst.Max)
	if l.role != "gateway" {
		return nil
	}
	if n := int(l.o.Slow * float64(l.o.Clients)); n > 0 {
		if err := l.slow(n); err != nil {
			return err
		}
	}
	if l.o.Crash {
		return l.crash()
	}
	return nil
}

func (l *liveRun) state() (liveAnswer, error) {
	var a liveAnswer
	err := l.server.ask(liveOrder{Do: "state"}, &a)
	return a, err
}

// send lets the server publish count events, rate per second or at once, and
// waits until n clients have them all.
func (l *liveRun) send(count int, rate float64, n int) (LiveLatency, error) {
	return l.sendWatching(count, rate, n, 0, new(liveAnswer))
}

// sendWatching is send while the server watches n of its clients go.
func (l *liveRun) sendWatching(count int, rate float64, n, watch int, sent *liveAnswer) (LiveLatency, error) {
	var a liveAnswer
	if err := l.clients.ask(liveOrder{Do: "reset"}, &a); err != nil {
		return LiveLatency{}, err
	}
	if err := l.server.ask(liveOrder{Do: "send", Count: count, Rate: rate, Clients: watch}, sent); err != nil {
		return LiveLatency{}, err
	}
	if err := l.clients.ask(liveOrder{Do: "await", Last: sent.Last, Clients: n, After: 60 * time.Second}, &a); err != nil {
		return LiveLatency{}, err
	}
	l.report.Incorrect += a.Latency.Lost + a.Latency.Repeated
	return a.Latency, nil
}

// slow lets n clients stop reading while events go on.
func (l *liveRun) slow(n int) error {
	before, err := l.state()
	if err != nil {
		return err
	}
	var a liveAnswer
	if err := l.clients.ask(liveOrder{Do: "stop", Clients: n}, &a); err != nil {
		return err
	}
	s := LiveSlow{Clients: n}
	var sent liveAnswer
	others, err := l.sendWatching(int(max(l.o.Rate*12, 4)), l.o.Rate, l.o.Clients-n, n, &sent)
	if err != nil {
		return err
	}
	s.CutOff, s.LastCutS = sent.Clients, sent.Seconds
	after, err := l.state()
	if err != nil {
		return err
	}
	s.Others, s.GrowBytes = others, after.RSS-before.RSS
	if p := l.side.Steady.P99; p > 0 {
		s.P99Ratio = others.P99 / p
	}
	l.report.Slow = &s
	l.say("%d of %d that stopped reading were cut off within %.1f s; the others' p99 %.1f ms", s.CutOff, n, s.LastCutS, others.P99)
	return nil
}

// crash kills the server, starts it again and sees everybody come back.
func (l *liveRun) crash() error {
	var up, a liveAnswer
	if err := l.server.ask(liveOrder{Do: "state"}, &up); err != nil {
		return err
	}
	if err := l.clients.ask(liveOrder{Do: "reset", Reconnect: true}, &a); err != nil {
		return err
	}
	l.server.kill()
	began := time.Now()
	var err error
	if l.server, err = startLive(l.ctx, l.o.Child, l.role); err != nil {
		return err
	}
	if err := l.server.ask(liveOrder{Do: "open", Dir: l.o.Dir, Clients: l.o.Clients, Address: up.Address}, &a); err != nil {
		return err
	}
	// What happens while they are away must reach them too.
	if err := l.server.ask(liveOrder{Do: "send", Count: 50, Rate: 2}, &a); err != nil {
		return err
	}
	if err := l.clients.ask(liveOrder{Do: "await", Last: a.Last, Clients: up.Clients, After: 90 * time.Second}, &a); err != nil {
		return err
	}
	l.report.Incorrect += a.Latency.Lost + a.Latency.Repeated
	l.report.Crash = &LiveCrash{BackSeconds: a.Back.Sub(began).Seconds(), Missed: a.Latency.Lost, Repeated: a.Latency.Repeated}
	l.say("killed; all %d back after %.1f s, %d missed, %d repeated", up.Clients, l.report.Crash.BackSeconds, a.Latency.Lost, a.Latency.Repeated)
	return nil
}

// liveProcess is a child and the pipe to it.
type liveProcess struct {
	cmd *exec.Cmd
	in  *json.Encoder
	out *json.Decoder
	raw io.Closer
}

// liveOrder is what a child is told, liveAnswer what it answers.
type liveOrder struct {
	Do        string
	Dir       string        `json:",omitempty"`
	Address   string        `json:",omitempty"`
	Clients   int           `json:",omitempty"`
	Count     int           `json:",omitempty"`
	Rate      float64       `json:",omitempty"`
	Last      int64         `json:",omitempty"`
	After     time.Duration `json:",omitempty"`
	Reconnect bool          `json:",omitempty"`
}

type liveAnswer struct {
	Error   string      `json:",omitempty"`
	Address string      `json:",omitempty"`
	RSS     int64       `json:",omitempty"`
	CPU     float64     `json:",omitempty"` // seconds
	Clients int         `json:",omitempty"`
	Seconds float64     `json:",omitempty"`
	Last    int64       `json:",omitempty"`
	Latency LiveLatency `json:",omitzero"`
	Back    time.Time   `json:",omitzero"` // when the last client was connected again
}

func startLive(ctx context.Context, command []string, role string) (*liveProcess, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), liveRole+"="+role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the %s process: %w", role, err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the %s process: %w", role, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the %s process: %w", role, err)
	}
	return &liveProcess{cmd: cmd, in: json.NewEncoder(in), out: json.NewDecoder(bufio.NewReader(out)), raw: in}, nil
}

// ask sends an order and waits for the answer. It is for one goroutine at a
// time.
func (p *liveProcess) ask(o liveOrder, a *liveAnswer) error {
	*a = liveAnswer{}
	if err := errors.Join(p.in.Encode(o), p.out.Decode(a)); err != nil {
		return fmt.Errorf("asking a child process to %s: %w", o.Do, err)
	}
	if a.Error != "" {
		return errors.New(a.Error)
	}
	return nil
}

// end lets the child go and waits for it.
func (p *liveProcess) end() {
	_ = p.raw.Close() // it ends at the end of its input
	_ = p.cmd.Wait()
}

func (p *liveProcess) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// WriteJSON writes the report as indented JSON.
func (r LiveReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

// WriteTable writes the report as a table for people.
func (r LiveReport) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s on %s, %d CPUs, %d clients in a process of their own, loopback\n\n", r.GoVersion, r.Platform, r.CPUs, r.Clients)
	fmt.Fprint(t, "\tgateway\tbare loop\t\n")
	row := func(name, format string, f func(s LiveSide) any) {
		fmt.Fprintf(t, "%s\t"+format+"\t"+format+"\t\n", name, f(r.Gateway), f(r.Bare))
	}
	row("connect, s", "%.1f", func(s LiveSide) any { return s.ConnectSeconds })
	row("RSS idle, MiB", "%.1f", func(s LiveSide) any { return float64(s.IdleBytes) / (1 << 20) })
	row("RSS loaded, MiB", "%.1f", func(s LiveSide) any { return float64(s.LoadedBytes) / (1 << 20) })
	row("RSS per connection, KiB", "%.1f", func(s LiveSide) any { return float64(s.PerClientBytes) / (1 << 10) })
	steady := fmt.Sprintf("%g events/s for %.0f s, ", r.Rate, r.Seconds)
	row(steady+"p50, ms", "%.1f", func(s LiveSide) any { return s.Steady.P50 })
	row(steady+"p99, ms", "%.1f", func(s LiveSide) any { return s.Steady.P99 })
	row(steady+"worst, ms", "%.1f", func(s LiveSide) any { return s.Steady.Max })
	row("server CPU per delivery, µs", "%.1f", func(s LiveSide) any { return s.MicrosPerSend })
	row(fmt.Sprintf("%d events at once, all delivered after ms", r.Burst), "%.0f", func(s LiveSide) any { return s.Burst.Max })
	fmt.Fprintf(t, "p99 of the gateway to the bare loop\t%.2f\t\t\n", r.P99Ratio)
	if s := r.Slow; s != nil {
		fmt.Fprintf(t, "stopped reading, cut off\t%d of %d\t\t\n", s.CutOff, s.Clients)
		fmt.Fprintf(t, "the last of them after, s\t%.1f\t\t\n", s.LastCutS)
		fmt.Fprintf(t, "the others' p99 meanwhile, ms\t%.1f\t\t\n", s.Others.P99)
		fmt.Fprintf(t, "which is to theirs before\t%.2f\t\t\n", s.P99Ratio)
	}
	if c := r.Crash; c != nil {
		fmt.Fprintf(t, "killed, all back after, s\t%.1f\t\t\n", c.BackSeconds)
	}
	fmt.Fprintf(t, "lost, repeated or out of order\t%d\t\t\n", r.Incorrect)
	if err := t.Flush(); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	return nil
}
