package logmine

import "slices"

// This file is the slow path: what to do with a skeleton that is not at hand.
// Its line may belong to a template that is known, with another word in a
// place that is known to vary, to one in which a place turns out to vary now,
// or to a new one. Ids are given when lines arrive, so a place that varies has
// to be recognised at its second word. Most lines that differ in one word are
// different events, so that takes evidence.

const (
	mostWild  = 64  // templates with wild slots that are compared with a draft
	mostPlain = 128 // templates without

	mostDiffering = 3 // slots that may differ at once, each with evidence

	fewNames  = 3  // so many plain words or names in one place, among others that are equal, make it a variable
	fewWords  = 5  // so many different words, most of them seen once, make a place a variable
	manyWords = 10 // so many make it one however often they were seen
	manyFirst = 8  // at least so many for the first place, which names the event in most lines
	manyPairs = 6  // so many different pairs of words, of at least fewPaired each, make two places variables
	fewPaired = 4
)

// difference is how a draft compares with a template of the same shape.
type difference struct {
	equal  int // words that are equal
	mixed  int // slots with a variable on one side and a word on the other
	words  int // slots with different words
	at     [mostDiffering]uint16
	exact  bool // the template covers the draft as it is
	beyond bool // more differences than one event can have
}

func compare(t, d *template) difference {
	r := difference{exact: true}
	if len(t.slots) != len(d.slots) || t.cut != d.cut {
		return difference{beyond: true}
	}
	for i := range t.slots {
		a, b := &t.slots[i], &d.slots[i]
		if a.unit != b.unit && a.unit != 0 && b.unit != 0 {
			return difference{beyond: true}
		}
		va, vb := a.kind >= kindMask, b.kind >= kindMask
		switch {
		case va && vb, a.flags&slotWild != 0:
			continue
		case va != vb:
			r.mixed++
		case a.key == b.key && a.kind == b.kind:
			r.equal++
			continue
		default:
			if r.words < mostDiffering {
				r.at[r.words] = uint16(i)
			}
			r.words++
		}
		r.exact = false
		if r.mixed+r.words > mostDiffering {
			return difference{beyond: true}
		}
	}
	return r
}

// newest returns the last n of list.
func newest(list []int32, n int) []int32 { return list[max(0, len(list)-n):] }

// match returns the template that the draft belongs to, generalising it where
// there is evidence, or -1. Of those that cover the draft it is the one with
// the most words, of those with evidence the one with the fewest differences,
// and then the oldest.
func (m *Miner) match(d *template) int32 {
	b := m.byShape[d.shape]
	if b == nil {
		return -1
	}
	cover, words := int32(-1), -1
	base, differing := int32(-1), mostDiffering+1
	m.family.reset()
	for _, list := range [...][]int32{newest(b.wild, mostWild), newest(b.plain, mostPlain)} {
		for _, i := range list {
			t := m.templates[i]
			r := compare(t, d)
			switch {
			case r.beyond:
			case r.exact:
				if r.equal > words {
					cover, words = i, r.equal
				}
			case t.flags&(flagPinned|flagSplit) != 0 || r.equal < 2*(r.mixed+r.words):
			case m.sameEvent(t, d, &r):
				if n := r.mixed + r.words; n < differing || n == differing && t.birth < m.templates[base].birth {
					base, differing = i, n
				}
			case r.mixed == 0 && r.words <= 2:
				m.family.add(i, t, &r)
			}
		}
	}
	if cover >= 0 {
		return cover
	}
	if base >= 0 && differing == 1 {
		t := m.templates[base]
		if r := compare(t, d); r.words == 1 {
			m.noteValues(t, d, int(r.at[0]), 0)
		}
	}
	if base < 0 {
		base = m.byNumbers(d)
	}
	if base >= 0 {
		m.generalise(base, d)
	}
	return base
}

// byNumbers returns the template that the draft belongs to because of how many
// others there are like it, or because of the kind of place in which it
// differs, or -1.
func (m *Miner) byNumbers(d *template) int32 {
	if i, p := m.family.crowded(d); i >= 0 {
		m.noteValues(m.templates[i], d, p, m.family.at[p].words-1)
		return i
	}
	if i := m.crowdedPair(d); i >= 0 {
		return i
	}
	return m.learnt(d)
}

// family collects the templates that differ from a draft in one word or two,
// those with one by its place.
type family struct {
	places []int // with templates, in the order of the first
	at     [hardItems]familyPlace
	pairs  []familyPair
}

type familyPlace struct {
	words  int // different words
	once   int // of those, words of templates with one line
	names  int // of those, plain words and names made of them
	oldest int32
	birth  uint64
}

// familyPair is a template that differs in the places p and q.
type familyPair struct {
	index int32
	p, q  uint16
}

func (f *family) reset() {
	for _, p := range f.places {
		f.at[p] = familyPlace{}
	}
	f.places = f.places[:0]
	f.pairs = f.pairs[:0]
}

func (f *family) add(i int32, t *template, r *difference) {
	if r.words == 2 {
		f.pairs = append(f.pairs, familyPair{i, r.at[0], r.at[1]})
		return
	}
	p := int(r.at[0])
	a := &f.at[p]
	if a.words == 0 {
		f.places = append(f.places, p)
	}
	if a.words == 0 || t.birth < a.birth {
		a.oldest, a.birth = i, t.birth
	}
	a.words++
	if t.count <= 1 {
		a.once++
	}
	if b := t.slotText(p); plainWord(b) || joined(b) {
		a.names++
	}
}

// crowded looks for a place in which so many different words were seen, all
// else being equal, that it is a variable. It returns the oldest template of
// those, or -1, and the place.
func (f *family) crowded(d *template) (oldest int32, place int) {
	const leastEqual = 2
	words := d.words()
	for _, p := range f.places {
		a := &f.at[p]
		n, once := a.words+1, a.once+1
		least := leastEqual
		if p == 0 {
			least++
		}
		switch {
		case assigns(d.gap(p + 1)):
		case a.names+1 >= fewNames && p > 0 && words-1 >= leastNamed(d, p) && (plainWord(d.slotText(p)) || joined(d.slotText(p))):
			return a.oldest, p
		case n < fewWords || words-1 < least:
		case p == 0 && n < manyFirst:
		case n >= manyWords || 2*once >= n:
			return a.oldest, p
		}
	}
	return -1, 0
}

// leastNamed returns how many equal words it takes to see a variable in a few
// different names in slot p. At the end of a line states stand, too.
func leastNamed(d *template, p int) int {
	const within, atEnd = 3, 4
	if len(d.gap(p+1)) == 0 {
		return atEnd
	}
	return within
}

// crowdedPair looks for two places that vary together, such as the states in
// "from A to B": many pairs, and several words in each. It returns the oldest
// template of those that differ from d in both, or -1.
func (m *Miner) crowdedPair(d *template) int32 {
	pairs := m.family.pairs
	if len(pairs)+1 < manyPairs {
		return -1
	}
	p, q := pairs[len(pairs)-1].p, pairs[len(pairs)-1].q // where the latest differs
	if p == 0 || assigns(d.gap(int(p)+1)) || assigns(d.gap(int(q)+1)) {
		return -1
	}
	n, oldest := 1, int32(-1)
	var at [2][fewPaired]uint64
	words := [2]int{1, 1}
	at[0][0], at[1][0] = d.slots[p].key, d.slots[q].key
	for _, f := range pairs {
		if f.p != p || f.q != q {
			continue
		}
		n++
		t := m.templates[f.index]
		for k, key := range [2]uint64{t.slots[p].key, t.slots[q].key} {
			if words[k] < fewPaired && !slices.Contains(at[k][:words[k]], key) {
				at[k][words[k]] = key
				words[k]++
			}
		}
		if oldest < 0 || t.birth < m.templates[oldest].birth {
			oldest = f.index
		}
	}
	if n < manyPairs || words[0] < fewPaired || words[1] < fewPaired {
		return -1
	}
	return oldest
}

// generalise makes the slots of template i wild in which the draft differs,
// and merges the templates that it covers then.
func (m *Miner) generalise(i int32, d *template) {
	t := m.templates[i]
	if m.trace != nil {
		m.trace("generalise", t, d)
	}
	wild := false
	for p := range t.slots {
		a, b := &t.slots[p], &d.slots[p]
		va, vb := a.kind >= kindMask, b.kind >= kindMask
		switch {
		case a.flags&slotWild != 0:
			wild = true
			continue
		case va && vb, !va && !vb && a.key == b.key && a.kind == b.kind:
			continue
		}
		a.flags |= slotWild | slotVaried
		if !va {
			m.words.values.add(a.exact)
		}
		if !vb {
			m.words.values.add(b.exact)
		}
	}
	t.reopen()
	m.stats.Changes++
	b := m.byShape[t.shape]
	if !wild {
		b.plain = without(b.plain, i)
		b.wild = append(b.wild, i)
	}
	m.absorb(b, i)
}

// absorb merges the templates of the bucket that template i covers.
func (m *Miner) absorb(b *bucket, i int32) {
	t := m.templates[i]
	m.covered = m.covered[:0]
	for _, list := range [...][]int32{b.plain, b.wild} {
		for _, j := range list {
			if c := m.templates[j]; j != i && !c.protected() && covers(t, c) {
				m.covered = append(m.covered, j)
			}
		}
	}
	for _, j := range m.covered {
		m.mergeInto(i, j)
	}
}

// covers reports whether every line of c is a line of t too.
func covers(t, c *template) bool {
	if len(t.slots) != len(c.slots) || t.cut != c.cut {
		return false
	}
	for p := range t.slots {
		a, b := &t.slots[p], &c.slots[p]
		switch {
		case a.unit != b.unit && a.unit != 0 && b.unit != 0:
			return false
		case a.flags&slotWild != 0, a.kind >= kindMask && b.kind >= kindMask:
		case b.variable() || a.kind != b.kind || a.key != b.key:
			return false
		}
	}
	return true
}

// mergeInto merges template j into template i, which covers it. One id stays,
// see keepsID, and the other becomes an alias.
func (m *Miner) mergeInto(i, j int32) {
	t, c := m.templates[i], m.templates[j]
	if m.trace != nil {
		m.trace("absorb", t, c)
	}
	for p := range t.slots {
		a, b := &t.slots[p], &c.slots[p]
		if a.count != b.count {
			a.flags |= slotCount
		}
		switch {
		case a.exact == b.exact, a.flags&slotWild != 0:
		case a.kind == kindMask || b.kind == kindMask:
			a.flags |= slotVaried
		default:
			m.varySlot(a, b.key, b.exact)
		}
		a.flags |= b.flags & (slotVaried | slotCount)
	}
	t.reopen()
	gone, other, keeps := c.id, c.count, t.protected() || t.keepsID(c)
	if !keeps {
		other = t.count + c.foreign - t.foreign
	}
	t.count += c.count
	t.foreign += other
	t.last = max(t.last, c.last)
	if t.emit != t.id { // people merged t into a template of another shape
		m.drop(j)
		m.aliases.add(gone, t.emit)
	} else {
		stays := t.id
		if !keeps {
			stays, gone = gone, stays
		}
		t.birth = min(t.birth, c.birth)
		m.drop(j)
		delete(m.byID, gone)
		t.id, t.emit = stays, stays
		m.byID[stays] = i
		m.aliases.add(gone, stays)
	}
	m.stats.Merged++
	m.stats.Changes++
}

func without(list []int32, x int32) []int32 {
	for k, v := range list {
		if v == x {
			return append(list[:k], list[k+1:]...)
		}
	}
	return list
}
