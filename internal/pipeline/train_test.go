package pipeline

import (
	"context"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aiops/internal/model"
)

func TestTrainSwapsAndKeepsEpisodes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 3, testDetector(nil))
		from := time.Now().Add(10 * time.Minute)
		g.src.value = spike(from, from.Add(time.Minute), 2000)
		g.start()
		defer g.stop()
		elapse(10*time.Minute + 20*time.Second)
		var steps []float64
		v, err := g.engine.Train(t.Context(), "det_test", from.Add(-time.Hour), from.Add(-time.Minute), func(p float64) { steps = append(steps, p) })
		if err != nil {
			t.Fatal(err)
		}
		if v.Version != 2 || v.State != model.ModelActive || v.Series != 3 || !v.TrainedFrom.Equal(from.Add(-time.Hour)) || v.Reason != "trained" {
			t.Fatalf("%+v", v)
		}
		if len(steps) == 0 || steps[len(steps)-1] != 1 {
			t.Fatalf("progress %v", steps)
		}
		open, _ := g.store.OpenAnomalies(t.Context(), "det_test")
		if len(open) != 1 || g.list()[0].AnomalyID != open[0].ID {
			t.Fatalf("the open episode is lost: %+v", open)
		}
		elapse(2 * time.Minute)
		a, _ := g.store.Anomaly(t.Context(), open[0].ID)
		if a.State != model.AnomalyResolved || a.ModelVersion != 2 {
			t.Fatalf("%+v", a)
		}
		_, err = g.engine.Train(t.Context(), "det_test", time.Now().Add(-time.Minute), time.Now(), nil)
		if model.KindOf(err) != model.KindTooLittleData {
			t.Fatalf("training on a minute: %v", err)
		}
		_, err = g.engine.Train(t.Context(), "det_test", time.Now(), time.Now().Add(-time.Hour), nil)
		if model.KindOf(err) != model.KindInvalid {
			t.Fatalf("training on nothing: %v", err)
		}
	})
}

func TestBacktestIsWhatLiveWouldHaveDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 3, testDetector(nil))
		begin := time.Now()
		g.src.value = func(i int, ms int64) (float64, bool) {
			v := noise(i, ms)
			if k := (ms-begin.UnixMilli())/testStep - int64(i)*50; k > 0 && k%180 < 3 {
				v += 2000
			}
			return v, true
		}
		g.start()
		defer g.stop()
		elapse(time.Hour + time.Second)
		live := g.store.list(func(model.Anomaly) bool { return true })
		d := testDetector(nil)
		d.Name = "unsaved"
		last := 0.0
		got, err := g.engine.Backtest(t.Context(), d, begin, begin.Add(time.Hour), func(p float64) {
			if p < last {
				t.Errorf("progress went back from %v to %v", last, p)
			}
			last = p
		})
		if err != nil {
			t.Fatal(err)
		}
		if got.Series != 3 || got.Samples != 3*361-3 && got.Samples != 3*361 || last != 1 {
			t.Errorf("%d series, %d samples, progress %v", got.Series, got.Samples, last)
		}
		if len(live) < 4 || got.AnomalyCount != len(live) {
			t.Fatalf("the backtest finds %d anomalies, live found %d", got.AnomalyCount, len(live))
		}
		if want := float64(len(live)) * 7 * 24; math.Abs(got.AlarmsPerWeek/want-1) > .01 {
			t.Errorf("%v alarms a week, want about %v", got.AlarmsPerWeek, want)
		}
		byID := map[string]model.Anomaly{}
		for _, a := range got.Anomalies {
			byID[a.ID] = a
		}
		for _, a := range live {
			if b := byID[a.ID]; b.Score != a.Score || !b.StartedAt.Equal(a.StartedAt) || !b.ResolvedAt.Equal(a.ResolvedAt) {
				t.Errorf("live %+v\nbacktest %+v", a, b)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		g.src.set(func(f *fakeSource) { f.onQuery = cancel })
		if _, err := g.engine.Backtest(ctx, d, begin, begin.Add(time.Hour), nil); err == nil {
			t.Error("a cancelled backtest succeeded")
		}
		g.src.set(func(f *fakeSource) { f.onQuery = nil })
		if _, err := g.engine.Backtest(t.Context(), model.Detector{}, begin, begin.Add(time.Hour), nil); model.KindOf(err) != model.KindInvalid {
			t.Errorf("a backtest of nothing: %v", err)
		}
	})
}

func TestDetectScoresOnACopy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 2, testDetector(nil))
		g.start()
		defer g.stop()
		elapse(10*time.Minute + time.Second)
		now := time.Now().UnixMilli()
		of := labelled(1)[0]
		before := g.list()[0]
		ask := func(at int64, values ...float64) []model.ScoredPoint {
			t.Helper()
			var samples []model.Sample
			for i, v := range values {
				samples = append(samples, model.Sample{T: at + int64(i)*testStep, V: v})
			}
			got, err := g.engine.Detect(t.Context(), "det_test", of, samples)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(values) {
				t.Fatalf("%d points for %d samples", len(got), len(values))
			}
			return got
		}
		if got := ask(now, 50, 5000, 50); got[0].Anomalous || !got[1].Anomalous || got[2].Anomalous {
			t.Fatalf("posted values %+v", got)
		}
		if got := ask(now+24*3600_000, 5000); !got[0].Anomalous {
			t.Fatalf("a day ahead %+v", got)
		}
		// Values in the past are scored by what was known then.
		past := now - 300_000
		replayed, err := g.engine.Replay(t.Context(), "det_test", of.Key(), time.UnixMilli(past-testStep+1), time.UnixMilli(past))
		if err != nil || len(replayed.Points) != 1 {
			t.Fatalf("%+v, %v", replayed, err)
		}
		want := replayed.Points[0]
		if got := ask(want.T, want.Value)[0]; difference(want, got) != "" || got.T != want.T {
			t.Fatalf("the past scored again: %s", difference(want, got))
		}
		if after := g.list()[0]; after.Last != before.Last {
			t.Fatalf("the live model changed: %+v", after)
		}
		for name, tc := range map[string]struct {
			of      model.Labels
			samples []model.Sample
			kind    model.Kind
		}{
			"which series": {nil, []model.Sample{{T: now, V: 1}}, model.KindInvalid},
			"unknown":      {model.Labels{{Name: "a", Value: "b"}}, []model.Sample{{T: now, V: 1}}, model.KindNotFound},
			"order":        {of, []model.Sample{{T: now, V: 1}, {T: now + 1, V: 1}}, model.KindInvalid},
			"number":       {of, []model.Sample{{T: now, V: math.NaN()}}, model.KindInvalid},
			"span":         {of, []model.Sample{{T: now, V: 1}, {T: now + 20_000*testStep, V: 1}}, model.KindInvalid},
		} {
			if _, err := g.engine.Detect(t.Context(), "det_test", tc.of, tc.samples); model.KindOf(err) != tc.kind {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestReplayBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 2, testDetector(nil))
		g.start()
		defer g.stop()
		elapse(10*time.Minute + time.Second)
		now, key := time.Now(), labelled(1)[0].Key()
		got, err := g.engine.Replay(t.Context(), "det_test", key, now.Add(-24*time.Hour), now.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if n := len(got.Points); n < 3*360 || n > 3*360+65 || !got.Learning || got.Step != 10*time.Second {
			t.Fatalf("%d points, learning %v", n, got.Learning)
		}
		for i := 1; i < len(got.Points); i++ {
			if got.Points[i].T != got.Points[i-1].T+testStep {
				t.Fatalf("a gap at %d", got.Points[i].T)
			}
		}
		for name, tc := range map[string]struct {
			key      string
			from, to time.Time
			kind     model.Kind
		}{
			"which series": {"", now.Add(-time.Hour), now, model.KindInvalid},
			"unknown":      {`{a="b"}`, now.Add(-time.Hour), now, model.KindNotFound},
			"no key":       {`a=b`, now.Add(-time.Hour), now, model.KindInvalid},
			"backwards":    {key, now, now.Add(-time.Hour), model.KindInvalid},
			"too long":     {key, now.Add(-14 * 24 * time.Hour), now, model.KindInvalid},
		} {
			if _, err := g.engine.Replay(t.Context(), "det_test", tc.key, tc.from, tc.to); model.KindOf(err) != tc.kind {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := g.engine.Replay(t.Context(), "det_other", key, now.Add(-time.Hour), now); model.KindOf(err) != model.KindNotFound {
			t.Errorf("another detector: %v", err)
		}
	})
}

func TestExplainSaysWhatElseMoved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		other := testDetector(func(d *model.Detector) { d.ID, d.Name, d.MinDeviation.Absolute = "det_other", "latency", 1e9 })
		g := newRig(t, 3, testDetector(nil), other)
		from := time.Now().Add(10 * time.Minute)
		g.src.value = func(i int, ms int64) (float64, bool) {
			v := noise(i, ms)
			if i < 2 && ms >= from.UnixMilli() && ms < from.Add(30*time.Second).UnixMilli() || i == 1 && ms == from.Add(-9*time.Minute).UnixMilli() {
				v += 2000
			}
			return v, true
		}
		g.start()
		defer g.stop()
		elapse(12 * time.Minute)
		all := g.store.list(func(a model.Anomaly) bool { return a.Series.Value("instance") == "host-00001" })
		if len(all) != 2 {
			t.Fatalf("%d anomalies", len(all))
		}
		x, err := g.engine.Explain(t.Context(), all[1].ID)
		if err != nil {
			t.Fatal(err)
		}
		if len(x.Similar) != 1 || x.Similar[0].Anomaly.ID != all[0].ID || x.Model.Version != 1 {
			t.Fatalf("similar %+v, model %+v", x.Similar, x.Model)
		}
		var got []string
		for _, m := range x.AlsoMoved {
			got = append(got, m.DetectorName+" "+m.Series.Value("instance"))
		}
		moved := strings.Join(got, ", ")
		if !strings.HasPrefix(moved, "latency host-00001") || !strings.Contains(moved, "requests host-00000") ||
			!strings.Contains(moved, "latency host-00000") || strings.Contains(moved, "host-00002") || strings.Contains(moved, "requests host-00001") {
			t.Fatalf("also moved: %s", moved)
		}
		if _, err := g.engine.Explain(t.Context(), "an_unknown"); model.KindOf(err) != model.KindNotFound {
			t.Fatalf("an unknown anomaly: %v", err)
		}
	})
}
