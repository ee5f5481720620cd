package pipeline

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"aiops/internal/model"
)

// busyCore returns a core with series, episodes, evidence and a past.
func busyCore(t testing.TB, n int) *core {
	t.Helper()
	src := &fakeSource{series: labelled(n), value: func(i int, ms int64) (float64, bool) {
		k := ms / testStep
		v := noise(i, ms)
		if k > 65 && i == 0 {
			v += 1e12
		}
		return v, k < 30 || k > 40
	}}
	d := testDetector(func(d *model.Detector) { d.For = time.Hour })
	c := newCore(newDefinition(d, Config{}.withDefaults()), 3, 0)
	c.prove = true
	feed(c, src, 50*testStep, 35*testStep)
	c.redefine(testDetector(func(d *model.Detector) { d.For, d.FalseAlarmsPerWeek = 30*time.Second, 2 }), 55*testStep)
	feed(c, src, 67*testStep, 0)
	c.redefine(testDetector(nil), 100*testStep)
	return c
}

func TestSnapshotRoundTrip(t *testing.T) {
	t.Parallel()
	c := busyCore(t, 1100)
	snap := c.snapshot(time.UnixMilli(5))
	if len(snap.Parts) != 3 || snap.Series != 1100 || snap.ModelVersion != 3 || snap.Watermark != 67*testStep {
		t.Fatalf("%d parts, %d series, %+v", len(snap.Parts), snap.Series, snap.Watermark)
	}
	again, lost, err := restoreCore(c.def, snap)
	if err != nil || lost != 0 {
		t.Fatalf("%d lost, %v", lost, err)
	}
	if again.open != 1 || again.proofBytes == 0 || len(again.planned) != 1 || len(again.past.skipped) != 1 || len(again.past.tunings) != 2 {
		t.Fatalf("%d open, %d bytes of evidence, past %+v, planned %+v", again.open, again.proofBytes, again.past, again.planned)
	}
	second := again.snapshot(time.UnixMilli(5))
	for i, p := range snap.Parts {
		if !bytes.Equal(p, second.Parts[i]) {
			t.Fatalf("part %d of the snapshot of a restored core differs", i)
		}
	}
	for _, s := range c.sorted()[990:1010] {
		one, err := restoreSeries(c.def, snap, s.key)
		if err != nil || one == nil || one.live != 1 || one.find(s.hash, []byte(s.key)) == nil {
			t.Fatalf("%s alone: %v", s.key, err)
		}
	}
	if one, err := restoreSeries(c.def, snap, `{a="b"}`); err != nil || one != nil {
		t.Fatalf("a series that is not there: %v, %v", one, err)
	}
}

func TestSnapshotOfAnotherDefinition(t *testing.T) {
	t.Parallel()
	c := busyCore(t, 3)
	other := newDefinition(testDetector(func(d *model.Detector) { d.Query = "other" }), Config{}.withDefaults())
	var fault *snapshotFault
	if got, _, err := restoreCore(other, c.snapshot(time.Time{})); got != nil || !errors.As(err, &fault) {
		t.Fatalf("%v, %v", got, err)
	}
}

// Every single-bit flip is noticed, and none is a panic.
func TestSnapshotDamage(t *testing.T) {
	t.Parallel()
	c := busyCore(t, 3)
	snap := c.snapshot(time.Time{})
	for part := range snap.Parts {
		whole := snap.Parts[part]
		for at := 0; at < len(whole); at += 7 {
			damaged := append([]byte(nil), whole...)
			damaged[at] ^= 1 << (at % 8)
			snap.Parts[part] = damaged
			got, lost, err := restoreCore(c.def, snap)
			if err == nil || got != nil && lost == 0 {
				t.Fatalf("part %d, byte %d: %d lost, %v", part, at, lost, err)
			}
			snap.Parts[part] = whole[:at]
			if _, _, err := restoreCore(c.def, snap); err == nil {
				t.Fatalf("part %d cut off at %d was accepted", part, at)
			}
		}
		snap.Parts[part] = whole
	}
	snap.Parts[1] = snap.Parts[0]
	if got, lost, err := restoreCore(c.def, snap); err == nil || lost != 3 || got == nil {
		t.Fatalf("a header in the place of a part: %d lost, %v", lost, err)
	}
}

// FuzzSnapshot feeds parts with a correct checksum, which damage cannot have.
func FuzzSnapshot(f *testing.F) {
	c := busyCore(f, 3)
	snap := c.snapshot(time.Time{})
	for _, p := range snap.Parts {
		f.Add(p[frameHead : len(p)-frameTail])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, kind := range []byte{kindHeader, kindSeries} {
			w := newFrame(nil, kind)
			w.b = append(w.b, body...)
			sealed := w.close()
			if kind == kindHeader {
				if h, err := decodeHeader(sealed); err == nil && h == nil {
					t.Fatal("no header and no error")
				}
				continue
			}
			into := newCore(c.def, 1, 0)
			list, err := into.decodePart(0, sealed, nil)
			if err == nil {
				for _, s := range list {
					into.place(s)
				}
				into.snapshot(time.Time{})
			}
		}
	})
}
