package intake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"aiops/internal/model"
)

const (
	pollEvery     = 250 * time.Millisecond
	lookEvery     = 2 * time.Second // for files that are new
	syncEvery     = time.Second     // positions go to the disk itself
	mostFollowed  = 1000
	positionsFile = "positions.json"
	mostPositions = 8 << 20 // bytes of that file
	backoffMost   = 30 * time.Second
	oldestLine    = 7 * 24 * time.Hour // a line's own time counts within these
	newestLine    = 10 * time.Minute
)

// StampFunc reads the time that a line names, in nanoseconds since the epoch;
// 0 when it names none that is sure.
type StampFunc func(text string) int64

// tails follows all files of the configuration. One goroutine runs it.
type tails struct {
	in        *Intake
	patterns  []*pattern
	followed  map[identity]*follower
	positions map[identity]position // of files that are not followed yet
	looked    time.Time
	synced    time.Time
	dirty     bool
	tooMany   bool
}

// position is where reading a file goes on.
type position struct {
	Path   string `json:"path"`
	Dev    uint64 `json:"dev"`
	Ino    uint64 `json:"ino"`
	Offset int64  `json:"offset"`
	Head   head   `json:"head"`
}

func (f *follower) position() position {
	return position{Path: f.path, Dev: f.id.dev, Ino: f.id.ino, Offset: f.taken, Head: f.head}
}

type positions struct {
	Version int        `json:"version"`
	Files   []position `json:"files"`
}

func newTails(in *Intake) *tails {
	t := &tails{in: in, followed: map[identity]*follower{}, positions: map[identity]position{}}
	for _, file := range in.cfg.Files {
		p := &pattern{File: file, name: "file " + file.Path}
		if file.Multiline.Start != "" {
			p.start = regexp.MustCompile(file.Multiline.Start) // Validate has tried it
		}
		t.patterns = append(t.patterns, p)
		in.state(p.name)
	}
	return t
}

// Run follows the files until ctx ends. What was read and not taken then is
// read again after the next start.
func (n *Intake) Run(ctx context.Context) error {
	if len(n.tails.patterns) == 0 {
		<-ctx.Done()
		return nil
	}
	return n.tails.run(ctx)
}

func (t *tails) run(ctx context.Context) error {
	if err := os.MkdirAll(t.in.cfg.Dir, 0o750); err != nil {
		return fmt.Errorf("making the directory of positions in files: %w", err)
	}
	t.load()
	defer t.close()
	t.resume()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		err := t.round(ctx)
		wait := pollEvery
		if err != nil {
			wait = max(pollEvery, min(retryAfter(err), backoffMost))
		}
		timer.Reset(wait)
	}
}

// round looks for new files, reads all of them to their ends and keeps the
// positions. The error is the sink's: it wants time.
func (t *tails) round(ctx context.Context) error {
	now := t.in.now()
	if now.Sub(t.looked) >= lookEvery {
		t.look()
		t.looked = now
	}
	var refused error
	for more := true; more && refused == nil && ctx.Err() == nil; {
		more = false
		for id, f := range t.followed {
			again, err := f.turn(ctx, now, t.deliver)
			var e *refusal
			switch {
			case errors.As(err, &e):
				refused = e.err
			case err != nil:
				t.fault(f.spec, err)
				t.positions[id] = f.position()
				t.forget(id, f)
				continue
			}
			more = more || again
			if f.finished {
				t.forget(id, f)
			}
		}
	}
	if t.dirty {
		t.save(now)
	}
	return refused
}

// refusal marks an error of the sink.
type refusal struct{ err error }

// Error implements error.
func (r *refusal) Error() string { return r.err.Error() }

// look finds files that are not followed yet, and files that were renamed.
func (t *tails) look() {
	current := map[identity]bool{}
	for _, p := range t.patterns {
		paths, err := filepath.Glob(p.Path)
		if err != nil || len(paths) == 0 {
			continue
		}
		for _, path := range paths {
			if id, ok := t.meet(p, path); ok {
				current[id] = true
			}
		}
	}
	for id, f := range t.followed {
		if !current[id] && !f.renamed {
			f.renamed, f.quiet = true, time.Time{}
		} else if current[id] {
			f.renamed = false
		}
	}
}

// meet follows the file at path, if it is not followed already.
func (t *tails) meet(p *pattern, path string) (identity, bool) {
	file, id, size, err := openFile(path)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, errNotRegular) {
			t.fault(p, err)
		}
		return id, false
	}
	if f := t.followed[id]; f != nil {
		_ = file.Close()
		return id, true
	}
	if len(t.followed) >= mostFollowed {
		_ = file.Close()
		if !t.tooMany {
			t.tooMany = true
			t.in.log.Error("too many files match; further ones are not followed", "limit", mostFollowed)
		}
		t.fault(p, fmt.Errorf("more than %d files match", mostFollowed))
		return id, false
	}
	f, err := t.begin(p, path, file, id, size)
	if err != nil {
		_ = file.Close()
		t.fault(p, err)
		return id, false
	}
	t.followed[id] = f
	return id, true
}

// begin follows a file from where it was read to, or from its beginning.
func (t *tails) begin(p *pattern, path string, file *os.File, id identity, size int64) (*follower, error) {
	labels := map[string]string{"filename": strings.ToValidUTF8(path, "\ufffd")}
	for name, value := range p.Labels {
		labels[name] = value
	}
	f := &follower{path: path, spec: p, stream: model.LabelsFromMap(labels), file: file, id: id}
	var err error
	if known, ok := t.positions[id]; ok {
		delete(t.positions, id)
		if known.Head.still(file) {
			f.path, f.head, f.taken = known.Path, known.Head, known.Offset
			f.rewind()
			return f, nil
		}
		if known.Path == path {
			// It was cut off while nobody looked: the copy may hold the rest.
			f.head, f.taken = known.Head, known.Offset
			f.rewind()
			return f, nil
		}
	}
	if f.head, err = readHead(file, min(size, headBytes)); err != nil {
		return nil, err
	}
	if size > firstBytes {
		if f.taken, err = lineAfter(file, size-firstBytes); err != nil {
			return nil, err
		}
	}
	f.rewind()
	return f, nil
}

// lineAfter is where the first line behind offset begins.
func lineAfter(file io.ReaderAt, offset int64) (int64, error) {
	buf := make([]byte, chunkBytes)
	n, err := file.ReadAt(buf, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if i := strings.IndexByte(string(buf[:n]), '\n'); i >= 0 {
		return offset + int64(i) + 1, nil
	}
	return offset, nil
}

// resume follows files that were renamed while nobody looked, to their ends.
func (t *tails) resume() {
	t.look()
	t.looked = t.in.now()
	for id, known := range t.positions {
		p := t.patternOf(known.Path)
		if p == nil {
			continue
		}
		siblings(known.Path, func(path string) bool {
			file, found, size, err := openFile(path)
			if err != nil {
				return true
			}
			if found != id || !known.Head.still(file) || size < known.Offset {
				_ = file.Close()
				return true
			}
			f, err := t.begin(p, known.Path, file, id, size)
			if err != nil {
				_ = file.Close()
				return false
			}
			f.renamed = true
			t.followed[id] = f
			return false
		})
	}
	t.positions = map[identity]position{}
}

func (t *tails) patternOf(path string) *pattern {
	for _, p := range t.patterns {
		if ok, _ := filepath.Match(p.Path, path); ok {
			return p
		}
	}
	return nil
}

// deliver hands lines to the sink.
func (t *tails) deliver(ctx context.Context, f *follower, texts []text) error {
	now := t.in.now()
	b := newBatch(now)
	for _, x := range texts {
		if x.s == "" {
			continue // an empty line is nothing to keep
		}
		if err := b.add(model.LogLine{T: t.timeOf(f, x.s, now), Stream: f.stream, Text: x.s, Cut: x.cut}); err != nil {
			return err
		}
	}
	if err := t.in.deliver(ctx, f.spec.name, b); err != nil {
		t.in.note(f.spec.name, now, b, err)
		return &refusal{err}
	}
	t.in.note(f.spec.name, now, b, nil)
	f.taken = texts[len(texts)-1].end
	t.dirty = true
	return nil
}

// timeOf is the time that a line names. One that names none belongs to the line
// before it, and otherwise has the time at which it was read.
func (t *tails) timeOf(f *follower, line string, now time.Time) int64 {
	if t.in.cfg.Stamp == nil {
		return now.UnixNano()
	}
	at := t.in.cfg.Stamp(line)
	if at > now.Add(-oldestLine).UnixNano() && at < now.Add(newestLine).UnixNano() {
		f.stamp = at
	}
	if f.stamp != 0 {
		return f.stamp
	}
	return now.UnixNano()
}

func (t *tails) fault(p *pattern, err error) {
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	t.in.mu.Lock()
	defer t.in.mu.Unlock()
	st := t.in.state(p.name)
	if st.Error != err.Error() {
		t.in.log.Warn("a file cannot be followed", "pattern", p.Path, "err", err)
	}
	st.State, st.Error = model.CollectorDown, err.Error()
}

func (t *tails) forget(id identity, f *follower) {
	_ = f.file.Close()
	delete(t.followed, id)
	t.dirty = true
	t.tooMany = false
}

// load reads the positions of an earlier run. Without them files are read from
// their beginnings.
func (t *tails) load() {
	path := filepath.Join(t.in.cfg.Dir, positionsFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	var all positions
	if err == nil {
		all, err = decodePositions(data)
	}
	if err != nil {
		t.in.log.Error("the positions in files cannot be read; files are read from their beginnings, so lines may come twice", "err", err)
		return
	}
	for _, p := range all.Files {
		t.positions[identity{p.Dev, p.Ino}] = p
	}
}

func decodePositions(data []byte) (positions, error) {
	var all positions
	if len(data) > mostPositions {
		return all, errors.New("the file is too large")
	}
	if err := json.Unmarshal(data, &all); err != nil {
		return all, err
	}
	if all.Version != 1 {
		return all, fmt.Errorf("version %d is not known", all.Version)
	}
	for _, p := range all.Files {
		if p.Offset < 0 || p.Head.Bytes < 0 || p.Head.Bytes > headBytes {
			return all, errors.New("a position is out of range")
		}
	}
	return all, nil
}

// save writes the positions, so that the end of this process repeats at most
// the lines that are being handed on. Once a second they go to the disk itself.
func (t *tails) save(now time.Time) {
	all := positions{Version: 1, Files: []position{}}
	for _, f := range t.followed {
		all.Files = append(all.Files, f.position())
	}
	for _, p := range t.positions {
		all.Files = append(all.Files, p)
	}
	data, err := json.Marshal(all)
	if err == nil {
		err = t.write(data, now.Sub(t.synced) >= syncEvery)
	}
	if err != nil {
		t.in.log.Error("keeping the positions in files", "err", err)
		return
	}
	t.dirty = false
}

func (t *tails) write(data []byte, durable bool) error {
	path := filepath.Join(t.in.cfg.Dir, positionsFile)
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && durable {
		err = f.Sync()
		t.synced = t.in.now()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

func (t *tails) close() {
	t.synced = time.Time{}
	t.save(t.in.now())
	for _, f := range t.followed {
		_ = f.file.Close()
	}
}
