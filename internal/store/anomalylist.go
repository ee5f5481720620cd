package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"aiops/internal/model"
)

var anomalySorts = map[string]sortKey{
	"started_at": {column: "started_at"},
	"score":      {column: "score", float: true},
}

// maxMatchers bounds the work of one list.
const maxMatchers = 20

// Anomalies returns one page of the anomalies that filter selects, and the cursor of
// the page after it, "" on the last one. What is added or resolved meanwhile
// makes no other anomaly appear twice or not at all. A page can hold fewer than
// Limit, even none, and still have a cursor: a filter that few match is searched
// in steps, so that no page takes long.
func (s *Store) Anomalies(ctx context.Context, filter model.AnomalyFilter) ([]model.Anomaly, string, error) {
	f := anomalyFilter(filter)
	if err := f.validate(); err != nil {
		return nil, "", err
	}
	p, err := s.newPage("anomalies", anomalySorts, "-started_at", f.Sort, f.Cursor, f.Limit, f.parts()...)
	if err != nil {
		return nil, "", err
	}
	found, next, err := s.anomalyPage(ctx, f, p)
	if err != nil {
		return nil, "", s.wrap(err, "listing anomalies")
	}
	out, err := toAnomalies(found)
	return out, next, err
}

// anomalyFilter is a filter with what a list needs to know of it.
type anomalyFilter model.AnomalyFilter

func (f anomalyFilter) validate() error {
	var v model.Invalid
	if len(f.Matchers) > maxMatchers {
		v.Add("/matchers", "too_many", "%d matchers are given; at most %d are possible", len(f.Matchers), maxMatchers)
	}
	checkQuery(&v, f.Query)
	for _, st := range f.State {
		if stateRank(string(st)) == 0 {
			v.Add("/state", "unknown_state", "%q is not a state of an anomaly; use pending, firing or resolved", st)
		}
	}
	for _, sev := range f.Severity {
		if sev != model.SeverityInfo && sev != model.SeverityWarning && sev != model.SeverityCritical {
			v.Add("/severity", "unknown_severity", "%q is not a severity; use info, warning or critical", sev)
		}
	}
	switch f.Label {
	case "", "true", "false", "none":
	default:
		v.Add("/label", "unknown_label", "%q is not a label; use true, false or none", f.Label)
	}
	return v.Err(model.SubjectAnomaly)
}

// maxQuery bounds the text that is searched for.
const maxQuery = 2000

func checkQuery(v *model.Invalid, q string) {
	if len(q) > maxQuery {
		v.Add("/query", "too_long", "the text searched for has %d bytes; at most %d are possible", len(q), maxQuery)
	}
}

// label returns the number of the label that is asked for.
func (f anomalyFilter) label() int {
	switch f.Label {
	case "true":
		return labelTrue
	case "false":
		return labelFalse
	}
	return labelNone
}

// openOnly reports whether only open episodes are asked for.
func (f anomalyFilter) openOnly() bool {
	return len(f.State) > 0 && !slices.Contains(f.State, model.AnomalyResolved)
}

// AnomaliesBetween returns the anomalies of a detector, or of every detector
// when detectorID is "", that were open at some time between from and to, both
// included, newest first and at most limit of them (0: 1,000).
func (s *Store) AnomaliesBetween(ctx context.Context, detectorID string, from, to time.Time, limit int) ([]model.Anomaly, error) {
	if limit <= 0 {
		limit = maxLimit
	}
	f := model.AnomalyFilter{DetectorID: detectorID, From: from, Limit: min(limit, maxLimit)}
	if !to.IsZero() {
		f.To = to.Add(time.Millisecond)
	}
	var out []model.Anomaly
	for {
		page, next, err := s.Anomalies(ctx, f)
		if err != nil {
			return nil, err
		}
		out = append(out, page[:min(len(page), limit-len(out))]...)
		if next == "" || len(out) == limit {
			return out, nil
		}
		f.Cursor = next
	}
}

// parts lists everything that a cursor is bound to.
func (f anomalyFilter) parts() []string {
	parts := []string{f.DetectorID, fmt.Sprint(f.State), fmt.Sprint(f.Severity), f.Label, optional(f.Acknowledged),
		strconv.FormatInt(toMillis(f.From), 10), strconv.FormatInt(toMillis(f.To), 10), f.Query}
	for _, m := range sortedMatchers(f.Matchers) {
		parts = append(parts, m.Name, m.Value)
	}
	return parts
}

func sortedMatchers(m map[string]string) []model.Label {
	out := make([]model.Label, 0, len(m))
	for n, v := range m {
		out = append(out, model.Label{Name: cleanText(n), Value: cleanText(v)})
	}
	slices.SortFunc(out, func(a, b model.Label) int { return strings.Compare(a.Name, b.Name) })
	return out
}
