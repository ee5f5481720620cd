package storetest

import (
	"bytes"
	"testing"
	"time"

	"aiops/internal/model"
)

// logs checks what is kept for the templates of log lines and of the lines of
// anomalies.
func logs(t *testing.T, fresh FreshFunc) {
	s := setup(t, fresh)
	if state := must(s.LogState(t.Context()))(t); state != nil {
		t.Fatalf("a new store has the state %q", state)
	}
	for _, state := range [][]byte{[]byte("one"), {}, bytes.Repeat([]byte("long\x00\xff"), 500_000)} {
		ok(t, s.SaveLogState(t.Context(), state))
		if got := must(s.LogState(t.Context()))(t); !bytes.Equal(got, state) {
			t.Fatalf("%d bytes were kept, %d come back", len(state), len(got))
		}
	}

	none := must(s.LogDecisions(t.Context(), 0))(t)
	if len(none) != 0 {
		t.Fatalf("a new store has the decisions %v", none)
	}
	for i, data := range []string{"first", "second \x00\xff", "third"} {
		if id := must(s.AppendLogDecision(t.Context(), []byte(data)))(t); id != int64(i+1) {
			t.Fatalf("decision %d has the number %d", i+1, id)
		}
	}
	same(t, must(s.LogDecisions(t.Context(), 1))(t), []model.LogDecision{{ID: 2, Data: []byte("second \x00\xff")}, {ID: 3, Data: []byte("third")}})
	same(t, len(must(s.LogDecisions(t.Context(), 3))(t)), 0)

	rule := &model.LogRule{Kind: model.LogPatternKind, Pattern: `a|b`, Severity: model.SeverityCritical}
	d := must(s.CreateDetector(t.Context(), model.Detector{Name: "lines", Source: "builtin", Query: `{service="a"}`, Step: 30 * time.Second,
		Model: "auto", FalseAlarmsPerWeek: 1, Enabled: true, Log: rule}))(t)
	same(t, must(s.Detector(t.Context(), d.ID))(t).Log, rule)

	evidence := model.LogEvidence{
		Patterns: []model.LogPattern{{ID: "00000000000000ff", Template: "disk <*> failed", Examples: []string{"disk 7 failed\x1b[0m"}, FirstSeen: base}},
		During:   []model.LogLine{{T: base.UnixNano(), Stream: model.Labels{{Name: "service", Value: "a"}}, Text: "disk 7 failed \xff"}},
		Related:  []model.LogRelated{{Template: "00000000000000fe", Correlation: -0.75}}, Truncated: true,
	}
	wantKind(t, s.SaveLogEvidence(t.Context(), "none", evidence), model.KindNotFound)
	a := newAnomaly(d, "ano_logs", 1, map[string]string{"service": "a"})
	commit(t, s, model.EventAnomalyOpened, a)
	_, err := s.LogEvidence(t.Context(), a.ID)
	wantKind(t, err, model.KindNotFound)
	ok(t, s.SaveLogEvidence(t.Context(), a.ID, evidence))
	same(t, must(s.LogEvidence(t.Context(), a.ID))(t), evidence)
	evidence.After = evidence.During
	ok(t, s.SaveLogEvidence(t.Context(), a.ID, evidence))
	same(t, must(s.LogEvidence(t.Context(), a.ID))(t), evidence)
}
