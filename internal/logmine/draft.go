package logmine

// This file turns a scanned line into a draft: a template without an id, to be
// compared with those there are.

// list is a run of equal units among the items of a line.
type list struct {
	at, unit, count int
}

const longestUnit = 4

// draft makes a template of the scanned line in m.fresh. The lists of the line
// are reduced to their first unit, so that lines which differ in how much they
// list have one shape.
func (m *Miner) draft() *template {
	s := &m.scan
	for i := 0; i <= s.n; i++ {
		m.gapHash[i] = hashBytes(m.gapText(i), s.seed)
	}
	t := &m.fresh
	*t = template{slots: t.slots[:0], text: t.text[:0], open: t.open[:0], cut: s.cut}
	runs := m.lists()
	for i := 0; i < s.n; {
		units, unit := 1, 1
		if len(runs) > 0 && runs[0].at == i {
			units, unit = runs[0].count, runs[0].unit
			runs = runs[1:]
		}
		first := len(t.slots)
		for k := i; k < i+unit; k++ {
			it := &s.items[k]
			t.text = append(t.text, m.gapText(k)...)
			a := len(t.text)
			t.text = append(t.text, s.line[it.start:it.end]...)
			t.slots = append(t.slots, slot{key: it.key, exact: it.exact, start: uint16(a), end: uint16(len(t.text)), count: 1, kind: it.kind})
		}
		if units > 1 {
			link := m.gapText(i + unit)
			t.text = append(t.text, link...)
			l := &t.slots[first]
			l.count, l.unit, l.link = uint16(units), uint8(unit), uint8(len(link))
			for k := i + unit; k < i+units*unit; k++ {
				if of := (k - i) % unit; s.items[k].exact != s.items[i+of].exact {
					t.slots[first+of].flags |= slotVaried
				}
			}
		}
		i += units * unit
	}
	t.text = append(t.text, m.gapText(s.n)...)
	t.shape = m.shapeOf(t)
	return t
}

// shapeOf hashes the gaps of a template.
func (m *Miner) shapeOf(t *template) uint64 {
	h := m.scan.seed ^ uint64(len(t.slots))*mulD
	for i := 0; i <= len(t.slots); i++ {
		h = fold(h^hashBytes(t.gap(i), m.scan.seed), mulA)
	}
	return h
}

// gapText returns the gap before item i of the scanned line with its white
// space squeezed, or the tail for i = s.n. It is valid until the next call.
func (m *Miner) gapText(i int) []byte {
	s := &m.scan
	a, b := 0, len(s.line)
	if i > 0 {
		a = int(s.items[i-1].end)
	}
	if i < s.n {
		b = int(s.items[i].start)
	} else if s.cut {
		b = a
	}
	m.gapBuf = squeeze(m.gapBuf[:0], s.line[a:b], i == 0)
	return m.gapBuf
}

// squeeze appends b to dst with each run of white space as one space, and
// without white space at the beginning where trim says so.
func squeeze(dst, b []byte, trim bool) []byte {
	space := false
	for i := 0; i < len(b); {
		if isSpace(b[i]) {
			i = skipSpace(b, i)
			space = true
			continue
		}
		if space && !(trim && len(dst) == 0) {
			dst = append(dst, ' ')
		}
		space = false
		dst = append(dst, b[i])
		i++
	}
	if space && !(trim && len(dst) == 0) {
		dst = append(dst, ' ')
	}
	return dst
}

// lists finds the runs of repeated units among the items: numbers in a row,
// frames of a call stack. They do not overlap.
func (m *Miner) lists() []list {
	s := &m.scan
	m.runs = m.runs[:0]
	for i := 0; i+1 < s.n; {
		next := i + 1
		for unit := 1; unit <= longestUnit && i+2*unit <= s.n; unit++ {
			if n := m.repeats(i, unit); n > 1 {
				m.runs = append(m.runs, list{i, unit, n})
				next = i + n*unit
				break
			}
		}
		i = next
	}
	return m.runs
}

// repeats counts how often the unit of items at i follows itself; 1 means that
// it is no list. Each unit holds a variable, the gaps inside the units are
// equal, and so are those between them. Words are the same in each unit, names
// with digits may differ in them unless they are keys.
func (m *Miner) repeats(i, unit int) int {
	s := &m.scan
	variable := false
	for _, it := range s.items[i : i+unit] {
		variable = variable || it.kind == kindMask || unit == 1 && it.kind == kindAlnum
	}
	if !variable || !m.links(i, i+unit) {
		return 1
	}
	n := 1
	for j := i + unit; j+unit <= s.n && m.gapHash[j] == m.gapHash[i+unit] && m.sameUnit(i, j, unit); j += unit {
		n++
	}
	return m.longEnough(i+unit, n)
}

func (m *Miner) sameUnit(i, j, unit int) bool {
	s := &m.scan
	for k := range unit {
		a, b := &s.items[i+k], &s.items[j+k]
		if a.kind != b.kind || a.key != b.key || k > 0 && m.gapHash[i+k] != m.gapHash[j+k] {
			return false
		}
		if unit > 1 && a.exact != b.exact && (a.kind != kindAlnum || assigns(m.gapText(i+k+1))) {
			return false
		}
	}
	return true
}

// assigns reports whether the gap begins with an equals sign, so that what
// stands before it is a key.
func assigns(gap []byte) bool {
	return len(gap) > 0 && (gap[0] == '=' || len(gap) > 1 && gap[0] == ' ' && gap[1] == '=')
}

// links reports whether the gap before item j can link units of a list of
// which items i to j-1 are the first: with the gaps inside the unit its
// brackets and quotes pair up.
func (m *Miner) links(i, j int) bool {
	brackets, quotes := 0, 0
	for k := i + 1; k <= j; k++ {
		for _, c := range m.gapText(k) {
			switch c {
			case '(', '[', '{', '<':
				brackets++
			case ')', ']', '}', '>':
				brackets--
			case '"', '\'':
				quotes++
			case '=':
				if k == j {
					return false
				}
			}
		}
	}
	return brackets == 0 && quotes%2 == 0 && len(m.gapText(j)) < 256
}

// longEnough returns n if n units linked by the gap before item j make a list,
// else 1. Commas and spaces part the elements of lists; colons, dashes and
// bars part the fields of times and keys unless there are many.
func (m *Miner) longEnough(j, n int) int {
	const leastFields = 6
	for _, c := range m.gapText(j) {
		if c == ' ' || c == ',' || c == ';' {
			return n
		}
	}
	if n >= leastFields {
		return n
	}
	return 1
}
