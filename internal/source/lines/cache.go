package lines

import (
	"errors"
	"os"
)

// indexCache keeps the indexes that were used last, within a bound on memory.
type indexCache struct {
	held   map[uint64]*index
	order  []uint64 // the one used last at the end
	memory int64
}

func (c *indexCache) find(number uint64) *index {
	idx := c.held[number]
	if idx != nil {
		c.touch(number)
	}
	return idx
}

func (c *indexCache) touch(number uint64) {
	for i, n := range c.order {
		if n == number {
			copy(c.order[i:], c.order[i+1:])
			c.order[len(c.order)-1] = number
			return
		}
	}
}

func (c *indexCache) drop(number uint64) {
	idx := c.held[number]
	if idx == nil {
		return
	}
	delete(c.held, number)
	c.memory -= idx.memory
	c.touch(number)
	c.order = c.order[:len(c.order)-1]
}

func (c *indexCache) put(number uint64, idx *index) {
	if idx.memory > cacheMemory || c.held[number] != nil {
		return
	}
	if c.held == nil {
		c.held = map[uint64]*index{}
	}
	c.held[number] = idx
	c.order = append(c.order, number)
	c.memory += idx.memory
	for c.memory > cacheMemory {
		c.drop(c.order[0])
	}
}

// index returns the index of a segment.
func (s *Store) index(seg *segment) (*index, error) {
	s.mu.Lock()
	idx := s.cache.find(seg.number)
	s.mu.Unlock()
	if idx != nil {
		return idx, nil
	}
	f, err := os.Open(seg.path)
	if err != nil {
		return nil, err
	}
	idx, _, err = s.codec.readIndex(f, seg.size)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cache.put(seg.number, idx)
	return idx, nil
}
