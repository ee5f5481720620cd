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
	fmt.Fprintf(t, "bare net/http, same bytes\t%.0f/s\t%.1f µs CPU\tratio %.2f\t\t\n", c.Bare, c.BareMicros, c.Ratio)
	fmt.Fprintf(t, "peak of an expensive read\t%.0f/s\t%.0f %% of a core\t\t\t\n\n", r.PeakPerSecond, 100*r.PeakCPU)
	fmt.Fprintln(t, "load\tgoodput\tof the peak\tfor its CPU\tof a core\tserved p99\trefused p99\trefused\tfailed\tlivez p99\tacknowledge p99\tof these lost")
	row := func(name string, o LoadOverload) {
		lost := o.Livez.Failed + o.Livez.Refused + o.Control.Failed + o.Control.Refused
		fmt.Fprintf(t, "%s\t%.0f/s\t%.0f %%\t%.0f %%\t%.0f %%\t%.0f ms\t%.0f ms\t%d\t%d\t%.0f ms\t%.0f ms\t%d\n", name, o.Requests.Goodput, 100*o.GoodputShare, 100*o.CPUGoodput, 100*o.CPU,
			o.Requests.P99, o.Requests.RefusedP99, o.Requests.Refused, o.Requests.Failed, o.Livez.P99, o.Control.P99, lost)
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
