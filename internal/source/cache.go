package source

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/prometheus/promql/parser"

	"aiops/internal/model"
)

// CacheConfig says how answers of range queries are kept. The zero value takes
// the defaults that stand at each field.
type CacheConfig struct {
	// MaxBytes bounds all kept samples together; 0 is 64 MiB, below 0 keeps
	// none.
	MaxBytes int64 `yaml:"max_bytes,omitempty"`
	// MaxAge is how long samples are kept before they are asked for again, so
	// that what was written into the past shows; 0 is 10 min.
	MaxAge model.Duration `yaml:"max_age,omitempty"`
	// RecentAge is how long the newest steps, within the source's late_data,
	// are used again, and never longer than a third of the step; 0 is 10 s,
	// below 0 is never.
	RecentAge model.Duration `yaml:"recent_age,omitempty"`
}

// Validate finds every fault of the configuration at once.
func (c CacheConfig) Validate() error {
	var v model.Invalid
	if c.MaxBytes > 1<<40 {
		v.Add("/max_bytes", "out_of_range", "max_bytes is at most 1 TiB")
	}
	if d := c.MaxAge.Std(); d < 0 || d > 24*time.Hour {
		v.Add("/max_age", "out_of_range", "max_age is from 0s to 24h")
	}
	if d := c.RecentAge.Std(); d > 5*time.Minute {
		v.Add("/recent_age", "out_of_range", "recent_age is at most 5m")
	}
	return v.Err("")
}

// WithDefaults returns the configuration with every default in its place.
func (c CacheConfig) WithDefaults() CacheConfig {
	if c.MaxBytes == 0 {
		c.MaxBytes = 64 << 20
	}
	if c.MaxAge == 0 {
		c.MaxAge = model.Duration(10 * time.Minute)
	}
	if c.RecentAge == 0 {
		c.RecentAge = model.Duration(10 * time.Second)
	}
	return c
}

// settledMargin is how far behind the clock samples count as recent whatever
// the source's late_data is.
const settledMargin = 10 * time.Second

// Ranger answers range queries, as the clients of sources do.
type Ranger interface {
	QueryRange(ctx context.Context, query string, start, end time.Time, step time.Duration, maxSeries int) ([]model.SeriesData, error)
	LateData() time.Duration
}

// Cache keeps answers of PromQL range queries for people who look at them: one
// unbroken range for each query, step and offset of the step, which grows with
// what is asked for, so that a dashboard that moves forward asks the source for
// the new steps alone. Queries that come at the same time wait for one another.
//
// What lies further back than the source's late_data is kept for MaxAge, newer
// steps for RecentAge. Within these ages an answer can differ from the source's
// own only by what was written into that past meanwhile. Queries whose value at
// a step depends on more than that step are passed on. It is not for scoring:
// detectors ask the source itself.
//
// Its methods are safe for concurrent use.
type Cache struct {
	config  CacheConfig
	entries *otter.Cache[cacheKey, *extent] // nil: keeps none
	now     func() time.Time
	ids     atomic.Uint64

	hits, partial, misses, passed atomic.Uint64
	stepsKept, stepsAsked         atomic.Uint64

	mu    sync.Mutex
	turns map[cacheKey]*keyTurn
}

type cacheKey struct {
	client      uint64
	query       string
	step, phase int64
}

// keyTurn lets one query of a key at a time ask the source.
type keyTurn struct {
	held  chan struct{} // capacity 1
	users int
}

// extent is the answer over a range. It is never changed.
type extent struct {
	span    Span
	settled int64     // last step that was settled when it was fetched; span.Start−Step when none was
	recent  time.Time // when the steps behind settled were fetched
	born    time.Time // when the oldest part was fetched
	series  []model.SeriesData
	bytes   int64
}

// NewCache returns an empty cache. now may be nil.
func NewCache(config CacheConfig, now func() time.Time) *Cache {
	if now == nil {
		now = time.Now
	}
	c := &Cache{config: config.WithDefaults(), now: now, turns: map[cacheKey]*keyTurn{}}
	if c.config.MaxBytes > 0 {
		c.entries = otter.Must(&otter.Options[cacheKey, *extent]{
			MaximumWeight: uint64(c.config.MaxBytes),
			Weigher:       func(k cacheKey, e *extent) uint32 { return uint32(min(e.bytes+int64(len(k.query))+256, 1<<31)) },
		})
	}
	return c
}

// Config returns the configuration in force, defaults included.
func (c *Cache) Config() CacheConfig { return c.config }

// CacheStats says how useful the cache was.
type CacheStats struct {
	Hits    uint64 // queries answered without asking the source
	Partial uint64 // queries of which the source was asked for a part
	Misses  uint64 // queries that the source answered whole
	Passed  uint64 // queries that cannot be kept

	StepsKept, StepsAsked uint64 // steps answered from memory and by the source

	Entries         int
	Bytes, MaxBytes uint64
}

// Stats returns what the cache did since the start.
func (c *Cache) Stats() CacheStats {
	s := CacheStats{Hits: c.hits.Load(), Partial: c.partial.Load(), Misses: c.misses.Load(), Passed: c.passed.Load(),
		StepsKept: c.stepsKept.Load(), StepsAsked: c.stepsAsked.Load(), MaxBytes: uint64(max(0, c.config.MaxBytes))}
	if c.entries != nil {
		s.Entries, s.Bytes = c.entries.EstimatedSize(), c.entries.WeightedSize()
	}
	return s
}

// Cached is a client of a source behind a Cache.
type Cached struct {
	cache *Cache
	r     Ranger
	id    uint64
}

// For returns r behind the cache. What another client answered, even of the
// same source, is not used.
func (c *Cache) For(r Ranger) *Cached { return &Cached{cache: c, r: r, id: c.ids.Add(1)} }

// LateData is that of the client.
func (q *Cached) LateData() time.Duration { return q.r.LateData() }

// QueryRange is that of the client, with its errors. The receiver owns the
// samples; labels are shared and must not be changed.
func (q *Cached) QueryRange(ctx context.Context, query string, start, end time.Time, step time.Duration, maxSeries int) ([]model.SeriesData, error) {
	span, err := NewSpan(start, end, step)
	c := q.cache
	if err != nil || c.entries == nil || span.Points() > MaxPoints {
		c.passed.Add(1)
		return q.r.QueryRange(ctx, query, start, end, step, maxSeries)
	}
	k := cacheKey{q.id, query, span.Step, ((span.Start % span.Step) + span.Step) % span.Step}
	if e := c.usable(k); e != nil && e.covers(span) {
		c.hits.Add(1)
		c.stepsKept.Add(uint64(span.Points()))
		return e.answer(span, maxSeries)
	}
	if !independent(query) {
		c.passed.Add(1)
		return q.r.QueryRange(ctx, query, start, end, step, maxSeries)
	}
	leave, err := c.enter(ctx, k)
	if err != nil {
		return nil, err
	}
	defer leave()
	e := c.usable(k) // somebody may have asked meanwhile
	e, asked, err := q.extend(ctx, e, query, span, maxSeries)
	if err != nil {
		return nil, err
	}
	switch {
	case asked == 0:
		c.hits.Add(1)
	case asked < span.Points():
		c.partial.Add(1)
	default:
		c.misses.Add(1)
	}
	c.stepsAsked.Add(uint64(asked))
	c.stepsKept.Add(uint64(max(0, span.Points()-asked)))
	if asked > 0 && e.bytes <= c.config.MaxBytes/8 {
		c.entries.Set(k, e)
	}
	return e.answer(span, maxSeries)
}

// enter waits for the turn of a key.
func (c *Cache) enter(ctx context.Context, k cacheKey) (leave func(), err error) {
	c.mu.Lock()
	t := c.turns[k]
	if t == nil {
		t = &keyTurn{held: make(chan struct{}, 1)}
		c.turns[k] = t
	}
	t.users++
	c.mu.Unlock()
	left := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(c.turns, k)
		}
	}
	select {
	case t.held <- struct{}{}:
		return func() { <-t.held; left() }, nil
	case <-ctx.Done():
		left()
		return nil, ctx.Err()
	}
}

// usable returns the part of what is kept that may still be used, or nil.
func (c *Cache) usable(k cacheKey) *extent {
	e, ok := c.entries.GetIfPresent(k)
	now := c.now()
	if !ok || now.Sub(e.born) > c.config.MaxAge.Std() || now.Before(e.born) {
		return nil
	}
	if e.settled < e.span.End && now.Sub(e.recent) >= c.recentAge(k.step) {
		if e.settled < e.span.Start {
			return nil
		}
		cut := *e
		cut.span.End = e.settled
		return &cut
	}
	return e
}

func (c *Cache) recentAge(step int64) time.Duration {
	return max(0, min(c.config.RecentAge.Std(), time.Duration(step)*time.Millisecond/3))
}

func (e *extent) covers(s Span) bool { return e.span.Start <= s.Start && s.End <= e.span.End }

// extend asks the source for what e, which may be nil, lacks of span. It
// returns an extent that covers span and how many steps were asked for.
func (q *Cached) extend(ctx context.Context, e *extent, query string, span Span, maxSeries int) (*extent, int64, error) {
	c := q.cache
	now := c.now()
	cutoff := now.Add(-max(q.r.LateData(), settledMargin)).UnixMilli()
	if e == nil || span.Start > e.span.End+span.Step || span.End < e.span.Start-span.Step || Span.Points(union(e.span, span)) > MaxPoints {
		fresh, err := q.ask(ctx, query, span, maxSeries)
		if err != nil {
			return nil, 0, err
		}
		return newExtent(span, cutoff, now, now, fresh), span.Points(), nil
	}
	asked := int64(0)
	parts := [][]model.SeriesData{nil, e.series, nil}
	if span.Start < e.span.Start {
		left := Span{span.Start, e.span.Start - span.Step, span.Step}
		fresh, err := q.ask(ctx, query, left, maxSeries)
		if err != nil {
			return nil, 0, err
		}
		parts[0], asked = fresh, asked+left.Points()
	}
	recent := e.recent
	if span.End > e.span.End {
		// Steps that were not settled when they were fetched are fetched with
		// the new ones, so that all recent steps are of one age.
		from := min(e.span.End, max(e.settled, e.span.Start-span.Step)) + span.Step
		right := Span{from, span.End, span.Step}
		fresh, err := q.ask(ctx, query, right, maxSeries)
		if err != nil {
			return nil, 0, err
		}
		parts[1] = cutTo(e.series, from-span.Step)
		parts[2], asked, recent = fresh, asked+right.Points(), now
	}
	if asked == 0 {
		return e, 0, nil
	}
	whole := union(e.span, span)
	joined := joinCopies(parts)
	out := newExtent(whole, cutoff, recent, e.born, joined)
	if span.End <= e.span.End {
		out.settled = min(out.settled, e.settled) // its recent steps are as old as before
	}
	return out, asked, nil
}

func (q *Cached) ask(ctx context.Context, query string, s Span, maxSeries int) ([]model.SeriesData, error) {
	return q.r.QueryRange(ctx, query, time.UnixMilli(s.Start), time.UnixMilli(s.End), time.Duration(s.Step)*time.Millisecond, maxSeries)
}

func union(a, b Span) Span { return Span{min(a.Start, b.Start), max(a.End, b.End), a.Step} }

func newExtent(span Span, cutoff int64, recent, born time.Time, series []model.SeriesData) *extent {
	e := &extent{span: span, settled: span.End, recent: recent, born: born, series: series}
	if cutoff < span.End {
		e.settled = span.Start - span.Step
		if cutoff >= span.Start {
			e.settled = cutoff - (cutoff-span.Start)%span.Step
		}
	}
	for _, s := range series {
		e.bytes += 64 + 16*int64(cap(s.Samples))
		for _, l := range s.Labels {
			e.bytes += int64(len(l.Name)+len(l.Value)) + 32
		}
	}
	return e
}

// cutTo returns series without the samples behind last. It shares the rest.
func cutTo(series []model.SeriesData, last int64) []model.SeriesData {
	out := make([]model.SeriesData, 0, len(series))
	for _, s := range series {
		if n := searchTime(s.Samples, last+1); n > 0 {
			out = append(out, model.SeriesData{Labels: s.Labels, Samples: s.Samples[:n:n]})
		}
	}
	return out
}

// joinCopies joins parts that are in order of time, and puts the series in
// order. It changes none of them.
func joinCopies(parts [][]model.SeriesData) []model.SeriesData {
	var joined []model.SeriesData
	var keys []string
	at := map[string]int{}
	var key []byte
	for _, part := range parts {
		for _, s := range part {
			key = s.Labels.AppendKey(key[:0])
			n, ok := at[string(key)]
			if !ok {
				at[string(key)] = len(joined)
				keys = append(keys, string(key))
				joined = append(joined, model.SeriesData{Labels: s.Labels, Samples: s.Samples[:len(s.Samples):len(s.Samples)]})
				continue
			}
			joined[n].Samples = slices.Concat(joined[n].Samples, s.Samples)
		}
	}
	slices.Sort(keys)
	ordered := make([]model.SeriesData, len(joined))
	for i, k := range keys {
		ordered[i] = joined[at[k]]
	}
	return ordered
}

func searchTime(samples []model.Sample, t int64) int {
	n, _ := slices.BinarySearchFunc(samples, t, func(s model.Sample, t int64) int {
		switch {
		case s.T < t:
			return -1
		case s.T > t:
			return 1
		}
		return 0
	})
	return n
}

// answer copies what lies in span out of e.
func (e *extent) answer(span Span, maxSeries int) ([]model.SeriesData, error) {
	total, count := 0, 0
	bounds := make([][2]int, len(e.series))
	for i, s := range e.series {
		from, to := searchTime(s.Samples, span.Start), searchTime(s.Samples, span.End+1)
		bounds[i] = [2]int{from, to}
		if to > from {
			total += to - from
			count++
		}
	}
	if maxSeries > 0 && count > maxSeries {
		return nil, SeriesLimit(count, true, maxSeries)
	}
	out := make([]model.SeriesData, 0, count)
	samples := make([]model.Sample, 0, total)
	for i, b := range bounds {
		if b[1] > b[0] {
			at := len(samples)
			samples = append(samples, e.series[i].Samples[b[0]:b[1]]...)
			out = append(out, model.SeriesData{Labels: e.series[i].Labels, Samples: samples[at:len(samples):len(samples)]})
		}
	}
	return out, nil
}

// independent reports whether the value of query at a step follows from that
// step alone and from nothing that lies behind it, so that ranges can be put
// together from parts. It is not so for @, negative offsets, lengths that are
// computed, and what looks at the whole range.
func independent(query string) bool {
	expr, err := parse(query)
	if err != nil {
		return false
	}
	ok := true
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			ok = ok && n.Timestamp == nil && n.StartOrEnd == 0 && n.OriginalOffset >= 0 && n.OriginalOffsetExpr == nil && !n.Anchored && !n.Smoothed
		case *parser.MatrixSelector:
			ok = ok && n.RangeExpr == nil
		case *parser.SubqueryExpr:
			ok = ok && n.Timestamp == nil && n.StartOrEnd == 0 && n.OriginalOffset >= 0 && n.OriginalOffsetExpr == nil && n.RangeExpr == nil && n.StepExpr == nil
		case *parser.Call:
			ok = ok && n.Func.Name != "info"
		}
		return nil
	})
	return ok
}
