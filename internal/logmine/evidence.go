package logmine

import "bytes"

// This file is the evidence that two words in the same place are two values and
// not two messages.

// sameEvent reports whether there is evidence for every difference.
func (m *Miner) sameEvent(t, d *template, r *difference) bool {
	if r.words == 0 {
		return r.mixed == 1
	}
	for _, p := range r.at[:r.words] {
		if !m.evidence(t, d, int(p), r.equal) {
			return false
		}
	}
	return true
}

// evidence reports whether the words of t and d in slot p look like two values
// rather than like two messages, given the number of equal words.
func (m *Miner) evidence(t, d *template, p, equal int) bool {
	a, b := t.slotText(p), d.slotText(p)
	if assigns(d.gap(p + 1)) {
		return false // keys
	}
	if m.words.known(&t.slots[p], a) && m.words.known(&d.slots[p], b) {
		return true
	}
	if p > 0 && equal >= 3 && (m.words.values.has(t.slots[p].exact) || m.words.values.has(d.slots[p].exact)) {
		return true
	}
	da, ia := form(a)
	db, ib := form(b)
	numbered := da > 0 || db > 0
	names := joined(a) && joined(b)
	if p == 0 {
		if speaks(d.gap(1)) && (names || da > 0 && db > 0 && smallName(a) && smallName(b)) {
			return true
		}
		return equal >= 3 && da >= 2 && db >= 2 || m.namesThing(t, d, p, equal)
	}
	if equal >= 3 && (names || joined(a) && plainWord(b) || joined(b) && plainWord(a)) {
		return true
	}
	switch {
	case equal >= 3 && da > 0 && db > 0 && smallName(a) && smallName(b) && len(d.gap(p+1)) > 0:
		return true
	case da >= 2 && db >= 2, numbered && ia && ib:
		return true
	case equal >= 3 && ((da > 0) != (db > 0) || ia && ib && !(constant(a) && constant(b))):
		return true
	case equal >= 4 && da > 0 && db > 0 && da+db >= 3 && smallName(a) && smallName(b):
		return true
	case len(a) <= 3 && len(b) <= 3 && unitAt(d, p):
		return true
	}
	return assigned(d, p) || m.namesThing(t, d, p, equal)
}

// namesThing reports whether what stands around slot p says that the words of
// t and d name a thing: both are plain words, and a quote, colon, comma,
// bracket or the end of a sentence or line sets them off. Words of other
// messages are no evidence at the end of a line, where "began" and "ended"
// stand too. The first word of a line names the event, unless it is quoted or
// it says who speaks, before a colon.
func (m *Miner) namesThing(t, d *template, p, equal int) bool {
	a, b := t.slotText(p), d.slotText(p)
	if curled(a) && curled(b) {
		return true
	}
	if !plainWord(a) || !plainWord(b) || literal(a) || literal(b) {
		return false
	}
	before, after := d.gap(p), d.gap(p+1)
	if quotes(before, after) {
		return true
	}
	switch {
	case equal < 3:
		return false
	case p == 0:
		return speaks(after)
	case len(after) == 0:
		return equal >= 4 && !m.vocabulary.elsewhere(t, p) && !m.vocabulary.elsewhere(d, p)
	case (p >= 2 || equal >= 4) && hasSuffix(before, ": "), string(after) == "...", hasPrefix(after, ". "):
		return true
	case p >= 3 && equal >= 4 && m.phrase(t, d, p):
		return true
	}
	switch after[0] {
	case ')', ']':
		return encloses(before, after) || hasSuffix(before, ", ")
	case ':', ',':
		return true
	}
	return false
}

// phrase reports whether the words of t and d in slot p name things of one kind
// because one of them stands behind the same word in messages of other shapes
// as well, and none stands behind another: after "closed for user root",
// "opened for user root by" and "opened for user news by". Forms of one word,
// as failure and failures, are none.
func (m *Miner) phrase(t, d *template, p int) bool {
	v := &m.vocabulary
	a, b := t.slotText(p), d.slotText(p)
	if string(d.gap(p+1)) != " " || bytes.HasPrefix(a, b) || bytes.HasPrefix(b, a) {
		return false
	}
	return t.slots[p-1].kind == kindWord && (v.recurs(t, p) || v.recurs(d, p)) && !v.elsewhere(t, p) && !v.elsewhere(d, p)
}

// speaks reports whether the gap after the first word says that it is a speaker.
func speaks(gap []byte) bool { return hasPrefix(gap, ": ") || hasPrefix(gap, " : ") }

// joined reports whether a name of small letters has a dash, dot or underscore
// inside.
func joined(b []byte) bool {
	inner := false
	for i, c := range b {
		switch {
		case lower(c) || isDigit(c):
		case i > 0 && i < len(b)-1 && (c == '-' || c == '.' || c == '_'):
			inner = true
		default:
			return false
		}
	}
	return inner
}

func hasPrefix(b []byte, s string) bool { return len(b) >= len(s) && string(b[:len(s)]) == s }

func hasSuffix(b []byte, s string) bool { return len(b) >= len(s) && string(b[len(b)-len(s):]) == s }

// quotes reports whether the gaps before and after a word put it in quotes. A
// key of JSON stands behind a bracket or a comma and is no value.
func quotes(before, after []byte) bool {
	n := len(before)
	if n == 0 || len(after) == 0 || after[0] != '"' && after[0] != '\'' {
		return false
	}
	if q := before[n-1]; q != after[0] && (q != '`' || after[0] != '\'') {
		return false
	}
	return n == 1 || before[n-2] == ' ' && (n == 2 || before[n-3] != ',')
}

// curled reports whether a word stands in typographic quotes, which the scanner
// takes for letters.
func curled(b []byte) bool {
	for _, q := range [...][2]string{{"“", "”"}, {"‘", "’"}, {"„", "“"}, {"«", "»"}} {
		if len(b) > len(q[0])+len(q[1]) && hasPrefix(b, q[0]) && hasSuffix(b, q[1]) {
			return true
		}
	}
	return false
}

// plainWord reports whether a word is made of small letters only. Names of
// functions, states and constants are not, and they tell events apart.
func plainWord(b []byte) bool {
	for _, c := range b {
		if c < 'a' || c > 'z' {
			return false
		}
	}
	return true
}

// smallName reports whether a name is made of small letters and digits.
func smallName(b []byte) bool {
	for _, c := range b {
		if !lower(c) && !isDigit(c) {
			return false
		}
	}
	return true
}

// assigned reports whether slot p stands alone between a colon with a space
// and a delimiter.
func assigned(t *template, p int) bool {
	g := t.gap(p)
	return len(g) >= 2 && g[len(g)-1] == ' ' && g[len(g)-2] == ':' && ends(t.gap(p+1))
}

// unitAt reports whether slot p stands between a number and a delimiter.
func unitAt(t *template, p int) bool {
	g := t.gap(p)
	return len(g) == 1 && g[0] == ' ' && t.slots[p-1].kind == kindMask && ends(t.gap(p+1))
}

// ends reports whether a gap begins with a delimiter or ends the line.
func ends(g []byte) bool {
	if len(g) == 0 {
		return true
	}
	switch g[0] {
	case ',', ';', ')', ']', '}', '.':
		return true
	}
	return false
}
