package logmine

// This file turns a scanned line into a draft: a template without an id, to be
// compared with those there are.

// element is an item of the scanned line, or a cluster: variables that follow
// each other without a space, such as an address with a port or a date.
type element struct {
	key, exact uint64 // as in item; exact is the hash of the joints of a cluster
	gap        uint64 // hash of the gap before it
	item       int    // the first
	items      int
	kind       itemKind
}

// list is a run of equal units among the elements of a line.
type list struct {
	at, unit, count int
}

const (
	longestUnit  = 4
	leastNumbers = 3 // variables in a row with nothing but spaces between
)

// draft makes a template of the scanned line in m.fresh. Clusters become one
// slot and lists are reduced to their first unit, so that lines which differ
// in how a variable is written or how much they list have one shape.
func (m *Miner) draft() *template {
	s := &m.scan
	t := &m.fresh
	*t = template{slots: t.slots[:0], text: t.text[:0], parts: t.parts[:0], open: t.open[:0], cut: s.cut}
	m.cluster()
	runs := m.lists()
	for i := 0; i < len(m.elements); {
		units, unit := 1, 1
		if len(runs) > 0 && runs[0].at == i {
			units, unit = runs[0].count, runs[0].unit
			runs = runs[1:]
		}
		first := len(t.slots)
		for k := i; k < i+unit; k++ {
			m.addSlot(t, &m.elements[k])
		}
		if units > 1 {
			link := m.gapText(m.elements[i+unit].item)
			t.text = append(t.text, link...)
			l := &t.slots[first]
			l.count, l.unit, l.link = uint16(units), uint8(unit), uint8(len(link))
			for k := i + unit; k < i+units*unit; k++ {
				if of := (k - i) % unit; m.elements[k].exact != m.elements[i+of].exact {
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

// addSlot appends the element and the gap before it to the draft.
func (m *Miner) addSlot(t *template, e *element) {
	s := &m.scan
	t.text = append(t.text, m.gapText(e.item)...)
	first, last := &s.items[e.item], &s.items[e.item+e.items-1]
	a := len(t.text)
	t.text = append(t.text, s.line[first.start:last.end]...)
	sl := slot{key: e.key, exact: e.exact, start: uint16(a), end: uint16(len(t.text)), count: 1, kind: e.kind}
	if e.items > 1 {
		sl.parts, sl.part = uint8(e.items), uint16(len(t.parts))
		shift := a - int(first.start)
		for _, it := range s.items[e.item : e.item+e.items] {
			t.parts = append(t.parts, span{uint16(int(it.start) + shift), uint16(int(it.end) + shift)})
		}
	}
	t.slots = append(t.slots, sl)
}

// cluster makes elements of the items.
func (m *Miner) cluster() {
	const mostParts = 64
	s := &m.scan
	m.elements = m.elements[:0]
	for i := 0; i < s.n; {
		it := &s.items[i]
		e := element{key: it.key, exact: it.exact, gap: hashBytes(m.gapText(i), s.seed), item: i, items: 1, kind: it.kind}
		if it.kind == kindMask {
			for j := i + 1; j < s.n && s.items[j].kind == kindMask && j-i < mostParts; j++ {
				before, joint := s.items[j-1], s.line[s.items[j-1].end:s.items[j].start]
				if !joins(s.line[before.start:before.end], joint) {
					break
				}
				e.exact = fold(e.exact^hashBytes(joint, s.seed), mulB)
				e.items++
			}
		}
		m.elements = append(m.elements, e)
		i += e.items
	}
}

// joins reports whether the gap between two variables leaves them one thing.
// A colon does so after digits, as in times. After a name or an address it
// begins another thing, a port perhaps.
func joins(before, gap []byte) bool {
	for _, c := range gap {
		if classes[c] == 0 || c == ':' && !allDigits(before) {
			return false
		}
	}
	return true
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

// lists finds the runs of repeated units among the elements: numbers in a row,
// frames of a call stack. They do not overlap.
func (m *Miner) lists() []list {
	m.runs = m.runs[:0]
	for i := 0; i+1 < len(m.elements); {
		next := i + 1
		for unit := 1; unit <= longestUnit && i+2*unit <= len(m.elements); unit++ {
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

// repeats counts how often the unit of elements at i follows itself; 1 means
// that it is no list. Each unit holds a variable, the gaps inside the units are
// equal, and so are those between them.
func (m *Miner) repeats(i, unit int) int {
	e := m.elements
	variable := false
	for k := i; k < i+unit; k++ {
		variable = variable || e[k].kind == kindMask || unit == 1 && e[k].kind == kindAlnum
	}
	if !variable || !m.links(i, i+unit) {
		return 1
	}
	n := 1
	for j := i + unit; j+unit <= len(e) && e[j].gap == e[i+unit].gap && m.sameUnit(i, j, unit); j += unit {
		n++
	}
	if unit == 1 && n < leastNumbers && e[i].kind == kindMask && string(m.gapText(e[i+1].item)) == " " {
		return 1 // two variables in a row are two things
	}
	return n
}

// sameUnit reports whether the units at i and j are alike: words are the same,
// names with digits may differ in them unless they are keys.
func (m *Miner) sameUnit(i, j, unit int) bool {
	for k := range unit {
		a, b := &m.elements[i+k], &m.elements[j+k]
		if a.kind != b.kind || a.key != b.key || k > 0 && a.gap != b.gap {
			return false
		}
		if a.exact != b.exact && (a.kind != kindAlnum || unit > 1 && assigns(m.gapText(a.item+1))) {
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

// links reports whether the gap before element j can link units of a list of
// which elements i to j-1 are the first: it has a space, comma or semicolon,
// and with the gaps inside the unit its brackets and quotes pair up.
func (m *Miner) links(i, j int) bool {
	brackets, quotes, parts := 0, 0, false
	for k := i + 1; k <= j; k++ {
		for _, c := range m.gapText(m.elements[k].item) {
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
			case ' ', ',', ';':
				parts = parts || k == j
			}
		}
	}
	return parts && brackets == 0 && quotes%2 == 0 && len(m.gapText(m.elements[j].item)) < 256
}
