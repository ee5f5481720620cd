package pipeline

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"aiops/internal/detect"
	"aiops/internal/model"
)

func msDuration(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }

func msTime(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// onceIn returns how often in seconds a value with this score is expected on
// one series, at most 1e15.
func onceIn(score float64, step time.Duration) float64 {
	return min(math.Pow(10, score)*step.Seconds(), 1e15)
}

// reasonText says for people why e is an anomaly, from its peak. once is how
// rare that is, in seconds.
func reasonText(e *episode, d model.Detector, made string, once float64) string {
	var b strings.Builder
	p := e.peak
	switch {
	case e.cause == causeSilent:
		fmt.Fprintf(&b, "%s: no sample since the step before %s, from a healthy source", d.Name, msTime(e.startedAt).Format(time.RFC3339))
	case d.Log != nil && d.Log.Kind == model.LogNewTemplate:
		fmt.Fprintf(&b, "%s: lines of a pattern that was never seen before; %s at this step", d.Name, everyText(once))
	case e.cause == cause(detect.ReasonAboveBound):
		fmt.Fprintf(&b, "%s %s%s where at most %s is allowed", d.Name, number(p.Value), unitOf(d), number(p.Upper))
	case e.cause == cause(detect.ReasonBelowBound):
		fmt.Fprintf(&b, "%s %s%s where at least %s is allowed", d.Name, number(p.Value), unitOf(d), number(p.Lower))
	case made != "":
		what := "spreads from the median of its peers"
		if made == model.JointGroup {
			what = "of surprise in the whole group"
		}
		fmt.Fprintf(&b, "%s: %s %s", d.Name, number(p.Value), what)
		if band := bandText(p); band != "" {
			fmt.Fprintf(&b, " where %s is usual", band)
		}
		fmt.Fprintf(&b, "; %s at this step", everyText(once))
	default:
		fmt.Fprintf(&b, "%s %s%s", d.Name, number(p.Value), unitOf(d))
		switch e.cause {
		case cause(detect.ReasonPattern):
			b.WriteString(", part of an unusual pattern,")
		case cause(detect.ReasonFlat), cause(detect.ReasonWider), cause(detect.ReasonCalmer), cause(detect.ReasonMix):
			fmt.Fprintf(&b, ": %v", detect.Reason(e.cause))
		}
		if band := bandText(p); band != "" {
			fmt.Fprintf(&b, " where %s was expected", band)
		}
		fmt.Fprintf(&b, "; %s at this step", everyText(once))
	}
	if e.flaps > 0 {
		fmt.Fprintf(&b, "; alarm number %d in short time on this series", e.flaps+1)
	}
	return b.String()
}

// unitOf is what the values of a detector on logs count.
func unitOf(d model.Detector) string {
	if d.Log == nil {
		return ""
	}
	switch d.Log.Kind {
	case model.LogTemplate, model.LogRate, model.LogPatternKind:
		return " lines"
	case model.LogLevelRatio:
		return " of the lines are errors"
	case model.LogMix:
		return " away from the usual mix of patterns"
	}
	return ""
}

// bandText says what was expected: "20 to 45", "at most 45", "about 30".
func bandText(p model.ScoredPoint) string {
	lower, upper := isFinite(p.Lower), isFinite(p.Upper)
	switch {
	case lower && upper:
		return number(p.Lower) + " to " + number(p.Upper)
	case upper:
		return "at most " + number(p.Upper)
	case lower:
		return "at least " + number(p.Lower)
	case isFinite(p.Expected):
		return "about " + number(p.Expected)
	}
	return ""
}

// everyText writes a length of time as "once in 12 days".
func everyText(seconds float64) string {
	const year = 365.25 * 86400
	for _, u := range []struct {
		name string
		size float64
		upTo float64
	}{{"second", 1, 90}, {"minute", 60, 90 * 60}, {"hour", 3600, 48 * 3600}, {"day", 86400, 730 * 86400}, {"year", year, 100 * year}} {
		if seconds < u.upTo {
			n := math.Round(seconds / u.size)
			if n <= 1 {
				return "once in a " + u.name
			}
			return fmt.Sprintf("once in %.0f %ss", n, u.name)
		}
	}
	return "less than once in 100 years"
}

// probability says for people how rare the peak of a is.
func probability(a model.Anomaly) string {
	seconds := a.OnceInSeconds
	if !(seconds > 0) {
		return "it is not known how rare this is"
	}
	return "about " + everyText(seconds) + " on this series at this step, if nothing is wrong"
}

// number writes a value with four significant digits, and without an exponent
// where people would not expect one.
func number(v float64) string {
	a := math.Abs(v)
	switch {
	case math.IsNaN(v):
		return "no number"
	case a >= 1e12 || a != 0 && a < 1e-4:
		return strconv.FormatFloat(v, 'g', 4, 64)
	case a >= 1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	digits := 3
	for limit := 10.0; a >= limit && digits > 0; limit *= 10 {
		digits--
	}
	for limit := 1.0; a != 0 && a < limit && digits < 8; limit /= 10 {
		digits++
	}
	s := strconv.FormatFloat(v, 'f', digits, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// counterfactual says which value would have been normal, band and least
// deviation taken together.
func counterfactual(p model.ScoredPoint, why cause, d model.Detector) string {
	if why == causeSilent {
		return "with a sample at this step it would have been normal"
	}
	least := d.MinDeviation.Absolute
	if isFinite(p.Expected) {
		least = max(least, d.MinDeviation.Relative*math.Abs(p.Expected))
	}
	above := !(p.Value < p.Expected)
	limit := p.Upper
	if !above {
		limit = p.Lower
	}
	if isFinite(p.Expected) && least > 0 {
		if above {
			limit = math.Max(limit, p.Expected+least)
		} else {
			limit = math.Min(limit, p.Expected-least)
		}
	}
	switch {
	case !isFinite(limit) || above && limit > p.Value || !above && limit < p.Value:
		return "" // an unusual pattern: no single value makes it normal
	case above:
		return fmt.Sprintf("up to %s it would have been normal", number(limit))
	default:
		return fmt.Sprintf("from %s it would have been normal", number(limit))
	}
}
