package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"runtime"
	"text/tabwriter"
	"time"

	"aiops/internal/detect"
)

// SpeedOptions say what Speed measures.
type SpeedOptions struct {
	Models   []string      // empty: every model
	Step     time.Duration // 0 is one minute
	Samples  int           // per model; 0 is 200,000, after a warm-up of four weeks of samples or as many, whichever is less
	Duration time.Duration // stop a slow model after this; 0 is 10 s
}

// SpeedReport is what Speed measured, on one core.
type SpeedReport struct {
	GoVersion string       `json:"go_version"`
	Platform  string       `json:"platform"`
	Step      string       `json:"step"`
	Models    []ModelSpeed `json:"models"`
}

// ModelSpeed is the cost of one model.
type ModelSpeed struct {
	Model         string  `json:"model"`
	SamplesPerS   float64 `json:"samples_per_second_per_core"`
	NsPerSample   float64 `json:"ns_per_sample"`
	SizeBytes     int     `json:"size_bytes_per_series"`
	SnapshotBytes int     `json:"snapshot_bytes_per_series"`
	Samples       int     `json:"samples"`
}

// Speed measures samples per second on one core and bytes per series for each
// model, on a generated series with a daily and a weekly rhythm, noise and
// spikes. It blocks for some seconds per model; ctx stops it early.
func Speed(ctx context.Context, o SpeedOptions) (SpeedReport, error) {
	if o.Step <= 0 {
		o.Step = time.Minute
	}
	if o.Samples <= 0 {
		o.Samples = 200_000
	}
	if o.Duration <= 0 {
		o.Duration = 10 * time.Second
	}
	if len(o.Models) == 0 {
		for _, info := range detect.Names() {
			o.Models = append(o.Models, info.Name)
		}
	}
	report := SpeedReport{GoVersion: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Step: o.Step.String()}
	for _, name := range o.Models {
		m, err := speedOf(ctx, name, o)
		if err != nil {
			return SpeedReport{}, err
		}
		report.Models = append(report.Models, m)
	}
	return report, nil
}

func speedOf(ctx context.Context, name string, o SpeedOptions) (ModelSpeed, error) {
	spec := detect.Spec{Model: name, Step: o.Step}
	if name == "threshold" {
		spec.Parameters = json.RawMessage(`{"above": 1000}`)
	}
	m, err := detect.New(spec)
	if err != nil {
		return ModelSpeed{}, fmt.Errorf("making %s: %w", name, err)
	}
	warm := min(int(4*7*24*time.Hour/o.Step), o.Samples)
	values := speedSeries(warm+o.Samples, o.Step)
	t, step := int64(1_700_000_000_000), o.Step.Milliseconds()
	feed := func(values []float64, limit time.Duration) (int, time.Duration, error) {
		began := time.Now()
		for i, v := range values {
			if i%1024 == 0 {
				if err := ctx.Err(); err != nil {
					return 0, 0, err
				}
				if spent := time.Since(began); i > 0 && spent > limit {
					return i, spent, nil
				}
			}
			detect.Step(m, t, v)
			t += step
		}
		return len(values), time.Since(began), nil
	}
	if _, _, err := feed(values[:warm], o.Duration); err != nil {
		return ModelSpeed{}, err
	}
	n, spent, err := feed(values[warm:], o.Duration)
	if err != nil {
		return ModelSpeed{}, err
	}
	return ModelSpeed{Model: name, Samples: n, SamplesPerS: float64(n) / spent.Seconds(),
		NsPerSample: float64(spent.Nanoseconds()) / float64(n), SizeBytes: m.SizeBytes(),
		SnapshotBytes: len(m.AppendSnapshot(nil))}, nil
}

// speedSeries generates a series with rhythm, noise and spikes, the same every
// time.
func speedSeries(n int, step time.Duration) []float64 {
	values := make([]float64, n)
	seed := uint64(1)
	for i := range values {
		seed = seed*6364136223846793005 + 1442695040888963407
		noise := float64(seed>>11)/(1<<53) - 0.5
		hours := float64(i) * step.Hours()
		v := 100 + 30*math.Sin(2*math.Pi*hours/24) + 8*noise
		if int(hours/24)%7 > 4 {
			v *= 0.7
		}
		if seed>>40%5000 == 0 {
			v += 60
		}
		values[i] = v
	}
	return values
}

// WriteTable writes the report as a table for people.
func (r SpeedReport) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "%s on %s, one core, a sample every %s\n\nmodel\tsamples/s/core\tns/sample\tbytes/series\tsnapshot\t\n", r.GoVersion, r.Platform, r.Step)
	for _, m := range r.Models {
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%d\t%d\t\n", m.Model, m.SamplesPerS, m.NsPerSample, m.SizeBytes, m.SnapshotBytes)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	return nil
}

// WriteJSON writes the report as indented JSON.
func (r SpeedReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }
