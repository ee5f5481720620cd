package logmine

// cache maps skeletons to templates. It has a fixed size: each skeleton has
// four places, and the newest entry pushes out the oldest. What it forgets is
// found again by comparing.
type cache struct {
	sets []cacheSet
}

const (
	cacheSets = 4096
	cacheWays = 4
)

// cacheSet fills one line of the processor's cache.
type cacheSet struct {
	key   [cacheWays]uint64
	index [cacheWays]int32  // of the template plus one; 0 is an empty place
	gen   [cacheWays]uint32 // of the template, shifted by one, and whether items are slots
}

// find returns the template of the skeleton, or -1.
func (c *cache) find(h uint64) (int32, uint32) {
	set := &c.sets[h%cacheSets]
	for k := range cacheWays {
		if set.key[k] == h {
			return set.index[k] - 1, set.gen[k]
		}
	}
	return -1, 0
}

func (c *cache) put(h uint64, index int32, gen uint32) {
	set := &c.sets[h%cacheSets]
	last := cacheWays - 1
	for k := range cacheWays {
		if set.key[k] == h {
			last = k
			break
		}
	}
	for k := last; k > 0; k-- {
		set.key[k], set.index[k], set.gen[k] = set.key[k-1], set.index[k-1], set.gen[k-1]
	}
	set.key[0], set.index[0], set.gen[0] = h, index+1, gen
}
