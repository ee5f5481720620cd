package logmine

// places counts, for each kind of place in a line, how often a plain word there
// turned out to be a value and how often to be a part of the message. The kind
// is what stands beside the word and how far from the beginning of the line it
// is, so what a stream shows in one template helps with the next, whatever its
// words are.
type places [placeKinds]placeCount

type placeCount struct{ values, messages uint32 }

const (
	placeSides = 4 // the end of the line, a variable, a word, punctuation
	farPlace   = 3 // places from the fifth on are alike
	placeKinds = placeSides * placeSides * (farPlace + 1)

	leastValues   = 4 // so many values at least make a kind of place one of values
	valuesPerWord = 4 // and so many for each part of a message
	mostCounted   = 1 << 16
)

// kindOfPlace returns the kind of slot p, or false where the word is the first
// of the line or a key.
func kindOfPlace(t *template, p int) (int, bool) {
	if p == 0 || assigns(t.gap(p+1)) {
		return 0, false
	}
	side := func(gap []byte, neighbour int) int {
		switch {
		case neighbour == len(t.slots) && len(gap) == 0:
			return 0
		case neighbour == len(t.slots) || string(gap) != " ":
			return 3
		case t.slots[neighbour].variable():
			return 1
		}
		return 2
	}
	before, after := side(t.gap(p), p-1), side(t.gap(p+1), p+1)
	return (before*placeSides+after)*(farPlace+1) + min(p-1, farPlace), true
}

// noteValues notes that the words of t and d in slot p are values, and that
// wrong of those seen there were taken for parts of messages before.
func (m *Miner) noteValues(t, d *template, p, wrong int) {
	if t.slots[p].kind != kindWord || !plainWord(t.slotText(p)) || !plainWord(d.slotText(p)) {
		return
	}
	if k, ok := kindOfPlace(d, p); ok {
		m.places[k].value(wrong)
	}
	if l := m.labels.before(d, p); l != nil {
		l.value(wrong)
	}
}

// value counts one more value, and that wrong of those counted as parts of
// messages were values.
func (c *placeCount) value(wrong int) {
	c.values += uint32(wrong) + 1
	c.messages -= min(uint32(wrong), c.messages)
	c.bound()
}

// message counts one more part of a message.
func (c *placeCount) message() {
	c.messages++
	c.bound()
}

func (c *placeCount) bound() {
	if max(c.values, c.messages) > mostCounted {
		c.values, c.messages = c.values/2, c.messages/2
	}
}

// labels counts the same, within a fixed size, for the words that stand before
// plain words: what "user" stands before is a value once it was one in two
// lines. A word is forgotten when another takes its place.
type labels [1024]label

type label struct {
	word uint32
	placeCount
}

const (
	leastLabelled    = 2 // so many values behind a word at least say that what is behind it is a value
	labelledPerWord  = 2 // and so many for each part of a message
	leastEqualLabels = 2
)

// before returns the counts of the word before slot p, or nil where there is
// none or the slot is a key.
func (l *labels) before(t *template, p int) *label {
	if p == 0 || string(t.gap(p)) != " " || t.slots[p-1].kind != kindWord || assigns(t.gap(p+1)) {
		return nil
	}
	h := t.slots[p-1].exact
	c := &l[h>>54]
	if c.word != uint32(h)|1 {
		*c = label{word: uint32(h) | 1}
	}
	return c
}

// labelled looks for a place in which the draft differs from a template by a
// plain word, behind a word that names values in this stream. It returns the
// template or -1, and counts the places in front of it as parts of messages.
func (m *Miner) labelled(d *template) int32 {
	for _, p := range m.family.places {
		i := m.family.at[p].oldest
		if !plainWord(d.slotText(p)) || !plainWord(m.templates[i].slotText(p)) {
			continue
		}
		c := m.labels.before(d, p)
		switch {
		case c == nil:
		case c.values >= leastLabelled && c.values >= labelledPerWord*c.messages && d.words()-1 >= leastEqualLabels:
			c.value(0)
			return i
		default:
			c.message()
		}
	}
	return -1
}

// learnt looks for a place in which the draft differs from a template by a
// plain word, of a kind that mostly holds values in this stream. It returns the
// template or -1, and counts the places in front of it as parts of messages.
func (m *Miner) learnt(d *template) int32 {
	const leastEqual = 3
	if i := m.labelled(d); i >= 0 {
		return i
	}
	for _, p := range m.family.places {
		i := m.family.at[p].oldest
		k, ok := kindOfPlace(d, p)
		if !ok || !plainWord(d.slotText(p)) || !plainWord(m.templates[i].slotText(p)) {
			continue
		}
		c := &m.places[k]
		if c.values >= leastValues && c.values >= valuesPerWord*c.messages && d.words()-1 >= leastEqual {
			return i
		}
		c.message()
	}
	return -1
}

// words returns how many slots hold words of the message.
func (t *template) words() int {
	n := 0
	for i := range t.slots {
		if !t.slots[i].variable() {
			n++
		}
	}
	return n
}
