// Package storetest is the proof that an engine keeps what package store
// promises: one suite, run on SQLite and on PostgreSQL. Only test files import
// it. It looks at a store from outside, as its users do.
package storetest

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"aiops/internal/model"
	"aiops/internal/store"
)

// FreshFunc returns the configuration of an empty database that belongs to the
// test. Opening it twice, one after the other, opens the same database.
type FreshFunc func(t *testing.T) store.Config

// Run runs the suite on an engine.
func Run(t *testing.T, fresh FreshFunc) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, fresh FreshFunc)
	}{
		{"detectors are created, changed and deleted", detectorsLifecycle},
		{"detectors are versioned", detectorsVersions},
		{"detector names are unique", detectorsUnique},
		{"detectors are listed by page", detectorsPages},
		{"a lost update is refused", lostUpdate},
		{"sources keep their secrets", sourcesLifecycle},
		{"a source in use is not deleted", sourcesInUse},
		{"secrets need their key", masterKeys},
		{"health is an event when it changes", sourceHealth},
		{"anomalies are written once", anomaliesIdempotent},
		{"anomalies only move forward", anomaliesForward},
		{"what people said stays", anomaliesPeople},
		{"every float comes back", anomaliesFloats},
		{"evidence comes back bit for bit", evidence},
		{"a batch of anomalies is all or nothing", anomaliesAtomic},
		{"deleting a detector resolves its anomalies", deleteResolves},
		{"anomalies are filtered", anomaliesFilters},
		{"pages are stable under inserts", anomaliesPages},
		{"altered cursors are refused", cursors},
		{"strange text survives", strangeText},
		{"events have no gaps", eventsGapless},
		{"events match topics", eventsTopics},
		{"events wake readers", eventsSignal},
		{"events are pruned from the front", eventsPrune},
		{"snapshots come back", snapshots},
		{"snapshots are pruned", snapshotsPrune},
		{"model versions have one active", modelVersions},
		{"log templates and lines are kept", logs},
		{"a shadow is kept apart and promoted at once", shadows},
		{"a shadow is discarded", shadowsDiscarded},
		{"a detector has one owner", leases},
		{"known events are created, changed and deleted", knownEvents},
		{"an idempotency key is claimed once", idempotency},
		{"keys are made and revoked", apiKeys},
		{"sessions end with their key", sessions},
		{"the effect of an idempotency key is claimed once", idempotencyEffect},
		{"tasks run", tasksRun},
		{"tasks are cancelled", tasksCancel},
		{"tasks stop and go on", tasksRestart},
		{"tasks of owners", tasksOwned},
		{"everything survives a reopening", reopen},
		{"a failing write does not spoil others", writeIsolation},
		{"writers do not lose updates", concurrentUpdates},
		{"a closed store says so", closed},
		{"a caller that gives up is answered", cancelledCaller},
		{"cleaning up keeps what counts", maintain},
		{"a backup opens", backup},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, fresh)
		})
	}
}

func open(t *testing.T, cfg store.Config) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), cfg, discard(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func setup(t *testing.T, fresh FreshFunc) *store.Store {
	t.Helper()
	return open(t, fresh(t))
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantKind fails unless err is of the given kind.
func wantKind(t *testing.T, err error, kind model.Kind) {
	t.Helper()
	if err == nil || model.KindOf(err) != kind {
		t.Fatalf("error %v of kind %q, want kind %q", err, model.KindOf(err), kind)
	}
}

func same(t *testing.T, got, want any, opts ...cmp.Option) {
	t.Helper()
	opts = append(opts, cmpopts.EquateNaNs(), cmpopts.EquateEmpty(), cmp.Comparer(func(a, b model.Secret) bool { return a == b }),
		cmp.FilterValues(func(a, b []byte) bool { return len(a)+len(b) > 0 }, cmp.Comparer(bytes.Equal)))
	if d := cmp.Diff(want, got, opts...); d != "" {
		t.Fatalf("(-want +got):\n%s", d)
	}
}

// eventually fails when cond does not come true soon.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s did not come true", what)
		}
	}
}

// types lists the events after since, as "type topic".
func types(t *testing.T, s *store.Store, since int64) []string {
	t.Helper()
	var out []string
	for _, e := range must(s.Events(t.Context(), since, nil, 0))(t) {
		out = append(out, fmt.Sprintf("%s %s", e.Type, e.Topic))
	}
	return out
}

func last(t *testing.T, s *store.Store) int64 {
	t.Helper()
	return must(s.LastEventID(t.Context()))(t)
}

// base is the time that anomalies begin at.
var base = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newDetector(t *testing.T, s *store.Store, name string) model.Detector {
	t.Helper()
	return must(s.CreateDetector(t.Context(), model.Detector{Name: name, Source: "builtin", Query: "up", Step: 30 * time.Second,
		Model: "auto", FalseAlarmsPerWeek: 1, Enabled: true}))(t)
}

func newAnomaly(d model.Detector, id string, minute int, labels map[string]string) model.Anomaly {
	at := base.Add(time.Duration(minute) * time.Minute)
	return model.Anomaly{ID: id, DetectorID: d.ID, DetectorName: d.Name, Series: model.LabelsFromMap(labels), State: model.AnomalyFiring,
		Severity: model.SeverityWarning, StartedAt: at, FiredAt: at.Add(time.Minute), PeakAt: at, Value: 9.25, Expected: 1.5, Lower: 0.5, Upper: 2.5,
		Score: 5.125, OnceInSeconds: 86400, Reason: "too high", DetectorVersion: d.Version, ModelVersion: 1}
}

func commit(t *testing.T, s *store.Store, ev model.EventType, as ...model.Anomaly) {
	t.Helper()
	changes := make([]model.AnomalyChange, len(as))
	for i, a := range as {
		changes[i] = model.AnomalyChange{Anomaly: a, Event: ev}
	}
	ok(t, s.CommitAnomalies(t.Context(), changes))
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
