package store

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Times are kept as milliseconds since the Unix epoch, 0 for the zero time:
// the same on both engines, exact, and good for keyset pages.

func toMillis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// real is a float64 column that keeps NaN (as NULL) and infinities. Numbers
// are always bound as arguments, never written into the statement: a decimal
// literal may come back different in its last bit.
type real float64

func (r real) arg() any {
	if math.IsNaN(float64(r)) {
		return nil
	}
	return float64(r)
}

// same reports whether r and o are the same number, NaN being itself.
func (r real) same(o real) bool {
	return r == o || math.IsNaN(float64(r)) && math.IsNaN(float64(o))
}

// Scan implements sql.Scanner.
func (r *real) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*r = real(math.NaN())
	case float64:
		*r = real(v)
	case int64:
		*r = real(v)
	default:
		return fmt.Errorf("reading a number: unexpected %T", src)
	}
	return nil
}

// cleanText makes s storable as text on both engines: valid UTF-8 without
// NUL, which PostgreSQL refuses.
func cleanText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
