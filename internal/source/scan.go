package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf16"
	"unicode/utf8"
)

// Scanner reads JSON token by token from a stream, in constant memory. It
// accepts what RFC 8259 does, with bounded nesting and bounded texts. Slices it
// returns are valid until the next call. Errors of the reader are returned as they
// are, io.ErrUnexpectedEOF when the document ends too early, ErrSyntax when it is
// malformed.
type Scanner struct {
	r       io.Reader
	buf     []byte // unread bytes are buf[pos:end]
	pos     int
	end     int
	scratch []byte
	name    []byte
}

const (
	scanBuffer = 64 << 10
	maxDepth   = 64
	maxText    = 1 << 20 // bytes of one string or number
)

// ErrSyntax marks an answer that is not the JSON it should be.
var ErrSyntax = errors.New("malformed JSON")

// SyntaxError makes an error that is ErrSyntax.
func SyntaxError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrSyntax, fmt.Sprintf(format, args...))
}

// NewScanner returns a Scanner that reads r.
func NewScanner(r io.Reader) *Scanner {
	return &Scanner{r: r, buf: make([]byte, scanBuffer)}
}

// fill reads more into an empty buffer. At the end of the stream it returns
// io.EOF.
func (s *Scanner) fill() error {
	for empty := 0; empty < 100; empty++ {
		n, err := s.r.Read(s.buf)
		if n > 0 {
			s.pos, s.end = 0, n
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

func (s *Scanner) byte() (byte, error) {
	if s.pos == s.end {
		if err := s.fill(); err != nil {
			return 0, cutOff(err)
		}
	}
	c := s.buf[s.pos]
	s.pos++
	return c, nil
}

// cutOff makes the end of the stream an error: within a value it always is.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Peek returns the next byte that is not white space, without consuming it.
func (s *Scanner) Peek() (byte, error) {
	for {
		if s.pos == s.end {
			if err := s.fill(); err != nil {
				return 0, cutOff(err)
			}
		}
		switch c := s.buf[s.pos]; c {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return c, nil
		}
	}
}

func (s *Scanner) Expect(want byte) error {
	c, err := s.Peek()
	if err != nil {
		return err
	}
	if c != want {
		return SyntaxError("%q where %q should be", c, want)
	}
	s.pos++
	return nil
}

// More consumes what separates the members of an object or the elements of an
// array: it reports false at the closing byte, which it consumes. First says
// whether no member was read yet.
func (s *Scanner) More(closing byte, first bool) (bool, error) {
	c, err := s.Peek()
	if err != nil {
		return false, err
	}
	switch {
	case c == closing:
		s.pos++
		return false, nil
	case first:
		return true, nil
	case c != ',':
		return false, SyntaxError("%q where a comma or %q should be", c, closing)
	}
	s.pos++
	if c, err = s.Peek(); err == nil && c == closing {
		err = SyntaxError("a comma before %q", closing)
	}
	return err == nil, err
}

// Object calls member for each member of an object. Member must consume its value.
func (s *Scanner) Object(member func(name []byte) error) error {
	if err := s.Expect('{'); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := s.More('}', first)
		if err != nil || !more {
			return err
		}
		name, err := s.Text()
		if err != nil {
			return err
		}
		s.name = append(s.name[:0], name...) // looking for the colon may refill the buffer
		if err := s.Expect(':'); err != nil {
			return err
		}
		if err := member(s.name); err != nil {
			return err
		}
	}
}

// Array calls element before each element of an array. Element must consume it.
func (s *Scanner) Array(element func() error) error {
	if err := s.Expect('['); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := s.More(']', first)
		if err != nil || !more {
			return err
		}
		if err := element(); err != nil {
			return err
		}
	}
}

// Text reads a string. Bytes that are not UTF-8 become U+FFFD.
func (s *Scanner) Text() ([]byte, error) {
	if err := s.Expect('"'); err != nil {
		return nil, err
	}
	// Most strings lie within the buffer and hold nothing to unescape.
	for i := s.pos; i < s.end; i++ {
		c := s.buf[i]
		if c == '"' {
			t := s.buf[s.pos:i]
			s.pos = i + 1
			return t, nil
		}
		if c < ' ' || c == '\\' || c >= utf8.RuneSelf {
			break
		}
	}
	return s.slowText()
}

// TextUpTo reads a string of which at most limit bytes are wanted, and reports
// whether there were more; however long it is, it takes no more memory than
// that. Bytes that are not UTF-8 become U+FFFD.
func (s *Scanner) TextUpTo(limit int) (text []byte, cut bool, err error) {
	if err := s.Expect('"'); err != nil {
		return nil, false, err
	}
	out := s.scratch[:0]
	for {
		c, err := s.byte()
		if err != nil {
			return nil, false, err
		}
		switch {
		case c == '"':
			s.scratch = out
			if cut {
				out = wholeRunes(out[:limit])
			}
			if !utf8.Valid(out) {
				out = bytes.ToValidUTF8(out, []byte("\ufffd"))
			}
			return out, cut, nil
		case c < ' ':
			return nil, false, SyntaxError("a control character in a string")
		case c == '\\':
			if out, err = s.escape(out); err != nil {
				return nil, false, err
			}
		default:
			out = append(out, c)
		}
		if len(out) > limit {
			cut = true
			out = out[:limit+1] // what comes is read over
		}
	}
}

// wholeRunes leaves out a character that was cut in two.
func wholeRunes(b []byte) []byte {
	for n := len(b) - 1; n >= 0 && n >= len(b)-utf8.UTFMax; n-- {
		if utf8.RuneStart(b[n]) {
			if !utf8.FullRune(b[n:]) {
				return b[:n]
			}
			break
		}
	}
	return b
}

func (s *Scanner) slowText() ([]byte, error) {
	out := s.scratch[:0]
	wide := false
	for {
		c, err := s.byte()
		if err != nil {
			return nil, err
		}
		switch {
		case c == '"':
			s.scratch = out
			if wide && !utf8.Valid(out) {
				out = []byte(string([]rune(string(out))))
			}
			return out, nil
		case c < ' ':
			return nil, SyntaxError("a control character in a string")
		case c == '\\':
			if out, err = s.escape(out); err != nil {
				return nil, err
			}
		default:
			wide = wide || c >= utf8.RuneSelf
			out = append(out, c)
		}
		if len(out) > maxText {
			return nil, SyntaxError("a string of more than %d bytes", maxText)
		}
	}
}

var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape reads what follows a backslash.
func (s *Scanner) escape(out []byte) ([]byte, error) {
	c, err := s.byte()
	if err != nil {
		return nil, err
	}
	if plain := escapes[c]; plain != 0 {
		return append(out, plain), nil
	}
	if c != 'u' {
		return nil, SyntaxError("the escape \\%c", c)
	}
	r, err := s.hex4()
	if err != nil {
		return nil, err
	}
	for utf16.IsSurrogate(r) {
		// Only a high half followed at once by a low one is a character.
		low, ok, err := s.lowHalf()
		if err != nil {
			return nil, err
		}
		if !ok {
			return utf8.AppendRune(out, utf8.RuneError), nil
		}
		if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
			return utf8.AppendRune(out, pair), nil
		}
		out, r = utf8.AppendRune(out, utf8.RuneError), low
	}
	return utf8.AppendRune(out, r), nil
}

// lowHalf reads a further \u escape if one follows.
func (s *Scanner) lowHalf() (rune, bool, error) {
	c, err := s.byte()
	if err != nil {
		return 0, false, err
	}
	if c != '\\' {
		s.pos--
		return 0, false, nil
	}
	// The backslash may be the last byte of the buffer, so it cannot be put
	// back once the next byte is read: an escape of another kind is read here.
	c, err = s.byte()
	if err != nil {
		return 0, false, err
	}
	if c == 'u' {
		r, err := s.hex4()
		return r, err == nil, err
	}
	if plain := escapes[c]; plain != 0 {
		return rune(plain), true, nil
	}
	return 0, false, SyntaxError("the escape \\%c", c)
}

func (s *Scanner) hex4() (rune, error) {
	var r rune
	for range 4 {
		c, err := s.byte()
		if err != nil {
			return 0, err
		}
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, SyntaxError("%q in a \\u escape", c)
		}
		r = r<<4 | rune(c)
	}
	return r, nil
}

// Number reads a number, as text.
func (s *Scanner) Number() ([]byte, error) {
	if _, err := s.Peek(); err != nil {
		return nil, err
	}
	out := s.scratch[:0]
	for {
		if s.pos == s.end {
			// A number may be all of a document, so its end may be the end.
			if err := s.fill(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, err
			}
		}
		c := s.buf[s.pos]
		if (c < '0' || c > '9') && c != '.' && c != '-' && c != '+' && c != 'e' && c != 'E' {
			break
		}
		out = append(out, c)
		s.pos++
		if len(out) > maxText {
			return nil, SyntaxError("a number of more than %d digits", maxText)
		}
	}
	s.scratch = out
	if !validNumber(out) {
		return nil, SyntaxError("a value that is not a number")
	}
	return out, nil
}

// validNumber checks JSON's grammar of numbers.
func validNumber(b []byte) bool {
	digits := func() bool {
		n := 0
		for n < len(b) && b[n] >= '0' && b[n] <= '9' {
			n++
		}
		b = b[n:]
		return n > 0
	}
	if len(b) > 0 && b[0] == '-' {
		b = b[1:]
	}
	if len(b) > 1 && b[0] == '0' && b[1] >= '0' && b[1] <= '9' || !digits() {
		return false
	}
	if len(b) > 0 && b[0] == '.' {
		if b = b[1:]; !digits() {
			return false
		}
	}
	if len(b) > 0 && (b[0] == 'e' || b[0] == 'E') {
		if b = b[1:]; len(b) > 0 && (b[0] == '+' || b[0] == '-') {
			b = b[1:]
		}
		if !digits() {
			return false
		}
	}
	return len(b) == 0
}

// Skip reads over a value of any kind, without allocating.
func (s *Scanner) Skip() error {
	var closing [maxDepth]byte // of the objects and arrays that are open
	depth := 0
	for {
		c, err := s.Peek()
		if err != nil {
			return err
		}
		inside := false // an object or array has begun
		switch c {
		case '{', '[':
			if depth == maxDepth {
				return SyntaxError("more than %d values within each other", maxDepth)
			}
			s.pos++
			closing[depth] = c + 2 // in ASCII both closing brackets are two further
			depth++
			inside = true
		case '"':
			_, err = s.Text()
		case 't':
			err = s.word("true")
		case 'f':
			err = s.word("false")
		case 'n':
			err = s.word("null")
		default:
			_, err = s.Number()
		}
		if err != nil {
			return err
		}
		if depth, err = s.skipEnds(closing[:depth], inside); err != nil || depth == 0 {
			return err
		}
	}
}

// skipEnds leaves what ends here and goes on to the next value, past its name
// if it has one. It returns how many objects and arrays are still open.
func (s *Scanner) skipEnds(closing []byte, first bool) (depth int, err error) {
	for depth = len(closing); depth > 0; depth-- {
		more, err := s.More(closing[depth-1], first)
		if err != nil {
			return depth, err
		}
		first = false
		if !more {
			continue
		}
		if closing[depth-1] == '}' {
			if _, err := s.Text(); err != nil {
				return depth, err
			}
			err = s.Expect(':')
		}
		return depth, err
	}
	return 0, nil
}

func (s *Scanner) word(want string) error {
	if _, err := s.Peek(); err != nil {
		return err
	}
	for i := range len(want) {
		c, err := s.byte()
		if err != nil {
			return err
		}
		if c != want[i] {
			return SyntaxError("%q where %q should be", c, want)
		}
	}
	return nil
}

// Boolean reads true or false; null counts as false.
func (s *Scanner) Boolean() (bool, error) {
	c, err := s.Peek()
	if err != nil {
		return false, err
	}
	switch c {
	case 't':
		return true, s.word("true")
	case 'n':
		return false, s.word("null")
	default:
		return false, s.word("false")
	}
}

// IsNull consumes null and reports whether it was there.
func (s *Scanner) IsNull() (bool, error) {
	c, err := s.Peek()
	if err != nil || c != 'n' {
		return false, err
	}
	return true, s.word("null")
}

// Finish makes sure that nothing but white space is left.
func (s *Scanner) Finish() error {
	c, err := s.Peek()
	if err == nil {
		return SyntaxError("%q after the end", c)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
