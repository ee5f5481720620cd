package logs

import (
	"slices"
	"strings"

	"aiops/internal/logmine"
	"aiops/internal/model"
)

// The series that are written, each with the labels source, those of the
// stream that are kept, and query for sources that are followed.
const (
	metricTemplate = "aiops_log_template_lines" // lines of a template and level; labels template, level
	metricLines    = "aiops_log_lines"          // lines of a stream
	metricSevere   = "aiops_log_error_lines"    // lines of level error or fatal
	metricNovelty  = "aiops_log_novelty"        // how surprising the new templates of the bucket are
	metricMix      = "aiops_log_mix_divergence" // Jensen–Shannon divergence, 0 to 1
	metricRule     = "aiops_log_pattern_lines"  // lines that a regular expression finds; label pattern
)

const (
	labelSource   = "source"
	labelQuery    = "query"
	labelTemplate = "template"
	labelLevel    = "level"
	labelPattern  = "pattern"
	labelOverflow = "overflow"

	otherTemplate = "other" // of templates beyond the cap on series
)

// feedKey says where lines come from: the embedded receivers of a source, or
// one query that is followed on it.
type feedKey struct{ source, query string }

// feed is the lines of one feedKey. Its buckets are closed in order.
type feed struct {
	key     feedKey
	closed  int64 // the last bucket that takes no more lines
	written int64 // the last bucket whose counts were written, or given up
	open    map[int64]map[*group]*counts
	groups  []*group
	byKey   map[string]*group
	waiting []batch

	// arrived is the time up to which all lines have come, in nanoseconds; nil
	// is the clock.
	arrived func(now int64) int64

	lastStream []model.Label // of lastGroup: lines of one stream come together
	lastGroup  *group
}

// batch is the counts of one closed bucket.
type batch struct {
	bucket int64
	births int // new templates in it
	series []model.SeriesData
}

// counts is what one bucket holds of one group.
type counts struct {
	lines     int
	severe    int
	templates map[*entry]int
	rules     map[string]int
}

// group is the streams of a feed that are counted together.
type group struct {
	feed    *feed
	key     string
	stream  model.Labels // the labels of the streams that are kept
	base    model.Labels // of its series, without a name
	first   int64        // bucket of the first line
	last    int64        // of the newest
	entries map[entryKey]*entry
	known   map[logmine.ID]*seen
	fresh   []fresh // new templates that were not judged yet
	births  []birth
	heavy   float64 // lines that the long mix remembers

	lines, severe, novelty, mix model.Labels
	rules                       map[string]model.Labels
}

type entryKey struct {
	id    logmine.ID // 0: other
	level string
}

// entry is one template and level of a group: a series.
type entry struct {
	key    entryKey
	labels model.Labels
	first  int64 // bucket of the first line
	last   int64 // of the newest
}

// seen is what a group remembers of a template.
type seen struct {
	last        int64   // bucket of the newest line
	short, long float64 // exponentially weighted lines per bucket
}

// feedOf returns the feed of a key, or nil beyond the bound.
func (s *Stage) feedOf(key feedKey) *feed {
	f := s.feeds[key]
	if f == nil {
		if len(s.feeds) >= mostFeeds {
			return nil
		}
		at := bucketOf(s.now().Add(-s.cfg.Lateness.Std()).UnixNano()) - 1
		f = &feed{key: key, closed: at, written: at, open: map[int64]map[*group]*counts{}, byKey: map[string]*group{}}
		s.feeds[key] = f
	}
	return f
}

func (f *feed) countsOf(b int64, g *group) *counts {
	bucket := f.open[b]
	if bucket == nil {
		bucket = map[*group]*counts{}
		f.open[b] = bucket
	}
	c := bucket[g]
	if c == nil {
		c = &counts{templates: map[*entry]int{}}
		bucket[g] = c
	}
	return c
}

// groupOf returns the group of a stream. When there are too many, one that has
// been idle for long makes room; without one the stream is counted with others.
func (s *Stage) groupOf(f *feed, stream model.Labels, b int64) *group {
	if f.lastGroup != nil && sameSlice(f.lastStream, stream) {
		return f.lastGroup
	}
	kept := s.kept(stream)
	key := kept.Key()
	g := f.byKey[key]
	if g == nil {
		if s.streams >= s.cfg.MaxStreams && !s.spare(b) {
			kept = model.Labels{{Name: labelOverflow, Value: "true"}}
			key = kept.Key()
			g = f.byKey[key]
		}
		if g == nil {
			g = newGroup(f, kept, key, b)
			s.streams++
		}
	}
	f.lastStream, f.lastGroup = stream, g
	return g
}

// sameSlice reports whether both are the same labels in memory, which is enough
// to know that they are equal.
func sameSlice(a, b []model.Label) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// kept returns the labels of a stream by which it is counted.
func (s *Stage) kept(stream model.Labels) model.Labels {
	out := make(model.Labels, 0, 4)
	for _, l := range stream {
		if v := cleanText(l.Value, mostValueBytes); v != "" && slices.Contains(s.cfg.KeepLabels, l.Name) {
			out = append(out, model.Label{Name: l.Name, Value: v})
		}
	}
	return out
}

// cleanText makes a text of at most n bytes that is valid UTF-8 without NUL.
func cleanText(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// SeriesLabel returns the name that a label of a stream has in the series: the
// same, with underscores for what PromQL has no letters for, and with stream_
// in front where the series have a label of that name themselves.
func SeriesLabel(name string) string {
	switch name {
	case labelSource, labelQuery, labelTemplate, labelLevel, labelPattern:
		return "stream_" + name
	}
	out := []byte(name)
	for i, c := range out {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			out[i] = '_'
		}
	}
	if strings.HasPrefix(string(out), "__") {
		return "stream" + string(out)
	}
	return string(out)
}

func newGroup(f *feed, kept model.Labels, key string, b int64) *group {
	labels := map[string]string{labelSource: f.key.source, labelQuery: queryHash(f.key.query)}
	for _, l := range kept {
		labels[SeriesLabel(l.Name)] = l.Value
	}
	g := &group{feed: f, key: key, stream: kept, base: model.LabelsFromMap(labels), first: b, last: b,
		entries: map[entryKey]*entry{}, known: map[logmine.ID]*seen{}, rules: map[string]model.Labels{}}
	g.lines, g.severe = g.named(metricLines), g.named(metricSevere)
	g.novelty, g.mix = g.named(metricNovelty), g.named(metricMix)
	f.groups = append(f.groups, g)
	f.byKey[key] = g
	return g
}

// named returns the labels of one of the group's series.
func (g *group) named(metric string, more ...string) model.Labels {
	labels := g.base.Map()
	labels[model.MetricName] = metric
	for i := 0; i < len(more); i += 2 {
		labels[more[i]] = more[i+1]
	}
	return model.LabelsFromMap(labels)
}

// drop forgets a group.
func (s *Stage) drop(g *group) {
	f := g.feed
	delete(f.byKey, g.key)
	f.groups = slices.DeleteFunc(f.groups, func(o *group) bool { return o == g })
	for _, bucket := range f.open {
		delete(bucket, g)
	}
	f.lastGroup, f.lastStream = nil, nil
	s.streams--
	s.entries -= len(g.entries)
	s.known -= len(g.known)
}

// spare drops the group that has been idle for longest, if that is long enough.
func (s *Stage) spare(b int64) bool {
	var longest *group
	for _, f := range s.feeds {
		for _, g := range f.groups {
			if longest == nil || g.last < longest.last {
				longest = g
			}
		}
	}
	if longest == nil || b-longest.last < buckets(spareStream) {
		return false
	}
	s.drop(longest)
	return true
}

// entryOf returns the series of a template and level.
func (s *Stage) entryOf(g *group, id logmine.ID, level string, b int64) *entry {
	key := entryKey{id, level}
	e := g.entries[key]
	if e == nil && s.entries >= s.cfg.MaxSeries {
		key = entryKey{level: level}
		e = g.entries[key]
	}
	if e == nil {
		text := otherTemplate
		if key.id != 0 {
			text = key.id.String()
		}
		e = &entry{key: key, labels: g.named(metricTemplate, labelTemplate, text, labelLevel, level)}
		e.first = b
		g.entries[key] = e
		s.entries++
	}
	e.first, e.last = min(e.first, b), max(e.last, b)
	return e
}
