package logs

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"aiops/internal/logmine"
	"aiops/internal/model"
)

// Patterns returns one page of the patterns that f selects, and the cursor of
// the page behind it, "" on the last one. A pattern whose place in the order
// changes meanwhile, because lines come, may appear twice or not at all; sorted
// by id each appears once.
func (s *Stage) Patterns(_ context.Context, f model.LogPatternFilter) ([]model.LogPattern, string, error) {
	key, descending := strings.CutPrefix(cmp.Or(f.Sort, "-count"), "-")
	if !slices.Contains([]string{"count", "first_seen", "last_seen", "id"}, key) {
		return nil, "", queryFault("/sort", "sort is count, first_seen, last_seen or id, with a leading - to descend, not %q", cleanText(f.Sort, 40))
	}
	matches, err := f.Selector.Compile()
	if err != nil {
		return nil, "", err
	}
	after, err := readCursor(f.Cursor, cmp.Or(f.Sort, "-count"))
	if err != nil {
		return nil, "", err
	}
	all := s.patterns(f, matches)
	order := func(p model.LogPattern) int64 {
		switch key {
		case "count":
			return int64(p.Count)
		case "first_seen":
			return p.FirstSeen.UnixNano()
		case "last_seen":
			return p.LastSeen.UnixNano()
		}
		return 0
	}
	compare := func(a, b cursor) int {
		c := cmp.Or(cmp.Compare(a.At, b.At), strings.Compare(a.ID, b.ID))
		if descending {
			return -c
		}
		return c
	}
	place := func(p model.LogPattern) cursor { return cursor{At: order(p), ID: p.ID} }
	slices.SortFunc(all, func(a, b model.LogPattern) int { return compare(place(a), place(b)) })
	if f.Cursor != "" {
		all = all[sortSearch(all, func(p model.LogPattern) bool { return compare(place(p), after) > 0 }):]
	}
	limit := f.Limit
	if limit <= 0 {
		limit = 50
	}
	limit = min(limit, 1000)
	if len(all) <= limit {
		return all, "", nil
	}
	next := place(all[limit-1])
	next.Sort = cmp.Or(f.Sort, "-count")
	return all[:limit], next.encode(), nil
}

func sortSearch(all []model.LogPattern, f func(model.LogPattern) bool) int {
	for i, p := range all {
		if f(p) {
			return i
		}
	}
	return len(all)
}

// cursor is where a page ends.
type cursor struct {
	Sort string `json:"s"`
	At   int64  `json:"t"`
	ID   string `json:"i"`
}

func (c cursor) encode() string {
	b, err := json.Marshal(c)
	if err != nil {
		panic("BUG: encoding a cursor: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func readCursor(text, sort string) (cursor, error) {
	var c cursor
	if text == "" {
		return c, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || json.Unmarshal(b, &c) != nil || c.Sort != sort {
		return c, queryFault("/cursor", "the cursor is not one of this list; begin at the first page")
	}
	return c, nil
}

func queryFault(pointer, format string, args ...any) error {
	var v model.Invalid
	v.Add(pointer, "invalid", format, args...)
	return v.Err("")
}

// patterns returns what f selects, in no order.
func (s *Stage) patterns(f model.LogPatternFilter, matches func(model.Labels) bool) []model.LogPattern {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.streamsOf()
	query := lowerASCII(f.Query)
	out := []model.LogPattern{}
	for _, t := range s.miner.Templates() {
		p := s.pattern(t, at[t.ID])
		switch {
		case f.Source != "" && !slices.Contains(p.Sources, f.Source),
			len(f.Selector) > 0 && !slices.ContainsFunc(at[t.ID], func(g *group) bool { return matches(g.stream) }),
			f.Level != "" && p.Level != f.Level,
			query != "" && !strings.Contains(lowerASCII(p.Template), query) && !strings.Contains(lowerASCII(p.Name), query),
			f.Pinned != nil && p.Pinned != *f.Pinned,
			f.Expected != nil && p.Expected != *f.Expected,
			p.LastSeen.Before(f.SeenSince), p.FirstSeen.Before(f.NewSince):
			continue
		}
		out = append(out, p)
	}
	return out
}

// streamsOf returns the groups that know each template.
func (s *Stage) streamsOf() map[logmine.ID][]*group {
	out := map[logmine.ID][]*group{}
	for _, f := range s.feeds {
		for _, g := range f.groups {
			for id := range g.known {
				if to, ok := s.miner.Resolve(id); ok && !slices.Contains(out[to], g) {
					out[to] = append(out[to], g)
				}
			}
		}
	}
	return out
}

// Pattern returns one pattern. Ids of patterns that were merged away lead to
// the one that stayed.
func (s *Stage) Pattern(_ context.Context, id string) (model.LogPattern, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.template(id)
	if err != nil {
		return model.LogPattern{}, err
	}
	return s.pattern(t, s.streamsOf()[t.ID]), nil
}

func (s *Stage) template(id string) (logmine.Template, error) {
	parsed, err := logmine.ParseID(id)
	if err == nil {
		if t, ok := s.miner.Template(parsed); ok {
			return t, nil
		}
	}
	return logmine.Template{}, model.NotFound(model.SubjectLogPattern, cleanText(id, 40))
}

// pattern shows a template.
func (s *Stage) pattern(t logmine.Template, at []*group) model.LogPattern {
	p := model.LogPattern{ID: t.ID.String(), Template: t.Text, Variables: len(t.Variables), Name: t.Name, Pinned: t.Pinned, Count: t.Count,
		Sources: []string{}, Streams: []model.Labels{}, Examples: []string{}, SparkStep: sparkStep, Version: 1}
	if t.Parent != 0 {
		p.Parent = t.Parent.String()
	}
	for _, g := range at {
		if !slices.Contains(p.Sources, g.feed.key.source) {
			p.Sources = append(p.Sources, g.feed.key.source)
		}
		if len(p.Streams) < model.MostPatternStreams {
			p.Streams = append(p.Streams, g.stream)
		}
	}
	slices.Sort(p.Sources)
	slices.SortFunc(p.Streams, func(a, b model.Labels) int { return strings.Compare(a.Key(), b.Key()) })
	n := s.notes[t.ID]
	if n == nil {
		return p
	}
	p.Expected, p.Severity, p.Version = n.expected, n.severity, n.version
	p.FirstSeen, p.LastSeen = time.Unix(0, n.first).UTC(), time.Unix(0, n.last).UTC()
	p.Examples = append(p.Examples, n.examples...)
	p.Level = n.level()
	slot := s.now().UnixNano() / int64(sparkStep)
	p.Sparkline = make([]uint32, sparkSlots)
	for i := range p.Sparkline {
		if at := slot - int64(sparkSlots-1-i); at >= 0 && at <= n.sparkAt && at > n.sparkAt-sparkSlots {
			p.Sparkline[i] = n.spark[at%sparkSlots]
		}
	}
	return p
}

// level returns the level of most lines.
func (n *note) level() string {
	most := 0
	for i := range n.levels {
		if n.levels[i] > n.levels[most] {
			most = i
		}
	}
	return levels[most]
}

func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// EditPattern does what people decided about a pattern and returns it as it is
// then; after a merge that is the one whose id stays. When expect is not 0 and
// not the pattern's version, the error is a KindPrecondition. It is stored when
// EditPattern returns without an error; after one of KindDatabase it is in force
// and may be lost by a crash, and can be done again.
func (s *Stage) EditPattern(ctx context.Context, id string, e model.LogPatternEdit, expect int64) (model.LogPattern, error) {
	if err := checkEdit(e); err != nil {
		return model.LogPattern{}, err
	}
	s.deciding.Lock()
	out, err := s.decide(ctx, id, e, expect)
	s.deciding.Unlock()
	if err != nil {
		return model.LogPattern{}, err
	}
	if err := s.Save(ctx); err != nil {
		return model.LogPattern{}, err
	}
	return out, nil
}

func checkEdit(e model.LogPatternEdit) error {
	var v model.Invalid
	if e.Name != nil && !validName(*e.Name) {
		v.Add("/name", "name", "a name has at most %d bytes of printable characters", mostNameBytes)
	}
	if e.MergeWith != "" && e.SplitAt != nil {
		v.Add("/split_at", "one_of", "give merge_with or split_at, not both")
	}
	if e.Severity != nil {
		switch *e.Severity {
		case "", model.SeverityInfo, model.SeverityWarning, model.SeverityCritical:
		default:
			v.Add("/severity", "unknown_value", "severity is info, warning, critical or empty")
		}
	}
	return v.Err(model.SubjectLogPattern)
}

const mostNameBytes = 200

// validName refuses what could change how other text is shown: control
// characters, escapes, and marks of direction.
func validName(name string) bool {
	if len(name) > mostNameBytes || !utf8.ValidString(name) || strings.TrimSpace(name) != name {
		return false
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// edit does the edit here and returns the pattern and the decision for others.
func (s *Stage) edit(id string, e model.LogPatternEdit, expect int64) (model.LogPattern, decision, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fail := func(err error) (model.LogPattern, decision, error) { return model.LogPattern{}, decision{}, err }
	t, err := s.template(id)
	if err != nil {
		return fail(err)
	}
	n := s.noteFor(t.ID)
	if expect != 0 && expect != n.version {
		return fail(&model.Error{Kind: model.KindPrecondition, Subject: model.SubjectLogPattern,
			Message: "the pattern was changed meanwhile; read it again and repeat the change", Context: map[string]any{"id": n.text, "version": n.version}})
	}
	d := decision{Split: e.SplitAt != nil, Name: e.Name, Pinned: e.Pinned, Expected: e.Expected, Severity: e.Severity}
	// What can fail comes first, so that an edit is done wholly or not at all.
	if e.SplitAt != nil {
		if err := s.miner.Split(t.ID, *e.SplitAt); err != nil {
			return fail(s.editFault(err, "/split_at"))
		}
	}
	if e.MergeWith != "" {
		if n, d.With, err = s.merge(t.ID, e.MergeWith); err != nil {
			return fail(err)
		}
	}
	if err := s.applyEdit(n, e.Name, e.Pinned, e.Expected, e.Severity); err != nil {
		return fail(err)
	}
	n.version++
	d.Version = n.version
	if d.Template, err = s.miner.Record(n.id); err != nil {
		return fail(err)
	}
	after, _ := s.miner.Template(n.id)
	return s.pattern(after, s.streamsOf()[n.id]), d, nil
}

// applyEdit does what is set. It needs mu.
func (s *Stage) applyEdit(n *note, name *string, pinned, expected *bool, severity *model.Severity) error {
	if name != nil {
		if err := s.miner.Name(n.id, *name); err != nil {
			return err
		}
	}
	if pinned != nil {
		if err := s.miner.Pin(n.id, *pinned); err != nil {
			return err
		}
	}
	if expected != nil {
		n.expected = *expected
	}
	if severity != nil {
		n.severity = *severity
	}
	mark := logmine.MarkNone
	switch {
	case n.expected:
		mark = logmine.MarkIgnored
	case n.severity != "":
		mark = logmine.MarkImportant
	}
	return s.miner.Mark(n.id, mark)
}

// merge makes one pattern of two and returns the note of what is left, and the
// record of the one that is gone as it was.
func (s *Stage) merge(id logmine.ID, with string) (*note, []byte, error) {
	other, err := s.template(with)
	if err != nil {
		var v model.Invalid
		v.Add("/merge_with", "not_found", "there is no pattern with this id")
		return nil, nil, v.Err(model.SubjectLogPattern)
	}
	if other.ID == id {
		return nil, nil, model.Errorf(model.KindConflict, model.SubjectLogPattern, "the two are one pattern already")
	}
	records := map[logmine.ID][]byte{}
	for _, one := range []logmine.ID{id, other.ID} {
		if records[one], err = s.miner.Record(one); err != nil {
			return nil, nil, err
		}
	}
	n, err := s.mergeNotes(id, other.ID)
	if err != nil {
		return nil, nil, err
	}
	if n.id == id {
		return n, records[other.ID], nil
	}
	return n, records[id], nil
}

// mergeNotes merges two patterns and what is known of them.
func (s *Stage) mergeNotes(id, other logmine.ID) (*note, error) {
	a, b := s.notes[id], s.notes[other]
	stays, err := s.miner.Merge(id, other)
	if err != nil {
		return nil, s.editFault(err, "/merge_with")
	}
	gone := b
	if stays == other {
		a, gone = b, a
	}
	if a == nil {
		a = s.noteFor(stays)
	}
	if gone != nil {
		a.take(gone)
		a.version = max(a.version, gone.version)
		delete(s.notes, gone.id)
	}
	return a, nil
}

// editFault turns what the miner refuses into a fault of the input.
func (s *Stage) editFault(err error, pointer string) error {
	if model.KindOf(err) != model.KindInvalid {
		return err
	}
	var v model.Invalid
	v.Add(pointer, "invalid", "%s", err.Error())
	return v.Err(model.SubjectLogPattern)
}

// IDs returns all ids that the lines of a pattern were given: its own and those
// of the patterns that were merged into it.
func (s *Stage) IDs(id string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.template(id)
	if err != nil {
		return nil, err
	}
	out := []string{t.ID.String()}
	for _, a := range s.miner.Aliases(t.ID) {
		out = append(out, a.String())
	}
	return out[:min(len(out), 900)], nil
}

// Severity returns what people said of a pattern: a severity for its anomalies,
// or "".
func (s *Stage) Severity(id string) model.Severity {
	parsed, err := logmine.ParseID(id)
	if err != nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if to, ok := s.miner.Resolve(parsed); ok {
		if n := s.notes[to]; n != nil {
			return n.severity
		}
	}
	return ""
}
