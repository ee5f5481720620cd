package builtin

import (
	"sync"

	"github.com/prometheus/prometheus/model/labels"

	"aiops/internal/model"
)

// labelCache keeps the labels of series in this program's form, because the
// same queries run at every step and building 100,000 label sets each time costs
// more than finding the samples. It holds two generations of at most limit
// entries each: a full one becomes the old one, and what is not asked for until
// then is forgotten.
type labelCache struct {
	limit int

	mu    sync.RWMutex
	young map[uint64]cached
	old   map[uint64]cached
}

// cached is a label set in both forms. Two sets of one hash replace each other.
type cached struct {
	theirs labels.Labels
	ours   model.Labels
}

func newLabelCache(limit int) *labelCache {
	return &labelCache{limit: limit, young: map[uint64]cached{}}
}

// loader looks up the labels of one answer.
type loader struct {
	c    *labelCache
	slab []model.Label
	left int // series that are still to come
}

func (c *labelCache) loader(series int) *loader { return &loader{c: c, left: series} }

// labels returns ls in this program's form. The result is shared.
func (l *loader) labels(ls labels.Labels) model.Labels {
	l.left--
	h := ls.Hash()
	l.c.mu.RLock()
	e, young := l.c.young[h]
	if !young {
		e = l.c.old[h]
	}
	l.c.mu.RUnlock()
	if e.ours == nil || !labels.Equal(e.theirs, ls) {
		e, young = cached{ls, l.convert(ls)}, false
	}
	if !young {
		l.c.put(h, e)
	}
	return e.ours
}

func (c *labelCache) put(h uint64, e cached) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.young) >= c.limit {
		c.old, c.young = c.young, make(map[uint64]cached, len(c.young)/2)
	}
	c.young[h] = e
}

// slabLabels bounds the memory that one long-lived label set can keep alive
// with its neighbours.
const slabLabels = 512

// convert builds our form. The texts are those of ls: the library's labels are
// immutable strings of their own, also when they came from a block on disk.
func (l *loader) convert(ls labels.Labels) model.Labels {
	n := ls.Len()
	if cap(l.slab)-len(l.slab) < n {
		l.slab = make([]model.Label, 0, max(n, min(slabLabels, n*max(l.left+1, 1))))
	}
	from := len(l.slab)
	ls.Range(func(x labels.Label) {
		if x.Value != "" {
			l.slab = append(l.slab, model.Label{Name: x.Name, Value: x.Value})
		}
	})
	to := len(l.slab)
	if from == to {
		return model.Labels{}
	}
	return model.Labels(l.slab[from:to:to])
}
