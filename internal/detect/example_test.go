package detect_test

import (
	"encoding/json"
	"fmt"
	"time"

	"aiops/internal/detect"
	"aiops/internal/model"
)

// A model is warmed up with past samples, scores new ones, and survives a
// restart through its snapshot.
func Example() {
	spec := detect.Spec{
		Model:        "robust_zscore",
		Parameters:   json.RawMessage(`{"window": 120}`),
		Step:         time.Minute,
		Direction:    model.DirectionAbove,
		MinDeviation: model.MinDeviation{Relative: 0.2},
	}
	m, err := detect.New(spec)
	if err != nil {
		fmt.Println(err)
		return
	}
	threshold := detect.Threshold(1, spec.Step, 1) // one false alarm a week, one series
	m.SetThreshold(threshold)

	at := time.Date(2026, time.March, 2, 0, 0, 0, 0, time.UTC)
	for i := range 3000 {
		detect.Step(m, at.UnixMilli(), 100+float64(i*7919%13)) // 100 to 112
		at = at.Add(spec.Step)
	}

	restored, err := detect.New(spec)
	if err == nil {
		err = restored.Restore(m.AppendSnapshot(nil))
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, v := range []float64{108, 180} {
		r := restored.Score(at.UnixMilli(), v)
		gate := detect.Gates(r, v, threshold, spec.Direction, spec.MinDeviation)
		fmt.Printf("%.0f: %v, expected %.0f; %v\n", v, r.Reason, r.Expected, gate)
	}
	// Output:
	// 108: inside the band, expected 106; the score does not exceed the threshold
	// 180: above the band, expected 106; anomalous
}

// The threshold follows from how many false alarms a week are tolerable, not
// from a feeling for scores.
func ExampleThreshold() {
	for _, series := range []int{1, 100, 10_000} {
		fmt.Printf("%5d series: %.2f\n", series, detect.Threshold(1, 30*time.Second, series))
	}
	// Output:
	//     1 series: 4.30
	//   100 series: 6.30
	// 10000 series: 8.30
}

// Every fault of a definition is told at once, with its place.
func ExampleValidate() {
	err := detect.Validate(detect.Spec{Model: "ewma", Parameters: json.RawMessage(`{"half_live": 10}`), Step: time.Minute})
	fmt.Println(err)
	// Output:
	// there is no parameter "half_live"; this model has half_life
}
