package detect

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"testing"
	"time"
)

// fuzzSpec returns the spec of a row of the table.
func fuzzSpec(i uint8) Spec {
	rows := table()
	s := Spec{Model: rows[int(i)%len(rows)].Name, Step: 5 * time.Minute, TimeZone: "Europe/Berlin", Seed: 1}
	if s.Model == "threshold" {
		s.Parameters = json.RawMessage(`{"above": 5}`)
	}
	return s
}

// seal puts a header and a checksum around the model's part of a snapshot.
func seal(t *testing.T, s Spec, body []byte) []byte {
	t.Helper()
	c, err := prepare(s)
	if err != nil {
		t.Fatal(err)
	}
	w := openSnapshot(nil, c.ident)
	w.b = append(w.b, body...)
	return w.close()
}

// FuzzRestore restores arbitrary bytes, bare and as the body of a snapshot with
// a right header and checksum. Neither may panic or take memory without
// bound; what is accepted has to behave as a model does.
func FuzzRestore(f *testing.F) {
	for i := range table() {
		for _, n := range []int{0, 20, 700} {
			m, err := New(fuzzSpec(uint8(i)))
			if err != nil {
				f.Fatal(err)
			}
			for k := range n {
				Step(m, int64(k)*300_000, float64(k%17))
			}
			b := m.AppendSnapshot(nil)
			f.Add(uint8(i), b[snapshotHeader:len(b)-snapshotTrailer])
			if n > 0 && Promote(m, 5*time.Minute) {
				for k := range n {
					Step(m, int64(n+k)*300_000, float64(k%17))
				}
				b = m.AppendSnapshot(nil)
				f.Add(uint8(i), b[snapshotHeader:len(b)-snapshotTrailer])
			}
		}
	}
	f.Fuzz(checkRestore)
}

// checkRestore is the body of FuzzRestore.
func checkRestore(t *testing.T, i uint8, body []byte) {
	s := fuzzSpec(i)
	m, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	var fault *SnapshotError
	if err := m.Restore(body); err != nil && !errors.As(err, &fault) {
		t.Fatalf("%T: %v", err, err)
	}
	if err := m.Restore(seal(t, s, body)); err != nil {
		if !errors.As(err, &fault) {
			t.Fatalf("%T: %v", err, err)
		}
		return
	}
	if size := m.SizeBytes(); size > 2<<20 {
		t.Fatalf("%s takes %d bytes after restoring %d", s.Model, size, len(body))
	}
	again := m.AppendSnapshot(nil)
	b, _ := New(s)
	if err := b.Restore(again); err != nil {
		t.Fatalf("%s: its own snapshot is refused: %v", s.Model, err)
	}
	for k, v := range []float64{1, -1, 1e300, 0, math.NaN(), 3, 3, 3, 1e-300, 40} {
		at := int64(1<<52) + int64(k)*300_000
		p, q := Step(m, at, v), Step(b, at, v)
		if !(p.Score >= 0 && p.Score <= MaxScore) || math.Float64bits(p.Score) != math.Float64bits(q.Score) {
			t.Fatalf("%s scores %v as %v and %v", s.Model, v, p.Score, q.Score)
		}
	}
	if !bytes.Equal(m.AppendSnapshot(nil), b.AppendSnapshot(nil)) {
		t.Fatalf("%s: two restored models diverge", s.Model)
	}
}

// Every place of a good snapshot with an extreme number in it.
func TestRestoreExtremes(t *testing.T) {
	t.Parallel()
	rows := table()
	for i := range rows {
		s := fuzzSpec(uint8(i))
		t.Run(s.Model, func(t *testing.T) {
			t.Parallel()
			m, err := New(s)
			if err != nil {
				t.Fatal(err)
			}
			for k := range 700 {
				Step(m, int64(k)*300_000, float64(k%17))
			}
			b := m.AppendSnapshot(nil)
			body := b[snapshotHeader : len(b)-snapshotTrailer]
			stride := 1 + len(body)/60
			for at := 0; at+8 <= len(body); at += stride {
				for _, v := range []float64{math.MaxFloat64, -1e308, 5e-324, math.NaN(), math.Inf(1), 0} {
					bad := bytes.Clone(body)
					binary.LittleEndian.PutUint64(bad[at:], math.Float64bits(v))
					checkRestore(t, uint8(i), bad)
				}
			}
		})
	}
}
