package logmine

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"sort"

	"aiops/internal/model"
)

// A snapshot is, in order: the magic, the version of this format, the version
// of the scanner, the seed, the counters, the records of the templates in
// their order with the free ones among them, the buckets, the children, the
// aliases, the memory of words, the vocabulary, the counts of places and of
// labels, the
// cache, and a checksum of all before it. Numbers are varints where they tend
// to be small and eight bytes little endian where they are hashes.

const (
	snapshotMagic   = "AIOPSLM"
	snapshotVersion = 4 // 1 was without the vocabulary, 2 without its words before, the lines of other ids and the places, 3 without the labels
	// scannerVersion grows with every change of what the scanner makes of a
	// line. A snapshot of another version is read by scanning the templates'
	// own lines again, so ids and what people decided outlive the change.
	scannerVersion = 3
)

// The reasons for which Restore refuses a snapshot.
var (
	errForeign   = errors.New("it is not a snapshot of a log template miner")
	errNewer     = errors.New("it was written by a newer version")
	errTruncated = errors.New("it is cut off or its contents contradict each other")
	errChecksum  = errors.New("its checksum does not fit")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendSnapshot appends the whole state to dst. A miner that restores it goes
// on exactly as this one does.
func (m *Miner) AppendSnapshot(dst []byte) []byte {
	start := len(dst)
	e := encoder{append(dst, snapshotMagic...)}
	e.b = append(e.b, snapshotVersion)
	e.uint(scannerVersion)
	e.hash(m.cfg.Seed)
	s := &m.stats
	for _, v := range [...]uint64{s.Lines, s.Cut, s.Misses, s.Created, s.Merged, s.Evicted, s.Changes, m.age} {
		e.uint(v)
	}
	e.uint(uint64(len(m.templates)))
	for _, t := range m.templates {
		e.template(t)
	}
	e.indexes(m.free)
	shapes := make([]uint64, 0, len(m.byShape))
	for h := range m.byShape {
		shapes = append(shapes, h)
	}
	sort.Slice(shapes, func(i, j int) bool { return shapes[i] < shapes[j] })
	e.uint(uint64(len(shapes)))
	for _, h := range shapes {
		e.hash(h)
		e.indexes(m.byShape[h].wild)
		e.indexes(m.byShape[h].plain)
	}
	e.uint(uint64(len(m.aliases.order)))
	for _, from := range m.aliases.order {
		e.hash(uint64(from))
		e.hash(uint64(m.aliases.to[from]))
	}
	e.words(&m.words)
	e.vocabulary(&m.vocabulary)
	e.places(&m.places)
	e.labels(&m.labels)
	e.cache(&m.cache)
	return binary.LittleEndian.AppendUint32(e.b, crc32.Checksum(e.b[start:], castagnoli))
}

// Restore replaces the state by that of a snapshot. The bounds stay those of
// the miner's own Config. On an error, which is a model.Error, the miner is
// empty. A snapshot takes no more memory to read than a small multiple of its
// own size.
func (m *Miner) Restore(snapshot []byte) error {
	m.reset()
	err := m.restore(snapshot, false)
	if err == nil {
		return nil
	}
	m.reset()
	return model.WrapError(model.KindInvalid, "", err, "the snapshot of the log templates cannot be used; start without it and let it learn anew")
}

// restore reads the snapshot. With anew it treats it as one of another version
// of the scanner.
func (m *Miner) restore(snapshot []byte, anew bool) error {
	if len(snapshot) < len(snapshotMagic)+1 || string(snapshot[:len(snapshotMagic)]) != snapshotMagic {
		return errForeign
	}
	version := snapshot[len(snapshotMagic)]
	if version < 1 || version > snapshotVersion {
		return errNewer
	}
	body := snapshot[:max(len(snapshot)-4, len(snapshotMagic)+1)]
	if len(snapshot)-len(body) != 4 || crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(snapshot[len(body):]) {
		return errChecksum
	}
	d := decoder{b: body[len(snapshotMagic)+1:], version: version}
	anew = d.uint() != scannerVersion || anew
	anew = d.hash() != m.cfg.Seed || anew
	s := &m.stats
	for _, v := range [...]*uint64{&s.Lines, &s.Cut, &s.Misses, &s.Created, &s.Merged, &s.Evicted, &s.Changes, &m.age} {
		*v = d.uint()
	}
	const leastRecord, leastBucket, aliasSize = 1, 11, 16
	m.templates = make([]*template, d.count(leastRecord))
	for i := range m.templates {
		m.templates[i] = d.template()
	}
	m.free = d.indexes(len(m.templates))
	buckets := d.count(leastBucket)
	for range buckets {
		h := d.hash()
		m.byShape[h] = &bucket{wild: d.indexes(len(m.templates)), plain: d.indexes(len(m.templates))}
	}
	aliases := d.count(aliasSize)
	for range aliases {
		from, to := ID(d.hash()), ID(d.hash())
		m.aliases.add(from, to)
	}
	d.words(&m.words)
	switch version {
	case 1:
	case 2:
		const size = 8
		d.skip(size * len(m.vocabulary))
	default:
		d.vocabulary(&m.vocabulary)
		d.places(&m.places)
		if version > 3 {
			d.labels(&m.labels)
		}
	}
	d.cache(&m.cache, len(m.templates))
	if d.bad || len(d.b) != 0 {
		return errTruncated
	}
	if anew {
		return m.rescan()
	}
	if err := m.relink(); err != nil || version >= 3 {
		return err
	}
	for _, t := range m.templates {
		if t.live {
			m.vocabulary.learn(t)
		}
	}
	return nil
}

// relink derives the indexes that a snapshot leaves out, and checks that its
// parts agree.
func (m *Miner) relink() error {
	free := 0
	for i, t := range m.templates {
		if !t.live {
			free++
			continue
		}
		t.shape = m.shapeOf(t)
		if t.emit == t.id {
			if _, twice := m.byID[t.id]; twice || t.id == 0 {
				return errTruncated
			}
			m.byID[t.id] = int32(i)
		}
		if t.flags&flagChild != 0 {
			m.children[t.child] = int32(i)
		}
		t.reopen()
		m.bytes += t.sizeBytes()
	}
	if free != len(m.free) {
		return errTruncated
	}
	for _, i := range m.free {
		if m.templates[i].live {
			return errTruncated
		}
	}
	indexed := 0
	for h, b := range m.byShape {
		for _, list := range [...][]int32{b.wild, b.plain} {
			indexed += len(list)
			for _, i := range list {
				if t := m.templates[i]; !t.live || t.shape != h || t.flags&flagChild != 0 {
					return errTruncated
				}
			}
		}
	}
	if indexed != len(m.byID)+m.linked()-len(m.children) {
		return errTruncated
	}
	for _, t := range m.templates {
		if _, ok := m.byID[t.emit]; t.live && !ok {
			return errTruncated
		}
	}
	for i := range m.cache.sets {
		set := &m.cache.sets[i]
		for k, x := range set.index {
			if x > 0 && !m.templates[x-1].live && m.templates[x-1].gen == set.gen[k]>>1 {
				return errTruncated
			}
		}
	}
	return nil
}

// linked counts the records whose lines get the id of another.
func (m *Miner) linked() int {
	n := 0
	for _, t := range m.templates {
		if t.live && t.emit != t.id {
			n++
		}
	}
	return n
}

// rescan makes the templates anew from their own lines, because the scanner or
// the seed is another now. Ids, counts, what varies and what people decided
// stay; what is quickly learnt again is dropped.
func (m *Miner) rescan() error {
	old := m.templates
	stats, age, aliases, places := m.stats, m.age, m.aliases, m.places
	m.reset()
	m.stats, m.age, m.aliases, m.places = stats, age, aliases, places
	order := make([]*template, 0, len(old))
	for _, t := range old {
		if t.live {
			order = append(order, t)
		}
	}
	sort.SliceStable(order, func(i, j int) bool { return order[i].birth < order[j].birth })
	for _, t := range order {
		m.scan.scan(t.exemplar(), 1<<16-1, hardItems)
		d := m.draft()
		d.cut = d.cut || t.cut
		n := &template{}
		*n = *t
		n.slots = append([]slot(nil), d.slots...)
		n.text = append([]byte(nil), d.text...)
		n.parts = append([]span(nil), d.parts...)
		n.open, n.gen = nil, 0
		n.shape = m.shapeOf(n)
		carry(n, t)
		i := int32(len(m.templates))
		m.templates = append(m.templates, n)
		if n.emit == n.id {
			if _, twice := m.byID[n.id]; twice || n.id == 0 {
				return errTruncated
			}
			m.byID[n.id] = i
		}
		if n.flags&flagChild != 0 {
			m.adopt(n, i)
		} else {
			m.index(i)
			if b := m.byShape[n.shape]; n.wild() {
				b.plain = without(b.plain, i)
				b.wild = append(b.wild, i)
			}
		}
		n.reopen()
		m.bytes += n.sizeBytes()
		m.words.learn(n, m.scan.seed)
		m.vocabulary.learn(n)
	}
	for _, t := range m.templates {
		if _, ok := m.byID[t.emit]; !ok {
			return errTruncated
		}
	}
	return nil
}

// adopt finds the key of a child, whose parent is older and so is there.
func (m *Miner) adopt(c *template, i int32) {
	c.child = m.scan.seed ^ uint64(c.parent)
	for p := range c.slots {
		if c.slots[p].flags&slotFixed != 0 {
			c.child = fold(c.child^hashBytes(c.slotText(p), m.scan.seed), mulA^uint64(p))
		}
	}
	m.children[c.child] = i
}

func (t *template) wild() bool {
	for i := range t.slots {
		if t.slots[i].flags&slotWild != 0 {
			return true
		}
	}
	return false
}

// exemplar returns a line of which the template could have been made: its text
// with each list twice as long as its unit.
func (t *template) exemplar() []byte {
	var out []byte
	for i := 0; i < len(t.slots); {
		out = append(out, t.gap(i)...)
		unit := max(1, int(t.slots[i].unit))
		a, b := t.slots[i].start, t.slots[i+unit-1].end
		out = append(out, t.text[a:b]...)
		if link := int(t.slots[i].link); t.slots[i].unit > 0 {
			out = append(out, t.text[b:int(b)+link]...)
			out = append(out, t.text[a:b]...)
		}
		i += unit
	}
	return append(out, t.gap(len(t.slots))...)
}

// carry takes over what is known of the slots of the old record. Slots are
// matched by their order if their number is the same, else by their text.
func carry(n, old *template) {
	if len(n.slots) == len(old.slots) {
		for i := range n.slots {
			n.slots[i].flags |= old.slots[i].flags
			n.slots[i].count = old.slots[i].count
		}
		return
	}
	j := 0
	for i := range old.slots {
		for k := j; k < len(n.slots); k++ {
			if string(n.slotText(k)) == string(old.slotText(i)) {
				n.slots[k].flags |= old.slots[i].flags
				j = k + 1
				break
			}
		}
	}
}
