package logmine

// Miner mines templates from lines. It is not safe for use by several
// goroutines at a time, and it never blocks.
//
// A line costs about 300 ns per 100 bytes when its skeleton was seen before,
// and a few microseconds when not.
type Miner struct {
	cfg        Config
	scan       scanner
	cache      cache
	templates  []*template
	free       []int32
	byID       map[ID]int32
	byShape    map[uint64]*bucket
	children   map[uint64]int32
	aliases    aliases
	words      wordMemory
	vocabulary vocabulary
	places     places
	labels     labels
	stats      Stats
	bytes      int    // of the live templates
	age        uint64 // see makeRoom

	// Scratch, empty between calls.
	gapBuf   []byte
	idBuf    []byte
	elements []element
	runs     []list
	fresh    template
	family   family
	covered  []int32

	trace func(what string, t, line *template) // set by tests
}

// bucket holds the templates of one shape in the order of their creation.
type bucket struct {
	wild  []int32 // with a wild slot
	plain []int32
}

// Stats counts what happened since the miner was made.
type Stats struct {
	Lines   uint64 // lines mined
	Cut     uint64 // lines of which only a part was looked at
	Misses  uint64 // lines whose skeleton was not at hand
	Created uint64 // templates made
	Merged  uint64 // templates merged into others
	Evicted uint64 // templates given up for new ones
	Changes uint64 // grows with every change of a template other than its count
}

// New returns an empty miner, or a model.Error for bounds out of their range.
func New(cfg Config) (*Miner, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m := &Miner{cfg: cfg.withDefaults()}
	m.reset()
	return m, nil
}

func (m *Miner) reset() {
	*m = Miner{cfg: m.cfg, trace: m.trace,
		byID: map[ID]int32{}, byShape: map[uint64]*bucket{}, children: map[uint64]int32{}}
	m.scan.seed = fold(m.cfg.Seed^mulA, mulB)
	m.cache.sets = make([]cacheSet, cacheSets)
	m.aliases.to = map[ID]ID{}
}

// Stats returns the counters.
func (m *Miner) Stats() Stats { return m.stats }

// SizeBytes returns about how much memory the state takes.
func (m *Miner) SizeBytes() int {
	const alias = 48
	return m.bytes + cacheSets*64 + len(m.words.values)*4 + len(m.words.keys)*8 + len(m.vocabulary)*12 + len(m.places)*8 + len(m.labels)*12 + len(m.aliases.order)*alias + len(m.free)*recordBytes/2 + 16<<10
}

// Add mines one line, without its newline, and returns the id of its template.
// It keeps no reference to line, and allocates only when it makes a template
// or changes one. The bytes of a line can be anything.
func (m *Miner) Add(line []byte) ID {
	m.stats.Lines++
	s := &m.scan
	s.scan(line, m.cfg.MaxLineBytes, m.cfg.MaxTokens)
	if s.cut {
		m.stats.Cut++
	}
	t, aligned := m.cached(s.h)
	if t == nil {
		t, aligned = m.miss()
	}
	if t.flags&flagSplit != 0 {
		t = m.childOf(t)
		aligned = false
	}
	t.count++
	t.last = m.stats.Lines
	t.age = m.age
	if aligned {
		for _, o := range t.open {
			if s.items[o.item].exact != o.exact {
				m.vary(t)
				break
			}
		}
	}
	return t.emit
}

// cached returns the template of a skeleton if it is at hand, and whether the
// items of lines with this skeleton are where the template's open slots say.
func (m *Miner) cached(h uint64) (t *template, aligned bool) {
	i, gen := m.cache.find(h)
	if i < 0 {
		return nil, false
	}
	t = m.templates[i]
	if t.gen != gen>>1 {
		return nil, false
	}
	return t, gen&1 != 0
}

// miss finds or makes the template of a skeleton that is not at hand.
func (m *Miner) miss() (t *template, aligned bool) {
	m.stats.Misses++
	d := m.draft()
	i := m.match(d)
	if i >= 0 {
		m.note(m.templates[i], d)
	} else {
		i = m.create(d)
		m.index(i)
	}
	t = m.templates[i]
	aligned = len(t.slots) == len(d.slots) && sameLists(t, d)
	gen := t.gen << 1
	if aligned {
		gen |= 1
	}
	m.cache.put(m.scan.h, i, gen)
	return t, aligned
}

// create makes a template of the draft and gives it an id.
func (m *Miner) create(d *template) int32 {
	m.makeRoom()
	var t *template
	var i int32
	if n := len(m.free); n > 0 {
		i = m.free[n-1]
		m.free = m.free[:n-1]
		t = m.templates[i]
		*t = template{gen: t.gen}
	} else {
		i, t = int32(len(m.templates)), &template{}
		m.templates = append(m.templates, t)
	}
	t.slots = append([]slot(nil), d.slots...)
	t.text = append([]byte(nil), d.text...)
	t.parts = append([]span(nil), d.parts...)
	t.shape, t.cut = d.shape, d.cut
	t.live = true
	t.birth = m.stats.Lines
	t.id = m.newID(t)
	t.emit = t.id
	t.reopen()
	m.byID[t.id] = i
	m.bytes += t.sizeBytes()
	m.stats.Created++
	m.stats.Changes++
	m.words.learn(t, m.scan.seed)
	m.vocabulary.learn(t)
	return i
}

// index lets drafts be compared with template i.
func (m *Miner) index(i int32) {
	t := m.templates[i]
	b := m.byShape[t.shape]
	if b == nil {
		b = &bucket{}
		m.byShape[t.shape] = b
	}
	b.plain = append(b.plain, i)
}

// vary notes that the scanned line shows another text in an open slot.
func (m *Miner) vary(t *template) {
	for _, o := range t.open {
		it := &m.scan.items[o.item]
		if it.exact != o.exact {
			m.varySlot(&t.slots[o.slot], it.key, it.exact)
		}
	}
	t.reopen()
	m.stats.Changes++
}

// varySlot notes another text in the slot, given by its hashes.
func (m *Miner) varySlot(s *slot, key, exact uint64) {
	s.flags |= slotVaried
	if s.kind == kindAlnum {
		m.words.values.add(s.key)
		m.words.values.add(key)
		return
	}
	m.words.values.add(s.exact)
	m.words.values.add(exact)
}

// note takes what the draft of a line shows into the template that it
// belongs to.
func (m *Miner) note(t, d *template) {
	if t.flags&flagPinned != 0 || len(t.slots) != len(d.slots) {
		return
	}
	changed := false
	for i := range t.slots {
		a, b := &t.slots[i], &d.slots[i]
		before := a.flags
		if a.count != b.count {
			a.flags |= slotCount
		}
		a.flags |= b.flags & slotVaried
		switch {
		case a.flags&slotFixed != 0, a.exact == b.exact:
		case a.kind == kindMask:
			a.flags |= slotVaried
		case b.kind == kindMask:
		case a.flags&slotWild != 0:
			m.words.values.add(b.exact)
		default:
			m.varySlot(a, b.key, b.exact)
		}
		changed = changed || a.flags != before
	}
	if changed {
		t.reopen()
		m.stats.Changes++
	}
}
