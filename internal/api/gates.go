package api

import (
	"time"

	"aiops/internal/model"
)

// calmShare is the share of the threshold below which a sample is calm.
const calmShare = 0.75

// Gates are what stands between a score and an alarm, each by itself.
type Gates struct {
	Threshold     Number       `json:"threshold" doc:"Score above which a sample is anomalous; null while unknown"`
	CalmBelow     Number       `json:"calm_below" doc:"Hysteresis: score below which a sample counts towards resolving; null while unknown"`
	Direction     string       `json:"direction" enum:"both,above,below"`
	MinDeviation  MinDeviation `json:"min_deviation" doc:"Minimum size"`
	For           Duration     `json:"for"`
	KeepFiringFor Duration     `json:"keep_firing_for"`
	Refractory    Duration     `json:"refractory" doc:"Quiet time after an anomaly resolved"`
}

func gatesOf(d model.Detector, threshold float64) Gates {
	g := Gates{Threshold: unknown(), CalmBelow: unknown(), Direction: string(d.Direction), MinDeviation: MinDeviation{Absolute: d.MinDeviation.Absolute, Relative: d.MinDeviation.Relative},
		For: durationOf(d.For), KeepFiringFor: durationOf(d.KeepFiringFor), Refractory: durationOf(d.Refractory)}
	if threshold > 0 {
		g.Threshold, g.CalmBelow = Number(threshold), Number(calmShare*threshold)
	}
	return g
}

// Drift says how far the scores are from their calibration.
type Drift struct {
	Share    Number     `json:"share" doc:"Of the samples of the last hour or longer that score 1 or more; 0 before the first"`
	Expected Number     `json:"expected" doc:"What the calibration promises"`
	Sum      Number     `json:"sum" doc:"Of the sequential test (CUSUM)"`
	Limit    Number     `json:"limit" doc:"Sum at which the scores are said to drift"`
	Drifting bool       `json:"drifting"`
	Since    *time.Time `json:"since,omitempty"`
	Blocks   int        `json:"blocks" doc:"That the test has seen; it begins after 24"`
}

func driftOf(d model.Drift) Drift {
	return Drift{Share: Number(d.Share), Expected: Number(d.Expected), Sum: Number(d.Sum), Limit: Number(d.Limit), Drifting: d.Drifting, Since: timeOf(d.Since), Blocks: d.Blocks}
}
