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
// of which shape, and behind which word. It forgets a word when another takes
// its place.
type vocabulary [4096]heard

// heard is a word, the shape of the messages that it is a part of, and the hash
// of the word before it; several are 0.
type heard struct{ word, shape, before uint32 }

// learn notes the words of a new template.
func (v *vocabulary) learn(t *template) {
	shape := uint32(t.shape) | 1
	for i := range t.slots {
		s := &t.slots[i]
		if s.kind != kindWord || encloses(t.gap(i), t.gap(i+1)) || hasPrefix(t.gap(i+1), ",") {
			continue
		}
		before := t.before(i)
		h := &v[s.exact>>52]
		if h.word != uint32(s.exact) {
			*h = heard{uint32(s.exact), shape, before}
			continue
		}
		if h.shape != shape {
			h.shape = 0
		}
		if h.before != before {
			h.before = 0
		}
	}
}

// encloses reports whether the gaps before and after a word are brackets or
// quotes around it, so that it is no word of the sentence: "(root) ran".
func encloses(before, after []byte) bool {
	if len(before) == 0 || len(after) == 0 {
		return false
	}
	switch after[0] {
	case ')', ']', '}', '>', '"', '\'':
	default:
		return false
	}
	switch before[len(before)-1] {
	case '(', '[', '{', '<', '"', '\'', '`':
		return true
	}
	return false
}

// before returns the hash of the word before slot i, which is never 0.
func (t *template) before(i int) uint32 {
	if i == 0 {
		return 1
	}
	return uint32(t.slots[i-1].key) | 1
}

// elsewhere reports whether the word of slot i is a part of messages of another
// shape, where it follows another word. Behind the same word it is as much of a
// value there: "opened for user root by", "closed for user root".
func (v *vocabulary) elsewhere(t *template, i int) bool {
	s := &t.slots[i]
	h := &v[s.exact>>52]
	return h.word == uint32(s.exact) && h.shape != uint32(t.shape)|1 && h.before != t.before(i)
}

// recurs reports whether the word of slot i is a part of messages of several
// shapes, and behind the same word in all of them: it names something.
func (v *vocabulary) recurs(t *template, i int) bool {
	s := &t.slots[i]
	h := &v[s.exact>>52]
	return h.word == uint32(s.exact) && h.shape == 0 && h.before == t.before(i)
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

// constant reports whether b has capitals and no small letter: the name of a
// state or of a type of event, as programs define them.
func constant(b []byte) bool {
	capital := false
	for _, c := range b {
		if classes[c] == clLetter && !upper(c) {
			return false
		}
		capital = capital || upper(c)
	}
	return capital
}
