package store

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"aiops/internal/model"
)

// Pages go by key, not by number: the cursor says after which row the next
// page begins, so that rows which come or go meanwhile neither repeat nor hide
// others. A cursor is opaque, has a version, belongs to one list with one
// filter and order, and is signed: one that was altered is refused.

const (
	defaultLimit  = 50
	maxLimit      = 1000
	cursorVersion = 1
)

// sortKey is a column that a list can be sorted by; the id breaks ties.
type sortKey struct {
	column string
	text   bool
	float  bool
}

// page builds one query of a list.
type page struct {
	s     *Store
	key   sortKey
	desc  bool
	limit int
	print [8]byte // of the list, the filter and the order
	conds []string
	args  []any
	after []any // key and id of the last row of the page before, nil on the first
}

// newPage reads sort, limit and cursor. filter is everything else that the
// caller selects by.
func (s *Store) newPage(list string, sorts map[string]sortKey, def, sort, cursor string, limit int, filter ...string) (*page, error) {
	if sort == "" {
		sort = def
	}
	name, desc := strings.CutPrefix(sort, "-")
	key, ok := sorts[name]
	var bad model.Invalid
	if !ok {
		names := make([]string, 0, len(sorts))
		for n := range sorts {
			names = append(names, n)
		}
		slices.Sort(names)
		bad.Add("/sort", "unknown_sort", "cannot sort by %q; use %s, with a leading - for descending order", name, strings.Join(names, ", "))
	}
	if limit < 0 || limit > maxLimit {
		bad.Add("/limit", "out_of_range", "limit is %d; it lies between 1 and %d", limit, maxLimit)
	}
	if err := bad.Err(""); err != nil {
		return nil, err
	}
	if limit == 0 {
		limit = defaultLimit
	}
	h := sha256.New()
	for _, f := range append([]string{list, sort}, filter...) {
		fmt.Fprintf(h, "%d:%s", len(f), f)
	}
	p := &page{s: s, key: key, desc: desc, limit: limit}
	copy(p.print[:], h.Sum(nil))
	if cursor != "" {
		if err := p.parse(cursor); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// arg adds an argument and returns its place holder.
func (p *page) arg(v any) string {
	p.args = append(p.args, v)
	return "$" + strconv.Itoa(len(p.args))
}

func (p *page) where(cond string) { p.conds = append(p.conds, cond) }

// query completes "SELECT … FROM …". It asks for one row more than the limit,
// which tells whether there is a next page.
func (p *page) query(selectFrom string) string {
	var b strings.Builder
	b.WriteString(selectFrom)
	op, dir := ">", ""
	if p.desc {
		op, dir = "<", " DESC"
	}
	conds := p.conds
	if p.after != nil {
		conds = append(slices.Clip(conds), fmt.Sprintf("(%s, id) %s (%s, %s)", p.key.column, op, p.arg(p.after[0]), p.arg(p.after[1])))
	}
	for i, c := range conds {
		if i == 0 {
			b.WriteString(" WHERE ")
		} else {
			b.WriteString(" AND ")
		}
		b.WriteString(c)
	}
	fmt.Fprintf(&b, " ORDER BY %s%s, id%s LIMIT %d", p.key.column, dir, dir, p.limit+1)
	return b.String()
}

// next returns the cursor after a row with the given sort key and id.
func (p *page) next(key any, id string) string {
	b := []byte{cursorVersion}
	b = append(b, p.print[:]...)
	switch k := key.(type) {
	case int64:
		b = binary.BigEndian.AppendUint64(b, uint64(k))
	case float64:
		b = binary.BigEndian.AppendUint64(b, math.Float64bits(k))
	case string:
		b = binary.AppendUvarint(b, uint64(len(k)))
		b = append(b, k...)
	default:
		panic(fmt.Sprintf("BUG: a cursor of %T", key))
	}
	b = append(b, id...)
	return base64.RawURLEncoding.EncodeToString(append(b, p.s.keys.mac(b)...))
}

func badCursor(format string, args ...any) error {
	var v model.Invalid
	v.Add("/cursor", "invalid_cursor", format, args...)
	return v.Err("")
}

func (p *page) parse(cursor string) error {
	const altered = "the cursor is damaged or was altered; start again without a cursor"
	b, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(b) < 1+len(p.print)+8 {
		return badCursor(altered)
	}
	body, mac := b[:len(b)-8], b[len(b)-8:]
	if !hmac.Equal(mac, p.s.keys.mac(body)) {
		return badCursor(altered)
	}
	if body[0] != cursorVersion {
		return badCursor("the cursor comes from another version of the program; start again without a cursor")
	}
	if !bytes.Equal(body[1:1+len(p.print)], p.print[:]) {
		return badCursor("the cursor belongs to another list, filter or order; start again without a cursor")
	}
	rest := body[1+len(p.print):]
	var key any
	switch {
	case p.key.text:
		n, size := binary.Uvarint(rest)
		if size <= 0 || n > uint64(len(rest)-size) {
			return badCursor(altered)
		}
		key, rest = string(rest[size:size+int(n)]), rest[size+int(n):]
	case len(rest) < 8:
		return badCursor(altered)
	case p.key.float:
		key, rest = math.Float64frombits(binary.BigEndian.Uint64(rest)), rest[8:]
	default:
		key, rest = int64(binary.BigEndian.Uint64(rest)), rest[8:]
	}
	p.after = []any{key, string(rest)}
	return nil
}
