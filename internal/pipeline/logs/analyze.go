package logs

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"aiops/internal/logmine"
	"aiops/internal/model"
)

// Bounds of an analysis.
const (
	analysedLines     = 500_000 // of each of the two ranges
	analysedPatterns  = 50      // listed of each kind
	analysedKinds     = 200     // words that name errors
	analysedDurations = 4096    // kept of one pattern: every 2nd, 4th … of more
	MostAnalysedRange = 31 * 24 * time.Hour
)

// AnalyzeArgs say what to look at.
type AnalyzeArgs struct {
	Source   string
	Query    string // of a source that is not the embedded one
	Selector model.Selector
	Contains string
	From, To time.Time
}

// Analyze reads the lines of a range and of the one before it, as long as this
// one, and says what they are about. It takes the newest lines when there are
// more than it looks at. Lines that were never mined here are mined apart, so
// that nothing changes in what is live. Progress goes from 0 to 1.
func (s *Stage) Analyze(ctx context.Context, args AnalyzeArgs, search SearchFunc, progress func(float64)) (model.LogAnalysis, error) {
	if !args.From.Before(args.To) || args.To.Sub(args.From) > MostAnalysedRange {
		return model.LogAnalysis{}, queryFault("/from", "the range ends after it begins, and is at most %s", model.Duration(MostAnalysedRange))
	}
	miner, err := logmine.New(logmine.Config{Seed: s.seed})
	if err != nil {
		return model.LogAnalysis{}, err
	}
	length := args.To.Sub(args.From)
	out := model.LogAnalysis{From: args.From.UTC(), To: args.To.UTC(), ComparedFrom: args.From.Add(-length).UTC(),
		Patterns: []model.LogPatternShare{}, New: []model.LogPatternShare{}, Gone: []model.LogPatternShare{},
		Errors: []model.LogErrorKind{}, Durations: []model.LogDuration{}, Hours: []model.LogHour{}}
	now := analysis{stage: s, miner: miner, patterns: map[string]*share{}, kinds: map[string]*model.LogErrorKind{}, hours: map[int64]*model.LogHour{}}
	before := analysis{stage: s, miner: miner, patterns: map[string]*share{}, light: true}
	read := func(a *analysis, from, to time.Time, base float64) error {
		return a.read(ctx, args, from, to, search, func(done float64) { progress(base + done/2) })
	}
	if err := read(&now, args.From, args.To, 0); err != nil {
		return out, err
	}
	if err := read(&before, out.ComparedFrom, args.From, 0.5); err != nil {
		return out, err
	}
	out.Lines, out.Truncated, out.ComparedLines = now.lines, now.truncated, before.lines
	for id, p := range now.patterns {
		if b := before.patterns[id]; b != nil {
			p.Before = b.Count
		}
		out.Patterns = append(out.Patterns, p.LogPatternShare)
		if p.Before == 0 && !before.truncated {
			out.New = append(out.New, p.LogPatternShare)
		}
		if d, ok := p.duration(); ok {
			out.Durations = append(out.Durations, d)
		}
	}
	for id, p := range before.patterns {
		if now.patterns[id] == nil && !now.truncated {
			p.Before, p.Count = p.Count, 0
			out.Gone = append(out.Gone, p.LogPatternShare)
		}
	}
	for _, k := range now.kinds {
		out.Errors = append(out.Errors, *k)
	}
	for _, h := range now.hours {
		out.Hours = append(out.Hours, *h)
	}
	order(&out)
	progress(1)
	return out, nil
}

// order sorts the lists and cuts them to their bounds.
func order(out *model.LogAnalysis) {
	for _, list := range []*[]model.LogPatternShare{&out.Patterns, &out.New, &out.Gone} {
		slices.SortFunc(*list, func(a, b model.LogPatternShare) int {
			return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(b.Before, a.Before), strings.Compare(a.ID, b.ID))
		})
		*list = (*list)[:min(len(*list), analysedPatterns)]
	}
	slices.SortFunc(out.Errors, func(a, b model.LogErrorKind) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Kind, b.Kind))
	})
	out.Errors = out.Errors[:min(len(out.Errors), analysedPatterns)]
	slices.SortFunc(out.Durations, func(a, b model.LogDuration) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.ID, b.ID))
	})
	out.Durations = out.Durations[:min(len(out.Durations), analysedPatterns)]
	slices.SortFunc(out.Hours, func(a, b model.LogHour) int { return a.Start.Compare(b.Start) })
}

// analysis gathers what the lines of one range are about.
type analysis struct {
	stage     *Stage
	miner     *logmine.Miner
	light     bool // only count patterns
	lines     int64
	truncated bool
	patterns  map[string]*share
	kinds     map[string]*model.LogErrorKind
	hours     map[int64]*model.LogHour
}

type share struct {
	model.LogPatternShare
	durations []time.Duration
	stride    int // every how many-th duration is kept
	skip      int
	found     int64
	longest   time.Duration
}

func (a *analysis) read(ctx context.Context, args AnalyzeArgs, from, to time.Time, search SearchFunc, progress func(float64)) error {
	f := model.LogFilter{From: from.UnixNano(), To: to.UnixNano(), Selector: args.Selector, Contains: args.Contains, Limit: 2000}
	for {
		lines, next, err := search(ctx, args.Source, args.Query, f)
		if err != nil {
			return fmt.Errorf("reading lines: %w", err)
		}
		for i := range lines {
			a.add(&lines[i])
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(lines) > 0 {
			done := float64(f.To-lines[len(lines)-1].T) / float64(f.To-f.From)
			progress(min(max(done, float64(a.lines)/analysedLines), 1))
		}
		if next == "" {
			return nil
		}
		if a.lines >= analysedLines {
			a.truncated = true
			return nil
		}
		f.Cursor = next
	}
}

func (a *analysis) add(l *model.LogLine) {
	a.lines++
	id, text := a.stage.templateOf(l, a.miner)
	p := a.patterns[id]
	if p == nil {
		if len(a.patterns) >= 1<<16 {
			return
		}
		p = &share{LogPatternShare: model.LogPatternShare{ID: id, Template: text, Level: l.Level, First: time.Unix(0, l.T).UTC(), Last: time.Unix(0, l.T).UTC(),
			Example: cleanText(l.Text, mostExampleBytes)}, stride: 1}
		a.patterns[id] = p
	}
	p.Count++
	if t := time.Unix(0, l.T).UTC(); t.Before(p.First) {
		p.First = t
	} else if t.After(p.Last) {
		p.Last = t
	}
	if a.light {
		return
	}
	hour := time.Unix(0, l.T).UTC().Truncate(time.Hour)
	h := a.hours[hour.Unix()]
	if h == nil {
		h = &model.LogHour{Start: hour}
		a.hours[hour.Unix()] = h
	}
	h.Lines++
	if severe(l.Level) {
		h.Errors++
	}
	a.addKinds(l)
	for _, d := range Durations(l.Text) {
		p.add(d)
	}
}

// templateOf returns the id and text of a line's template: the live one where
// the line was mined here, else one of the given miner.
func (s *Stage) templateOf(l *model.LogLine, miner *logmine.Miner) (id, text string) {
	if parsed, err := logmine.ParseID(l.Template); err == nil {
		s.mu.Lock()
		t, ok := s.miner.Template(parsed)
		s.mu.Unlock()
		if ok {
			return t.ID.String(), t.Text
		}
	}
	message := l.Message
	if message == "" {
		message = l.Text
	}
	mined := miner.Add([]byte(message[:min(len(message), minedBytes)]))
	t, _ := miner.Template(mined)
	return t.ID.String(), t.Text
}

// addKinds notes the words of a line that name errors: those that end in Error,
// Exception, Fault or Panic as programs write them, of lines of any level.
func (a *analysis) addKinds(l *model.LogLine) {
	text := l.Text[:min(len(l.Text), mostRuleBytes)]
	said := 0
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '.' || r == '$')
	}) {
		word = strings.Trim(word, ".")
		if at := strings.LastIndexByte(word, '.'); at >= 0 {
			word = word[at+1:]
		}
		if !namesError(word) {
			continue
		}
		k := a.kinds[word]
		if k == nil {
			if len(a.kinds) >= analysedKinds {
				continue
			}
			k = &model.LogErrorKind{Kind: word, Example: cleanText(l.Text, mostExampleBytes)}
			a.kinds[word] = k
		}
		k.Count++
		if said++; said == 3 {
			return
		}
	}
}

// namesError reports whether a word is made as programs name kinds of errors:
// a name of two parts or more that ends in what it is.
func namesError(word string) bool {
	if len(word) > 100 {
		return false
	}
	for _, end := range []string{"Error", "Exception", "Fault", "Panic", "Failure", "_error", "_exception"} {
		if len(word) > len(end) && strings.HasSuffix(word, end) {
			return true
		}
	}
	return false
}

// Durations returns the lengths of time that a line names: a number with a unit
// (12ms, 1.5 s, 3m2s), or after a key that ends in one (duration_ms=12,
// "took_seconds": 0.2). At most eight, of the first 4 KiB.
func Durations(text string) []time.Duration {
	text = text[:min(len(text), mostRuleBytes)]
	var out []time.Duration
	for i := 0; i < len(text) && len(out) < 8; {
		c := text[i]
		if c < '0' || c > '9' || i > 0 && (letter(text[i-1]) || text[i-1] == '.' || text[i-1] == '-' || text[i-1] == ':') {
			i++
			continue
		}
		end := i
		for end < len(text) && (text[end] >= '0' && text[end] <= '9' || text[end] == '.') {
			end++
		}
		if d, next, ok := durationAt(text, i, end); ok {
			out = append(out, d)
			i = next
			continue
		}
		i = end + 1
	}
	return out
}

func letter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_' }

// durationAt reads the number text[start:end] and what makes it a duration.
func durationAt(text string, start, end int) (d time.Duration, next int, ok bool) {
	number, err := strconv.ParseFloat(strings.TrimRight(text[start:end], "."), 64)
	if err != nil {
		return 0, end, false
	}
	word := end
	for word < len(text) && (letter(text[word]) || text[word] >= '0' && text[word] <= '9' || text[word] == '.' || text[word] == '\xc2' || text[word] == '\xb5') {
		word++
	}
	if word > end { // a unit without a space: perhaps several, as in 3m2s
		if parsed, err := time.ParseDuration(strings.TrimRight(text[start:word], ".")); err == nil {
			return parsed, word, true
		}
		return 0, word, false
	}
	if end < len(text) && text[end] == ' ' {
		word = end + 1
		for word < len(text) && letter(text[word]) {
			word++
		}
		if unit, known := unitOf(text[end+1 : word]); known {
			return scaled(number, unit), word, true
		}
	}
	key := strings.TrimRight(text[:start], "\"' =:")
	if len(key) < start {
		from := len(key)
		for from > 0 && letter(key[from-1]) {
			from--
		}
		name := key[from:]
		if at := strings.LastIndexByte(name, '_'); at >= 0 {
			if unit, known := unitOf(name[at+1:]); known {
				return scaled(number, unit), end, true
			}
		}
	}
	return 0, end, false
}

func scaled(number float64, unit time.Duration) time.Duration {
	return time.Duration(min(number*float64(unit), float64(1<<62)))
}

func unitOf(word string) (time.Duration, bool) {
	switch word {
	case "ns", "nanoseconds":
		return time.Nanosecond, true
	case "us", "microseconds":
		return time.Microsecond, true
	case "ms", "msec", "millis", "milliseconds":
		return time.Millisecond, true
	case "s", "sec", "secs", "second", "seconds":
		return time.Second, true
	case "minute", "minutes":
		return time.Minute, true
	}
	return 0, false
}

// add keeps a duration, or every so many-th one of a pattern with many.
func (p *share) add(d time.Duration) {
	if d < 0 {
		return
	}
	p.found++
	p.longest = max(p.longest, d)
	if p.skip > 0 {
		p.skip--
		return
	}
	p.skip = p.stride - 1
	if len(p.durations) >= analysedDurations {
		for i := range analysedDurations / 2 {
			p.durations[i] = p.durations[2*i]
		}
		p.durations = p.durations[:analysedDurations/2]
		p.stride *= 2
	}
	p.durations = append(p.durations, d)
}

func (p *share) duration() (model.LogDuration, bool) {
	if p.found == 0 {
		return model.LogDuration{}, false
	}
	slices.Sort(p.durations)
	at := func(q float64) time.Duration { return p.durations[int(q*float64(len(p.durations)-1))] }
	return model.LogDuration{ID: p.ID, Template: p.Template, Count: p.found, P50: at(0.5), P90: at(0.9), P99: at(0.99), Max: p.longest}, true
}
