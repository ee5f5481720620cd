package loki

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"aiops/internal/model"
	"aiops/internal/source"
)

const (
	overlapLeast    = 10 * time.Second // what a query asks for once more, for lines that came late
	aheadMost       = time.Minute      // how far ahead of our clock lines may be
	rememberedMost  = 1 << 20          // lines that are remembered to tell repeated ones
	rememberedLeast = 10_000
	reconnectLeast  = time.Second
	reconnectMost   = 30 * time.Second
	sinkLeast       = 250 * time.Millisecond
	sinkMost        = 30 * time.Second
	handshakeTime   = 10 * time.Second
	tailQuiet       = 60 * time.Second // a tail of which nothing is heard, not even a ping, is dead
	tailPing        = 15 * time.Second
	tailMessage     = 64 << 20 // bytes
	tailBuffer      = 64       // messages that wait while a gap is filled
	deliverMost     = 5000     // lines handed on at once
)

// Follow hands on every line of a LogQL query for lines, once, from a time on:
// those that are there already page by page, then those that come, by the live
// tail. After each break of the tail the gap is filled by queries, and lines that
// come by both ways are handed on once; when there is no tail, queries every few
// seconds take its place. The lines of a stream are in order of time, but for
// those that reach the source late: they are handed on when they are there, if
// they are not older than the newest line by more than LateData, and at least 10
// s, when the tail breaks. While the sink blocks or refuses, nothing more is read.
//
// It blocks until ctx ends, or until the source says that the query is wrong,
// which is the error; every other failure is waited out.
func (c *Client) Follow(ctx context.Context, query string, from time.Time, sink source.LineSink) error {
	if err := checkText(query); err != nil {
		return err
	}
	f := &following{c: c, query: query, sink: sink, page: pageLines, newest: from.UnixNano(), begin: from.UnixNano(), seen: map[uint64]int64{}}
	pause := reconnectLeast
	for {
		began := time.Now()
		err := f.once(ctx)
		switch kind := model.KindOf(err); {
		case ctx.Err() != nil:
			return ctx.Err()
		case kind == model.KindQuery:
			return err
		}
		if time.Since(began) > reconnectMost {
			pause = reconnectLeast
		}
		c.log.Debug("a followed query is connected again", "err", err)
		var e *model.Error
		wait := rand.N(pause) + 1
		if errors.As(err, &e) && e.RetryAfter > 0 {
			wait += e.RetryAfter
		}
		if !sleep(ctx, wait) {
			return ctx.Err()
		}
		pause = min(2*pause, reconnectMost)
		if f.poll {
			pause = min(pause, 2*reconnectLeast) // queries take the tail's place
		}
	}
}

// sleep waits, and reports false when ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// following is one followed query.
type following struct {
	c      *Client
	query  string
	sink   source.LineSink
	begin  int64            // nothing older is handed on
	newest int64            // time of the newest line that was handed on, or now if that is earlier
	seen   map[uint64]int64 // lines handed on lately, with their times
	poll   bool             // there is no tail
	page   int              // lines that are asked for at once: fewer while answers are too large

	forgetAt int // how many are remembered when it is time to forget some
}

func (f *following) overlap() int64 {
	return int64(max(overlapLeast, f.c.cfg.Source.LateData))
}

// once connects the tail, fills the gap before it, and hands on what the tail
// brings until it breaks.
func (f *following) once(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The past is read before the tail is opened: a long one would make its
	// buffer run over.
	if err := f.fill(ctx, f.newest-f.overlap()); err != nil {
		return err
	}
	tail, err := f.c.openTail(ctx, f.query, f.newest)
	if err != nil {
		f.poll = true
		return err
	}
	defer tail.close()
	f.poll = false
	// And once more for what came between the two.
	if err := f.fill(ctx, f.newest-f.overlap()); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m, ok := <-tail.messages:
			if !ok {
				return tail.err
			}
			if m.dropped != 0 {
				// The source could not keep up with us and says since when. What it
				// left out comes first, so that streams stay in order.
				if err := f.fill(ctx, m.dropped); err != nil {
					return err
				}
			}
			if err := f.hand(ctx, m.lines); err != nil {
				return err
			}
		}
	}
}

// fill hands on all lines from a time until now, page by page.
func (f *following) fill(ctx context.Context, from int64) error {
	from = max(from, f.begin)
	for {
		to := time.Now().Add(aheadMost).UnixNano()
		if from >= to {
			return nil
		}
		end := min(to, from+int64(longestPart))
		lines, more, err := f.c.fetch(ctx, f.query, from, end, f.page, true)
		if errors.Is(err, source.ErrTooManyBytes) && f.page > 1 {
			f.page = max(1, min(f.page, int(f.c.page.Load()))/4)
			continue
		}
		if err != nil {
			return err
		}
		f.page = min(2*f.page, pageLines) // lines may be shorter again
		if err := f.hand(ctx, lines); err != nil {
			return err
		}
		switch {
		case !more && end >= to:
			return nil
		case !more:
			from = end
		case lines[len(lines)-1].T == from:
			// One nanosecond holds more than the source gives at once.
			f.c.metrics.missed.Inc()
			f.c.tracker.Partial("one nanosecond holds more lines than it gives at once; the rest was not read")
			from++
		default:
			// Lines of the last time may be left; those that came are known.
			from = lines[len(lines)-1].T
		}
	}
}

// hand hands on those lines that were not handed on before.
func (f *following) hand(ctx context.Context, lines []model.LogLine) error {
	fresh := lines[:0]
	keys := make([]uint64, 0, len(lines))
	inside := map[uint64]bool{}
	for i := range lines {
		key := hashLine(&lines[i])
		if _, known := f.seen[key]; known || inside[key] {
			f.c.metrics.repeated.Inc()
			continue
		}
		if lines[i].T < f.begin {
			continue
		}
		inside[key] = true
		keys = append(keys, key)
		fresh = append(fresh, lines[i])
	}
	for len(fresh) > 0 {
		n := min(len(fresh), deliverMost)
		if err := f.deliver(ctx, fresh[:n]); err != nil {
			return err
		}
		// What one sender with a clock that is ahead says must not hide what the
		// others say after it: a gap is filled from the newest time on.
		now := time.Now().UnixNano()
		for i, key := range keys[:n] {
			f.seen[key] = fresh[i].T
			f.newest = max(f.newest, min(fresh[i].T, now))
		}
		f.c.metrics.lines.Add(float64(n))
		fresh, keys = fresh[n:], keys[n:]
	}
	f.forget()
	return nil
}

// deliver gives lines to the sink until it takes them.
func (f *following) deliver(ctx context.Context, lines []model.LogLine) error {
	pause := sinkLeast
	for {
		// The sink owns what it gets, also when it refuses.
		err := f.sink(ctx, f.c.cfg.Source.Name, slices.Clone(lines))
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var e *model.Error
		wait := pause
		if errors.As(err, &e) && e.RetryAfter > 0 {
			wait = min(e.RetryAfter, sinkMost)
		}
		f.c.log.Debug("lines were refused and are kept", "lines", len(lines), "err", err)
		if !sleep(ctx, wait) {
			return ctx.Err()
		}
		pause = min(2*pause, sinkMost)
	}
}

// forget leaves out what can no longer be repeated: what is older than the
// time from which a query would ask again.
func (f *following) forget() {
	if len(f.seen) < max(f.forgetAt, rememberedLeast) {
		return
	}
	defer func() { f.forgetAt = min(2*len(f.seen), rememberedMost) }()
	limit := f.newest - 2*f.overlap()
	for key, t := range f.seen {
		if t < limit {
			delete(f.seen, key)
		}
	}
	if len(f.seen) < rememberedMost {
		return
	}
	// A flood: the older half goes, so that some lines may be repeated after a
	// break.
	times := make([]int64, 0, len(f.seen))
	for _, t := range f.seen {
		times = append(times, t)
	}
	slices.Sort(times)
	for key, t := range f.seen {
		if t < times[len(times)/2] {
			delete(f.seen, key)
		}
	}
}

// message is what one message of the tail brings.
type message struct {
	lines   []model.LogLine
	dropped int64 // since when the source left lines out; 0 when it did not
}

// tail is an open live tail. Its messages end when it breaks; then err says why.
type tail struct {
	messages chan message
	err      error
	cancel   context.CancelFunc
	done     chan struct{}
}

func (t *tail) close() {
	t.cancel()
	<-t.done
}

// openTail connects the live tail for lines from a time on.
func (c *Client) openTail(ctx context.Context, query string, from int64) (*tail, error) {
	way, err := c.way.Socket("/loki/api/v1/tail", url.Values{"query": {query}, "start": {nanos(from)}, "limit": {strconv.Itoa(pageLines)}})
	if err != nil {
		return nil, err
	}
	for name, values := range categories {
		way.Header[name] = values
	}
	dialer := websocket.Dialer{
		NetDialContext: way.Dial, TLSClientConfig: way.TLS, HandshakeTimeout: handshakeTime,
		ReadBufferSize: 16 << 10, WriteBufferSize: 512,
	}
	bounded, stop := context.WithTimeout(ctx, handshakeTime)
	defer stop()
	conn, resp, err := dialer.DialContext(bounded, way.URL, way.Header) //nolint:bodyclose // nothing to close: the library has read it
	if err != nil {
		return nil, c.tailFailure(ctx, resp, err, query)
	}
	c.metrics.connected.Inc()
	c.metrics.tails.Inc()
	ctx, cancel := context.WithCancel(ctx)
	t := &tail{messages: make(chan message, tailBuffer), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		defer c.metrics.tails.Dec()
		t.err = c.readTail(ctx, conn, t.messages)
		close(t.messages)
	}()
	return t, nil
}

// tailFailure explains why the tail could not be opened.
func (c *Client) tailFailure(ctx context.Context, resp *http.Response, err error, query string) error {
	if resp != nil && resp.StatusCode == http.StatusBadRequest {
		if said := saidBy(resp); said != "" && lokiPlace.MatchString(said) {
			return queryError(c.way.Clean(said), query)
		}
	}
	if resp != nil && resp.StatusCode < 300 {
		resp = nil // an upgrade that went wrong
	}
	return c.way.SocketFailure(ctx, resp, err)
}

// readTail reads messages until the connection breaks or ctx ends. It closes
// the connection.
func (c *Client) readTail(ctx context.Context, conn *websocket.Conn, messages chan<- message) error {
	broken := make(chan struct{})
	var keeping sync.WaitGroup
	keeping.Go(func() { // pings, and the end of ctx
		ticker := time.NewTicker(tailPing)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
				_ = conn.Close()
				return
			case <-broken:
				_ = conn.Close()
				return
			case <-ticker.C:
				_ = conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second))
			}
		}
	})
	defer func() { close(broken); keeping.Wait() }()
	alive := func() { _ = conn.SetReadDeadline(time.Now().Add(tailQuiet)) }
	conn.SetReadLimit(tailMessage)
	conn.SetPongHandler(func(string) error { alive(); return nil })
	answerPing := conn.PingHandler()
	conn.SetPingHandler(func(data string) error { alive(); return answerPing(data) })
	for {
		alive()
		_, r, err := conn.NextReader()
		if err != nil {
			return model.WrapError(model.KindSourceUnavailable, model.SubjectLoki, err, "the live tail broke")
		}
		m, cut, err := decodeTail(source.NewScanner(r))
		if err != nil {
			return model.WrapError(model.KindSourceUnavailable, model.SubjectLoki, err, "the live tail brought what is not Loki's")
		}
		c.metrics.cut.Add(float64(cut))
		for i := range m.lines {
			if c.cfg.Describe != nil {
				c.cfg.Describe(&m.lines[i])
			}
		}
		select {
		case messages <- m:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// decodeTail reads {"streams": […], "dropped_entries": [{"timestamp": …}, …]}.
func decodeTail(in *source.Scanner) (message, int, error) {
	a := &answer{}
	var m message
	err := in.Object(func(name []byte) error {
		switch string(name) {
		case "streams":
			return a.streams(in)
		case "dropped_entries":
			if null, err := in.IsNull(); null || err != nil {
				return err
			}
			return in.Array(func() error { return m.droppedEntry(in) })
		}
		return in.Skip()
	})
	if err == nil {
		err = in.Finish()
	}
	m.lines = a.lines
	slices.SortStableFunc(m.lines, func(a, b model.LogLine) int { return cmp.Compare(a.T, b.T) })
	return m, a.cut, err
}

func (m *message) droppedEntry(in *source.Scanner) error {
	return in.Object(func(name []byte) error {
		if string(name) != "timestamp" {
			return in.Skip()
		}
		c, err := in.Peek()
		if err != nil {
			return err
		}
		var t string
		if c == '"' {
			t, err = text(in, 64)
		} else {
			var n []byte
			n, err = in.Number()
			t = string(n)
		}
		if err != nil {
			return err
		}
		at, err := strconv.ParseInt(t, 10, 64)
		if err != nil {
			var stamp time.Time
			if stamp, err = time.Parse(time.RFC3339Nano, t); err != nil {
				return source.SyntaxError("a time that is none")
			}
			at = stamp.UnixNano()
		}
		if m.dropped == 0 || at < m.dropped {
			m.dropped = at
		}
		return nil
	})
}
