package lines

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"aiops/internal/model"
)

// Search returns lines that f selects, in its order, and the cursor of the
// page behind, "" when there is none. A page may hold fewer lines than asked
// for, even none, when finding more would take too long: 256 MiB of text are
// read for a page, and 16 MiB returned. Lines that are taken during a search
// may be missing from it. Four searches run at a time, further ones wait.
// Errors: KindQuery for a wrong filter or cursor, or ctx's own.
func (s *Store) Search(ctx context.Context, f model.LogFilter) ([]model.LogLine, string, error) {
	q, err := newQuery(f)
	if err != nil {
		return nil, "", err
	}
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	case <-ctx.Done():
		return nil, "", fmt.Errorf("waiting to search log lines: %w", ctx.Err())
	}
	return s.search(ctx, q)
}

// query is a filter that is ready to use. Times are inclusive.
type query struct {
	model.LogFilter
	selects   func(model.Labels) bool
	from, to  int64
	templates map[string]bool
	hashes    map[uint32]bool
	after     *position // the last line of the page before
}

// position is a place in the order of all lines.
type position struct {
	t   int64
	seq uint64
}

func newQuery(f model.LogFilter) (*query, error) {
	if err := f.Validate(); err != nil {
		return nil, err
	}
	selects, err := f.Selector.Compile()
	if err != nil {
		return nil, err
	}
	q := &query{LogFilter: f, selects: selects, from: f.From, to: math.MaxInt64}
	if f.To != 0 {
		q.to = f.To - 1
	}
	if q.Limit == 0 {
		q.Limit = model.DefaultLogLimit
	}
	if len(f.Templates) > 0 {
		q.templates, q.hashes = map[string]bool{}, map[uint32]bool{}
		for _, id := range f.Templates {
			q.templates[id], q.hashes[hashTemplate(id)] = true, true
		}
	}
	if f.Cursor == "" {
		return q, nil
	}
	at, err := parseCursor(f.Cursor, f.OldestFirst)
	if err != nil {
		return nil, err
	}
	q.after = &at
	if f.OldestFirst {
		q.from = max(q.from, at.t)
	} else {
		q.to = min(q.to, at.t)
	}
	return q, nil
}

func (q *query) cursor(at position) string {
	order := "n"
	if q.OldestFirst {
		order = "o"
	}
	return order + strconv.FormatInt(at.t, 36) + "." + strconv.FormatUint(at.seq, 36)
}

func parseCursor(s string, oldestFirst bool) (position, error) {
	wrong := &model.Error{Kind: model.KindQuery, Message: "the cursor is not one of this list in this order",
		Fields: []model.FieldError{{Pointer: "/cursor", Code: "cursor", Detail: "take it from next_cursor of the page before, with the same order"}}}
	rest, ok := strings.CutPrefix(s, map[bool]string{true: "o", false: "n"}[oldestFirst])
	t, seq, found := strings.Cut(rest, ".")
	if !ok || !found {
		return position{}, wrong
	}
	var at position
	var err1, err2 error
	at.t, err1 = strconv.ParseInt(t, 36, 64)
	at.seq, err2 = strconv.ParseUint(seq, 36, 64)
	if errors.Join(err1, err2) != nil {
		return position{}, wrong
	}
	return at, nil
}

// before reports whether a comes before b in the order of the answer.
func (q *query) before(a, b position) bool {
	if q.OldestFirst {
		return a.t < b.t || a.t == b.t && a.seq < b.seq
	}
	return a.t > b.t || a.t == b.t && a.seq > b.seq
}

func (q *query) matches(e *entry) bool {
	switch {
	case e.T < q.from || e.T > q.to:
	case q.Level != "" && e.Level != q.Level:
	case q.templates != nil && !q.templates[e.Template]:
	case q.after != nil && !q.before(*q.after, position{e.T, e.seq}):
	default:
		return q.Contains == "" || strings.Contains(e.Text, q.Contains)
	}
	return false
}

// wants reports whether a block can hold lines that match.
func (q *query) wants(b *blockInfo) bool {
	if b.max < q.from || b.min > q.to {
		return false
	}
	if q.Level != "" && b.levels&(1<<levelCode(q.Level)) == 0 {
		return false
	}
	if q.hashes == nil || b.templates == nil {
		return true
	}
	for _, h := range b.templates {
		if q.hashes[h] {
			return true
		}
	}
	return false
}

// first is the time at which lines between low and high come first.
func (q *query) first(low, high int64) int64 {
	if q.OldestFirst {
		return max(low, q.from)
	}
	return min(high, q.to)
}

// piece is a part of the store that a search looks into: the lines of one
// stream in a head, a whole segment, or one block of it.
type piece struct {
	first   int64
	entries []entry
	seg     *segment
	idx     *index
	block   *blockInfo
}

// pieces is a heap: the piece whose lines come first is on top.
type pieces struct {
	oldest bool
	list   []piece
}

// Len implements heap.Interface.
func (p *pieces) Len() int { return len(p.list) }

// Less implements heap.Interface.
func (p *pieces) Less(i, j int) bool {
	if p.oldest {
		return p.list[i].first < p.list[j].first
	}
	return p.list[i].first > p.list[j].first
}

// Swap implements heap.Interface.
func (p *pieces) Swap(i, j int) { p.list[i], p.list[j] = p.list[j], p.list[i] }

// Push implements heap.Interface.
func (p *pieces) Push(x any) { p.list = append(p.list, x.(piece)) }

// Pop implements heap.Interface.
func (p *pieces) Pop() any {
	n := len(p.list) - 1
	last := p.list[n]
	p.list[n] = piece{}
	p.list = p.list[:n]
	return last
}

func (s *Store) search(ctx context.Context, q *query) ([]model.LogLine, string, error) {
	todo, err := s.pieces(ctx, q)
	if err != nil {
		return nil, "", err
	}
	found := results{q: q}
	read, begin := int64(0), int64(0)
	for n := 0; todo.Len() > 0; n++ {
		if err := ctx.Err(); err != nil {
			return nil, "", fmt.Errorf("searching log lines: %w", err)
		}
		p := heap.Pop(todo).(piece)
		if n == 0 {
			begin = p.first
		}
		if found.beyond(p.first) {
			found.more = true
			break
		}
		if read >= s.scan && p.first != begin {
			found.stopAt(p.first)
			break
		}
		if p.seg != nil && p.block == nil {
			if err := s.expandSegment(ctx, q, p.seg, todo); err != nil {
				return nil, "", err
			}
			continue
		}
		entries := p.entries
		if p.block != nil {
			read += int64(p.block.raw)
			entries = s.blockEntries(q, p)
		}
		found.take(entries)
	}
	lines, next := found.finish()
	return lines, next, nil
}

// pieces lists where lines may be.
func (s *Store) pieces(ctx context.Context, q *query) (*pieces, error) {
	s.mu.RLock()
	var streams []*stream
	var entries [][]entry
	for _, h := range []*head{s.head, s.old} {
		if h == nil || h.lines == 0 || h.max < q.from || h.min > q.to {
			continue
		}
		for _, st := range h.streams {
			streams = append(streams, st)
			entries = append(entries, st.entries[:len(st.entries):len(st.entries)])
		}
	}
	todo := &pieces{oldest: q.OldestFirst}
	for _, seg := range s.segments {
		if seg.max >= q.from && seg.min <= q.to {
			todo.list = append(todo.list, piece{first: q.first(seg.min, seg.max), seg: seg})
		}
	}
	s.mu.RUnlock()
	for i, st := range streams {
		if i%256 == 0 && ctx.Err() != nil {
			return nil, fmt.Errorf("searching log lines: %w", ctx.Err())
		}
		if !q.selects(st.labels) {
			continue
		}
		low, high := entries[i][0].T, entries[i][0].T
		for j := range entries[i] {
			low, high = min(low, entries[i][j].T), max(high, entries[i][j].T)
		}
		if high >= q.from && low <= q.to {
			todo.list = append(todo.list, piece{first: q.first(low, high), entries: entries[i]})
		}
	}
	heap.Init(todo)
	return todo, nil
}

// expandSegment puts the blocks of a segment that may hold matching lines on
// the heap. A segment that was removed meanwhile has none.
func (s *Store) expandSegment(ctx context.Context, q *query, seg *segment, todo *pieces) error {
	idx, err := s.index(seg)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		s.skip(seg, err)
		return nil
	}
	selected := make([]bool, len(idx.streams))
	for i, ls := range idx.streams {
		if i%256 == 0 && ctx.Err() != nil {
			return fmt.Errorf("searching log lines: %w", ctx.Err())
		}
		selected[i] = q.selects(ls)
	}
	for i := range idx.blocks {
		if b := &idx.blocks[i]; selected[b.stream] && q.wants(b) {
			heap.Push(todo, piece{first: q.first(b.min, b.max), seg: seg, idx: idx, block: b})
		}
	}
	return nil
}

// blockEntries reads a block; one that cannot be read is left out and counted.
func (s *Store) blockEntries(q *query, p piece) []entry {
	f, err := os.Open(p.seg.path)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			s.skip(p.seg, err)
		}
		return nil
	}
	defer f.Close()
	text, err := s.codec.blockText(f, *p.block)
	if err != nil {
		s.skip(p.seg, err)
		return nil
	}
	if q.Contains != "" && !strings.Contains(text, q.Contains) {
		return nil
	}
	entries, err := decodeBlock(text, p.idx.streams[p.block.stream])
	if err != nil {
		s.skip(p.seg, err)
		return nil
	}
	return entries
}

func (s *Store) skip(seg *segment, err error) {
	s.log.Error("reading log lines; a part of them is left out", "segment", seg.number, "err", err)
	s.mu.Lock()
	s.damaged++
	s.mu.Unlock()
}

// results holds the best lines that were found so far, as a heap with the last
// in order on top.
type results struct {
	q     *query
	list  []entry
	bytes int
	more  bool      // lines that match were left out
	stop  *position // lines from here on were not looked for
}

// Len implements heap.Interface.
func (r *results) Len() int { return len(r.list) }

// Less implements heap.Interface.
func (r *results) Less(i, j int) bool { return r.q.before(r.at(j), r.at(i)) }

// Swap implements heap.Interface.
func (r *results) Swap(i, j int) { r.list[i], r.list[j] = r.list[j], r.list[i] }

// Push implements heap.Interface.
func (r *results) Push(x any) { r.list = append(r.list, x.(entry)) }

// Pop implements heap.Interface.
func (r *results) Pop() any {
	n := len(r.list) - 1
	last := r.list[n]
	r.list[n] = entry{}
	r.list = r.list[:n]
	return last
}

func (r *results) at(i int) position { return position{r.list[i].T, r.list[i].seq} }

func (r *results) full() bool {
	return len(r.list) >= r.q.Limit || r.bytes >= answerBytes
}

// beyond reports whether lines from the time first on cannot be among the best.
func (r *results) beyond(first int64) bool {
	if !r.full() {
		return false
	}
	if r.q.OldestFirst {
		return first > r.list[0].T
	}
	return first < r.list[0].T
}

// take looks at entries, which are in order of time within a block.
func (r *results) take(entries []entry) {
	for i := range entries {
		e := &entries[i]
		if !r.q.OldestFirst {
			e = &entries[len(entries)-1-i]
		}
		if !r.q.matches(e) {
			continue
		}
		if r.full() {
			r.more = true
			if !r.q.before(position{e.T, e.seq}, r.at(0)) {
				continue
			}
		}
		heap.Push(r, owned(e))
		r.bytes += cost(e)
		for len(r.list) > 1 && (len(r.list) > r.q.Limit || r.bytes-cost(&r.list[0]) >= answerBytes) {
			last := heap.Pop(r).(entry)
			r.bytes -= cost(&last)
			r.more = true
		}
	}
}

func cost(e *entry) int { return len(e.Text) + len(e.Message) + lineMemory }

// owned is e without a share in the memory of its block.
func owned(e *entry) entry {
	o := *e
	o.Text = strings.Clone(e.Text)
	if e.Message == e.Text {
		o.Message = o.Text
	} else {
		o.Message = strings.Clone(e.Message)
	}
	o.Logger, o.TraceID, o.Template = strings.Clone(e.Logger), strings.Clone(e.TraceID), strings.Clone(e.Template)
	return o
}

// stopAt ends the search before the time t: only what comes before it is
// known to be complete.
func (r *results) stopAt(t int64) {
	r.stop = &position{t, math.MaxUint64}
	if r.q.OldestFirst {
		r.stop = &position{t, 0}
	}
}

// finish returns the lines in order and the cursor of the next page.
func (r *results) finish() ([]model.LogLine, string) {
	sorted := make([]entry, len(r.list))
	for i := len(sorted) - 1; i >= 0; i-- {
		sorted[i] = heap.Pop(r).(entry)
	}
	lines := make([]model.LogLine, 0, len(sorted))
	var last position
	for _, e := range sorted {
		if r.stop != nil && (e.T == r.stop.t || !r.q.before(position{e.T, e.seq}, *r.stop)) {
			break
		}
		last = position{e.T, e.seq}
		lines = append(lines, e.LogLine)
	}
	switch {
	case r.more && len(lines) == len(sorted) && len(lines) > 0:
		return lines, r.q.cursor(last)
	case r.stop != nil:
		return lines, r.q.cursor(*r.stop)
	}
	return lines, ""
}
