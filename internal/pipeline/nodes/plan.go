package nodes

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strings"

	"aiops/internal/model"
)

// detector is what the plan needs of one.
type detector struct {
	id string
	// pinned detectors need what lies in a data directory. All of them belong
	// to the node whose directory joined first.
	pinned bool
}

// holder is who has a detector.
type holder struct {
	instance string // "" when it is free
	free     bool   // it may be taken now
}

// view is what a node decides by.
type view struct {
	me        string       // the instance
	nodes     []model.Node // those that live and do not leave
	detectors []detector   // by id
	holders   map[string]holder
}

// plan says which detectors this node should take, and which of its own it
// should hand over. Nodes that see the same decide so that together each free
// detector is taken once; what they see differently for a moment the next round
// corrects. No node has more than its share, rounded up. Of free detectors each goes to the
// node with room that rendezvous hashing prefers, so that a node that comes back
// finds the same ones; nothing moves only because hashing would have it
// elsewhere. It costs a comparison for each node and free detector.
func plan(v view) (take, give []string) {
	at := slices.IndexFunc(v.nodes, func(n model.Node) bool { return n.Instance == v.me })
	if at < 0 {
		return nil, nil // leaving, or not a member
	}
	eldest := slices.MinFunc(v.nodes, func(a, b model.Node) int {
		if c := a.JoinedAt.Compare(b.JoinedAt); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	count := make(map[string]int, len(v.nodes))
	shared := 0
	var mine, free []string
	for _, d := range v.detectors {
		h := v.holders[d.id]
		own := h.instance == v.me && !h.free
		if d.pinned {
			switch {
			case h.free && eldest.Instance == v.me:
				take = append(take, d.id)
			case own && eldest.Instance != v.me:
				give = append(give, d.id)
			}
			continue
		}
		shared++
		switch {
		case h.free:
			free = append(free, d.id)
		case own:
			mine = append(mine, d.id)
		}
		if !h.free {
			count[h.instance]++
		}
	}
	most := (shared + len(v.nodes) - 1) / len(v.nodes)
	if surplus := len(mine) - most; surplus > 0 {
		name := v.nodes[at].Name
		slices.SortFunc(mine, func(a, b string) int { return cmp.Compare(weight(name, a), weight(name, b)) })
		give = append(give, mine[:surplus]...)
	}
	for _, id := range free {
		best := -1
		for i, n := range v.nodes {
			if count[n.Instance] < most && (best < 0 || weight(n.Name, id) > weight(v.nodes[best].Name, id)) {
				best = i
			}
		}
		if best < 0 {
			continue // nobody has room; what others have too much of comes first
		}
		count[v.nodes[best].Instance]++
		if best == at {
			take = append(take, id)
		}
	}
	return take, give
}

// weight orders nodes for a detector; the greatest is preferred.
func weight(node, id string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(node))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(id))
	x := h.Sum64()
	// The last bytes alone hardly reach the high bits: mix.
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
