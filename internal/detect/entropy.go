package detect

import (
	"fmt"
	"math"
	"math/bits"
	"time"
)

const (
	entropyInner = 10               // bins between the least and the largest value learned
	entropyBins  = entropyInner + 2 // and one beyond each
	entropyKept  = 512              // values of the learned distribution
	entropyLeast = 64               // of them, before it judges
	entropyFresh = 8                // share of them after which the bins are cut anew
	entropyApart = 4                // windows of a window that are calibrated
	entropyHalf  = 0.5              // what each bin counts for beforehand (Krichevsky and Trofimov 1981)
)

// relativeEntropy is the model "relative_entropy": how differently the values
// of the last window are distributed from those before it, as the
// Kullback-Leibler divergence of the window from the past (Kullback and Leibler
// 1951; for streams Dasu, Krishnan, Venkatasubramanian and Yi, "An
// information-theoretic approach to detecting changes in multi-dimensional data
// streams", 2006). It sees what leaves every single value usual: two modes
// where there was one, a cap, a share of requests that became slow.
//
// The learned distribution is a sample of 512 values that left the window, one from
// each block of the past so that it reaches over the parameter history; the position
// in a block is drawn by the seed. Its deciles cut the bins, with one more on each side for
// what lies beyond all of it, and are cut anew when an eighth of it was replaced.
// The oddness is twice the divergence times the window, as in a G-test, divided by the degrees of freedom;
// the calibrator learns what autocorrelation makes of it. The side is where
// the window's values went, by their mean bin. There is no expected value and no band.
//
// Cost per point: a binary search and a dozen logarithms. Memory: 8 KiB. A
// change is seen after a part of the window, and is normal when half of the
// history lies behind it. It fails on rhythms and trends, where every
// window is distributed unlike the whole, and on a single odd value.
type relativeEntropy struct {
	window    valueRing
	reference ordered
	stride    uint64
	seed      uint64

	edges  [entropyInner + 1]float64 // between bins
	past   [entropyBins]uint16       // values of the reference by bin, when the edges were cut
	left   uint64                    // values that left the window
	pushes int                       // into the reference since the edges were cut
	cut    bool                      // there are edges

	counts [entropyBins]uint16  // of the window; follows from the rest
	lnPast [entropyBins]float64 // logarithm of the share of the past; likewise
	center float64              // mean bin of the past; likewise

	now float64 // scratch: the divergence of the last oddness
	odd int     // and its side
}

func entropyParameters() []Parameter {
	return []Parameter{
		{Name: "window", Type: TypeInteger, Default: 64, Min: minWindow, Max: 1024, Summary: "samples whose distribution is compared"},
		{Name: "history", Type: TypeInteger, Default: 4096, Min: entropyKept, Max: 65536, Summary: "samples that the learned distribution reaches back"},
	}
}

func entropyMinHistory(time.Duration) int { return 64 + entropyLeast }

func newRelativeEntropy(c config) (Model, error) {
	return newPattern(c, &relativeEntropy{
		window: valueRing{limit: c.params.integer("window")}, reference: newOrdered(entropyKept),
		stride: uint64(max(1, c.params.integer("history")/entropyKept)), seed: c.seed,
	}), nil
}

func (m *relativeEntropy) expect() (center float64, ok bool) { return math.NaN(), m.cut }

// bin returns the bin of v: how many edges are not above it, the last edge
// counting only when it is below.
func (m *relativeEntropy) bin(v float64) int {
	if v > m.edges[entropyInner] {
		return entropyBins - 1
	}
	lo, hi := 0, entropyInner
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if m.edges[mid] <= v {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

func (m *relativeEntropy) oddness(v, _ float64) float64 {
	counts := m.counts
	counts[m.bin(m.window.back(m.window.limit-1))]--
	counts[m.bin(v)]++
	n := float64(m.window.limit)
	lnN := ln(n)
	var sum, mean float64
	for b, k := range counts {
		if k > 0 {
			c := float64(k)
			sum += mul(c, ln(c)-lnN-m.lnPast[b])
			mean += mul(c, float64(b))
		}
	}
	m.now, m.odd = max(sum, 0)/n, sideAbove
	if mean < mul(m.center, n) {
		m.odd = sideBelow
	}
	return 2 * max(sum, 0) / (entropyBins - 1)
}

func (m *relativeEntropy) side() (side int, sided bool) { return m.odd, true }

func (m *relativeEntropy) reason(int) Reason { return ReasonMix }

func (m *relativeEntropy) due() bool {
	return m.left%uint64(max(1, m.window.limit/entropyApart)) == 0
}

func (m *relativeEntropy) note() string {
	where := "higher"
	if m.odd == sideBelow {
		where = "lower"
	}
	return fmt.Sprintf("the last %d samples diverge by %.3g bits from the past, towards %s values",
		m.window.limit, mul(m.now, invLn2), where)
}

func (m *relativeEntropy) learn(v float64) {
	if m.window.len() < m.window.limit {
		m.window.push(v)
		return
	}
	leaving := m.window.back(m.window.limit - 1)
	m.window.push(v)
	if m.cut {
		m.counts[m.bin(leaving)]--
		m.counts[m.bin(v)]++
	}
	m.keep(leaving)
	m.left++
	if n := m.reference.len(); n >= entropyLeast && m.pushes >= max(1, n/entropyFresh) {
		m.recut()
	}
}

// keep takes a value into the reference: each while there is room, then one of
// each block.
func (m *relativeEntropy) keep(v float64) {
	if m.reference.len() == entropyKept {
		r := splitmix{state: m.seed ^ bits.RotateLeft64((m.left/m.stride+1)*0x9e3779b97f4a7c15, 32)}
		if m.left%m.stride != uint64(r.below(int(m.stride))) {
			return
		}
	}
	m.reference.push(v)
	m.pushes++
}

// recut cuts the bins at the deciles of the reference.
func (m *relativeEntropy) recut() {
	m.pushes, m.cut = 0, true
	for i := range m.edges {
		m.edges[i] = m.reference.quantile(float64(i) / entropyInner)
	}
	m.past = [entropyBins]uint16{}
	for i := range m.reference.len() {
		m.past[m.bin(m.reference.at(i))]++
	}
	m.derive()
}

// derive works out what follows from the bins.
func (m *relativeEntropy) derive() {
	var total, sum float64
	for b, k := range m.past {
		total += float64(k)
		sum += mul(float64(b), float64(k))
	}
	m.center = sum / max(total, 1)
	whole := ln(total + entropyHalf*entropyBins)
	for b, k := range m.past {
		m.lnPast[b] = ln(float64(k)+entropyHalf) - whole
	}
	m.counts = [entropyBins]uint16{}
	for i := range m.window.len() {
		m.counts[m.bin(m.window.back(i))]++
	}
}

func (m *relativeEntropy) missing() int {
	return max(0, m.window.limit-m.window.len()+entropyLeast-m.reference.len())
}

func (m *relativeEntropy) why() string {
	return fmt.Sprintf("distribution of %d samples against that of %d values before, of a past of %d samples",
		m.window.len(), m.reference.len(), min(m.left, m.stride*entropyKept))
}

func (m *relativeEntropy) sizeBytes() int {
	return int(sizeOf[relativeEntropy]()) + 8*cap(m.window.values) + m.reference.sizeBytes()
}

func (m *relativeEntropy) append(w *writer) {
	m.window.append(w)
	m.reference.append(w)
	w.uvarint(m.left)
	w.uvarint(uint64(m.pushes))
	w.bool(m.cut)
	if m.cut {
		for _, v := range m.edges {
			w.f64(v)
		}
		for _, k := range m.past {
			w.uvarint(uint64(k))
		}
	}
}

func (m *relativeEntropy) read(d *reader) {
	r := *m
	r.window, r.reference = readRing(d, m.window.limit), readOrdered(d, entropyKept)
	r.left, r.pushes = d.uvarint(math.MaxInt64), int(d.uvarint(entropyKept))
	if r.cut = d.bool(); r.cut {
		for i := range r.edges {
			r.edges[i] = d.value()
			d.check(i == 0 || r.edges[i] >= r.edges[i-1])
		}
		for b := range r.past {
			r.past[b] = uint16(d.uvarint(entropyKept))
		}
		d.check(r.window.len() == m.window.limit)
	}
	if d.close() != nil {
		return
	}
	if r.cut {
		r.derive()
	}
	*m = r
}
