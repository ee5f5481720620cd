package lines

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
)

// The files of a store: 00000007.log is a write-ahead log, 00000007.seg the
// segment made of it, 00000007.seg.damaged one that could not be read.
const (
	walSuffix     = ".log"
	segmentSuffix = ".seg"
	damagedSuffix = ".damaged"
	tempSuffix    = ".tmp"
)

// most of what is kept of the small texts of a line.
const (
	maxTemplate = 128
	maxLogger   = 256
	maxTrace    = 128
)

// Store keeps lines. It is safe for concurrent use.
type Store struct {
	cfg     Config
	log     *slog.Logger
	codec   codec
	now     func() time.Time
	metrics *metrics
	places  chan struct{} // a token for each search that runs
	scan    int64         // bytes of text that one search reads

	flushing sync.Mutex // one head at a time becomes a segment

	mu       sync.RWMutex
	head     *head
	old      *head // is becoming a segment
	segments []*segment
	seq      uint64 // of the next line
	number   uint64 // of the next file
	cache    indexCache
	closed   bool
	appended int64
	expired  int64
	damaged  int64
}

// Open opens the store in cfg.Dir, which it makes when it is missing. What a
// stopped process left in write-ahead logs becomes a segment; a torn end of one
// is cut off, and a segment that cannot be read is moved aside. Call Close.
func Open(cfg Config, logger *slog.Logger, reg prometheus.Registerer) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if cfg.Dir == "" {
		return nil, model.Errorf(model.KindInvalid, model.SubjectSource, "the store of lines needs a directory")
	}
	if err := os.MkdirAll(cfg.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("making the directory of log lines: %w", err)
	}
	s := &Store{cfg: cfg, log: logger.With("component", "source/lines"), now: time.Now, seq: 1, number: 1, places: make(chan struct{}, searches), scan: scanBudget}
	var err error
	if s.codec, err = newCodec(); err != nil {
		return nil, fmt.Errorf("opening the store of lines: %w", err)
	}
	if err := s.load(); err != nil {
		s.codec.close()
		return nil, fmt.Errorf("opening the store of lines: %w", err)
	}
	if s.metrics, err = newMetrics(s, reg); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// load finds what is in the directory.
func (s *Store) load() error {
	files, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return err
	}
	var logs []uint64
	segments := map[uint64]bool{}
	for _, f := range files {
		name := f.Name()
		if strings.HasSuffix(name, tempSuffix) {
			if err := os.Remove(filepath.Join(s.cfg.Dir, name)); err != nil {
				return err
			}
			continue
		}
		stem, _, _ := strings.Cut(name, ".")
		number, err := strconv.ParseUint(stem, 10, 64)
		if err != nil {
			continue
		}
		s.number = max(s.number, number+1)
		switch filepath.Ext(name) {
		case walSuffix:
			logs = append(logs, number)
		case segmentSuffix:
			if s.loadSegment(name, number) {
				segments[number] = true
			}
		}
	}
	slices.Sort(logs)
	for _, number := range logs {
		if err := s.recover(number, segments[number]); err != nil {
			return err
		}
	}
	s.head, err = newHead(s.cfg.Dir, s.number, s.now())
	s.number++
	return err
}

// loadSegment reports whether the segment is usable.
func (s *Store) loadSegment(name string, number uint64) bool {
	path := filepath.Join(s.cfg.Dir, name)
	seg, err := s.codec.openSegment(path, number)
	if err != nil {
		s.damaged++
		s.log.Error("a segment of log lines is damaged and was moved aside; its lines are missing", "file", name, "err", err)
		if err := os.Rename(path, path+damagedSuffix); err != nil {
			s.log.Error("moving a damaged segment aside", "file", name, "err", err)
		}
		return false
	}
	s.segments = append(s.segments, seg)
	s.seq = max(s.seq, seg.lastSeq+1)
	return true
}

// recover makes a segment of a write-ahead log that a stopped process left.
// Done says that the segment exists already.
func (s *Store) recover(number uint64, done bool) error {
	path := filepath.Join(s.cfg.Dir, fileName(number, walSuffix))
	if !done {
		h := &head{number: number, streams: map[string]*stream{}}
		left, err := replayWAL(path, func(entries []entry) {
			h.add(entries)
			s.seq = max(s.seq, entries[len(entries)-1].seq+1)
		})
		if err != nil {
			return err
		}
		if left > 0 {
			s.log.Warn("the end of the log of lines was torn and is cut off", "bytes", left)
		}
		if h.lines > 0 {
			if err := s.write(h); err != nil {
				return err
			}
		}
	}
	return os.Remove(path)
}

// write makes a segment of a head.
func (s *Store) write(h *head) error {
	streams := make([]*stream, 0, len(h.streams))
	for _, st := range h.streams {
		streams = append(streams, &stream{key: st.key, labels: st.labels, entries: slices.Clone(st.entries)})
	}
	path := filepath.Join(s.cfg.Dir, fileName(h.number, segmentSuffix))
	seg, err := s.codec.writeSegment(s.cfg.Dir, path, h.number, streams, s.now())
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments = append(s.segments, seg)
	if s.old == h {
		s.old = nil
	}
	return nil
}

// Append takes lines, all or none of them; when it returns nil they survive
// the end of this process. It blocks while an earlier head is being written
// and the present one is full. Stream labels, texts and times are kept as they
// are; Template, Logger and TraceID are cut to 128, 256 and 128 bytes, Text and
// Message to model.MaxLineBytes. The caller may change the slice afterwards.
// Errors: KindStorageFull, KindTooLarge (over 100 MiB at once), KindUnavailable
// after Close.
func (s *Store) Append(ctx context.Context, lines []model.LogLine) error {
	if len(lines) == 0 {
		return ctx.Err()
	}
	if s.cfg.Room != nil {
		if err := s.cfg.Room(); err != nil {
			return err
		}
	}
	bounded := slices.Clone(lines)
	for i := range bounded {
		bound(&bounded[i])
	}
	if err := s.makeRoom(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return model.Errorf(model.KindUnavailable, model.SubjectSource, "the store of lines is closed")
	}
	payload := encodeRecord(bounded, s.seq)
	if len(payload) > mostRecord*3/4 {
		return model.Errorf(model.KindTooLarge, model.SubjectSource, "%d MiB of lines are given at once; send smaller batches", len(payload)>>20)
	}
	entries, err := decodeRecord(string(payload))
	if err != nil {
		panic("BUG: lines do not read back as they were written")
	}
	if err := s.head.wal.append(payload); err != nil {
		return writeError(err)
	}
	s.seq += uint64(len(entries))
	s.head.add(entries)
	s.head.unsynced += int64(len(entries))
	s.appended += int64(len(entries))
	return nil
}

func bound(l *model.LogLine) {
	if len(l.Text) > model.MaxLineBytes {
		l.Text, l.Cut = l.Text[:model.MaxLineBytes], true
	}
	l.Message = l.Message[:min(len(l.Message), model.MaxLineBytes)]
	l.Template = l.Template[:min(len(l.Template), maxTemplate)]
	l.Logger = l.Logger[:min(len(l.Logger), maxLogger)]
	l.TraceID = l.TraceID[:min(len(l.TraceID), maxTrace)]
}

// writeError tells why lines could not be written.
func writeError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return model.WrapError(model.KindStorageFull, model.SubjectSource, err, "log lines cannot be written, because the disk is full; free some space")
	}
	return model.WrapError(model.KindDatabase, model.SubjectSource, err, "log lines cannot be written; see the log")
}

// makeRoom writes a full head out.
func (s *Store) makeRoom(ctx context.Context) error {
	s.mu.RLock()
	full := s.head.full()
	s.mu.RUnlock()
	if !full {
		return ctx.Err()
	}
	if err := s.flush((*head).full); err != nil {
		return writeError(err)
	}
	return ctx.Err()
}

// flush makes a segment of the head, if due says so once it is this call's
// turn. Lines go into a new head meanwhile.
func (s *Store) flush(due func(*head) bool) error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	s.mu.Lock()
	h := s.old // an attempt that failed
	if h == nil {
		if s.head.lines == 0 || !due(s.head) {
			s.mu.Unlock()
			return nil
		}
		next, err := newHead(s.cfg.Dir, s.number, s.now())
		if err != nil {
			s.mu.Unlock()
			return err
		}
		s.number++
		h, s.head, s.old = s.head, next, s.head
	}
	s.mu.Unlock()
	if err := s.write(h); err != nil {
		return err
	}
	if err := h.wal.close(true); err != nil {
		s.log.Warn("removing the log of lines that are in a segment", "err", err)
	}
	s.expire()
	return nil
}

// expire removes segments that are too old or beyond the bound on bytes, the
// oldest first.
func (s *Store) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	limit := s.now().Add(-s.cfg.Retention.Std())
	bytes := s.bytes()
	kept := s.segments[:0]
	for _, seg := range s.segments {
		age := time.Unix(0, seg.max)
		if seg.created.Before(age) {
			age = seg.created // a clock that runs ahead does not keep lines forever
		}
		if bytes <= s.cfg.MaxBytes && !age.Before(limit) {
			kept = append(kept, seg)
			continue
		}
		if err := os.Remove(seg.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.log.Error("removing old log lines", "err", err)
			kept = append(kept, seg)
			continue
		}
		bytes -= seg.size
		s.expired += seg.lines
		s.cache.drop(seg.number)
	}
	clear(s.segments[len(kept):])
	s.segments = kept
}

// bytes is what is taken on disk. It needs mu.
func (s *Store) bytes() int64 {
	n := s.head.wal.size
	if s.old != nil && s.old.wal != nil {
		n += s.old.wal.size
	}
	for _, seg := range s.segments {
		n += seg.size
	}
	return n
}

// sync makes what was appended durable.
func (s *Store) sync() error {
	s.mu.Lock()
	h := s.head
	size, lines := h.wal.size, h.unsynced
	if size == h.wal.synced {
		s.mu.Unlock()
		return nil
	}
	h.wal.synced, h.unsynced = size, 0
	s.mu.Unlock()
	err := h.wal.file.Sync()
	if errors.Is(err, os.ErrClosed) {
		return nil // it has become a segment
	}
	if err != nil {
		s.mu.Lock()
		h.wal.synced, h.unsynced = 0, h.unsynced+lines
		s.mu.Unlock()
	}
	return err
}

// Run makes lines durable every second, turns lines that have been in memory
// for long into a segment and removes old ones, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	ticker := time.NewTicker(syncEvery)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := s.sync(); err != nil {
			s.log.Error("making log lines durable", "err", err)
		}
		if n%15 != 0 {
			continue
		}
		old := s.now().Add(-flushAfter)
		if err := s.flush(func(h *head) bool { return h.full() || h.since.Before(old) }); err != nil {
			s.log.Error("writing a segment of log lines", "err", err)
		}
		s.expire()
	}
}

// Close writes what is in memory and closes the files. Run must have returned.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	err := s.flush(func(*head) bool { return true })
	err = errors.Join(err, s.head.wal.close(s.head.lines == 0))
	if s.old != nil { // it is written when the store is opened the next time
		err = errors.Join(err, s.old.wal.close(false))
	}
	s.codec.close()
	if s.metrics != nil {
		s.metrics.unregister()
	}
	if err != nil {
		return fmt.Errorf("closing the store of lines: %w", err)
	}
	return nil
}

// Stats says what the store holds. It does not wait for the disk.
func (s *Store) Stats() model.LogStats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	st := model.LogStats{
		Bytes: s.bytes(), Blocks: len(s.segments), Appended: s.appended, Expired: s.expired, Damaged: s.damaged,
		Retention: s.cfg.Retention.Std(), MaxBytes: s.cfg.MaxBytes, Unsynced: s.head.unsynced, Streams: len(s.head.streams),
	}
	span := func(lines, low, high int64) {
		if lines == 0 {
			return
		}
		if st.Lines == 0 || low < st.Oldest {
			st.Oldest = low
		}
		if st.Lines == 0 || high > st.Newest {
			st.Newest = high
		}
		st.Lines += lines
	}
	for _, h := range []*head{s.head, s.old} {
		if h != nil {
			span(h.lines, h.min, h.max)
		}
	}
	for _, seg := range s.segments {
		span(seg.lines, seg.min, seg.max)
	}
	return st
}
