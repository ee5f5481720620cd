package pipeline

import (
	"fmt"
	"math"
	"strconv"

	"aiops/internal/detect"
	"aiops/internal/model"
)

// Counterfactual says which values at the step of a peak would have been
// normal. Both ends of the normal range were scored by the model as it was, so
// scoring them again decides the same.
type Counterfactual struct {
	Text  string
	Upper Flip // where the normal range ends above
	Lower Flip // and below
	Gates []GateState
}

// Flip is where the decision changes between two neighbouring values. Normal
// and Anomalous are NaN when no value on that side is an anomaly.
type Flip struct {
	Normal    float64 // the last value that is normal
	Anomalous float64 // the next one, which is not
	Gate      string  // what holds Normal back: score, direction, least absolute or relative deviation
}

// GateState is a gate that an alarm had to pass.
type GateState struct {
	Name   string // threshold, hysteresis, direction, min_deviation, for, keep_firing_for, refractory
	Detail string
}

// Bounds of the search for a flip.
const (
	flipDoublings = 80
	flipHalvings  = 200
)

// flips looks for the ends of the normal range around the peak of an evidence.
// m is the model as it was before it saw the peak; scoring changes nothing in
// it. On the side of the peak the search halves the way from the peak to a
// normal value, on the other it first walks away from that value until one is
// an anomaly. Where the decision changes more than once, as it may for
// forests, it finds one of the places. Cost: some hundred scores.
func flips(m detect.Model, ev model.Evidence, d evidenceDefinition) (lower, upper Flip, ok bool) {
	gate := func(v float64) detect.Gate {
		return detect.Gates(m.Score(ev.Peak.T, v), v, ev.Threshold, d.Direction, d.MinDeviation)
	}
	r := m.Score(ev.Peak.T, ev.Peak.V)
	center, found := normalValue(gate, ev, r)
	if !found {
		return lower, upper, false
	}
	scale := math.Abs(ev.Peak.V - center)
	if scale == 0 || !isFinite(scale) {
		scale = math.Max(1, math.Abs(center))
	}
	side := func(sign float64) Flip {
		out := Flip{Normal: math.NaN(), Anomalous: math.NaN()}
		far, reached := center, false
		if (ev.Peak.V-center)*sign > 0 && gate(ev.Peak.V) == detect.GateOpen {
			far, reached = ev.Peak.V, true
		}
		for step := scale / 1024; !reached && step < 1e150; step *= 2 {
			far = center + sign*step
			reached = isFinite(far) && gate(far) == detect.GateOpen
			if step > scale*math.Pow(2, flipDoublings-10) {
				break
			}
		}
		if !reached {
			return out
		}
		near := center
		for range flipHalvings {
			mid := near + (far-near)/2
			if mid == near || mid == far {
				break
			}
			if gate(mid) == detect.GateOpen {
				far = mid
			} else {
				near = mid
			}
		}
		out.Normal, out.Anomalous, out.Gate = near, far, gate(near).String()
		return out
	}
	return side(-1), side(1), true
}

// normalValue returns a value that would not have been an anomaly: the
// expected one, else the middle of the band, else one that was seen before.
func normalValue(gate func(float64) detect.Gate, ev model.Evidence, r detect.Result) (float64, bool) {
	candidates := []float64{r.Expected, (r.Lower + r.Upper) / 2}
	for i := len(ev.Context) - 1; i >= 0; i-- {
		candidates = append(candidates, ev.Context[i].Value, ev.Context[i].Expected)
	}
	for _, v := range candidates {
		if isFinite(v) && gate(v) != detect.GateOpen {
			return v, true
		}
	}
	return 0, false
}

// counterfactualOf computes the counterfactual of an evidence. m is the model
// of the evidence; nil for a missing sample.
func counterfactualOf(m detect.Model, ev model.Evidence, d evidenceDefinition) Counterfactual {
	none := Flip{Normal: math.NaN(), Anomalous: math.NaN()}
	out := Counterfactual{Lower: none, Upper: none, Gates: gatesOf(ev, d)}
	if m == nil {
		out.Text = "with a sample at this step it would have been normal"
		return out
	}
	lower, upper, ok := flips(m, ev, d)
	if !ok {
		out.Text = "no single value would have made this pattern normal"
		return out
	}
	out.Lower, out.Upper = lower, upper
	below, above := !math.IsNaN(lower.Normal), !math.IsNaN(upper.Normal)
	low := roundTo(lower.Anomalous, true, math.Abs(ev.Peak.V-lower.Anomalous))
	high := roundTo(upper.Anomalous, false, math.Abs(ev.Peak.V-upper.Anomalous))
	switch {
	case below && above:
		out.Text = fmt.Sprintf("between %s and %s it would have been normal", low, high)
	case above:
		out.Text = fmt.Sprintf("below %s it would have been normal", high)
	case below:
		out.Text = fmt.Sprintf("above %s it would have been normal", low)
	default:
		out.Text = "no single value would have made this pattern normal"
		return out
	}
	peak := upper
	if below && ev.Peak.V <= lower.Anomalous {
		peak = lower
	}
	if peak.Gate != detect.GateScore.String() && peak.Gate != "" {
		out.Text += ", because " + peak.Gate
	}
	if d.ForMS > 0 {
		out.Text += fmt.Sprintf("; what lasts less than %s raises no alarm either", model.Duration(msDuration(d.ForMS)))
	}
	return out
}

// roundTo writes v with the fewest digits, four at least, that move it by a twentieth of
// room at most, and up or down as asked, so that what is said of the values beyond it stays true.
func roundTo(v float64, up bool, room float64) string {
	if !isFinite(v) {
		return number(v)
	}
	for digits := 3; digits < 17; digits++ {
		text := strconv.FormatFloat(v, 'e', digits, 64)
		r, err := strconv.ParseFloat(text, 64)
		if err == nil && (r > v) != up && r != v {
			unit := math.Pow(10, math.Floor(math.Log10(math.Abs(v)))-float64(digits))
			if !up {
				unit = -unit
			}
			r, err = strconv.ParseFloat(strconv.FormatFloat(r+unit, 'e', digits, 64), 64)
		}
		if err == nil && math.Abs(r-v) <= room/20 && (r == v || (r > v) == up) {
			if digits == 3 {
				return number(r)
			}
			return strconv.FormatFloat(r, 'f', -1, 64)
		}
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// gatesOf lists what the alarm had to pass, as it was then.
func gatesOf(ev model.Evidence, d evidenceDefinition) []GateState {
	out := []GateState{
		{"threshold", fmt.Sprintf("a score above %s", number(ev.Threshold))},
		{"hysteresis", fmt.Sprintf("calm is a score below %s", number(clearShare*ev.Threshold))},
	}
	if d.Direction != model.DirectionBoth && d.Direction != "" {
		out = append(out, GateState{"direction", fmt.Sprintf("only %s what is expected", d.Direction)})
	}
	if m := d.MinDeviation; m.Absolute > 0 || m.Relative > 0 {
		detail := ""
		if m.Absolute > 0 {
			detail = fmt.Sprintf("at least %s from the expected value", number(m.Absolute))
		}
		if m.Relative > 0 {
			if detail != "" {
				detail += ", and "
			}
			detail += fmt.Sprintf("at least %s %% of it", number(100*m.Relative))
		}
		out = append(out, GateState{"min_deviation", detail})
	}
	for _, g := range []struct {
		name string
		ms   int64
		text string
	}{
		{"for", d.ForMS, "anomalous samples for %s before it fires"},
		{"keep_firing_for", d.KeepMS, "calm samples for %s before it resolves"},
		{"refractory", d.QuietMS, "no new alarm of the series for %s after one resolved"},
	} {
		if g.ms > 0 {
			out = append(out, GateState{g.name, fmt.Sprintf(g.text, model.Duration(msDuration(g.ms)))})
		}
	}
	return out
}
