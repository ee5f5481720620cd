package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"aiops/internal/model"
)

// longRun skips a test that takes minutes unless AIOPS_LONG is set, and
// returns a directory for its data: the one that AIOPS_LONG names, which then
// stays for the next run, or a temporary one.
func longRun(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("AIOPS_LONG")
	switch {
	case dir == "":
		t.Skip("takes minutes; set AIOPS_LONG=1, or to a directory that keeps the data, to run it")
	case !filepath.IsAbs(dir):
		return t.TempDir()
	}
	return dir
}

// listFilters are what people and pages ask for.
func listFilters(detector string) map[string]model.AnomalyFilter {
	yes, no := true, false
	open := []model.AnomalyState{model.AnomalyPending, model.AnomalyFiring}
	week := time.UnixMilli(seedStart).Add(200 * day)
	return map[string]model.AnomalyFilter{
		"everything":             {},
		"oldest first":           {Sort: "started_at"},
		"by score":               {Sort: "-score"},
		"detector":               {DetectorID: detector},
		"detector by score":      {DetectorID: detector, Sort: "-score"},
		"open":                   {State: open},
		"open by score":          {State: open, Sort: "-score"},
		"open of detector":       {State: open, DetectorID: detector},
		"firing and critical":    {State: open[1:], Severity: []model.Severity{model.SeverityCritical}},
		"resolved":               {State: []model.AnomalyState{model.AnomalyResolved}},
		"critical":               {Severity: []model.Severity{model.SeverityCritical}},
		"two severities":         {Severity: []model.Severity{model.SeverityCritical, model.SeverityWarning}},
		"critical of detector":   {Severity: []model.Severity{model.SeverityCritical}, DetectorID: detector},
		"a week":                 {From: week, To: week.Add(7 * day)},
		"a week of detector":     {From: week, To: week.Add(7 * day), DetectorID: detector},
		"labelled true":          {Label: "true"},
		"not labelled":           {Label: "none"},
		"acknowledged":           {Acknowledged: &yes},
		"not acknowledged":       {Acknowledged: &no},
		"open, not acknowledged": {State: open, Acknowledged: &no},
		"a rare label":           {Matchers: map[string]string{"instance": "host-17"}},
		"a common label":         {Matchers: map[string]string{"job": "job-1"}},
		"two labels":             {Matchers: map[string]string{"job": "job-1", "instance": "host-17"}},
		"a label that is not":    {Matchers: map[string]string{"instance": "nowhere"}},
		"label of detector":      {Matchers: map[string]string{"job": "job-1"}, DetectorID: detector},
		"common text":            {Query: "latency"},
	}
}

// TestListsWalkIndexes reads the plan of every common list: no table is read
// from end to end, and nothing is sorted.
func TestListsWalkIndexes(t *testing.T) {
	t.Parallel()
	s := setup(t)
	d := seedAnomalies(t, s, 200)
	for name, f := range listFilters(d) {
		for _, step := range explainList(t, s, f) {
			if strings.HasPrefix(step, "SCAN") && !strings.Contains(step, "USING INDEX") && !strings.Contains(step, "USING COVERING INDEX") || strings.Contains(step, "TEMP B-TREE") {
				t.Errorf("%s: %s", name, step)
			}
		}
	}
	// The control: what has no index is seen.
	plan := explain(t, s, `SELECT * FROM anomalies WHERE reason = $1 ORDER BY value`, "x")
	if !slices.ContainsFunc(plan, func(p string) bool { return strings.HasPrefix(p, "SCAN anomalies") && !strings.Contains(p, "INDEX") }) ||
		!slices.ContainsFunc(plan, func(p string) bool { return strings.Contains(p, "TEMP B-TREE") }) {
		t.Errorf("a full scan is not seen in %q", plan)
	}
}

func explainList(t *testing.T, s *Store, filter model.AnomalyFilter) []string {
	f := anomalyFilter(filter)
	t.Helper()
	p, err := s.newPage("anomalies", anomalySorts, "-started_at", f.Sort, f.Cursor, f.Limit, f.parts()...)
	if err != nil {
		t.Fatal(err)
	}
	l := &anomalyList{s: s, f: f, p: p}
	l.terms = l.allTerms()
	if err := l.findEarliest(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.choose(t.Context()); err != nil {
		t.Fatal(err)
	}
	query, args, _, err := l.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return explain(t, s, query, args...)
}

func explain(t *testing.T, s *Store, query string, args ...any) []string {
	t.Helper()
	rs, err := s.read.DB.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatalf("%v: %s", err, query)
	}
	defer rs.Close()
	var plan []string
	for rs.Next() {
		var id, parent, unused int
		var detail string
		if err := rs.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		plan = append(plan, detail)
	}
	return plan
}

const seedStart = 1_700_000_000_000

// seedAnomalies writes n anomalies of 200 detectors over 400 days, as a large
// installation has them, and returns the detector with the most.
func seedAnomalies(t testing.TB, s *Store, n int) string {
	t.Helper()
	ctx := context.Background()
	var detectors []model.Detector
	for i := range 200 {
		d, err := s.CreateDetector(ctx, model.Detector{Name: fmt.Sprintf("detector %d latency", i)})
		if err != nil {
			t.Fatal(err)
		}
		detectors = append(detectors, d)
	}
	r := rand.New(rand.NewPCG(1, 1))
	zipf := rand.NewZipf(r, 1.3, 4, 199)
	step := (400 * day).Milliseconds() / int64(n)
	for done := 0; done < n; {
		from := done
		err := s.commit(ctx, "seeding", func(ctx context.Context, tx *tx) error {
			for done = from; done < min(n, from+5000); done++ {
				row, labels := seedRow(r, detectors[zipf.Uint64()], done, n, step)
				if err := tx.insertAnomaly(ctx, row, labels); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return detectors[0].ID
}

func seedRow(r *rand.Rand, d model.Detector, i, n int, step int64) (anomalyRow, model.Labels) {
	at := seedStart + int64(i)*step + r.Int64N(1000)
	labels := model.Labels{{Name: "instance", Value: fmt.Sprintf("host-%d", r.IntN(500))}, {Name: "job", Value: fmt.Sprintf("job-%d", r.IntN(8))},
		{Name: "team", Value: fmt.Sprintf("team-%d", r.IntN(20))}}
	row, err := newAnomalyRow(model.Anomaly{ID: fmt.Sprintf("an_%08x%06x", r.Uint32(), i), DetectorID: d.ID, DetectorName: d.Name, Series: labels,
		State: model.AnomalyResolved, Severity: model.SeverityWarning, StartedAt: fromMillis(at), ResolvedAt: fromMillis(at + 1 + r.Int64N(7_200_000)),
		PeakAt: fromMillis(at), Value: r.Float64(), Score: 4 + r.ExpFloat64()*3, Reason: "above the band by 3.2 times its width", Version: 1})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	switch {
	case i > n-2000 && r.IntN(2) == 0:
		row.State, row.ResolvedAt = "firing", 0
	case r.IntN(100) == 0:
		row.Label = 1 + r.IntN(2)
	}
	if r.IntN(20) == 0 {
		row.AcknowledgedAt, row.AcknowledgedBy = at+1000, "ada"
	}
	if r.IntN(10) == 0 {
		row.Severity = "critical"
	}
	return row, labels
}

// TestRareMatchesAreFoundInSteps lets lists walk in short steps: every match is
// found, no page takes more steps than it may, and pages may be empty.
func TestRareMatchesAreFoundInSteps(t *testing.T) {
	t.Parallel()
	s := setup(t)
	const n, step = 3000, 50
	s.scanStep = step
	d := seedAnomalies(t, s, n)
	var needles []string
	for i, f := range []model.AnomalyFilter{{Sort: "started_at", Limit: 5}, {Sort: "-started_at", Limit: 5}} {
		page, _, err := s.Anomalies(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		id := page[2+i].ID
		needles = append(needles, id)
		if _, err := s.write.DB.ExecContext(t.Context(), `UPDATE anomalies SET reason = 'a NEEDLE', detector_id = $2 WHERE id = $1`, id, d); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []model.AnomalyFilter{{Sort: "started_at"}, {Sort: "-started_at"}, {Sort: "score"}, {Sort: "-score"}, {DetectorID: d}, {DetectorID: d, Sort: "score"}} {
		f.Query = "needle"
		var got []string
		pages := 0
		for {
			page, next, err := s.Anomalies(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range page {
				got = append(got, a.ID)
			}
			pages++
			if f.Cursor = next; next == "" {
				break
			}
		}
		slices.Sort(got)
		want := slices.Sorted(slices.Values(needles))
		if !slices.Equal(got, want) {
			t.Errorf("%+v finds %q, want %q", f, got, want)
		}
		if f.DetectorID == "" && pages < n/(step*scanSteps) {
			t.Errorf("%+v takes only %d pages: it is not cut", f, pages)
		}
	}
}

// TestMillionAnomalies measures every common list at a million anomalies: the
// first page and the nineteen after it. Ten walks are the same, so the best time
// of a page is what it costs and the rest is what else the machine does; both
// are told, the first is judged.
func TestMillionAnomalies(t *testing.T) {
	s := openAt(t, longRun(t))
	found, err := s.AllDetectors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if len(found) == 0 {
		seedAnomalies(t, s, 1_000_000)
		t.Logf("seeded in %v", time.Since(start).Round(time.Second))
		if err := s.Maintain(t.Context(), time.UnixMilli(seedStart)); err != nil {
			t.Fatal(err)
		}
	}
	d, err := s.DetectorByName(t.Context(), "detector 0 latency")
	if err != nil {
		t.Fatal(err)
	}
	size, err := s.SizeBytes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d MiB", size>>20)
	const bar = 25 * time.Millisecond
	for name, f := range listFilters(d.ID) {
		var all, best []time.Duration
		rows := 0
		for walk := range 10 {
			f := f
			for page := range 20 {
				begin := time.Now()
				found, next, err := s.Anomalies(t.Context(), f)
				took := time.Since(begin)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				all = append(all, took)
				if walk == 0 {
					rows += len(found)
					best = append(best, took)
				}
				best[page] = min(best[page], took)
				if f.Cursor = next; next == "" {
					break
				}
			}
		}
		slices.Sort(all)
		slices.Sort(best)
		ms := func(d time.Duration) float64 { return d.Seconds() * 1000 }
		t.Logf("%-24s %2d pages %4d rows: cost p50 %6.2f p99 %6.2f ms; as seen p50 %6.2f p99 %6.2f ms", name, len(best), rows,
			ms(best[len(best)/2]), ms(best[len(best)*99/100]), ms(all[len(all)/2]), ms(all[len(all)*99/100]))
		if p99 := best[len(best)*99/100]; p99 > bar {
			t.Errorf("%s: a page costs %v, the bar is %v", name, p99, bar)
		}
	}
	begin := time.Now()
	page, next, err := s.Anomalies(t.Context(), model.AnomalyFilter{Query: "no such text anywhere"})
	t.Logf("text that is nowhere: %d rows, more %v, in %v (%v)", len(page), next != "", time.Since(begin), err)
}
