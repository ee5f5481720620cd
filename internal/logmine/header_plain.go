package logmine

import (
	"strings"

	"aiops/internal/model"
)

// ParseLevel returns the level that a word of any case stands for, or "".
func ParseLevel(word string) string {
	var lower [16]byte
	if len(word) < 1 || len(word) > 13 {
		return ""
	}
	for i := range len(word) {
		lower[i] = word[i]
		if 'A' <= word[i] && word[i] <= 'Z' {
			lower[i] |= 0x20
		}
	}
	switch string(lower[:len(word)]) {
	case "trace", "trc", "debug", "dbg", "verbose", "fine", "finer", "finest":
		return model.LevelDebug
	case "info", "inf", "information", "informational", "notice", "log":
		return model.LevelInfo
	case "warn", "warning", "wrn":
		return model.LevelWarn
	case "error", "err", "eror", "severe":
		return model.LevelError
	case "fatal", "ftl", "critical", "crit", "alert", "emerg", "emergency", "panic":
		return model.LevelFatal
	}
	return ""
}

// letterLevel is the level of a single letter.
func letterLevel(c byte) string {
	switch c {
	case 'V', 'D', 'T':
		return model.LevelDebug
	case 'I', 'N':
		return model.LevelInfo
	case 'W':
		return model.LevelWarn
	case 'E':
		return model.LevelError
	case 'F', 'C':
		return model.LevelFatal
	}
	return ""
}

// plainReader walks over the tokens of a header. What lies before committed is
// surely header: a time, a level, or what stands between them. Numbers and
// names alone may as well be the message.
type plainReader struct {
	h         *Header
	s         string
	at        int
	committed int
	name      string // a name that stood alone before the level
	timed     bool
	levelled  bool
	numbers   int
}

// plain takes the header in front of plain text away.
func (h *Header) plain(s string) string {
	if rest, ok := h.letterDay(s); ok {
		return rest
	}
	p := plainReader{h: h, s: s}
	if p.letterFirst() {
		p.commit()
	}
	for range headerTokens {
		p.at = len(s) - len(skipBlank(s[p.at:]))
		if p.at >= len(s) || !p.token() {
			break
		}
	}
	return strings.TrimLeft(skipBlank(s[p.committed:]), " \t")
}

func (p *plainReader) commit() { p.committed = p.at }

func (p *plainReader) sure() bool { return p.timed || p.levelled }

// token reads one token and reports whether a further one may follow.
func (p *plainReader) token() bool {
	c := p.s[p.at]
	switch {
	case c == '[':
		return p.bracket()
	case c == '-' || c == '|' || c == ':' || c == ',' || c == ';':
		return p.separator(c)
	case isDigit(c):
		return p.digits()
	case isLetter(c) || c == '_' || c == '<' || c == '(':
		if t, n := parseTime(p.s[p.at:]); n > 0 && !p.timed {
			return p.time(t, n)
		}
		return p.word()
	}
	return false
}

func (p *plainReader) time(t stamp, n int) bool {
	p.at += n
	p.timed = true
	if t.nanos != 0 {
		p.h.Time = t.nanos
	}
	if p.at < len(p.s) && p.s[p.at] == ':' {
		p.at++
	}
	p.commit()
	if rest, ok := p.runtime(); ok {
		p.at = len(p.s) - len(rest)
		p.commit()
		return true
	}
	if rest, ok := p.h.syslogTag(p.s[p.at:], true, !t.short); ok && (t.short || t.nanos != 0) {
		p.at = len(p.s) - len(rest)
		p.commit()
		return !t.short
	}
	return true
}

// runtime reads " stdout F ", which container runtimes put behind the time.
func (p *plainReader) runtime() (string, bool) {
	s := strings.TrimPrefix(p.s[p.at:], " ")
	rest, ok := strings.CutPrefix(s, "stdout ")
	if !ok {
		rest, ok = strings.CutPrefix(s, "stderr ")
	}
	if !ok || len(rest) < 2 || (rest[0] != 'F' && rest[0] != 'P') || rest[1] != ' ' {
		return "", false
	}
	p.timed = false // the line within may have a time of its own
	return rest[2:], true
}

// separator goes over signs between tokens, which may be repeated.
func (p *plainReader) separator(c byte) bool {
	i := p.at
	for i < len(p.s) && p.s[i] == c {
		i++
	}
	if p.committed == 0 && p.name == "" || i-p.at > 3 || c == '-' && i < len(p.s) && p.s[i] != ' ' && p.s[i] != '\t' {
		return false
	}
	strong := p.committed == p.at || strings.TrimLeft(p.s[p.committed:p.at], " \t") == ""
	p.at = i
	if strong {
		p.commit()
	}
	return true
}

// digits reads a time, or a number as of a process, which is header only when
// a level or a bracket follows.
func (p *plainReader) digits() bool {
	if t, n := parseTime(p.s[p.at:]); n > 0 && !p.timed {
		return p.time(t, n)
	}
	if !p.timed || p.numbers == 3 {
		return false
	}
	p.numbers++
	i := p.at
	for i < len(p.s) && (isDigit(p.s[i]) || p.s[i] == '#' || p.s[i] == '.') {
		i++
	}
	if i < len(p.s) && p.s[i] == ':' {
		i++
	}
	if i == len(p.s) || p.s[i] != ' ' && p.s[i] != '\t' {
		return false
	}
	p.at = i
	if strings.IndexByte(p.s[:i], '#') >= 0 && p.levelled { // process#thread:
		p.commit()
	}
	return true
}

// bracket reads [ … ]. Before anything sure it counts only when a time or a
// level is in it, or follows.
func (p *plainReader) bracket() bool {
	end := bracketEnd(p.s[p.at:])
	if end < 0 {
		return false
	}
	inner := p.s[p.at+1 : p.at+end-1]
	strong := p.sure()
	if p.insideBracket(inner) {
		strong = true
	}
	p.at += end
	if p.at < len(p.s) && p.s[p.at] == ':' {
		p.at++
	}
	if strong {
		p.commit()
	}
	return true
}

// bracketEnd is the length of the brackets at the start of s, or -1.
func bracketEnd(s string) int {
	depth := 0
	for i := 0; i < len(s) && i < headerBracket; i++ {
		switch s[i] {
		case '[':
			depth++
		case ']':
			if depth--; depth == 0 {
				return i + 1
			}
		case '{', '"':
			return -1 // data, not a name
		}
	}
	return -1
}

// insideBracket looks at what stands in brackets and reports whether it was a
// time or a level.
func (p *plainReader) insideBracket(inner string) bool {
	inner = skipBlank(inner)
	if t, n := parseTime(inner); n > 0 {
		p.timed = true
		if t.nanos != 0 {
			p.h.Time = t.nanos
		}
		p.names(inner[n:])
		return true
	}
	word := strings.TrimRight(inner, " \t")
	if i := strings.IndexByte(word, 0x1b); i >= 0 {
		word = word[:i]
	}
	level := ParseLevel(word)
	if i := strings.LastIndexByte(word, ':'); level == "" && i > 0 { // module:level
		if level = ParseLevel(word[i+1:]); level != "" {
			p.h.setLogger(word[:i])
		}
	}
	if level != "" {
		p.levelled = true
		p.h.setLevel(level)
		return true
	}
	p.names(word)
	return false
}

// names looks for a level, a logger or a trace id among the words in brackets.
func (p *plainReader) names(s string) {
	for s != "" {
		i := strings.IndexAny(s, " \t,")
		word := s
		if i >= 0 {
			word, s = s[:i], s[i+1:]
		} else {
			s = ""
		}
		if word == "" {
			continue
		}
		if level := ParseLevel(word); level != "" {
			p.levelled = true
			p.h.setLevel(level)
		} else if (len(word) == 32 || len(word) == 16 || len(word) == 55) && hexadecimal(word) {
			p.h.setTrace(word)
		} else if isLetter(word[0]) && (strings.IndexByte(word, '.') > 0 || strings.Contains(word, "::")) && plainName(word) {
			p.h.setLogger(word)
		}
	}
}

func hexadecimal(s string) bool {
	for i := range len(s) {
		if c := s[i] | 0x20; !isDigit(s[i]) && (c < 'a' || c > 'f') && s[i] != '-' {
			return false
		}
	}
	return true
}

func plainName(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isLetter(c) && !isDigit(c) && c != '.' && c != '_' && c != ':' && c != '$' && c != '-' && c != '/' {
			return false
		}
	}
	return true
}

// word reads a level, a logger, or a name that may turn out to be one.
func (p *plainReader) word() bool {
	i := p.at
	open := p.s[i] == '<' || p.s[i] == '('
	if open {
		i++
	}
	begin := i
	for i < len(p.s) && i-begin <= longestLogger && wordByte(p.s[i]) {
		i++
	}
	for i > begin && p.s[i-1] == ':' {
		i-- // the colon behind is no part of the name
	}
	word := p.s[begin:i]
	next := byte(' ')
	if i < len(p.s) {
		next = p.s[i]
	}
	if open {
		if level := ParseLevel(word); level != "" && (next == '>' || next == ')') {
			return p.level(level, i+1)
		}
		return false
	}
	if p.levelled {
		return p.logger(word, i, next)
	}
	if name, after, ok := strings.Cut(word, ":"); ok && capitals(name) { // LEVEL:logger:message
		if level := ParseLevel(name); level != "" {
			i = begin + len(name)
			if logger, _, ok := strings.Cut(after, ":"); ok {
				p.h.setLogger(logger)
				i += 1 + len(logger)
			}
			return p.level(level, i)
		}
	}
	if level, ok := p.levelWord(word, next); ok {
		if p.name != "" {
			p.h.setLogger(p.name)
		}
		return p.level(level, i)
	}
	if dot := strings.LastIndexByte(word, '.'); dot > 0 && next == ':' && capitals(word[dot+1:]) { // channel.LEVEL:
		if level := ParseLevel(word[dot+1:]); level != "" {
			p.h.setLogger(word[:dot])
			return p.level(level, i)
		}
	}
	if p.name != "" || word == "" || next != ' ' && next != '\t' && next != ':' {
		return false
	}
	if source(word) && next == ':' && p.timed { // file.go:12:
		p.at = i + 1
		p.h.setLogger(word)
		p.commit()
		return true
	}
	p.name = word
	p.at = i
	return p.timed || next == ' ' && strings.HasPrefix(p.s[i:], " - ")
}

func wordByte(c byte) bool {
	return isLetter(c) || isDigit(c) || c == '.' || c == '_' || c == ':' || c == '$' || c == '-' || c == '/' || c == '@' || c == '*'
}

// levelWord reports whether a word is the level, and not the first word of a
// message: capitals are, other writings only with a sign behind.
func (p *plainReader) levelWord(word string, next byte) (string, bool) {
	level := ParseLevel(word)
	if level == "" {
		if len(word) == 1 && p.timed && p.numbers > 0 && next == ' ' {
			level = letterLevel(word[0])
		}
		return level, level != ""
	}
	switch {
	case capitals(word):
		return level, true
	case !p.timed:
		if next == ':' {
			p.h.setLevel(level) // it stays in the message
		}
		return "", false
	}
	return level, next == ':' || next == '\t' || next == '|' || next == 0x1b || strings.HasPrefix(p.s[p.at+len(word):], " - ") || strings.HasPrefix(p.s[p.at+len(word):], " | ")
}

func capitals(word string) bool {
	for i := range len(word) {
		if c := word[i]; c < 'A' || c > 'Z' {
			return false
		}
	}
	return len(word) > 1
}

func (p *plainReader) level(level string, end int) bool {
	p.levelled = true
	p.h.Level = level
	p.at = end
	if p.at < len(p.s) && (p.s[p.at] == ':' || p.s[p.at] == ',') {
		p.at++
	}
	p.commit()
	return true
}

// logger reads a name behind the level. It is one when it is made like an
// identifier and a sign stands between it and the message.
func (p *plainReader) logger(word string, end int, next byte) bool {
	if !identifier(word) {
		return false
	}
	rest := p.s[end:]
	switch {
	case source(word) && next == ']':
		end++
	case next == ':' && (len(rest) == 1 || rest[1] == ' '):
		end++
	case next == '\t', strings.HasPrefix(rest, " - "), strings.HasPrefix(strings.TrimLeft(rest, " "), ": "), strings.HasPrefix(rest, " | "):
	case strings.HasPrefix(strings.TrimLeft(rest, " "), "["): // a bracket between name and message
	default:
		return false
	}
	p.at = end
	if source(word) {
		p.h.setLogger(word[:strings.LastIndexByte(word, ':')])
	} else {
		p.h.setLogger(word)
	}
	p.commit()
	return true
}

// source reports whether a word is a place in a program's text, file.go:12.
func source(word string) bool {
	i := strings.LastIndexByte(word, ':')
	return i > 2 && i < len(word)-1 && onlyDigits(word[i+1:]) && strings.IndexByte(word[:i], '.') > 0
}

// identifier reports whether a word is made as names of loggers are: of parts,
// or with a capital inside.
func identifier(word string) bool {
	if word == "" || !isLetter(word[0]) && word[0] != '_' {
		return false
	}
	for i := 1; i < len(word)-1; i++ {
		switch c := word[i]; {
		case c == '.' || c == '_' || c == '$' || c == '/' || c == ':':
			return true
		case 'A' <= c && c <= 'Z' && 'a' <= word[i-1] && word[i-1] <= 'z':
			return true
		}
	}
	return false
}

// letterFirst reads "I, " in front of a bracket.
func (p *plainReader) letterFirst() bool {
	if !strings.HasPrefix(p.s[min(1, len(p.s)):], ", [") {
		return false
	}
	level := letterLevel(p.s[0])
	if level == "" {
		return false
	}
	p.h.setLevel(level)
	p.at = 3
	return true
}

// letterDay reads Lmmdd hh:mm:ss.uuuuuu thread file:line] in front of a message.
func (h *Header) letterDay(s string) (string, bool) {
	if len(s) < 16 || s[5] != ' ' || !onlyDigits(s[1:5]) {
		return s, false
	}
	level := letterLevel(s[0])
	_, n := clock(s[6:])
	if level == "" || n == 0 {
		return s, false
	}
	rest := s[6+n:]
	end := strings.Index(rest[:min(len(rest), 160)], "] ")
	if end < 0 {
		return s, false
	}
	h.setLevel(level)
	fields := strings.TrimLeft(rest[:end], " ")
	if i := strings.LastIndexByte(fields, ' '); i >= 0 && source(fields[i+1:]) {
		h.setLogger(fields[i+1 : strings.LastIndexByte(fields, ':')])
	}
	return rest[end+2:], true
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
