package logmine

import (
	"fmt"
	"sort"
	"strconv"
	"unicode/utf8"

	"aiops/internal/model"
)

// ID identifies a template. It is derived from what the template looked like
// when it was made, so the same lines give the same ids in another process;
// 0 is no id.
type ID uint64

// String returns the id as 16 hexadecimal digits.
func (id ID) String() string { return fmt.Sprintf("%016x", uint64(id)) }

// ParseID reads what String wrote.
func ParseID(s string) (ID, error) {
	v, err := strconv.ParseUint(s, 16, 64)
	if err != nil || len(s) != 16 || v == 0 {
		return 0, model.Errorf(model.KindInvalid, "", "%q is not the id of a log template; it has 16 hexadecimal digits", s)
	}
	return ID(v), nil
}

// Mark is what people think of a template. The miner keeps it.
type Mark uint8

// The marks.
const (
	MarkNone      Mark = iota
	MarkIgnored        // its lines are of no interest
	MarkImportant      // each of its lines is of interest
)

// String returns none, ignored or important.
func (m Mark) String() string {
	switch m {
	case MarkIgnored:
		return "ignored"
	case MarkImportant:
		return "important"
	}
	return "none"
}

// Template is a pattern of lines as callers see it: a copy that does not
// change any more.
type Template struct {
	ID   ID
	Text string // words as in the lines, <*> for variables; valid UTF-8 without control characters
	// Variables are the places of the variables in Text, as byte offsets in
	// rising order: a line can hold <*> itself.
	Variables []int

	Count uint64 // lines so far, with those of templates merged into it
	First uint64 // number of the first line, from 1
	Last  uint64 // number of the last line

	Name   string // as people called it, or ""
	Pinned bool
	Mark   Mark
	Parent ID // the template this one was split off from, or 0
}

// Template returns the template of an id. Ids of templates that were merged
// away give the one that stayed. It reports false for an id that was never
// given and for that of a template which was evicted.
func (m *Miner) Template(id ID) (Template, bool) {
	i, ok := m.lookup(id)
	if !ok {
		return Template{}, false
	}
	out := m.view(m.templates[i])
	if m.templates[i].flags&flagLinked != 0 {
		for _, t := range m.templates {
			if t.live && t.emit == out.ID && t.id != out.ID {
				out.merge(t)
			}
		}
	}
	return out, true
}

// Templates returns all templates, those with the most lines first.
func (m *Miner) Templates() []Template {
	out := make([]Template, 0, m.Len())
	at := map[ID]int{}
	for _, t := range m.templates {
		if t.live && t.emit == t.id {
			at[t.id] = len(out)
			out = append(out, m.view(t))
		}
	}
	for _, t := range m.templates {
		if t.live && t.emit != t.id {
			out[at[t.emit]].merge(t)
		}
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Count != out[j].Count {
			return out[i].Count > out[j].Count
		}
		return out[i].ID < out[j].ID
	})
	return out
}

// Len returns the number of records that are kept: templates, and those that
// people merged into templates of another shape.
func (m *Miner) Len() int { return len(m.templates) - len(m.free) }

// lookup returns the record of the template that id leads to.
func (m *Miner) lookup(id ID) (int32, bool) {
	i, ok := m.byID[m.aliases.resolve(id)]
	return i, ok
}

func (m *Miner) view(t *template) Template {
	out := Template{ID: t.id, Count: t.count, First: t.birth, Last: t.last,
		Name: t.name, Pinned: t.flags&flagPinned != 0, Mark: t.mark, Parent: t.parent}
	w := m.render(t)
	out.Text = string(w.out)
	for _, v := range w.vars {
		out.Variables = append(out.Variables, v.at)
	}
	return out
}

// merge adds the lines of a record that was merged into the template.
func (out *Template) merge(t *template) {
	out.Count += t.count
	out.First = min(out.First, t.birth)
	out.Last = max(out.Last, t.last)
}

// template flags.
const (
	flagPinned uint8 = 1 << iota // text and identity stay as they are
	flagSplit                    // lines go to children, one for each text of the split slots
	flagChild                    // split off: found by its parent only
	flagLinked                   // part of a merge of different shapes
)

// template is the record of one pattern. Its text is that of the line that
// made it with white space squeezed and lists reduced to their first unit; the
// slots are the places of its items in there.
type template struct {
	id     ID
	emit   ID // the id that lines get: id, or that of the template it was merged into
	parent ID
	shape  uint64 // hash of the gaps
	child  uint64 // key among the children, if it is one
	birth  uint64 // number of the line that made it
	last   uint64 // number of the last line
	count  uint64
	// foreign of those lines were given another id, that of a template merged
	// into this one.
	foreign uint64
	age     uint64 // the miner's age at the last line; see makeRoom
	slots   []slot
	text    []byte
	parts   []span // of clusters
	open    []open
	name    string
	gen     uint32 // grows when the record is used anew
	born    uint16 // children made so far
	flags   uint8
	mark    Mark
	live    bool
	cut     bool // the lines go on after the last slot
}

// protected reports whether people have a say in the template, so that it is
// neither evicted nor merged away.
func (t *template) protected() bool {
	return t.flags&^flagChild != 0 || t.name != "" || t.mark != MarkNone
}

// keepsID reports whether the id of t stays when t and o become one: that of a
// pinned one, else the one that more lines were given, else the elder's.
func (t *template) keepsID(o *template) bool {
	if a, b := t.flags&flagPinned, o.flags&flagPinned; a != b {
		return a != 0
	}
	if a, b := t.count-t.foreign, o.count-o.foreign; a != b {
		return a > b
	}
	return t.birth < o.birth || t.birth == o.birth && t.id < o.id
}

// span is a part of a template's text.
type span struct{ start, end uint16 }

// open is a slot that showed one text so far; the fast path compares it.
type open struct {
	exact uint64
	item  uint16 // where it is in lines with lists as long as in the first line
	slot  uint16
}

// slot flags.
const (
	slotWild   uint8 = 1 << iota // a word that was found to vary
	slotVaried                   // another text, or another form of a cluster, than the first was seen here
	slotCount                    // the length of the list that begins here varies
	slotSplit                    // people want one template for each text here
	slotFixed                    // the text that a child was split off for
)

// slot is one place of a template.
type slot struct {
	key        uint64 // as in item
	exact      uint64
	start, end uint16 // in the template's text
	part       uint16 // index of its first part in the template's parts
	parts      uint8  // variables that the slot is a cluster of; 0 is no cluster
	count      uint16 // of the units of the list that begins here; 1 is no list
	unit       uint8  // slots in that unit; 0 is no list
	link       uint8  // length of the gap between units, which follows the first unit in the text
	kind       itemKind
	flags      uint8
}

// variable reports whether the slot's text does not identify the template.
func (s *slot) variable() bool {
	return (s.kind >= kindMask || s.flags&slotWild != 0) && s.flags&slotFixed == 0
}

// gap returns the text before slot i, or the tail for i = len(t.slots).
func (t *template) gap(i int) []byte {
	a, b := 0, len(t.text)
	if i > 0 {
		a = int(t.slots[i-1].end) + t.linkBefore(i)
	}
	if i < len(t.slots) {
		b = int(t.slots[i].start)
	}
	return t.text[a:b]
}

// linkBefore returns the length of the link of the list that ends before
// slot i.
func (t *template) linkBefore(i int) int {
	for unit := 1; unit <= longestUnit && unit <= i; unit++ {
		if l := &t.slots[i-unit]; int(l.unit) == unit {
			return int(l.link)
		}
	}
	return 0
}

// slotText returns the text of slot i in the line that made the template.
func (t *template) slotText(i int) []byte {
	return t.text[t.slots[i].start:t.slots[i].end]
}

// reopen lists the slots that the fast path compares.
func (t *template) reopen() {
	t.open = t.open[:0]
	if t.flags&flagPinned != 0 {
		return
	}
	item, list, end, unit := 0, 0, 0, 0 // items so far, the list that a slot belongs to, where its unit ends, its items
	for i := range t.slots {
		s := &t.slots[i]
		if s.unit > 0 {
			list, end, unit = i, i+int(s.unit), 0
		}
		if (s.kind == kindSoft || s.kind == kindAlnum) && s.flags == 0 {
			t.open = append(t.open, open{s.exact, uint16(item), uint16(i)})
		}
		items := max(1, int(s.parts))
		item += items
		unit += items
		if i+1 == end {
			item += (int(t.slots[list].count) - 1) * unit
		}
	}
}

// sameLists reports whether the lists and clusters of both are where they are
// in the other and as long.
func sameLists(t, d *template) bool {
	for i := range t.slots {
		a, b := &t.slots[i], &d.slots[i]
		if a.unit != b.unit || a.count != b.count || a.parts != b.parts {
			return false
		}
	}
	return true
}

const (
	recordBytes = 384 // a record without slots and texts, with its share of the indexes
	slotBytes   = 36
)

func (t *template) sizeBytes() int {
	return recordBytes + slotBytes*len(t.slots) + len(t.text) + 4*len(t.parts) + len(t.name)
}

// identity returns the template's skeleton as text. Ids are made of it, so
// what it returns for a line never changes.
func (m *Miner) identity(t *template) []byte {
	out := m.idBuf[:0]
	for i := range t.slots {
		out = append(out, t.gap(i)...)
		s := &t.slots[i]
		text := t.slotText(i)
		switch {
		case s.flags&slotFixed != 0 || s.kind == kindWord:
			out = append(out, text...)
		case s.kind == kindAlnum:
			for k, c := range text {
				if !isDigit(c) {
					out = append(out, c)
				} else if k == 0 || !isDigit(text[k-1]) {
					out = append(out, '#')
				}
			}
		default:
			out = append(out, wildcard...)
		}
	}
	out = append(out, t.gap(len(t.slots))...)
	m.idBuf = out
	return out
}

// newID derives an id from what identifies the template at its creation.
func (m *Miner) newID(t *template) ID {
	id := ID(contentHash(m.identity(t)))
	for ; ; id++ {
		_, taken := m.byID[id]
		_, alias := m.aliases.to[id]
		if id != 0 && !taken && !alias {
			return id
		}
	}
}

// validName checks a name that people give.
func validName(name string) error {
	const longest = 200
	if len(name) > longest || !utf8.ValidString(name) {
		return model.Errorf(model.KindInvalid, "", "the name of a log template has at most %d bytes of UTF-8", longest)
	}
	return nil
}
