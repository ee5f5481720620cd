package detect

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"time"

	"aiops/internal/model"
)

const (
	cutSample = 128 // rows of a tree
	cutNodes  = 2*cutSample - 1
	cutEvery  = 64 // samples after which the trees are grown again
	cutMost   = 16 // length of a shingle
)

// cutForest is the model "random_cut_forest": odd is a run of values that
// random cuts separate soon from other runs (Guha, Mishra, Roy and Schrijvers,
// "Robust random cut forest based anomaly detection on streams", ICML 2016).
//
// A row is a shingle: the last values, one per dimension. A tree is grown from
// 128 random rows of the window by cuts whose dimension is drawn in proportion
// to its extent; all trees are grown again every 64 samples, by the seed and
// the number of the growth, in place of the published insertions and deletions.
// The oddness is the expected depth of rows of a tree divided by the expected
// depth at which the new row would be separated, less one. That depth counts
// at each node on the way the chance that a random cut of the node's box,
// enlarged by the row, spares the row; so it is never drawn but exact, and goes
// to nothing as the row goes far away.
//
// Attribution: each node's chance to separate the row is divided among the
// dimensions in proportion to how far the row lies outside of the node's box in
// each, and counts by the depth that separating there saves.
//
// Cost per point: about 45 walks through all trees, nearly all for the ends of
// the band: about 12 thousand samples a second and core. Memory: 190 KiB by
// default; a snapshot holds the window only, 9 KiB. A lasting change is normal
// when the window has a few of its rows. It fails where the level wanders as
// far as the anomalies go, and on long rhythms that the window does not hold.
type cutForest struct {
	valueRing
	window  int
	shingle int
	seed    uint64

	since int    // values since the trees were grown
	grown uint64 // how often they were

	trees  int // derived from the ring, seed, since and grown
	nodes  []cutNode
	boxes  []float32 // low and high corner of each node
	origin float64
	whole  float64   // mean depth of the rows of the trees
	rows   []float32 // scratch: the rows of one tree
	order  []uint16  // scratch: of the rows
	pick   []uint16  // scratch: positions to draw from
}

// cutNode cuts a dimension at value; what is at most that goes left. A leaf
// has no children, and its value is the depth that its rows add, one or, when
// it has several that are all the same, as many more as would separate them.
type cutNode struct {
	value     float32
	left      int16 // index of the left child, 0: a leaf
	right     int16
	dimension uint8
}

// valueRing keeps the last values.
type valueRing struct {
	values []float64
	oldest int // position after the newest
	limit  int
}

func (r *valueRing) len() int { return len(r.values) }

// back returns the value i samples ago; 0 is the last.
func (r *valueRing) back(i int) float64 {
	at := r.oldest - 1 - i
	if at < 0 {
		at += len(r.values)
	}
	return r.values[at]
}

func (r *valueRing) push(v float64) {
	if len(r.values) < r.limit {
		if len(r.values) == cap(r.values) {
			r.values = append(make([]float64, 0, min(max(2*len(r.values), minWindow), r.limit)), r.values...)
		}
		r.values = append(r.values, v)
		r.oldest = len(r.values)
		return
	}
	if r.oldest == len(r.values) {
		r.oldest = 0
	}
	r.values[r.oldest] = v
	r.oldest++
}

func (r *valueRing) append(w *writer) {
	w.uvarint(uint64(len(r.values)))
	for i := len(r.values) - 1; i >= 0; i-- {
		w.f64(r.back(i))
	}
}

func readRing(d *reader, limit int) valueRing {
	r := valueRing{limit: limit}
	if n := int(d.uvarint(uint64(limit))); d.need(8 * n) {
		for range n {
			r.push(d.value())
		}
	}
	return r
}

func cutParameters() []Parameter {
	return []Parameter{
		{Name: "window", Type: TypeInteger, Default: 1024, Min: 192, Max: maxWindow, Summary: "samples of recent history to compare with"},
		{Name: "shingle", Type: TypeInteger, Default: 4, Min: 1, Max: cutMost, Summary: "successive values that are compared together"},
		{Name: "trees", Type: TypeInteger, Default: 16, Min: 4, Max: 64, Summary: "more trees make a steadier score and cost more"},
	}
}

// cutLeast is the samples before the first trees are grown.
const cutLeast = cutSample + cutMost + cutEvery

func cutMinHistory(time.Duration) int { return cutLeast }

func newCutForest(c config) (Model, error) {
	m := &cutForest{
		window: c.params.integer("window"), shingle: c.params.integer("shingle"), trees: c.params.integer("trees"),
		seed: c.seed,
	}
	m.valueRing.limit = m.window + m.shingle + cutEvery
	return newPattern(c, m), nil
}

func (m *cutForest) expect() (center float64, ok bool) {
	if m.grown == 0 {
		return 0, false
	}
	// The median of the last three values: one spike does not move it.
	a, b, c := m.back(0), m.back(1), m.back(2)
	return max(min(a, b), min(max(a, b), c)), true
}

// row returns the run that ends with v.
func (m *cutForest) row(v float64) (row [cutMost]float32) {
	for i := range m.shingle - 1 {
		row[i] = narrow(m.back(m.shingle-2-i) - m.origin)
	}
	row[m.shingle-1] = narrow(v - m.origin)
	return row
}

func (m *cutForest) oddness(v, least float64) float64 {
	row := m.row(v)
	var depth float64
	for t := range m.trees {
		depth += m.depth(t, row[:m.shingle], least)
	}
	return max(mul(m.whole, float64(m.trees))/max(depth, 1e-9)-1, 0)
}

// depth returns the expected depth at which a tree separates a row.
func (m *cutForest) depth(tree int, row []float32, least float64) float64 {
	base := tree * cutNodes
	spared, depth := 1.0, 0.0
	for i := 0; ; {
		n := &m.nodes[base+i]
		box := m.boxes[(base+i)*2*m.shingle:]
		low, high := box[:len(row)], box[len(row):2*len(row)]
		var outside, size float64
		for d, v := range row {
			size += float64(high[d]) - float64(low[d])
			if v < low[d] {
				outside += float64(low[d]) - float64(v)
			} else if v > high[d] {
				outside += float64(v) - float64(high[d])
			}
		}
		if outside > 0 {
			size += mul(least, float64(len(row)))
			spared = mul(spared, size/(size+outside))
		}
		if n.left == 0 {
			return depth + mul(spared, float64(n.value))
		}
		depth += spared
		if row[n.dimension] <= n.value {
			i = int(n.left)
		} else {
			i = int(n.right)
		}
	}
}

// attribute implements attributor: a dimension is a sample of the run.
func (m *cutForest) attribute(v, least float64) []model.Contribution {
	row := m.row(v)
	var by [cutMost][2]float64 // by dimension and side
	for t := range m.trees {
		m.blame(t, row[:m.shingle], least, &by)
	}
	var total float64
	for d := range m.shingle {
		total += by[d][sideAbove] + by[d][sideBelow]
	}
	if !(total > 0) {
		return nil
	}
	out := make([]model.Contribution, 0, m.shingle)
	for d := range m.shingle {
		sum := by[d][sideAbove] + by[d][sideBelow]
		if !(sum > 0) {
			continue
		}
		name, word := "this sample", "above"
		if back := m.shingle - 1 - d; back > 0 {
			if name = fmt.Sprintf("%d samples before", back); back == 1 {
				name = "1 sample before"
			}
		}
		if by[d][sideBelow] > by[d][sideAbove] {
			word = "below"
		}
		out = append(out, model.Contribution{Name: name, Share: sum / total, Note: word + " the runs that it was compared with"})
	}
	slices.SortStableFunc(out, func(a, b model.Contribution) int { return cmp.Compare(b.Share, a.Share) })
	return out
}

// blame walks a tree as depth does and adds up, for each dimension and side, by
// how much it makes the row separate sooner than usual.
func (m *cutForest) blame(tree int, row []float32, least float64, by *[cutMost][2]float64) {
	base := tree * cutNodes
	spared, level := 1.0, 0.0
	for i := 0; ; level++ {
		n := &m.nodes[base+i]
		box := m.boxes[(base+i)*2*m.shingle:]
		low, high := box[:len(row)], box[len(row):2*len(row)]
		var outside, size float64
		var out [cutMost]float64
		for d, v := range row {
			size += float64(high[d]) - float64(low[d])
			out[d] = max(float64(low[d])-float64(v), float64(v)-float64(high[d]), 0)
			outside += out[d]
		}
		if outside > 0 {
			size += mul(least, float64(len(row)))
			gain := mul(spared, max(m.whole-level, 0)) / (size + outside)
			for d, v := range row {
				side := sideAbove
				if v < low[d] {
					side = sideBelow
				}
				by[d][side] += mul(gain, out[d])
			}
			spared = mul(spared, size/(size+outside))
		}
		if n.left == 0 {
			return
		}
		if row[n.dimension] <= n.value {
			i = int(n.left)
		} else {
			i = int(n.right)
		}
	}
}

func (m *cutForest) learn(v float64) {
	m.push(v)
	m.since++
	if m.since >= cutEvery && m.len() >= cutSample+m.shingle {
		m.since = 0
		m.grown++
		m.grow()
	}
}

// grow makes all trees from the window that ended since samples ago.
func (m *cutForest) grow() {
	if m.nodes == nil {
		m.nodes = make([]cutNode, m.trees*cutNodes)
		m.boxes = make([]float32, len(m.nodes)*2*m.shingle)
		m.rows = make([]float32, cutSample*m.shingle)
		m.order = make([]uint16, cutSample)
		m.pick = make([]uint16, m.window)
	}
	rows := min(m.window, m.len()-m.since-m.shingle+1)
	m.origin = m.back(m.since)
	r := splitmix{state: m.seed ^ bits.RotateLeft64(m.grown*0x9e3779b97f4a7c15, 32)}
	pick := m.pick[:rows]
	for i := range pick {
		pick[i] = uint16(i)
	}
	var total float64
	for t := range m.trees {
		for j := range cutSample {
			k := j + r.below(rows-j)
			pick[j], pick[k] = pick[k], pick[j]
			m.order[j] = uint16(j)
			for d := range m.shingle {
				m.rows[j*m.shingle+d] = narrow(m.back(m.since+int(pick[j])+m.shingle-1-d) - m.origin)
			}
		}
		next := 1
		total += m.split(t, 0, &next, m.order, 1, &r)
	}
	m.whole = total / float64(m.trees*cutSample)
}

// split makes node i of a tree from rows and returns the sum of the depths of
// these rows; next is the first node that is free.
func (m *cutForest) split(tree, i int, next *int, rows []uint16, depth int, r *splitmix) float64 {
	at := tree*cutNodes + i
	box := m.boxes[at*2*m.shingle:]
	low, high := box[:m.shingle], box[m.shingle:2*m.shingle]
	extent := m.box(rows, low, high)
	n := &m.nodes[at]
	*n = cutNode{}
	if !(extent > 0) {
		n.value = float32(1 + searchDepth(len(rows)))
		return mul(float64(len(rows)), float64(depth-1)+float64(n.value))
	}
	cut := mul(r.float(), extent)
	d := 0
	for ; d < m.shingle-1; d++ {
		width := float64(high[d]) - float64(low[d])
		if cut < width {
			break
		}
		cut -= width
	}
	for high[d] == low[d] { // rounding left the cut beyond the last dimension that has an extent
		d = (d + m.shingle - 1) % m.shingle
	}
	// Neither side is empty: the lowest row goes left, the highest right.
	value := min(max(low[d]+narrow(cut), low[d]), math.Nextafter32(high[d], low[d]))
	k := 0
	for j, row := range rows {
		if m.rows[int(row)*m.shingle+d] <= value {
			rows[j], rows[k] = rows[k], rows[j]
			k++
		}
	}
	n.value, n.dimension = value, uint8(d)
	n.left, n.right = int16(*next), int16(*next+1)
	left, right := *next, *next+1
	*next += 2
	return m.split(tree, left, next, rows[:k], depth+1, r) + m.split(tree, right, next, rows[k:], depth+1, r)
}

// box finds the corners of the box of rows and returns the sum of its sides.
func (m *cutForest) box(rows []uint16, low, high []float32) (extent float64) {
	first := m.rows[int(rows[0])*m.shingle:]
	copy(low, first[:m.shingle])
	copy(high, first[:m.shingle])
	for _, row := range rows[1:] {
		for d, v := range m.rows[int(row)*m.shingle : (int(row)+1)*m.shingle] {
			low[d], high[d] = min(low[d], v), max(high[d], v)
		}
	}
	for d := range low {
		extent += float64(high[d]) - float64(low[d])
	}
	return extent
}

func (m *cutForest) missing() int { return max(0, cutLeast-m.len()) }

func (m *cutForest) why() string {
	return fmt.Sprintf("%d random cut trees over runs of %d values among the last %d samples, grown %d times",
		m.trees, m.shingle, min(m.window, m.len()), m.grown)
}

func (m *cutForest) sizeBytes() int {
	return int(sizeOf[cutForest]()) + 8*cap(m.values) + len(m.nodes)*int(sizeOf[cutNode]()) +
		4*(cap(m.boxes)+cap(m.rows)) + 2*(cap(m.order)+cap(m.pick))
}

func (m *cutForest) append(w *writer) {
	w.uvarint(uint64(m.since))
	w.uvarint(m.grown)
	m.valueRing.append(w)
}

func (m *cutForest) read(d *reader) {
	since, grown := int(d.uvarint(math.MaxInt32)), d.uvarint(math.MaxInt64)
	ring := readRing(d, m.limit)
	d.check(grown == 0 || since < cutEvery && ring.len()-since >= cutSample+m.shingle)
	d.check(grown > 0 || since == ring.len())
	if d.close() != nil {
		return
	}
	m.valueRing, m.since, m.grown = ring, since, grown
	if m.grown > 0 {
		m.grow()
	}
}
