package pipeline

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"time"

	"aiops/internal/model"
)

// frame writes one part of a snapshot: magic, version, kind, content, checksum.
// Integers are little endian, floats are their bits.
type frame struct{ b []byte }

func newFrame(b []byte, kind byte) *frame {
	return &frame{append(append(b, snapshotMagic...), snapshotVersion, kind)}
}

func (w *frame) close() []byte {
	return binary.LittleEndian.AppendUint32(w.b, crc32.Checksum(w.b, castagnoli))
}

func (w *frame) u8(v uint8)    { w.b = append(w.b, v) }
func (w *frame) u64(v uint64)  { w.b = binary.LittleEndian.AppendUint64(w.b, v) }
func (w *frame) i64(v int64)   { w.u64(uint64(v)) }
func (w *frame) f64(v float64) { w.u64(math.Float64bits(v)) }
func (w *frame) uint(v uint64) { w.b = binary.AppendUvarint(w.b, v) }
func (w *frame) text(s string) { w.uint(uint64(len(s))); w.b = append(w.b, s...) }
func (w *frame) bytes(s []byte) {
	w.uint(uint64(len(s)))
	w.b = append(w.b, s...)
}

func (w *frame) bool(v bool) {
	if v {
		w.u8(1)
	} else {
		w.u8(0)
	}
}

func (w *frame) tunings(list []tuning) {
	w.uint(uint64(len(list)))
	for _, tu := range list {
		w.i64(tu.from)
		w.text(string(tu.direction))
		w.f64(tu.minDeviation.Absolute)
		w.f64(tu.minDeviation.Relative)
		w.i64(int64(tu.forTime))
		w.i64(int64(tu.keepTime))
		w.f64(tu.budget)
		w.i64(int64(tu.refractory))
		w.text(tu.holidays)
	}
}

func (w *frame) point(p model.ScoredPoint) {
	w.i64(p.T)
	for _, v := range pointBits(p) {
		w.u64(v)
	}
	w.bool(p.Anomalous)
}

func (w *frame) episode(e *episode) {
	w.bool(e != nil)
	if e == nil {
		return
	}
	w.u8(uint8(e.phase))
	w.u8(uint8(e.severity))
	w.i64(e.startedAt)
	w.i64(e.firedAt)
	w.i64(e.endedAt)
	w.uint(uint64(e.over))
	w.uint(uint64(e.calm))
	w.uint(uint64(e.flaps))
	w.i64(e.told.at)
	w.f64(e.told.score)
	w.u8(uint8(e.told.severity))
	w.point(e.peak)
	w.u8(uint8(e.cause))
	w.proof(e.proof)
}

func (w *frame) proof(p *proof) {
	w.bool(p != nil)
	if p == nil {
		return
	}
	w.bytes(p.state)
	w.uint(uint64(len(p.context)))
	for _, c := range p.context {
		w.point(c)
	}
	w.uint(uint64(len(p.contributions)))
	for _, c := range p.contributions {
		w.text(c.Name)
		w.f64(c.Score)
		w.f64(c.Share)
		w.text(c.Note)
	}
	w.f64(p.threshold)
	w.uint(uint64(p.active))
}

// parser reads a part. After the first fault it returns zeros and keeps the
// fault.
type parser struct {
	b       []byte
	err     error
	version uint8 // of the format
}

// openFrame checks magic, version, kind and checksum.
func openFrame(b []byte, kind byte) *parser {
	r := &parser{}
	switch {
	case len(b) < frameHead+frameTail:
		r.fail("it is cut off")
	case string(b[:len(snapshotMagic)]) != snapshotMagic:
		r.fail("it is not one")
	case b[len(snapshotMagic)] < oldestSnapshot || b[len(snapshotMagic)] > snapshotVersion:
		r.fail("it was written by a version of this program that this one does not know")
	case crc32.Checksum(b[:len(b)-frameTail], castagnoli) != binary.LittleEndian.Uint32(b[len(b)-frameTail:]):
		r.fail("it is damaged: the checksum does not match")
	case b[len(snapshotMagic)+1] != kind:
		r.fail("a part is in the wrong place")
	default:
		r.b, r.version = b[frameHead:len(b)-frameTail], b[len(snapshotMagic)]
	}
	return r
}

// close returns the first fault; bytes left over are one.
func (r *parser) close() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("it is longer than its content")
	}
	return r.err
}

func (r *parser) fail(problem string) {
	if r.err == nil {
		r.err = &snapshotFault{problem}
	}
	r.b = nil
}

func (r *parser) take(n uint64) []byte {
	if r.err != nil {
		return nil
	}
	if uint64(len(r.b)) < n {
		r.fail("it is cut off")
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *parser) u8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *parser) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *parser) i64() int64   { return int64(r.u64()) }
func (r *parser) f64() float64 { return math.Float64frombits(r.u64()) }

func (r *parser) bool() bool {
	v := r.u8()
	if v > 1 {
		r.fail("it contradicts itself")
	}
	return v == 1
}

// small reads a byte that must be below limit.
func (r *parser) small(limit uint8) uint8 {
	v := r.u8()
	if v >= limit {
		r.fail("it contradicts itself")
		return 0
	}
	return v
}

// uint reads a number of at most limit.
func (r *parser) uint(limit uint64) uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > limit {
		r.fail("it contradicts itself")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads how many items follow, each of at least size bytes.
func (r *parser) count(limit, size uint64) uint64 {
	n := r.uint(limit)
	if n > uint64(len(r.b))/size {
		r.fail("it is cut off")
		return 0
	}
	return n
}

func (r *parser) bytes() []byte { return r.take(r.uint(math.MaxInt32)) }
func (r *parser) text() string  { return string(r.bytes()) }

// bytes32 reads bytes behind a length of four bytes.
func (r *parser) bytes32() []byte {
	if b := r.take(4); b != nil {
		return r.take(uint64(binary.LittleEndian.Uint32(b)))
	}
	return nil
}

func (r *parser) tunings() []tuning {
	var list []tuning
	for range r.count(maxTunings, 49) {
		tu := tuning{from: r.i64(), direction: model.Direction(r.text())}
		tu.minDeviation = model.MinDeviation{Absolute: r.f64(), Relative: r.f64()}
		tu.forTime, tu.keepTime, tu.budget = time.Duration(r.i64()), time.Duration(r.i64()), r.f64()
		if r.version >= 2 {
			tu.refractory = time.Duration(r.i64())
		}
		if r.version >= 5 {
			tu.holidays = r.text()
		}
		list = append(list, tu)
	}
	return list
}

func (r *parser) point() model.ScoredPoint {
	p := model.ScoredPoint{T: r.i64(), Value: r.f64(), Expected: r.f64(), Lower: r.f64(), Upper: r.f64(), Score: r.f64()}
	p.Anomalous = r.bool()
	return p
}

func (r *parser) episode() *episode {
	if !r.bool() {
		return nil
	}
	e := &episode{phase: phase(r.small(uint8(phaseOver))), severity: severity(r.small(uint8(severityCritical) + 1))}
	e.startedAt, e.firedAt, e.endedAt = r.i64(), r.i64(), r.i64()
	e.over, e.calm, e.flaps = int32(r.uint(math.MaxInt32)), int32(r.uint(math.MaxInt32)), int32(r.uint(math.MaxInt32))
	e.told = toldState{at: r.i64(), score: r.f64(), severity: severity(r.small(uint8(severityCritical) + 1))}
	e.peak = r.point()
	e.cause = cause(r.u8())
	e.proof = r.proof()
	return e
}

func (r *parser) proof() *proof {
	if !r.bool() {
		return nil
	}
	p := &proof{state: append([]byte(nil), r.bytes()...)}
	for range r.count(contextPoints, 49) {
		p.context = append(p.context, r.point())
	}
	for range r.count(1024, 18) {
		p.contributions = append(p.contributions, model.Contribution{Name: r.text(), Score: r.f64(), Share: r.f64(), Note: r.text()})
	}
	p.threshold = r.f64()
	p.active = int(r.uint(math.MaxInt32))
	return p
}
