package realtime

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"aiops/internal/model"
)

const (
	tailPage     = 512
	tailRetry    = 250 * time.Millisecond
	tailRetryMax = 5 * time.Second
	// A batch waits this long at most for the writes of the one before. Under
	// load that makes few large frames of many small ones.
	batchWait = time.Second
)

// recent are the last events, for clients that resume. It has no lock of its
// own.
type recent struct {
	limit  int
	events []*event
	bytes  int
}

func (r *recent) add(e *event) {
	r.events = append(r.events, e)
	r.bytes += len(e.json)
	drop := 0
	for len(r.events)-drop > r.limit || r.bytes > recentBytes && len(r.events)-drop > 1 {
		r.bytes -= len(r.events[drop].json)
		drop++
	}
	if drop > 0 {
		clear(r.events[:drop])
		r.events = r.events[drop:]
	}
}

// after returns the events after number since, and false when some of them
// are no longer here.
func (r *recent) after(since int64) ([]*event, bool) {
	if len(r.events) == 0 || r.events[0].id > since+1 {
		return nil, false
	}
	i, _ := slices.BinarySearchFunc(r.events, since+1, func(e *event, id int64) int { return int(min(1, max(-1, e.id-id))) })
	return r.events[i:], true
}

// follow reads the log from its end on and fans out what comes, until ctx
// ends. The signal says when to look; the poll is for signals that got lost.
func (g *Gateway) follow(ctx context.Context) {
	signal, stop := g.store.EventSignal()
	defer stop()
	retry := tailRetry
	poll := time.NewTicker(g.config.Poll.Std())
	defer poll.Stop()
	for ctx.Err() == nil {
		err := g.step(ctx)
		if err == nil {
			if retry != tailRetry {
				g.log.Info("the log of events is read again")
			}
			retry = tailRetry
			select {
			case <-ctx.Done():
			case <-signal:
			case <-poll.C:
			}
			continue
		}
		if ctx.Err() != nil {
			return
		}
		g.metrics.failures.Inc()
		if retry == tailRetry {
			g.log.Warn("the log of events cannot be read; clients get nothing new meanwhile", "err", err)
		}
		retry = min(2*retry, tailRetryMax)
		sleep(ctx, retry)
	}
}

// step fans out everything that is new. The first one only finds its place.
func (g *Gateway) step(ctx context.Context) error {
	if !g.running() {
		return g.begin(ctx)
	}
	for {
		page, err := g.store.Events(ctx, g.position.Load(), nil, tailPage)
		if err != nil || len(page) == 0 {
			return err
		}
		events, err := encodeAll(page)
		if err != nil {
			return err
		}
		g.metrics.events.Add(float64(len(events)))
		if events[0].id != g.position.Load()+1 {
			g.lost(events[0].id)
		}
		for len(events) > 0 {
			n := frameLength(events)
			g.fanOut(events[:n])
			events = events[n:]
			g.settle(ctx)
		}
		if len(page) < tailPage {
			return nil
		}
	}
}

func encodeAll(page []model.Event) ([]*event, error) {
	events := make([]*event, len(page))
	for i, e := range page {
		var err error
		if events[i], err = encode(e); err != nil {
			return nil, err
		}
	}
	return events, nil
}

// begin takes the end of the log as the place to go on from, and keeps the
// events before it for clients that resume.
func (g *Gateway) begin(ctx context.Context) error {
	last, err := g.store.LastEventID(ctx)
	if err != nil {
		return err
	}
	from := max(0, last-int64(g.config.Recent))
	var events []*event
	for from < last {
		page, err := g.store.Events(ctx, from, nil, int(min(tailPage, last-from)))
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		more, err := encodeAll(page)
		if err != nil {
			return err
		}
		events = append(events, more...)
		from = more[len(more)-1].id
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range events {
		g.recent.add(e)
	}
	g.position.Store(max(last, from))
	close(g.started)
	return nil
}

// fanOut gives a batch of at most frameEvents events to everybody who
// subscribed. Clients that get the same events of it share a frame.
func (g *Gateway) fanOut(batch []*event) {
	frames := make(map[uint64]*frame, 4)
	g.mu.Lock()
	defer g.mu.Unlock()
	touched := g.touched[:0]
	for i, e := range batch {
		bit, right := uint64(1)<<i, rightFor(e.topic)
		g.topics.each(e.topic, func(m *member) {
			if c := m.client; m.after < e.id && !c.replaying && c.holder.rights.Load()&right != 0 {
				if c.mask == 0 {
					touched = append(touched, c)
				}
				c.mask |= bit
			}
		})
		g.recent.add(e)
	}
	for _, c := range touched {
		f := frames[c.mask]
		if f == nil {
			f = eventFrame(pick(batch, c.mask))
			frames[c.mask] = f
		}
		c.mask = 0
		c.push(f)
	}
	clear(touched)
	g.touched = touched[:0]
	g.position.Store(batch[len(batch)-1].id)
}

func pick(batch []*event, mask uint64) []*event {
	var out []*event
	for i, e := range batch {
		if mask&(1<<i) != 0 {
			out = append(out, e)
		}
	}
	return out
}

// settle waits until most clients have got the batch, so that what comes
// meanwhile makes one frame rather than many. Slow clients are not waited for:
// they are not in ready.
func (g *Gateway) settle(ctx context.Context) {
	if len(g.ready) == 0 {
		return
	}
	deadline := time.Now().Add(batchWait)
	for len(g.ready) > 0 && time.Now().Before(deadline) && sleep(ctx, time.Millisecond) {
	}
}

// lost tells everybody that events vanished from the log before they were
// read, which happens when this process was halted for longer than the log is
// kept.
func (g *Gateway) lost(oldest int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.log.Warn("events were deleted before they were read; clients have to reload", "after", g.position.Load(), "oldest", oldest)
	g.position.Store(oldest - 1)
	g.recent.events, g.recent.bytes = nil, 0
	for _, c := range g.clients {
		lacks := func(s subscription) bool { return g.topics.member(s).after < oldest-1 }
		if !c.replaying && slices.ContainsFunc(c.subs, lacks) {
			g.reset(c, oldest)
		}
	}
}

// Watched returns the keys of the series of a detector that somebody follows.
func (g *Gateway) Watched(detectorID string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	watched := g.topics.live[detectorID]
	if len(watched) == 0 {
		return nil
	}
	out := make([]string, 0, len(watched))
	for series := range watched {
		out = append(out, series)
	}
	return out
}

// Followed returns the keys of the series that somebody follows, by detector, at
// most limit of them.
func (g *Gateway) Followed(limit int) map[string][]string {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make(map[string][]string, min(limit, len(g.topics.live)))
	for detector, series := range g.topics.live {
		for key := range series {
			if limit--; limit < 0 {
				return out
			}
			out[detector] = append(out[detector], key)
		}
	}
	return out
}

// Publish sends a point to the subscribers of topic, which lies below series.
// It is not stored and may be replaced by a newer one before a slow client
// gets it. payload is valid JSON of at most 16 KiB and must not change
// afterwards.
func (g *Gateway) Publish(topic string, payload []byte) error {
	if reason := checkTopic(topic); reason != "" {
		return model.Errorf(model.KindInvalid, "", "%s", reason)
	}
	if !slices.Contains(liveRoots, root(topic)) {
		return model.Errorf(model.KindInvalid, "", "topic %q is of stored events; append one to the log instead", clip(topic))
	}
	if len(payload) > maxLiveBytes {
		return model.Errorf(model.KindInvalid, "", "a live point of %d bytes is too large; the limit is %d", len(payload), maxLiveBytes)
	}
	if !json.Valid(payload) {
		return model.Errorf(model.KindInvalid, "", "a live point is not valid JSON")
	}
	f := pointFrame(topic, payload)
	g.mu.Lock()
	defer g.mu.Unlock()
	touched := g.touched[:0]
	right := rightFor(topic)
	g.topics.each(topic, func(m *member) {
		if m.client.mask == 0 && m.client.holder.rights.Load()&right != 0 {
			m.client.mask = 1
			touched = append(touched, m.client)
		}
	})
	for _, c := range touched {
		c.mask = 0
		c.push(f)
	}
	clear(touched)
	g.touched = touched[:0]
	return nil
}
