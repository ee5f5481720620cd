package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"aiops/internal/model"
)

// Bounds of an explanation.
const (
	maxMoved    = 20
	mostMoved   = 10.0 // of a score there
	maxSimilar  = 10
	similarDays = 30
	lookTimeout = 500 * time.Millisecond // for all detectors together that are being scored
)

// Explanation is why an anomaly is one: what was stored when it happened, the
// same computed again, and what else happened around that time.
type Explanation struct {
	Anomaly     model.Anomaly
	Evidence    model.Evidence // without AnomalyID when none was stored
	Recomputed  RecomputeResult
	AlsoMoved   []Moved          // other series with high scores around the peak, most telling first
	Similar     []SimilarEpisode // earlier episodes of the same detector, most similar first
	Summary     string           // a sentence
	Probability string           // in words: how rare the peak is on its series
	Model       model.ModelVersion
}

// RecomputeResult is what the stored evidence gives when it is scored again.
type RecomputeResult struct {
	Point          model.ScoredPoint // the peak, scored again from ModelState
	Contributions  []model.Contribution
	Counterfactual Counterfactual
	Extrapolated   bool   // the score is beyond what the history can show
	Reproduced     bool   // Point equals what was stored, bit for bit
	Difference     string // what differs, "" when Reproduced
}

// Moved is a series that moved around the time of an anomaly.
type Moved struct {
	DetectorID   string
	DetectorName string
	Series       model.Labels
	Point        model.ScoredPoint // its highest score around that time
	SharedLabels int               // labels with the same value as the anomaly's series
	AnomalyID    string            // its own anomaly, "" when it raised none
}

// Explain says why an anomaly is one. What else moved is known of anomalies for
// as long as they are stored, and of scores that raised none for as long as
// the engine remembers them: some hundred high scores of each detector.
func (e *Engine) Explain(ctx context.Context, anomalyID string) (Explanation, error) {
	a, err := e.store.Anomaly(ctx, anomalyID)
	if err != nil {
		return Explanation{}, err
	}
	out := Explanation{Anomaly: a}
	out.Evidence, err = e.store.Evidence(ctx, anomalyID)
	switch {
	case err == nil:
		if out.Recomputed, err = Recompute(out.Evidence); err != nil {
			return out, err
		}
		if at := msTime(out.Evidence.Peak.T); !at.Equal(a.PeakAt) && out.Recomputed.Reproduced {
			out.Recomputed.Difference = fmt.Sprintf("the evidence is that of an earlier peak, at %s", at.Format(time.RFC3339))
		}
	case model.KindOf(err) == model.KindNotFound:
		out.Recomputed.Difference = "no evidence was stored for this anomaly"
		if a.FiredAt.IsZero() {
			out.Recomputed.Difference = "no evidence is stored of what never became an alarm"
		}
	default:
		return out, err
	}
	out.Summary, out.Probability = summary(a, out.Evidence.Model), probability(a, out.Recomputed.Extrapolated)
	if out.AlsoMoved, err = e.alsoMoved(ctx, a); err != nil {
		return out, err
	}
	if out.Similar, err = e.similar(ctx, a, out.Evidence); err != nil {
		return out, err
	}
	versions, err := e.store.ModelVersions(ctx, a.DetectorID)
	if err != nil {
		return out, fmt.Errorf("reading model versions: %w", err)
	}
	for _, v := range versions {
		if v.Version == a.ModelVersion {
			out.Model = v
		}
	}
	return out, nil
}

// alsoMoved lists what else had high scores around the peak of a. A shared
// label counts as much as a score ten times rarer, and so does being at the same
// time instead of five minutes away. Scores count up to mostMoved, so that fixed bounds,
// whose scores are no surprises, do not stand above everything.
func (e *Engine) alsoMoved(ctx context.Context, a model.Anomaly) ([]Moved, error) {
	peak := a.PeakAt.UnixMilli()
	around := (5 * time.Minute).Milliseconds()
	found := map[string]Moved{}
	add := func(m Moved) {
		id := m.DetectorID + m.Series.Key()
		if m.DetectorID == a.DetectorID && m.Series.Key() == a.Series.Key() {
			return
		}
		if old, ok := found[id]; ok && old.Point.Score >= m.Point.Score {
			return
		}
		m.SharedLabels = sharedLabels(a.Series, m.Series)
		found[id] = m
	}
	bounded, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	for _, r := range e.all() {
		for _, m := range r.movedAround(bounded, peak, around) {
			add(m)
		}
	}
	near, err := e.store.AnomaliesBetween(ctx, "", msTime(peak-3*around), msTime(peak+around), 200)
	if err != nil {
		return nil, fmt.Errorf("reading anomalies: %w", err)
	}
	for _, n := range near {
		add(Moved{DetectorID: n.DetectorID, DetectorName: n.DetectorName, Series: n.Series, AnomalyID: n.ID,
			Point: model.ScoredPoint{T: n.PeakAt.UnixMilli(), Value: n.Value, Expected: n.Expected, Lower: n.Lower, Upper: n.Upper,
				Score: n.Score, Anomalous: true}})
	}
	out := make([]Moved, 0, len(found))
	for _, m := range found {
		out = append(out, m)
	}
	weight := func(m Moved) float64 {
		return min(m.Point.Score, mostMoved) + float64(m.SharedLabels) - math.Abs(float64(m.Point.T-peak))/float64(around)
	}
	slices.SortFunc(out, func(x, y Moved) int {
		if c := cmp.Compare(weight(y), weight(x)); c != 0 {
			return c
		}
		return cmp.Compare(x.DetectorID+x.Series.Key(), y.DetectorID+y.Series.Key())
	})
	return out[:min(len(out), maxMoved)], nil
}

// movedAround returns the remembered high scores around a time. A detector
// that is being scored for long is left out.
func (r *runner) movedAround(ctx context.Context, t, around int64) []Moved {
	if r.turn.lockCtx(ctx) != nil {
		return nil
	}
	defer r.turn.unlock()
	if r.core == nil {
		return nil
	}
	d := r.core.def.detector
	var out []Moved
	for _, n := range r.core.notable {
		if n.point.T < t-around || n.point.T > t+around {
			continue
		}
		labels, err := model.ParseSeriesKey(n.key)
		if err != nil {
			panic("BUG: a series key cannot be read back: " + err.Error())
		}
		out = append(out, Moved{DetectorID: d.ID, DetectorName: d.Name, Series: labels, Point: n.point})
	}
	return out
}

// sharedLabels counts the labels, the metric name aside, that both have with
// the same value.
func sharedLabels(a, b model.Labels) int {
	n := 0
	for _, l := range a {
		if l.Name != model.MetricName && b.Value(l.Name) == l.Value {
			n++
		}
	}
	return n
}
