package lines

import (
	"aiops/internal/model"
)

// encodeRecord writes lines as they were given to Append, numbered from first.
func encodeRecord(lines []model.LogLine, first uint64) []byte {
	size := 64
	for i := range lines {
		size += len(lines[i].Text) + 64
	}
	w := make(writer, 0, size)
	w.uint(first)
	at := map[string]uint64{}
	var streams []model.Labels
	var key []byte
	which := make([]uint64, len(lines))
	for i := range lines {
		if i > 0 && sameLabels(lines[i].Stream, lines[i-1].Stream) {
			which[i] = which[i-1]
			continue
		}
		key = lines[i].Stream.AppendKey(key[:0])
		n, ok := at[string(key)]
		if !ok {
			n = uint64(len(streams))
			at[string(key)] = n
			streams = append(streams, lines[i].Stream)
		}
		which[i] = n
	}
	w.uint(uint64(len(streams)))
	for _, ls := range streams {
		w.labels(ls)
	}
	w.uint(uint64(len(lines)))
	var t int64
	for i := range lines {
		l := &lines[i]
		w.uint(which[i])
		w.int(l.T - t)
		t = l.T
		w.text(l.Template)
		w.text(l.Logger)
		w.text(l.TraceID)
		w.head(l)
		w = append(w, l.Text...)
	}
	return w
}

// sameLabels reports whether two label sets are one and the same slice, which
// lines of one stream usually share.
func sameLabels(a, b model.Labels) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

const leastLine = 7

// decodeRecord reads what encodeRecord wrote. The entries share the memory of s.
func decodeRecord(s string) ([]entry, error) {
	r := reader{s: s}
	seq := r.uint()
	streams := make([]model.Labels, r.count(1))
	for i := range streams {
		streams[i] = r.labels()
		if r.failed {
			return nil, errDamaged
		}
	}
	entries := make([]entry, r.count(leastLine))
	var t int64
	for i := range entries {
		e := &entries[i]
		stream := r.uint()
		if stream >= uint64(len(streams)) {
			return nil, errDamaged
		}
		t += r.int()
		e.T, e.seq, e.Stream = t, seq+uint64(i), streams[stream]
		e.Template, e.Logger, e.TraceID = r.text(), r.text(), r.text()
		p := r.head()
		text := r.take(p.size)
		if r.failed {
			return nil, errDamaged
		}
		p.fill(&e.LogLine, text)
	}
	if r.s != "" {
		return nil, errDamaged
	}
	return entries, r.err()
}
