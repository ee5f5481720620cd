package pipeline

import (
	"cmp"
	"slices"

	"aiops/internal/detect"
)

const (
	deepEvery = 256 // steps between two decisions
	deepTimes = 32  // series of a detector for each one that may be promoted: about as many samples of auto cost one of deep

	maxDeepChanges = 4096
)

// deepSeats counts who is promoted from auto to deep.
type deepSeats struct {
	trials  int // promoted at the last decision, with patterns that do not count yet
	inForce int // and with such that do
}

// deepChange is a promotion or its end.
type deepChange struct {
	from    int64
	version int64 // of the models
	hash    uint64
	on      bool
}

// seatDeep decides before every deepEvery-th step which series are promoted. It
// depends on the state and the definition alone, so that live evaluation, a
// training, a shadow and a backtest of the same samples decide the same. Series are
// tried in the order of when their last trial ended, then of their hash, which
// favours no label. One that shows a rhythm below an hour within its trial stays as
// long as the rhythm does; the others make room for the next.
func (c *core) seatDeep(t int64) {
	if !detect.Promotable(c.def.detector.Model) || t/c.def.step%deepEvery != 0 {
		return
	}
	seated, waiting := c.reviewDeep(t)
	seats := c.deepPlaces()
	if len(seated) > seats {
		slices.SortFunc(seated, func(a, b *series) int {
			if x, y := detect.DepthOf(a.model).Steady, detect.DepthOf(b.model).Steady; x != y {
				if x {
					return -1
				}
				return 1
			}
			return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.key, b.key))
		})
		for _, s := range seated[seats:] {
			c.deepen(s, t, false)
		}
		seated = seated[:seats]
	}
	if free := seats - len(seated); free > 0 && len(waiting) > 0 {
		slices.SortFunc(waiting, func(a, b *series) int {
			return cmp.Or(cmp.Compare(a.tried, b.tried), cmp.Compare(a.hash, b.hash), cmp.Compare(a.key, b.key))
		})
		for _, s := range waiting[:min(free, len(waiting))] {
			c.deepen(s, t, true)
		}
	}
	c.countDeep()
}

// reviewDeep demotes those whose trial was in vain, and returns those that are
// promoted and those that could be.
func (c *core) reviewDeep(t int64) (seated, waiting []*series) {
	trial := detect.TrialSamples(msDuration(c.def.step))
	for _, s := range c.series {
		if s == nil || s.link.made() {
			continue
		}
		switch d := detect.DepthOf(s.model); {
		case d.Promoted && !d.Steady && d.Samples >= trial:
			c.deepen(s, t, false)
		case d.Promoted:
			seated = append(seated, s)
		case s.learning || s.missed > 0:
		case s.tried == 0 || t-s.tried >= detect.TrialAgain*trial*c.def.step:
			waiting = append(waiting, s)
		}
	}
	return seated, waiting
}

// deepPlaces returns how many series may be promoted.
func (c *core) deepPlaces() int {
	return min(int(c.def.deepBytes/detect.DeepBytes), (c.active+deepTimes-1)/deepTimes)
}

// deepen promotes a series, or demotes it, from step t on.
func (c *core) deepen(s *series, t int64, on bool) {
	c.applyDeep(s, t, on)
	c.past.deep = appendBounded(c.past.deep, deepChange{from: t, version: c.modelVersion, hash: s.hash, on: on}, maxDeepChanges)
}

func (c *core) applyDeep(s *series, t int64, on bool) {
	if on {
		detect.Promote(s.model, msDuration(c.def.step))
		return
	}
	detect.Demote(s.model)
	s.tried = t
}

// followDeep promotes and demotes as it was done then.
func (c *core) followDeep(t int64) {
	f := c.follow
	for len(f.deep) > 0 && f.deep[0].from <= t {
		d := f.deep[0]
		f.deep = f.deep[1:]
		slot, ok := c.index[d.hash]
		for ok && slot >= 0 && d.version == c.modelVersion {
			s := c.series[slot]
			c.applyDeep(s, d.from, d.on)
			slot = s.next
		}
	}
}

func (c *core) countDeep() {
	c.deep.trials, c.deep.inForce = 0, 0
	for _, s := range c.series {
		if s == nil {
			continue
		}
		switch d := detect.DepthOf(s.model); {
		case d.InForce:
			c.deep.inForce++
		case d.Promoted:
			c.deep.trials++
		}
	}
}
