package logmine

// This file decides what a chunk with digits is: numbers with their signs,
// units and separators, addresses, identifiers, names with digits.

// numbers emits the numbers of a chunk of digits, dots and separators.
func (s *scanner) numbers(a, b int) {
	line := s.line
	for a < b {
		if !s.number(a, b) {
			s.gap(line[a])
			a++
			continue
		}
		j := a + 1
		for j < b && (classes[line[j]] == clDigit || line[j] == '.' && j+1 < b && line[j+1] != '.') {
			j++
		}
		s.mask(a, j)
		a = j
	}
}

// number reports whether a number begins at a, with or without a sign.
func (s *scanner) number(a, b int) bool {
	line := s.line
	if classes[line[a]] == clDigit {
		return true
	}
	return (line[a] == '-' || line[a] == '+') && a+1 < b && classes[line[a+1]] == clDigit &&
		(a == 0 || classes[line[a-1]]&clName == 0)
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func anyDigit(b []byte) bool {
	for _, c := range b {
		if classes[c] == clDigit {
			return true
		}
	}
	return false
}

// coloned handles a chunk with digits and without slashes: it splits at '@'
// and at colons, except in hardware addresses and identifiers. The flags are
// those of the chunk.
func (s *scanner) coloned(a, b int, flags uint8) {
	line := s.line
	if flags&clSymbol != 0 {
		parted := false
		for i := a + 1; i < b; i++ {
			if line[i] == '@' {
				s.segment(a, i)
				s.gap('@')
				a, parted = i+1, true
			}
		}
		if parted {
			s.segment(a, b)
			return
		}
	}
	if flags&clColon == 0 {
		s.field(a, b, b, flags, false)
		return
	}
	if b-a >= 11 && (flags == 0xff || flags&(clDot|clUnder|clDash) == 0) && hardwareAddress(line[a:b]) {
		s.mask(a, b)
		return
	}
	afterColon := false
	for a < b {
		j, f := a, uint8(0)
		for j < b && line[j] != ':' {
			f |= classes[line[j]]
			j++
		}
		if j > a {
			j = s.field(a, j, b, f, afterColon)
		}
		if j < b {
			s.gap(':')
			j++
		}
		afterColon = true
		a = j
	}
}

// field handles what stands between two colons, [a,j) of a chunk that ends at
// b, and returns where it ended: later than j if it went on over colons.
func (s *scanner) field(a, j, b int, flags uint8, afterColon bool) int {
	switch {
	case flags&^(clDigit|clDot) == 0:
		s.numbers(a, j)
	case flags&^clName == 0:
		s.part(a, j, afterColon)
	case !afterColon && flags&clLetter != 0 && sourceLine(s.line, a, j, b):
		s.mask(a, j)
	case flags&clLetter != 0 && isDigit(s.line[a]):
		e := j
		for classes[s.line[e-1]]&clName == 0 {
			e--
		}
		s.mask(a, e) // a version, or a number with its unit
		s.gaps(e, j)
	case flags&^(clName|clDash) == 0 && flags&(clLetter|clUnder) != 0 && s.line[j-1] != '-':
		j = s.dashed(a, j, b, afterColon)
	case release(s.line[a:j]):
		s.alnum(a, j)
	case s.compound(a, j):
		j = s.compoundEnd(j, b)
		s.mask(a, j)
	default:
		s.parts(a, j, afterColon)
	}
	return j
}

// sourceLine reports whether [a,j) is the name of a file with an extension and
// what follows up to b is a line of it: Main.java:120.
func sourceLine(line []byte, a, j, b int) bool {
	const longestExtension = 5
	if j+1 >= b || !allDigits(line[j+1:b]) {
		return false
	}
	dot := j - 1
	for dot > a && lower(line[dot]) {
		dot--
	}
	if dot == a || line[dot] != '.' || dot == j-1 || j-1-dot > longestExtension {
		return false
	}
	for _, c := range line[a:dot] {
		if classes[c]&(clName|clDash) == 0 {
			return false
		}
	}
	return true
}

// dashed is field for names, not numbers, with dashes and no other symbol.
func (s *scanner) dashed(a, j, b int, afterColon bool) int {
	line := s.line
	if j-a == 36 && uuid(line[a:j]) {
		s.mask(a, j)
		return j
	}
	dashes, mixed, groups := 0, 0, 0
	letter, digit, under, letters := false, false, false, false
	for i := a; i < j; i++ {
		switch classes[line[i]] {
		case clLetter:
			letter, letters = true, true
		case clDigit:
			if digit = true; i == a || !isDigit(line[i-1]) {
				groups++
			}
			if manyDigits(line, i, j) {
				i = digitsEnd(line, i, j) - 1
			}
		case clUnder:
			under = true
		default:
			dashes++
			if letter && digit {
				mixed++
			}
			letter, digit = false, false
		}
	}
	if letter && digit {
		mixed++
	}
	switch {
	case letters && dashes >= 2, mixed >= 2, letters && mixed > 0 && under:
		j = s.compoundEnd(j, b)
		s.mask(a, j)
	case groups == 0 && afterColon:
		s.soft(a, j)
	case groups == 0:
		s.word(a, j)
	case under && groups >= 2:
		s.mask(a, j)
	default:
		s.alnum(a, j)
	}
	return j
}

// release reports whether b is a name and a version: server-6.1.26.
func release(b []byte) bool {
	i := 0
	for i < len(b) && classes[b[i]]&(clLetter|clUnder) != 0 {
		i++
	}
	if i == 0 || i+1 >= len(b) || b[i] != '-' || !isDigit(b[i+1]) {
		return false
	}
	for _, c := range b[i+1:] {
		if classes[c]&(clDigit|clDot) == 0 {
			return false
		}
	}
	return true
}

// uuid reports whether b, of 36 bytes, has the dashes of a UUID and no
// letters past f before the first.
func uuid(b []byte) bool {
	return b[8] == '-' && b[13] == '-' && b[18] == '-' && b[23] == '-' && allHex(b[:8]) && allHex(b[24:])
}

// segment handles what stands on one side of an '@'.
func (s *scanner) segment(a, b int) {
	switch {
	case a >= b:
	case anyDigit(s.line[a:b]):
		s.coloned(a, b, 0xff)
	default:
		s.names(a, b)
	}
}

// hardwareAddress reports whether b is a run of hexadecimal groups with
// colons, as in MAC and IPv6 addresses, or six groups of two.
func hardwareAddress(b []byte) bool {
	const colonsOfSix, lengthOfSix = 5, 17
	colons, hex, pairs := 0, true, len(b) == lengthOfSix
	for i, c := range b {
		if c == ':' {
			colons++
			pairs = pairs && i%3 == 2
			continue
		}
		hex = hex && isHex(c)
		pairs = pairs && classes[c]&(clLetter|clDigit) != 0
	}
	return colons >= colonsOfSix && (hex || pairs && colons == colonsOfSix)
}

// compoundEnd extends an identifier that ends at j over further segments that
// are identifiers with letters, not ports.
func (s *scanner) compoundEnd(j, b int) int {
	line := s.line
	for j+1 < b && line[j] == ':' {
		k, letters := j+1, false
		for k < b && line[k] != ':' {
			letters = letters || classes[line[k]] == clLetter
			k++
		}
		if !letters || !s.compound(j+1, k) {
			break
		}
		j = k
	}
	return j
}

// compound reports whether a segment with digits is one identifier made of
// parts: a UUID, a host name, a version with a suffix, R10-M2-N3.
func (s *scanner) compound(a, b int) bool {
	line := s.line
	dots, dashes, mixed := 0, 0, 0
	letters, digits, hex, under := false, false, true, false
	letter, digit := false, false // in this part
	for i := a; i < b; i++ {
		c := line[i]
		cl := classes[c]
		switch cl {
		case clLetter:
			letters, letter = true, true
			hex = hex && isHex(c)
			continue
		case clDigit:
			digits, digit = true, true
			continue
		case clDot:
			if i+1 < b && line[i+1] == '.' {
				return false
			}
			dots++
			hex = false
			continue
		case clUnder:
			under, hex = true, false
			continue
		case clDash:
			dashes++
		default:
			hex = false
		}
		if letter && digit {
			mixed++
		}
		letter, digit = false, false
	}
	if letter && digit {
		mixed++
	}
	if hex && dashes >= 4 && b-a >= 32 || letters && dots >= 2 || mixed >= 2 || letters && dashes >= 2 {
		return true
	}
	joints := 0
	if dots > 0 {
		joints++
	}
	if dashes > 0 {
		joints++
	}
	if under {
		joints++
	}
	return letters && digits && mixed > 0 && joints >= 2
}

// parts splits a segment with digits at symbols, and at dashes where it is
// made of numbers.
func (s *scanner) parts(a, b int, afterColon bool) {
	line := s.line
	for a < b {
		if classes[line[a]]&clName == 0 && !s.number(a, b) {
			s.gap(line[a])
			a++
			continue
		}
		j, letters := a+1, classes[line[a]]&(clLetter|clUnder) != 0
		for ; j < b; j++ {
			c := line[j]
			if classes[c]&clName != 0 {
				letters = letters || classes[c] != clDigit
				continue
			}
			inner := (c == '.' || c == '-' && letters) && j+1 < b && classes[line[j+1]]&clName != 0 ||
				c == '-' && line[j-1] == '_' && j+1 < b
			if !inner {
				break
			}
		}
		s.part(a, j, afterColon)
		a = j
	}
}

// part handles a name with or without digits, with at most inner dots and
// dashes.
func (s *scanner) part(a, b int, afterColon bool) {
	line := s.line
	if c := line[a]; classes[c] == clDigit || c == '-' || c == '+' {
		s.mask(a, b) // a number, with its unit if it has one
		return
	}
	const longHex, hexWord = 6, 8
	letters, digits, groups, hex, under, dash, version := 0, 0, 0, true, false, false, false
	for i := a; i < b; i++ {
		switch classes[line[i]] {
		case clLetter:
			letters++
			hex = hex && isHex(line[i])
		case clDigit:
			digits++
			if i == a || classes[line[i-1]] != clDigit {
				groups++
			}
			if manyDigits(line, i, b) {
				e := digitsEnd(line, i, b)
				digits += e - i - 1
				i = e - 1
			}
		case clDot:
			version = version || digits > 0 && allDigits(line[i+1:b])
			hex = false
		case clUnder:
			under, hex = true, false
		default:
			dash, hex = true, false
		}
	}
	switch {
	case digits == 0 && hex && letters >= hexWord:
		s.mask(a, b)
	case digits == 0 && afterColon:
		s.soft(a, b)
	case digits == 0:
		s.word(a, b)
	case hex && b-a >= longHex, afterColon && !dash, under && groups >= 2, version:
		s.mask(a, b)
	default:
		s.alnum(a, b)
	}
}

func allDigits(b []byte) bool {
	for _, c := range b {
		if classes[c] != clDigit {
			return false
		}
	}
	return len(b) > 0
}
