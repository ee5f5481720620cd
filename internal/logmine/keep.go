package logmine

import "sort"

// drop gives up the record of template i. Its id is forgotten with it, unless
// an alias is made of it.
func (m *Miner) drop(i int32) {
	t := m.templates[i]
	if b := m.byShape[t.shape]; b != nil && t.flags&flagChild == 0 {
		b.plain = without(b.plain, i)
		b.wild = without(b.wild, i)
		if len(b.plain)+len(b.wild) == 0 {
			delete(m.byShape, t.shape)
		}
	}
	if t.flags&flagChild != 0 {
		delete(m.children, t.child)
	}
	if m.byID[t.id] == i {
		delete(m.byID, t.id)
	}
	m.bytes -= t.sizeBytes()
	*t = template{gen: t.gen + 1}
	m.free = append(m.free, i)
	m.stats.Changes++
}

// makeRoom evicts templates if there is no room for one more: a sixteenth of
// them, those with the least sum of age and count. The age of a template is
// that of the miner at its last line, and the age of the miner is the sum of
// the last victim, so that a template which is not seen any more falls behind
// those that are, however often it was seen: least frequently used with
// dynamic ageing. Protected templates stay; if nothing else is left, the new
// one goes beyond the bound, which people's decisions alone can bring about.
func (m *Miner) makeRoom() {
	live := m.Len()
	if live < m.cfg.MaxTemplates && m.bytes < m.cfg.MaxStateBytes {
		return
	}
	victims := make([]int32, 0, live)
	for i, t := range m.templates {
		if t.live && !t.protected() {
			victims = append(victims, int32(i))
		}
	}
	sort.Slice(victims, func(i, j int) bool {
		a, b := m.templates[victims[i]], m.templates[victims[j]]
		if wa, wb := a.worth(), b.worth(); wa != wb {
			return wa < wb
		}
		if a.last != b.last {
			return a.last < b.last
		}
		return a.id < b.id
	})
	for _, i := range victims[:min(max(1, live/16), len(victims))] {
		m.age = max(m.age, m.templates[i].worth())
		m.drop(i)
		m.stats.Evicted++
	}
}

// worth is the template's claim to its place. The count is capped so that no
// past, however long, lasts for ever.
func (t *template) worth() uint64 {
	const most = 1 << 16
	return t.age + min(t.count, most)
}

// aliases lead from ids that were merged away to those that stayed. Their
// number is bounded: the oldest are forgotten first.
type aliases struct {
	to    map[ID]ID
	order []ID
}

const mostAliases = 1 << 13

func (a *aliases) add(from, to ID) {
	if from == to {
		return
	}
	delete(a.to, to) // never a circle
	if len(a.order) >= mostAliases {
		n := len(a.order) / 4
		for _, id := range a.order[:n] {
			delete(a.to, id)
		}
		a.order = append(a.order[:0], a.order[n:]...)
	}
	if _, ok := a.to[from]; !ok {
		a.order = append(a.order, from)
	}
	a.to[from] = to
}

func (a *aliases) resolve(id ID) ID {
	for {
		to, ok := a.to[id]
		if !ok {
			return id
		}
		id = to
	}
}
