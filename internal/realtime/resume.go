package realtime

import (
	"context"
	"fmt"
	"slices"
)

const (
	replayPage  = 256
	maxLater    = 16
	fromNothing = "nothing_missed"
	fromMemory  = "memory"
	fromStore   = "store"
)

// subscribe lets c have topics. With since nil it gets what happens from now
// on, otherwise everything after that event. What it missed comes from memory
// in one go or, when that is too little or too much at once, page by page from
// the log.
func (g *Gateway) subscribe(ctx context.Context, c *client, topics []string, since *int64) {
	known := true
	if since != nil && *since > g.position.Load() {
		// Another node may have told this client of events that this one has
		// not seen yet; a number that the log does not know is of another log.
		last, err := g.store.LastEventID(ctx)
		known = err != nil || *since <= last
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.subscribeLocked(c, topics, since, known)
}

func (g *Gateway) subscribeLocked(c *client, topics []string, since *int64, known bool) {
	if c.left {
		return
	}
	if c.replaying {
		g.postpone(c, func() { g.subscribeLocked(c, topics, since, known) })
		return
	}
	if i := slices.IndexFunc(topics, func(t string) bool { return !c.may(t) }); i >= 0 {
		c.push(problem("forbidden", "your role may not follow %s", clip(topics[i])))
		return
	}
	position := g.position.Load()
	from := position
	if since != nil {
		from = *since
	}
	fresh, ok := g.place(c, topics, since != nil)
	if !ok {
		return
	}
	if !known {
		g.admitTopics(c, fresh, position, position)
		g.subscribed(c, topics, position)
		g.reset(c, 0)
		return
	}
	g.subscribed(c, topics, from)
	if from >= position {
		if since != nil {
			g.metrics.resumes.WithLabelValues(fromNothing).Inc()
		}
		g.admitTopics(c, fresh, from, from)
		return
	}
	for _, s := range c.subs { // what it has is up to here
		m := g.topics.member(s)
		m.after = max(m.after, position)
	}
	if missed, ok := g.missed(c, fresh, from); ok {
		g.metrics.resumes.WithLabelValues(fromMemory).Inc()
		for _, f := range missed {
			c.push(f)
		}
		g.admitTopics(c, fresh, from, position)
		return
	}
	g.metrics.resumes.WithLabelValues(fromStore).Inc()
	g.admitTopics(c, fresh, from, from)
	c.replaying = true
	room := make(chan struct{}, 1)
	c.mu.Lock()
	c.room = room
	c.mu.Unlock()
	g.streams.Go(func() { g.replay(g.ctx, c, from, room) })
}

// place checks that c may have topics and takes out those that it has already
// when they are to be replayed. It returns those to admit, and false after
// telling c why not.
func (g *Gateway) place(c *client, topics []string, again bool) ([]string, bool) {
	union := append(c.topics(), topics...)
	slices.Sort(union)
	if len(slices.Compact(union)) > g.config.MaxTopics {
		c.push(problem("too_many_topics", "a client may subscribe to %d topics; unsubscribe from some, or use a parent such as anomalies", g.config.MaxTopics))
		return nil, false
	}
	fresh := make([]string, 0, len(topics))
	for _, t := range topics {
		if slices.Contains(fresh, t) {
			continue
		}
		if i := slices.IndexFunc(c.subs, func(s subscription) bool { return s.topic == t }); i >= 0 {
			if !again {
				continue
			}
			g.topics.remove(c, i)
		}
		fresh = append(fresh, t)
	}
	return fresh, true
}

func (g *Gateway) admitTopics(c *client, topics []string, from, after int64) {
	for _, t := range topics {
		g.topics.add(c, t, from, after)
	}
}

func (g *Gateway) subscribed(c *client, topics []string, from int64) {
	if from < c.cursor.Load() {
		c.cursor.Store(from)
	}
	c.push(message("subscribed", 0, subscribedMessage{Topics: topics, Since: from}))
}

// missed returns the frames that bring c's new topics from event from to the
// present, and false when memory does not reach back that far or a client's
// queue would not take so much. Events that c got by another subscription are
// not among them.
func (g *Gateway) missed(c *client, topics []string, from int64) ([]*frame, bool) {
	events, ok := g.recent.after(from)
	if !ok {
		return nil, false
	}
	var out []*event
	size := 0
	for _, e := range events {
		if !slices.ContainsFunc(topics, func(t string) bool { return covers(t, e.topic) }) || g.has(c, e) {
			continue
		}
		out = append(out, e)
		if size += len(e.json); size > g.config.QueueBytes/2 || len(out) > frameEvents*g.config.QueueFrames/4 {
			return nil, false
		}
	}
	frames := split(out)
	if len(frames) > g.config.QueueFrames/4+1 {
		return nil, false
	}
	return frames, true
}

// has reports whether c got e before by one of its subscriptions.
func (g *Gateway) has(c *client, e *event) bool {
	return slices.ContainsFunc(c.subs, func(s subscription) bool {
		m := g.topics.member(s)
		return m.from < e.id && e.id <= m.after && covers(s.topic, e.topic)
	})
}

// wanted reports whether a subscription of c takes e, which it has not got.
func (g *Gateway) wanted(c *client, e *event) bool {
	return c.may(e.topic) && slices.ContainsFunc(c.subs, func(s subscription) bool {
		return g.topics.member(s).after < e.id && covers(s.topic, e.topic)
	}) && !g.has(c, e)
}

// reachedBy returns the event up to which c has everything, or will have when
// what waits for it is sent. g.mu is held.
func (g *Gateway) reachedBy(c *client) int64 {
	if !c.replaying {
		return g.position.Load()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return *c.reached()
}

// postpone does something with the subscriptions of c once it has caught up.
func (g *Gateway) postpone(c *client, f func()) {
	if len(c.later) >= maxLater {
		c.push(problem("busy", "missed events are still being sent; send less until they have arrived"))
		return
	}
	c.later = append(c.later, f)
}

func (g *Gateway) unsubscribe(c *client, topics []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unsubscribeLocked(c, topics)
}

func (g *Gateway) unsubscribeLocked(c *client, topics []string) {
	if c.left {
		return
	}
	if c.replaying {
		g.postpone(c, func() { g.unsubscribeLocked(c, topics) })
		return
	}
	for _, t := range topics {
		if i := slices.IndexFunc(c.subs, func(s subscription) bool { return s.topic == t }); i >= 0 {
			g.topics.remove(c, i)
		}
	}
	c.push(message("unsubscribed", 0, unsubscribedMessage{Topics: topics}))
}

// reset tells c that what it missed is gone, and goes on with it from the
// present. oldest 0 means that the cursor is of the future. g.mu is held.
func (g *Gateway) reset(c *client, oldest int64) {
	position := g.position.Load()
	for _, s := range c.subs {
		m := g.topics.member(s)
		// What it has of later events, which another node told it, stays its.
		m.from, m.after = max(m.from, position), max(m.after, position)
	}
	if oldest == 0 {
		oldest = position + 1
		if len(g.recent.events) > 0 {
			oldest = g.recent.events[0].id
		}
	}
	g.metrics.resets.Inc()
	c.cursor.Store(position)
	c.push(message("stream.reset", position, resetMessage{Topics: c.topics(), OldestEventID: oldest, LastEventID: position}))
}

// replay sends c what it missed after event cursor, as fast as it takes it,
// and lets it go live at the very event up to which it has everything.
func (g *Gateway) replay(ctx context.Context, c *client, cursor int64, room <-chan struct{}) {
	select {
	case g.replays <- struct{}{}:
	case <-c.gone:
		return
	case <-ctx.Done():
		return
	}
	defer func() { <-g.replays }()
	for {
		next, done, err := g.replayPage(ctx, c, cursor, room)
		if done || ctx.Err() != nil {
			return
		}
		if err != nil {
			g.log.Warn("missed events cannot be read; the client has to resume", "client", c.id, "err", err)
			c.mu.Lock()
			c.cut("the log cannot be read")
			c.mu.Unlock()
			return
		}
		cursor = next
	}
}

// replayPage sends one page. It reports done when c is live, reset or gone.
func (g *Gateway) replayPage(ctx context.Context, c *client, cursor int64, room <-chan struct{}) (next int64, done bool, err error) {
	g.mu.Lock()
	topics, target := c.topics(), g.position.Load()
	g.mu.Unlock()
	page, err := g.store.Events(ctx, cursor, topics, replayPage)
	if err != nil {
		return cursor, false, fmt.Errorf("reading events after %d: %w", cursor, err)
	}
	oldest, err := g.store.OldestEventID(ctx) // after the page: what was there then is there now
	if err != nil {
		return cursor, false, fmt.Errorf("reading the oldest event: %w", err)
	}
	if oldest > cursor+1 {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.goLive(c, g.position.Load(), func() { g.reset(c, oldest) })
		return cursor, true, nil
	}
	events, err := encodeAll(page)
	if err != nil {
		return cursor, false, err
	}
	g.mu.Lock()
	gone := c.left
	wanted := slices.DeleteFunc(slices.Clone(events), func(e *event) bool { return !g.wanted(c, e) })
	g.mu.Unlock()
	if gone {
		return cursor, true, nil
	}
	for _, f := range split(wanted) {
		f.shared = false
		if !c.awaitRoom(ctx, room) {
			return cursor, true, nil
		}
		c.push(f)
	}
	if len(events) > 0 {
		cursor = events[len(events)-1].id
	}
	if len(events) == replayPage {
		return cursor, false, nil
	}
	cursor = max(cursor, target)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.position.Load() > cursor {
		return cursor, false, nil // more came meanwhile
	}
	g.goLive(c, cursor, nil)
	return cursor, true, nil
}

// goLive ends the replay of c, which has everything up to cursor. g.mu is held.
func (g *Gateway) goLive(c *client, cursor int64, first func()) {
	c.replaying = false
	if c.left {
		return
	}
	for _, s := range c.subs {
		m := g.topics.member(s)
		m.after = max(m.after, cursor)
	}
	if first != nil {
		first()
	}
	c.mu.Lock()
	c.room = nil
	c.mu.Unlock()
	later := c.later
	c.later = nil
	for i, f := range later {
		if c.replaying { // again: the rest waits
			c.later = append(c.later, later[i:]...)
			return
		}
		f()
	}
}

// awaitRoom waits until the queue of c is short. It returns false when c has
// gone.
func (c *client) awaitRoom(ctx context.Context, room <-chan struct{}) bool {
	for {
		c.mu.Lock()
		short := len(c.queue)-c.head <= c.gateway.config.QueueFrames/4 && c.bytes <= c.gateway.config.QueueBytes/2
		closing := c.closing
		c.mu.Unlock()
		if closing {
			return false
		}
		if short {
			return true
		}
		select {
		case <-room:
		case <-c.gone:
			return false
		case <-ctx.Done():
			return false
		}
	}
}
