package lines

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"aiops/internal/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tester is what tests and their properties have in common.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func open(t tester, dir string) *Store {
	t.Helper()
	s, err := Open(Config{Dir: dir}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	s.now = func() time.Time { return time.Unix(0, 0) } // times in these tests are small
	return s
}

func always(*head) bool { return true }

func app(name string) model.Labels { return model.LabelsFromMap(map[string]string{"app": name}) }

// all pages through everything that f selects.
func all(t tester, s *Store, f model.LogFilter) []model.LogLine {
	t.Helper()
	var got []model.LogLine
	for page := 0; ; page++ {
		lines, next, err := s.Search(context.Background(), f)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, lines...)
		if next == "" {
			return got
		}
		if page > 2000 || next == f.Cursor {
			t.Fatalf("paging does not end: cursor %q, %d lines", next, len(got))
		}
		f.Cursor = next
	}
}

var hostile = []string{
	"", "plain", "<script>alert(1)</script>", "\x1b[31mred\x1b[0m", "\u202egnp.exe", "a\x00b", "\xff\xfe\x80", "ü𝄞",
	strings.Repeat("x", 3000), `{"msg":"a \"b\" c"}`, "\r", "\u2028",
}

// The store against a list: whatever is appended, flushed and read again, a
// search finds what a look at every line finds, in order, page by page.
func TestStoreEqualsAList(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "lines")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		s := open(t, dir)
		defer func() { s.Close() }()
		var want []model.LogLine
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"append", "append", "append", "flush", "reopen"}).Draw(t, "step") {
			case "append":
				batch := rapid.SliceOfN(rapid.Custom(drawLine), 1, 20).Draw(t, "lines")
				if err := s.Append(context.Background(), batch); err != nil {
					t.Fatal(err)
				}
				want = append(want, batch...)
			case "flush":
				if err := s.flush(always); err != nil {
					t.Fatal(err)
				}
			case "reopen":
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = open(t, dir)
			}
		}
		s.scan = rapid.SampledFrom([]int64{1, 500, scanBudget}).Draw(t, "budget")
		for range 3 {
			f := drawFilter(t)
			got, expected := all(t, s, f), find(want, f)
			if len(got) != len(expected) {
				t.Fatalf("%+v finds %d lines, want %d", f, len(got), len(expected))
			}
			for i := range got {
				if !reflect.DeepEqual(got[i], expected[i]) {
					t.Fatalf("line %d of %+v:\n got %+v\nwant %+v", i, f, got[i], expected[i])
				}
			}
		}
		if st := s.Stats(); st.Lines != int64(len(want)) {
			t.Fatalf("the store counts %d lines, want %d", st.Lines, len(want))
		}
	})
}

func drawLine(t *rapid.T) model.LogLine {
	text := rapid.OneOf(rapid.SampledFrom(hostile), rapid.String()).Draw(t, "text")
	message := rapid.SampledFrom([]string{"", text, text[len(text)/2:], text[len(text)/4 : len(text)/2], "beside"}).Draw(t, "message")
	return model.LogLine{
		T:        rapid.OneOf(rapid.Int64Range(0, 20), rapid.Int64Range(0, int64(3*time.Hour)), rapid.SampledFrom([]int64{-1, 1 << 62})).Draw(t, "t"),
		Stream:   app(rapid.SampledFrom([]string{"a", "b", "c\"\x00"}).Draw(t, "app")),
		Text:     text,
		Message:  message,
		Cut:      rapid.Bool().Draw(t, "cut"),
		Level:    rapid.SampledFrom(levels[:]).Draw(t, "level"),
		Logger:   rapid.SampledFrom([]string{"", "x.Y"}).Draw(t, "logger"),
		TraceID:  rapid.SampledFrom([]string{"", "00ff"}).Draw(t, "trace"),
		Template: rapid.SampledFrom([]string{"", "t1", "t2", "t3"}).Draw(t, "template"),
	}
}

func drawFilter(t *rapid.T) model.LogFilter {
	f := model.LogFilter{
		From:        rapid.SampledFrom([]int64{-1 << 62, 0, 5, int64(time.Hour)}).Draw(t, "from"),
		Level:       rapid.SampledFrom([]string{"", "", "error"}).Draw(t, "level"),
		Contains:    rapid.SampledFrom([]string{"", "", "a", "\xff", "\x00"}).Draw(t, "contains"),
		OldestFirst: rapid.Bool().Draw(t, "oldest"),
		Limit:       rapid.SampledFrom([]int{1, 3, 100}).Draw(t, "limit"),
		Templates:   rapid.SampledFrom([][]string{nil, nil, {"t1"}, {"t2", ""}, {"none"}}).Draw(t, "templates"),
	}
	if rapid.Bool().Draw(t, "bounded") {
		f.To = f.From + rapid.Int64Range(0, int64(time.Hour)).Draw(t, "length")
	}
	if rapid.Bool().Draw(t, "selected") {
		f.Selector = model.Selector{{Name: "app", Op: rapid.SampledFrom([]model.MatchOp{model.MatchEqual, model.MatchNotPattern}).Draw(t, "op"), Value: "a"}}
	}
	return f
}

// find is the search as one would write it for a list.
func find(all []model.LogLine, f model.LogFilter) []model.LogLine {
	selects, _ := f.Selector.Compile()
	var out []model.LogLine
	for _, l := range all {
		if l.T >= f.From && (f.To == 0 || l.T < f.To) && selects(l.Stream) && strings.Contains(l.Text, f.Contains) &&
			(f.Level == "" || f.Level == l.Level) && (len(f.Templates) == 0 || slices.Contains(f.Templates, l.Template)) {
			out = append(out, l)
		}
	}
	slices.SortStableFunc(out, func(a, b model.LogLine) int { return cmp.Compare(a.T, b.T) })
	if !f.OldestFirst {
		slices.Reverse(out)
	}
	return out
}

func numbered(from, to int) []model.LogLine {
	var lines []model.LogLine
	for i := from; i < to; i++ {
		lines = append(lines, model.LogLine{T: int64(i), Stream: app("a"), Text: fmt.Sprintf("line %d", i)})
	}
	return lines
}

// A process that ends without a word loses nothing, and a log that was cut at
// any byte loses its end only.
func TestATornLogIsCut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	for i := range 10 {
		if err := s.Append(t.Context(), numbered(i*3, i*3+3)); err != nil {
			t.Fatal(err)
		}
	}
	path := s.head.wal.path
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for cut := 0; cut <= len(whole); cut++ {
		if cut != len(whole) && cut%7 != 0 {
			continue
		}
		data := slices.Clone(whole[:cut])
		if cut%2 == 1 && cut > 0 {
			data[cut-1] ^= 0xff // or damaged
		}
		again := t.TempDir()
		if err := os.WriteFile(filepath.Join(again, filepath.Base(path)), data, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, again)
		got := all(t, s, model.LogFilter{OldestFirst: true})
		want := len(got) - len(got)%3
		if cut == len(whole) && cut%2 == 0 {
			want = 30
		}
		if len(got) != want || !slices.EqualFunc(got, numbered(0, want), func(a, b model.LogLine) bool { return a.Text == b.Text }) {
			t.Fatalf("of a log cut at %d of %d bytes there are %d lines", cut, len(whole), len(got))
		}
		if err := s.Append(t.Context(), numbered(100, 101)); err != nil {
			t.Fatal(err)
		}
		if n := len(all(t, s, model.LogFilter{})); n != want+1 {
			t.Fatalf("after the cut at %d a further line makes %d, want %d", cut, n, want+1)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDamageIsLeftOutAndCounted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	for i := range 2 {
		if err := s.Append(t.Context(), numbered(i*10, i*10+10)); err != nil {
			t.Fatal(err)
		}
		if err := s.flush(always); err != nil {
			t.Fatal(err)
		}
	}
	damage(t, s.segments[0].path, int64(len(segmentMagic))+3)
	if got := all(t, s, model.LogFilter{}); len(got) != 10 || got[0].Text != "line 19" {
		t.Errorf("with a damaged block there are %d lines, want the other 10", len(got))
	}
	if st := s.Stats(); st.Damaged == 0 {
		t.Error("a damaged block was not counted")
	}
	damage(t, s.segments[1].path, s.segments[1].size-12)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	defer s.Close()
	if st := s.Stats(); st.Damaged != 1 || st.Blocks != 1 {
		t.Errorf("after opening again: %+v, want one damaged segment and one usable", st)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*"+damagedSuffix)); len(left) != 1 {
		t.Errorf("moved aside: %v", left)
	}
}

func damage(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x55
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

func TestOldLinesGo(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	defer s.Close()
	now := time.Now()
	s.now = func() time.Time { return now }
	put := func(at time.Time, text string) {
		t.Helper()
		if err := s.Append(t.Context(), []model.LogLine{{T: at.UnixNano(), Stream: app("a"), Text: text}}); err != nil {
			t.Fatal(err)
		}
		if err := s.flush(always); err != nil {
			t.Fatal(err)
		}
	}
	put(now.Add(-23*time.Hour), "old")
	put(now, "new")
	put(now.Add(1000*time.Hour), "ahead")
	now = now.Add(2 * time.Hour)
	s.expire()
	if got := all(t, s, model.LogFilter{OldestFirst: true}); len(got) != 2 || got[0].Text != "new" {
		t.Errorf("two hours later there are %v", got)
	}
	now = now.Add(23 * time.Hour)
	if s.expire(); len(s.segments) != 0 {
		t.Errorf("a day later there are %d segments: a clock that ran ahead keeps lines", len(s.segments))
	}
	if st := s.Stats(); st.Expired != 3 {
		t.Errorf("%d lines are counted as expired, want 3", st.Expired)
	}
	put(now, "first")
	put(now, "second")
	s.cfg.MaxBytes = s.bytes() - 1
	if s.expire(); len(s.segments) != 1 {
		t.Errorf("beyond the bound on bytes there are %d segments, want 1", len(s.segments))
	}
	if got := all(t, s, model.LogFilter{}); len(got) != 1 || got[0].Text != "second" {
		t.Errorf("the bound on bytes left %v", got)
	}
}

// While there is no room nothing is written, and what is there can be read.
func TestAFullDiskRefuses(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	defer s.Close()
	line := func() error {
		return s.Append(t.Context(), []model.LogLine{{T: 1, Stream: app("a"), Text: "x"}})
	}
	if err := line(); err != nil {
		t.Fatal(err)
	}
	full := model.Errorf(model.KindStorageFull, "", "full")
	s.cfg.Room = func() error { return full }
	if err := line(); model.KindOf(err) != model.KindStorageFull {
		t.Errorf("a line on a full disk: %v", err)
	}
	if got := all(t, s, model.LogFilter{}); len(got) != 1 {
		t.Errorf("%d lines, want the one before", len(got))
	}
	s.cfg.Room = func() error { return nil }
	if err := line(); err != nil {
		t.Error(err)
	}
}

func TestTextsAreBounded(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	defer s.Close()
	long := strings.Repeat("y", 1<<20)
	if err := s.Append(t.Context(), []model.LogLine{{Text: long, Message: long, Logger: long, TraceID: long, Template: long}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got := all(t, s, model.LogFilter{})[0]
		if len(got.Text) != model.MaxLineBytes || !got.Cut || len(got.Message) != model.MaxLineBytes || len(got.Logger) != maxLogger || len(got.TraceID) != maxTrace || len(got.Template) != maxTemplate {
			t.Errorf("texts of 1 MB became %d, %d, %d, %d, %d bytes", len(got.Text), len(got.Message), len(got.Logger), len(got.TraceID), len(got.Template))
		}
		if err := s.flush(always); err != nil {
			t.Fatal(err)
		}
	}
}

// One answer is bounded in bytes, and pages go on behind it.
func TestLongLinesArePaged(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	defer s.Close()
	const n = 400
	for i := range n {
		line := model.LogLine{T: int64(i), Stream: app("a"), Text: strings.Repeat(string(rune('a'+i%26)), model.MaxLineBytes)}
		if err := s.Append(t.Context(), []model.LogLine{line}); err != nil {
			t.Fatal(err)
		}
	}
	first, next, err := s.Search(t.Context(), model.LogFilter{Limit: n})
	if err != nil || next == "" || len(first) >= n || len(first) < answerBytes/(model.MaxLineBytes+lineMemory) {
		t.Fatalf("a page of long lines holds %d of them, next %q, %v", len(first), next, err)
	}
	if got := all(t, s, model.LogFilter{Limit: n}); len(got) != n || got[n-1].T != 0 {
		t.Errorf("all pages hold %d lines, want %d", len(got), n)
	}
	if len(s.segments) == 0 {
		t.Error("25 MB of lines made no segment")
	}
}

func TestWrongFiltersAndCursors(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	defer s.Close()
	for _, f := range []model.LogFilter{{Cursor: "x"}, {Cursor: "n1"}, {Cursor: "o1.1"}, {Cursor: "n!.1"}, {Limit: -1}, {Selector: model.Selector{{Name: "a", Op: "~", Value: "b"}}}} {
		if _, _, err := s.Search(t.Context(), f); model.KindOf(err) != model.KindQuery {
			t.Errorf("Search(%+v) = %v, want KindQuery", f, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Append(t.Context(), numbered(0, 10)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Search(ended, model.LogFilter{}); err == nil {
		t.Error("a search whose caller left went on")
	}
}

// Appending, searching, flushing and expiring at the same time.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	errs := make(chan error, 4)
	for w := range 4 {
		go func() {
			for i := range 50 {
				stream := app(fmt.Sprint(w))
				if err := s.Append(ctx, []model.LogLine{{T: int64(i), Stream: stream, Text: "x"}}); err != nil {
					errs <- err
					return
				}
				if i%10 == w {
					if err := s.flush(always); err != nil {
						errs <- err
						return
					}
				}
				got, _, err := s.Search(ctx, model.LogFilter{Selector: model.Selector{{Name: "app", Op: model.MatchEqual, Value: fmt.Sprint(w)}}, Limit: 1000})
				if err == nil && len(got) != i+1 {
					err = fmt.Errorf("writer %d finds %d of its %d lines", w, len(got), i+1)
				}
				if err != nil {
					errs <- err
					return
				}
				s.expire()
				s.Stats()
			}
			errs <- s.sync()
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Append(t.Context(), numbered(0, 1)); model.KindOf(err) != model.KindUnavailable {
		t.Errorf("Append after Close = %v", err)
	}
}
