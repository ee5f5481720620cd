package loki

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"pgregory.net/rapid"

	"aiops/internal/model"
	"aiops/internal/source"
)

func fuzzLines(t *testing.T, data []byte) {
	a, err := decodeLines(source.NewScanner(bytes.NewReader(data)))
	if err != nil {
		return
	}
	for _, l := range a.lines {
		if len(l.Text) > model.MaxLineBytes || len(l.Stream) > mostLabels || len(l.TraceID) > maxMeta {
			t.Fatalf("beyond the bounds: %+v", l)
		}
	}
}

func fuzzTail(t *testing.T, data []byte) {
	m, _, err := decodeTail(source.NewScanner(bytes.NewReader(data)))
	if err == nil && !slices.IsSortedFunc(m.lines, func(a, b model.LogLine) int { return cmp.Compare(a.T, b.T) }) {
		t.Fatal("lines out of order")
	}
}

// entry is a line in the fake.
type entry struct {
	t    int64
	app  string
	text string
}

// fake is a Loki that keeps lines in memory: query_range with both directions,
// a limit and an end that is not included, and the live tail.
type fake struct {
	*httptest.Server
	limit int // the most lines of one answer

	mu      sync.Mutex
	lines   []entry
	tails   map[chan entry]*websocket.Conn
	refuse  bool // everything fails
	noTail  bool
	dropped int // lines that the next tail message leaves out, telling so
	queries atomic.Int64
}

func newFake(t *testing.T) *fake {
	f := &fake{limit: 5000, tails: map[chan entry]*websocket.Conn{}}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(func() {
		f.breakTails()
		f.Close()
	})
	return f
}

// add takes lines in and shows them to the tails.
func (f *fake) add(lines ...entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines = append(f.lines, lines...)
	for ch := range f.tails {
		for _, l := range lines {
			select {
			case ch <- l:
			default:
			}
		}
	}
}

func (f *fake) breakTails() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, conn := range f.tails {
		_ = conn.Close()
	}
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	refuse, noTail := f.refuse, f.noTail
	f.mu.Unlock()
	switch {
	case refuse:
		http.Error(w, "broken", 500)
	case r.URL.Path == "/loki/api/v1/query_range":
		f.queries.Add(1)
		f.queryRange(w, r)
	case r.URL.Path == "/loki/api/v1/tail" && !noTail:
		f.tail(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (f *fake) queryRange(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("query") == "wrong" {
		http.Error(w, "parse error at line 1, col 1: syntax error", 400)
		return
	}
	start, _ := strconv.ParseInt(r.FormValue("start"), 10, 64)
	end, _ := strconv.ParseInt(r.FormValue("end"), 10, 64)
	limit, _ := strconv.Atoi(r.FormValue("limit"))
	if limit > f.limit {
		http.Error(w, fmt.Sprintf("max entries limit per query exceeded, limit > max_entries_limit_per_query (%d > %d)", limit, f.limit), 400)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []entry
	for _, l := range f.lines {
		if l.t >= start && l.t < end {
			found = append(found, l)
		}
	}
	slices.SortStableFunc(found, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.t, b.t), cmp.Compare(a.app, b.app), cmp.Compare(a.text, b.text))
	})
	if r.FormValue("direction") == "backward" {
		// As compareLines has it: the newest first, those of one time by stream and text.
		slices.SortStableFunc(found, func(a, b entry) int { return cmp.Compare(b.t, a.t) })
	}
	sendJSON(w, 200, `{"status":"success","data":{"resultType":"streams","result":`+streams(found[:min(len(found), limit)])+`}}`)
}

// streams writes lines as Loki does, by stream.
func streams(lines []entry) string {
	by := map[string][]string{}
	for _, l := range lines {
		by[l.app] = append(by[l.app], fmt.Sprintf(`["%d",%q]`, l.t, l.text))
	}
	var out []string
	for app, values := range by {
		out = append(out, fmt.Sprintf(`{"stream":{"app":%q},"values":[%s]}`, app, strings.Join(values, ",")))
	}
	return "[" + strings.Join(out, ",") + "]"
}

func (f *fake) tail(w http.ResponseWriter, r *http.Request) {
	start, _ := strconv.ParseInt(r.FormValue("start"), 10, 64)
	up := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer conn.Close()
	ch := make(chan entry, 100_000)
	f.mu.Lock()
	for _, l := range f.lines {
		if l.t >= start {
			ch <- l
		}
	}
	f.tails[ch] = conn
	f.mu.Unlock()
	defer f.set(func() { delete(f.tails, ch) })
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			if _, _, err := conn.ReadMessage(); err != nil {
				return
			}
		}
	}()
	for {
		var some []entry
		select {
		case l := <-ch:
			some = append(some, l)
		case <-gone:
			return
		}
		for len(ch) > 0 && len(some) < 100 {
			some = append(some, <-ch)
		}
		body := ""
		f.mu.Lock()
		if f.dropped > 0 {
			f.dropped--
			body = fmt.Sprintf(`,"dropped_entries":[{"labels":{"app":"x"},"timestamp":"%d"}]`, some[0].t)
			some = some[1:]
		}
		f.mu.Unlock()
		if conn.WriteMessage(websocket.TextMessage, []byte(`{"streams":`+streams(some)+body+`}`)) != nil {
			return
		}
	}
}

// taker is a sink that keeps what it is given, and refuses when it is told to.
type taker struct {
	mu     sync.Mutex
	lines  []model.LogLine
	refuse int
}

func (s *taker) take(_ context.Context, _ string, lines []model.LogLine) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse > 0 {
		s.refuse--
		clear(lines) // the sink owns what it gets
		return errors.New("not now")
	}
	s.lines = append(s.lines, lines...)
	return nil
}

func (s *taker) count() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.lines) }

// await polls until something holds, for a minute at most.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// Every line once, and in order per stream: the past in pages, the present by
// the tail, through breaks, an outage, lines that the source drops, a sink that
// refuses, and without a tail.
func TestFollow(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.limit = 700 // fewer than are asked for
	now := time.Now().UnixNano()
	n := 0
	next := func(count int) (out []entry) {
		for range count {
			n++
			// Several lines share a time, and texts repeat at other times.
			out = append(out, entry{now + int64(n/3), fmt.Sprint("app", n%3), fmt.Sprint("line ", n)})
		}
		return out
	}
	now -= int64(time.Hour)
	f.add(next(3000)...)
	now += int64(time.Hour)
	f.add(next(100)...)
	c := connect(t, f.URL, nil)
	s := &taker{refuse: 2}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Follow(ctx, `{app=~".+"}`, time.Unix(0, now-int64(2*time.Hour)), s.take) }()
	tailing := func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.tails) == 1 }
	await(t, "the past", func() bool { return s.count() >= n && tailing() })
	for range 20 {
		f.add(next(rand.IntN(50) + 1)...)
	}
	await(t, "the present", func() bool { return s.count() >= n })
	f.breakTails()
	f.add(next(2000)...)
	await(t, "a break", func() bool { return s.count() >= n && tailing() })
	f.set(func() { f.dropped = 1 })
	f.add(next(200)...)
	await(t, "dropped entries", func() bool { return s.count() >= n })
	f.set(func() { f.refuse = true })
	f.breakTails()
	f.add(next(500)...)
	await(t, "an outage", func() bool { return !c.Health().State.Usable() || c.Details()["breaker"] == "open" })
	f.set(func() { f.refuse, f.noTail = false, true })
	await(t, "the end of an outage, without a tail", func() bool { _ = c.Check(ctx); return s.count() >= n })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Follow = %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[string]bool{}
	newest := map[string]int64{}
	for _, l := range s.lines {
		if seen[l.Text] {
			t.Fatalf("%q came twice", l.Text)
		}
		seen[l.Text] = true
		app := l.Stream.Value("app")
		if l.T < newest[app] {
			t.Fatalf("%q of %s came after a newer line", l.Text, app)
		}
		newest[app] = l.T
	}
	if len(seen) != n {
		t.Fatalf("%d lines came of %d", len(seen), n)
	}
	if got := c.page.Load(); got != 700 {
		t.Errorf("pages of %d lines are asked for, want 700", got)
	}
}

func TestFollowEndsWithAWrongQuery(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	err := connect(t, f.URL, nil).Follow(t.Context(), "wrong", time.Now(), new(taker).take)
	requireError(t, err, model.KindQuery, "line 1, column 1")
}

// More lines at one nanosecond than the source gives at once: those that can
// be read are, and the rest is told, without an endless loop.
func TestMoreAtOneTimeThanAPage(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.limit, f.noTail = 10, true
	now := time.Now().UnixNano()
	for i := range 25 {
		f.add(entry{now, "a", fmt.Sprint("same ", i)})
	}
	f.add(entry{now + 1, "a", "after"})
	c := connect(t, f.URL, nil)
	s := &taker{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Follow(ctx, `{a="b"}`, time.Unix(0, now-1), s.take) }()
	await(t, "the line after", func() bool { return s.count() >= 11 })
	cancel()
	<-done
	if s.lines[len(s.lines)-1].Text != "after" {
		t.Errorf("the last line is %q", s.lines[len(s.lines)-1].Text)
	}
	if c.Health().State != model.SourceDegraded {
		t.Errorf("health %v, want degraded", c.Health())
	}
}

// Pages put together are the whole, in both orders, however lines lie.
func TestLinesInPages(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := connect(t, f.URL, nil)
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) entry {
			return entry{rapid.Int64Range(1000, 1008).Draw(t, "t"), rapid.SampledFrom([]string{"a", "b"}).Draw(t, "app"), rapid.StringMatching(`[a-z]{1,2}`).Draw(t, "text")}
		}), 0, 40, rapid.ID).Draw(t, "lines")
		f.set(func() { f.lines = all })
		oldest := rapid.Bool().Draw(t, "oldest first")
		filter := model.LogFilter{From: 1001, To: 1008, Limit: rapid.IntRange(1, 12).Draw(t, "limit"), OldestFirst: oldest}
		var got []string
		for pages := 0; ; pages++ {
			lines, next, err := c.Lines(context.Background(), `{a="b"}`, filter)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range lines {
				got = append(got, fmt.Sprint(l.T, l.Stream.Value("app"), l.Text))
			}
			if next == "" {
				break
			}
			if pages > 100 {
				t.Fatal("pages without end")
			}
			filter.Cursor = next
		}
		var want []string
		slices.SortFunc(all, func(a, b entry) int {
			byTime := cmp.Compare(a.t, b.t)
			if !oldest {
				byTime = -byTime
			}
			return cmp.Or(byTime, cmp.Compare(a.app, b.app), cmp.Compare(a.text, b.text))
		})
		for _, l := range all {
			if l.t >= 1001 && l.t < 1008 {
				want = append(want, fmt.Sprint(l.t, l.app, l.text))
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("pages of %d:\n got %v\nwant %v", filter.Limit, got, want)
		}
	})
	for _, cur := range []string{"x", "n1", "o1.1", "n1.-1", "n!.1"} {
		if _, _, err := c.Lines(t.Context(), `{a="b"}`, model.LogFilter{From: 1, To: 2, Cursor: cur}); model.KindOf(err) != model.KindQuery {
			t.Errorf("the cursor %q gives %v, want KindQuery", cur, err)
		}
	}
}
