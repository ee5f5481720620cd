package detect_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aiops/internal/detect"
)

func TestThreshold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		budget float64
		step   time.Duration
		series int
		want   float64
	}{
		{1, time.Minute, 1, math.Log10(10080)},
		{10, time.Minute, 1, math.Log10(1008)},
		{1, time.Minute, 100, math.Log10(1008000)},
		{0, time.Minute, 0, math.Log10(10080)},
		{math.NaN(), time.Minute, -5, math.Log10(10080)},
		{1e9, 24 * time.Hour, 1, 1},
		{1e-9, time.Second, 1e9, 15},
		{1, 0, 1, math.Log10(6048000)},
	} {
		if got := detect.Threshold(c.budget, c.step, c.series); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("Threshold(%v, %v, %d) = %v, want %v", c.budget, c.step, c.series, got, c.want)
		}
	}
}

// What people read of each model is there and agrees with what New accepts.
func TestTableIsComplete(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, info := range detect.Names() {
		if info.Name == "" || info.Summary == "" || info.MinHistory == nil || seen[info.Name] {
			t.Errorf("%+v is incomplete or there twice", info)
		}
		seen[info.Name] = true
		for _, step := range []time.Duration{detect.MinStep, time.Minute, detect.MaxStep} {
			if n := info.MinHistory(step); n < 0 || n > 2_000_000 {
				t.Errorf("%s needs %d samples at a step of %v", info.Name, n, step)
			}
		}
		for _, p := range info.Parameters {
			if p.Summary == "" || !(p.Min <= p.Max) || p.Default < p.Min || p.Default > p.Max {
				t.Errorf("parameter %s of %s: %+v", p.Name, info.Name, p)
			}
			checkRange(t, info, p)
		}
	}
	for _, name := range []string{"auto", "robust_zscore", "ewma", "iqr", "window", "seasonal", "isolation_forest", "threshold"} {
		if !seen[name] {
			t.Errorf("there is no model %s", name)
		}
	}
}

// checkRange tries the ends of a parameter's range and what lies beyond.
func checkRange(t *testing.T, info detect.Info, p detect.Parameter) {
	t.Helper()
	try := func(v float64) error {
		raw, err := json.Marshal(map[string]float64{p.Name: v})
		if err != nil {
			t.Fatal(err)
		}
		return detect.Validate(detect.Spec{Model: info.Name, Step: time.Minute, Parameters: raw})
	}
	for _, v := range []float64{p.Min, p.Max} {
		if err := try(v); err != nil {
			t.Errorf("%s refuses %s = %v: %v", info.Name, p.Name, v, err)
		}
	}
	if p.Max == math.MaxFloat64 {
		return
	}
	for _, v := range []float64{p.Min - 1, p.Max + 1} {
		if err := try(v); err == nil || !strings.Contains(err.Error(), "between") {
			t.Errorf("%s = %v of %s: %v", p.Name, v, info.Name, err)
		}
	}
}

// A model judges after the history that the table states, not before.
func TestMinHistoryIsWhatItTakes(t *testing.T) {
	t.Parallel()
	for _, info := range detect.Names() {
		if info.Name == "threshold" {
			continue
		}
		step := 15 * time.Minute
		m := mustNew(t, detect.Spec{Model: info.Name, Step: step})
		need := info.MinHistory(step)
		for i := range need + 1 {
			r := m.Score(int64(i)*step.Milliseconds(), 0)
			if r.Learning != (i < need) {
				t.Errorf("%s: learning is %v after %d samples, the table says %d", info.Name, r.Learning, i, need)
				break
			}
			m.Learn(int64(i)*step.Milliseconds(), float64(i%5))
		}
	}
}

func TestSpikeIsFound(t *testing.T) {
	t.Parallel()
	for _, name := range learners {
		m := learner(t, name)
		var at int64
		r := rand.New(rand.NewPCG(8, 1))
		feed(m, &at, 10_000, func(int) float64 { return float64(r.IntN(101)) })
		if r := m.Score(at+minute, 1000); r.Score < 5 || r.Reason != detect.ReasonAbove || r.Learning {
			t.Errorf("%s: a spike: %+v", name, r)
		}
		if r := m.Score(at+minute, -900); r.Score < 5 || r.Reason != detect.ReasonBelow {
			t.Errorf("%s: a fall: %+v", name, r)
		}
		if r := m.Score(at+minute, 50); r.Score > 1 || r.Reason != detect.ReasonNormal {
			t.Errorf("%s: a usual value: %+v", name, r)
		}
	}
}

// What people read lists every model: its own part of docs/detection.md, a row
// of its table, the format of its snapshot, and the API's document.
func TestEveryModelIsDocumented(t *testing.T) {
	t.Parallel()
	read := func(file string) string {
		b, err := os.ReadFile(filepath.FromSlash("../../" + file))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	tour, format, document := read("docs/detection.md"), read("docs/formats/model-snapshot.md"), read("web/openapi.json")
	missing := func(name string) (where []string) {
		single := name != "auto" && name != "deep" && name != "surprise" // those have no part of their own
		if single && !strings.Contains(tour, "\n### "+name+"\n") {
			where = append(where, "a heading of docs/detection.md")
		}
		if single && !strings.Contains(tour, "\n| `"+name+"` | ") {
			where = append(where, "a table of docs/detection.md")
		}
		if single && !strings.Contains(format, "`"+name+"`") {
			where = append(where, "docs/formats/model-snapshot.md")
		}
		if !strings.Contains(document, " "+name+",") && !strings.Contains(document, " "+name+" ") && !strings.Contains(document, " "+name+";") {
			where = append(where, "web/openapi.json")
		}
		return where
	}
	for _, info := range detect.Names() {
		if where := missing(info.Name); len(where) > 0 {
			t.Errorf("%s is missing in %s", info.Name, strings.Join(where, ", "))
		}
	}
	if len(missing("no_such_model")) != 4 {
		t.Error("the control, a model that there is not, is documented: the check is blind")
	}
}
