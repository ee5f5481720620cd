package lines

import (
	"cmp"
	"hash/fnv"
	"slices"

	"aiops/internal/model"
)

// entry is a line with its number. Numbers grow with every line that was ever
// taken; time and number order all lines.
type entry struct {
	model.LogLine
	seq uint64
}

func compareEntries(a, b entry) int {
	return cmp.Or(cmp.Compare(a.T, b.T), cmp.Compare(a.seq, b.seq))
}

// mostBlock bounds what a block may decompress to: its text, twice for
// messages that are written out, and what stands around.
const mostBlock = 4 * (blockText + model.MaxLineBytes)

// blockInfo is what the index says of a block.
type blockInfo struct {
	stream    int   // in the segment's table
	min, max  int64 // times
	count     int
	offset    int64 // in the file
	size      int   // compressed
	raw       int   // decompressed
	sum       uint32
	levels    uint8    // a bit for each code of a level in it
	templates []uint32 // hashes of those in it; nil when there are too many to name
}

const mostNamedTemplates = 64

func hashTemplate(id string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return h.Sum32()
}

// encodeBlock writes entries of one stream, which are in order, and fills in
// what the index has to say of them.
func encodeBlock(entries []entry) ([]byte, blockInfo) {
	info := blockInfo{min: entries[0].T, max: entries[len(entries)-1].T, count: len(entries), templates: []uint32{}}
	var w writer
	w.uint(uint64(len(entries)))
	texts := newTable()
	var t int64
	var seq uint64
	for i := range entries {
		e := &entries[i]
		w.int(e.T - t)
		w.int(int64(e.seq - seq))
		t, seq = e.T, e.seq
		w.uint(texts.index(e.Template))
		w.uint(texts.index(e.Logger))
		w.text(e.TraceID)
		w.head(&e.LogLine)
		info.levels |= 1 << levelCode(e.Level)
		if info.templates != nil {
			if h := hashTemplate(e.Template); !slices.Contains(info.templates, h) {
				if info.templates = append(info.templates, h); len(info.templates) > mostNamedTemplates {
					info.templates = nil
				}
			}
		}
	}
	w.uint(uint64(len(texts.list)))
	for _, s := range texts.list {
		w.text(s)
	}
	for i := range entries {
		w = append(w, entries[i].Text...)
	}
	info.raw = len(w)
	return w, info
}

// table gives texts numbers.
type table struct {
	at   map[string]uint64
	list []string
}

func newTable() *table { return &table{at: map[string]uint64{}} }

func (t *table) index(s string) uint64 {
	n, ok := t.at[s]
	if !ok {
		n = uint64(len(t.list))
		t.at[s] = n
		t.list = append(t.list, s)
	}
	return n
}

// row is an entry before its text is known.
type row struct {
	t                int64
	seq              uint64
	template, logger uint64
	trace            string
	place            place
}

// leastRow is the size of the smallest row.
const leastRow = 7

// decodeBlock reads what encodeBlock wrote. The entries share the memory of s.
func decodeBlock(s string, stream model.Labels) ([]entry, error) {
	r := reader{s: s}
	rows := make([]row, r.count(leastRow))
	var t int64
	var seq uint64
	for i := range rows {
		t += r.int()
		seq += uint64(r.int())
		rows[i] = row{t: t, seq: seq, template: r.uint(), logger: r.uint(), trace: r.text(), place: r.head()}
		if r.failed {
			return nil, errDamaged
		}
	}
	texts := make([]string, r.count(1))
	for i := range texts {
		texts[i] = r.text()
	}
	entries := make([]entry, len(rows))
	for i, row := range rows {
		if row.template >= uint64(len(texts)) || row.logger >= uint64(len(texts)) {
			return nil, errDamaged
		}
		e := &entries[i]
		e.T, e.seq, e.Stream, e.TraceID = row.t, row.seq, stream, row.trace
		e.Template, e.Logger = texts[row.template], texts[row.logger]
		text := r.take(row.place.size)
		if r.failed {
			return nil, errDamaged
		}
		row.place.fill(&e.LogLine, text)
	}
	if r.s != "" {
		return nil, errDamaged
	}
	return entries, r.err()
}
