package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"aiops/internal/detect"
	"aiops/internal/model"
)

// Bounds and defaults of a search.
const (
	tuneDays        = 30
	maxTuneDays     = 90
	tuneTime        = 10 * time.Minute
	maxTuneTime     = 6 * time.Hour
	tuneEvaluations = 24
	maxEvaluations  = 500
	tuneSamples     = 20_000_000 // of one backtest
	tuneAlarms      = 10_000     // of one backtest that are compared
	unlabelledDays  = 30

	lossTrueLost = 3.0  // a true alarm that is lost weighs as much as three false ones that stay
	lossChanged  = 0.1  // an alarm without a label that is gone
	lossAdded    = 0.1  // an alarm that nobody has seen
	leastGain    = 0.05 // of loss that a change has to bring to be made
)

// Suggest looks for a definition that raises fewer of the alarms that people
// called false and keeps those they called true. What it tries follows from the
// labelled alarms: their sides, sizes and lengths. Every candidate is run by
// the code of a backtest. Without a label it has nothing to go by, which is a
// KindTooLittleData error.
func (e *Engine) Suggest(ctx context.Context, id string, limits model.TuneLimits, progress func(float64)) (model.TuneResult, error) {
	r, err := e.runner(id)
	if err != nil {
		return model.TuneResult{}, err
	}
	d := r.detectorNow()
	past, err := e.pastOf(ctx, d)
	if err != nil {
		return model.TuneResult{}, err
	}
	if len(past.labelled) == 0 {
		return model.TuneResult{}, model.Errorf(model.KindTooLittleData, model.SubjectDetector,
			"no alarm of this detector was called true or false in the last %d days; label some first", maxTuneDays)
	}
	return e.tune(ctx, d, past, true, spaceOf(d, past.labelled), limits, progress)
}

// Search tries the values of space one field after the other, each time keeping
// the best so far (coordinate descent), by backtest. With labelled alarms the
// measure is that of Suggest; without any it is how far the rate of alarms is
// from the budget.
func (e *Engine) Search(ctx context.Context, id string, space model.TuneSpace, limits model.TuneLimits, progress func(float64)) (model.TuneResult, error) {
	r, err := e.runner(id)
	if err != nil {
		return model.TuneResult{}, err
	}
	d := r.detectorNow()
	past, err := e.pastOf(ctx, d)
	if err != nil {
		return model.TuneResult{}, err
	}
	return e.tune(ctx, d, past, false, space, limits, progress)
}

// labelledPast is what people said of the alarms of a detector.
type labelledPast struct {
	labelled   []model.Anomaly
	unlabelled []model.Anomaly // of the last 30 days
}

func (e *Engine) pastOf(ctx context.Context, d model.Detector) (labelledPast, error) {
	now := e.now()
	all, err := e.store.AnomaliesBetween(ctx, d.ID, now.Add(-maxTuneDays*24*time.Hour), now, tuneAlarms)
	if err != nil {
		return labelledPast{}, fmt.Errorf("reading anomalies: %w", err)
	}
	var p labelledPast
	for _, a := range all {
		switch {
		case a.FiredAt.IsZero():
		case a.Label != nil:
			p.labelled = append(p.labelled, a)
		case now.Sub(a.StartedAt) <= unlabelledDays*24*time.Hour:
			p.unlabelled = append(p.unlabelled, a)
		}
	}
	return p, nil
}

// tuner runs candidates against the past.
type tuner struct {
	e        *Engine
	past     labelledPast
	from, to time.Time
	slack    time.Duration
	base     []model.Anomaly // alarms of the definition in force
	kept     labelledPast    // of past, what the definition in force raises again
	trials   []model.TuneTrial
	limits   model.TuneLimits
	until    time.Time
	progress func(float64)
}

// tune searches space. With byLabels only labels count: that none of them can
// be judged is then an error.
func (e *Engine) tune(ctx context.Context, d model.Detector, past labelledPast, byLabels bool, space model.TuneSpace, limits model.TuneLimits, progress func(float64)) (model.TuneResult, error) {
	limits, err := tuneLimits(limits)
	if err != nil {
		return model.TuneResult{}, err
	}
	if progress == nil {
		progress = func(float64) {}
	}
	t := &tuner{e: e, past: past, to: e.now(), slack: 2 * d.Step, limits: limits, until: e.now().Add(limits.Time), progress: progress}
	t.from = t.to.Add(-time.Duration(limits.Days) * 24 * time.Hour)
	for _, a := range past.labelled {
		if at := a.StartedAt.Add(-time.Hour); at.Before(t.from) {
			t.from = at
		}
	}
	if err := t.shorten(ctx, d); err != nil {
		return model.TuneResult{}, err
	}
	base, err := t.baseline(ctx, d)
	if err != nil {
		return model.TuneResult{}, err
	}
	if byLabels && len(t.kept.labelled) == 0 {
		return model.TuneResult{}, model.Errorf(model.KindTooLittleData, model.SubjectDetector,
			"a backtest from %s to %s raises none of the %d labelled alarms again, so that there is nothing to judge a change by; label newer ones",
			t.from.UTC().Format(time.RFC3339), t.to.UTC().Format(time.RFC3339), len(past.labelled))
	}
	best, stopped, err := t.descend(ctx, base, space)
	if err != nil {
		return model.TuneResult{}, err
	}
	slices.SortStableFunc(t.trials, func(a, b model.TuneTrial) int { return cmp.Compare(a.Loss, b.Loss) })
	out := model.TuneResult{From: t.from, To: t.to, Base: base, Best: best, Improved: best.Loss < base.Loss, Trials: t.trials,
		Evaluations: len(t.trials), Unreproduced: len(past.labelled) - len(t.kept.labelled), Stopped: stopped}
	out.Summary = tuneSummary(out)
	return out, nil
}

func tuneLimits(l model.TuneLimits) (model.TuneLimits, error) {
	var v model.Invalid
	if l.Days < 0 || l.Days > maxTuneDays {
		v.Add("/days", "out_of_range", "days must be from 1 to %d", maxTuneDays)
	}
	if l.Time < 0 || l.Time > maxTuneTime {
		v.Add("/time", "out_of_range", "time must be at most %s", model.Duration(maxTuneTime))
	}
	if l.Evaluations < 0 || l.Evaluations > maxEvaluations {
		v.Add("/evaluations", "out_of_range", "evaluations must be from 2 to %d", maxEvaluations)
	}
	if l.Days == 0 {
		l.Days = tuneDays
	}
	if l.Time == 0 {
		l.Time = tuneTime
	}
	if l.Evaluations == 0 {
		l.Evaluations = tuneEvaluations
	}
	return l, v.Err(model.SubjectDetector)
}

// shorten moves the begin of the range so that one backtest stays affordable.
func (t *tuner) shorten(ctx context.Context, d model.Detector) error {
	def := newDefinition(d, t.e.cfg)
	src, err := t.e.source(d)
	if err != nil {
		return err
	}
	at := def.floor(t.to.Add(-src.LateData()).UnixMilli())
	found, err := t.e.query(ctx, src, def, at, at, historySlow)
	if err != nil {
		return err
	}
	most := time.Duration(tuneSamples/max(1, len(found))) * d.Step
	if earliest := t.to.Add(-most); t.from.Before(earliest) {
		t.from = earliest
	}
	return nil
}

// baseline runs the definition in force and notes which of the past's alarms
// it raises again: only those can be removed or kept.
func (t *tuner) baseline(ctx context.Context, d model.Detector) (model.TuneTrial, error) {
	result, err := t.e.backtest(ctx, d, t.from, t.to, tuneAlarms, nil)
	if err != nil {
		return model.TuneTrial{}, err
	}
	t.from, t.to = result.From, result.To
	t.base = result.Anomalies
	index := indexAlarms(t.base)
	t.kept.labelled = slices.DeleteFunc(slices.Clone(t.past.labelled), func(a model.Anomaly) bool { return !index.covers(a, t.slack) })
	t.kept.unlabelled = slices.DeleteFunc(slices.Clone(t.past.unlabelled), func(a model.Anomaly) bool { return !index.covers(a, t.slack) })
	return t.judge(d, result), nil
}

// alarmIndex finds alarms by series.
type alarmIndex map[string][]model.Anomaly

func indexAlarms(list []model.Anomaly) alarmIndex {
	x := alarmIndex{}
	for _, a := range list {
		key := a.Series.Key()
		x[key] = append(x[key], a)
	}
	return x
}

// covers reports whether one of the alarms is the same as a.
func (x alarmIndex) covers(a model.Anomaly, slack time.Duration) bool {
	return slices.ContainsFunc(x[a.Series.Key()], func(b model.Anomaly) bool { return overlap(a, b, slack) })
}

// judge counts what a backtest made of the past and notes the trial.
func (t *tuner) judge(d model.Detector, r model.BacktestResult) model.TuneTrial {
	index, base := indexAlarms(r.Anomalies), indexAlarms(t.base)
	c := model.TuneCounts{Alarms: r.AnomalyCount, PerWeek: r.AlarmsPerWeek, Unlabelled: len(t.kept.unlabelled)}
	for _, a := range t.kept.labelled {
		there := index.covers(a, t.slack)
		switch {
		case *a.Label && there:
			c.TrueKept++
		case !*a.Label && !there:
			c.FalseRemoved++
		}
		if *a.Label {
			c.True++
		} else {
			c.False++
		}
	}
	for _, a := range t.kept.unlabelled {
		if !index.covers(a, t.slack) {
			c.Changed++
		}
	}
	for _, a := range r.Anomalies {
		if !base.covers(a, t.slack) {
			c.Added++
		}
	}
	loss := float64(c.False-c.FalseRemoved) + lossTrueLost*float64(c.True-c.TrueKept) + lossChanged*float64(c.Changed) + lossAdded*float64(c.Added)
	if len(t.kept.labelled) == 0 {
		loss = math.Abs(math.Log2((c.PerWeek + 0.1) / (d.FalseAlarmsPerWeek + 0.1)))
	}
	trial := model.TuneTrial{Definition: d, Counts: c, Loss: loss}
	t.trials = append(t.trials, trial)
	t.progress(math.Min(1, float64(len(t.trials))/float64(t.limits.Evaluations)))
	return trial
}

// descend improves one field after the other until nothing is left to try.
func (t *tuner) descend(ctx context.Context, base model.TuneTrial, space model.TuneSpace) (best model.TuneTrial, stopped string, err error) {
	best = base
	for _, field := range variations(space) {
		from := best.Definition
		for _, change := range field {
			d := from
			change(&d)
			if Validate(d) != nil || fingerprintOf(d) == fingerprintOf(from) && tuningOf(d, 0).same(tuningOf(from, 0)) {
				continue
			}
			switch {
			case len(t.trials) >= t.limits.Evaluations:
				return best, "evaluations", nil
			case !t.e.now().Before(t.until):
				return best, "time", nil
			}
			bounded, cancel := context.WithTimeout(ctx, t.until.Sub(t.e.now()))
			result, err := t.e.backtest(bounded, d, t.from, t.to, tuneAlarms, nil)
			cancel()
			switch {
			case ctx.Err() != nil:
				return best, "", ctx.Err()
			case errors.Is(err, context.DeadlineExceeded):
				return best, "time", nil
			case err != nil:
				return best, "", err
			}
			if trial := t.judge(d, result); trial.Loss < best.Loss-leastGain {
				best = trial
			}
		}
	}
	return best, "done", nil
}

// variations lists the changes that space allows, by field.
func variations(space model.TuneSpace) [][]func(*model.Detector) {
	var out [][]func(*model.Detector)
	out = append(out, each(space.Directions, func(d *model.Detector, v model.Direction) { d.Direction = v }))
	out = append(out, each(space.For, func(d *model.Detector, v time.Duration) { d.For = v }))
	out = append(out, each(space.MinRelative, func(d *model.Detector, v float64) { d.MinDeviation.Relative = v }))
	out = append(out, each(space.MinAbsolute, func(d *model.Detector, v float64) { d.MinDeviation.Absolute = v }))
	out = append(out, each(space.FalseAlarmsPerWeek, func(d *model.Detector, v float64) { d.FalseAlarmsPerWeek = v }))
	out = append(out, each(space.KeepFiringFor, func(d *model.Detector, v time.Duration) { d.KeepFiringFor = v }))
	out = append(out, each(space.Models, func(d *model.Detector, v string) {
		if d.Model != v {
			d.Model, d.Parameters = v, nil // parameters belong to one model
		}
	}))
	return out
}

func each[T any](values []T, set func(*model.Detector, T)) []func(*model.Detector) {
	var out []func(*model.Detector)
	for _, v := range values {
		out = append(out, func(d *model.Detector) { set(d, v) })
	}
	return out
}

// spaceOf derives what is worth trying from the labelled alarms: each value
// lies between what was false and the least that was true.
func spaceOf(d model.Detector, labelled []model.Anomaly) model.TuneSpace {
	var wrong, right []model.Anomaly
	for _, a := range labelled {
		if *a.Label {
			right = append(right, a)
		} else {
			wrong = append(wrong, a)
		}
	}
	space := model.TuneSpace{FalseAlarmsPerWeek: []float64{d.FalseAlarmsPerWeek / 3, d.FalseAlarmsPerWeek / 10}}
	above := func(a model.Anomaly) bool { return a.Value >= a.Expected }
	below := func(a model.Anomaly) bool { return a.Value < a.Expected }
	if len(wrong) > 0 && !slices.ContainsFunc(right, below) && slices.ContainsFunc(wrong, below) {
		space.Directions = append(space.Directions, model.DirectionAbove)
	}
	if len(wrong) > 0 && len(right) > 0 && !slices.ContainsFunc(right, above) && slices.ContainsFunc(wrong, above) {
		space.Directions = append(space.Directions, model.DirectionBelow)
	}
	space.MinAbsolute = between(wrong, right, func(a model.Anomaly) float64 { return math.Abs(a.Value - a.Expected) })
	space.MinRelative = between(wrong, right, func(a model.Anomaly) float64 {
		if a.Expected == 0 {
			return math.NaN()
		}
		return math.Abs((a.Value - a.Expected) / a.Expected)
	})
	for _, seconds := range between(wrong, right, func(a model.Anomaly) float64 {
		if a.ResolvedAt.IsZero() {
			return math.NaN()
		}
		return a.ResolvedAt.Sub(a.StartedAt).Seconds() - d.KeepFiringFor.Seconds()
	}) {
		steps := math.Ceil(seconds / d.Step.Seconds())
		space.For = append(space.For, time.Duration(steps)*d.Step)
	}
	space.KeepFiringFor = []time.Duration{max(d.KeepFiringFor, 10*d.Step)}
	if d.Model != "auto" && slices.ContainsFunc(detect.Names(), func(i detect.Info) bool { return i.Name == "auto" }) {
		space.Models = []string{"auto"}
	}
	return space
}

// between returns up to three values that are above more and more of the sizes
// of wrong and below all of right, three digits each.
func between(wrong, right []model.Anomaly, size func(model.Anomaly) float64) []float64 {
	sizes := func(list []model.Anomaly) (out []float64) {
		for _, a := range list {
			if v := size(a); v > 0 && isFinite(v) {
				out = append(out, v)
			}
		}
		slices.Sort(out)
		return out
	}
	low, limit := sizes(wrong), math.Inf(1)
	if r := sizes(right); len(r) > 0 {
		limit = r[0]
	}
	low = slices.DeleteFunc(low, func(v float64) bool { return v >= limit })
	var out []float64
	for _, q := range []float64{1, 0.8, 0.5} {
		if len(low) == 0 {
			break
		}
		v := low[int(math.Ceil(q*float64(len(low))))-1]
		// Halfway to the least true one, but no more than a quarter above.
		v = roundUp(v + math.Min(0.25*v, (limit-v)/2))
		if v < limit && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// roundUp returns v with three significant digits, not less than v.
func roundUp(v float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(v))-2)
	return math.Ceil(v/unit) * unit
}

func tuneSummary(r model.TuneResult) string {
	c := r.Best.Counts
	if !r.Improved {
		return fmt.Sprintf("nothing better was found in %d backtests from %s to %s", r.Evaluations, r.From.Format(time.DateOnly), r.To.Format(time.DateOnly))
	}
	if c.True+c.False == 0 {
		return fmt.Sprintf("raises %s alarms a week instead of %s, with %d of %d alarms of the last %d days gone",
			number(c.PerWeek), number(r.Base.Counts.PerWeek), c.Changed, c.Unlabelled, unlabelledDays)
	}
	return fmt.Sprintf("removes %d of %d false, keeps %d of %d true, changes %d of %d unlabelled, adds %d",
		c.FalseRemoved, c.False, c.TrueKept, c.True, c.Changed, c.Unlabelled, c.Added)
}
