package logmine

import "aiops/internal/model"

// This file holds what people decide about templates.

// mostChildren bounds the templates that one is split into; lines with further
// texts stay with it.
const mostChildren = 256

func (m *Miner) find(id ID) (int32, error) {
	i, ok := m.lookup(id)
	if !ok {
		return 0, &model.Error{Kind: model.KindNotFound, Message: "no log template has the id " + id.String() + "; it may have been evicted",
			Context: map[string]any{"id": id.String()}}
	}
	return i, nil
}

// Name names the template; "" takes the name away. A named template is neither
// evicted nor merged away.
func (m *Miner) Name(id ID, name string) error {
	if err := validName(name); err != nil {
		return err
	}
	i, err := m.find(id)
	if err != nil {
		return err
	}
	t := m.templates[i]
	m.bytes += len(name) - len(t.name)
	t.name = name
	m.stats.Changes++
	return nil
}

// Mark marks the template. A marked template is neither evicted nor merged
// away.
func (m *Miner) Mark(id ID, mark Mark) error {
	if mark > MarkImportant {
		return model.Errorf(model.KindInvalid, "", "%d is not a mark; use none, ignored or important", mark)
	}
	i, err := m.find(id)
	if err != nil {
		return err
	}
	m.templates[i].mark = mark
	m.stats.Changes++
	return nil
}

// Pin keeps the template as it is, or lets it go again: while pinned, lines
// neither generalise nor merge nor evict it.
func (m *Miner) Pin(id ID, pinned bool) error {
	i, err := m.find(id)
	if err != nil {
		return err
	}
	t := m.templates[i]
	if pinned {
		// What is shown now is shown from now on.
		for p := range t.slots {
			if s := &t.slots[p]; m.shown(t, p) && s.flags&slotWild == 0 && s.kind != kindMask {
				s.flags |= slotVaried
			}
		}
		t.flags |= flagPinned
	} else {
		t.flags &^= flagPinned
	}
	t.reopen()
	m.stats.Changes++
	return nil
}

// Merge makes the two templates one and returns its id: that of a pinned one,
// else of the one with more lines, else of the elder. The other id leads to it
// from now on. Templates of the same shape become one
// template in which the places that differ are variables; others stay two
// patterns with that id and its text.
func (m *Miner) Merge(a, b ID) (ID, error) {
	i, err := m.find(a)
	if err != nil {
		return 0, err
	}
	j, err := m.find(b)
	if err != nil {
		return 0, err
	}
	if i == j {
		return m.templates[i].id, nil
	}
	t, c := m.templates[i], m.templates[j]
	if c.keepsID(t) {
		i, j, t, c = j, i, c, t
	}
	if t.name == "" {
		t.name, c.name = c.name, t.name
	}
	m.bytes -= len(c.name)
	c.name = ""
	if t.mark == MarkNone {
		t.mark = c.mark
	}
	c.mark = MarkNone
	m.stats.Changes++
	if r := compare(t, c); t.shape == c.shape && !r.beyond && t.flags == 0 && c.flags == 0 {
		id := t.id
		m.generalise(i, c)
		if at, ok := m.byID[c.id]; ok && at == j { // wider than what it was merged into
			m.link(t, c)
		}
		return m.aliases.resolve(id), nil
	}
	m.link(t, c)
	return t.id, nil
}

// link gives the lines of c the id of t.
func (m *Miner) link(t, c *template) {
	gone := c.id
	for _, o := range m.templates {
		if o.live && o.emit == gone {
			o.emit = t.id
			o.flags |= flagLinked
		}
	}
	t.flags |= flagLinked
	delete(m.byID, gone)
	m.aliases.add(gone, t.id)
	m.stats.Merged++
}

// Split undoes that a place is a variable: from now on each text that stands
// there has a template of its own, which is a child of this one. The place is
// the index of a variable in Template.Variables. Lines so far stay with the
// parent.
func (m *Miner) Split(id ID, variable int) error {
	i, err := m.find(id)
	if err != nil {
		return err
	}
	t := m.templates[i]
	if t.flags&flagChild != 0 {
		return model.Errorf(model.KindConflict, "", "log template %s was split off from %s already; split that one", id, t.parent)
	}
	vars := m.render(t).vars
	if variable < 0 || variable >= len(vars) || len(vars[variable].slots) == 0 {
		return model.Errorf(model.KindInvalid, "", "log template %s has no variable %d to split at; it has %d, counted from 0", id, variable, len(vars))
	}
	for _, p := range vars[variable].slots {
		t.slots[p].flags |= slotSplit
	}
	t.flags |= flagSplit
	t.reopen()
	m.stats.Changes++
	return nil
}

// childOf returns the child of t that the scanned line belongs to, or t.
func (m *Miner) childOf(t *template) *template {
	d := m.draft()
	if len(d.slots) != len(t.slots) {
		return t
	}
	key := m.scan.seed ^ uint64(t.id)
	for p := range t.slots {
		if t.slots[p].flags&slotSplit != 0 {
			key = fold(key^hashBytes(d.slotText(p), m.scan.seed), mulA^uint64(p))
			d.slots[p].flags |= slotFixed
		}
	}
	if i, ok := m.children[key]; ok {
		c := m.templates[i]
		m.note(c, d)
		return c
	}
	if t.born >= mostChildren {
		return t
	}
	t.born++
	i := m.create(d)
	c := m.templates[i]
	c.flags |= flagChild
	c.parent, c.child = t.id, key
	m.children[key] = i
	return c
}

// Resolve returns the id that the lines of a template get now: its own, or that
// of the template it was merged into. It reports false for an id that was never
// given and for that of a template which was evicted.
func (m *Miner) Resolve(id ID) (ID, bool) {
	to := m.aliases.resolve(id)
	_, ok := m.byID[to]
	return to, ok
}

// Aliases returns the ids that lead to this one, in no order: those of the
// templates that were merged into it.
func (m *Miner) Aliases(id ID) []ID {
	var out []ID
	for _, from := range m.aliases.order {
		if from != id && m.aliases.resolve(from) == id {
			out = append(out, from)
		}
	}
	return out
}
