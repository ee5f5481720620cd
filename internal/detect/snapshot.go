package detect

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"unsafe"
)

// A snapshot is a header, the model's own part and a checksum; see
// docs/formats/model-snapshot.md.
const (
	snapshotMagic   = "AIM\x00"
	snapshotVersion = 3
	snapshotHeader  = len(snapshotMagic) + 1 + 8
	snapshotTrailer = 4
)

// writer appends a snapshot to a slice.
type writer struct {
	b     []byte
	start int
}

// openSnapshot begins a snapshot at the end of dst.
func openSnapshot(dst []byte, ident uint64) *writer {
	w := &writer{b: dst, start: len(dst)}
	w.b = append(w.b, snapshotMagic...)
	w.u8(snapshotVersion)
	w.u64(ident)
	return w
}

// close appends the checksum and returns the slice.
func (w *writer) close() []byte {
	return binary.LittleEndian.AppendUint32(w.b, crc32.Checksum(w.b[w.start:], crc32.MakeTable(crc32.Castagnoli)))
}

func (w *writer) u8(v uint8)       { w.b = append(w.b, v) }
func (w *writer) u32(v uint32)     { w.b = binary.LittleEndian.AppendUint32(w.b, v) }
func (w *writer) u64(v uint64)     { w.b = binary.LittleEndian.AppendUint64(w.b, v) }
func (w *writer) i64(v int64)      { w.u64(uint64(v)) }
func (w *writer) f64(v float64)    { w.u64(math.Float64bits(v)) }
func (w *writer) f32(v float32)    { w.u32(math.Float32bits(v)) }
func (w *writer) uvarint(v uint64) { w.b = binary.AppendUvarint(w.b, v) }

func (w *writer) bool(v bool) {
	if v {
		w.u8(1)
	} else {
		w.u8(0)
	}
}

// bytes appends b with its length in front.
func (w *writer) bytes(b []byte) {
	w.uvarint(uint64(len(b)))
	w.b = append(w.b, b...)
}

// reader reads a snapshot. After the first fault it returns zeros and keeps
// the fault; callers check bounds of what they allocate by.
type reader struct {
	b   []byte
	err error
}

// readSnapshot checks the frame and returns a reader of the model's part.
func readSnapshot(b []byte, ident uint64) *reader {
	d := &reader{}
	if len(b) < snapshotHeader+snapshotTrailer {
		d.fail("the snapshot is cut off")
		return d
	}
	if string(b[:len(snapshotMagic)]) != snapshotMagic {
		d.fail("this is not a model snapshot")
		return d
	}
	if v := b[len(snapshotMagic)]; v != snapshotVersion {
		d.fail("the snapshot was written by a version of this program that this one does not know")
		return d
	}
	body, sum := b[:len(b)-snapshotTrailer], binary.LittleEndian.Uint32(b[len(b)-snapshotTrailer:])
	if crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)) != sum {
		d.fail("the snapshot is damaged: its checksum does not match")
		return d
	}
	if binary.LittleEndian.Uint64(b[len(snapshotMagic)+1:]) != ident {
		d.fail("the snapshot belongs to another model or to other parameters")
		return d
	}
	d.b = body[snapshotHeader:]
	return d
}

// close returns the first fault; bytes left over are one.
func (d *reader) close() error {
	if d.err == nil && len(d.b) > 0 {
		d.fail("the snapshot is longer than its model")
	}
	return d.err
}

func (d *reader) fail(problem string) {
	if d.err == nil {
		d.err = &SnapshotError{Problem: problem}
	}
	d.b = nil
}

// need reports whether n more bytes are there, and fails when not.
func (d *reader) need(n int) bool {
	if d.err != nil {
		return false
	}
	if n < 0 || len(d.b) < n {
		d.fail("the snapshot is cut off")
		return false
	}
	return true
}

// check fails with a general problem unless ok.
func (d *reader) check(ok bool) {
	if !ok {
		d.fail("the snapshot contradicts itself")
	}
}

func (d *reader) u8() uint8 {
	if !d.need(1) {
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *reader) u32() uint32 {
	if !d.need(4) {
		return 0
	}
	v := binary.LittleEndian.Uint32(d.b)
	d.b = d.b[4:]
	return v
}

func (d *reader) u64() uint64 {
	if !d.need(8) {
		return 0
	}
	v := binary.LittleEndian.Uint64(d.b)
	d.b = d.b[8:]
	return v
}

func (d *reader) i64() int64   { return int64(d.u64()) }
func (d *reader) f64() float64 { return math.Float64frombits(d.u64()) }
func (d *reader) f32() float32 { return math.Float32frombits(d.u32()) }

// finite reads a float that must be a number.
func (d *reader) finite() float64 {
	v := d.f64()
	d.check(finite(v))
	return v
}

// value reads a float of the size that models compute with.
func (d *reader) value() float64 {
	v := d.f64()
	d.check(v >= -4*maxValue && v <= 4*maxValue)
	return v
}

func (d *reader) bool() bool {
	v := d.u8()
	d.check(v <= 1)
	return v == 1
}

// uvarint reads a number that must not exceed limit.
func (d *reader) uvarint(limit uint64) uint64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("the snapshot is cut off")
		return 0
	}
	d.b = d.b[n:]
	d.check(v <= limit)
	if d.err != nil {
		return 0
	}
	return v
}

// bytes reads what bytes wrote, without copying it; at most limit of them.
func (d *reader) bytes(limit int) []byte {
	n := int(d.uvarint(uint64(limit)))
	if !d.need(n) {
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

// sizeOf is the size of a T itself, without what it points to.
func sizeOf[T any]() uintptr {
	var t T
	return unsafe.Sizeof(t)
}
