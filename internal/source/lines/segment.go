package lines

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"

	"aiops/internal/model"
)

// A segment is a file of blocks, then its index, then a trailer of fixed size:
// where the index begins (8 bytes), its compressed and decompressed size and
// its checksum (4 bytes each), all little endian, and the magic once more.
const (
	segmentMagic = "AIOPSLS1"
	trailerSize  = 8 + 4 + 4 + 4 + 8
	mostIndex    = 256 << 20
)

// segment is what is always in memory of a segment.
type segment struct {
	path     string
	number   uint64 // grows from segment to segment
	size     int64  // of the file
	lines    int64
	min, max int64     // times
	lastSeq  uint64    // the greatest number in it
	created  time.Time // when it was written
}

// index is what a segment's blocks are.
type index struct {
	streams []model.Labels
	blocks  []blockInfo
	memory  int64 // estimate
}

// codec compresses and decompresses. It is safe for concurrent use.
type codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

func newCodec() (codec, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(512<<10))
	if err != nil {
		return codec{}, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(mostIndex))
	if err != nil {
		return codec{}, err
	}
	return codec{enc, dec}, nil
}

func (c codec) close() {
	c.dec.Close()
	_ = c.enc.Close()
}

// expand decompresses what has to become raw bytes.
func (c codec) expand(data []byte, raw int) (string, error) {
	out, err := c.dec.DecodeAll(data, make([]byte, 0, raw))
	if err != nil || len(out) != raw {
		return "", errDamaged
	}
	return string(out), nil
}

// writeSegment writes the lines of each stream as blocks and describes the
// file. The entries are sorted in place.
func (c codec) writeSegment(dir, path string, number uint64, streams []*stream, now time.Time) (*segment, error) {
	seg := &segment{path: path, number: number, created: now}
	slices.SortFunc(streams, func(a, b *stream) int { return cmp.Compare(a.key, b.key) })
	err := writeFile(dir, path, func(f io.Writer) error {
		out := &counted{w: f}
		if _, err := io.WriteString(out, segmentMagic); err != nil {
			return err
		}
		var blocks []blockInfo
		for i, st := range streams {
			slices.SortFunc(st.entries, compareEntries)
			for entries := range cutBlocks(st.entries) {
				raw, info := encodeBlock(entries)
				packed := c.enc.EncodeAll(raw, nil)
				info.stream, info.offset, info.size, info.sum = i, out.n, len(packed), crc32.Checksum(packed, castagnoli)
				if _, err := out.Write(packed); err != nil {
					return err
				}
				seg.note(entries, info)
				blocks = append(blocks, info)
			}
		}
		if err := c.writeIndex(out, streams, blocks, seg); err != nil {
			return err
		}
		seg.size = out.n
		return nil
	})
	if err != nil {
		return nil, err
	}
	return seg, nil
}

// note takes a block into what the segment says of itself.
func (s *segment) note(entries []entry, info blockInfo) {
	if s.lines == 0 || info.min < s.min {
		s.min = info.min
	}
	if s.lines == 0 || info.max > s.max {
		s.max = info.max
	}
	s.lines += int64(info.count)
	for i := range entries {
		s.lastSeq = max(s.lastSeq, entries[i].seq)
	}
}

// cutBlocks cuts entries in order into blocks.
func cutBlocks(entries []entry) func(yield func([]entry) bool) {
	return func(yield func([]entry) bool) {
		for len(entries) > 0 {
			n, text := 0, 0
			for n < len(entries) && text < blockText && uint64(entries[n].T-entries[0].T) <= uint64(blockSpan) {
				text += len(entries[n].Text) + 64
				n++
			}
			if !yield(entries[:n]) {
				return
			}
			entries = entries[n:]
		}
	}
}

// counted knows how much was written.
type counted struct {
	w io.Writer
	n int64
}

// Write implements io.Writer.
func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func (c codec) writeIndex(out *counted, streams []*stream, blocks []blockInfo, seg *segment) error {
	var w writer
	w.int(seg.created.UnixNano())
	w.uint(seg.lastSeq)
	w.uint(uint64(len(streams)))
	for _, st := range streams {
		w.labels(st.labels)
	}
	w.uint(uint64(len(blocks)))
	for _, b := range blocks {
		w.uint(uint64(b.stream))
		w.int(b.min)
		w.uint(uint64(b.max - b.min))
		w.uint(uint64(b.count))
		w.uint(uint64(b.offset))
		w.uint(uint64(b.size))
		w.uint(uint64(b.raw))
		w.uint(uint64(b.sum))
		w.uint(uint64(b.levels))
		w.uint(uint64(len(b.templates)))
		for _, t := range b.templates {
			w.uint(uint64(t))
		}
	}
	packed := c.enc.EncodeAll(w, nil)
	trailer := make([]byte, 0, trailerSize)
	trailer = binary.LittleEndian.AppendUint64(trailer, uint64(out.n))
	trailer = binary.LittleEndian.AppendUint32(trailer, uint32(len(packed)))
	trailer = binary.LittleEndian.AppendUint32(trailer, uint32(len(w)))
	trailer = binary.LittleEndian.AppendUint32(trailer, crc32.Checksum(packed, castagnoli))
	trailer = append(trailer, segmentMagic...)
	if _, err := out.Write(packed); err != nil {
		return err
	}
	_, err := out.Write(trailer)
	return err
}

// readIndex reads the index of the segment in f and describes it.
func (c codec) readIndex(f io.ReaderAt, size int64) (*index, segment, error) {
	var seg segment
	head := make([]byte, trailerSize)
	if size < int64(len(segmentMagic)+trailerSize) {
		return nil, seg, errDamaged
	}
	if _, err := f.ReadAt(head, size-trailerSize); err != nil {
		return nil, seg, err
	}
	at := binary.LittleEndian.Uint64(head)
	packed, raw := binary.LittleEndian.Uint32(head[8:]), binary.LittleEndian.Uint32(head[12:])
	if string(head[20:]) != segmentMagic || raw > mostIndex || at > uint64(size) || at+uint64(packed)+trailerSize != uint64(size) {
		return nil, seg, errDamaged
	}
	data := make([]byte, packed)
	if _, err := f.ReadAt(data, int64(at)); err != nil {
		return nil, seg, err
	}
	if crc32.Checksum(data, castagnoli) != binary.LittleEndian.Uint32(head[16:]) {
		return nil, seg, errDamaged
	}
	text, err := c.expand(data, int(raw))
	if err != nil {
		return nil, seg, err
	}
	idx, seg, err := decodeIndex(text, int64(at))
	seg.size = size
	return idx, seg, err
}

const leastBlock = 10

// decodeIndex reads an index; all blocks lie before end.
func decodeIndex(text string, end int64) (*index, segment, error) {
	var seg segment
	r := reader{s: text}
	seg.created = time.Unix(0, r.int())
	seg.lastSeq = r.uint()
	idx := &index{streams: make([]model.Labels, r.count(1)), memory: int64(len(text))}
	for i := range idx.streams {
		idx.streams[i] = r.labels()
		idx.memory += 24 + 32*int64(len(idx.streams[i]))
		if r.failed {
			return nil, seg, errDamaged
		}
	}
	idx.blocks = make([]blockInfo, r.count(leastBlock))
	idx.memory += 112 * int64(len(idx.blocks))
	for i := range idx.blocks {
		b := &idx.blocks[i]
		stream := r.uint()
		b.min = r.int()
		b.max = b.min + int64(r.uint())
		count, offset, packed, raw := r.uint(), r.uint(), r.uint(), r.uint()
		b.sum, b.levels = uint32(r.uint()), uint8(r.uint())
		if n := r.count(1); n > 0 {
			b.templates = make([]uint32, n)
			idx.memory += 4 * int64(n)
		}
		for j := range b.templates {
			b.templates[j] = uint32(r.uint())
		}
		if r.failed || stream >= uint64(len(idx.streams)) || b.max < b.min || raw > mostBlock || count == 0 || count > raw ||
			offset > uint64(end) || packed > uint64(end)-offset {
			return nil, seg, errDamaged
		}
		b.stream, b.count, b.offset, b.size, b.raw = int(stream), int(count), int64(offset), int(packed), int(raw)
		if seg.lines == 0 || b.min < seg.min {
			seg.min = b.min
		}
		if seg.lines == 0 || b.max > seg.max {
			seg.max = b.max
		}
		seg.lines += int64(b.count)
	}
	if r.s != "" || r.failed {
		return nil, seg, errDamaged
	}
	return idx, seg, nil
}

// blockText reads what one block decompresses to.
func (c codec) blockText(f io.ReaderAt, b blockInfo) (string, error) {
	data := make([]byte, b.size)
	if _, err := f.ReadAt(data, b.offset); err != nil {
		return "", fmt.Errorf("%w: %w", errDamaged, err)
	}
	if crc32.Checksum(data, castagnoli) != b.sum {
		return "", errDamaged
	}
	return c.expand(data, b.raw)
}

// openSegment reads what is always kept of a segment.
func (c codec) openSegment(path string, number uint64) (seg *segment, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	_, described, err := c.readIndex(f, info.Size())
	if err != nil {
		return nil, err
	}
	described.path, described.number = path, number
	return &described, nil
}
