package lines

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"

	"aiops/internal/model"
)

// errDamaged marks bytes that are not what this package wrote.
var errDamaged = errors.New("damaged data")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// writer appends the elements of the formats.
type writer []byte

func (w *writer) uint(v uint64) { *w = binary.AppendUvarint(*w, v) }
func (w *writer) int(v int64)   { *w = binary.AppendVarint(*w, v) }
func (w *writer) text(s string) {
	w.uint(uint64(len(s)))
	*w = append(*w, s...)
}

func (w *writer) labels(ls model.Labels) {
	w.uint(uint64(len(ls)))
	for _, l := range ls {
		w.text(l.Name)
		w.text(l.Value)
	}
}

// reader reads them back. After the first fault it returns zero values, and
// failed says so. Texts are parts of the string that is read.
type reader struct {
	s      string
	failed bool
}

func (r *reader) fail() { r.failed, r.s = true, "" }

func (r *reader) uint() uint64 {
	var v uint64
	for shift := uint(0); shift < 64; shift += 7 {
		if r.s == "" {
			break
		}
		c := r.s[0]
		r.s = r.s[1:]
		if c < 0x80 {
			if shift == 63 && c > 1 {
				break
			}
			return v | uint64(c)<<shift
		}
		v |= uint64(c&0x7f) << shift
	}
	r.fail()
	return 0
}

func (r *reader) int() int64 {
	u := r.uint()
	v := int64(u >> 1)
	if u&1 != 0 {
		v = ^v
	}
	return v
}

// count reads how many elements follow, each of at least size bytes.
func (r *reader) count(size int) int {
	n := r.uint()
	if n > uint64(len(r.s)/size) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) take(n uint64) string {
	if n > uint64(len(r.s)) {
		r.fail()
		return ""
	}
	s := r.s[:n]
	r.s = r.s[n:]
	return s
}

func (r *reader) text() string { return r.take(r.uint()) }

func (r *reader) byte() byte {
	if r.s == "" {
		r.fail()
		return 0
	}
	c := r.s[0]
	r.s = r.s[1:]
	return c
}

func (r *reader) labels() model.Labels {
	ls := make(model.Labels, 0, r.count(2))
	for range cap(ls) {
		ls = append(ls, model.Label{Name: r.text(), Value: r.text()})
	}
	if r.failed {
		return nil
	}
	return ls
}

func (r *reader) err() error {
	if r.failed {
		return errDamaged
	}
	return nil
}

// levels in the order of their codes; the code of a level that is not known is
// that of "".
var levels = [...]string{"", model.LevelDebug, model.LevelInfo, model.LevelWarn, model.LevelError, model.LevelFatal}

func levelCode(level string) byte {
	for i, l := range levels {
		if l == level {
			return byte(i)
		}
	}
	return 0
}

// The bits of a line's first byte: the code of the level, whether the line was
// cut, and where the message is.
const (
	bitsLevel   = 0x07
	bitCut      = 0x08
	bitsMessage = 0x70

	messageNone   = 0x00
	messageAll    = 0x10 // all of the text
	messageEnd    = 0x20 // the end of the text, from an offset
	messagePart   = 0x30 // a part of the text, from an offset and of a length
	messageBeside = 0x40 // written out
)

// head writes what stands in front of a line's text; what it says of the
// message is the last of it.
func (w *writer) head(l *model.LogLine) {
	bits := levelCode(l.Level)
	if l.Cut {
		bits |= bitCut
	}
	offset := 0
	switch {
	case l.Message == "":
	case l.Message == l.Text:
		bits |= messageAll
	case strings.HasSuffix(l.Text, l.Message):
		bits |= messageEnd
		offset = len(l.Text) - len(l.Message)
	default:
		if offset = strings.Index(l.Text, l.Message); offset >= 0 {
			bits |= messagePart
		} else {
			bits |= messageBeside
		}
	}
	*w = append(*w, bits)
	w.uint(uint64(len(l.Text)))
	switch bits & bitsMessage {
	case messageEnd:
		w.uint(uint64(offset))
	case messagePart:
		w.uint(uint64(offset))
		w.uint(uint64(len(l.Message)))
	case messageBeside:
		w.text(l.Message)
	}
}

// place is where a line's message is within its text, as read from its head.
type place struct {
	bits         byte
	size         uint64 // of the text
	offset, part uint64
	beside       string
}

func (r *reader) head() place {
	p := place{bits: r.byte()}
	p.size = r.uint()
	switch p.bits & bitsMessage {
	case messageEnd:
		p.offset = r.uint()
	case messagePart:
		p.offset = r.uint()
		p.part = r.uint()
	case messageBeside:
		p.beside = r.text()
	case messageNone, messageAll:
	default:
		r.fail()
	}
	if p.size > model.MaxLineBytes || p.offset > p.size || p.part > p.size-min(p.offset, p.size) || int(p.bits&bitsLevel) >= len(levels) || p.bits&0x80 != 0 {
		r.fail()
	}
	return p
}

// fill puts text and message into a line.
func (p place) fill(l *model.LogLine, text string) {
	l.Text = text
	l.Cut = p.bits&bitCut != 0
	l.Level = levels[p.bits&bitsLevel]
	switch p.bits & bitsMessage {
	case messageAll:
		l.Message = text
	case messageEnd:
		l.Message = text[p.offset:]
	case messagePart:
		l.Message = text[p.offset : p.offset+p.part]
	case messageBeside:
		l.Message = p.beside
	}
}
