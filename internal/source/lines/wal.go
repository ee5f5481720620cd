package lines

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// The write-ahead log is a file of records, each a length, a checksum (both
// four bytes, little endian) and the lines of one call of Append.
const (
	walMagic   = "AIOPSLW1"
	recordHead = 8
	mostRecord = 128 << 20
)

// wal is the write-ahead log that is being written.
type wal struct {
	path   string
	file   *os.File
	size   int64
	synced int64
}

func createWAL(path string) (*wal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := f.WriteString(walMagic); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return &wal{path: path, file: f, size: int64(len(walMagic))}, nil
}

// append writes one record, or nothing: what a failed write left is cut off,
// so that a later record does not stand behind rubbish.
func (w *wal) append(payload []byte) error {
	var head [recordHead]byte
	binary.LittleEndian.PutUint32(head[:4], uint32(len(payload)))
	binary.LittleEndian.PutUint32(head[4:], crc32.Checksum(payload, castagnoli))
	_, err := w.file.WriteAt(append(head[:], payload...), w.size)
	if err != nil {
		return errors.Join(err, w.file.Truncate(w.size))
	}
	w.size += int64(recordHead + len(payload))
	return nil
}

func (w *wal) close(remove bool) error {
	err := w.file.Close()
	if remove {
		err = errors.Join(err, os.Remove(w.path))
	}
	return err
}

// replayWAL calls take with each record of the file, up to the first that is
// cut off or damaged. It returns how many bytes were behind that point.
func replayWAL(path string, take func([]entry)) (left int64, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	rest, ok := bytes.CutPrefix(data, []byte(walMagic))
	if !ok {
		if bytes.HasPrefix([]byte(walMagic), data) {
			return 0, nil // cut off while it was made
		}
		return int64(len(data)), nil
	}
	for len(rest) >= recordHead {
		n := binary.LittleEndian.Uint32(rest)
		if n > mostRecord || int(n) > len(rest)-recordHead {
			break
		}
		payload := rest[recordHead : recordHead+n]
		if crc32.Checksum(payload, castagnoli) != binary.LittleEndian.Uint32(rest[4:]) {
			break
		}
		entries, torn := decodeRecord(string(payload))
		if torn != nil {
			break
		}
		take(entries)
		rest = rest[recordHead+n:]
	}
	return int64(len(rest)), nil //nolint:nilerr // a torn end is cut off, not an error
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// writeFile writes a file so that it is either whole under its name or absent.
func writeFile(dir, path string, write func(io.Writer) error) (err error) {
	temp := path + ".tmp"
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp)
		}
	}()
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing a segment: %w", err)
	}
	if err = os.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(dir)
}
