package bench

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// LiveAim is a figure beside what it should be.
type LiveAim struct {
	What     string  `json:"what"`
	Clients  int     `json:"clients"`
	Aim      float64 `json:"at_most"`
	Measured float64 `json:"measured"`
	Unit     string  `json:"unit"`
	Met      bool    `json:"met"`
}

// The aims of the full form.
const (
	aimPerClient  = 20  // KiB
	aimP99        = 250 // ms, at 10,000 clients and 2 events per second
	aimSmallP99   = 50  // ms, at 1,000 clients and 10 events per second
	aimP99Ratio   = 1.25
	aimBurst      = 2000 // ms
	aimCutOff     = 10   // s
	aimOthers     = 1.2
	aimBack       = 60   // s
	aimBackSecond = 1000 // accepts in one second; the clock of both sides may cut a second differently
)

// liveAims holds what was measured against the aims.
func liveAims(rounds []LiveRound) (aims []LiveAim) {
	for _, r := range rounds {
		add := func(what string, aim, measured float64, unit string) {
			aims = append(aims, LiveAim{What: what, Clients: r.Clients, Aim: aim, Measured: measured, Unit: unit, Met: measured <= aim})
		}
		add("RSS per connection above idle", aimPerClient, float64(r.Gateway.PerClientBytes)/1024, "KiB")
		p99 := float64(aimP99)
		if r.Clients <= 2000 {
			p99 = aimSmallP99
		}
		add(fmt.Sprintf("p99 from the commit at %g events/s for %.0f s", r.Rate, r.Seconds), p99, r.Gateway.Committed.P99, "ms")
		add("that to the bare loop's", aimP99Ratio, r.P99Ratio, "")
		add(fmt.Sprintf("%d events at once, all delivered", r.Burst), aimBurst, r.Gateway.Burst.Max, "ms")
		add("lost, repeated or out of order", 0, float64(r.Incorrect), "")
		if s := r.Slow; s != nil {
			add(fmt.Sprintf("%d stop reading: not cut off", s.Clients), 0, float64(s.Clients-s.CutOff), "")
			add("the last of them cut off after", aimCutOff, s.LastCutS, "s")
			add("the others' p99 to theirs before", aimOthers, s.P99Ratio, "")
		}
		if c := r.Crash; c != nil {
			add("kill -9: all back after", aimBack, c.BackSeconds, "s")
			add("the most that came in one second", aimBackSecond*1.1, float64(c.MostInSecond), "")
			add("missed or repeated by that", 0, float64(c.Missed+c.Repeated), "")
		}
	}
	return aims
}

// WriteJSON writes the report as indented JSON.
func (r LiveReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

// WriteTable writes the report as tables for people.
func (r LiveReport) WriteTable(w io.Writer) error {
	fmt.Fprintf(w, "%s on %s, %d CPUs, load average %s, at the end %s; clients in processes of their own, loopback\n", r.GoVersion, r.Platform, r.CPUs, r.LoadBegin, r.LoadEnd)
	for _, round := range r.Rounds {
		if err := round.writeTable(w); err != nil {
			return err
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "\n\tclients\tat most\tmeasured\t\t\n")
	for _, a := range r.Aims {
		met := "met"
		if !a.Met {
			met = "MISSED"
		}
		fmt.Fprintf(t, "%s\t%d\t%.4g %s\t%.4g %s\t%s\t\n", a.What, a.Clients, a.Aim, a.Unit, a.Measured, a.Unit, met)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

func (r LiveRound) writeTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\n%d clients, %g events/s, %d slices each\tgateway\tbare loop\t\n", r.Clients, r.Rate, r.Slices)
	row := func(name, format string, f func(s LiveSide) any) {
		fmt.Fprintf(t, "%s\t"+format+"\t"+format+"\t\n", name, f(r.Gateway), f(r.Bare))
	}
	row("connect, s", "%.1f", func(s LiveSide) any { return s.ConnectSeconds })
	row("RSS idle, MiB", "%.1f", func(s LiveSide) any { return float64(s.IdleBytes) / (1 << 20) })
	row("RSS loaded, MiB", "%.1f", func(s LiveSide) any { return float64(s.LoadedBytes) / (1 << 20) })
	row("RSS per connection, KiB", "%.1f", func(s LiveSide) any { return float64(s.PerClientBytes) / (1 << 10) })
	row("from the commit: p50, ms", "%.1f", func(s LiveSide) any { return s.Committed.P50 })
	row("p90, ms", "%.1f", func(s LiveSide) any { return s.Committed.P90 })
	row("p99, ms", "%.1f", func(s LiveSide) any { return s.Committed.P99 })
	row("worst, ms", "%.1f", func(s LiveSide) any { return s.Committed.Max })
	row("from before the commit: p50, ms", "%.1f", func(s LiveSide) any { return s.Steady.P50 })
	row("p99, ms", "%.1f", func(s LiveSide) any { return s.Steady.P99 })
	row("the commit to disk: p50, ms", "%.1f", func(s LiveSide) any { return s.CommitP50 })
	row("p99, ms", "%.1f", func(s LiveSide) any { return s.CommitP99 })
	row("server CPU per delivery, µs", "%.1f", func(s LiveSide) any { return s.MicrosPerSend })
	row(fmt.Sprintf("%d events at once, ms", r.Burst), "%.0f", func(s LiveSide) any { return s.Burst.Max })
	if err := t.Flush(); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}
