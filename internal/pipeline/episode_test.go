package pipeline

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"aiops/internal/detect"
	"aiops/internal/model"
)

const testThreshold = 4.0

// play runs an episode over a line of samples, one letter each: c calm,
// b between, a anomalous, A clearly higher, C critical. It returns one
// word for each transition with the index of its sample.
func play(r rules, line string) string {
	var e *episode
	var out []string
	for i, letter := range line {
		score := map[rune]float64{'c': 0, 'b': 3.5, 'a': 4.1, 'A': 5.4, 'C': 8}[letter]
		p := model.ScoredPoint{T: int64(i+1) * testStep, Score: score}
		g := detect.GateScore
		if score > testThreshold {
			g = detect.GateOpen
		}
		v := judge(score, testThreshold, g)
		tr := transitionNone
		switch {
		case e != nil && (e.phase != phaseResolved || v != verdictAnomalous):
			tr = e.observe(r, p, v, testThreshold)
		case v == verdictAnomalous:
			e, tr = begin(r, e, p, testThreshold)
		}
		if tr != transitionNone {
			out = append(out, fmt.Sprintf("%s@%d", tr, i))
		}
		if e != nil && e.phase == phaseOver {
			e = nil
		}
	}
	return strings.Join(out, " ")
}

func TestEpisode(t *testing.T) {
	t.Parallel()
	at := func(hold, keep time.Duration) rules {
		return rulesOf(model.Detector{Step: 10 * time.Second, For: hold, KeepFiringFor: keep})
	}
	for _, tc := range []struct {
		name  string
		rules rules
		line  string
		want  string
	}{
		{"nothing", at(0, 0), "ccbbcc", ""},
		{"fires and resolves at once", at(0, 0), "caacc", "fired@1 resolved@3"},
		{"for holds it back", at(20*time.Second, 0), "aaacc", "pending@0 fired@2 resolved@3"},
		{"for is not a multiple of the step", at(15*time.Second, 0), "aaacc", "pending@0 fired@2 resolved@3"},
		{"too short", at(20*time.Second, 0), "aacaa", "pending@0 cancelled@2 pending@3"},
		{"between neither counts nor cancels", at(20*time.Second, 0), "abbaba", "pending@0 fired@5"},
		{"keep", at(0, 20*time.Second), "acccc", "fired@0 resolved@3"},
		{"keep starts anew", at(0, 20*time.Second), "accaccc", "fired@0 resolved@6"},
		{"hysteresis", at(0, 0), "abbbbc", "fired@0 resolved@5"},
		{"between does not undo calm", at(0, 20*time.Second), "acbcbc", "fired@0 resolved@5"},
		{"higher peak is rate limited", at(0, 0), "aAAAAAAA", "fired@0 updated@1"},
		{"same severity waits a minute", at(0, 0), "AACCCCCC", "fired@0 updated@2"},
		{"flap doubles keep", at(0, 0), "acacacccccc", "fired@0 resolved@1 fired@2 resolved@6"},
		{"damping is forgotten", at(0, 0), "ac" + strings.Repeat("c", 10) + "ac", "fired@0 resolved@1 fired@12 resolved@13"},
		{"damping remembers", at(0, 0), "ac" + strings.Repeat("c", 8) + "acc", "fired@0 resolved@1 fired@10 resolved@12"},
		{"flap with for", at(10*time.Second, 0), "aacaacc", "pending@0 fired@1 resolved@2 pending@3 fired@4 resolved@6"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := play(tc.rules, tc.line); got != tc.want {
				t.Errorf("%s gives %q, want %q", tc.line, got, tc.want)
			}
		})
	}
}

// Property: whatever the samples, transitions follow the state machine, an
// alarm was anomalous for as long as asked, it ended after as many calm samples
// as asked, and the peak is the highest score.
func TestEpisodeProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := model.Detector{Step: 10 * time.Second,
			For:           time.Duration(rapid.IntRange(0, 60).Draw(t, "for")) * time.Second,
			KeepFiringFor: time.Duration(rapid.IntRange(0, 60).Draw(t, "keep")) * time.Second}
		r := rulesOf(d)
		var e *episode
		var anomalous, calm int32
		state := transitionNone
		for i := range rapid.IntRange(0, 200).Draw(t, "samples") {
			score := rapid.SampledFrom([]float64{0, 1, 2.9, 3.1, 3.9, 4.1, 4.6, 5, 6.5, 9}).Draw(t, "score")
			if e == nil && score <= testThreshold {
				continue
			}
			p := model.ScoredPoint{T: int64(i) * testStep, Score: score}
			g := detect.GateScore
			if score > testThreshold {
				g = detect.GateOpen
			}
			v := judge(score, testThreshold, g)
			var tr transition
			if e == nil || e.phase == phaseResolved && v == verdictAnomalous {
				e, tr = begin(r, e, p, testThreshold)
				anomalous, calm, state = 0, 0, transitionNone
			} else {
				before := e.peak.Score
				wasOpen := e.open()
				tr = e.observe(r, p, v, testThreshold)
				if wasOpen && v == verdictAnomalous && e.peak.Score != max(before, score) {
					t.Fatalf("peak %v after %v with %v", e.peak.Score, before, score)
				}
			}
			switch v {
			case verdictAnomalous:
				anomalous++
				calm = 0
			case verdictCalm:
				calm++
			}
			legal := map[transition][]transition{
				transitionNone:    {transitionPending, transitionFired},
				transitionPending: {transitionFired, transitionCancelled},
				transitionFired:   {transitionUpdated, transitionResolved},
				transitionUpdated: {transitionUpdated, transitionResolved},
			}
			if tr != transitionNone {
				ok := false
				for _, next := range legal[state] {
					ok = ok || next == tr
				}
				if !ok {
					t.Fatalf("%s after %s", tr, state)
				}
				state = tr
			}
			if tr == transitionFired && anomalous < r.forSamples {
				t.Fatalf("fired after %d anomalous samples of %d", anomalous, r.forSamples)
			}
			if tr == transitionResolved && calm < r.keepSamples {
				t.Fatalf("resolved after %d calm samples of %d", calm, r.keepSamples)
			}
			if e.phase == phaseFiring && calm >= max(r.keepSamples, r.dampSamples) {
				t.Fatalf("still firing after %d calm samples", calm)
			}
			if e.phase == phaseOver {
				e = nil
			}
		}
	})
}

func TestJudgeRespectsGates(t *testing.T) {
	t.Parallel()
	for g := detect.GateOpen; g <= detect.GateRelative; g++ {
		want := verdictCalm
		if g == detect.GateOpen {
			want = verdictAnomalous
		}
		if got := judge(9, 4, g); g != detect.GateScore && got != want {
			t.Errorf("a score of 9 at the gate %q is %d, want %d", g, got, want)
		}
	}
}

func TestAnomalyID(t *testing.T) {
	t.Parallel()
	id := anomalyID("det_a", `{instance="x"}`, 1_700_000_000_000)
	if len(id) != 23 || !strings.HasPrefix(id, "an_") || strings.ToLower(id) != id {
		t.Fatalf("id %q", id)
	}
	for _, other := range []string{
		anomalyID("det_b", `{instance="x"}`, 1_700_000_000_000),
		anomalyID("det_a", `{instance="y"}`, 1_700_000_000_000),
		anomalyID("det_a", `{instance="x"}`, 1_700_000_010_000),
	} {
		if other == id {
			t.Fatal("two episodes have one id")
		}
	}
	if again := anomalyID("det_a", `{instance="x"}`, 1_700_000_000_000); again != id {
		t.Fatal("the same episode has two ids")
	}
}
