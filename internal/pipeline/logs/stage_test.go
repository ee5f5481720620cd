package logs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"aiops/internal/logmine"
	"aiops/internal/model"
)

// fixture is a stage on a clock of its own and a database in memory.
type fixture struct {
	*Stage
	t     *testing.T
	clock time.Time

	mu      sync.Mutex
	samples map[string]map[int64]float64 // key of the series → time → value
	refuse  error
	state   []byte
	saves   int
	stored  []model.LogLine
	full    error

	decisions *shared
}

func (f *fixture) Append(_ context.Context, series []model.SeriesData) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return f.refuse
	}
	for _, one := range series {
		key := one.Labels.Key()
		if f.samples[key] == nil {
			f.samples[key] = map[int64]float64{}
		}
		for _, p := range one.Samples {
			if _, twice := f.samples[key][p.T]; twice {
				f.t.Errorf("%s was written twice at %d", key, p.T)
			}
			f.samples[key][p.T] = p.V
		}
	}
	return nil
}

func (f *fixture) LogState(context.Context) ([]byte, error) { return f.state, nil }
func (f *fixture) SaveLogState(_ context.Context, b []byte) error {
	f.state = b
	f.saves++
	return nil
}

func (f *fixture) AppendLogDecision(_ context.Context, data []byte) (int64, error) {
	f.decisions.mu.Lock()
	defer f.decisions.mu.Unlock()
	f.decisions.data = append(f.decisions.data, data)
	return int64(len(f.decisions.data)), nil
}

func (f *fixture) LogDecisions(_ context.Context, since int64) ([]model.LogDecision, error) {
	f.decisions.mu.Lock()
	defer f.decisions.mu.Unlock()
	var out []model.LogDecision
	for i := since; i < int64(len(f.decisions.data)); i++ {
		out = append(out, model.LogDecision{ID: i + 1, Data: f.decisions.data[i]})
	}
	return out, nil
}

// shared is what several nodes keep together.
type shared struct {
	mu   sync.Mutex
	data [][]byte
}

type lineStore struct{ f *fixture }

func (s lineStore) Append(_ context.Context, lines []model.LogLine) error {
	if s.f.full != nil {
		return s.f.full
	}
	s.f.stored = append(s.f.stored, lines...)
	return nil
}

var began = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func setup(t *testing.T, cfg Config) *fixture {
	t.Helper()
	f := &fixture{t: t, clock: began, samples: map[string]map[int64]float64{}, decisions: &shared{}}
	f.open(cfg)
	return f
}

func (f *fixture) open(cfg Config) {
	f.t.Helper()
	s, err := Open(context.Background(), Options{Config: cfg, Series: f, Lines: lineStore{f}, States: f,
		Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return f.clock }})
	if err != nil {
		f.t.Fatal(err)
	}
	f.Stage = s
}

// lines makes lines of a service at the fixture's time.
func (f *fixture) lines(service, level string, messages ...string) []model.LogLine {
	stream := model.Labels{{Name: "service", Value: service}}
	var out []model.LogLine
	for _, m := range messages {
		out = append(out, model.LogLine{T: f.clock.UnixNano(), Stream: stream, Text: level + " " + m, Message: m, Level: level})
	}
	return out
}

func (f *fixture) take(lines []model.LogLine) {
	f.t.Helper()
	if err := f.Take(context.Background(), model.BuiltinSource, lines); err != nil {
		f.t.Fatal(err)
	}
}

// pass lets time go by, one bucket after the other.
func (f *fixture) pass(d time.Duration, each func()) {
	for end := f.clock.Add(d); f.clock.Before(end); f.clock = f.clock.Add(model.LogBucket) {
		if each != nil {
			each()
		}
		f.Flush(context.Background())
	}
}

// values returns the samples of the series whose key has all parts, by time.
func (f *fixture) values(parts ...string) []float64 {
	sum := map[int64]float64{}
	for key, samples := range f.samples {
		if all(key, parts) {
			for at, v := range samples {
				sum[at] += v
			}
		}
	}
	var out []float64
	for _, at := range slices.Sorted(maps.Keys(sum)) {
		out = append(out, sum[at])
	}
	return out
}

func all(key string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(key, p) {
			return false
		}
	}
	return true
}

func total(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum
}

func TestCounts(t *testing.T) {
	t.Parallel()
	f := setup(t, Config{})
	f.pass(time.Minute, func() {
		f.take(f.lines("cart", model.LevelInfo, "request 17 served in 12 ms", "request 18 served in 9 ms"))
		f.take(f.lines("cart", model.LevelError, "store 3 refused the connection"))
	})
	f.pass(30*time.Second, nil)
	if got := total(f.values(metricLines)); got != 36 {
		t.Errorf("%v lines are counted, want 36", got)
	}
	if got := total(f.values(metricTemplate, `level="info"`)); got != 24 {
		t.Errorf("%v lines of level info are counted, want 24", got)
	}
	if got := total(f.values(metricSevere)); got != 12 {
		t.Errorf("%v errors are counted, want 12", got)
	}
	if got := f.values(metricLines); got[len(got)-1] != 0 {
		t.Errorf("a silent stream counts %v, want 0", got[len(got)-1])
	}
	if len(f.stored) != 36 || f.stored[0].Template == "" || f.stored[0].Template != f.stored[1].Template || f.stored[2].Template == f.stored[0].Template {
		t.Errorf("lines are stored with templates %q, %q, %q", f.stored[0].Template, f.stored[1].Template, f.stored[2].Template)
	}
}

// TestSeriesBeginWithTheirFirstLine: a bucket that was open before a stream or
// template came up says nothing of it, or a new service would begin silent.
func TestSeriesBeginWithTheirFirstLine(t *testing.T) {
	t.Parallel()
	f := setup(t, Config{})
	f.pass(time.Minute, func() { f.take(f.lines("other", "", "hello")) })
	f.pass(time.Minute, func() { f.take(f.lines("cart", "", "request served")) })
	for _, parts := range [][]string{{metricLines, `service="cart"`}, {metricTemplate, `service="cart"`}} {
		if got := f.values(parts...); len(got) == 0 || got[0] != 1 {
			t.Errorf("%v begins with %v", parts, got)
		}
	}
}

func TestLateLinesChangeNoSample(t *testing.T) {
	t.Parallel()
	f := setup(t, Config{})
	first := f.lines("cart", model.LevelInfo, "hello world")
	f.take(first)
	f.pass(5*time.Second, nil)
	f.take(slices.Clone(first)) // its bucket is over, but still takes lines
	f.pass(15*time.Second, nil)
	if got := total(f.values(metricLines)); got != 2 {
		t.Fatalf("%v lines are counted, want 2", got)
	}
	f.take(slices.Clone(first)) // too late
	f.pass(15*time.Second, nil)
	if got := total(f.values(metricLines)); got != 2 {
		t.Errorf("a late line changed the counts to %v", got)
	}
	if len(f.stored) != 3 {
		t.Errorf("%d lines are stored, want 3", len(f.stored))
	}
}

func TestLinesThatAreNotStoredAreNotCounted(t *testing.T) {
	t.Parallel()
	f := setup(t, Config{})
	f.full = errors.New("no space")
	if err := f.Take(context.Background(), model.BuiltinSource, f.lines("cart", "", "hello")); err == nil {
		t.Fatal("lines that were not stored were taken")
	}
	f.full = nil
	f.take(f.lines("cart", "", "hello"))
	f.pass(20*time.Second, nil)
	if got := total(f.values(metricLines)); got != 1 {
		t.Errorf("%v lines are counted, want 1", got)
	}
}

func TestCountsWaitForTheDatabase(t *testing.T) {
	t.Parallel()
	f := setup(t, Config{})
	f.take(f.lines("cart", "", "hello"))
	f.refuse = errors.New("disk full")
	f.pass(time.Minute, nil)
	if len(f.samples) != 0 || f.Stats().Waiting == 0 {
		t.Fatal("counts do not wait")
	}
	if got := f.Written(model.BuiltinSource, ""); got > began.UnixMilli()+5000 {
		t.Errorf("counts are said to be written up to %d", got)
	}
	f.refuse = nil
	f.pass(5*time.Second, nil)
	if got := total(f.values(metricLines)); got != 1 || f.Stats().Waiting != 0 {
		t.Errorf("%v lines are counted, want 1; %d buckets wait", got, f.Stats().Waiting)
	}
}

// TestNewTemplate is the life of a stream: learning, quiet, a new template, and
// a restart after which nothing is new.
func TestNewTemplate(t *testing.T) {
	t.Parallel()
	f := setup(t, Config{})
	usual := func() {
		f.take(f.lines("cart", model.LevelInfo, "request served", "cache refreshed", fmt.Sprintf("order %d shipped", f.clock.Unix())))
	}
	f.pass(20*time.Minute, usual)
	if got := total(f.values(metricNovelty)); got != 0 {
		t.Fatalf("a usual stream has the novelty %v", got)
	}
	f.take(f.lines("cart", model.LevelError, "certificate of bank 7 expired"))
	f.pass(20*time.Second, usual)
	novelty := f.values(metricNovelty)
	if got := slices.Max(novelty); got < 6 {
		t.Errorf("a new template has the novelty %v, want more than 6", got)
	}
	if f.saves == 0 {
		t.Error("what is new was not stored")
	}
	written := len(novelty)

	f.open(Config{}) // as after a kill
	f.clock = f.clock.Add(time.Minute)
	f.pass(time.Minute, func() {
		usual()
		f.take(f.lines("cart", model.LevelError, "certificate of bank 7 expired"))
	})
	if got := slices.Max(f.values(metricNovelty)[written:]); got != 0 {
		t.Errorf("after a restart what is known has the novelty %v", got)
	}
}

// TestRareLines is a stream with a long tail: each minute a line that was never
// seen before. It must not alarm, and a new template in numbers must.
func TestRareLines(t *testing.T) {
	t.Parallel()
	words := strings.Fields("amber birch cedar delta ember flint grove haven inlet jetty knoll ledge manor north ocean plaza quarry ridge stone tower upper vault woods xenon yield zebra")
	f := setup(t, Config{})
	n := 0
	rare := func() {
		for range 20 {
			f.take(f.lines("cart", model.LevelInfo, "request served"))
		}
		if n++; n%12 == 0 {
			k := n / 12
			f.take(f.lines("cart", model.LevelInfo, fmt.Sprintf("%s of the %s over %s", words[k%26], words[k/26%26], words[(k*7)%26])))
		}
	}
	f.pass(time.Hour, rare)
	perWeek := 5.08 // the threshold of one false alarm a week on one series with steps of 5 s
	alarms := 0
	for _, v := range f.values(metricNovelty) {
		if v > perWeek {
			alarms++
		}
	}
	if alarms > 3 {
		t.Errorf("a long tail of rare lines alarms %d times in an hour", alarms)
	}
	before := len(f.values(metricNovelty))
	for range 50 {
		f.take(f.lines("cart", model.LevelError, "disk of the shelf failed to spin"))
	}
	f.pass(15*time.Second, rare)
	if got := slices.Max(f.values(metricNovelty)[before:]); got < perWeek {
		t.Errorf("a new template of 50 lines among rare ones has the novelty %v", got)
	}
}

func TestMix(t *testing.T) {
	t.Parallel()
	f := setup(t, Config{})
	even := func(a, b, c int) func() {
		return func() {
			for range a {
				f.take(f.lines("cart", "", "request served"))
			}
			for range b {
				f.take(f.lines("cart", "", "cache refreshed"))
			}
			for range c {
				f.take(f.lines("cart", "", "queue is full"))
			}
		}
	}
	f.pass(20*time.Minute, even(20, 10, 1))
	usual := f.values(metricMix)
	f.pass(time.Minute, even(20, 10, 30))
	changed := f.values(metricMix)
	if u, c := slices.Max(usual[len(usual)-20:]), slices.Max(changed); u > 0.02 || c < 10*u || c > 1 {
		t.Errorf("the divergence is %v while usual and %v after the mix changed", u, c)
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	f := setup(t, Config{})
	rule := &model.LogRule{Kind: model.LogPatternKind, Pattern: `refused|denied`}
	if err := f.Watch([]model.Detector{
		{Name: "a", Source: model.BuiltinSource, Query: `{service="cart"}`, Log: rule, Enabled: true},
		{Name: "b", Source: model.BuiltinSource, Query: `{service="none"}`, Log: rule, Enabled: true},
		{Name: "off", Source: model.BuiltinSource, Query: `{}`, Log: &model.LogRule{Kind: model.LogPatternKind, Pattern: "off"}},
	}); err != nil {
		t.Fatal(err)
	}
	f.take(f.lines("cart", "", "access denied", "fine"))
	f.take(f.lines("stock", "", "access denied"))
	f.pass(20*time.Second, nil)
	if got := f.values(metricRule); total(got) != 1 || len(got) < 2 {
		t.Errorf("the expression counts %v, want one line and zeros", got)
	}
	var many []model.Detector
	for i := range mostRules + 1 {
		many = append(many, model.Detector{Name: fmt.Sprint(i), Source: model.BuiltinSource, Enabled: true,
			Log: &model.LogRule{Kind: model.LogPatternKind, Pattern: fmt.Sprint("x", i)}})
	}
	if err := f.Watch(many); model.KindOf(err) != model.KindInvalid {
		t.Errorf("%d expressions: %v", len(many), err)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	f := setup(t, Config{MaxStreams: 10, MaxSeries: 100})
	for i := range 20_000 {
		f.take([]model.LogLine{{T: f.clock.UnixNano(), Stream: model.LabelsFromMap(map[string]string{"service": fmt.Sprint("s", i), "pod": fmt.Sprint(i)}),
			Message: fmt.Sprintf("%x is %c%c%c", i, 'a'+i%26, 'a'+i/26%26, 'a'+i/676%26)}})
	}
	f.pass(20*time.Second, nil)
	if st := f.Stats(); st.Streams > 11 || st.Series > 120 {
		t.Errorf("%+v, want at most 11 streams and 120 series", st)
	}
	if got := total(f.values(metricLines)); got != 20_000 {
		t.Errorf("%v lines are counted, want 20000", got)
	}
	if got := total(f.values(metricLines, `overflow="true"`)); got < 19_000 {
		t.Errorf("%v lines are counted as overflow", got)
	}
	// Idle streams make room.
	f.pass(15*time.Minute, nil)
	f.take(f.lines("legit", "", "hello"))
	f.pass(20*time.Second, nil)
	if got := total(f.values(metricLines, `service="legit"`)); got != 1 {
		t.Errorf("a stream after the flood counts %v, want 1", got)
	}
}

func TestPausesAndJumpsOfTheClock(t *testing.T) {
	t.Parallel()
	f := setup(t, Config{})
	f.take(f.lines("cart", "", "hello"))
	f.pass(time.Minute, nil)
	f.clock = f.clock.Add(-time.Hour)
	f.take(f.lines("cart", "", "hello"))
	f.pass(time.Minute, nil)
	f.clock = f.clock.Add(48 * time.Hour)
	f.take(f.lines("cart", "", "hello"))
	f.pass(time.Minute, nil)
	if n := len(f.values(metricLines)); n > mostGap+60 {
		t.Errorf("a pause of two days wrote %d samples", n)
	}
	if math.IsNaN(total(f.values(metricNovelty))) {
		t.Error("novelty is not a number")
	}
}

func TestMergedTemplateIsNotNewAndEnds(t *testing.T) {
	t.Parallel()
	f := setup(t, Config{})
	f.pass(20*time.Minute, func() {
		f.take(f.lines("cart", "", "unable to reach red", "unable to reach blue"))
	})
	list, _, err := f.Patterns(context.Background(), model.LogPatternFilter{})
	if err != nil || len(list) != 2 {
		t.Fatalf("patterns: %v, %v", list, err)
	}
	merged, err := f.EditPattern(context.Background(), list[0].ID, model.LogPatternEdit{MergeWith: list[1].ID}, 0)
	if err != nil {
		t.Fatal(err)
	}
	before := len(f.values(metricNovelty))
	f.pass(time.Minute, func() {
		f.take(f.lines("cart", "", "unable to reach red", "unable to reach green"))
	})
	if got := slices.Max(f.values(metricNovelty)[before:]); got != 0 {
		t.Errorf("a merged template has the novelty %v", got)
	}
	if merged.Count != 480 || !strings.Contains(merged.Template, "<*>") {
		t.Errorf("merged: %d lines of %q", merged.Count, merged.Template)
	}
	if f.Stats().Series != 1 {
		t.Errorf("%d series are written after the merge, want 1", f.Stats().Series)
	}
	for _, id := range []string{list[0].ID, list[1].ID} {
		if p, err := f.Pattern(context.Background(), id); err != nil || p.ID != merged.ID {
			t.Errorf("id %s leads to %s, %v; want %s", id, p.ID, err, merged.ID)
		}
	}
}

func TestEditsSurviveARestart(t *testing.T) {
	t.Parallel()
	f := setup(t, Config{})
	f.take(f.lines("cart", model.LevelWarn, "disk 7 is 91 percent full", "fan 3 is loud"))
	list, next, err := f.Patterns(context.Background(), model.LogPatternFilter{Sort: "id", Limit: 1})
	if err != nil || len(list) != 1 || next == "" {
		t.Fatalf("patterns: %v, %q, %v", list, next, err)
	}
	rest, end, err := f.Patterns(context.Background(), model.LogPatternFilter{Sort: "id", Limit: 1, Cursor: next})
	if err != nil || len(rest) != 1 || end != "" || rest[0].ID == list[0].ID {
		t.Fatalf("second page: %v, %q, %v", rest, end, err)
	}
	name, yes, severity := "disk fills", true, model.SeverityCritical
	id := list[0].ID
	p, err := f.EditPattern(context.Background(), id, model.LogPatternEdit{Name: &name, Pinned: &yes, Expected: &yes, Severity: &severity}, 1)
	if err != nil || p.Version != 2 {
		t.Fatalf("edit: %+v, %v", p, err)
	}
	if _, err := f.EditPattern(context.Background(), id, model.LogPatternEdit{Pinned: &yes}, 1); model.KindOf(err) != model.KindPrecondition {
		t.Errorf("an edit of an old version: %v", err)
	}
	f.open(Config{})
	if p, err = f.Pattern(context.Background(), id); err != nil || p.Name != name || !p.Pinned || !p.Expected || p.Severity != severity || p.Level != model.LevelWarn || len(p.Examples) != 1 {
		t.Errorf("after a restart: %+v, %v", p, err)
	}
	f.take(f.lines("cart", model.LevelWarn, "disk 7 is 91 percent full", "fan 3 is loud"))
	if got := f.stored[len(f.stored)-2:]; got[0].Template != f.stored[0].Template || got[1].Template != f.stored[1].Template {
		t.Error("ids changed across a restart")
	}
}

func TestDamagedStateIsLeftBehind(t *testing.T) {
	t.Parallel()
	f := setup(t, Config{})
	f.take(f.lines("cart", "", "hello world"))
	if err := f.Save(context.Background()); err != nil {
		t.Fatal(err)
	}
	whole := f.state
	for _, cut := range []int{0, 1, len(whole) / 3, len(whole) / 2, len(whole) - 1} {
		f.state = slices.Clone(whole[:cut])
		f.open(Config{})
		f.take(f.lines("cart", "", "hello world"))
		if got := f.stored[len(f.stored)-1].Template; got != f.stored[0].Template {
			t.Errorf("cut at %d: the id is %s, want %s", cut, got, f.stored[0].Template)
		}
	}
}

func TestRefusedEdits(t *testing.T) {
	t.Parallel()
	f := setup(t, Config{})
	f.take(f.lines("cart", "", "disk 7 is full"))
	id := f.stored[0].Template
	text := func(s string) *string { return &s }
	number := func(n int) *int { return &n }
	severity := model.Severity("loud")
	for name, c := range map[string]struct {
		id   string
		edit model.LogPatternEdit
		want model.Kind
	}{
		"unknown":          {"00000000000000ff", model.LogPatternEdit{}, model.KindNotFound},
		"no id":            {"\x1b[31m", model.LogPatternEdit{}, model.KindNotFound},
		"escape":           {id, model.LogPatternEdit{Name: text("\x1b[31mred")}, model.KindInvalid},
		"right to left":    {id, model.LogPatternEdit{Name: text("a\u202eb")}, model.KindInvalid},
		"no UTF-8":         {id, model.LogPatternEdit{Name: text("\xff")}, model.KindInvalid},
		"long":             {id, model.LogPatternEdit{Name: text(strings.Repeat("x", 201))}, model.KindInvalid},
		"severity":         {id, model.LogPatternEdit{Severity: &severity}, model.KindInvalid},
		"no such variable": {id, model.LogPatternEdit{SplitAt: number(9)}, model.KindInvalid},
		"negative":         {id, model.LogPatternEdit{SplitAt: number(-1)}, model.KindInvalid},
		"merge with none":  {id, model.LogPatternEdit{MergeWith: "00000000000000ff"}, model.KindInvalid},
		"merge with self":  {id, model.LogPatternEdit{MergeWith: id}, model.KindConflict},
		"both":             {id, model.LogPatternEdit{MergeWith: id, SplitAt: number(0)}, model.KindInvalid},
	} {
		if _, err := f.EditPattern(context.Background(), c.id, c.edit, 0); model.KindOf(err) != c.want {
			t.Errorf("%s: %v, want kind %q", name, err, c.want)
		}
	}
	if p, err := f.Pattern(context.Background(), id); err != nil || p.Version != 1 || p.Name != "" {
		t.Errorf("a refused edit changed the pattern: %+v, %v", p, err)
	}
}

func TestSplit(t *testing.T) {
	t.Parallel()
	f := setup(t, Config{})
	lines := []string{"disk 7 is full", "disk 8 is full"}
	f.take(f.lines("cart", "", lines...))
	if f.stored[0].Template != f.stored[1].Template {
		t.Fatal("the lines have two templates to begin with")
	}
	zero := 0
	if _, err := f.EditPattern(context.Background(), f.stored[0].Template, model.LogPatternEdit{SplitAt: &zero}, 0); err != nil {
		t.Fatal(err)
	}
	f.open(Config{})
	f.take(f.lines("cart", "", lines...))
	if f.stored[2].Template == f.stored[3].Template {
		t.Error("the lines have one template after the split and a restart")
	}
	p, err := f.Pattern(context.Background(), f.stored[2].Template)
	if err != nil || p.Parent != f.stored[0].Template {
		t.Errorf("the child has the parent %q, %v", p.Parent, err)
	}
}

func TestSurpriseFallsWithBirths(t *testing.T) {
	t.Parallel()
	g := &group{}
	last := math.Inf(1)
	for i := range 20 {
		now := birth{Bucket: int64(i) * 100, Size: 1}
		v := g.surpriseOf(now, 1000, 1)
		if v >= last {
			t.Fatalf("after %d births the surprise is %v, before %v", i, v, last)
		}
		if big := g.surpriseOf(birth{Bucket: now.Bucket, Size: 50}, 1000, 1); big < 6 {
			t.Fatalf("a large birth after %d small ones has the surprise %v", i, big)
		}
		g.births, last = append(g.births, now), v
	}
	if last > 5.08 {
		t.Errorf("the twentieth birth has the surprise %v, above the threshold of one a week", last)
	}
}

func TestHostileLines(t *testing.T) {
	t.Parallel()
	f := setup(t, Config{})
	for _, text := range []string{"", "\x00\x00", "\x1b[31mred\x1b[0m", "a\u202eb\u2066c", "\xff\xfe\xfd", strings.Repeat("x", model.MaxLineBytes), "<script>alert(1)</script>",
		strings.Repeat("a=1 ", 10_000)} {
		f.take([]model.LogLine{{T: f.clock.UnixNano(), Stream: model.Labels{{Name: "service", Value: text[:min(len(text), 1000)]}}, Text: text, Message: text}})
	}
	f.take([]model.LogLine{{T: math.MaxInt64, Message: "future"}, {T: math.MinInt64, Message: "past"}, {Message: "epoch"}})
	f.pass(20*time.Second, nil)
	list, _, err := f.Patterns(context.Background(), model.LogPatternFilter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		for _, text := range append([]string{p.Template, p.Name}, p.Examples...) {
			if len(text) > 8<<10 || strings.ContainsRune(text, 0) || text != strings.ToValidUTF8(text, "?") {
				t.Errorf("pattern shows %.80q", text)
			}
		}
		for _, ls := range p.Streams {
			for _, l := range ls {
				if len(l.Value) > mostValueBytes+8 || l.Value != strings.ToValidUTF8(l.Value, "?") {
					t.Errorf("a stream shows %.80q", l.Value)
				}
			}
		}
	}
	if err := f.Save(context.Background()); err != nil {
		t.Fatal(err)
	}
	f.open(Config{})
}

func TestAliasesLeadBack(t *testing.T) {
	t.Parallel()
	m, err := logmine.New(logmine.Config{})
	if err != nil {
		t.Fatal(err)
	}
	a, b := m.Add([]byte("unable to reach red")), m.Add([]byte("unable to reach blue"))
	stays, err := m.Merge(a, b)
	if err != nil {
		t.Fatal(err)
	}
	if to, ok := m.Resolve(b); !ok || to != stays || stays != a {
		t.Errorf("Resolve(%s) = %s, %v; want %s", b, to, ok, a)
	}
	if got := m.Aliases(a); !slices.Equal(got, []logmine.ID{b}) {
		t.Errorf("Aliases = %v, want %v", got, b)
	}
	if _, ok := m.Resolve(12345); ok {
		t.Error("an unknown id is resolved")
	}
}
