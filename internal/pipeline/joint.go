package pipeline

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"aiops/internal/detect"
	"aiops/internal/model"
)

// maxShares is how many members an evidence names.
const maxShares = 8

// joint is how a core looks at several series together. What it finds is
// sampled into series that the core makes itself: their key is that of a member
// (peers) or of the group, with the label model.JointLabel. From there on they
// are like any other series: calibrated, budgeted, snapshotted and told of.
type joint struct {
	groups []*jointGroup // in the order of their keys
	dirty  bool          // series came or went

	values, scratch []float64
}

// jointGroup is the members that are looked at together, in the order of their
// keys, so that sums do not depend on who came first.
type jointGroup struct {
	key     string // of the labels that make it
	labels  model.Labels
	members []*series
	sum     *series // how surprising they are together; nil: not made yet

	// Of the step that was judged last.
	present   []*series
	distances []float64
	surprises []float64
}

// jointLink ties a series to its group.
type jointLink struct {
	group *jointGroup
	peer  *series // what its distance is sampled into; nil: not made yet
	of    *series // of a distance: the member
	kind  string  // model.JointPeers, model.JointGroup, or "" for a member
}

// made reports whether the series is made of others; a nil link is of one that
// is not.
func (l *jointLink) made() bool { return l != nil && l.kind != "" }

// jointKind returns what a key says of how its series is made, "" for a series
// of the source.
func jointKind(key string) string {
	labels, err := model.ParseSeriesKey(key)
	if err != nil {
		panic("BUG: a series key cannot be read back: " + err.Error())
	}
	return labels.Value(model.JointLabel)
}

// isJoint reports whether key names a series that a core with this definition
// makes itself.
func (def *definition) isJoint(key string) bool {
	if def.detector.Joint == nil {
		return false
	}
	labels, err := model.ParseSeriesKey(key)
	return err == nil && labels.Value(model.JointLabel) != ""
}

// specOf is what detect needs to make the model of a series of this core.
func (c *core) specOf(key string, hash uint64) detect.Spec {
	spec := c.def.spec(hash)
	if c.joint == nil {
		return spec
	}
	kind := jointKind(key)
	if kind == "" {
		return spec
	}
	spec.Model, spec.Parameters, spec.MinDeviation = detect.JointModel, nil, model.MinDeviation{}
	if kind == model.JointGroup {
		spec.Direction = model.DirectionAbove
	}
	return spec
}

// gate says which gate holds a score back. The least deviation is in the unit
// of the members, so it is asked for where their distances are made.
func (c *core) gate(s *series, r detect.Result, v, threshold float64) detect.Gate {
	d := &c.def.detector
	if !s.link.made() {
		return detect.Gates(r, v, threshold, d.Direction, d.MinDeviation)
	}
	direction := d.Direction
	if s.link.kind == model.JointGroup {
		direction = model.DirectionAbove
	}
	return detect.Gates(r, v, threshold, direction, model.MinDeviation{})
}

// judgeTogether scores step t of what is made of several series, when all of
// them have been scored.
func (c *core) judgeTogether(t int64) {
	if c.joint.dirty {
		c.regroup()
	}
	spec := c.def.detector.Joint
	for _, g := range c.joint.groups {
		g.present = g.present[:0]
		for _, s := range g.members {
			if s.seenAt == t && s.lastT == t {
				g.present = append(g.present, s)
			}
		}
		if len(g.present) < detect.LeastPeers {
			continue
		}
		if spec.Peers {
			c.judgePeers(g, t)
		}
		if spec.Groups {
			c.judgeGroup(g, t)
		}
	}
}

func (c *core) judgePeers(g *jointGroup, t int64) {
	j := c.joint
	j.values = j.values[:0]
	for _, s := range g.present {
		j.values = append(j.values, s.lastV)
	}
	g.distances = append(g.distances[:0], j.values...)
	var median float64
	median, _, j.scratch = detect.PeerDistances(j.values, g.distances, j.scratch)
	least := c.def.detector.MinDeviation
	for i, s := range g.present {
		if away := math.Abs(s.lastV - median); away < least.Absolute || away < least.Relative*math.Abs(median) {
			g.distances[i] = 0
		}
	}
	for i, s := range g.present {
		if s.link.peer == nil && !c.makePeer(s, t) {
			continue
		}
		c.sample(s.link.peer, t, g.distances[i])
	}
}

func (c *core) judgeGroup(g *jointGroup, t int64) {
	g.surprises = g.surprises[:0]
	for _, s := range g.present {
		score := 0.0
		if s.last.T == t && !s.learning {
			score = s.last.Score
		}
		g.surprises = append(g.surprises, score)
	}
	if g.sum == nil && !c.makeSum(g, t) {
		return
	}
	c.sample(g.sum, t, detect.GroupSurprise(g.surprises))
}

// contributions returns who makes the value of s, a series made of others.
func (g *jointGroup) contributions(s *series) []model.Contribution {
	type part struct {
		member *series
		size   float64
		weight float64
	}
	var parts []part
	total := 0.0
	for i, m := range g.present {
		p := part{member: m}
		if s.link.kind == model.JointPeers {
			p.size = math.Abs(g.distances[i])
			p.weight = p.size * p.size
		} else {
			p.size = g.surprises[i]
			p.weight = math.Min(p.size, detect.GroupCap)
		}
		total += p.weight
		parts = append(parts, p)
	}
	slices.SortFunc(parts, func(a, b part) int {
		if c := cmp.Compare(b.weight, a.weight); c != 0 {
			return c
		}
		return cmp.Compare(a.member.key, b.member.key)
	})
	var out []model.Contribution
	for _, p := range parts[:min(len(parts), maxShares)] {
		share := 0.0
		if total > 0 {
			share = p.weight / total
		}
		note := fmt.Sprintf("surprise of %s among %d together", number(p.size), len(g.present))
		if s.link.kind == model.JointPeers {
			note = fmt.Sprintf("%s spreads from the median of %d peers", number(p.size), len(g.present))
		}
		out = append(out, model.Contribution{Name: p.member.key, Score: p.size, Share: share, Note: note})
	}
	return out
}

// makePeer makes the series of a member's distance.
func (c *core) makePeer(s *series, t int64) bool {
	labels, err := model.ParseSeriesKey(s.key)
	if err != nil {
		panic("BUG: a series key cannot be read back: " + err.Error())
	}
	made := c.make(labels, model.JointPeers, t)
	if made == nil {
		return false
	}
	made.link = &jointLink{group: s.link.group, of: s, kind: model.JointPeers}
	s.link.peer = made
	return true
}

func (c *core) makeSum(g *jointGroup, t int64) bool {
	made := c.make(g.labels, model.JointGroup, t)
	if made == nil {
		return false
	}
	made.link = &jointLink{group: g, kind: model.JointGroup}
	g.sum = made
	return true
}

// make adds a series that is made of others, or returns nil when there is no
// seat.
func (c *core) make(labels model.Labels, kind string, t int64) *series {
	if c.closed || c.live >= c.def.maxSeries {
		c.refused++
		return nil
	}
	m := labels.Map()
	m[model.JointLabel] = kind
	key := model.LabelsFromMap(m).Key()
	dirty := c.joint.dirty
	s := c.add(hashKey([]byte(key)), key, t)
	c.joint.dirty = dirty // the caller links it
	return s
}

// regroup finds the groups anew.
func (c *core) regroup() {
	c.joint.dirty = false
	groups := map[string]*jointGroup{}
	by := c.def.detector.Joint.By
	group := func(labels model.Labels) *jointGroup {
		m := map[string]string{}
		for _, name := range by {
			m[name] = labels.Value(name)
		}
		own := model.LabelsFromMap(m)
		key := own.Key()
		g := groups[key]
		if g == nil {
			g = &jointGroup{key: key, labels: own}
			groups[key] = g
		}
		return g
	}
	made := map[string]*series{} // by the key of the member
	for _, s := range c.series {
		if s == nil {
			continue
		}
		labels, err := model.ParseSeriesKey(s.key)
		if err != nil {
			panic("BUG: a series key cannot be read back: " + err.Error())
		}
		kind := labels.Value(model.JointLabel)
		s.link = &jointLink{group: group(labels), kind: kind}
		switch kind {
		case "":
			s.link.group.members = append(s.link.group.members, s)
		case model.JointGroup:
			s.link.group.sum = s
		default:
			m := labels.Map()
			delete(m, model.JointLabel)
			made[model.LabelsFromMap(m).Key()] = s
		}
	}
	c.joint.groups = c.joint.groups[:0]
	for _, g := range groups {
		slices.SortFunc(g.members, func(a, b *series) int { return cmp.Compare(a.key, b.key) })
		for _, s := range g.members {
			if p := made[s.key]; p != nil {
				s.link.peer, p.link.of = p, s
			}
		}
		c.joint.groups = append(c.joint.groups, g)
	}
	slices.SortFunc(c.joint.groups, func(a, b *jointGroup) int { return cmp.Compare(a.key, b.key) })
}
