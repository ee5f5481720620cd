package storetest

import (
	"testing"
	"time"

	"aiops/internal/model"
	"aiops/internal/store"
)

// leases: a detector has one owner at a time, and a former one cannot write.
func leases(t *testing.T, fresh FreshFunc) {
	cfg := fresh(t)
	first, err := store.Open(t.Context(), cfg, discard(), nil)
	ok(t, err)
	d, other := newDetector(t, first, "a"), newDetector(t, first, "b")
	_, err = first.TakeLeases(t.Context(), []string{d.ID})
	if !model.IsDeposed(err) {
		t.Fatalf("a node that has not joined took a lease: %v", err)
	}
	before := must(first.NodesState(t.Context()))(t)
	if mine := must(first.RenewNode(t.Context(), "host", time.Minute, true))(t); !mine {
		t.Fatal("the first node did not join")
	}
	if now := must(first.NodesState(t.Context()))(t); now == before {
		t.Error("a node that joined is not seen")
	}
	tokens := must(first.TakeLeases(t.Context(), []string{other.ID, d.ID, "det_unknown"}))(t)
	same(t, tokens, map[string]int64{d.ID: 1, other.ID: 1})
	same(t, must(first.TakeLeases(t.Context(), []string{d.ID}))(t), map[string]int64{})
	if mine := must(first.RenewNode(t.Context(), "host", time.Minute, false))(t); !mine {
		t.Error("the node could not renew its lease")
	}
	ok(t, first.ReportLeases(t.Context(), []model.LeaseReport{{DetectorID: other.ID, Token: 1, Report: []byte("b")},
		{DetectorID: d.ID, Token: 1, Report: []byte("a")}, {DetectorID: "det_unknown", Token: 1}}))
	owner := first.WithFence(t.Context(), d.ID, 1)
	ok(t, first.CommitAnomalies(owner, []model.AnomalyChange{{Anomaly: newAnomaly(d, "an_1", 0, nil), Event: model.EventAnomalyOpened}}))
	ok(t, first.SaveSnapshot(owner, model.Snapshot{DetectorID: d.ID, ModelVersion: 1, Watermark: 1}))
	c := must(first.Cluster(t.Context()))(t)
	name, instance := first.Node()
	if len(c.Nodes) != 1 || c.Nodes[0].Name != name || c.Nodes[0].Instance != instance || !c.Nodes[0].Live || c.Nodes[0].Leaving || c.Nodes[0].Host != "host" {
		t.Errorf("nodes %+v", c.Nodes)
	}
	for _, l := range c.Leases {
		want := map[string]string{d.ID: "a", other.ID: "b"}[l.DetectorID]
		if l.Instance != instance || l.Token != 1 || string(l.Report) != want || l.ReportAge > 20*time.Second {
			t.Errorf("lease %+v", l)
		}
	}
	ok(t, first.LeavingNode(t.Context()))
	if c := must(first.Cluster(t.Context()))(t); !c.Nodes[0].Leaving || !c.Nodes[0].Live {
		t.Errorf("a leaving node: %+v", c.Nodes)
	}
	ok(t, first.Close()) // as after a crash: nothing is released

	second := open(t, cfg)
	if mine := must(second.RenewNode(t.Context(), "host", time.Minute, true))(t); !mine {
		t.Fatal("the next life of a node did not take its place")
	}
	same(t, must(second.TakeLeases(t.Context(), []string{d.ID}))(t), map[string]int64{d.ID: 2})
	seen := last(t, second)
	stale := second.WithFence(t.Context(), d.ID, 1)
	changed := newAnomaly(d, "an_1", 0, nil)
	changed.State, changed.ResolvedAt = model.AnomalyResolved, base.Add(time.Hour)
	for what, err := range map[string]error{
		"anomalies":       second.CommitAnomalies(stale, []model.AnomalyChange{{Anomaly: changed, Event: model.EventAnomalyResolved}}),
		"a snapshot":      second.SaveSnapshot(stale, model.Snapshot{DetectorID: d.ID, ModelVersion: 1, Watermark: 2}),
		"a model version": second.SaveModelVersion(stale, model.ModelVersion{DetectorID: d.ID, Version: 1, State: model.ModelActive}),
		"a shadow":        second.DiscardShadow(stale, d.ID, 0, "x"),
	} {
		if !model.IsDeposed(err) {
			t.Errorf("a former owner wrote %s: %v", what, err)
		}
	}
	if got := must(second.Anomaly(t.Context(), "an_1"))(t); got.State != model.AnomalyFiring || last(t, second) != seen {
		t.Errorf("a former owner changed %+v", got)
	}
	// The control: without the fence the same write gets through.
	ok(t, second.CommitAnomalies(t.Context(), []model.AnomalyChange{{Anomaly: changed, Event: model.EventAnomalyResolved}}))
	if got := must(second.Anomaly(t.Context(), "an_1"))(t); got.State != model.AnomalyResolved {
		t.Errorf("control: the write without a fence did nothing: %+v", got)
	}
	ok(t, second.ReportLeases(t.Context(), []model.LeaseReport{{DetectorID: d.ID, Token: 1, Report: []byte("stale")}}))
	ok(t, second.ReleaseLeases(t.Context(), map[string]int64{d.ID: 1})) // not its token: left alone
	for _, l := range must(second.Cluster(t.Context()))(t).Leases {
		if l.DetectorID == d.ID && (string(l.Report) != "a" || l.Instance == "") {
			t.Errorf("a former owner changed the lease: %+v", l)
		}
	}
	ok(t, second.ReleaseLeases(t.Context(), map[string]int64{d.ID: 2}))
	same(t, must(second.TakeLeases(t.Context(), []string{d.ID, other.ID}))(t), map[string]int64{d.ID: 3, other.ID: 2})
	ok(t, second.DeleteDetector(t.Context(), other.ID, 0))
	ok(t, second.LeaveNode(t.Context()))
	c = must(second.Cluster(t.Context()))(t)
	if c.Nodes[0].Live || len(c.Leases) != 1 || c.Leases[0].Instance != "" {
		t.Errorf("after leaving: %+v", c)
	}
}
