package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"weak"
)

// A message that is unpacked into memory of its own is garbage a moment later,
// which may be as much as all that the program holds before it is collected.
// So buffers of that size are used again. Those that nobody uses are kept by weak
// pointers alone, so that the next collection of garbage takes them; and few
// are kept, since whoever unpacks is bounded by a budget.
const (
	leastScratch = 64 << 10 // from here on a buffer is worth keeping
	roundScratch = 1 << 20  // sizes are rounded up, so that one buffer serves messages of about the same size
	mostScratch  = 2        // kept that nobody uses
)

var scratch struct {
	mu   sync.Mutex
	kept []weak.Pointer[[]byte]
}

// Scratch returns an empty buffer for at least size bytes, and what to call when
// nothing refers to it any longer.
func Scratch(size int) (buffer []byte, done func()) {
	if size < leastScratch {
		return make([]byte, 0, size), func() {}
	}
	scratch.mu.Lock()
	defer scratch.mu.Unlock()
	var found *[]byte
	scratch.kept = slices.DeleteFunc(scratch.kept, func(w weak.Pointer[[]byte]) bool {
		kept := w.Value()
		if kept != nil && found == nil && cap(*kept) >= size {
			found = kept
		}
		return kept == nil || kept == found
	})
	if found == nil {
		fresh := make([]byte, 0, (size+roundScratch-1)/roundScratch*roundScratch)
		found = &fresh
	}
	return (*found)[:0], func() {
		scratch.mu.Lock()
		defer scratch.mu.Unlock()
		if scratch.kept = append(scratch.kept, weak.Make(found)); len(scratch.kept) > mostScratch {
			scratch.kept = scratch.kept[1:]
		}
	}
}

// ReadBody reads a body to its end: declared bytes, or when that is not above 0
// an unknown number, of which it reads up to most+1. The caller has bounded
// both. A body shorter than declared is io.ErrUnexpectedEOF.
func ReadBody(r io.Reader, declared, most int64) ([]byte, error) {
	if declared > most {
		return nil, fmt.Errorf("%w: %d of them", ErrTooManyBytes, declared)
	}
	if declared <= 0 {
		return io.ReadAll(io.LimitReader(r, most+1))
	}
	data := make([]byte, declared)
	if _, err := io.ReadFull(r, data); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return data, nil
}

// ReadInto reads r to its end into the buffer, which has room for bytes.MinRead
// more than r holds, or a larger one takes its place.
func ReadInto(buffer []byte, r io.Reader) ([]byte, error) {
	into := bytes.NewBuffer(buffer)
	_, err := into.ReadFrom(r)
	return into.Bytes(), err
}
