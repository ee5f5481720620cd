package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"aiops/internal/model"
)

// WriteJSON writes the report as indented JSON.
func (r AccuracyReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

// writeJSON writes a report as indented JSON.
func writeJSON(w io.Writer, report any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(report); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

// WriteTable writes the report as a table for people, a line per model.
func (r AccuracyReport) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "%d series, %d samples, budget %g false alarms a week\n\n", r.Series, r.Samples, r.FalseAlarmsPerWeek)
	fmt.Fprint(t, "model\tNAB\tlow FP\tlow FN\tsplit half\t")
	for _, d := range accuracyDatasets() {
		if d != "NAB" && d != "UCR" {
			fmt.Fprintf(t, "VUS %s\t", d)
		}
	}
	fmt.Fprint(t, "UCR\tsamples/s\tbytes\t\n")
	for _, m := range r.Models {
		fmt.Fprintf(t, "%s\t", m.Model)
		for _, p := range NABProfiles() {
			fmt.Fprintf(t, "%s\t", cell(m.NAB, p.Name, "%.1f"))
		}
		fmt.Fprintf(t, "%s\t", number(m.NABSplitHalf, "%.1f"))
		for _, d := range accuracyDatasets() {
			if d != "NAB" && d != "UCR" {
				fmt.Fprintf(t, "%s\t", cell(m.VUSPR, d, "%.3f"))
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t\n", number(m.UCR, "%.3f"), number(m.SamplesPerS, "%.0f"), m.SizeBytes)
	}
	fmt.Fprint(t, "\nfalse alarms a week ÷ budget: median over series (all alarms in all weeks)\n\nmodel\t")
	for _, d := range accuracyDatasets() {
		fmt.Fprintf(t, "%s\t", d)
	}
	fmt.Fprintln(t)
	for _, m := range r.Models {
		fmt.Fprintf(t, "%s\t", m.Model)
		for _, d := range accuracyDatasets() {
			if f, ok := m.FalseAlarms[d]; ok {
				fmt.Fprintf(t, "%s (%s)\t", number(f.Median, "%.2f"), number(f.Total, "%.2f"))
			} else {
				fmt.Fprint(t, "-\t")
			}
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	return nil
}

func cell(m map[string]model.Float, key, format string) string {
	v, ok := m[key]
	if !ok {
		return "-"
	}
	return number(v, format)
}

func number(v model.Float, format string) string {
	if math.IsNaN(float64(v)) {
		return "-"
	}
	return fmt.Sprintf(format, float64(v))
}
