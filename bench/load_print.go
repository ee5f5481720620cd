package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

// WriteJSON writes the report as indented JSON.
func (r LoadReport) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

// WriteTable writes the report as a table for people.
func (r LoadReport) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	where := "server and generator share the cores"
	if r.Pinned {
		where = "server on one core, generator on another"
	}
	fmt.Fprintf(t, "%s on %s, %d CPUs, %s, loopback\n\n", r.GoVersion, r.Platform, r.CPUs, where)
	m := r.Mixed
	fmt.Fprintf(t, "mixed reads, %d connections, %.0f/s\tp50 %.1f ms\tp95 %.1f ms\tp99 %.1f ms\t%d refused\t%d failed\n", m.Connections, m.PerSecond, m.P50, m.P95, m.P99, m.Refused, m.Failed)
	c := r.Cached
	fmt.Fprintf(t, "kept read of %d bytes\t%.0f/s\t%.1f µs CPU\t\t\t\n", c.Bytes, c.PerSecond, c.CPUMicros)
	fmt.Fprintf(t, "bare net/http, same bytes\t%.0f/s\t%.1f µs CPU\tratio %.2f\t(%.2f to %.2f in %d slices)\t\n", c.Bare, c.BareMicros, c.Ratio.Median, c.Ratio.Least, c.Ratio.Most, c.Slices)
	fmt.Fprintf(t, "expensive read at a fifth of its peak rate\tp50 %.1f ms\tp95 %.1f ms\tp99 %.1f ms\t\t\n\n", r.Unloaded.P50, r.Unloaded.P95, r.Unloaded.P99)
	fmt.Fprintf(t, "median (least to most) of %d\tof the peak\tfor its CPU\tserved p99, ms\trefused p99, ms\tlivez p99, ms\tacknowledge p99, ms\tfailed\tof the last two lost\n", loadRepetitions)
	row := func(name string, o LoadOverload) {
		fmt.Fprintf(t, "%s\t%s %%\t%s %%\t%s\t%s\t%s\t%s\t%d\t%d\n", name, o.Share.text(100), o.ShareOfCPU.text(100),
			o.ServedP99.text(1), o.RefusedP99.text(1), o.LivezP99.text(1), o.ControlP99.text(1), o.Failed, o.Lost)
	}
	for _, o := range r.Overload {
		row(fmt.Sprintf("%gx", o.Factor), o)
	}
	row(fmt.Sprintf("%gx, limiter off", r.Control.Factor), r.Control)
	if err := t.Flush(); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	return nil
}

func (s LoadSpread) text(times float64) string {
	return fmt.Sprintf("%.0f (%.0f to %.0f)", times*s.Median, times*s.Least, times*s.Most)
}
