package logs

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/logmine"
	"aiops/internal/model"
)

// Options are what a Stage is made of. All but Registerer and Now are required.
type Options struct {
	Config     Config
	Series     SeriesWriter
	Lines      LineStore
	States     StateStore
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: metrics are not registered
	Now        func() time.Time      // nil: time.Now
}

// Stage takes lines, mines them and counts them. It is safe for concurrent use.
type Stage struct {
	cfg     Config
	series  SeriesWriter
	lines   LineStore
	states  StateStore
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics
	places  chan struct{} // each call of Take holds one

	deciding sync.Mutex // one decision of people at a time; taken before writing and mu

	writing sync.Mutex // one flush at a time; taken before mu
	savedAt time.Time  // guarded by writing, like what follows
	unsaved bool       // something changed since then

	mu      sync.Mutex // guards what follows
	seed    uint64
	miner   *logmine.Miner
	decided int64  // number of the last decision that is done here
	merged  uint64 // the miner's count when tidy ran last
	evicted uint64 // likewise
	scratch []byte
	notes   map[logmine.ID]*note
	feeds   map[feedKey]*feed
	streams int // groups of all feeds
	entries int // series of templates of all groups
	known   int // templates that all groups know
	rules   []*rule
}

// Stats is what a Stage holds.
type Stats struct {
	Templates  int
	Streams    int
	Series     int
	Waiting    int
	MinerBytes int
}

// Open makes a stage and restores the state that was stored last. A state that
// cannot be read is logged, counted and left behind: what was known is learnt
// again, under the same ids.
func Open(ctx context.Context, o Options) (*Stage, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Stage{cfg: o.Config.withDefaults(), series: o.Series, lines: o.Lines, states: o.States, now: o.Now,
		log: o.Logger.With("component", "logs"), metrics: newMetrics(), places: make(chan struct{}, takers)}
	if err := s.reset(); err != nil {
		return nil, err
	}
	state, err := o.States.LogState(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the state of the log templates: %w", err)
	}
	if state != nil {
		if err := s.restore(state); err != nil {
			s.metrics.unsaved.Inc()
			s.log.Warn("the stored state of the log templates cannot be read; learning anew", "err", err)
			if err := s.reset(); err != nil {
				return nil, err
			}
		}
	}
	if err := s.TakeUp(ctx); err != nil {
		return nil, err
	}
	s.savedAt = s.now()
	s.feedOf(feedKey{source: model.BuiltinSource})
	if o.Registerer != nil {
		if err := s.metrics.register(o.Registerer, s); err != nil {
			return nil, fmt.Errorf("registering the metrics of the logs: %w", err)
		}
	}
	return s, nil
}

// reset empties the stage.
func (s *Stage) reset() error {
	var seed [8]byte
	_, _ = rand.Read(seed[:]) // never fails: it ends the program instead
	s.seed = binary.LittleEndian.Uint64(seed[:])
	miner, err := logmine.New(logmine.Config{Seed: s.seed})
	if err != nil {
		return err
	}
	s.miner = miner
	s.notes, s.feeds = map[logmine.ID]*note{}, map[feedKey]*feed{}
	s.streams, s.entries, s.known, s.merged, s.evicted, s.decided = 0, 0, 0, 0, 0, 0
	return nil
}

// Stats returns what the stage holds now.
func (s *Stage) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Stats{Templates: s.miner.Len(), Streams: s.streams, Series: s.entries, MinerBytes: s.miner.SizeBytes()}
	for _, f := range s.feeds {
		out.Waiting += len(f.waiting)
	}
	return out
}

// Run closes buckets, writes their counts, stores the state and takes up what
// was decided on other nodes until ctx ends.
// It then closes what is open and writes it, and returns.
func (s *Stage) Run(ctx context.Context) error {
	tick, decisions := time.NewTicker(250*time.Millisecond), time.NewTicker(decisionEvery)
	defer tick.Stop()
	defer decisions.Stop()
	failing := false
	for {
		select {
		case <-decisions.C:
			err := s.TakeUp(ctx)
			if err != nil && !failing && ctx.Err() == nil {
				s.log.Warn("what is decided about log patterns on other nodes is not taken up for now", "err", err)
			}
			failing = err != nil
		case <-tick.C:
			s.Flush(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			s.closeAll()
			s.Flush(last)
			return s.Save(last)
		}
	}
}

// Take mines, stores and counts lines of the embedded receivers; it is their
// source.LineSink. It blocks while too many others do the same, and sets the
// lines' Template. The error means that none were taken.
func (s *Stage) Take(ctx context.Context, source string, lines []model.LogLine) error {
	return s.take(ctx, feedKey{source: source}, lines, s.lines)
}

// take is Take for one feed. A nil store keeps no lines.
func (s *Stage) take(ctx context.Context, key feedKey, lines []model.LogLine, store LineStore) error {
	if len(lines) == 0 {
		return nil
	}
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	case <-ctx.Done():
		s.metrics.lines.WithLabelValues(outcomeRefused).Add(float64(len(lines)))
		return &model.Error{Kind: model.KindOverloaded, Message: "too many lines are being taken; send them again in a moment", RetryAfter: time.Second, Err: ctx.Err()}
	}
	found := s.mine(key, lines)
	if store != nil {
		if err := store.Append(ctx, lines); err != nil {
			s.metrics.lines.WithLabelValues(outcomeRefused).Add(float64(len(lines)))
			return fmt.Errorf("storing lines: %w", err)
		}
	}
	return s.count(key, lines, found)
}

// mined is what is known of a call's lines before they are counted.
type mined struct {
	ids   []logmine.ID
	rules [][]*rule // of each line, those that find something in it; nil: none does in any
}

// chunk is how many lines are handled before others get the lock.
const chunk = 1000

// mine gives each line its template.
func (s *Stage) mine(key feedKey, lines []model.LogLine) mined {
	out := mined{ids: make([]logmine.ID, len(lines))}
	var rules []*rule
	for at := 0; at < len(lines); at += chunk {
		s.mu.Lock()
		rules = rulesFor(s.rules, key)
		for i := at; i < min(at+chunk, len(lines)); i++ {
			line := &lines[i]
			s.scratch = append(s.scratch[:0], line.Message[:min(len(line.Message), minedBytes)]...)
			id := s.miner.Add(s.scratch)
			out.ids[i] = id
			line.Template = s.noteOf(id, line).text
		}
		s.mu.Unlock()
	}
	for i := range lines {
		text := lines[i].Text[:min(len(lines[i].Text), mostRuleBytes)]
		for _, r := range rules {
			if r.pattern.MatchString(text) {
				if out.rules == nil {
					out.rules = make([][]*rule, len(lines))
				}
				out.rules[i] = append(out.rules[i], r)
			}
		}
	}
	return out
}

// count adds the lines to their buckets.
func (s *Stage) count(key feedKey, lines []model.LogLine, found mined) error {
	late := 0
	now := s.now().UnixNano()
	for at := 0; at < len(lines); at += chunk {
		s.mu.Lock()
		f := s.feedOf(key)
		if f == nil {
			s.mu.Unlock()
			return model.Errorf(model.KindConflict, "", "lines of more than %d sources and queries cannot be counted", mostFeeds)
		}
		for i := at; i < min(at+chunk, len(lines)); i++ {
			var rules []*rule
			if found.rules != nil {
				rules = found.rules[i]
			}
			if !s.countLine(f, &lines[i], found.ids[i], rules, now) {
				late++
			}
		}
		s.mu.Unlock()
	}
	s.metrics.lines.WithLabelValues(outcomeLate).Add(float64(late))
	s.metrics.lines.WithLabelValues(outcomeCounted).Add(float64(len(lines) - late))
	return nil
}

// countLine reports false for a line that came after its bucket was closed. A
// line from the future counts where it arrives.
func (s *Stage) countLine(f *feed, line *model.LogLine, id logmine.ID, rules []*rule, now int64) bool {
	b := bucketOf(min(line.T, now))
	late := b <= f.closed
	b = max(b, f.closed+1) // where what is new is told, even by a late line
	g := s.groupOf(f, line.Stream, b)
	g.last = max(g.last, b)
	s.see(g, id, b, line.Level)
	if late {
		return false
	}
	g.first = min(g.first, b)
	c := f.countsOf(b, g)
	c.lines++
	if severe(line.Level) {
		c.severe++
	}
	c.templates[s.entryOf(g, id, line.Level, b)]++
	for _, r := range rules {
		if c.rules == nil {
			c.rules = map[string]int{}
		}
		c.rules[r.hash]++
	}
	return true
}

func severe(level string) bool { return level == model.LevelError || level == model.LevelFatal }
