package logs

import (
	"context"
	"fmt"
	"slices"
	"time"

	"aiops/internal/model"
)

// Detector is a source as the pipeline asks for one: the series of one detector
// on logs. Its queries are the detector's selector.
type Detector struct {
	stage  *Stage   // nil: nobody counts at the moment
	keep   []string // labels by which lines are counted
	rule   model.LogRule
	key    feedKey
	db     SeriesReader
	health func() model.SourceHealth
	late   time.Duration
}

// Detector returns the series of a detector, whose Log is set. Health is that
// of where its lines come from, and late how late they may come from there.
func (s *Stage) Detector(d model.Detector, db SeriesReader, health func() model.SourceHealth, late time.Duration) *Detector {
	return &Detector{stage: s, keep: s.cfg.KeepLabels, rule: *d.Log, key: feedKeyOf(d), db: db, health: health, late: late}
}

// History is the series of a detector on logs where no stage runs: what was
// counted so far.
func History(cfg Config, d model.Detector, db SeriesReader) *Detector {
	return &Detector{keep: cfg.withDefaults().KeepLabels, rule: *d.Log, key: feedKeyOf(d), db: db, late: cfg.withDefaults().Lateness.Std(),
		health: func() model.SourceHealth { return model.SourceHealth{State: model.SourceUp} }}
}

// Health returns the health of where the lines come from, and degraded or down
// when their counts are not written.
func (d *Detector) Health() model.SourceHealth {
	h := d.health()
	if d.stage == nil {
		return h
	}
	behind := time.Duration(d.stage.behind(d.key)) * model.LogBucket
	if h.State.Usable() && behind > time.Minute {
		h.State, h.LastError = model.SourceDown, "the counts of log lines are not written"
	}
	return h
}

// behind returns how many closed buckets of a feed are not written.
func (s *Stage) behind(key feedKey) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.feeds[key]; f != nil {
		return len(f.waiting)
	}
	return 0
}

// LateData returns how late counts are: the lateness of lines, and the second
// in which a bucket is closed and written.
func (d *Detector) LateData() time.Duration {
	if d.stage == nil {
		return d.late
	}
	return d.late + d.stage.cfg.Lateness.Std() + time.Second
}

// waitAtMost is how long a query waits for the counts of its last step.
const waitAtMost = 15 * time.Second

// QueryRange evaluates the detector's series at each step. It waits for counts
// that are about to be written, and never returns a step whose counts may still
// change.
func (d *Detector) QueryRange(ctx context.Context, query string, start, end time.Time, step time.Duration, maxSeries int) ([]model.SeriesData, error) {
	promql, err := d.promql(query, step)
	if err != nil {
		return nil, err
	}
	if d.stage != nil {
		if err := d.wait(ctx, end.UnixMilli()); err != nil {
			return nil, err
		}
	}
	return d.db.QueryRange(ctx, promql, start, end, step, maxSeries)
}

func (d *Detector) wait(ctx context.Context, end int64) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(waitAtMost)
	defer limit.Stop()
	for {
		// The newest bucket that the step needs ends with the step.
		if d.stage.Written(d.key.source, d.key.query) >= end-end%model.LogBucket.Milliseconds() {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-limit.C:
			return model.Errorf(model.KindSourceUnavailable, model.SubjectSource, "the lines of %s are not counted up to this step yet", d.key.source)
		}
	}
}

// promql translates what the detector watches.
func (d *Detector) promql(query string, step time.Duration) (string, error) {
	selector, err := selectorOf(d.keep, d.key.source, query)
	if err != nil {
		return "", err
	}
	over := func(function, metric string, more ...model.Matcher) string {
		return fmt.Sprintf("%s(%s%s[%ds])", function, metric, slices.Concat(selector, more), int(step.Seconds()))
	}
	switch d.rule.Kind {
	case model.LogTemplate:
		if d.rule.Template != "" {
			return over("sum_over_time", metricTemplate, model.Matcher{Name: labelTemplate, Op: model.MatchEqual, Value: d.rule.Template}), nil
		}
		return over("sum_over_time", metricTemplate), nil
	case model.LogNewTemplate:
		// The surprise is that of a bucket; a step has several chances.
		return fmt.Sprintf("clamp_min(%s - %.6g, 0)", over("max_over_time", metricNovelty), logBuckets(step)), nil
	case model.LogRate:
		return over("sum_over_time", metricLines), nil
	case model.LogLevelRatio:
		// With few lines a single error would be a large share.
		return fmt.Sprintf("%s / clamp_min(%s, 10)", over("sum_over_time", metricSevere), over("sum_over_time", metricLines)), nil
	case model.LogMix:
		return over("avg_over_time", metricMix), nil
	case model.LogPatternKind:
		return over("sum_over_time", metricRule, model.Matcher{Name: labelPattern, Op: model.MatchEqual, Value: hash16(d.rule.Pattern)}), nil
	}
	return "", model.Errorf(model.KindQuery, model.SubjectDetector, "the kind %q of a detector on logs is not known", d.rule.Kind)
}

// CheckQuery says whether lines can be counted for a query: one of the embedded
// source is a selector of labels by which lines are counted.
func (s *Stage) CheckQuery(source, query string) error {
	_, err := selectorOf(s.cfg.KeepLabels, source, query)
	return err
}

// selectorOf translates the query of a detector into labels of the series.
func selectorOf(keep []string, source, query string) (model.Selector, error) {
	out := model.Selector{{Name: labelSource, Op: model.MatchEqual, Value: source}}
	if source != model.BuiltinSource {
		return append(out, model.Matcher{Name: labelQuery, Op: model.MatchEqual, Value: queryHash(query)}), nil
	}
	asked, err := model.ParseSelector(query)
	if err != nil {
		return nil, err
	}
	for _, m := range asked {
		if !slices.Contains(keep, m.Name) && m.Name != labelOverflow {
			return nil, &model.Error{Kind: model.KindQuery, Subject: model.SubjectDetector,
				Message: fmt.Sprintf("lines are not counted by the label %q; choose one of %v, or add it to log_counts.keep_labels", cleanText(m.Name, 80), keep),
				Fields:  []model.FieldError{{Pointer: "/query", Code: "label", Detail: fmt.Sprintf("lines are not counted by the label %q", cleanText(m.Name, 80))}}}
		}
		m.Name = SeriesLabel(m.Name)
		out = append(out, m)
	}
	return out, nil
}
