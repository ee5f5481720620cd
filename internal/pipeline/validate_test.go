package pipeline

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"aiops/internal/model"
)

func TestDefaultsAreValid(t *testing.T) {
	t.Parallel()
	d := model.Detector{Name: "n", Query: "q"}
	Defaults(&d)
	if err := Validate(d); err != nil {
		t.Fatal(err)
	}
	if d.Source != model.BuiltinSource || d.Step != 30*time.Second || d.Model != "auto" || d.FalseAlarmsPerWeek != 1 || d.Enabled {
		t.Fatalf("%+v", d)
	}
	set := model.Detector{Name: "n", Query: "q", Source: "s", Step: time.Minute, Model: "robust_zscore", FalseAlarmsPerWeek: 3,
		Direction: model.DirectionAbove, MissingData: model.MissingZero}
	filled := set
	Defaults(&filled)
	if filled.Source != set.Source || filled.Step != set.Step || filled.Model != set.Model || filled.FalseAlarmsPerWeek != 3 ||
		filled.Direction != set.Direction || filled.MissingData != set.MissingData {
		t.Fatalf("%+v", filled)
	}
}

func TestValidateFindsEveryFault(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*model.Detector)
		want   []string
	}{
		"empty":      {func(d *model.Detector) { d.Name, d.Query = "", "" }, []string{"/name", "/query"}},
		"long":       {func(d *model.Detector) { d.Name, d.Query = strings.Repeat("x", 201), strings.Repeat("x", 20<<10) }, []string{"/name", "/query"}},
		"bytes":      {func(d *model.Detector) { d.Name = "\xff" }, []string{"/name"}},
		"step":       {func(d *model.Detector) { d.Step = 1500 * time.Millisecond }, []string{"/step"}},
		"short step": {func(d *model.Detector) { d.Step = time.Millisecond }, []string{"/step"}},
		"long step":  {func(d *model.Detector) { d.Step = 48 * time.Hour }, []string{"/step"}},
		"model":      {func(d *model.Detector) { d.Model = "oracle" }, []string{"/model"}},
		"parameters": {func(d *model.Detector) { d.Model, d.Parameters = "robust_zscore", json.RawMessage(`{"window": -1}`) }, []string{"/parameters/window"}},
		"zone":       {func(d *model.Detector) { d.TimeZone = "Mars/Olympus" }, []string{"/time_zone"}},
		"direction":  {func(d *model.Detector) { d.Direction = "up" }, []string{"/direction"}},
		"missing":    {func(d *model.Detector) { d.MissingData = "guess" }, []string{"/missing_data"}},
		"budget":     {func(d *model.Detector) { d.FalseAlarmsPerWeek = math.NaN() }, []string{"/false_alarms_per_week"}},
		"negative":   {func(d *model.Detector) { d.FalseAlarmsPerWeek = -1 }, []string{"/false_alarms_per_week"}},
		"deviation": {func(d *model.Detector) { d.MinDeviation = model.MinDeviation{Absolute: -1, Relative: math.Inf(1)} },
			[]string{"/min_deviation/absolute", "/min_deviation/relative"}},
		"holds":  {func(d *model.Detector) { d.For, d.KeepFiringFor = -1, 1000*time.Hour }, []string{"/for", "/keep_firing_for"}},
		"labels": {func(d *model.Detector) { d.Labels = map[string]string{"": "x", "y": "\xff"} }, []string{"/labels", "/labels"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := testDetector(nil)
			tc.change(&d)
			var e *model.Error
			if err := Validate(d); !errors.As(err, &e) || e.Kind != model.KindInvalid {
				t.Fatalf("error %v", err)
			}
			var got []string
			for _, f := range e.Fields {
				if f.Code == "" || f.Detail == "" {
					t.Errorf("fault %+v", f)
				}
				got = append(got, f.Pointer)
			}
			slices.Sort(got)
			if !slices.Equal(got, tc.want) {
				t.Errorf("faults at %v, want %v", got, tc.want)
			}
		})
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	if err := (Config{}).Validate(); err != nil {
		t.Fatal(err)
	}
	if err := (Config{}).withDefaults().Validate(); err != nil {
		t.Fatal(err)
	}
	var e *model.Error
	err := Config{Workers: -1, History: model.Duration(time.Millisecond)}.Validate()
	if !errors.As(err, &e) || len(e.Fields) != 2 {
		t.Fatalf("error %v", err)
	}
}
