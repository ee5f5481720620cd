package logs

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"time"

	"aiops/internal/logmine"
	"aiops/internal/model"
)

// Bounds of the evidence of an anomaly.
const (
	evidenceLines    = 5 // before, during and after each
	evidencePage     = 500
	evidencePatterns = 10
	evidenceBefore   = 10 * time.Minute
	relatedAround    = 10 * time.Minute
	relatedSeries    = 2000
	relatedAtMost    = 5
	leastCorrelation = 0.7
)

// FindEvidence finds the lines that an anomaly of a detector on logs is about,
// those before and after it, and the templates that moved with it. It answers
// with what there is: lines that were given up, or are not there yet, are
// missing. Lines are cut to 2 KiB.
func (s *Stage) FindEvidence(ctx context.Context, d model.Detector, a model.Anomaly, search SearchFunc, db SeriesReader) (model.LogEvidence, error) {
	e := evidenceOf{Stage: s, d: d, a: a, search: search}
	var out model.LogEvidence
	if err := e.prepare(); err != nil {
		return out, err
	}
	out.Patterns = e.patterns()
	var err error
	end := e.until()
	if out.During, out.Truncated, err = e.lines(ctx, e.from, end, false); err != nil {
		return out, err
	}
	if out.Before, _, err = e.lines(ctx, e.from-int64(evidenceBefore), e.from, true); err != nil {
		return out, err
	}
	if now := s.now().UnixNano(); end < now {
		if out.After, _, err = e.lines(ctx, end, min(now, end+int64(evidenceBefore)), false); err != nil {
			return out, err
		}
	}
	if out.Related, err = e.related(ctx, db); err != nil {
		return out, err
	}
	return out, nil
}

type evidenceOf struct {
	*Stage
	d        model.Detector
	a        model.Anomaly
	search   SearchFunc
	from     int64 // nanoseconds: begin of the first anomalous step
	selector model.Selector
	ids      []string // templates the anomaly is about
	find     *regexp.Regexp
}

// prepare finds the streams, templates and expression of the anomaly.
func (e *evidenceOf) prepare() error {
	e.from = e.a.StartedAt.Add(-e.d.Step).UnixNano()
	rule := *e.d.Log
	if e.d.Source != model.BuiltinSource {
		e.selector = nil // the followed query selects the lines
	} else {
		e.mu.Lock()
		for _, name := range e.cfg.KeepLabels {
			if v := e.a.Series.Value(SeriesLabel(name)); v != "" {
				e.selector = append(e.selector, model.Matcher{Name: name, Op: model.MatchEqual, Value: v})
			}
		}
		e.mu.Unlock()
		if e.a.Series.Value(labelOverflow) != "" {
			e.selector = nil
		}
	}
	switch rule.Kind {
	case model.LogPatternKind:
		var err error
		if e.find, err = regexp.Compile(rule.Pattern); err != nil {
			return fmt.Errorf("compiling the pattern of a detector: %w", err)
		}
	case model.LogTemplate:
		if id := e.a.Series.Value(labelTemplate); id != "" && id != otherTemplate {
			e.ids = []string{id}
			if ids, err := e.IDs(id); err == nil {
				e.ids = ids
			}
		}
	case model.LogNewTemplate:
		e.ids = e.newTemplates()
	}
	return nil
}

// newTemplates returns the ids that were first seen while the anomaly lasted.
func (e *evidenceOf) newTemplates() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []string
	end := e.until()
	for _, g := range e.groupsOf() {
		for id := range g.known {
			if n := e.notes[id]; n != nil && n.first >= e.from-bucketNS && n.first < end+bucketNS {
				out = append(out, n.text)
			}
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(len(out), 100)]
}

// groupsOf returns the groups of the anomaly's series.
func (e *evidenceOf) groupsOf() []*group {
	f := e.feeds[feedKeyOf(e.d)]
	if f == nil {
		return nil
	}
	var out []*group
	for _, g := range f.groups {
		same := true
		for _, l := range g.base {
			same = same && e.a.Series.Value(l.Name) == l.Value
		}
		if same {
			out = append(out, g)
		}
	}
	return out
}

// until is when the anomaly ended, or its newest known moment.
func (e *evidenceOf) until() int64 {
	if !e.a.ResolvedAt.IsZero() {
		return e.a.ResolvedAt.UnixNano()
	}
	return max(e.a.UpdatedAt.UnixNano(), e.a.PeakAt.UnixNano(), e.a.StartedAt.UnixNano())
}

// patterns describes the templates of the anomaly, the largest first.
func (e *evidenceOf) patterns() []model.LogPattern {
	e.mu.Lock()
	defer e.mu.Unlock()
	at := e.streamsOf()
	var out []model.LogPattern
	for _, id := range e.ids {
		parsed, err := logmine.ParseID(id)
		if err != nil {
			continue
		}
		if t, ok := e.miner.Template(parsed); ok && !slices.ContainsFunc(out, func(p model.LogPattern) bool { return p.ID == t.ID.String() }) {
			out = append(out, e.pattern(t, at[t.ID]))
		}
	}
	slices.SortStableFunc(out, func(a, b model.LogPattern) int { return cmp.Compare(b.Count, a.Count) })
	return out[:min(len(out), evidencePatterns)]
}

// lines returns a few lines of a range, oldest first; with late the newest of
// them, else the oldest. It reports whether it had to stop looking.
func (e *evidenceOf) lines(ctx context.Context, from, to int64, late bool) ([]model.LogLine, bool, error) {
	f := model.LogFilter{From: from, To: to, Selector: e.selector, OldestFirst: !late, Limit: evidencePage}
	if e.d.Source == model.BuiltinSource && len(e.ids) > 0 && e.d.Log.Kind != model.LogNewTemplate {
		f.Templates = e.ids
	}
	if e.d.Log.Kind == model.LogLevelRatio {
		f.Level = model.LevelError
	}
	if e.d.Log.Kind == model.LogNewTemplate && !late && e.d.Source == model.BuiltinSource {
		f.Templates = e.ids // before it, what was usual is shown
		if len(e.ids) == 0 {
			return nil, false, nil
		}
	}
	found, more, err := e.search(ctx, e.d.Source, e.d.Query, f)
	if err != nil {
		return nil, false, fmt.Errorf("looking for the lines of an anomaly: %w", err)
	}
	var out []model.LogLine
	for _, l := range found {
		if e.find != nil && !e.find.MatchString(l.Text[:min(len(l.Text), mostRuleBytes)]) {
			continue
		}
		const most = 2 << 10
		if len(l.Text) > most {
			l.Text, l.Cut = cleanText(l.Text, most), true
		}
		l.Message = ""
		if out = append(out, l); len(out) == evidenceLines {
			break
		}
	}
	if late {
		slices.Reverse(out)
	}
	return out, more != "" && len(out) < evidenceLines, nil
}

// related finds the templates whose counts moved with the series of the
// anomaly, by the correlation of their counts per bucket around it.
func (e *evidenceOf) related(ctx context.Context, db SeriesReader) ([]model.LogRelated, error) {
	from := time.Unix(0, e.from).Add(-relatedAround).Truncate(model.LogBucket)
	to := time.Unix(0, min(e.until()+int64(relatedAround/2), e.now().UnixNano())).Truncate(model.LogBucket)
	// What is not counted yet is not nothing.
	key := feedKeyOf(e.d)
	if written := e.Written(key.source, key.query); written > 0 && written < to.UnixMilli() {
		to = time.UnixMilli(written)
	}
	if e.a.PeakAt.Sub(from) > 6*time.Hour || !from.Before(to) {
		return nil, nil
	}
	own, err := e.ownCounts(ctx, db, from, to)
	if err != nil || own == nil {
		return nil, err
	}
	selector := model.Selector{{Name: labelSource, Op: model.MatchEqual, Value: e.d.Source}}
	if e.d.Source != model.BuiltinSource {
		selector = append(selector, model.Matcher{Name: labelQuery, Op: model.MatchEqual, Value: queryHash(e.d.Query)})
	}
	all, err := db.QueryRange(ctx, metricTemplate+selector.String(), from, to, model.LogBucket, relatedSeries)
	if model.KindOf(err) == model.KindQuery {
		return nil, nil // too many series to compare
	}
	if err != nil {
		return nil, fmt.Errorf("reading what moved together: %w", err)
	}
	var out []model.LogRelated
	for _, one := range all {
		id := one.Labels.Value(labelTemplate)
		if slices.Contains(e.ids, id) || id == otherTemplate {
			continue
		}
		if r := correlation(own, spread(one.Samples, from, to)); math.Abs(r) >= leastCorrelation {
			out = append(out, model.LogRelated{Series: one.Labels, Template: id, Correlation: r})
		}
	}
	slices.SortFunc(out, func(a, b model.LogRelated) int {
		return cmp.Or(cmp.Compare(math.Abs(b.Correlation), math.Abs(a.Correlation)), cmp.Compare(a.Series.Key(), b.Series.Key()))
	})
	out = out[:min(len(out), relatedAtMost)]
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range out {
		if id, err := logmine.ParseID(out[i].Template); err == nil {
			if t, ok := e.miner.Template(id); ok {
				out[i].Text = t.Text
			}
		}
	}
	return out, nil
}

// ownCounts returns the counts that the anomaly is about, one per bucket.
func (e *evidenceOf) ownCounts(ctx context.Context, db SeriesReader, from, to time.Time) ([]float64, error) {
	metric := metricLines
	switch e.d.Log.Kind {
	case model.LogTemplate, model.LogNewTemplate:
		metric = metricTemplate
	case model.LogPatternKind:
		metric = metricRule
	case model.LogLevelRatio:
		metric = metricSevere
	}
	var selector model.Selector
	for _, l := range e.a.Series {
		if l.Name != model.MetricName {
			selector = append(selector, model.Matcher{Name: l.Name, Op: model.MatchEqual, Value: l.Value})
		}
	}
	found, err := db.QueryRange(ctx, metric+selector.String(), from, to, model.LogBucket, relatedSeries)
	if model.KindOf(err) == model.KindQuery {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the counts of an anomaly: %w", err)
	}
	var sum []float64
	for _, one := range found {
		if e.d.Log.Kind == model.LogNewTemplate && !slices.Contains(e.ids, one.Labels.Value(labelTemplate)) {
			continue
		}
		values := spread(one.Samples, from, to)
		if sum == nil {
			sum = values
			continue
		}
		for i := range sum {
			sum[i] += values[i]
		}
	}
	return sum, nil
}

// spread puts samples into one place per bucket; what is missing is 0.
func spread(samples []model.Sample, from, to time.Time) []float64 {
	step := model.LogBucket.Milliseconds()
	out := make([]float64, (to.UnixMilli()-from.UnixMilli())/step+1)
	for _, p := range samples {
		if i := (p.T - from.UnixMilli()) / step; i >= 0 && i < int64(len(out)) {
			out[i] = p.V
		}
	}
	return out
}

// correlation is Pearson's, 0 when one side does not vary. It takes the means off
// first: of large counts that vary by little, sums of squares would leave
// nothing but rounding.
func correlation(x, y []float64) float64 {
	var mx, my float64
	for i := range x {
		mx, my = mx+x[i], my+y[i]
	}
	mx, my = mx/float64(max(1, len(x))), my/float64(max(1, len(y)))
	var vx, vy, both float64
	for i := range x {
		dx, dy := x[i]-mx, y[i]-my
		vx, vy, both = vx+dx*dx, vy+dy*dy, both+dx*dy
	}
	if vx <= 1e-18*mx*mx || vy <= 1e-18*my*my {
		return 0
	}
	return both / math.Sqrt(vx*vy)
}

// Describe names the pattern that an anomaly is about in a few words, or
// returns "" when it is about none.
func (s *Stage) Describe(d model.Detector, a model.Anomaly) string {
	e := evidenceOf{Stage: s, d: d, a: a}
	if d.Log == nil || e.prepare() != nil {
		return ""
	}
	found := e.patterns()
	if len(found) == 0 {
		return ""
	}
	const most = 160
	text := found[0].Template
	if found[0].Name != "" {
		text = found[0].Name
	}
	if len(text) > most {
		text = cleanText(text, most) + "…"
	}
	if len(found) > 1 {
		return fmt.Sprintf("%q and %d more", text, len(found)-1)
	}
	return fmt.Sprintf("%q", text)
}
