package logmine

import "encoding/binary"

// The classes of bytes. A chunk is a run of bytes with a class; a byte
// without one delimits chunks.
const (
	clLetter uint8 = 1 << iota
	clDigit
	clUnder
	clDot
	clColon
	clDash
	clSlash
	clSymbol

	clName = clLetter | clDigit | clUnder
)

var classes = classTable()

func classTable() (t [256]uint8) {
	for c := range t {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= 0x80:
			t[c] = clLetter
		case c >= '0' && c <= '9':
			t[c] = clDigit
		}
	}
	t['_'], t['.'], t[':'], t['-'] = clUnder, clDot, clColon, clDash
	t['/'], t['\\'] = clSlash, clSlash
	for _, c := range []byte("@#$%*+~") {
		t[c] = clSymbol
	}
	return t
}

// itemKind says what an item of a line is. The order matters: from kindMask
// on, the text of an item is no part of the skeleton.
type itemKind uint8

const (
	kindWord  itemKind = iota // a word
	kindAlnum                 // a word with digits; its digits are no part of the skeleton
	kindMask                  // a number, address, path, identifier: variable at first sight
	kindSoft                  // a word where values stand: variable, shown while it never changed
)

// item is one token of a line: a word or a variable. What stands between two
// items is a gap.
type item struct {
	key        uint64 // hash of what belongs to the skeleton; 0 for variables
	exact      uint64 // hash of the text; 0 for masks
	start, end uint16
	kind       itemKind
}

// hardItems is the most items a scanner holds whatever the configuration.
const hardItems = 256

// scanner splits one line into items and hashes the skeleton on the way: the
// words and gaps of the line without its variables. It reads each byte about
// once and never allocates. The decisions depend on digits only by being
// digits, so that lines which differ in digits have one skeleton.
type scanner struct {
	line  []byte
	h     uint64 // of the skeleton so far
	sep   uint64 // of the gap since the last item
	seed  uint64
	n     int
	limit int  // most items
	value bool // an equals sign was the last thing of note
	cut   bool // the line goes on after the last item
	items [hardItems]item
}

func isSpace(c byte) bool { return c <= ' ' || c == 0x7f }

// gap adds a delimiter to the gap.
func (s *scanner) gap(c byte) { s.sep = (s.sep + uint64(c) + 1) * mulB }

func (s *scanner) put(k itemKind, a, b int, key, exact uint64) {
	if s.n >= s.limit {
		s.cut = true
		return
	}
	s.h = fold(s.h^s.sep^mulA, key^mulC)
	s.sep = 0
	it := &s.items[s.n]
	it.key, it.exact = key, exact
	it.start, it.end, it.kind = uint16(a), uint16(b), k
	s.n++
}

func (s *scanner) mask(a, b int) { s.put(kindMask, a, b, 0, 0) }

func (s *scanner) soft(a, b int) {
	s.put(kindSoft, a, b, 0, hashBytes(s.line[a:b], s.seed))
}

// word handles the word [a,b) and returns the index after it, which is after b
// where the word began a date.
func (s *scanner) word(a, b int) int {
	n := b - a
	if n == 3 && upper(s.line[a]) {
		if e := s.date(a); e > 0 {
			s.mask(a, e)
			return e
		}
	} else if n >= 8 && n&(n-1) == 0 && allHex(s.line[a:b]) {
		s.mask(a, b)
		return b
	}
	h := hashBytes(s.line[a:b], s.seed)
	s.put(kindWord, a, b, h, h)
	return b
}

func (s *scanner) alnum(a, b int) {
	s.put(kindAlnum, a, b, hashSquashed(s.line[a:b], s.seed), hashBytes(s.line[a:b], s.seed))
}

// scan splits line, of which it looks at no more than maxLine bytes. The
// items point into s.line, which is line or a part of it.
func (s *scanner) scan(line []byte, maxLine, maxItems int) {
	n := len(line)
	for n > 0 && isSpace(line[n-1]) {
		n--
	}
	s.limit, s.cut = maxItems, false
	if n > maxLine {
		// A cut in the middle of variables falls on another item in each
		// line, so only the first items count.
		n, s.limit, s.cut = maxLine, maxItems/4, true
	}
	line = line[:n]
	s.line = line
	s.n, s.h, s.sep, s.value = 0, s.seed, 0, false
	i := skipSpace(line, 0)
	for i < n && s.n < s.limit {
		c := line[i]
		cl := classes[c]
		if cl != 0 {
			a, flags := i, cl
			if cl == clLetter && i+8 <= n {
				// most chunks are short words: eight bytes at a time
				w := binary.LittleEndian.Uint64(line[i:])
				k := lettersIn(w)
				i += k
				if k < 8 && classes[line[i]] == 0 && !s.value && (k != 3 || !upper(c)) {
					h := hashWord(w&(1<<(8*k)-1), k, s.seed)
					s.put(kindWord, a, i, h, h)
					continue
				}
				if k == 8 && i+8 <= n {
					i += lettersIn(binary.LittleEndian.Uint64(line[i:]))
				}
			}
			for ; i < n; i++ {
				cl = classes[line[i]]
				if cl == 0 {
					break
				}
				flags |= cl
			}
			if s.value {
				i = s.valueChunk(a, i, flags)
			} else {
				i = s.anyChunk(a, i, flags)
			}
			continue
		}
		if c == ' ' {
			i++
			s.gap(' ')
			if i < n && isSpace(line[i]) {
				i = skipSpace(line, i)
			}
			continue
		}
		i = s.delimiter(c, i)
	}
	if s.cut || i < n {
		s.cut = true
		s.h = fold(s.h^mulD, mulC)
		s.sep = 0
		return
	}
	s.h = fold(s.h^s.sep^mulB, mulC)
}

// skipSpace returns the index after the white space, control characters and
// terminal escapes at i.
func skipSpace(line []byte, i int) int {
	for i < len(line) && isSpace(line[i]) {
		if line[i] == 0x1b && i+1 < len(line) && line[i+1] == '[' {
			i += 2
			for i < len(line) && line[i] >= 0x20 && line[i] < 0x40 {
				i++
			}
		}
		i++
	}
	return min(i, len(line))
}

// delimiter handles the delimiter c at i and returns the index after it.
func (s *scanner) delimiter(c byte, i int) int {
	line := s.line
	n := len(line)
	switch {
	case isSpace(c):
		s.gap(' ')
		return skipSpace(line, i)
	case c == '=':
		s.gap(c)
		s.value = !comparison(line, i)
		return i + 1
	case c == '"' || c == '\'' || c == '`':
		s.gap(c)
		s.value = false
		if j, kind := quoted(line, i); j > 0 && s.n < s.limit {
			e := j
			if i > 0 && line[i-1] == '\\' {
				e-- // quotes inside quotes: \"name\"
			}
			if kind == kindMask {
				s.mask(i+1, e)
			} else {
				s.soft(i+1, e)
			}
			s.gaps(e, j+1)
			return j + 1
		}
		return i + 1
	case c == '<':
		if j := atMost(line, i); j > 0 && s.n < s.limit {
			s.mask(i, j)
			return j
		}
	case c == '(':
		s.gap(c)
		s.value = false
		if i > 0 && classes[line[i-1]]&(clLetter|clDigit) != 0 {
			// a call or a unit: name(word)
			j := i + 1
			for j < n && j-i < 40 && classes[line[j]]&(clLetter|clUnder) != 0 {
				j++
			}
			if j < n && line[j] == ')' && j > i+3 { // shorter is a plural: error(s)
				s.soft(i+1, j)
				return j
			}
		}
		return i + 1
	}
	s.gap(c)
	s.value = false
	return i + 1
}

// atMost returns the end of the bound that begins with the less-than sign at i,
// a number with its unit such as "<1 sec", or 0: it stands for a value that is
// written in another way when it is larger.
func atMost(line []byte, i int) int {
	const longestUnit = 5
	if i > 0 && !isSpace(line[i-1]) {
		return 0
	}
	j := i + 1
	for j < len(line) && (isDigit(line[j]) || line[j] == '.' && isDigit(line[j-1])) {
		j++
	}
	if j == i+1 || j+1 >= len(line) || line[j] != ' ' {
		return 0
	}
	a := j + 1
	for j = a; j < len(line) && lower(line[j]); j++ {
	}
	if j == a || j-a > longestUnit || j < len(line) && line[j] != ',' && line[j] != ')' && line[j] != ';' {
		return 0
	}
	return j
}

// comparison reports whether the equals sign at i is part of ==, !=, <=, >=,
// => or a rule of equals signs.
func comparison(line []byte, i int) bool {
	if i+1 < len(line) && (line[i+1] == '=' || line[i+1] == '>') {
		return true
	}
	return i > 0 && (line[i-1] == '=' || line[i-1] == '!' || line[i-1] == '<' || line[i-1] == '>')
}

// closing returns the quote that closes the backtick at i: another one or, as
// typewriters did it, an apostrophe.
func closing(line []byte, i int) byte {
	for _, c := range line[i+1:] {
		if c == '`' || c == '\'' {
			return c
		}
		if isSpace(c) {
			break
		}
	}
	return '`'
}

// quoted looks for a quoted name that begins with the quote at i. It returns
// the index of the closing quote and what the name is, or 0. Several words in
// quotes are a message rather than a name.
func quoted(line []byte, i int) (int, itemKind) {
	const longest = 48
	q := line[i]
	if q == '`' {
		q = closing(line, i)
	}
	if i > 0 && classes[line[i-1]]&clName != 0 {
		return 0, 0
	}
	escaped := i > 0 && line[i-1] == '\\'
	kind := kindSoft
	j := i + 1
	for ; j < len(line) && j-i <= longest && line[j] != q; j++ {
		cl := classes[line[j]]
		if cl == 0 {
			return 0, 0
		}
		if cl == clDigit || cl == clSlash && !(escaped && j+1 < len(line) && line[j+1] == q) {
			kind = kindMask
		}
	}
	if j >= len(line) || line[j] != q || j == i+1 {
		return 0, 0
	}
	if escaped && (line[j-1] != '\\' || j == i+2) {
		return 0, 0
	}
	if j+1 < len(line) && (line[j+1] == ':' || classes[line[j+1]]&(clLetter|clDigit) != 0) {
		return 0, 0
	}
	return j, kind
}

func allHex(b []byte) bool {
	for _, c := range b {
		if !isHex(c) {
			return false
		}
	}
	return true
}

// date returns the end of the date that begins with the three letters at a,
// such as "Jul 10 03:55:15" or "Fri Jul 01 08:16:53 PDT 2005", or 0. It knows
// no names of months: the form of the whole is enough.
func (s *scanner) date(a int) int {
	line := s.line
	i := a
	for names := 0; ; names++ {
		if i+4 > len(line) || names == 2 && !isDigit(line[i]) {
			return 0
		}
		if isDigit(line[i]) || line[i] == ' ' && isDigit(line[i+1]) {
			if names == 0 {
				return 0
			}
			break
		}
		if !upper(line[i]) || !lower(line[i+1]) || !lower(line[i+2]) || line[i+3] != ' ' {
			return 0
		}
		i += 4
	}
	if line[i] == ' ' {
		i++
	}
	d := i
	for i < len(line) && isDigit(line[i]) {
		i++
	}
	if i-d > 2 || i+9 > len(line) || line[i] != ' ' || line[i+3] != ':' || line[i+6] != ':' {
		return 0
	}
	for _, k := range [...]int{1, 2, 4, 5, 7, 8} {
		if !isDigit(line[i+k]) {
			return 0
		}
	}
	i += 9
	if i < len(line) && classes[line[i]]&clName != 0 {
		return 0
	}
	// a zone and a year
	e := i
	if e+4 < len(line) && line[e] == ' ' && upper(line[e+1]) && upper(line[e+2]) {
		e += 3
		for e < len(line) && upper(line[e]) {
			e++
		}
	}
	if e+5 <= len(line) && line[e] == ' ' && allDigits(line[e+1:e+5]) && (e+5 == len(line) || classes[line[e+5]]&clName == 0) {
		return e + 5
	}
	return i
}

func isDigit(c byte) bool { return classes[c] == clDigit }

func lower(c byte) bool { return c >= 'a' && c <= 'z' }
