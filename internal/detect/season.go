package detect

import (
	"fmt"
	"math"
	"time"
)

const (
	searchPoints = 2048 // of a history in search of a rhythm
	searchFirst  = 128  // samples before the first look
	searchClip   = 4    // mean distances that a point counts for at most
	searchNoise  = 2.5  // deviations of the autocorrelation of noise that a rhythm stands above discordRhythm
	searchAgree  = 0.1  // share by which two looks may differ
	searchGap    = 64   // steps of a gap that does not begin the search anew
)

// search looks for the period of a series as the first high peak of its
// autocorrelation (rhythm), each time that the history has doubled. A period
// counts when two looks in a row agree and four of them fit in the history. It is
// then refined at its multiples, as far as half of the history, and taken
// as the roundest time within what is left of doubt, because what runs by the clock
// does so at round times.
//
// The history holds 2048 points at most; when it is full each two become one.
// Points are clipped at four mean distances from a straight line through all of them.
// Cost: an addition per sample; a look costs a millisecond at most and
// comes at most once in a doubling. Memory: 8 KiB. It finds one period, the shortest of
// about equally strong ones.
type search struct {
	points []float32 // relative to base
	base   float64
	thin   uint64 // samples of a point
	sum    float64
	count  uint64
	seen   uint64
	next   uint64  // samples at which to look again
	guess  float64 // period at the last look, in samples; 0: none
}

func newSearch() *search { return &search{thin: 1, next: searchFirst} }

// learn takes in a sample and returns the period, in samples, and its doubt when
// it is certain of one; 0 else.
func (s *search) learn(v float64) (period, doubt float64) {
	if s.seen == 0 {
		s.base = v
	}
	s.seen++
	s.sum += v - s.base
	s.count++
	if s.count >= s.thin {
		if len(s.points) == searchPoints {
			s.halve()
		}
		if len(s.points) == cap(s.points) {
			s.points = append(make([]float32, 0, min(max(2*len(s.points), searchFirst), searchPoints)), s.points...)
		}
		s.points = append(s.points, narrow(s.sum/float64(s.count)))
		s.sum, s.count = 0, 0
	}
	if s.seen < s.next {
		return 0, 0
	}
	s.next *= 2
	p, d := s.look()
	agrees := p > 0 && math.Abs(p-s.guess) <= mul(searchAgree, p)+float64(s.thin)
	s.guess = p
	if agrees {
		return p, d
	}
	return 0, 0
}

// halve makes one point of each two.
func (s *search) halve() {
	for i := range searchPoints / 2 {
		s.points[i] = narrow((float64(s.points[2*i]) + float64(s.points[2*i+1])) / 2)
	}
	s.points = s.points[:searchPoints/2]
	s.thin *= 2
}

// look returns the period and how far off it may be, in samples; 0: none.
func (s *search) look() (period, doubt float64) {
	x := s.level()
	lag, strength := rhythm(x)
	if lag == 0 || strength < discordRhythm+searchNoise/math.Sqrt(float64(len(x))) {
		return 0, 0
	}
	p, times := float64(lag), 1
	width := max(2, lag/8)
	for k := 1; mul(float64(k), p) <= float64(len(x)/2); k *= 2 {
		p, times = top(x, int(mul(float64(k), p)+0.5), width)/float64(k), k
	}
	thin := float64(s.thin)
	return mul(p, thin), mul(max(0.75, float64(width)/4), thin) / float64(times)
}

// top returns the lag near around at which the autocorrelation of x is highest:
// the vertex of a parabola through its values up to width to both sides, which
// noise moves less than it moves the largest value.
func top(x []float64, around, width int) float64 {
	var square, fourth, first, second, whole float64
	n := float64(2*width + 1)
	for u := -width; u <= width; u++ {
		l, w := max(around+u, 0), float64(u)
		var r float64
		for i, v := range x[min(l, len(x)-1):] {
			r += mul(v, x[i])
		}
		r /= float64(len(x) - min(l, len(x)-1))
		w2 := mul(w, w)
		square += w2
		fourth += mul(w2, w2)
		first += mul(w, r)
		second += mul(w2, r)
		whole += r
	}
	bend := (mul(n, second) - mul(square, whole)) / (mul(n, fourth) - mul(square, square))
	if !(bend < 0) {
		return float64(around)
	}
	off := -first / square / (2 * bend)
	return float64(around) + min(max(off, -float64(width)), float64(width))
}

// level returns the points less a straight line through them, clipped.
func (s *search) level() []float64 {
	n := len(s.points)
	x := make([]float64, n)
	var mean, slope, weight float64
	for _, v := range s.points {
		mean += float64(v) / float64(n)
	}
	middle := mul(float64(n-1), 0.5)
	for i, v := range s.points {
		d := float64(i) - middle
		slope += mul(d, float64(v)-mean)
		weight += mul(d, d)
	}
	slope /= max(weight, 1)
	var usual float64
	for i, v := range s.points {
		x[i] = float64(v) - mean - mul(slope, float64(i)-middle)
		usual += math.Abs(x[i]) / float64(n)
	}
	if !(usual > 0) {
		return x
	}
	mean = 0
	for i := range x {
		x[i] = min(max(x[i]/usual, -searchClip), searchClip)
		mean += x[i] / float64(n)
	}
	for i := range x {
		x[i] -= mean
	}
	return x
}

func (s *search) append(w *writer) {
	for _, v := range [...]uint64{s.thin, s.count, s.seen, s.next, uint64(len(s.points))} {
		w.uvarint(v)
	}
	for _, v := range [...]float64{s.base, s.sum, s.guess} {
		w.f64(v)
	}
	for _, v := range s.points {
		w.f32(v)
	}
}

func readSearch(d *reader) *search {
	s := &search{thin: d.uvarint(1 << 40), count: d.uvarint(1 << 40), seen: d.uvarint(1 << 60), next: d.uvarint(1 << 61)}
	n := int(d.uvarint(searchPoints))
	s.base, s.sum, s.guess = d.value(), d.finite(), d.finite()
	d.check(s.thin > 0 && s.count < s.thin && s.seen < s.next && s.next >= searchFirst && s.guess >= 0 && math.Abs(s.sum) <= 1e12*maxValue)
	if !d.need(4 * n) {
		return s
	}
	for s.grow(n) {
	}
	for range n {
		v := d.f32()
		d.check(finite(float64(v)))
		s.points = append(s.points, v)
	}
	return s
}

// grow makes room for n points in the steps of learn, and reports whether it did one.
func (s *search) grow(n int) bool {
	if cap(s.points) >= n {
		return false
	}
	s.points = make([]float32, 0, min(max(2*cap(s.points), searchFirst), searchPoints))
	return true
}

// foundSeason is holt_winters with the season that search finds. Until it has one
// and has counted it once, an exponentially weighted mean is expected.
type foundSeason struct {
	config config
	step   int64 // ms
	lastT  int64
	before ewma
	search *search // nil: it found a season
	holt   *holt   // nil: it has not
}

func newFoundSeason(c config) *foundSeason {
	return &foundSeason{config: c, step: max(c.step.Milliseconds(), 1), lastT: math.MinInt64,
		before: *newEWMAPredictor(defaultHalfLife), search: newSearch()}
}

// counted reports whether the season foresees anything.
func (m *foundSeason) counted() bool { return m.holt != nil && m.holt.counts == nil }

func (m *foundSeason) predict(t int64) prediction {
	if m.counted() {
		return m.holt.predict(t)
	}
	return m.before.predict(t)
}

func (m *foundSeason) learn(t int64, v float64, p prediction) {
	gap := int64(1)
	if m.lastT != math.MinInt64 {
		gap = (t - m.lastT) / m.step
	}
	m.lastT = t
	if m.holt != nil {
		counted := m.counted()
		m.holt.learn(t, v, p)
		if !counted {
			m.before.learn(t, v, p)
		}
		return
	}
	m.before.learn(t, v, p)
	if gap > searchGap || gap < 0 {
		m.search, gap = newSearch(), 1
	}
	for ; gap > 0 && m.holt == nil; gap-- { // the value stands for what is missing before it
		if period, doubt := m.search.learn(v); period > 0 {
			m.begin(period, doubt)
		}
	}
}

// begin takes a period in samples as the season.
func (m *foundSeason) begin(period, doubt float64) {
	step := float64(m.config.step)
	season := roundest(mul(period, step), mul(doubt, step), step)
	if season < 4*m.config.step || season > week {
		return
	}
	m.holt, m.search = newHoltPredictor(m.config, season), nil
}

// roundest returns the roundest time within doubt of period, all in nanoseconds.
func roundest(period, doubt, step float64) time.Duration {
	for _, unit := range [...]time.Duration{24 * time.Hour, 12 * time.Hour, 6 * time.Hour, time.Hour, 30 * time.Minute,
		15 * time.Minute, 10 * time.Minute, 5 * time.Minute, time.Minute, 10 * time.Second} {
		u := float64(unit)
		if n := math.Floor(period/u + 0.5); n > 0 && math.Abs(mul(n, u)-period) <= doubt {
			return time.Duration(mul(n, u))
		}
	}
	return time.Duration(mul(math.Floor(period/step+0.5), step))
}

func (m *foundSeason) missing() int { return m.before.missing() }

func (m *foundSeason) why() string {
	if m.holt == nil {
		return fmt.Sprintf("%s; no season found in %d samples", m.before.why(), m.search.seen)
	}
	return "season found: " + m.holt.why()
}

func (m *foundSeason) sizeBytes() int {
	size := int(sizeOf[foundSeason]())
	if m.search != nil {
		size += int(sizeOf[search]()) + 4*cap(m.search.points)
	}
	if m.holt != nil {
		size += m.holt.sizeBytes()
	}
	return size
}

func (m *foundSeason) append(w *writer) {
	w.i64(m.lastT)
	m.before.append(w)
	w.bool(m.holt != nil)
	if m.holt == nil {
		m.search.append(w)
		return
	}
	w.i64(m.holt.season)
	m.holt.append(w)
}

func (m *foundSeason) read(d *reader) {
	r := *m
	r.lastT = d.i64()
	mean, variance, n := d.value(), d.finite(), d.uvarint(math.MaxInt64)
	d.check(variance >= 0 && variance <= 1e306)
	r.before.mean, r.before.variance, r.before.n = mean, variance, n
	if d.bool() {
		season := time.Duration(d.i64()) * time.Millisecond
		d.check(season >= 4*m.config.step && season <= week)
		if d.err != nil {
			return
		}
		r.search, r.holt = nil, newHoltPredictor(m.config, season)
		r.holt.read(d) // ends d
	} else {
		r.holt, r.search = nil, readSearch(d)
	}
	if d.close() == nil {
		*m = r
	}
}
