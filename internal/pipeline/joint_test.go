package pipeline

import (
	"bytes"
	"context"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aiops/internal/model"
)

func jointDetector(change func(*model.Detector)) model.Detector {
	return testDetector(func(d *model.Detector) {
		d.Model, d.Parameters, d.Joint = "ewma", nil, &model.Joint{Peers: true, Groups: true, By: []string{"job"}}
		if change != nil {
			change(d)
		}
	})
}

// swell is common to all replicas: load that goes up and down.
func swell(ms int64) float64 {
	return 100 * math.Sin(float64(ms)/float64(6*time.Hour.Milliseconds())*2*math.Pi)
}

// TestPeersNameTheBadReplica lets one of twenty replicas leave its peers by
// less than the load makes all of them swing, and finds and names it.
func TestPeersNameTheBadReplica(t *testing.T) {
	t.Parallel()
	d := jointDetector(nil)
	c := newCore(newDefinition(d, Config{}.withDefaults()), 1, at(-1))
	c.prove = true
	var found []model.Anomaly
	var shares []model.Contribution
	c.emit = func(s *series, tr transition, t int64, note string) {
		if tr != transitionFired {
			return
		}
		found = append(found, c.anomaly(s, t, note))
		if s.link.made() && s.link.kind == model.JointPeers && shares == nil {
			shares = c.evidence(s, "x").Contributions
		}
	}
	src := &fakeSource{series: labelled(20), value: func(i int, ms int64) (float64, bool) {
		v := noise(i, ms) + swell(ms)
		if i == 7 && ms >= at(6000) {
			v += 90
		}
		return v, true
	}}
	feed(c, src, at(6050), -1)
	peers := 0
	for _, a := range found {
		if a.Series.Value(model.JointLabel) != model.JointPeers || a.StartedAt.UnixMilli() < at(6000) {
			continue
		}
		peers++
		if a.Series.Value("instance") != "host-00007" || !strings.Contains(a.Reason, "spreads from the median of its peers") {
			t.Errorf("%s: %s", a.Series.Key(), a.Reason)
		}
	}
	if peers != 1 {
		t.Fatalf("%d peers alarmed: %+v", peers, found)
	}
	if len(shares) != maxShares || !strings.Contains(shares[0].Name, "host-00007") || shares[0].Share < 0.5 {
		t.Errorf("shares %+v", shares)
	}
}

// TestJointBudget counts the alarms of clean groups of independent and of
// correlated members against the budget, and the samples of all series of a
// group that move a little together.
func TestJointBudget(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("scores a million samples")
	}
	for _, common := range []float64{0, 6} {
		const n, warm, steps = 8, 3000, 24_000
		d := jointDetector(nil)
		c := newCore(newDefinition(d, Config{}.withDefaults()), 1, at(-1))
		samples, over := map[string]int{}, map[string]int{}
		c.watch = func(s *series, p model.ScoredPoint) {
			if p.T < at(warm) || !s.link.made() {
				return
			}
			samples[s.link.kind]++
			if p.Score >= 2.5 {
				over[s.link.kind]++
			}
		}
		src := &fakeSource{series: labelled(n), value: func(i int, ms int64) (float64, bool) {
			return noise(i, ms) + common*(noise(77, ms)-50)/4, true
		}}
		for to := int64(0); to < warm+steps; {
			to += 3000
			feed(c, src, at(to), -1)
		}
		want := math.Pow(10, -2.5)
		for _, kind := range []string{model.JointPeers, model.JointGroup} {
			got := float64(over[kind]) / float64(samples[kind]) / want
			t.Logf("common %v, %s: %.2f of the promised rate over %d samples", common, kind, got, samples[kind])
			if got < 0.5 || got > 1.5 {
				t.Errorf("common %v, %s: %.2f of the promised rate", common, kind, got)
			}
		}
	}
}

// TestJointSnapshotIsExact restores in the middle, one step at a time against
// all at once, and ends in the same state.
func TestJointSnapshotIsExact(t *testing.T) {
	t.Parallel()
	d := jointDetector(nil)
	src := &fakeSource{series: labelled(6), value: func(i int, ms int64) (float64, bool) {
		if i == 5 && ms < at(200) {
			return 0, false // comes later
		}
		v := noise(i, ms)
		if i == 2 && ms > at(700) && ms < at(720) {
			v += 90
		}
		return v, true
	}}
	def := newDefinition(d, Config{}.withDefaults())
	whole := newCore(def, 1, at(-1))
	feed(whole, src, at(800), -1)
	parts := newCore(def, 1, at(-1))
	for to := int64(50); to <= 800; to += 50 {
		feed(parts, src, at(to), -1)
		var err error
		if parts, _, err = restoreCore(def, parts.snapshot(time.Unix(0, 0))); err != nil {
			t.Fatal(err)
		}
	}
	a, b := whole.snapshot(time.Unix(0, 0)), parts.snapshot(time.Unix(0, 0))
	if len(a.Parts) != len(b.Parts) || a.Series != 6+6+1 {
		t.Fatalf("%d and %d parts, %d series", len(a.Parts), len(b.Parts), a.Series)
	}
	for i := range a.Parts {
		if !bytes.Equal(a.Parts[i], b.Parts[i]) {
			t.Errorf("part %d differs", i)
		}
	}
}

// TestJointReplayEqualsLive replays the series that are made of others.
func TestJointReplayEqualsLive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 6, jointDetector(nil))
		begin := time.Now()
		g.src.value = func(i int, ms int64) (float64, bool) {
			v := noise(i, ms)
			if since := ms - begin.UnixMilli(); i == 2 && since > 20*time.Minute.Milliseconds() && since < 25*time.Minute.Milliseconds() {
				v += 2000
			}
			return v, true
		}
		g.start()
		defer g.stop()
		elapse(time.Hour)
		alarms := g.store.list(func(a model.Anomaly) bool { return a.Series.Value(model.JointLabel) != "" })
		if len(alarms) == 0 {
			t.Fatal("no joint alarm")
		}
		for _, a := range alarms {
			r, err := g.engine.Replay(t.Context(), "det_test", a.Series.Key(), begin, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			same := false
			for _, b := range r.Anomalies {
				same = same || b.ID == a.ID && b.Score == a.Score && b.ResolvedAt.Equal(a.ResolvedAt)
			}
			if !same {
				t.Errorf("live %+v\nreplayed %+v", a, r.Anomalies)
			}
			x, err := g.engine.Explain(t.Context(), a.ID)
			if err != nil || !x.Recomputed.Reproduced || len(x.Recomputed.Contributions) == 0 {
				t.Errorf("%v %+v", err, x.Recomputed)
			}
		}
		if _, err := g.engine.Detect(context.Background(), "det_test", alarms[0].Series, []model.Sample{{T: time.Now().UnixMilli(), V: 1}}); model.KindOf(err) != model.KindInvalid {
			t.Errorf("samples of a joint series: %v", err)
		}
	})
}
