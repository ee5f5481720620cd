package logmine

import (
	"aiops/internal/model"
)

// This file carries one template from one miner to another, so that what people
// decide where some lines were seen is in force where others are.

// Record returns the template as Adopt takes it, without its counts.
func (m *Miner) Record(id ID) ([]byte, error) {
	i, err := m.find(id)
	if err != nil {
		return nil, err
	}
	e := encoder{[]byte{snapshotVersion}}
	e.template(m.templates[i])
	return e.b, nil
}

// Adopt returns the id that the template of a record has in this miner, from
// now on if it was not known: the miners may have seen other lines, and so may
// know it by another id or in a narrower form. What was found to vary there
// varies here too; with split, the places at which it is split are split here.
// A template that is new here has no line yet. Names, pins and marks are not
// taken over. A record that cannot be read is KindInvalid; one that was split
// off from a template which is not split here is KindNotFound.
func (m *Miner) Adopt(record []byte, split bool) (ID, error) {
	t, err := readRecord(record)
	if err != nil {
		return 0, err
	}
	m.scan.scan(t.exemplar(), 1<<16-1, hardItems)
	d := m.draft()
	d.cut = d.cut || t.cut
	carry(d, t)
	for p := range d.slots {
		if !split {
			d.slots[p].flags &^= slotSplit
		}
	}
	i, ok := m.lookup(t.id)
	switch {
	case ok:
	case t.flags&flagChild != 0:
		return m.adoptChild(d, t)
	default:
		i = m.place(d, t.id)
	}
	m.widen(i, d, split && t.flags&flagSplit != 0)
	return m.templates[i].emit, nil
}

// place returns the template that covers the draft, or makes one, and lets id
// lead to it.
func (m *Miner) place(d *template, id ID) int32 {
	i := m.covering(d)
	if i < 0 {
		i = m.create(d)
		t := m.templates[i]
		if _, taken := m.aliases.to[id]; !taken {
			delete(m.byID, t.id)
			t.id, t.emit = id, id
			m.byID[id] = i
		}
		m.index(i)
		m.reshelve(i)
	}
	m.aliases.add(id, m.templates[i].emit)
	return i
}

func readRecord(record []byte) (*template, error) {
	if len(record) > 0 && record[0] == snapshotVersion {
		d := decoder{b: record[1:], version: snapshotVersion}
		if t := d.template(); !d.bad && len(d.b) == 0 && t.live && t.id != 0 {
			return t, nil
		}
	}
	return nil, model.Errorf(model.KindInvalid, "", "the record of a log template cannot be read; it is damaged or of another version of the program")
}

// adoptChild finds or makes the child that the draft is the form of.
func (m *Miner) adoptChild(d, t *template) (ID, error) {
	i, err := m.find(t.parent)
	if err != nil {
		return 0, err
	}
	parent := m.templates[i]
	if parent.flags&flagSplit == 0 || parent.born >= mostChildren {
		return 0, model.Errorf(model.KindNotFound, "", "log template %s is not split here", t.parent)
	}
	parent.born++
	c := m.templates[m.create(d)]
	c.flags |= flagChild
	c.parent = parent.id
	m.adopt(c, m.byID[c.id])
	return c.id, nil
}

// covering returns a template of which all lines of d are, or -1.
func (m *Miner) covering(d *template) int32 {
	b := m.byShape[d.shape]
	if b == nil {
		return -1
	}
	for _, list := range [...][]int32{b.wild, b.plain} {
		for _, i := range list {
			if covers(m.templates[i], d) {
				return i
			}
		}
	}
	return -1
}

// widen lets vary in template i what varies in d, and splits it where d is
// split. A pinned template stays as it is.
func (m *Miner) widen(i int32, d *template, split bool) {
	t := m.templates[i]
	if t.flags&(flagPinned|flagChild) != 0 || t.shape != d.shape || len(t.slots) != len(d.slots) {
		return
	}
	for p := range t.slots {
		t.slots[p].flags |= d.slots[p].flags & (slotWild | slotVaried | slotCount | slotSplit)
	}
	if split {
		t.flags |= flagSplit
	}
	t.reopen()
	m.stats.Changes++
	m.reshelve(i)
	if t.flags&flagSplit == 0 {
		m.absorb(m.byShape[t.shape], i)
	}
}

// reshelve moves template i to where its bucket keeps those with wild slots.
func (m *Miner) reshelve(i int32) {
	t := m.templates[i]
	if b := m.byShape[t.shape]; b != nil && t.wild() {
		b.plain = without(b.plain, i)
		b.wild = append(without(b.wild, i), i)
	}
}
