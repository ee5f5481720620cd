package detect

import (
	"bytes"
	"math"
	"testing"
	"time"
)

// beat is a rhythm of 30 samples a minute apart with a little noise. At odd it
// beats once at twice the pace, with values that are all usual.
func beat(i, odd int) float64 {
	phase := float64(i%30) / 30
	if i >= odd && i < odd+30 {
		phase *= 2
	}
	return 100 + 10*math.Sin(2*math.Pi*phase) + float64(i*7919%1009)/2000
}

func autoAndPromoted(t *testing.T) (plain, promoted Model) {
	t.Helper()
	spec := Spec{Model: "auto", Step: time.Minute, Seed: 7}
	for _, m := range []*Model{&plain, &promoted} {
		var err error
		if *m, err = New(spec); err != nil {
			t.Fatal(err)
		}
	}
	return plain, promoted
}

func TestPromotion(t *testing.T) {
	t.Parallel()
	const at, odd, demoted, end = 500, 6000, 6500, 7000
	plain, promoted := autoAndPromoted(t)
	inForce, bestPlain, bestDeep := 0, 0.0, 0.0
	for i := range end {
		ms := int64(i) * 60_000
		switch i {
		case at:
			if !Promote(promoted, time.Minute) || Promote(promoted, time.Minute) {
				t.Fatal("a model is promoted once")
			}
		case demoted:
			if !Demote(promoted) || Demote(promoted) {
				t.Fatal("a promoted model is demoted once")
			}
		}
		v := beat(i, odd)
		a, b := plain.Score(ms, v), promoted.Score(ms, v)
		depth := DepthOf(promoted)
		if depth.Promoted != (i >= at && i < demoted) {
			t.Fatalf("sample %d: %+v", i, depth)
		}
		switch {
		case depth.InForce && inForce == 0:
			inForce = i
		case !depth.InForce && (a.Score != b.Score || a.Strength != b.Strength || math.Float64bits(a.Expected) != math.Float64bits(b.Expected)):
			t.Fatalf("sample %d: a model on trial, or demoted, scores %v, want %v as auto", i, b, a)
		}
		if i >= odd && i < odd+60 {
			bestPlain, bestDeep = max(bestPlain, a.Score), max(bestDeep, b.Score)
		}
		plain.Learn(ms, v)
		promoted.Learn(ms, v)
		if size := promoted.SizeBytes() - plain.SizeBytes(); size < 0 || size > DeepBytes || !depth.Promoted && i > demoted && size != 0 {
			t.Fatalf("sample %d: promotion adds %d bytes, want at most %d", i, size, DeepBytes)
		}
	}
	if inForce < at+trialReady || inForce > at+3*trialReady {
		t.Errorf("the patterns came into force at sample %d, want soon after %d", inForce, at+trialReady)
	}
	if bestDeep < bestPlain+1 || bestDeep < 3 {
		t.Errorf("the odd beat scores %.1f promoted and %.1f plain, want ten times rarer at least", bestDeep, bestPlain)
	}
}

// The restored model goes on bit for bit, on trial, in force and after it was
// demoted, whatever the one that restores was before.
func TestPromotedSnapshots(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name             string
		promote, demote  int
		cut              int
		inForce, trialed bool
	}{
		{"on trial", 200, 9000, 900, false, true},
		{"in force", 200, 9000, 3000, true, true},
		{"demoted", 200, 2500, 3000, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, m := autoAndPromoted(t)
			var restored []Model
			for i := range tc.cut + 700 {
				ms, v := int64(i)*60_000, beat(i, tc.cut+300)
				switch i {
				case tc.promote:
					Promote(m, time.Minute)
				case tc.demote:
					Demote(m)
				case tc.cut:
					if d := DepthOf(m); d.InForce != tc.inForce || d.Promoted != tc.trialed {
						t.Fatalf("at the cut: %+v", d)
					}
					fresh, other := autoAndPromoted(t)
					Promote(other, time.Minute)
					for _, r := range []Model{fresh, other} {
						if err := r.Restore(m.AppendSnapshot(nil)); err != nil {
							t.Fatal(err)
						}
						restored = append(restored, r)
					}
				}
				want := m.Score(ms, v)
				m.Learn(ms, v)
				for _, r := range restored {
					if got := r.Score(ms, v); got != want {
						t.Fatalf("sample %d: the restored model says %v, want %v", i, got, want)
					}
					r.Learn(ms, v)
				}
			}
			for _, r := range restored {
				if !bytes.Equal(r.AppendSnapshot(nil), m.AppendSnapshot(nil)) {
					t.Error("the state of the restored model differs")
				}
			}
			whole := m.AppendSnapshot(nil)
			fresh, _ := autoAndPromoted(t)
			if err := fresh.Restore(append(whole[:len(whole)-4:len(whole)-4], 1, 2, 3, 4)); err == nil {
				t.Error("a snapshot with a wrong checksum is restored")
			}
		})
	}
}

func TestOnlyAutoIsPromoted(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"deep", "ewma"} {
		m, err := New(Spec{Model: name, Step: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		if Promotable(name) || Promote(m, time.Minute) || Demote(m) || DepthOf(m) != (Depth{}) {
			t.Errorf("%s is promoted", name)
		}
	}
}
