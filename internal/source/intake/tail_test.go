package intake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"aiops/internal/model"
)

// tailing follows a directory's app.log, round by round.
type tailing struct {
	dir  string
	now  time.Time
	file File
	sink *sink
	in   *Intake
}

func tail(t fataler, dir string, file File) *tailing {
	t.Helper()
	x := &tailing{dir: dir, now: time.Unix(1_800_000_000, 0), file: file, sink: &sink{}}
	if x.file.Path == "" {
		x.file.Path = filepath.Join(dir, "app.log")
	}
	x.start(t)
	return x
}

type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func (x *tailing) start(t fataler) {
	t.Helper()
	in, err := New(Config{Dir: filepath.Join(x.dir, "positions"), Files: []File{x.file}}, x.sink.take, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	in.now = func() time.Time { return x.now }
	if err := os.MkdirAll(in.cfg.Dir, 0o750); err != nil {
		t.Fatal(err)
	}
	x.in = in
	in.tails.synced = x.now.Add(1000 * time.Hour) // a power cut is no part of these tests
	in.tails.load()
	in.tails.resume()
}

// round lets some time pass and reads what there is.
func (x *tailing) round(t fataler) {
	t.Helper()
	x.now = x.now.Add(lookEvery)
	if err := x.in.tails.round(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// stop ends following as Run does; kill ends it without a word.
func (x *tailing) stop() { x.in.tails.close(); x.in.Close() }

func (x *tailing) kill() {
	for _, f := range x.in.tails.followed {
		_ = f.file.Close()
	}
	x.in.Close()
}

func (x *tailing) texts() []string {
	var out []string
	for _, l := range x.sink.taken() {
		out = append(out, l.Text)
	}
	return out
}

func write(t fataler, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func copyTruncate(t fataler, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, string(data))
	if err := os.Truncate(from, 0); err != nil {
		t.Fatal(err)
	}
}

// Whatever happens to a file (growing in pieces, rotation by renaming, by
// copying and cutting off, the end and the start of the one who reads, a sink
// that refuses), every line is taken once and in order.
func TestTailLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "tail")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		x := tail(t, dir, File{})
		defer func() { x.stop() }()
		path := x.file.Path
		written, rotated, open := 0, 0, ""
		line := func() string { written++; return fmt.Sprintf("%06d a line of the log\n", written) }
		write(t, path, line())
		x.round(t)
		for range rapid.IntRange(1, 16).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"write", "write", "begin a line", "round", "round", "rename", "copy", "restart", "kill", "refuse"}).Draw(t, "step") {
			case "write":
				write(t, path, open)
				open = ""
				for range rapid.IntRange(1, 30).Draw(t, "lines") {
					write(t, path, line())
				}
			case "begin a line":
				if open == "" {
					whole := line()
					write(t, path, whole[:5])
					open = whole[5:]
				}
			case "round":
				x.round(t)
			case "rename": // the writer ends its line in the old file
				write(t, path, open)
				open = ""
				rotated++
				if err := os.Rename(path, path+"."+strconv.Itoa(rotated)); err != nil {
					t.Fatal(err)
				}
				write(t, path, line())
				x.round(t) // a file that comes and goes before anyone looks is never seen
				if rapid.Bool().Draw(t, "written after") {
					write(t, path+"."+strconv.Itoa(rotated), line())
				}
			case "copy":
				if open == "" {
					write(t, path, line())
					x.round(t) // a file that is copied before anyone saw its beginning cannot be told
					write(t, path, line())
					rotated++
					copyTruncate(t, path, path+"."+strconv.Itoa(rotated))
					if rapid.Bool().Draw(t, "grown again") {
						write(t, path, strings.Repeat(line(), 1))
					}
					x.round(t)
				}
			case "restart":
				x.stop()
				x.start(t)
			case "kill":
				x.round(t)
				x.kill()
				x.start(t)
			case "refuse":
				x.sink.err = errors.New("not now")
				x.now = x.now.Add(lookEvery)
				_ = x.in.tails.round(context.Background())
				x.sink.err = nil
			}
		}
		write(t, path, open)
		x.round(t)
		x.round(t)
		got := x.texts()
		slices.Sort(got) // of two files that are read at the same time the order is by file
		for i, text := range got {
			if want := fmt.Sprintf("%06d a line of the log", i+1); text != want {
				t.Fatalf("line %d is %q, want %q; %d taken of %d", i+1, text, want, len(got), written)
			}
		}
		if len(got) != written {
			t.Fatalf("%d lines were taken, want %d", len(got), written)
		}
	})
}

// A writer under load, rotated all the while, as logrotate would do it.
func TestTailUnderLoadWithRotation(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"rename", "copytruncate"} {
		dir := t.TempDir()
		path := filepath.Join(dir, "app.log")
		s := &sink{}
		in, err := New(Config{Dir: filepath.Join(dir, "positions"), Files: []File{{Path: path}}}, s.take, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, "0\n")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- in.Run(ctx) }()
		count := func() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.lines) }
		await(t, func() bool { return count() > 0 })
		const rotations, lines = 4, 20_000
		n := 1
		for r := range rotations {
			f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex // the moment between copying and cutting off, in which logrotate loses lines
			var writing sync.WaitGroup
			writing.Go(func() {
				for i := range lines {
					mu.Lock()
					fmt.Fprintln(f, n+i)
					mu.Unlock()
				}
			})
			before := n
			await(t, func() bool { return count() > before }) // somewhere in the middle: two rotations at once cannot be told apart
			old := path + "." + strconv.Itoa(r)
			mu.Lock()
			if how == "rename" {
				err = os.Rename(path, old)
			} else {
				copyTruncate(t, path, old)
			}
			mu.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			writing.Wait()
			n += lines
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
		await(t, func() bool { return count() >= n })
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		in.Close()
		seen := make([]bool, n)
		for _, l := range s.taken() {
			i, err := strconv.Atoi(l.Text)
			if err != nil || i >= n || seen[i] {
				t.Fatalf("%s: line %q is repeated or torn", how, l.Text)
			}
			seen[i] = true
		}
		if i := slices.Index(seen, false); i >= 0 {
			t.Fatalf("%s: line %d of %d is lost", how, i, n)
		}
	}
}

// await polls until something holds, for a minute at most.
func await(t *testing.T, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatal("it did not happen within a minute")
		}
	}
}

func TestTailMultiline(t *testing.T) {
	t.Parallel()
	x := tail(t, t.TempDir(), File{Multiline: Multiline{Start: `^\d`}, Labels: map[string]string{"app": "shop"}})
	defer func() { x.stop() }()
	path := x.file.Path
	write(t, path, "1 first\n  at a\n  at b\n2 second\n3 thi")
	x.round(t)
	if got := x.texts(); !slices.Equal(got, []string{"1 first\n  at a\n  at b", "2 second"}) {
		// What the third line begins with ends the second.
		if !slices.Equal(got, []string{"1 first\n  at a\n  at b"}) {
			t.Fatalf("after the first round: %q", got)
		}
	}
	write(t, path, "rd\n\tat c\n")
	x.round(t)
	x.stop() // what is being joined is read again
	x.start(t)
	x.round(t)
	x.round(t)
	want := []string{"1 first\n  at a\n  at b", "2 second", "3 third\n\tat c"}
	if got := x.texts(); !slices.Equal(got, want) {
		t.Errorf("lines %q, want %q", got, want)
	}
	if l := x.sink.taken()[0]; l.Stream.Value("app") != "shop" || l.Stream.Value("filename") != path {
		t.Errorf("the stream is %s", l.Stream)
	}
}

func TestTailBoundsAndOddFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	x := tail(t, dir, File{Path: filepath.Join(dir, "*.log")})
	defer func() { x.stop() }()
	if err := os.Mkdir(filepath.Join(dir, "dir.log"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "a.log"), strings.Repeat("x", 1<<20)+"\nnext\r\n\n\x00\xff\u202e\n")
	x.round(t)
	got := x.sink.taken()
	if len(got) != 3 || len(got[0].Text) != model.MaxLineBytes || !got[0].Cut || got[1].Text != "next" || got[2].Text != "\x00\xff\u202e" {
		t.Errorf("lines: %.60q", x.texts())
	}
	write(t, filepath.Join(dir, "b.log"), "of another\n")
	x.round(t)
	if got := x.texts(); got[len(got)-1] != "of another" {
		t.Errorf("a new file was not found: %.60q", got)
	}
}

func TestTailTimes(t *testing.T) {
	t.Parallel()
	x := tail(t, t.TempDir(), File{})
	defer func() { x.stop() }()
	x.in.cfg.Stamp = func(text string) int64 {
		n, _ := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		return n * int64(time.Second)
	}
	write(t, x.file.Path, "untimed\n1799999000\n at x\n1799999001\n1\n")
	x.round(t)
	var got []int64
	for _, l := range x.sink.taken() {
		got = append(got, l.T/int64(time.Second))
	}
	if want := []int64{1799999000, 1799999000, 1799999001, 1799999001, x.now.Unix()}; !slices.Equal(got, want) {
		t.Errorf("times %v, want %v", got, want)
	}
}

func TestPositionsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, text := range []string{"", "{", `{"version":2}`, `{"version":1,"files":[{"offset":-1}]}`, `{"version":1,"files":[{"head":{"bytes":99999}}]}`} {
		if _, err := decodePositions([]byte(text)); err == nil {
			t.Errorf("%q was read", text)
		}
	}
	x := tail(t, dir, File{})
	write(t, x.file.Path, "a\n")
	x.round(t)
	x.stop()
	if err := os.WriteFile(filepath.Join(dir, "positions", positionsFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	x.start(t)
	x.round(t)
	x.stop()
	if got := x.texts(); !slices.Equal(got, []string{"a", "a"}) {
		t.Errorf("without positions a file is read from its beginning: %q", got)
	}
}

func TestFilesAreChecked(t *testing.T) {
	t.Parallel()
	for _, f := range []File{
		{Path: "rel.log"}, {Path: "/a/[.log"}, {Path: "/a", Multiline: Multiline{Start: "("}},
		{Path: "/a", Multiline: Multiline{Start: strings.Repeat("a", 2000)}}, {Path: "/a", Labels: map[string]string{"": "x"}},
	} {
		if err := (Config{Files: []File{f}}).Validate(); model.KindOf(err) != model.KindInvalid {
			t.Errorf("%+v is allowed: %v", f, err)
		}
	}
	if err := (Config{Files: []File{{Path: "/var/log/*.log", Multiline: Multiline{Start: `^\d`}}}}).Validate(); err != nil {
		t.Error(err)
	}
}

// However a file's bytes come, its lines are the same.
func FuzzFollower(f *testing.F) {
	f.Add([]byte("a\nb\r\n\nc"), uint8(3), true)
	f.Add([]byte("1\n x\n2\n"), uint8(1), true)
	f.Fuzz(func(t *testing.T, data []byte, step uint8, joined bool) {
		spec := &pattern{}
		if joined {
			spec = &pattern{start: regexp.MustCompile(`^\d`)}
		}
		read := func(step int) []text {
			fl := &follower{spec: spec}
			var out []text
			for at := 0; at < len(data); at += step {
				out = fl.split(data[at:min(len(data), at+step)], out, time.Time{})
			}
			return fl.flush(out)
		}
		whole, pieces := read(len(data)+1), read(int(step)+1)
		if !slices.Equal(whole, pieces) {
			t.Fatalf("in pieces of %d:\n got %+v\nwant %+v", int(step)+1, pieces, whole)
		}
		last := int64(0)
		for _, x := range whole {
			if len(x.s) > model.MaxLineBytes || x.end <= last || x.end > int64(len(data)) {
				t.Fatalf("a line of %d bytes ends at %d, after %d", len(x.s), x.end, last)
			}
			last = x.end
		}
	})
}
