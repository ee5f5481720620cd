package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxBodyBytes is the longest JSON body that is read.
const MaxBodyBytes = maxBodyBytes

const (
	maxBodyBytes   = 1 << 20
	smallBody      = 32 << 10 // up to here a body is read without a place
	maxLargeBodies = 4        // larger ones at the same time

	maxJSONDepth  = 64
	maxJSONKeys   = 1000    // of one object
	maxJSONValues = 100_000 // of the whole body; decoded, each takes some 100 bytes
)

// checkJSON reads exactly one JSON value and returns its text. It refuses
// values nested deeper than maxJSONDepth and objects that name a key twice,
// because decoders disagree about which of the two counts, texts that no
// database keeps, and more values than any operation needs. It stops reading at the first fault. Its memory is bounded
// by the input and the depth.
func checkJSON(r io.Reader) ([]byte, error) {
	var text bytes.Buffer
	dec := json.NewDecoder(io.TeeReader(r, &text))
	dec.UseNumber()
	var walk jsonWalk
	for count := 1; ; count++ {
		tok, err := dec.Token()
		if err != nil {
			return nil, unreadable(err, text.Len())
		}
		if count > maxJSONValues {
			return nil, badJSON(walk.pointer(), "too_many", fmt.Sprintf("it holds more than %d values", maxJSONValues))
		}
		if err := walk.take(tok); err != nil {
			return nil, err
		}
		if len(walk) == 0 {
			break
		}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		var syntax *json.SyntaxError
		if err == nil || errors.As(err, &syntax) {
			return nil, badJSON("", "trailing_data", "the body holds more than one JSON value")
		}
		return nil, unreadable(err, text.Len())
	}
	if !utf8.Valid(text.Bytes()) {
		return nil, badJSON("", "encoding", "the body is not valid UTF-8")
	}
	return text.Bytes(), nil
}

// jsonWalk is the objects and arrays around the place being read, the
// outermost first.
type jsonWalk []jsonLevel

type jsonLevel struct {
	keys  map[string]struct{} // nil in an array
	key   string
	index int
	value bool // in an object: a value comes next
}

// take goes on by one token.
func (w *jsonWalk) take(tok json.Token) error {
	delim, isDelim := tok.(json.Delim)
	text, isText := tok.(string)
	if isText && strings.IndexByte(text, 0) >= 0 {
		return badJSON(w.pointer(), "encoding", "a text holds the character U+0000")
	}
	if isDelim && (delim == '}' || delim == ']') {
		*w = (*w)[:len(*w)-1]
		w.done()
		return nil
	}
	if top := w.top(); top != nil && top.keys != nil && !top.value {
		top.key, top.value = text, true // the decoder lets nothing else stand here
		if _, twice := top.keys[text]; twice {
			return badJSON(w.pointer(), "duplicate_key", fmt.Sprintf("the key %q is given twice", clip(text, 64)))
		}
		top.keys[text] = struct{}{}
		if len(top.keys) > maxJSONKeys {
			return badJSON(w.pointer(), "too_many", fmt.Sprintf("an object has more than %d keys", maxJSONKeys))
		}
		return nil
	}
	if !isDelim {
		w.done()
		return nil
	}
	if len(*w) == maxJSONDepth {
		return badJSON(w.pointer(), "too_deep", fmt.Sprintf("values are nested deeper than %d levels", maxJSONDepth))
	}
	level := jsonLevel{}
	if delim == '{' {
		level.keys = map[string]struct{}{}
	}
	*w = append(*w, level)
	return nil
}

func (w *jsonWalk) top() *jsonLevel {
	if len(*w) == 0 {
		return nil
	}
	return &(*w)[len(*w)-1]
}

// done notes the end of a value.
func (w *jsonWalk) done() {
	if top := w.top(); top != nil {
		top.value = false
		top.index++
	}
}

// pointer is the place being read.
func (w *jsonWalk) pointer() string {
	var p []byte
	for _, l := range *w {
		p = append(p, '/')
		if l.keys == nil {
			p = strconv.AppendInt(p, int64(l.index), 10)
		} else {
			p = append(p, escapePointer(clip(l.key, 64))...)
		}
	}
	return clip(string(p), maxPointer)
}

// badJSON is a body that cannot be read: 400 rather than 422.
func badJSON(pointer, code, detail string) error {
	p := newProblem(CodeValidation, http.StatusBadRequest, "The body cannot be read: "+detail+".")
	p.Errors = []ProblemField{{Pointer: pointer, In: "body", Code: code, Detail: detail}}
	return p
}

// unreadable tells a broken body from a failing connection.
func unreadable(err error, read int) error {
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return badJSON("", "json", fmt.Sprintf("it is not JSON at byte %d", syntax.Offset))
	case errors.Is(err, io.EOF) && read == 0:
		return badJSON("", "required", "it is empty, and a JSON value is expected")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return badJSON("", "json", fmt.Sprintf("it ends after %d bytes in the middle of a value", read))
	}
	return err
}
