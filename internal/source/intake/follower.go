package intake

import (
	"bytes"
	"context"
	"errors"
	"hash/crc64"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/sys/unix"

	"aiops/internal/model"
)

const (
	chunkBytes    = 256 << 10 // read at once
	turnBytes     = 1 << 20   // read of one file before it is another one's turn
	batchLines    = 1000      // handed on at once
	headBytes     = 1024      // of a file that tell it from another one
	multiLines    = 1000      // lines that are joined at most
	multiWait     = time.Second
	drainWait     = 5 * time.Second // how long a renamed file may still be written to
	firstBytes    = 64 << 20        // of a file that is seen for the first time
	siblingsAtAll = 2000            // files of a directory that are looked at
)

var crcTable = crc64.MakeTable(crc64.ECMA)

// identity is what a file is, whatever it is called.
type identity struct{ dev, ino uint64 }

func identify(f *os.File) (identity, int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return identity{}, 0, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return identity{}, 0, errNotRegular
	}
	return identity{uint64(st.Dev), st.Ino}, st.Size, nil //nolint:unconvert // its type differs between systems
}

var errNotRegular = errors.New("it is no regular file")

// openFile opens a file for reading without waiting for a writer, as opening a
// pipe would.
func openFile(path string) (*os.File, identity, int64, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, identity{}, 0, err
	}
	id, size, err := identify(f)
	if err != nil {
		return nil, id, 0, errors.Join(err, f.Close())
	}
	return f, id, size, nil
}

// head says how a file begins: a checksum over its first bytes. As long as a
// file only grows, what it began with stays.
type head struct {
	Bytes int64  `json:"bytes"`
	Sum   uint64 `json:"sum"`
}

func readHead(f io.ReaderAt, n int64) (head, error) {
	buf := make([]byte, n)
	got, err := f.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return head{}, err
	}
	return head{int64(got), crc64.Checksum(buf[:got], crcTable)}, nil
}

// still reports whether f begins as h says.
func (h head) still(f io.ReaderAt) bool {
	now, err := readHead(f, h.Bytes)
	return err == nil && now == h
}

// longer returns what is known of the beginning of f when it grew, and whether
// it still begins as h says. It reads once, so that both are of one moment.
func (h head) longer(f io.ReaderAt) (head, bool, error) {
	buf := make([]byte, headBytes)
	n, err := f.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return h, false, err
	}
	if int64(n) < h.Bytes || crc64.Checksum(buf[:h.Bytes], crcTable) != h.Sum {
		return h, false, nil
	}
	return head{int64(n), crc64.Checksum(buf[:n], crcTable)}, true, nil
}

// errCutOff says that a file was cut off while it was read.
var errCutOff = errors.New("the file was cut off")

// follower reads one file from where it stopped to where it ends now.
type follower struct {
	path   string // under which it was found first
	spec   *pattern
	stream model.Labels
	file   *os.File
	id     identity
	head   head

	taken     int64 // up to here the lines were taken by the sink
	read      int64 // up to here the file was read
	partial   []byte
	skip      bool // the rest of a line that is too long is read over
	joined    []byte
	joining   int       // lines in joined
	over      bool      // joined is longer than what is kept
	joinedEnd int64     // where the last of them ends
	since     time.Time // when the last line was joined

	stamp    int64     // the time that a line named last
	renamed  bool      // the path leads to another file now
	quiet    time.Time // when it was at its end for the first time since then
	finished bool
}

// pattern is a set of files of the configuration.
type pattern struct {
	File
	name  string
	start *regexp.Regexp
}

// deliverFunc hands lines on; they were taken when it returns nil.
type deliverFunc func(ctx context.Context, f *follower, texts []text) error

// text is one line, or several that belong together.
type text struct {
	s   string
	cut bool
	end int64 // where the file goes on behind it
}

// rewind goes back to what was taken last.
func (f *follower) rewind() {
	f.read, f.partial, f.skip = f.taken, nil, false
	f.joined, f.joining, f.over = nil, 0, false
}

// turn reads up to turnBytes and hands the lines on. More says that there is
// more to read at once. After an error the same lines come again.
func (f *follower) turn(ctx context.Context, now time.Time, deliver deliverFunc) (more bool, err error) {
	if err := f.checkTruncated(ctx, now, deliver); err != nil {
		f.rewind()
		return false, err
	}
	more, err = f.readOn(ctx, f.file, now, deliver)
	if errors.Is(err, errCutOff) {
		return true, nil // the next turn finds out
	}
	if err != nil {
		f.rewind()
	}
	return more, err
}

// readOn reads from where it stopped.
func (f *follower) readOn(ctx context.Context, from io.ReaderAt, now time.Time, deliver deliverFunc) (more bool, err error) {
	buf := make([]byte, chunkBytes)
	var texts []text
	for total := 0; total < turnBytes; {
		n, err := from.ReadAt(buf, f.read)
		total += n
		if n > 0 {
			f.quiet = time.Time{}
			if !f.head.still(from) {
				// What was read may be of what was written since then.
				return false, errors.Join(f.handOn(ctx, texts, deliver), errCutOff)
			}
		}
		texts = f.split(buf[:n], texts, now)
		if len(texts) >= batchLines {
			if err := deliver(ctx, f, texts); err != nil {
				return false, err
			}
			texts = texts[:0]
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		if n == 0 || err != nil {
			texts = f.atEnd(texts, now)
			return false, f.handOn(ctx, texts, deliver)
		}
	}
	return true, f.handOn(ctx, texts, deliver)
}

func (f *follower) handOn(ctx context.Context, texts []text, deliver deliverFunc) error {
	if len(texts) == 0 {
		return nil
	}
	return deliver(ctx, f, texts)
}

// split takes what was read apart into lines.
func (f *follower) split(data []byte, texts []text, now time.Time) []text {
	for len(data) > 0 {
		i := bytes.IndexByte(data, '\n')
		if i < 0 {
			f.read += int64(len(data))
			f.keep(data)
			break
		}
		f.read += int64(i + 1)
		f.keep(data[:i])
		data = data[i+1:]
		texts = f.line(bytes.TrimSuffix(f.partial, []byte{'\r'}), f.skip, texts, now)
		f.partial, f.skip = f.partial[:0], false
	}
	return texts
}

// keep adds to the line that is being read as much as is kept of a line.
func (f *follower) keep(data []byte) {
	if left := model.MaxLineBytes - len(f.partial); len(data) > left {
		data = data[:left]
		f.skip = true
	}
	f.partial = append(f.partial, data...)
}

// line takes one line of the file, which ends at f.read.
func (f *follower) line(line []byte, cut bool, texts []text, now time.Time) []text {
	if f.spec.start == nil {
		return append(texts, text{string(line), cut, f.read})
	}
	if f.spec.start.Match(line) || f.joining >= multiLines {
		// What was joined ends where this line begins.
		texts = f.flush(texts)
	}
	if f.joining > 0 && len(f.joined) < model.MaxLineBytes {
		f.joined = append(f.joined, '\n')
	}
	if left := model.MaxLineBytes - len(f.joined); len(line) > left {
		line, f.over = line[:left], true
	}
	f.joined = append(f.joined, line...)
	f.over = f.over || cut
	f.joining++
	f.since = now
	f.joinedEnd = f.read
	return texts
}

// flush ends what is being joined.
func (f *follower) flush(texts []text) []text {
	if f.joining == 0 {
		return texts
	}
	texts = append(texts, text{string(f.joined), f.over, f.joinedEnd})
	f.joined, f.joining, f.over = f.joined[:0], 0, false
	return texts
}

// atEnd hands out what nothing more is expected for: joined lines after a
// while, and an unfinished line of a file that nobody writes to any more.
func (f *follower) atEnd(texts []text, now time.Time) []text {
	if f.renamed {
		if f.quiet.IsZero() {
			f.quiet = now
		}
		if now.Sub(f.quiet) >= drainWait {
			f.finished = true
			if len(f.partial) > 0 {
				texts = f.line(f.partial, f.skip, texts, now)
				f.partial, f.skip = f.partial[:0], false
			}
			return f.flush(texts)
		}
	}
	if f.joining > 0 && len(f.partial) == 0 && now.Sub(f.since) >= multiWait {
		texts = f.flush(texts)
	}
	return texts
}

// checkTruncated finds out whether the file was cut off and begins anew. What
// was not read before is read from the copy that was made of it, if one is
// found.
func (f *follower) checkTruncated(ctx context.Context, now time.Time, deliver deliverFunc) error {
	_, size, err := identify(f.file)
	if err != nil {
		return err
	}
	if size >= f.read {
		longer, same, err := f.head.longer(f.file)
		if same || err != nil {
			f.head = longer
			return err
		}
	}
	if copied := f.findCopy(); copied != nil {
		defer copied.Close()
		f.rewind()
		for more := true; more; {
			if more, err = f.readOn(ctx, copied, now, deliver); err != nil {
				return err
			}
		}
		var texts []text
		if len(f.partial) > 0 {
			texts = f.line(f.partial, f.skip, nil, now)
		}
		if err := f.handOn(ctx, f.flush(texts), deliver); err != nil {
			return err
		}
	}
	f.taken = 0
	f.rewind()
	f.head, err = readHead(f.file, min(size, headBytes))
	return err
}

// findCopy looks in the directory for a file that begins as this one did and
// holds what was not read yet.
func (f *follower) findCopy() *os.File {
	var found *os.File
	siblings(f.path, func(path string) bool {
		file, id, size, err := openFile(path)
		if err != nil {
			return true
		}
		if id != f.id && size >= f.read && f.head.Bytes > 0 && f.head.still(file) {
			found = file
			return false
		}
		_ = file.Close()
		return true
	})
	return found
}

// siblings calls visit with the files beside path whose names begin as its
// name does, until it returns false.
func siblings(path string, visit func(path string) bool) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(siblingsAtAll)
	base := filepath.Base(path)
	if ext := filepath.Ext(base); ext != "" && len(ext) < len(base) {
		base = base[:len(base)-len(ext)]
	}
	for _, name := range names {
		if len(name) >= len(base) && name[:len(base)] == base && !visit(filepath.Join(filepath.Dir(path), name)) {
			return
		}
	}
}
