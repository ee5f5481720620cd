package logmine

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// field is what a member of a structured line is for.
type field int

const (
	fieldNone field = iota
	fieldMessage
	fieldText // a message when there is no better one
	fieldLevel
	fieldLogger
	fieldName // a logger when there is no better one
	fieldTrace
	fieldTime
	fieldGroup // an object with such members
)

// fieldOf finds the meaning of a name. Case, a leading @ and which of - _ . is
// between the parts do not matter.
func fieldOf(name string) field {
	if len(name) == 0 || len(name) > 24 {
		return fieldNone
	}
	var buf [24]byte
	n := 0
	for i := range len(name) {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c |= 0x20
		case c == '-' || c == '.' || c == '_':
			continue
		case c == '@' && i == 0:
			continue
		}
		buf[n] = c
		n++
	}
	switch string(buf[:n]) {
	case "msg", "message":
		return fieldMessage
	case "log", "event", "body", "text", "shortmessage", "eventmessage":
		return fieldText
	case "level", "lvl", "severity", "loglevel", "levelname", "severitytext":
		return fieldLevel
	case "logger", "loggername", "loglogger", "target":
		return fieldLogger
	case "name", "component", "module", "category":
		return fieldName
	case "traceid", "trace", "oteltraceid", "ddtraceid", "traceparent":
		return fieldTrace
	case "ts", "time", "timestamp", "datetime":
		return fieldTime
	case "fields":
		return fieldGroup
	}
	return fieldNone
}

// members collects what the members of a structured line say.
type members struct {
	found   Header
	message string
	text    string
	name    string
	known   int // members that mean something
}

func (m *members) add(f field, value string) {
	if f == fieldNone {
		return
	}
	m.known++
	switch f {
	case fieldMessage:
		if m.message == "" {
			m.message = value
		}
	case fieldText:
		if m.text == "" {
			m.text = value
		}
	case fieldLevel:
		if level := ParseLevel(value); level != "" {
			m.found.Level = level
		} else if len(value) == 2 && value[1] == '0' { // 10, 20, … 60
			m.found.setLevel(numberLevel(value[0]))
		}
	case fieldLogger:
		m.found.setLogger(value)
	case fieldName:
		if m.name == "" {
			m.name = value
		}
	case fieldTrace:
		m.found.setTrace(value)
	case fieldTime:
		if t, n := parseTime(value); n == len(value) && n > 0 && t.nanos != 0 && m.found.Time == 0 {
			m.found.Time = t.nanos
		}
	}
}

func numberLevel(c byte) string {
	switch c {
	case '1', '2':
		return ParseLevel("debug")
	case '3':
		return ParseLevel("info")
	case '4':
		return ParseLevel("warn")
	case '5':
		return ParseLevel("error")
	case '6':
		return ParseLevel("fatal")
	}
	return ""
}

// finish gives h what was found, with the best message. It reports false when
// there is no message.
func (m *members) finish(h *Header) bool {
	message := m.message
	if message == "" {
		message = m.text
	}
	if message != "" {
		m.found.setLogger(m.name)
		h.Message = message
	}
	if m.found.Level != "" {
		h.Level = m.found.Level
	}
	h.setLogger(m.found.Logger)
	if h.TraceID == "" {
		h.TraceID = m.found.TraceID
	}
	if m.found.Time != 0 {
		h.Time = m.found.Time
	}
	return message != ""
}

// mostLayers is how many objects around each other are looked into for a
// message, such as a runtime's around a program's own.
const mostLayers = 3

// json reads an object. It reports false when s is none, or is followed by
// something else.
func (h *Header) json(s string, depth int) bool {
	var m members
	end := m.object(s, 0)
	if end < 0 || skipBlank(s[end:]) != "" {
		return false
	}
	h.Message = s
	if !m.finish(h) {
		return true
	}
	if m.message == "" && depth < mostLayers {
		h.read(strings.TrimRight(h.Message, "\r\n"), depth+1)
	} else if depth < mostLayers && strings.HasPrefix(h.Message, "{") {
		h.json(h.Message, depth+1)
	}
	if h.Message == "" {
		h.Message = s
	}
	return true
}

// object reads the members of the object at the start of s and returns where
// it ends, or -1 when it is cut off or no JSON.
func (m *members) object(s string, depth int) int {
	i := 1
	for first := true; ; first = false {
		i = blank(s, i)
		if i < len(s) && s[i] == '}' && first {
			return i + 1
		}
		if i >= len(s) || s[i] != '"' {
			return -1
		}
		end, _ := stringEnd(s, i)
		if end < 0 {
			return -1
		}
		f := fieldOf(s[i+1 : end-1])
		if i = blank(s, end); i >= len(s) || s[i] != ':' {
			return -1
		}
		if i = m.value(s, blank(s, i+1), f, depth); i < 0 {
			return -1
		}
		i = blank(s, i)
		if i >= len(s) {
			return -1
		}
		switch s[i] {
		case '}':
			return i + 1
		case ',':
			i++
		default:
			return -1
		}
	}
}

// value reads the value at s[i] and returns where it ends, or -1.
func (m *members) value(s string, i int, f field, depth int) int {
	if i >= len(s) {
		return -1
	}
	switch c := s[i]; {
	case c == '"':
		end, escaped := stringEnd(s, i)
		if end < 0 {
			return -1
		}
		if f != fieldNone {
			text := s[i+1 : end-1]
			if escaped {
				text = unescape(text)
			}
			m.add(f, text)
		}
		return end
	case c == '{' && f == fieldGroup && depth == 0:
		end := m.object(s[i:], depth+1)
		if end < 0 {
			return -1
		}
		return i + end
	case c == '{' || c == '[':
		return nestedEnd(s, i)
	default:
		end := i
		for end < len(s) && s[end] > ' ' && s[end] != ',' && s[end] != '}' && s[end] != ']' {
			if c := s[end]; c == '"' || c == '{' || c == '[' || c == ':' {
				return -1
			}
			end++
		}
		if end == i {
			return -1
		}
		if f == fieldLevel || f == fieldTime {
			m.add(f, s[i:end])
		}
		return end
	}
}

func blank(s string, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\t' || s[i] == '\n' || s[i] == '\r') {
		i++
	}
	return i
}

// stringEnd is where the string that begins at s[i] ends, or -1, and whether
// there is an escape in it.
func stringEnd(s string, i int) (end int, escaped bool) {
	for i++; ; {
		n := strings.IndexByte(s[i:], '"')
		if n < 0 {
			return -1, escaped
		}
		if !escaped && strings.IndexByte(s[i:i+n], '\\') < 0 {
			return i + n + 1, false
		}
		escaped = true
		for end := i + n; i < end; i++ {
			if s[i] == '\\' {
				i++
			}
		}
		if i < len(s) && s[i] == '"' { // not the one that a backslash escapes
			return i + 1, true
		}
		if i >= len(s) {
			return -1, true
		}
	}
}

// nestedEnd is where the object or array at s[i] ends, or -1.
func nestedEnd(s string, i int) int {
	depth := 0
	for i < len(s) {
		switch s[i] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		case '"':
			end, _ := stringEnd(s, i)
			if end < 0 {
				return -1
			}
			i = end
			continue
		}
		i++
	}
	return -1
}

// unescape resolves the escapes of a string. What is no escape stays.
func unescape(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch s[i] {
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case 'r':
			b.WriteByte('\r')
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'u':
			r, n := unicodeEscape(s[i+1:])
			if n == 0 {
				b.WriteString(`\u`)
				continue
			}
			i += n
			b.WriteRune(r)
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// unicodeEscape reads what follows \u, two of them where halves belong together.
func unicodeEscape(s string) (rune, int) {
	r, ok := hex4(s)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 4
	}
	if len(s) >= 10 && s[4] == '\\' && s[5] == 'u' {
		if low, ok := hex4(s[6:]); ok {
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				return pair, 10
			}
		}
	}
	return utf8.RuneError, 4
}

func hex4(s string) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	var r rune
	for i := range 4 {
		c := s[i]
		switch {
		case isDigit(c):
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// logfmt reads key=value pairs. It reports false when s is something else:
// every word has to be a pair, except behind a message without quotes, and at
// least one has to mean something.
func (h *Header) logfmt(s string) bool {
	var m members
	pairs := 0
	messageAt, messageEnd := -1, -1
	for i := blank(s, 0); i < len(s); i = blank(s, i) {
		keyEnd := i
		for keyEnd < len(s) && keyByte(s[keyEnd]) {
			keyEnd++
		}
		if keyEnd == i || keyEnd == len(s) || s[keyEnd] != '=' {
			if messageEnd < 0 || s[i] == '"' {
				return false
			}
			for i < len(s) && s[i] > ' ' {
				i++
			}
			messageEnd = i // a message of several words without quotes
			m.message = s[messageAt:messageEnd]
			continue
		}
		f := fieldOf(s[i:keyEnd])
		value, end, quoted := pairValue(s, keyEnd+1)
		if end < 0 {
			return false
		}
		messageAt, messageEnd = -1, -1
		if f == fieldMessage && !quoted {
			messageAt, messageEnd = keyEnd+1, end
		}
		m.add(f, value)
		pairs++
		i = end
	}
	if m.known == 0 || pairs < 2 && m.message == "" {
		return false
	}
	m.text = "" // event=x names a kind of event among other pairs
	return m.finish(h)
}

func keyByte(c byte) bool {
	return isLetter(c) || isDigit(c) || c == '_' || c == '.' || c == '-' || c == '/' || c == '@'
}

// pairValue reads the value at s[i]: quoted, or up to the next space.
func pairValue(s string, i int) (value string, end int, quoted bool) {
	if i < len(s) && s[i] == '"' {
		end, escaped := stringEnd(s, i)
		if end < 0 || end < len(s) && s[end] > ' ' {
			return "", -1, true
		}
		value = s[i+1 : end-1]
		if escaped {
			value = unescape(value)
		}
		return value, end, true
	}
	end = i
	for end < len(s) && s[end] > ' ' {
		if s[end] == '"' {
			return "", -1, false
		}
		end++
	}
	return s[i:end], end, false
}
