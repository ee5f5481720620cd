package logs

import (
	"context"
	"math"
	"time"

	"aiops/internal/model"
)

// closeDue closes the buckets that take no more lines.
func (s *Stage) closeDue() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now().UnixNano()
	for _, f := range s.feeds {
		until := now
		if f.arrived != nil {
			until = min(now, f.arrived(now))
		}
		s.closeUntil(f, bucketOf(until-int64(s.cfg.Lateness.Std()))-1)
	}
}

// closeAll closes the buckets of all feeds that hold lines, over or not.
func (s *Stage) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.feeds {
		if f.arrived != nil {
			continue // it begins again at the last bucket that is complete
		}
		last := f.closed
		for b := range f.open {
			last = max(last, b)
		}
		s.closeUntil(f, last)
	}
}

// closeUntil closes the feed's buckets up to the given one.
func (s *Stage) closeUntil(f *feed, last int64) {
	if last <= f.closed {
		return
	}
	s.tidy()
	if last-f.closed > mostGap { // a pause of the machine: nobody counted
		first := last - mostGap
		for b := range f.open {
			first = min(first, b-1)
		}
		first = max(f.closed, first)
		s.metrics.dropped.Add(float64(first - f.closed))
		f.closed = first
	}
	for f.closed < last {
		f.closed++
		s.closeBucket(f, f.closed)
	}
}

// closeBucket makes the samples of one bucket.
func (s *Stage) closeBucket(f *feed, b int64) {
	bucket := f.open[b]
	delete(f.open, b)
	t := sampleTime(b)
	out := batch{bucket: b}
	add := func(labels model.Labels, v float64) {
		out.series = append(out.series, model.SeriesData{Labels: labels, Samples: []model.Sample{{T: t, V: v}}})
	}
	var idle []*group
	for _, g := range f.groups {
		if b-g.last > buckets(s.cfg.StreamIdle.Std()) {
			idle = append(idle, g)
			continue
		}
		if g.first > b { // it begins later
			continue
		}
		c := bucket[g]
		if c == nil {
			c = &counts{}
		}
		add(g.lines, float64(c.lines))
		add(g.severe, float64(c.severe))
		surprise, births := s.novelty(g, c, b)
		out.births += births
		add(g.novelty, surprise)
		if d, ok := g.divergence(c); ok {
			add(g.mix, d)
		}
		for key, e := range g.entries {
			if n := c.templates[e]; n == 0 && s.over(f, g, e, b) || s.silenced(key) {
				delete(g.entries, key)
				s.entries--
			} else if e.first <= b {
				add(e.labels, float64(n))
			}
		}
		for _, r := range s.rules {
			if r.covers(f.key, g.stream) {
				add(g.ruleLabels(r.hash), float64(c.rules[r.hash]))
			}
		}
	}
	for _, g := range idle {
		s.drop(g)
	}
	f.waiting = append(f.waiting, out)
	if over := len(f.waiting) - mostWaiting; over > 0 {
		f.written = f.waiting[over-1].bucket
		f.waiting = append(f.waiting[:0], f.waiting[over:]...)
		s.metrics.dropped.Add(float64(over))
	}
}

// silenced reports whether a template's lines are not counted apart: people
// expect them.
func (s *Stage) silenced(key entryKey) bool {
	n := s.notes[key.id]
	return n != nil && n.expected
}

// Flush closes the buckets that are over, writes what is closed, and stores
// the state when it is time or something new was seen. Run does this; it is
// there for who drives a stage without Run.
func (s *Stage) Flush(ctx context.Context) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.closeDue()
	type work struct {
		f       *feed
		batches []batch
	}
	var all []work
	births, waiting := 0, false
	s.mu.Lock()
	for _, f := range s.feeds {
		if len(f.waiting) > 0 {
			all = append(all, work{f, append([]batch(nil), f.waiting...)})
			waiting = true
		}
		for _, w := range f.waiting {
			births += w.births
		}
	}
	s.mu.Unlock()
	for _, w := range all {
		s.write(ctx, w.f, w.batches)
	}
	// After the counts: a crash in between tells twice of what is new, the
	// other way round it would never be told.
	s.unsaved = s.unsaved || waiting
	if now := s.now(); s.unsaved && (births > 0 || now.Sub(s.savedAt) >= s.cfg.SaveEvery.Std() || now.Before(s.savedAt)) {
		_ = s.save(ctx) // logged and counted there, and tried again
	}
}

// write writes the counts of closed buckets, oldest first.
func (s *Stage) write(ctx context.Context, f *feed, batches []batch) {
	for _, b := range batches {
		err := s.series.Append(ctx, b.series)
		switch {
		case err == nil:
		case model.KindOf(err) == model.KindInvalid:
			s.metrics.refused.Inc()
			s.log.Warn("some counts of log lines were refused", "err", err)
		default:
			s.log.Warn("counts of log lines are not written; trying again", "err", err)
			return
		}
		s.mu.Lock()
		if len(f.waiting) > 0 && f.waiting[0].bucket == b.bucket {
			f.waiting = f.waiting[1:]
			f.written = b.bucket
		}
		s.mu.Unlock()
	}
}

// Written returns up to when the counts of a feed are written, in milliseconds:
// the time of the newest sample. It is 0 for a feed that does not exist.
func (s *Stage) Written(source, query string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.feeds[feedKey{source, query}]
	if f == nil {
		return 0
	}
	if len(f.waiting) == 0 {
		return sampleTime(f.closed)
	}
	return sampleTime(f.written)
}

// How fast the two memories of a mix forget, per bucket.
var (
	shortDecay = math.Exp2(-float64(model.LogBucket) / float64(30*time.Second))
	longDecay  = math.Exp2(-float64(model.LogBucket) / float64(30*time.Minute))
)

// How many lines the memories of a mix need.
const (
	leastShort = 20
	leastLong  = 200
)

// divergence takes the counts of a bucket into the two memories of the mix of
// templates and returns how far they are apart: the Jensen–Shannon divergence
// of the short one against the long one in bits, 0 to 1 (Lin 1991). It reports
// false while there are too few lines. One bucket costs a few logarithms for
// each known template. It cannot see a change that keeps the shares of the
// templates, and a stream of few lines varies by chance.
func (g *group) divergence(c *counts) (float64, bool) {
	for _, k := range g.known {
		k.short *= shortDecay
		k.long *= longDecay
	}
	g.heavy = g.heavy*longDecay + float64(c.lines)
	for e, n := range c.templates {
		if k := g.known[e.key.id]; k != nil {
			k.short += float64(n)
			k.long += float64(n)
		}
	}
	var short, long float64
	for _, k := range g.known {
		short += k.short
		long += k.long
	}
	if short < leastShort || long < leastLong {
		return 0, false
	}
	d := 0.0
	for _, k := range g.known {
		p, q := k.short/short, k.long/long
		m := (p + q) / 2
		if p > 0 {
			d += p * math.Log2(p/m) / 2
		}
		if q > 0 {
			d += q * math.Log2(q/m) / 2
		}
	}
	return min(max(d, 0), 1), true
}
