package detect

import (
	"fmt"
	"math"
	"math/bits"
	"time"
)

const (
	forestFeatures = 4
	forestSample   = 32 // rows of a tree
	forestDepth    = 5  // of a tree: log2 of the rows
	forestNodes    = 1<<(forestDepth+1) - 1
	forestShort    = 8  // values of the short mean
	forestEvery    = 64 // samples after which the trees are grown again
	forestLeaf     = forestFeatures
)

// forest is the model "isolation_forest": odd is what random cuts separate
// from the rest after few cuts (Liu, Ting and Zhou, "Isolation forest", ICDM
// 2008), over a sliding window, as streaming variants do (Tan, Ting and Liu,
// "Fast anomaly detection for streaming data", IJCAI 2011).
//
// A row has four features: the value, its difference from the one before, the
// mean of the last eight with it, and its distance from the mean of the eight
// before it. Every 64 samples the trees are grown again from random rows of
// the window, by the seed and the number of the growth. The oddness is the
// expected depth of a row of the window divided by the mean depth of the new
// row, less one; outside of the box of a tree's rows the depth shrinks with
// the chance that a random cut of the enlarged box separates it at once (as in
// random cut forests, Guha et al. 2016), so that oddness does not saturate.
//
// Cost per point: about 50 walks through all trees, nearly all for the ends of
// the band: 20 to 50 thousand samples a second and core. Memory: 8 bytes per
// sample of the window and 500 bytes per tree: 16 KiB by default; a snapshot
// holds the window only. A lasting change is normal when it fills a part of
// the window comparable to a tree's sample. It fails on slow drifts and on
// rhythms, and its band is that of single values, which says little about odd
// differences.
type forest struct {
	valueRing
	window int
	seed   uint64

	since int    // values since the trees were grown
	grown uint64 // how often they were

	trees  []tree  // derived from values, seed, since and grown
	origin float64 // subtracted from features that are levels
	whole  float64 // expected depth of a row of a tree's sample
	leaves [forestSample + 1]float32
	pick   []uint16 // scratch: rows to draw from
}

// tree is one isolation tree in a complete binary layout.
type tree struct {
	low, high [forestFeatures]float32 // box of its rows
	nodes     [forestNodes]node
}

// node cuts a feature at value, or is a leaf whose value is the depth.
type node struct {
	value   float32
	feature uint8
}

type features [forestFeatures]float32

func newForest(c config) (Model, error) {
	m := &forest{
		window: c.params.integer("window"), seed: c.seed,
		trees: make([]tree, c.params.integer("trees")),
	}
	m.valueRing.limit = m.window + forestShort + forestEvery // what the present trees were grown from
	for n := range m.leaves {
		m.leaves[n] = float32(searchDepth(n))
	}
	m.whole = searchDepth(forestSample)
	return newPattern(c, m), nil
}

// searchDepth is the mean depth of an unsuccessful search in a binary search
// tree of n keys, which is how deep n rows would be separated on.
func searchDepth(n int) float64 {
	if n < 2 {
		return 0
	}
	var harmonic float64
	for i := 1; i < n; i++ {
		harmonic += 1 / float64(i)
	}
	return 2*harmonic - 2*float64(n-1)/float64(n)
}

// mean returns the mean of n values, the newest being from samples ago.
func (m *forest) mean(from, n int) float64 {
	var sum float64
	for i := range n {
		sum += m.back(from + i)
	}
	return float64(sum / float64(n))
}

func (m *forest) expect() (center float64, ok bool) {
	if m.grown == 0 {
		return 0, false
	}
	return m.mean(0, forestShort), true
}

// row returns the features of v when it follows the value from samples ago.
func (m *forest) row(v float64, from int) features {
	before := m.mean(from, forestShort)
	short := before + mul(v-m.back(from+forestShort-1), 1.0/forestShort)
	return features{
		narrow(v - m.origin), narrow(v - m.back(from)), narrow(short - m.origin), narrow(v - before),
	}
}

func (m *forest) oddness(v, least float64) float64 {
	x := m.row(v, 0)
	var depth float64
	for i := range m.trees {
		depth += m.trees[i].depth(&x, least)
	}
	return max(mul(m.whole, float64(len(m.trees)))/max(depth, 1e-9)-1, 0)
}

// depth returns the depth at which x is separated.
func (t *tree) depth(x *features, least float64) float64 {
	var outside, size float64
	for f, v := range x {
		lo, hi := t.low[f], t.high[f]
		size += float64(hi) - float64(lo)
		if v < lo {
			outside += float64(lo) - float64(v)
		} else if v > hi {
			outside += float64(v) - float64(hi)
		}
	}
	i := 0
	n := &t.nodes[0]
	for n.feature != forestLeaf {
		i = 2*i + 1
		if x[n.feature] >= n.value {
			i++
		}
		n = &t.nodes[i]
	}
	if outside == 0 {
		return float64(n.value)
	}
	size += mul(forestFeatures, least)
	return mul(float64(n.value), size/(size+outside))
}

func (m *forest) learn(v float64) {
	m.push(v)
	m.since++
	if m.since >= forestEvery && m.len() >= forestShort+forestSample {
		m.since = 0
		m.grown++
		m.grow()
	}
}

// grow makes all trees from the window that ended since samples ago.
func (m *forest) grow() {
	rows := min(m.window, m.len()-m.since-forestShort)
	m.origin = m.back(m.since)
	r := splitmix{state: m.seed ^ bits.RotateLeft64(m.grown*0x9e3779b97f4a7c15, 32)}
	if cap(m.pick) < rows {
		m.pick = make([]uint16, m.window)
	}
	pick := m.pick[:rows]
	for i := range pick {
		pick[i] = uint16(i)
	}
	var sample [forestSample]features
	for i := range m.trees {
		for j := range sample {
			k := j + r.below(rows-j)
			pick[j], pick[k] = pick[k], pick[j]
			at := m.since + int(pick[j])
			sample[j] = m.row(m.back(at), at+1)
		}
		t := &m.trees[i]
		t.low, t.high = box(sample[:])
		m.split(t, 0, 0, sample[:], &r)
	}
}

// box returns the least and the greatest of each feature.
func box(rows []features) (low, high [forestFeatures]float32) {
	low, high = rows[0], rows[0]
	for _, row := range rows[1:] {
		for f, v := range row {
			low[f], high[f] = min(low[f], v), max(high[f], v)
		}
	}
	return low, high
}

// split fills node i, at a depth, with rows, which it reorders.
func (m *forest) split(t *tree, i, depth int, rows []features, r *splitmix) {
	low, high := box(rows)
	var wide [forestFeatures]uint8
	n := 0
	for f := range low {
		if high[f] > low[f] {
			wide[n] = uint8(f)
			n++
		}
	}
	if depth == forestDepth || n == 0 {
		t.nodes[i] = node{value: float32(depth) + m.leaves[len(rows)], feature: forestLeaf}
		return
	}
	f := wide[r.below(n)]
	cut := low[f] + narrow(mul(r.float(), float64(high[f])-float64(low[f])))
	cut = min(max(cut, math.Nextafter32(low[f], high[f])), high[f]) // neither side is empty
	t.nodes[i] = node{value: cut, feature: f}
	k := 0
	for j := range rows {
		if rows[j][f] < cut {
			rows[j], rows[k] = rows[k], rows[j]
			k++
		}
	}
	m.split(t, 2*i+1, depth+1, rows[:k], r)
	m.split(t, 2*i+2, depth+1, rows[k:], r)
}

func (m *forest) missing() int {
	return max(0, max(windowLeast(m.window), forestEvery)-m.len())
}

func forestMinHistory(time.Duration) int { return max(windowLeast(256), forestEvery) }

func (m *forest) why() string {
	return fmt.Sprintf("%d isolation trees over the last %d samples, grown %d times",
		len(m.trees), min(m.window, max(m.len()-forestShort, 0)), m.grown)
}

func (m *forest) sizeBytes() int {
	return int(sizeOf[forest]()) + 8*cap(m.values) + len(m.trees)*int(sizeOf[tree]()) + 2*cap(m.pick)
}

func (m *forest) append(w *writer) {
	w.uvarint(uint64(m.since))
	w.uvarint(m.grown)
	m.valueRing.append(w)
}

func (m *forest) read(d *reader) {
	since, grown := int(d.uvarint(math.MaxInt32)), d.uvarint(math.MaxInt64)
	ring := readRing(d, m.limit)
	n := ring.len()
	d.check(grown == 0 || since < forestEvery && n-since >= forestShort+forestSample)
	d.check(grown > 0 || since == n)
	if d.close() != nil {
		return
	}
	m.valueRing, m.since, m.grown = ring, since, grown
	if m.grown > 0 {
		m.grow()
	}
}

// splitmix is the generator SplitMix64 (Steele, Lea and Flood 2014): a seed and
// a counter give the same numbers on every machine.
type splitmix struct{ state uint64 }

func (r *splitmix) next() uint64 {
	r.state += 0x9e3779b97f4a7c15
	z := r.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below returns a number from 0 to n-1.
func (r *splitmix) below(n int) int {
	hi, _ := bits.Mul64(r.next(), uint64(n))
	return int(hi)
}

// float returns a number in [0, 1).
func (r *splitmix) float() float64 { return float64(r.next()>>11) / (1 << 53) }
