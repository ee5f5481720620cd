package logs

import (
	"math"
	"math/bits"
	"slices"
	"time"

	"aiops/internal/logmine"
	"aiops/internal/model"
)

// fresh is a template that a group saw for the first time.
type fresh struct {
	id     logmine.ID
	level  string
	bucket int64
}

// birth is a new template as it is remembered: when, how many lines its first
// bucket had, and whether they were errors.
type birth struct {
	Bucket int64
	Size   int32
	Severe bool
}

// What is supposed of a stream before anything is known of it: one new
// template of any size in sixteen weeks. It is what the budget of one false
// alarm a week allows with room, so that the first new template of a stream
// that was quiet is told, and the eighth within a few hours is not.
const (
	priorBirths = 0.5
	weekBuckets = 7 * 24 * 3600 / 5
	priorWeeks  = 8
	birthWeeks  = 4  // how long births are remembered
	apart       = 12 // buckets within which births count as one: a release brings many
)

// see notes that a group has a template, and whether that is new.
func (s *Stage) see(g *group, id logmine.ID, b int64, level string) {
	if k := g.known[id]; k != nil {
		k.last = max(k.last, b)
		return
	}
	if len(g.known) >= mostKnown {
		s.forget(g)
	} else if s.known >= mostKnownAll {
		s.forget(s.largest())
	}
	g.known[id] = &seen{last: b}
	s.known++
	if len(g.fresh) < mostKnown {
		g.fresh = append(g.fresh, fresh{id, level, b})
	}
}

// largest returns the group that knows the most templates.
func (s *Stage) largest() *group {
	var most *group
	for _, f := range s.feeds {
		for _, g := range f.groups {
			if most == nil || len(g.known) > len(most.known) {
				most = g
			}
		}
	}
	return most
}

// forget gives up the quarter of the known templates that was not seen for
// longest.
func (s *Stage) forget(g *group) {
	type aged struct {
		id   logmine.ID
		last int64
	}
	all := make([]aged, 0, len(g.known))
	for id, k := range g.known {
		all = append(all, aged{id, k.last})
	}
	slices.SortFunc(all, func(a, b aged) int {
		switch {
		case a.last != b.last && a.last < b.last, a.last == b.last && a.id < b.id:
			return -1
		}
		return 1
	})
	for _, a := range all[:(len(all)+3)/4] {
		delete(g.known, a.id)
		s.known--
	}
}

// novelty judges the new templates up to bucket b: it returns how surprising
// the most surprising one is, and their number, both 0 while the stream is
// being learnt. The surprise is −log10 of the estimated share of buckets with
// a new template of at least as many lines, of those with errors when it has
// errors:
//
//	(births so far + 0.5) / (buckets so far + 8 weeks × streams)
//
// so a stream with a long tail of rare lines that each come once does not
// alarm for a further one, and still does for a template that comes in numbers.
// Births close together count as one. In a stream that was quiet the first is
// always told; a young stream can tell about eight above a budget of one a week
// before the estimate follows. Cost: the remembered births for each new
// template. It fails for rare lines that come in bursts of the same size as an
// incident's.
func (s *Stage) novelty(g *group, c *counts, b int64) (surprise float64, births int) {
	age, learning := b-g.first, buckets(s.cfg.Learning.Std())
	due := 0
	for _, f := range g.fresh {
		if f.bucket <= b {
			due++
		}
	}
	if due == 0 {
		return 0, 0
	}
	left := g.fresh[:0:0]
	var now []birth
	for _, f := range g.fresh {
		if f.bucket > b {
			left = append(left, f)
			continue
		}
		if n := s.notes[f.id]; n != nil && n.expected {
			continue
		}
		size := 0
		for e, n := range c.templates {
			if to, _ := s.miner.Resolve(e.key.id); to == f.id {
				size += n
			}
		}
		now = append(now, birth{b, int32(max(1, size)), severe(f.level)})
	}
	g.fresh = left
	if 2*age < learning {
		return 0, 0
	}
	g.births = slices.DeleteFunc(g.births, func(x birth) bool { return b-x.Bucket > birthWeeks*weekBuckets })
	if age >= learning {
		births = len(now)
		s.metrics.births.Add(float64(births))
		exposure := float64(min(age-learning/2, birthWeeks*weekBuckets))
		for _, x := range now {
			surprise = max(surprise, g.surpriseOf(x, exposure, ceilPow2(len(g.feed.groups))))
		}
	}
	g.births = append(g.births, now...)
	if over := len(g.births) - mostBirths; over > 0 {
		g.births = append(g.births[:0], g.births[over:]...)
	}
	return surprise, births
}

func (g *group) surpriseOf(x birth, exposure float64, streams int) float64 {
	times, last := 0, int64(math.MinInt64/2)
	for _, o := range g.births {
		if o.Size < x.Size || x.Severe && !o.Severe || x.Bucket-o.Bucket < apart {
			continue
		}
		if o.Bucket-last >= apart {
			times, last = times+1, o.Bucket
		}
	}
	share := (float64(times) + priorBirths) / (exposure + float64(priorWeeks*weekBuckets*streams))
	return -math.Log10(share)
}

func ceilPow2(n int) int {
	p := 1
	for p < n {
		p *= 2
	}
	return p
}

// tidy follows what the miner merged and gave up: what was known of a template
// that was merged away goes to the one that stayed, which is not new where the
// other was known.
func (s *Stage) tidy() {
	stats := s.miner.Stats()
	if stats.Merged == s.merged && stats.Evicted == s.evicted {
		return
	}
	s.merged, s.evicted = stats.Merged, stats.Evicted
	for id, n := range s.notes {
		to, ok := s.miner.Resolve(id)
		switch {
		case !ok:
			delete(s.notes, id)
		case to != id:
			if stays := s.notes[to]; stays != nil {
				stays.take(n)
				delete(s.notes, id)
			}
		}
	}
	for _, f := range s.feeds {
		for _, g := range f.groups {
			s.rename(g)
		}
	}
}

// rename brings what a group knows of merged templates together.
func (s *Stage) rename(g *group) {
	isFresh := map[logmine.ID]bool{}
	for _, x := range g.fresh {
		isFresh[x.id] = true
	}
	old := map[logmine.ID]bool{} // known before, by whatever id
	for id, k := range g.known {
		to, ok := s.miner.Resolve(id)
		if !ok || to == id {
			continue
		}
		if stays := g.known[to]; stays != nil {
			stays.short, stays.long, stays.last = stays.short+k.short, stays.long+k.long, max(stays.last, k.last)
			s.known--
		} else {
			g.known[to] = k
		}
		delete(g.known, id)
		if !isFresh[id] {
			old[to] = true
		}
	}
	left, done := g.fresh[:0], map[logmine.ID]bool{}
	for _, x := range g.fresh {
		x.id, _ = s.miner.Resolve(x.id)
		if !old[x.id] && !done[x.id] {
			done[x.id] = true
			left = append(left, x)
		}
	}
	g.fresh = left
}

// over reports whether the series of an entry without lines in bucket b ends:
// it was idle for long, or its template was merged into another, which counts
// its lines now.
func (s *Stage) over(f *feed, g *group, e *entry, b int64) bool {
	if b-e.last > buckets(s.cfg.TemplateIdle.Std()) {
		return true
	}
	if e.key.id == 0 {
		return false
	}
	to, ok := s.miner.Resolve(e.key.id)
	return (!ok || to != e.key.id) && !counted(f, g, e)
}

// counted reports whether an open bucket has lines of the entry.
func counted(f *feed, g *group, e *entry) bool {
	for _, bucket := range f.open {
		if c := bucket[g]; c != nil && c.templates[e] > 0 {
			return true
		}
	}
	return false
}

// note is what is known of a template beyond what the miner keeps.
type note struct {
	id       logmine.ID
	text     string // the id in text
	first    int64  // nanoseconds
	last     int64
	levels   [len(levels)]uint32
	spark    [sparkSlots]uint32
	sparkAt  int64 // number of the slot of the newest line
	lines    uint64
	examples []string
	expected bool
	severity model.Severity
	version  int64
}

var levels = [...]string{"", model.LevelDebug, model.LevelInfo, model.LevelWarn, model.LevelError, model.LevelFatal}

// noteOf notes a line of a template.
func (s *Stage) noteOf(id logmine.ID, line *model.LogLine) *note {
	n := s.notes[id]
	if n == nil {
		n = &note{id: id, text: id.String(), first: line.T, version: 1}
		s.notes[id] = n
	}
	n.first, n.last = min(n.first, line.T), max(n.last, line.T)
	for i, l := range levels {
		if l == line.Level {
			n.levels[i]++
		}
	}
	n.sparkle(line.T, 1)
	n.lines++
	switch {
	case len(n.examples) < mostExamples:
		n.examples = append(n.examples, cleanText(line.Text, mostExampleBytes))
	case n.lines&(n.lines-1) == 0: // rarer and rarer
		n.examples[bits.TrailingZeros64(n.lines)%mostExamples] = cleanText(line.Text, mostExampleBytes)
	}
	return n
}

// sparkle adds lines to the sparkline.
func (n *note) sparkle(t int64, lines uint32) {
	slot := t / int64(sparkStep)
	if slot > n.sparkAt {
		for at := max(n.sparkAt+1, slot-sparkSlots+1); at <= slot; at++ {
			n.spark[at%sparkSlots] = 0
		}
		n.sparkAt = slot
	}
	if slot >= 0 && n.sparkAt-slot < sparkSlots {
		n.spark[slot%sparkSlots] += lines
	}
}

// take adds what was noted of a template that was merged into this one.
func (n *note) take(o *note) {
	n.first, n.last = min(n.first, o.first), max(n.last, o.last)
	for i := range n.levels {
		n.levels[i] += o.levels[i]
	}
	for at := max(0, o.sparkAt-sparkSlots+1); at <= o.sparkAt; at++ {
		if v := o.spark[at%sparkSlots]; v > 0 && at+sparkSlots > n.sparkAt {
			n.sparkle(at*int64(sparkStep), v)
		}
	}
	n.lines += o.lines
	n.expected = n.expected || o.expected
	if n.severity == "" {
		n.severity = o.severity
	}
	for _, x := range o.examples {
		if len(n.examples) < mostExamples {
			n.examples = append(n.examples, x)
		}
	}
}

// logBuckets is by how much the surprise of a bucket exceeds that of a step.
func logBuckets(step time.Duration) float64 {
	return math.Log10(max(1, float64(step)/float64(model.LogBucket)))
}
