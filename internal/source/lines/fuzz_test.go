package lines

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
)

var samples = []model.LogLine{
	{T: 5, Stream: app("a"), Text: "WARN low stock", Message: "low stock", Level: "warn", Template: "t1", Logger: "x.Y", TraceID: "00ff"},
	{T: 5, Stream: app("a"), Text: "", Cut: true},
	{T: -7, Stream: app("b"), Text: "\xff\x00", Message: "beside"},
}

// Whatever bytes a record has, reading them ends, and what was read is written
// the same way.
func FuzzDecodeRecord(f *testing.F) {
	f.Add(string(encodeRecord(samples, 7)))
	f.Fuzz(func(t *testing.T, data string) {
		entries, err := decodeRecord(data)
		if err != nil || len(entries) == 0 {
			return
		}
		lines := make([]model.LogLine, len(entries))
		for i := range entries {
			lines[i] = entries[i].LogLine
		}
		again, err := decodeRecord(string(encodeRecord(lines, entries[0].seq)))
		if err != nil || len(again) != len(entries) {
			t.Fatalf("%d entries read back as %d (%v)", len(entries), len(again), err)
		}
	})
}

func FuzzDecodeBlock(f *testing.F) {
	var entries []entry
	for i, l := range samples[:2] {
		entries = append(entries, entry{l, uint64(i)})
	}
	raw, _ := encodeBlock(entries)
	f.Add(string(raw))
	f.Fuzz(func(t *testing.T, data string) {
		entries, err := decodeBlock(data, nil)
		if err != nil || len(entries) == 0 {
			return
		}
		raw, info := encodeBlock(entries)
		again, err := decodeBlock(string(raw), nil)
		if err != nil || len(again) != len(entries) || info.count != len(entries) {
			t.Fatalf("%d entries read back as %d (%v)", len(entries), len(again), err)
		}
		for i := range again {
			if again[i].Text != entries[i].Text || again[i].Message != entries[i].Message || again[i].T != entries[i].T || again[i].seq != entries[i].seq {
				t.Fatalf("entry %d is %+v, want %+v", i, again[i], entries[i])
			}
		}
	})
}

func FuzzDecodeIndex(f *testing.F) {
	c, err := newCodec()
	if err != nil {
		f.Fatal(err)
	}
	defer c.close()
	dir := f.TempDir()
	path := filepath.Join(dir, "x.seg")
	st := &stream{key: "k", labels: app("a"), entries: []entry{{samples[0], 1}, {samples[1], 2}}}
	if _, err := c.writeSegment(dir, path, 1, []*stream{st}, time.Unix(1, 0)); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	trailer := data[len(data)-trailerSize:]
	at, packed, raw := binary.LittleEndian.Uint64(trailer), binary.LittleEndian.Uint32(trailer[8:]), binary.LittleEndian.Uint32(trailer[12:])
	text, err := c.expand(data[at:at+uint64(packed)], int(raw))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text, int64(at))
	f.Fuzz(func(t *testing.T, text string, end int64) {
		idx, seg, err := decodeIndex(text, max(end, 0))
		if err != nil {
			return
		}
		for _, b := range idx.blocks {
			if b.offset+int64(b.size) > end || b.raw > mostBlock || b.min < seg.min || b.max > seg.max || b.stream >= len(idx.streams) {
				t.Fatalf("a block is beyond the bounds: %+v", b)
			}
		}
	})
}

// Whatever a log holds, replaying it ends and takes whole records only.
func FuzzReplay(f *testing.F) {
	payload := encodeRecord(samples, 7)
	var file bytes.Buffer
	file.WriteString(walMagic)
	_ = binary.Write(&file, binary.LittleEndian, uint32(len(payload)))
	_ = binary.Write(&file, binary.LittleEndian, crc32.Checksum(payload, castagnoli))
	file.Write(payload)
	f.Add(file.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "x.log")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		taken := 0
		left, err := replayWAL(path, func(entries []entry) { taken += len(entries) })
		if err != nil || left < 0 || left > int64(len(data)) || int64(taken) > int64(len(data)) {
			t.Fatalf("%d lines of %d bytes, %d left, %v", taken, len(data), left, err)
		}
	})
}

func ExampleStore() {
	dir, err := os.MkdirTemp("", "lines")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	s, err := Open(Config{Dir: dir}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		panic(err)
	}
	defer s.Close()
	err = s.Append(context.Background(), []model.LogLine{
		{T: 1, Stream: model.Labels{{Name: "app", Value: "cart"}}, Text: "item added"},
		{T: 2, Stream: model.Labels{{Name: "app", Value: "pay"}}, Text: "card refused", Level: model.LevelError},
	})
	if err != nil {
		panic(err)
	}
	lines, next, err := s.Search(context.Background(), model.LogFilter{Contains: "card"})
	fmt.Println(lines[0].Text, len(lines), next == "", err)
	// Output: card refused 1 true <nil>
}

func BenchmarkAppend(b *testing.B) {
	s := open(b, b.TempDir())
	defer s.Close()
	batch := make([]model.LogLine, 1000)
	for i := range batch {
		text := fmt.Sprintf("2026-11-27T12:30:45Z INFO card charged, amount %d EUR for order %d", i*7919%1000, i*104729%100000)
		batch[i] = model.LogLine{T: int64(i), Stream: app(fmt.Sprint(i % 10)), Text: text, Message: text[26:], Level: "info", Template: "t1"}
	}
	b.SetBytes(int64(len(batch) * len(batch[0].Text)))
	for b.Loop() {
		if err := s.Append(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(batch))/b.Elapsed().Seconds(), "lines/s")
}

func BenchmarkSearch(b *testing.B) {
	s := open(b, b.TempDir())
	defer s.Close()
	for at := range 200 {
		batch := make([]model.LogLine, 1000)
		for i := range batch {
			batch[i] = model.LogLine{T: int64(at*1000 + i), Stream: app(fmt.Sprint(i % 10)), Text: fmt.Sprintf("card charged, amount %d EUR for order %d", i, at)}
		}
		if err := s.Append(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.flush(always); err != nil {
		b.Fatal(err)
	}
	for name, f := range map[string]model.LogFilter{"newest": {}, "rare text": {Contains: "order 3 "}, "absent text": {Contains: strings.Repeat("z", 9)}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := s.Search(b.Context(), f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
