package logmine

// wordMemory remembers, within a fixed size, which words were seen where
// values stand. It forgets a word when another takes its place.
type wordMemory struct {
	values valueSet
	keys   [4096]keyed
}

// keyed is a word and the key that it was first seen after.
type keyed struct{ word, key uint32 }

// valueSet holds hashes of words that are values.
type valueSet [4096]uint32

func (v *valueSet) add(h uint64) {
	if h != 0 {
		v[h>>52] = uint32(h) | 1
	}
}

func (v *valueSet) has(h uint64) bool { return h != 0 && v[h>>52] == uint32(h)|1 }

// learn notes the words of a new template that stand where values stand. A
// word seen after two different keys is a value: enabled=yes, ready=yes. One
// that only ever follows one key may be a part of the message: tty=ssh.
func (w *wordMemory) learn(t *template, seed uint64) {
	for i := range t.slots {
		s := &t.slots[i]
		if s.kind != kindSoft {
			continue
		}
		key := hashBytes(t.gap(i), seed)
		if i > 0 {
			key = fold(key^t.slots[i-1].exact, mulC)
		}
		switch k := &w.keys[s.exact>>52]; {
		case k.word != uint32(s.exact):
			*k = keyed{uint32(s.exact), uint32(key)}
		case k.key != uint32(key):
			w.values.add(s.exact)
		}
	}
}

// known reports whether the word of a slot was seen where values stand.
func (w *wordMemory) known(s *slot, text []byte) bool {
	return w.values.has(s.exact) || s.kind == kindAlnum && w.values.has(s.key) || literal(text)
}

// vocabulary remembers, within a fixed size, which words are parts of messages,
// and of which shape. It forgets a word when another takes its place.
type vocabulary [4096]heard

// heard is a word and the shape of the messages that it is a part of; several
// shapes are 0.
type heard struct{ word, shape uint32 }

// learn notes the words of a new template.
func (v *vocabulary) learn(t *template) {
	shape := uint32(t.shape) | 1
	for i := range t.slots {
		s := &t.slots[i]
		if s.kind != kindWord {
			continue
		}
		switch h := &v[s.exact>>52]; {
		case h.word != uint32(s.exact):
			*h = heard{uint32(s.exact), shape}
		case h.shape != shape:
			h.shape = 0
		}
	}
}

// elsewhere reports whether the word of a slot is a part of messages of
// another shape.
func (v *vocabulary) elsewhere(s *slot, shape uint64) bool {
	h := &v[s.exact>>52]
	return h.word == uint32(s.exact) && h.shape != uint32(shape)|1
}

// literal reports whether b is one of the literals that are values in every
// programming language.
func literal(b []byte) bool {
	if len(b) < 3 || len(b) > 9 {
		return false
	}
	var low [9]byte
	for i, c := range b {
		low[i] = c | 0x20
	}
	switch string(low[:len(b)]) {
	case "true", "false", "null", "nil", "none", "undefined", "nan":
		return true
	}
	return false
}

// nothing reports whether b is the literal none, which is also a word of
// English and so is a value only where values stand.
func nothing(b []byte) bool { return len(b) == 4 && b[0]|0x20 == 'n' && b[1]|0x20 == 'o' }

// form describes how a word is made: how many digits it has, and whether it
// looks like an identifier, with an underscore, dot or capital inside.
func form(b []byte) (digits int, identifier bool) {
	for i, c := range b {
		inside := i > 0 && i < len(b)-1
		switch classes[c] {
		case clDigit:
			digits++
		case clUnder, clDot:
			identifier = identifier || inside
		case clLetter:
			identifier = identifier || inside && upper(c) && lower(b[i-1])
		}
	}
	return digits, identifier
}
