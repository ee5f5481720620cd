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
// rare that is, and seen how long the series was watched until then, in seconds.
func reasonText(e *episode, d model.Detector, made string, once, seen float64) string {
	var b strings.Builder
	p := e.peak
	rare := everyText(once) + " at this step"
	if seen < youngSeries && once > seen && detect.Calibrated(d.Model) {
		rare += ", a guess from " + lengthText(seen) + " of history"
	}
	switch {
	case e.cause == causeSilent:
		fmt.Fprintf(&b, "%s: no sample since the step before %s, from a healthy source", d.Name, msTime(e.startedAt).Format(time.RFC3339))
	case d.Log != nil && d.Log.Kind == model.LogNewTemplate:
		fmt.Fprintf(&b, "%s: lines of a pattern that was never seen before; %s", d.Name, rare)
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
		b.WriteString("; " + rare)
	default:
		fmt.Fprintf(&b, "%s %s%s", d.Name, number(p.Value), unitOf(d))
		band := bandText(p)
		switch e.cause {
		case cause(detect.ReasonPattern):
			b.WriteString(", part of an unusual pattern,")
			if band != "" && isFinite(p.Expected) {
				band = "about " + number(p.Expected) // the value lies in the band, which says nothing then
			}
		case cause(detect.ReasonFlat), cause(detect.ReasonWider), cause(detect.ReasonCalmer), cause(detect.ReasonMix):
			fmt.Fprintf(&b, ": %v", detect.Reason(e.cause))
		}
		if band != "" {
			fmt.Fprintf(&b, " where %s was expected", band)
		}
		b.WriteString("; " + rare)
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

// youngSeries is the history in seconds below which a reason says how short it is.
const youngSeries = 86400

const yearSeconds = 365.25 * 86400

// everyText writes how rare something is as "once in 12 days".
func everyText(seconds float64) string {
	if seconds >= 100*yearSeconds {
		return "less than once in 100 years"
	}
	return "once in " + lengthText(seconds)
}

// lengthText writes a length of time as "12 days".
func lengthText(seconds float64) string {
	for _, u := range []struct {
		name string
		size float64
		upTo float64
	}{{"second", 1, 90}, {"minute", 60, 90 * 60}, {"hour", 3600, 48 * 3600}, {"day", 86400, 730 * 86400}} {
		if seconds < u.upTo {
			n := math.Round(seconds / u.size)
			if n <= 1 {
				return "a " + u.name
			}
			return fmt.Sprintf("%.0f %ss", n, u.name)
		}
	}
	return fmt.Sprintf("%.0f years", seconds/yearSeconds)
}

// probability says for people how rare the peak of a is. guessed: its history is too short
// to show that.
func probability(a model.Anomaly, guessed bool) string {
	seconds := a.OnceInSeconds
	if !(seconds > 0) {
		return "it is not known how rare this is"
	}
	text := everyText(seconds) + " on this series at this step, if nothing is wrong"
	if strings.HasPrefix(text, "once") {
		text = "about " + text
	}
	if guessed {
		text += "; an estimate, because its history is too short to show anything so rare"
	}
	return text
}

// summary says in a sentence what was seen, what was expected and how rare that is. A
// surprise says nothing to people, but its reason does.
func summary(a model.Anomaly, by string) string {
	if !isFinite(a.Value) || by == "surprise" {
		return a.Reason + "."
	}
	s := fmt.Sprintf("%s was %s", a.DetectorName, number(a.Value))
	if isFinite(a.Expected) {
		s += " where " + number(a.Expected) + " was expected"
	}
	if a.OnceInSeconds > 0 && a.Score < detect.MaxScore {
		s += ", which happens " + everyText(a.OnceInSeconds) + " on this series"
	}
	return s + "."
}

// number writes a value with four significant digits, large ones in words.
func number(v float64) string {
	a := math.Abs(v)
	switch {
	case math.IsNaN(v):
		return "no number"
	case a >= 1e15 || a != 0 && a < 1e-4:
		return strconv.FormatFloat(v, 'g', 4, 64)
	case a >= 99_995e7:
		return number(v/1e12) + " trillion"
	case a >= 99_995e4:
		return number(v/1e9) + " billion"
	case a >= 99_995e1:
		return number(v/1e6) + " million"
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
		return fmt.Sprintf("below %s it would have been normal", roundTo(limit, false, math.Abs(p.Value-limit)))
	default:
		return fmt.Sprintf("above %s it would have been normal", roundTo(limit, true, math.Abs(p.Value-limit)))
	}
}
