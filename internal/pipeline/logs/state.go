package logs

import (
	"bytes"
	"context"
	"encoding/gob"
	"fmt"
	"time"

	"aiops/internal/logmine"
	"aiops/internal/model"
)

// stateVersion grows with every change of what a state means. Fields that are
// only added need none.
const stateVersion = 1

// state is what is stored. Its names never change.
type state struct {
	Version int
	Seed    uint64
	Miner   []byte // a snapshot of logmine
	Notes   []stateNote
	Feeds   []stateFeed
	Decided int64
}

type stateNote struct {
	ID          uint64
	First, Last int64
	Levels      []uint32
	Spark       []uint32
	SparkAt     int64
	Lines       uint64
	Examples    []string
	Expected    bool
	Severity    string
	Version     int64
}

type stateFeed struct {
	Source, Query string
	Closed        int64
	Groups        []stateGroup
}

type stateGroup struct {
	Stream      model.Labels
	First, Last int64
	Heavy       float64
	Known       []stateSeen
	Entries     []stateEntry
	Births      []birth
}

type stateSeen struct {
	ID          uint64
	Last        int64
	Short, Long float64
}

type stateEntry struct {
	ID    uint64
	Level string
	Last  int64
}

// Save stores the state now.
func (s *Stage) Save(ctx context.Context) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.save(ctx)
}

// save needs writing.
func (s *Stage) save(ctx context.Context) error {
	now := s.now()
	b, err := s.encode()
	if err == nil {
		err = s.states.SaveLogState(ctx, b)
	}
	s.savedAt = now // not again with the next bucket
	if err != nil {
		s.metrics.unsaved.Inc()
		s.log.Warn("the state of the log templates was not stored", "err", err)
		return fmt.Errorf("storing the state of the log templates: %w", err)
	}
	s.unsaved = false
	return nil
}

func (s *Stage) encode() ([]byte, error) {
	out := s.snapshot()
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(out); err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	return b.Bytes(), nil
}

func (s *Stage) snapshot() state {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := state{Version: stateVersion, Seed: s.seed, Miner: s.miner.AppendSnapshot(nil), Decided: s.decided}
	for id, n := range s.notes {
		out.Notes = append(out.Notes, stateNote{ID: uint64(id), First: n.first, Last: n.last, Levels: append([]uint32(nil), n.levels[:]...),
			Spark: append([]uint32(nil), n.spark[:]...), SparkAt: n.sparkAt, Lines: n.lines, Examples: append([]string(nil), n.examples...),
			Expected: n.expected, Severity: string(n.severity), Version: n.version})
	}
	for _, f := range s.feeds {
		sf := stateFeed{Source: f.key.source, Query: f.key.query, Closed: f.written}
		for _, g := range f.groups {
			sg := stateGroup{Stream: g.stream, First: g.first, Last: g.last, Heavy: g.heavy, Births: append([]birth(nil), g.births...)}
			untold := map[logmine.ID]bool{}
			for _, x := range g.fresh {
				untold[x.id] = true
			}
			for id, k := range g.known {
				if untold[id] {
					continue
				}
				sg.Known = append(sg.Known, stateSeen{uint64(id), k.last, k.short, k.long})
			}
			for key, e := range g.entries {
				sg.Entries = append(sg.Entries, stateEntry{uint64(key.id), key.level, e.last})
			}
			sf.Groups = append(sf.Groups, sg)
		}
		out.Feeds = append(out.Feeds, sf)
	}
	return out
}

// restore replaces the state of an empty stage. Whatever was stored stays
// within the bounds of the Config.
func (s *Stage) restore(b []byte) error {
	var in state
	if err := gob.NewDecoder(bytes.NewReader(b)).Decode(&in); err != nil {
		return fmt.Errorf("decoding: %w", err)
	}
	if in.Version != stateVersion {
		return fmt.Errorf("it has version %d, this program reads version %d", in.Version, stateVersion)
	}
	miner, err := logmine.New(logmine.Config{Seed: in.Seed})
	if err != nil {
		return err
	}
	if err := miner.Restore(in.Miner); err != nil {
		return err
	}
	s.seed, s.miner, s.decided = in.Seed, miner, in.Decided
	s.merged, s.evicted = miner.Stats().Merged, miner.Stats().Evicted
	for _, n := range in.Notes {
		id := logmine.ID(n.ID)
		note := &note{id: id, text: id.String(), first: n.First, last: n.Last, sparkAt: n.SparkAt, lines: n.Lines,
			examples: n.Examples[:min(len(n.Examples), mostExamples)], expected: n.Expected, severity: model.Severity(n.Severity), version: n.Version}
		copy(note.levels[:], n.Levels)
		copy(note.spark[:], n.Spark)
		s.notes[id] = note
	}
	for _, f := range in.Feeds {
		s.restoreFeed(f)
	}
	return nil
}

func (s *Stage) restoreFeed(in stateFeed) {
	f := s.feedOf(feedKey{in.Source, in.Query})
	if f == nil {
		return
	}
	if f.key.query != "" && f.closed-in.Closed < int64(time.Hour/model.LogBucket) {
		// The lines of a followed query are read again from there.
		f.closed, f.written = min(f.closed, in.Closed), min(f.closed, in.Closed)
	}
	for _, sg := range in.Groups {
		if s.streams >= s.cfg.MaxStreams {
			return
		}
		g := newGroup(f, sg.Stream, sg.Stream.Key(), sg.First)
		s.streams++
		g.last, g.heavy, g.births = sg.Last, sg.Heavy, sg.Births
		for _, k := range sg.Known {
			if s.known < mostKnownAll {
				g.known[logmine.ID(k.ID)] = &seen{k.Last, k.Short, k.Long}
				s.known++
			}
		}
		for _, e := range sg.Entries {
			if s.entries < s.cfg.MaxSeries {
				s.entryOf(g, logmine.ID(e.ID), e.Level, e.Last)
			}
		}
	}
}
