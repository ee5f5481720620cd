package logmine

// This file decides what a chunk is that is neither a plain word nor a plain
// number: paths, addresses, identifiers, names with symbols. Each function
// emits the items of its part of the line and adds the rest to the gaps.

// valueChunk handles the chunk [a,b) after an equals sign. It returns the
// index after it.
func (s *scanner) valueChunk(a, b int, flags uint8) int {
	s.value = false
	line := s.line
	next := byte(0)
	if b < len(line) {
		next = line[b]
	}
	if flags&clLetter == 0 || next == '=' || next == '(' || next == '{' || next == '[' {
		// a number, the next key, or the name of what the bracket holds
		return s.anyChunk(a, b, flags)
	}
	if e := s.pathEnd(a, b, flags); e > 0 {
		s.mask(a, e)
		return e
	}
	end := b
	for b > a && (line[b-1] == '.' || line[b-1] == ':') {
		b--
	}
	for a+1 < b && classes[line[a]] == clSymbol {
		s.gap(line[a])
		a++
	}
	if flags&(clDigit|clSlash) != 0 || innerDots(line[a:b]) >= 2 || b-a >= 8 && allHex(line[a:b]) {
		s.mask(a, b)
	} else {
		s.soft(a, b)
	}
	s.gaps(b, end)
	return end
}

// anyChunk handles a chunk whose context says nothing.
func (s *scanner) anyChunk(a, b int, flags uint8) int {
	switch {
	case flags&^(clLetter|clUnder) == 0:
		return s.word(a, b)
	case flags == clDigit:
		s.mask(a, b)
		return b
	}
	return s.chunk(a, b, flags)
}

func (s *scanner) gaps(a, b int) {
	for _, c := range s.line[a:b] {
		s.gap(c)
	}
}

// chunk handles a chunk that is neither letters nor digits only and returns
// the index after it, which is after b where the chunk began a URL.
func (s *scanner) chunk(a, b int, flags uint8) int {
	line := s.line
	if flags&clSlash != 0 {
		if e := s.pathEnd(a, b, flags); e > 0 {
			s.mask(a, e)
			return e
		}
	}
	if flags&(clLetter|clDigit) == 0 {
		if flags&clSlash != 0 && line[a] == '/' {
			s.mask(a, b)
		} else {
			s.gaps(a, b)
		}
		return b
	}
	end := b
	for b > a && (line[b-1] == '.' || line[b-1] == ':') {
		b--
	}
	switch {
	case flags&clSlash != 0:
		if b < end && line[b] == '.' && line[a] == '/' && end+1 < len(line) && isSpace(line[end]) && !upper(line[end+1]) {
			// a path that ends in a dot: no sentence begins after it
			b = end
		}
		switch {
		case flags&(clLetter|clUnder|clSymbol) == 0:
			s.fraction(a, b)
		case line[a] == '/' && flags&clColon == 0:
			s.mask(a, b)
		default:
			s.slashed(a, b)
		}
	case flags&clDigit == 0:
		s.names(a, b)
	default:
		s.coloned(a, b, flags)
	}
	s.gaps(b, end)
	return end
}

func upper(c byte) bool { return c >= 'A' && c <= 'Z' }

// pathEnd returns the end of the URL, query path or device path that the
// chunk begins, or 0 if it begins none.
func (s *scanner) pathEnd(a, b int, flags uint8) int {
	if flags&clSlash == 0 {
		return 0
	}
	line := s.line
	n := len(line)
	if flags&clColon != 0 {
		for i := a + 1; i+2 < b; i++ {
			if line[i] == ':' && line[i+1] == '/' && line[i+2] == '/' {
				for b < n && !isSpace(line[b]) && !endsURL(line[b]) {
					b++
				}
				return b
			}
		}
	}
	if b < n && line[b] == '?' {
		switch {
		case line[a] == '/':
			for b < n && !isSpace(line[b]) && line[b] != '"' && line[b] != '\'' {
				b++
			}
			return b
		case flags == clSlash && line[a] == '\\' && b+1 < n && line[b+1] == '\\':
			for b++; b < n && classes[line[b]] != 0; b++ {
			}
			return b
		}
	}
	return 0
}

func endsURL(c byte) bool {
	switch c {
	case '"', '\'', '<', '>', ')', ']', '}', ',', ';', '|':
		return true
	}
	return false
}

// names handles a chunk of letters and symbols: names joined by dots, colons
// and dashes.
func (s *scanner) names(a, b int) {
	line := s.line
	afterColon := false
	for a < b {
		j, dots := a, 0
		for j < b {
			if line[j] == ':' {
				if j+1 < b && line[j+1] == ':' {
					j += 2
					continue
				}
				break
			}
			if line[j] == '.' {
				if j+1 < b && line[j+1] == '.' {
					break
				}
				dots++
			}
			j++
		}
		j = min(j, b)
		if j > a {
			switch {
			case dots >= 2:
				s.mask(a, j)
			case afterColon:
				s.soft(a, j)
			default:
				s.word(a, j)
			}
		}
		afterColon = false
		if j < b {
			afterColon = line[j] == ':' && j > a
			c := line[j]
			for j < b && line[j] == c {
				s.gap(c)
				j++
			}
		}
		a = j
	}
}

// innerDots counts the dots of b, but not runs of them.
func innerDots(b []byte) int {
	n := 0
	for i, c := range b {
		if c == '.' && i+1 < len(b) && b[i+1] != '.' {
			n++
		}
	}
	return n
}

// slashed handles a chunk with slashes that is no URL.
func (s *scanner) slashed(a, b int) {
	line := s.line
	numeric, digits, slashes, dots := true, false, 0, 0
	for _, c := range line[a:b] {
		switch classes[c] {
		case clSlash:
			slashes++
		case clDigit:
			digits = true
		case clDot:
			dots++
		case clColon, clDash:
		default:
			if c != '@' {
				numeric = false
			}
		}
	}
	if numeric {
		s.fraction(a, b)
		return
	}
	lead := line[a] == '/' || line[a] == '\\' || line[a] == '~' || line[a] == '.'
	if !lead && slashes == 1 {
		switch last := line[b-1]; {
		case last == '\\': // it escapes what follows
			if digits {
				s.coloned(a, b-1, 0xff)
			} else {
				s.names(a, b-1)
			}
			s.gap('\\')
			return
		case last != '/' && !digits && dots == 0: // alternatives: and/or
			s.word(a, b)
			return
		}
		if j, ok := hostAddress(line[a:b]); ok {
			s.mask(a, a+j)
			s.gap(line[a+j])
			s.numbers(a+j+1, b)
			return
		}
	}
	if !lead { // name:/path
		j := a
		for classes[line[j]]&(clLetter|clUnder) != 0 {
			j++
		}
		if j > a+1 && line[j] == ':' && j+1 < b && line[j+1] == '/' {
			s.word(a, j)
			s.gap(':')
			s.slashed(j+1, b)
			return
		}
	}
	// a path, perhaps with a line number
	e := b
	for e > a && classes[line[e-1]] == clDigit {
		e--
	}
	if e < b && e > a+1 && line[e-1] == ':' {
		s.mask(a, e-1)
		s.gap(':')
		s.mask(e, b)
		return
	}
	s.mask(a, b)
}

// fraction handles numbers with slashes: a date, a part of a whole, or an
// address with a slash before it.
func (s *scanner) fraction(a, b int) {
	line := s.line
	if line[a] == '/' {
		j := a + 1
		for j < b && classes[line[j]]&(clDigit|clDot) != 0 {
			j++
		}
		s.mask(a, j)
		a = j
	}
	s.numbers(a, b)
}

// hostAddress reports whether b is host/1.2.3.4 with or without a port, and
// where its slash is.
func hostAddress(b []byte) (slash int, ok bool) {
	j := 0
	for classes[b[j]] != clSlash {
		j++
	}
	e, dots := j+1, 0
	for e < len(b) && classes[b[e]]&(clDigit|clDot) != 0 {
		if b[e] == '.' {
			dots++
		}
		e++
	}
	return j, e > j+1 && dots >= 3 && (e == len(b) || b[e] == ':')
}
