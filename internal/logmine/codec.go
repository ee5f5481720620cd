package logmine

import "encoding/binary"

// encoder appends the parts of a snapshot.
type encoder struct{ b []byte }

func (e *encoder) uint(v uint64)   { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) hash(v uint64)   { e.b = binary.LittleEndian.AppendUint64(e.b, v) }
func (e *encoder) bytes(v []byte)  { e.uint(uint64(len(v))); e.b = append(e.b, v...) }
func (e *encoder) byte(v uint8)    { e.b = append(e.b, v) }
func (e *encoder) word32(v uint32) { e.b = binary.LittleEndian.AppendUint32(e.b, v) }

func (e *encoder) indexes(list []int32) {
	e.uint(uint64(len(list)))
	for _, i := range list {
		e.uint(uint64(i))
	}
}

// Bits of a record's first byte.
const (
	bitLive uint8 = 1 << iota
	bitCut
	bitMerged // emit is not id
)

func (e *encoder) template(t *template) {
	bits := uint8(0)
	for _, f := range [...]struct {
		bit uint8
		on  bool
	}{{bitLive, t.live}, {bitCut, t.cut}, {bitMerged, t.emit != t.id}} {
		if f.on {
			bits |= f.bit
		}
	}
	e.byte(bits)
	e.uint(uint64(t.gen))
	if !t.live {
		return
	}
	e.hash(uint64(t.id))
	if t.emit != t.id {
		e.hash(uint64(t.emit))
	}
	e.byte(t.flags)
	e.byte(uint8(t.mark))
	if t.flags&flagChild != 0 {
		e.hash(uint64(t.parent))
		e.hash(t.child)
	}
	e.uint(uint64(t.born))
	e.uint(t.birth)
	e.uint(t.last)
	e.uint(t.count)
	e.uint(t.foreign)
	e.uint(t.age)
	e.bytes([]byte(t.name))
	e.bytes(t.text)
	e.uint(uint64(len(t.parts)))
	for _, p := range t.parts {
		e.uint(uint64(p.start))
		e.uint(uint64(p.end))
	}
	e.uint(uint64(len(t.slots)))
	for i := range t.slots {
		s := &t.slots[i]
		e.hash(s.key)
		e.hash(s.exact)
		e.uint(uint64(s.start))
		e.uint(uint64(s.end))
		e.uint(uint64(s.part))
		e.byte(s.parts)
		e.uint(uint64(s.count))
		e.byte(s.unit)
		e.byte(s.link)
		e.byte(uint8(s.kind))
		e.byte(s.flags)
	}
}

func (e *encoder) words(w *wordMemory) {
	for _, v := range w.values {
		e.word32(v)
	}
	for _, k := range w.keys {
		e.word32(k.word)
		e.word32(k.key)
	}
}

func (e *encoder) vocabulary(v *vocabulary) {
	for _, h := range v {
		e.word32(h.word)
		e.word32(h.shape)
		e.word32(h.before)
	}
}

func (e *encoder) places(l *places) {
	for _, c := range l {
		e.word32(c.values)
		e.word32(c.messages)
	}
}

func (e *encoder) labels(l *labels) {
	for i := range l {
		e.word32(l[i].word)
		e.uint(uint64(l[i].values))
		e.uint(uint64(l[i].messages))
	}
}

func (e *encoder) cache(c *cache) {
	n := 0
	for i := range c.sets {
		for k := range cacheWays {
			if c.sets[i].index[k] != 0 {
				n++
			}
		}
	}
	e.uint(uint64(n))
	for i := range c.sets {
		set := &c.sets[i]
		for k := range cacheWays {
			if set.index[k] != 0 {
				e.uint(uint64(i*cacheWays + k))
				e.hash(set.key[k])
				e.uint(uint64(set.index[k] - 1))
				e.uint(uint64(set.gen[k]))
			}
		}
	}
}

// decoder reads the parts of a snapshot. After the first fault it is bad and
// reads zeros.
type decoder struct {
	b       []byte
	version byte // of the snapshot
	bad     bool
}

func (d *decoder) fail() uint64 {
	d.bad, d.b = true, nil
	return 0
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		return d.fail()
	}
	d.b = d.b[n:]
	return v
}

// below reads a number less than limit.
func (d *decoder) below(limit uint64) uint64 {
	v := d.uint()
	if v >= limit {
		return d.fail()
	}
	return v
}

func (d *decoder) hash() uint64 {
	if len(d.b) < 8 {
		return d.fail()
	}
	v := binary.LittleEndian.Uint64(d.b)
	d.b = d.b[8:]
	return v
}

func (d *decoder) word32() uint32 {
	if len(d.b) < 4 {
		return uint32(d.fail())
	}
	v := binary.LittleEndian.Uint32(d.b)
	d.b = d.b[4:]
	return v
}

func (d *decoder) skip(n int) {
	if len(d.b) < n {
		d.fail()
		return
	}
	d.b = d.b[n:]
}

func (d *decoder) byte() uint8 {
	if len(d.b) < 1 {
		return uint8(d.fail())
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

// count reads how many parts of at least size bytes follow, so that what is
// made for them is bounded by what is there.
func (d *decoder) count(size int) int {
	v := d.uint()
	if v > uint64(len(d.b)/size) {
		v = d.fail()
	}
	return int(v)
}

func (d *decoder) bytes() []byte {
	n := d.count(1)
	v := append([]byte(nil), d.b[:n]...)
	d.b = d.b[n:]
	return v
}

func (d *decoder) indexes(limit int) []int32 {
	list := make([]int32, 0, d.count(1))
	for range cap(list) {
		list = append(list, int32(d.below(uint64(limit))))
	}
	if d.bad {
		return nil
	}
	return list
}

func (d *decoder) template() *template {
	bits := d.byte()
	t := &template{gen: uint32(d.below(1 << 31)), live: bits&bitLive != 0, cut: bits&bitCut != 0}
	if !t.live {
		return t
	}
	t.id = ID(d.hash())
	t.emit = t.id
	if bits&bitMerged != 0 {
		t.emit = ID(d.hash())
	}
	t.flags = d.byte()
	t.mark = Mark(d.byte())
	if t.flags&flagChild != 0 {
		t.parent, t.child = ID(d.hash()), d.hash()
	}
	t.born = uint16(d.below(mostChildren + 1))
	t.birth, t.last, t.count = d.uint(), d.uint(), d.uint()
	if d.version >= 3 {
		t.foreign = d.below(t.count + 1)
	}
	t.age = d.uint()
	t.name = string(d.bytes())
	t.text = d.bytes()
	const leastSpan, leastSlot = 2, 25
	t.parts = make([]span, d.count(leastSpan))
	for i := range t.parts {
		t.parts[i] = span{uint16(d.below(1 << 16)), uint16(d.below(1 << 16))}
	}
	t.slots = make([]slot, d.count(leastSlot))
	if len(t.text) > 1<<16-1 || len(t.slots) > hardItems || t.mark > MarkImportant || validName(t.name) != nil {
		d.fail()
	}
	end := uint64(0)
	for i := range t.slots {
		s := &t.slots[i]
		s.key, s.exact = d.hash(), d.hash()
		s.start, s.end = uint16(d.below(1<<16)), uint16(d.below(1<<16))
		s.part, s.parts = uint16(d.below(1<<16)), d.byte()
		s.count = uint16(d.below(1 << 16))
		s.unit, s.link = d.byte(), d.byte()
		s.kind, s.flags = itemKind(d.byte()), d.byte()
		if uint64(s.start) < end || s.start > s.end || int(s.end) > len(t.text) || s.kind > kindSoft {
			d.fail()
		}
		end = uint64(s.end)
	}
	if !d.bad && !t.sound() {
		d.fail()
	}
	if d.bad {
		return &template{}
	}
	return t
}

// sound reports whether the lists and clusters of a template that was read lie
// within it and do not overlap.
func (t *template) sound() bool {
	for i := range t.slots {
		s := &t.slots[i]
		if int(s.part)+int(s.parts) > len(t.parts) || s.parts > 0 && s.kind != kindMask {
			return false
		}
		end := s.start
		for _, p := range t.parts[s.part : int(s.part)+int(s.parts)] {
			if p.start < end || p.start > p.end || p.end > s.end {
				return false
			}
			end = p.end
		}
	}
	for i := 0; i < len(t.slots); {
		s := &t.slots[i]
		unit := int(s.unit)
		if unit == 0 {
			if s.link != 0 || s.count != 1 {
				return false
			}
			i++
			continue
		}
		if unit > longestUnit || i+unit > len(t.slots) || s.count < 2 {
			return false
		}
		for k := i + 1; k < i+unit; k++ {
			if t.slots[k].unit != 0 || t.slots[k].link != 0 {
				return false
			}
		}
		next := len(t.text)
		if i+unit < len(t.slots) {
			next = int(t.slots[i+unit].start)
		}
		if int(t.slots[i+unit-1].end)+int(s.link) > next {
			return false
		}
		i += unit
	}
	return true
}

func (d *decoder) words(w *wordMemory) {
	for i := range w.values {
		w.values[i] = d.word32()
	}
	for i := range w.keys {
		w.keys[i] = keyed{d.word32(), d.word32()}
	}
}

func (d *decoder) vocabulary(v *vocabulary) {
	for i := range v {
		v[i] = heard{d.word32(), d.word32(), d.word32()}
	}
}

func (d *decoder) places(l *places) {
	for i := range l {
		l[i] = placeCount{d.word32(), d.word32()}
		if l[i].values > mostCounted || l[i].messages > mostCounted {
			d.fail()
		}
	}
}

func (d *decoder) labels(l *labels) {
	for i := range l {
		l[i].word = d.word32()
		l[i].values = uint32(d.below(mostCounted + 1))
		l[i].messages = uint32(d.below(mostCounted + 1))
	}
}

func (d *decoder) cache(c *cache, templates int) {
	const leastEntry = 11
	for range d.count(leastEntry) {
		at := d.below(cacheSets * cacheWays)
		h, index, gen := d.hash(), d.below(uint64(templates)), d.below(1<<32)
		if d.bad {
			return
		}
		set := &c.sets[at/cacheWays]
		set.key[at%cacheWays], set.index[at%cacheWays], set.gen[at%cacheWays] = h, int32(index)+1, uint32(gen)
	}
}
