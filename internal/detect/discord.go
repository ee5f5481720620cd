package detect

import "math"

const (
	discordHistory   = 8192  // points of history
	discordThin      = 2     // samples of a point while there is no rhythm
	discordLength    = 64    // points of a subsequence, about
	discordLeast     = 16    // points of a subsequence, at least
	discordFirst     = 512   // samples before the first look at the rhythm
	discordSteady    = 0.05  // share of the spread of the series that is added to that of a subsequence
	discordFirstPeak = 0.9   // share of the highest peak that makes an earlier one the period
	discordClear     = 0.1   // least height of a peak of the autocorrelation above the valley before it
	discordFlat      = 1e-30 // a smaller spread is none
	discordRhythm    = 0.2   // least autocorrelation of a rhythm
)

// discord is a left matrix profile over a bounded history: how far the latest
// subsequence is from its nearest neighbour among the earlier ones, each
// normalised to mean 0 and spread 1 (Yeh et al., "Matrix profile I", ICDM 2016;
// causal and online as in DAMP, Lu et al., KDD 2022).
//
// The length of subsequences is the period of the series, which it finds as
// the highest peak of the autocorrelation of its history, looking again each
// time the history has doubled. A long period is thinned out: a point is then
// the mean of several samples, so that a subsequence has about 64 points and
// 8192 points of history reach over more than a hundred periods.
//
// The dot products with all earlier subsequences are updated from the ones
// before (as in STOMP, Zhu et al., ICDM 2016), which costs one pass over the
// history per point: 8 to 20 µs. Memory: 160 KiB when full. To keep a quiet
// stretch from counting as a pattern, the spread of every subsequence is
// raised by a small share of that of the whole series. It fails while no
// earlier period was seen, for patterns that occurred once before (a twin is
// no discord), and for series without any rhythm or shape.
type discord struct {
	length int // points of a subsequence
	thin   int // samples of a point
	period int // in samples, 0: none found
	rhythm float64

	n      uint32 // points in history, never more than discordHistory
	head   uint32 // where the next point goes
	values []float32
	means  []float32 // of the subsequence that ends at the point
	spread []float32 // its reciprocal spread, 0: the subsequence is not complete
	raw    []float32 // its spread without the raise
	dots   []float64 // with the latest subsequence
	sum    float64   // of the point being filled
	count  int
	seen   uint64 // samples
	next   uint64 // samples at which to look at the rhythm again

	mean, variance float64 // of all points, for the raise
	distance       float64 // of the latest subsequence, 0 to about 2; NaN: none
}

func newDiscord() discord {
	return discord{length: 32, thin: 1, next: discordFirst, distance: math.NaN()}
}

// learn takes the next sample. The values must be of a moderate size.
func (d *discord) learn(x float64) {
	d.seen++
	d.sum += x
	d.count++
	if d.count >= d.thin {
		d.push(d.sum / float64(d.count))
		d.sum, d.count = 0, 0
	}
	if d.seen == d.next {
		d.next *= 2
		d.look()
	}
}

// at returns the position of the point k before the next one.
func (d *discord) at(k uint32) uint32 {
	i := d.head + discordHistory - k
	return i % discordHistory
}

// push appends a point and works out its distance.
func (d *discord) push(x float64) {
	d.grow()
	fresh := max(1/float64(d.seen/uint64(d.thin)+1), 1e-4)
	e := x - d.mean
	d.mean += mul(fresh, e)
	d.variance += mul(fresh, mul(e, e)-d.variance)
	d.values[d.head] = float32(x)
	d.head = (d.head + 1) % discordHistory
	d.n = min(d.n+1, discordHistory)
	d.describe()
	d.compare()
}

// grow makes room, so that a young model is small.
func (d *discord) grow() {
	if int(d.head) < len(d.values) {
		return
	}
	n := min(max(2*len(d.values), 256), discordHistory)
	d.values = append(make([]float32, 0, n), d.values...)[:n]
	d.means = append(make([]float32, 0, n), d.means...)[:n]
	d.spread = append(make([]float32, 0, n), d.spread...)[:n]
	d.raw = append(make([]float32, 0, n), d.raw...)[:n]
	d.dots = append(make([]float64, 0, n), d.dots...)[:n]
}

// describe works out mean and spread of the subsequence that ends at the last
// point.
func (d *discord) describe() {
	last := d.at(1)
	d.means[last], d.spread[last], d.raw[last] = 0, 0, 0
	if int(d.n) < d.length {
		return
	}
	var sum, square float64
	for k := 1; k <= d.length; k++ {
		sum += float64(d.values[d.at(uint32(k))])
	}
	mean := sum / float64(d.length)
	for k := 1; k <= d.length; k++ {
		e := float64(d.values[d.at(uint32(k))]) - mean
		square += mul(e, e)
	}
	variance := square / float64(d.length)
	raised := math.Sqrt(variance + mul(discordSteady*discordSteady, d.variance))
	d.means[last] = float32(mean)
	if raised > discordFlat {
		d.spread[last] = float32(1 / raised)
		d.raw[last] = float32(math.Sqrt(variance) / raised)
	} else {
		d.spread[last] = math.MaxFloat32
	}
}

// compare updates the dot products and finds the nearest earlier subsequence
// that does not overlap the latest.
func (d *discord) compare() {
	d.distance = math.NaN()
	m := d.length
	if int(d.n) < m {
		return
	}
	if d.fresh() {
		d.dotsAnew()
	} else {
		d.dotsNext()
	}
	last := d.at(1)
	candidates := int(d.n) - 2*m + 1
	if d.spread[last] == math.MaxFloat32 || candidates < m {
		return
	}
	scale := float64(d.spread[last]) / float64(m)
	center := mul(float64(m), float64(d.means[last]))
	own := mul(float64(d.raw[last]), float64(d.raw[last]))
	best := math.Inf(1)
	// Earlier subsequences end m or more points before the latest one.
	end := int(d.at(uint32(m + 1)))
	for candidates > 0 {
		stretch := min(candidates, end+1)
		first := end + 1 - stretch
		best = min(best, nearest(d.dots[first:end+1], d.means[first:end+1], d.spread[first:end+1], d.raw[first:end+1], center, scale))
		candidates -= stretch
		end = discordHistory - 1
	}
	d.distance = math.Sqrt(max(own+best, 0))
}

// peek returns what the distance would be with x as the next sample. It changes
// nothing and costs a pass over the history. The oldest subsequence is left out.
func (d *discord) peek(x float64) float64 {
	if d.count+1 < d.thin {
		return d.distance
	}
	x = float64(float32((d.sum + x) / float64(d.count+1)))
	m, n := d.length, min(int(d.n)+1, discordHistory)
	if n-2*m+1 < m {
		return math.NaN()
	}
	e := x - d.mean
	fresh := max(1/float64((d.seen+1)/uint64(d.thin)+1), 1e-4)
	spread := d.variance + mul(fresh, mul(e, e)-d.variance)
	mean := x
	for k := 1; k < m; k++ {
		mean += float64(d.values[d.at(uint32(k))])
	}
	mean /= float64(m)
	variance := mul(x-mean, x-mean)
	for k := 1; k < m; k++ {
		e := float64(d.values[d.at(uint32(k))]) - mean
		variance += mul(e, e)
	}
	variance /= float64(m)
	raised := math.Sqrt(variance + mul(discordSteady*discordSteady, spread))
	if !(raised > discordFlat) {
		return math.NaN()
	}
	center, scale := mul(float64(m), mean), 1/mul(float64(m), raised)
	leaving := float64(d.values[d.at(uint32(m))])
	best := math.Inf(1)
	for k := m; k < n-m; {
		i, p, j := int(d.at(uint32(k))), int(d.at(uint32(k+1))), int(d.at(uint32(k+m)))
		stretch := min(n-m-k, i+1, p+1, j+1)
		best = min(best, d.nearestNext(i+1-stretch, p+1-stretch, j+1-stretch, stretch, x, leaving, center, scale))
		k += stretch
	}
	own := math.Sqrt(variance) / raised
	return math.Sqrt(max(mul(own, own)+best, 0))
}

// nearestNext is nearest for subsequences that end at i and the n-1 positions
// behind it, whose dot products follow from those at p as in advance.
func (d *discord) nearestNext(i, p, j, n int, entering, leaving, center, scale float64) float64 {
	best := math.Inf(1)
	dots, first := d.dots[p:p+n], d.values[j:j+n]
	last, means, spread, raw := d.values[i:i+n], d.means[i:i+n], d.spread[i:i+n], d.raw[i:i+n]
	for k, q := range dots {
		q += float64(entering*float64(last[k])) - float64(leaving*float64(first[k]))
		r := float64(raw[k])
		c := float64(float64(q-float64(center*float64(means[k]))) * scale * float64(spread[k]))
		if v := float64(r*r) - float64(2*c); v < best {
			best = v
		}
	}
	return best
}

// nearest returns the least squared distance, without the part of the latest
// subsequence itself.
func nearest(dots []float64, means, spread, raw []float32, center, scale float64) float64 {
	best := math.Inf(1)
	means, spread, raw = means[:len(dots)], spread[:len(dots)], raw[:len(dots)]
	for j, q := range dots {
		r := float64(raw[j])
		c := float64(float64(q-float64(center*float64(means[j]))) * scale * float64(spread[j]))
		if v := float64(r*r) - float64(2*c); v < best {
			best = v
		}
	}
	return best
}

// fresh reports whether the dot products must be worked out from nothing: for
// the first subsequence.
func (d *discord) fresh() bool { return int(d.n) == d.length }

// dotsAnew works out all dot products with the latest subsequence.
func (d *discord) dotsAnew() {
	m := d.length
	for k := 1; k+m-1 <= int(d.n); k++ {
		var dot float64
		for i := range m {
			dot += mul(float64(d.values[d.at(uint32(1+i))]), float64(d.values[d.at(uint32(k+i))]))
		}
		d.dots[d.at(uint32(k))] = dot
	}
}

// dotsNext moves all dot products on by a point: from subsequences that ended a
// point earlier, less the products of their first points, plus those of the
// last.
func (d *discord) dotsNext() {
	m := d.length
	entering := float64(d.values[d.at(1)])
	var leaving float64
	whole := int(d.n) > m // the subsequence before was complete
	if whole {
		leaving = float64(d.values[d.at(uint32(m+1))])
	}
	// The oldest complete subsequence of this round: when the history is full
	// its predecessor was dropped, so that it starts from nothing.
	oldest := int(d.n) - m + 1
	for k := 1; k < oldest; {
		// Positions from at(k) downwards until the ring wraps, as long as the
		// first point of the predecessor lies in one stretch too.
		i := int(d.at(uint32(k)))
		j := int(d.at(uint32(k + m))) // first point of the predecessor
		p := int(d.at(uint32(k + 1)))
		stretch := min(oldest-k, i+1, j+1, p+1)
		advance(d.dots, d.values, i, p, j, stretch, entering, leaving)
		k += stretch
	}
	var dot float64
	for i := range m {
		dot += mul(float64(d.values[d.at(uint32(1+i))]), float64(d.values[d.at(uint32(oldest+i))]))
	}
	d.dots[d.at(uint32(oldest))] = dot
}

// advance updates n dot products at i, i-1, … from those at p, p-1, …; j is the
// position of the value that leaves.
func advance(dots []float64, values []float32, i, p, j, n int, entering, leaving float64) {
	for ; n > 0; n-- {
		gain := float64(entering * float64(values[i]))
		loss := float64(leaving * float64(values[j]))
		dots[i] = dots[p] + (gain - loss)
		i, p, j = i-1, p-1, j-1
	}
}

// look finds the period and, when it changed, fits the history to it.
func (d *discord) look() {
	lag, strength := d.autocorrelation()
	d.rhythm = strength
	if lag == 0 {
		if d.period > 0 || d.length < discordLength {
			d.restart()
		}
		return
	}
	period := lag * d.thin
	if d.period > 0 && 5*period > 4*d.period && 4*period < 5*d.period {
		return
	}
	d.period = period
	thin := max(1, (period+discordLength/2)/discordLength)
	step := max(1, thin/d.thin)
	d.thicken(step)
	d.length = max(discordLeast, min(period/d.thin, 2*discordLength))
	d.rebuild()
}

// restart forgets the history, which was thinned for a rhythm that is no more.
func (d *discord) restart() {
	d.length, d.thin, d.period = discordLength, discordThin, 0
	d.n, d.head, d.sum, d.count = 0, 0, 0, 0
}

// thicken replaces every step points by their mean.
func (d *discord) thicken(step int) {
	if step <= 1 {
		return
	}
	kept := d.n / uint32(step)
	points := make([]float32, kept)
	for k := range kept {
		var sum float64
		for i := range uint32(step) {
			sum += float64(d.values[d.at(k*uint32(step)+i+1)])
		}
		points[kept-1-k] = float32(sum / float64(step))
	}
	d.thin *= step
	d.head = 0
	copy(d.values, points)
	d.head, d.n = kept%discordHistory, kept
	d.sum, d.count = 0, 0
}

// rebuild works out everything that follows from the points.
func (d *discord) rebuild() {
	n, head := d.n, d.head
	for k := range n {
		d.head, d.n = (head+discordHistory-n+k+1)%discordHistory, k+1
		d.describe()
	}
	d.head, d.n = head, n
	if int(n) >= d.length {
		d.dotsAnew()
	}
}

// autocorrelation returns the lag, in points, of the highest peak of the
// autocorrelation behind its first valley, and its height.
func (d *discord) autocorrelation() (lag int, strength float64) {
	n := int(d.n)
	x := make([]float64, n)
	var mean float64
	for k := range n {
		x[n-1-k] = float64(d.values[d.at(uint32(k+1))])
		mean += x[n-1-k] / float64(n)
	}
	for i := range x {
		x[i] -= mean
	}
	return rhythm(x)
}

// rhythm is autocorrelation for values whose mean is 0.
func rhythm(x []float64) (lag int, strength float64) {
	n := len(x)
	var power float64
	for _, v := range x {
		power += mul(v, v)
	}
	if !(power > discordFlat) {
		return 0, 0
	}
	// Peaks behind the first valley. Of those nearly as high as the highest the
	// first is the period; the others are multiples of it.
	r := make([]float64, 0, 2048)
	for l := 0; l <= n/4+1 && l < cap(r); l++ {
		var sum float64
		for i, v := range x[l:] {
			sum += mul(v, x[i])
		}
		r = append(r, sum/power*float64(n)/float64(n-l))
	}
	// A peak stands clear of the lowest value before it, so that the ripple
	// that noise puts on a slow rhythm is none.
	peaks := make([]int, 0, 64)
	lowest := 1.0
	for l := 1; l+1 < len(r); l++ {
		lowest = min(lowest, r[l])
		if l >= 4 && r[l] >= r[l-1] && r[l] >= r[l+1] && r[l]-lowest >= discordClear {
			peaks = append(peaks, l)
			strength = max(strength, r[l])
		}
	}
	if strength < discordRhythm {
		return 0, strength
	}
	for _, l := range peaks {
		if r[l] >= mul(discordFirstPeak, strength) {
			return l, r[l]
		}
	}
	return 0, strength
}

// span returns how many samples a subsequence reaches over.
func (d *discord) span() int { return d.length * d.thin }

func (d *discord) sizeBytes() int {
	return 16*cap(d.values) + 8*cap(d.dots)
}

// scale multiplies everything in the unit of the series.
func (d *discord) scale(f float64) {
	for i := range d.values {
		d.values[i] = float32(mul(float64(d.values[i]), f))
	}
	d.sum, d.mean = mul(d.sum, f), mul(d.mean, f)
	d.variance = mul(mul(d.variance, f), f)
	d.rebuild()
}

// append writes the points only; the rest follows from them, except for the
// dot products, whose rounding depends on the way they came about.
func (d *discord) append(w *writer) {
	for _, v := range [...]uint64{uint64(d.length), uint64(d.thin), uint64(d.period), uint64(d.n), uint64(d.head),
		uint64(d.count), d.seen, d.next, uint64(len(d.values))} {
		w.uvarint(v)
	}
	for _, v := range [...]float64{d.rhythm, d.sum, d.mean, d.variance, d.distance} {
		w.f64(v)
	}
	for k := d.n; k > 0; k-- {
		i := d.at(k)
		w.f32(d.values[i])
		w.f32(d.means[i])
		w.f32(d.spread[i])
		w.f32(d.raw[i])
		w.f64(d.dots[i])
	}
}

func (d *discord) restore(r *reader) {
	d.length, d.thin, d.period = int(r.uvarint(2*discordLength)), int(r.uvarint(1<<40)), int(r.uvarint(1<<40))
	d.n, d.head = uint32(r.uvarint(discordHistory)), uint32(r.uvarint(discordHistory-1))
	d.count, d.seen, d.next = int(r.uvarint(1<<40)), r.uvarint(1<<62), r.uvarint(1<<62)
	size := int(r.uvarint(discordHistory))
	r.check(d.length >= discordLeast && d.thin > 0 && d.count < d.thin && d.next >= discordFirst && d.seen < d.next)
	r.check(int(d.n) <= size && (int(d.n) == size && size == discordHistory || int(d.head) == int(d.n)%discordHistory))
	d.rhythm, d.sum, d.mean, d.variance = r.finite(), r.finite(), r.finite(), r.finite()
	d.distance = r.f64()
	if r.err != nil || !r.need(24*int(d.n)) {
		return
	}
	d.values, d.means, d.dots = make([]float32, size), make([]float32, size), make([]float64, size)
	d.spread, d.raw = make([]float32, size), make([]float32, size)
	for k := d.n; k > 0; k-- {
		i := d.at(k)
		d.values[i], d.means[i], d.spread[i], d.raw[i] = r.f32(), r.f32(), r.f32(), r.f32()
		d.dots[i] = r.f64()
		r.check(finite(float64(d.values[i])) && finite(float64(d.means[i])) && finite(d.dots[i]) &&
			finite(float64(d.spread[i])) && d.spread[i] >= 0 && finite(float64(d.raw[i])))
	}
}
