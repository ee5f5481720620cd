package source

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
)

// TestScratchIsUsedAgain: buffers are shared one after the other and never at
// the same time, and those that nobody uses are collected. It owns the kept
// buffers, so it is not parallel.
func TestScratchIsUsedAgain(t *testing.T) {
	const size = 3<<20 - 100
	first, done := Scratch(size)
	if len(first) != 0 || cap(first) < size {
		t.Fatalf("a buffer of %d in %d bytes for %d", len(first), cap(first), size)
	}
	other, otherDone := Scratch(size)
	at := func(b []byte) *byte { return &b[:1][0] }
	if at(first) == at(other) {
		t.Error("two have the same buffer at once")
	}
	done()
	again, againDone := Scratch(2 << 20)
	larger, _ := Scratch(size + 1<<20)
	if at(again) != at(first) || cap(larger) <= size {
		t.Errorf("a kept buffer is not used again, or one that is too small is (%d bytes)", cap(larger))
	}
	for range 5 {
		_, done := Scratch(size)
		done()
	}
	againDone()
	otherDone()
	if n := len(scratch.kept); n != mostScratch {
		t.Errorf("%d are kept, want %d", n, mostScratch)
	}
	runtime.GC()
	Scratch(leastScratch)
	if n := len(scratch.kept); n != 0 {
		t.Errorf("%d are kept although nobody uses them", n)
	}
}

func TestReadBody(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("x", 1000)
	for _, c := range []struct {
		declared, most int64
		want           int
		err            error
	}{
		{1000, 1000, 1000, nil}, {-1, 1000, 1000, nil}, {0, 2000, 1000, nil},
		{-1, 999, 1000, nil}, // one more than allowed, for the caller to see
		{-1, 500, 501, nil}, {1001, 2000, 0, io.ErrUnexpectedEOF}, {1001, 1000, 0, ErrTooManyBytes},
	} {
		got, err := ReadBody(strings.NewReader(text), c.declared, c.most)
		if len(got) != c.want || !errors.Is(err, c.err) {
			t.Errorf("%d declared, %d allowed: %d bytes and %v, want %d and %v", c.declared, c.most, len(got), err, c.want, c.err)
		}
	}
	if _, err := ReadBody(bytes.NewReader(nil), 5, 10); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("nothing of five bytes: %v", err)
	}
	got, err := ReadInto(make([]byte, 0, 1000+bytes.MinRead), strings.NewReader(text))
	if err != nil || string(got) != text || cap(got) != 1000+bytes.MinRead {
		t.Errorf("%d bytes in %d, %v", len(got), cap(got), err)
	}
}
