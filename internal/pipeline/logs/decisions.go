package logs

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"aiops/internal/logmine"
	"aiops/internal/model"
)

// This file passes what people decide about patterns from node to node. Every
// decision is stored with a number, and every node does them in the order of
// these numbers, its own among them, so that all come to the same even when
// people decide on two nodes at once. Nodes see other lines: a decision carries
// the template that it is about.

// decision is what is stored of an edit. Its names never change.
type decision struct {
	Template []byte          `json:"template"`       // the record after the edit
	With     []byte          `json:"with,omitempty"` // the record of the template that was merged, before
	Split    bool            `json:"split,omitempty"`
	Name     *string         `json:"name,omitempty"`
	Pinned   *bool           `json:"pinned,omitempty"`
	Expected *bool           `json:"expected,omitempty"`
	Severity *model.Severity `json:"severity,omitempty"`
	Version  int64           `json:"version"` // of the pattern after the edit
}

// decide does an edit and stores it as a decision. It needs deciding.
func (s *Stage) decide(ctx context.Context, id string, e model.LogPatternEdit, expect int64) (model.LogPattern, error) {
	out, d, err := s.edit(id, e, expect)
	if err != nil {
		return model.LogPattern{}, err
	}
	data, err := json.Marshal(d)
	if err != nil {
		return model.LogPattern{}, fmt.Errorf("encoding a decision about a log pattern: %w", err)
	}
	number, err := s.states.AppendLogDecision(ctx, data)
	if err != nil {
		return model.LogPattern{}, fmt.Errorf("storing a decision about a log pattern: %w", err)
	}
	s.mu.Lock()
	if number == s.decided+1 { // nothing of other nodes in between
		s.decided = number
	}
	s.mu.Unlock()
	return out, nil
}

// TakeUp does the decisions that other nodes stored since the last call. What
// cannot be done here, such as on a template that is split only elsewhere, is
// logged and passed over.
func (s *Stage) TakeUp(ctx context.Context) error {
	s.deciding.Lock()
	defer s.deciding.Unlock()
	for {
		s.mu.Lock()
		since := s.decided
		s.mu.Unlock()
		found, err := s.states.LogDecisions(ctx, since)
		if err != nil {
			return fmt.Errorf("reading decisions about log patterns: %w", err)
		}
		if len(found) == 0 {
			return nil
		}
		s.mu.Lock()
		for _, d := range found {
			if err := s.adopt(d.Data); err != nil {
				s.log.Warn("a decision about a log pattern could not be taken up", "decision", d.ID, "err", err)
			}
			s.decided = d.ID
		}
		s.mu.Unlock()
	}
}

// adopt does one decision. It needs mu.
func (s *Stage) adopt(data []byte) error {
	var d decision
	if err := json.Unmarshal(data, &d); err != nil {
		return fmt.Errorf("decoding: %w", err)
	}
	id, err := s.miner.Adopt(d.Template, d.Split)
	if err != nil {
		return err
	}
	n, changed := s.noteFor(id), d.Split
	if len(d.With) > 0 {
		other, err := s.miner.Adopt(d.With, false)
		if err != nil {
			return err
		}
		if id, _ = s.miner.Resolve(id); other != id {
			if n, err = s.mergeNotes(id, other); err != nil {
				return err
			}
			changed = true
		}
	}
	before, _ := s.miner.Template(n.id)
	expected, severity := n.expected, n.severity
	if err := s.applyEdit(n, d.Name, d.Pinned, d.Expected, d.Severity); err != nil {
		return err
	}
	after, _ := s.miner.Template(n.id)
	changed = changed || before.Name != after.Name || before.Pinned != after.Pinned || expected != n.expected || severity != n.severity
	if changed && d.Version <= n.version {
		n.version++
	}
	n.version = max(n.version, d.Version)
	return nil
}

// noteFor returns the note of a template, of which there may be no line yet.
func (s *Stage) noteFor(id logmine.ID) *note {
	n := s.notes[id]
	if n == nil {
		now := s.now().UnixNano()
		n = &note{id: id, text: id.String(), first: now, last: now, version: 1}
		s.notes[id] = n
	}
	return n
}

// decisionEvery is how often a node asks for the decisions of others.
const decisionEvery = time.Second
