package pipeline

import (
	"math"
	"testing"
	"time"

	"aiops/internal/detect"
	"aiops/internal/model"
)

func TestReasonText(t *testing.T) {
	t.Parallel()
	nan, inf := math.NaN(), math.Inf(1)
	d := model.Detector{Name: "CPU", Step: 30 * time.Second}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli()
	for want, e := range map[string]episode{
		"CPU 93 where 20 to 45 was expected; once in 12 days at this step": {
			peak: model.ScoredPoint{Value: 93, Expected: 30, Lower: 20, Upper: 45, Score: math.Log10(12 * 2880)}},
		"CPU 93 where at most 45 was expected; once in 3 hours at this step": {
			peak: model.ScoredPoint{Value: 93, Expected: 30, Lower: -inf, Upper: 45, Score: math.Log10(360)}},
		"CPU 0.0012 where at least 0.02 was expected; less than once in 100 years at this step": {
			peak: model.ScoredPoint{Value: .0012, Expected: 30, Lower: .02, Upper: inf, Score: 12}},
		"CPU 0 where about 30 was expected; once in 2 days at this step": {
			peak: model.ScoredPoint{Value: 0, Expected: 30, Lower: nan, Upper: nan, Score: math.Log10(2880 * 2)}},
		"CPU 5 where 1 to 2 was expected; once in 2 minutes at this step; alarm number 3 in short time on this series": {
			peak: model.ScoredPoint{Value: 5, Expected: 1, Lower: 1, Upper: 2, Score: math.Log10(4)}, flaps: 2},
		"CPU 93 where at most 90 is allowed": {
			peak: model.ScoredPoint{Value: 93, Expected: 90, Lower: -inf, Upper: 90, Score: 300}, cause: cause(detect.ReasonAboveBound)},
		"CPU 38, part of an unusual pattern, where about 30 was expected; once in 12 days at this step": {
			peak: model.ScoredPoint{Value: 38, Expected: 30, Lower: 20, Upper: 45, Score: math.Log10(12 * 2880)}, cause: cause(detect.ReasonPattern)},
		"CPU 7: it has stopped moving; once in 3 hours at this step": {
			peak: model.ScoredPoint{Value: 7, Expected: nan, Lower: nan, Upper: nan, Score: math.Log10(360)}, cause: cause(detect.ReasonFlat)},
		"CPU: no sample since the step before 2026-03-01T12:00:00Z, from a healthy source": {
			peak: model.ScoredPoint{Value: nan}, cause: causeSilent, startedAt: at},
	} {
		if got := reasonText(&e, d, "", onceIn(e.peak.Score, d.Step), 30*86400); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0", 1: "1", 93: "93", 93.126: "93.13", 1234.5: "1234", 222_099: "222099", 1234567: "1.235 million", 999_960: "1 million", 75_497_472: "75.5 million", -4.2e9: "-4.2 billion", 0.012345: "0.01235", 0.5: "0.5",
		-20: "-20", 999.96: "1000", 2.5e13: "25 trillion", 2.5e17: "2.5e+17", 1e-9: "1e-09", 9.9999: "10", 100: "100", 0.1: "0.1",
	} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %s, want %s", v, got, want)
		}
	}
	if got := number(math.NaN()); got != "no number" {
		t.Errorf("NaN is %s", got)
	}
}

func TestCounterfactual(t *testing.T) {
	t.Parallel()
	p := model.ScoredPoint{Value: 93, Expected: 30, Lower: 20, Upper: 45}
	for _, tc := range []struct {
		p    model.ScoredPoint
		d    model.Detector
		why  cause
		want string
	}{
		{p, model.Detector{}, 0, "below 45 it would have been normal"},
		{p, model.Detector{MinDeviation: model.MinDeviation{Relative: 1}}, 0, "below 60 it would have been normal"},
		{p, model.Detector{MinDeviation: model.MinDeviation{Absolute: 20}}, 0, "below 50 it would have been normal"},
		{model.ScoredPoint{Value: 3, Expected: 30, Lower: 20, Upper: 45}, model.Detector{}, 0, "above 20 it would have been normal"},
		{model.ScoredPoint{Value: 30, Expected: 30, Lower: 20, Upper: 45}, model.Detector{}, cause(detect.ReasonPattern), ""},
		{model.ScoredPoint{}, model.Detector{}, causeSilent, "with a sample at this step it would have been normal"},
	} {
		if got := counterfactual(tc.p, tc.why, tc.d); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.p, got, tc.want)
		}
	}
}

// What a rounded limit says of the values beyond it stays true.
func TestRoundTo(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		v    float64
		up   bool
		room float64
		want string
	}{
		{0.05, false, 0.6, "0.05"}, {16821834.82, false, 5e7, "16.82 million"}, {16821834.82, true, 5e7, "16.83 million"},
		{412.37, false, 100, "412.3"}, {412.37, true, 100, "412.4"}, {-412.37, false, 100, "-412.4"}, {-412.37, true, 100, "-412.3"},
		{0, true, 1, "0"}, {1000000.25, false, 0.5, "1000000.25"}, {9999.99, true, 900, "10000"},
	} {
		if got := roundTo(tc.v, tc.up, tc.room); got != tc.want {
			t.Errorf("roundTo(%v, %v, %v) = %s, want %s", tc.v, tc.up, tc.room, got, tc.want)
		}
	}
}

func TestReasonOfAYoungSeries(t *testing.T) {
	t.Parallel()
	e := episode{peak: model.ScoredPoint{Value: 93, Expected: 30, Lower: 20, Upper: 45}}
	d := model.Detector{Name: "CPU", Model: "auto"}
	if got, want := reasonText(&e, d, "", 12*86400, 540), "CPU 93 where 20 to 45 was expected; once in 12 days at this step, a guess from 9 minutes of history"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestProbabilityAndSummary(t *testing.T) {
	t.Parallel()
	a := model.Anomaly{DetectorName: "CPU", Value: 93, Expected: 30, Score: 6, OnceInSeconds: 200 * yearSeconds}
	if got := probability(a, true); got != "less than once in 100 years on this series at this step, if nothing is wrong; an estimate, because its history is too short to show anything so rare" {
		t.Error(got)
	}
	if got := summary(a, "auto"); got != "CPU was 93 where 30 was expected, which happens less than once in 100 years on this series." {
		t.Error(got)
	}
	a.Reason = "CPU: lines of a pattern that was never seen before"
	if got := summary(a, "surprise"); got != a.Reason+"." {
		t.Error(got)
	}
	a.OnceInSeconds = 12 * 86400
	if got := probability(a, false); got != "about once in 12 days on this series at this step, if nothing is wrong" {
		t.Error(got)
	}
	if got := summary(model.Anomaly{DetectorName: "CPU", Value: math.NaN(), Reason: "CPU: no sample"}, "auto"); got != "CPU: no sample." {
		t.Error(got)
	}
}
