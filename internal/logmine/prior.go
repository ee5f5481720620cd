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
func (l *places) noteValues(t, d *template, p, wrong int) {
	k, ok := kindOfPlace(d, p)
	if !ok || t.slots[p].kind != kindWord || !plainWord(t.slotText(p)) || !plainWord(d.slotText(p)) {
		return
	}
	c := &l[k]
	c.values += uint32(wrong) + 1
	c.messages -= min(uint32(wrong), c.messages)
	if c.values > mostCounted {
		c.values, c.messages = c.values/2, c.messages/2
	}
}

// learnt looks for a place in which the draft differs from a template by a
// plain word, of a kind that mostly holds values in this stream. It returns the
// template or -1, and counts the places in front of it as parts of messages.
func (m *Miner) learnt(d *template) int32 {
	const leastEqual = 3
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
		c.messages++
		if c.messages > mostCounted {
			c.values, c.messages = c.values/2, c.messages/2
		}
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
