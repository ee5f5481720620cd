package loki

import (
	"cmp"
	"context"
	"errors"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"aiops/internal/model"
	"aiops/internal/source/outward"
)

// pageLines is how many lines are asked for at once, unless the source allows
// fewer.
const pageLines = 5000

// categories asks Loki to keep what belongs to single lines apart from the
// labels of streams.
var categories = http.Header{"X-Loki-Response-Encoding-Flags": {"categorize-labels"}}

// tooMany is what Loki says when it gives fewer lines at once.
var tooMany = regexp.MustCompile(`max entries limit per query exceeded, limit > max_entries_limit(?:_per_query)? \(\d+ > (\d+)\)`)

// fetch asks for at most limit lines of [from, to), both in nanoseconds, in
// order of time, the first or the last of them. More says that there may be
// further ones.
func (c *Client) fetch(ctx context.Context, query string, from, to int64, limit int, oldestFirst bool) (lines []model.LogLine, more bool, err error) {
	direction := "backward"
	if oldestFirst {
		direction = "forward"
	}
	for {
		n := min(limit, int(c.page.Load()))
		var ans *answer
		err := c.way.Do(ctx, outward.Request{
			Method: http.MethodPost, Path: "/loki/api/v1/query_range", Safe: true, Header: categories,
			Form: url.Values{"query": {query}, "start": {nanos(from)}, "end": {nanos(to)}, "limit": {strconv.Itoa(n)}, "direction": {direction}},
		}, c.linesReader(query, &ans))
		if c.fewer(err, n) {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		c.notePartial(ans.partial)
		c.metrics.cut.Add(float64(ans.cut))
		for i := range ans.lines {
			if c.cfg.Describe != nil {
				c.cfg.Describe(&ans.lines[i])
			}
		}
		slices.SortStableFunc(ans.lines, func(a, b model.LogLine) int { return compareLines(&a, &b, oldestFirst) })
		return ans.lines, len(ans.lines) >= n, nil
	}
}

// fewer learns from an error that the source gives fewer lines at once.
func (c *Client) fewer(err error, asked int) bool {
	var e *model.Error
	if !errors.As(err, &e) || e.Kind != model.KindQuery {
		return false
	}
	m := tooMany.FindStringSubmatch(e.Message)
	if m == nil {
		return false
	}
	n, err := strconv.Atoi(m[1])
	if err != nil || n < 1 || n >= asked {
		return false
	}
	c.page.Store(int64(n))
	return true
}

// compareLines orders lines by time, and those of one time by stream and text,
// so that the order is the same whenever they are asked for.
func compareLines(a, b *model.LogLine, oldestFirst bool) int {
	byTime := cmp.Compare(a.T, b.T)
	if !oldestFirst {
		byTime = -byTime
	}
	if byTime != 0 {
		return byTime
	}
	return cmp.Or(slices.CompareFunc(a.Stream, b.Stream, func(x, y model.Label) int {
		return cmp.Or(strings.Compare(x.Name, y.Name), strings.Compare(x.Value, y.Value))
	}), strings.Compare(a.Text, b.Text))
}

// hashLine tells lines apart by stream, time and text, but for chance.
func hashLine(l *model.LogLine) uint64 {
	var stack [512]byte
	buf := l.Stream.AppendKey(stack[:0])
	buf = append(buf, 0xff)
	buf = strconv.AppendInt(buf, l.T, 36)
	buf = append(buf, 0xff)
	buf = append(buf, l.Text...)
	return xxhash.Sum64(buf)
}

// Lines returns a page of the lines of a LogQL query that f asks for, and the
// cursor of the next one. The selector and the templates of f are the query's
// business and are left alone; Contains becomes a filter of the query, Level is
// looked for in what comes, so that a page may hold fewer lines than asked for.
// A From of 0 is an hour before To, a To of 0 is now.
func (c *Client) Lines(ctx context.Context, query string, f model.LogFilter) ([]model.LogLine, string, error) {
	if err := checkText(query); err != nil {
		return nil, "", err
	}
	if err := f.Validate(); err != nil {
		return nil, "", err
	}
	if f.To == 0 {
		f.To = time.Now().UnixNano()
	}
	if f.From == 0 {
		f.From = f.To - int64(time.Hour)
	}
	if f.Limit == 0 {
		f.Limit = model.DefaultLogLimit
	}
	if f.Contains != "" {
		query += " |= " + Quote(f.Contains)
	}
	at, err := parseCursor(f.Cursor, f.OldestFirst)
	if err != nil {
		return nil, "", err
	}
	if f.Cursor != "" {
		if f.OldestFirst {
			f.From = max(f.From, at.t)
		} else {
			f.To = min(f.To, at.t+1)
		}
	}
	if f.From >= f.To {
		return nil, "", nil
	}
	lines, more, err := c.fetch(ctx, query, f.From, f.To, f.Limit+at.seen, f.OldestFirst)
	if err != nil {
		return nil, "", err
	}
	fresh := lines[min(at.seen, len(lines)):]
	if len(fresh) == 0 && more && len(lines) > 0 {
		// One nanosecond holds more than the source gives at once.
		c.metrics.missed.Inc()
		at = cursor{t: at.t + 1}
		if !f.OldestFirst {
			at.t -= 2
		}
		return nil, at.text(f.OldestFirst), nil
	}
	next := ""
	if more || len(fresh) > f.Limit {
		fresh = fresh[:min(len(fresh), f.Limit)]
		last := fresh[len(fresh)-1].T
		seen := 0
		for i := len(fresh) - 1; i >= 0 && fresh[i].T == last; i-- {
			seen++
		}
		if last == at.t && f.Cursor != "" {
			seen += at.seen
		}
		next = cursor{last, seen}.text(f.OldestFirst)
	}
	if f.Level != "" {
		fresh = slices.DeleteFunc(fresh, func(l model.LogLine) bool { return l.Level != f.Level })
	}
	return fresh, next, nil
}

// cursor is where a page goes on: behind so many lines of one time.
type cursor struct {
	t    int64
	seen int
}

func (c cursor) text(oldestFirst bool) string {
	order := "n"
	if oldestFirst {
		order = "o"
	}
	return order + strconv.FormatInt(c.t, 36) + "." + strconv.Itoa(c.seen)
}

func parseCursor(s string, oldestFirst bool) (cursor, error) {
	if s == "" {
		return cursor{}, nil
	}
	wrong := &model.Error{Kind: model.KindQuery, Subject: model.SubjectLoki, Message: "the cursor is not one of this list in this order",
		Fields: []model.FieldError{{Pointer: "/cursor", Code: "cursor", Detail: "take it from next_cursor of the page before, with the same order"}}}
	rest, ok := strings.CutPrefix(s, map[bool]string{true: "o", false: "n"}[oldestFirst])
	t, seen, found := strings.Cut(rest, ".")
	at, err1 := strconv.ParseInt(t, 36, 64)
	n, err2 := strconv.Atoi(seen)
	if !ok || !found || errors.Join(err1, err2) != nil || n < 0 || n > 10*pageLines || at == math.MaxInt64 {
		return cursor{}, wrong
	}
	return cursor{at, n}, nil
}
