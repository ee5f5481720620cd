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

const (
	maxBodyBytes = 1 << 20
	maxJSONDepth = 64
	// maxBodiesBytes bounds the bodies that all requests together hold while
	// they are read; decoded they may take some ten times as much.
	maxBodiesBytes = 16 << 20
)

// checkJSON reads exactly one JSON value and returns its text. It refuses
// values nested deeper than maxJSONDepth and objects that name a key twice,
// because decoders disagree about which of the two counts. It stops reading
// at the first fault. Its memory is bounded by the input and the depth.
func checkJSON(r io.Reader) ([]byte, error) {
	var text bytes.Buffer
	dec := json.NewDecoder(io.TeeReader(r, &text))
	dec.UseNumber()
	type level struct {
		keys  map[string]struct{} // nil in an array
		key   string
		index int
		value bool // in an object: the next token is a value
	}
	var stack []level
	pointer := func() string {
		var p []byte
		for _, l := range stack {
			p = append(p, '/')
			if l.keys == nil {
				p = strconv.AppendInt(p, int64(l.index), 10)
			} else {
				p = append(p, escapePointer(clip(l.key, 64))...)
			}
			if len(p) > maxPointer {
				break
			}
		}
		return string(p)
	}
	for {
		tok, err := dec.Token()
		if err != nil {
			return nil, unreadable(err, text.Len())
		}
		top := len(stack) - 1
		if delim, ok := tok.(json.Delim); ok && (delim == '}' || delim == ']') {
			stack = stack[:top]
			top--
		} else {
			if top >= 0 && stack[top].keys != nil && !stack[top].value {
				key := tok.(string) // the decoder refuses anything else here
				stack[top].key = key
				if strings.IndexByte(key, 0) >= 0 {
					return nil, badJSON(pointer(), "encoding", "a key holds the character U+0000")
				}
				if _, twice := stack[top].keys[key]; twice {
					return nil, badJSON(pointer(), "duplicate_key", fmt.Sprintf("the key %q is given twice", clip(key, 64)))
				}
				stack[top].keys[key] = struct{}{}
				stack[top].value = true
				continue
			}
			if text, ok := tok.(string); ok && strings.IndexByte(text, 0) >= 0 {
				return nil, badJSON(pointer(), "encoding", "a text holds the character U+0000")
			}
			if delim, ok := tok.(json.Delim); ok {
				if len(stack) == maxJSONDepth {
					return nil, badJSON(pointer(), "too_deep", fmt.Sprintf("values are nested deeper than %d levels", maxJSONDepth))
				}
				l := level{}
				if delim == '{' {
					l.keys = map[string]struct{}{}
				}
				stack = append(stack, l)
				continue
			}
		}
		if len(stack) == 0 {
			break
		}
		if stack[top].keys == nil {
			stack[top].index++
		}
		stack[top].value = false
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
