package bench

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"text/tabwriter"

	"aiops/internal/logmine"
)

// LogsOptions say what Logs measures.
type LogsOptions struct {
	Data     string   // the folder that holds a folder for each set
	Sets     []string // empty: all
	Renaming int      // how often each set is measured with renamed words; 0 is 3, below 0 is never
	Lines    int      // length of the streams whose speed is measured; 0 is 1,000,000, below 0 measures none
	// Progress, if set, is called before each part.
	Progress func(part string)
}

// LogsReport is what Logs found.
type LogsReport struct {
	GoVersion string       `json:"go_version"`
	Platform  string       `json:"platform"`
	Sets      []LogSetMine `json:"sets"`
	Mean      LogSetMine   `json:"mean"`
	Speed     []LogSpeed   `json:"speed,omitempty"`
}

// LogSetMine is what the miner made of one set. Final groups are those of the
// ids at the end, emitted ones those of the ids given when lines arrived.
type LogSetMine struct {
	Set       string      `json:"set"`
	Lines     int         `json:"lines"`
	True      int         `json:"true_templates"`
	Found     int         `json:"found_templates"`
	Coverage  float64     `json:"coverage"` // share of lines with a template
	Final     LogAccuracy `json:"final"`
	Emitted   LogAccuracy `json:"emitted"`
	Renamed   LogAccuracy `json:"renamed_final"`   // mean over renamings
	RenamedEm LogAccuracy `json:"renamed_emitted"` // mean over renamings
}

// Logs mines every labelled set, each by a miner of its own that is given the
// lines only, and measures accuracy, the same with renamed words, and speed on
// long streams. It takes some seconds per million lines; ctx stops it early.
func Logs(ctx context.Context, o LogsOptions) (LogsReport, error) {
	sets, err := loadLogSets(o.Data, o.Sets)
	if err != nil {
		return LogsReport{}, err
	}
	if o.Renaming == 0 {
		o.Renaming = 3
	}
	if o.Lines == 0 {
		o.Lines = 1_000_000
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	r := LogsReport{GoVersion: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Mean: LogSetMine{Set: "mean"}}
	for i := range sets {
		o.Progress("accuracy on " + sets[i].name)
		s, err := mineSet(ctx, &sets[i], o.Renaming)
		if err != nil {
			return LogsReport{}, err
		}
		r.Sets = append(r.Sets, s)
		share := 1 / float64(len(sets))
		r.Mean.Lines += s.Lines
		r.Mean.True += s.True
		r.Mean.Found += s.Found
		r.Mean.Coverage += s.Coverage * share
		r.Mean.Final.add(s.Final, share)
		r.Mean.Emitted.add(s.Emitted, share)
		r.Mean.Renamed.add(s.Renamed, share)
		r.Mean.RenamedEm.add(s.RenamedEm, share)
	}
	if o.Lines > 0 {
		if r.Speed, err = speeds(ctx, sets, o); err != nil {
			return LogsReport{}, err
		}
	}
	return r, nil
}

// mineSet measures one set as it is and renamed.
func mineSet(ctx context.Context, set *logSet, renaming int) (LogSetMine, error) {
	out := LogSetMine{Set: set.name, Lines: len(set.lines), True: len(set.text)}
	var err error
	if out.Final, out.Emitted, out.Found, out.Coverage, err = mineOnce(set); err != nil {
		return out, err
	}
	for i := range max(renaming, 0) {
		if err := ctx.Err(); err != nil {
			return out, fmt.Errorf("measuring %s: %w", set.name, err)
		}
		other := renamed(set, uint64(i+1))
		final, emitted, _, _, err := mineOnce(&other)
		if err != nil {
			return out, err
		}
		out.Renamed.add(final, 1/float64(renaming))
		out.RenamedEm.add(emitted, 1/float64(renaming))
	}
	return out, nil
}

func mineOnce(set *logSet) (final, emitted LogAccuracy, found int, coverage float64, err error) {
	m, err := logmine.New(logmine.Config{})
	if err != nil {
		return final, emitted, 0, 0, fmt.Errorf("making the miner: %w", err)
	}
	ids := make([]logmine.ID, len(set.lines))
	for i, l := range set.lines {
		ids[i] = m.Add(l)
	}
	last := make([]logmine.ID, len(ids))
	text := make([]string, len(ids))
	covered := 0
	for i, id := range ids {
		t, ok := m.Template(id)
		if ok && (t.Text != "" || len(set.lines[i]) == 0) {
			covered++
		}
		last[i], text[i] = t.ID, t.Text
	}
	return measureLogs(set, last, text), measureLogs(set, ids, text), len(m.Templates()), float64(covered) / float64(max(1, len(ids))), nil
}

// speeds measures a stream of each set and one of all of them in turn.
func speeds(ctx context.Context, sets []logSet, o LogsOptions) ([]LogSpeed, error) {
	var out []LogSpeed
	var all [][]byte
	for i := range sets {
		o.Progress("speed on " + sets[i].name)
		s, err := streamSpeed(ctx, sets[i].name, sets[i].lines, o.Lines)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	for i, more := 0, true; more; i++ {
		more = false
		for k := range sets {
			if i < len(sets[k].lines) {
				all = append(all, sets[k].lines[i])
				more = true
			}
		}
	}
	o.Progress("speed on all sets mixed")
	s, err := streamSpeed(ctx, "mixed", all, o.Lines)
	if err != nil {
		return nil, err
	}
	return append(out, s), nil
}

// WriteJSON writes the report as indented JSON.
func (r LogsReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

// WriteTable writes the report as tables for people.
func (r LogsReport) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "GA, FGA: accuracy and F1 of grouping; PA, FTA: accuracy and F1 of templates\n\n")
	fmt.Fprint(t, "set\ttemplates\tfound\tcovered\tGA\tFGA\tPA\tFTA\tGA emitted\tFGA emitted\tGA renamed\tFGA renamed\tPA renamed\tFTA renamed\t\n")
	for _, s := range append(append([]LogSetMine(nil), r.Sets...), r.Mean) {
		fmt.Fprintf(t, "%s\t%d\t%d\t%.4f\t", s.Set, s.True, s.Found, s.Coverage)
		for _, v := range [...]float64{s.Final.Grouping, s.Final.GroupingF1, s.Final.Parsing, s.Final.TemplateF1,
			s.Emitted.Grouping, s.Emitted.GroupingF1,
			s.Renamed.Grouping, s.Renamed.GroupingF1, s.Renamed.Parsing, s.Renamed.TemplateF1} {
			fmt.Fprintf(t, "%.4f\t", v)
		}
		fmt.Fprintln(t)
	}
	if len(r.Speed) > 0 {
		fmt.Fprintf(t, "\nstreams of %d lines, all digits drawn anew, on one core\n\n", r.Speed[0].Lines)
		fmt.Fprintf(t, "set\tlines/s\tMB/s\tbytes/line\tallocs/line\ttemplates after %d\tat the end\tstate bytes\tsnapshot bytes\t\n", logWarmUp)
		for _, s := range r.Speed {
			fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.1f\t%.4f\t%d\t%d\t%d\t%d\t\n", s.Set, s.LinesPerS, s.LinesPerS*s.BytesPerLine/1e6,
				s.BytesPerLine, s.AllocsPerLine, s.Early, s.Late, s.StateBytes, s.SnapshotBytes)
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	return nil
}
