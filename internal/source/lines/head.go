package lines

import (
	"fmt"
	"path/filepath"
	"time"

	"aiops/internal/model"
)

// head holds the lines that are in no segment yet.
type head struct {
	number  uint64
	wal     *wal
	streams map[string]*stream
	lines   int64
	memory  int64
	since   time.Time
	unsynced,
	min, max int64
}

// stream is the lines of one label set in a head.
type stream struct {
	key     string
	labels  model.Labels
	entries []entry
}

func newHead(dir string, number uint64, now time.Time) (*head, error) {
	w, err := createWAL(filepath.Join(dir, fileName(number, walSuffix)))
	if err != nil {
		return nil, err
	}
	return &head{number: number, wal: w, streams: map[string]*stream{}, since: now}, nil
}

func fileName(number uint64, suffix string) string { return fmt.Sprintf("%08d%s", number, suffix) }

// add takes entries in; it needs the store's mu.
func (h *head) add(entries []entry) {
	var key []byte
	var last *stream
	for i := range entries {
		e := &entries[i]
		if last == nil || !sameLabels(last.labels, e.Stream) {
			key = e.Stream.AppendKey(key[:0])
			st, ok := h.streams[string(key)]
			if !ok {
				st = &stream{key: string(key), labels: e.Stream}
				h.streams[st.key] = st
				h.memory += int64(2*len(key)) + lineMemory
			}
			last = st
		}
		e.Stream = last.labels
		last.entries = append(last.entries, *e)
		if h.lines == 0 || e.T < h.min {
			h.min = e.T
		}
		if h.lines == 0 || e.T > h.max {
			h.max = e.T
		}
		h.lines++
		h.memory += int64(len(e.Text)) + lineMemory
	}
}

func (h *head) full() bool { return h.memory >= headMemory || len(h.streams) >= headStreams }
