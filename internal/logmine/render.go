package logmine

import (
	"bytes"
	"unicode"
	"unicode/utf8"
)

// wildcard stands for a variable in the text of a template.
const wildcard = "<*>"

// mostShownUnits bounds how often the unit of a list is written out.
const mostShownUnits = 64

// writer writes the text of a template.
type writer struct {
	out  []byte
	vars []shownVar
}

// shownVar is one variable of the text and the slots that it stands for.
type shownVar struct {
	at    int
	slots []int
}

// render writes the template as people read it. Variables that follow each
// other directly, by a dot, or by a space inside double quotes are one.
func (m *Miner) render(t *template) *writer {
	w := &writer{}
	quoted, last := false, false // inside double quotes; the last slot was shown as a variable
	said := 0                    // bytes of the next gap that were written already
	for i := 0; i < len(t.slots); {
		g := t.gap(i)[said:]
		said = 0
		if bytes.Count(g, []byte{'"'})%2 == 1 {
			quoted = !quoted
		}
		s := &t.slots[i]
		shown := m.shown(t, i)
		if s.unit == 0 {
			if shown && last && (len(g) == 0 || string(g) == "." || quoted && string(g) == " ") {
				v := &w.vars[len(w.vars)-1]
				v.slots = append(v.slots, i)
			} else {
				w.text(g)
				m.writeSlot(w, t, i, shown)
			}
			last = shown && (s.kind != kindAlnum || s.flags&slotWild != 0)
			i++
			continue
		}
		w.text(g)
		said = m.writeList(w, t, i, quoted)
		i += int(s.unit)
		last = m.shown(t, i-1) && t.slots[i-1].kind == kindMask
	}
	w.text(t.gap(len(t.slots))[said:])
	w.out = bytes.TrimRight(w.out, " ")
	if t.cut {
		w.out = append(w.out, ' ')
		w.variable()
	}
	return w
}

// writeList writes the list that begins at slot i. Its units are written out
// while their number never changed. It returns how many bytes of the gap after
// the list it wrote with the link: the brackets that close a unit.
func (m *Miner) writeList(w *writer, t *template, i int, quoted bool) int {
	s := &t.slots[i]
	unit := int(s.unit)
	end := int(t.slots[i+unit-1].end)
	link := t.text[end : end+int(s.link)]
	plain, all := true, make([]int, 0, longestUnit) // nothing but variables
	for k := i; k < i+unit; k++ {
		plain = plain && m.shown(t, k)
		all = append(all, k)
	}
	times := min(int(s.count), mostShownUnits)
	switch {
	case s.flags&slotCount != 0 && plain:
		w.variable(all...)
		return 0
	case s.flags&slotCount != 0, quoted && unit == 1 && string(link) == " " && plain:
		times = 1
	}
	for n := range times {
		if n > 0 {
			w.text(link)
		}
		for k := i; k < i+unit; k++ {
			if k > i {
				w.text(t.gap(k))
			}
			m.writeSlot(w, t, k, m.shown(t, k))
		}
	}
	if s.flags&slotCount != 0 {
		w.text(link)
		w.variable(all...)
		after := t.gap(i + unit)
		for k := 0; k < len(link) && k < len(after) && link[k] == after[k]; k++ {
			if link[k] == ' ' {
				return k
			}
			if k+1 == len(after) {
				return len(after)
			}
		}
	}
	return 0
}

// shown reports whether slot i is shown as a variable.
func (m *Miner) shown(t *template, i int) bool {
	s := &t.slots[i]
	if s.flags&slotFixed != 0 {
		return false
	}
	if s.kind == kindMask || s.flags&(slotWild|slotVaried) != 0 {
		return true
	}
	if t.flags&flagPinned != 0 {
		return false
	}
	const manyDigits, fewLines = 3, 2
	text := t.slotText(i)
	switch s.kind {
	case kindSoft:
		return literal(text) || m.words.values.has(s.exact)
	case kindAlnum:
		if m.words.values.has(s.key) {
			return true
		}
		digits, _ := form(text)
		return digits >= manyDigits && t.count <= fewLines
	}
	return m.words.values.has(s.exact) && assigned(t, i) || literal(text) && !nothing(text)
}

// writeSlot writes slot i, as a variable if shown says so. In a name with
// digits the parts without digits stay, and parts of digits only never do.
func (m *Miner) writeSlot(w *writer, t *template, i int, shown bool) {
	s := &t.slots[i]
	text := t.slotText(i)
	switch {
	case s.flags&slotFixed != 0:
		w.text(text)
		return
	case s.kind == kindMask && s.parts > 0 && s.flags&slotVaried == 0:
		m.writeCluster(w, t, i)
		return
	case s.kind != kindAlnum || s.flags&slotWild != 0:
		if shown {
			w.variable(i)
		} else {
			w.text(text)
		}
		return
	}
	number := false // the last part was one of digits only
	for len(text) > 0 {
		n := 0
		for n < len(text) && text[n] != '.' && (text[n] != '-' || n > 0 && text[n-1] == '_') {
			n++
		}
		part, joint := text[:n], text[n:min(n+1, len(text))]
		text = text[n+len(joint):]
		digits := allDigits(part)
		if digits && number { // the next part of a version
			w.out = w.out[:len(w.out)-1]
		} else if digits || shown && anyDigit(part) {
			w.variable(i)
		} else {
			w.text(part)
		}
		w.text(joint)
		number = digits && string(joint) == "."
	}
}

// writeCluster writes the variables of a cluster and what joins them.
func (m *Miner) writeCluster(w *writer, t *template, i int) {
	s := &t.slots[i]
	end := int(s.start)
	for k, p := range t.parts[s.part : int(s.part)+int(s.parts)] {
		joint := t.text[end:p.start]
		end = int(p.end)
		if k > 0 && (len(joint) == 0 || string(joint) == ".") {
			continue
		}
		w.text(joint)
		w.variable(i)
	}
}

// variable writes a variable. One that follows a variable in braces takes it
// in: {<*>}<*> is one.
func (w *writer) variable(slots ...int) {
	if n := len(w.vars) - 1; n >= 0 && bytes.HasSuffix(w.out, []byte("{"+wildcard+"}")) && w.vars[n].at == len(w.out)-len(wildcard)-1 {
		w.out = append(w.out[:w.vars[n].at-1], wildcard...)
		w.vars[n].at--
		w.vars[n].slots = append(w.vars[n].slots, slots...)
		return
	}
	w.vars = append(w.vars, shownVar{len(w.out), append([]int(nil), slots...)})
	w.out = append(w.out, wildcard...)
}

// text writes text of a line so that it can do no harm where it is shown:
// valid UTF-8 without characters that control or that turn the direction.
// Variables in brackets that follow each other are one: [<*>][<*>].
func (w *writer) text(b []byte) {
	if n := len(w.vars) - 2; n >= 0 && len(b) > 0 && b[0] == ']' && bytes.HasSuffix(w.out, []byte("["+wildcard+"]["+wildcard)) &&
		w.vars[n+1].at == len(w.out)-len(wildcard) && w.vars[n].at == w.vars[n+1].at-len(wildcard)-2 {
		first, second := &w.vars[n], w.vars[n+1]
		first.at--
		first.slots = append(first.slots, second.slots...)
		w.out = append(w.out[:first.at], wildcard...)
		w.vars = w.vars[:n+1]
		b = b[1:]
	}
	for len(b) > 0 {
		if b[0] < utf8.RuneSelf {
			w.out = append(w.out, b[0])
			b = b[1:]
			continue
		}
		r, size := utf8.DecodeRune(b)
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Zl, unicode.Zp) {
			r = utf8.RuneError
		}
		w.out = utf8.AppendRune(w.out, r)
		b = b[size:]
	}
}
