package pipeline

import (
	"cmp"
	"fmt"
	"slices"

	"aiops/internal/model"
)

// bind finds the series of an answer. Unknown ones wait to be admitted at
// their first sample.
func (c *core) bind(data []model.SeriesData) {
	for i := range data {
		d := &data[i]
		if len(d.Samples) == 0 || c.joint != nil && d.Labels.Value(model.JointLabel) != "" {
			continue
		}
		c.key = d.Labels.AppendKey(c.key[:0])
		h := hashKey(c.key)
		b := binding{s: c.find(h, c.key), hash: h, data: d}
		if b.s == nil {
			c.strangers = append(c.strangers, b)
		} else {
			c.bound = append(c.bound, b)
		}
	}
}

// unbind lets go of the answer, which the bindings point into.
func (c *core) unbind() {
	clear(c.bound)
	c.bound = c.bound[:0]
	c.strangers = nil
}

func (c *core) find(hash uint64, key []byte) *series {
	slot, ok := c.index[hash]
	for ok && slot >= 0 {
		s := c.series[slot]
		if s.key == string(key) {
			return s
		}
		slot = s.next
	}
	return nil
}

// reach moves b to the step t and reports whether there is a sample.
func (b *binding) reach(t int64) (v float64, ok bool) {
	samples := b.data.Samples
	for b.at < len(samples) && samples[b.at].T < t {
		b.at++
	}
	if b.at < len(samples) && samples[b.at].T == t {
		return samples[b.at].V, true
	}
	return 0, false
}

// admit takes in the strangers that have a number at t. When there are fewer
// seats than strangers, the hash of the series decides, which favours no label
// and does not depend on the order of the answer; the rest is refused until a
// seat is free.
func (c *core) admit(t int64) {
	var ready []int
	for i := range c.strangers {
		if v, ok := c.strangers[i].reach(t); ok && isFinite(v) {
			ready = append(ready, i)
		}
	}
	if len(ready) == 0 {
		return
	}
	seats := c.def.maxSeries - c.live
	if c.closed {
		seats = 0
	}
	if len(ready) > seats {
		slices.SortFunc(ready, func(i, j int) int {
			a, b := &c.strangers[i], &c.strangers[j]
			if a.hash != b.hash {
				return cmp.Compare(a.hash, b.hash)
			}
			return cmp.Compare(a.data.Labels.Key(), b.data.Labels.Key())
		})
		c.refused = len(ready) - max(seats, 0)
		ready = ready[:max(seats, 0)]
	}
	for _, i := range ready {
		b := &c.strangers[i]
		key := b.data.Labels.Key()
		if b.s = c.find(b.hash, []byte(key)); b.s == nil { // else the answer holds it twice
			b.s = c.add(b.hash, key, t)
		}
		c.bound = append(c.bound, *b)
	}
	c.strangers = slices.DeleteFunc(c.strangers, func(b binding) bool { return b.s != nil })
}

// add makes the state of a series that was not tracked.
func (c *core) add(hash uint64, key string, t int64) *series {
	s := &series{key: key, hash: hash, model: c.newModel(key, hash), since: t, learning: true}
	c.place(s)
	if c.began == 0 {
		c.began = t
	}
	return s
}

func (c *core) place(s *series) {
	s.next = -1
	if first, ok := c.index[s.hash]; ok {
		s.next = first
	}
	var slot int32
	if n := len(c.free); n > 0 {
		slot, c.free = c.free[n-1], c.free[:n-1]
		c.series[slot] = s
	} else {
		slot = int32(len(c.series))
		c.series = append(c.series, s)
	}
	c.index[s.hash] = slot
	c.live++
	if c.joint != nil {
		c.joint.dirty = true
	}
}

// drop forgets a series that was silent for its time to live. An episode that
// it left open ends with it.
func (c *core) drop(slot int32, t int64) {
	s := c.series[slot]
	if s.episode != nil {
		silent := msDuration(int64(s.missed) * c.def.step)
		c.tellAndForget(s, s.episode.end(t), t, fmt.Sprintf("ended because the series vanished: no sample for %s from a healthy source", model.Duration(silent)))
	}
	if c.index[s.hash] == slot {
		if s.next >= 0 {
			c.index[s.hash] = s.next
		} else {
			delete(c.index, s.hash)
		}
	} else {
		for at := c.index[s.hash]; at >= 0; at = c.series[at].next {
			if c.series[at].next == slot {
				c.series[at].next = s.next
				break
			}
		}
	}
	c.series[slot] = nil
	c.free = append(c.free, slot)
	c.live--
	s.model, c.dropped = nil, true
	if c.joint != nil {
		c.joint.dirty = true
	}
}

// rebind makes strangers of the bindings to dropped series, which may come
// back within the same answer.
func (c *core) rebind() {
	c.dropped = false
	c.bound = slices.DeleteFunc(c.bound, func(b binding) bool {
		if b.s.model != nil {
			return false
		}
		b.s = nil
		c.strangers = append(c.strangers, b)
		return true
	})
}
