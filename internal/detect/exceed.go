package detect

import (
	"encoding/binary"
	"fmt"
	"math"
)

// The levels of a record of exceedances: scores from 1 in steps of a quarter.
const (
	levelsN   = 57 // the last is 15
	levelStep = 0.25
	firstTail = 14 // level 4.5: above it the ratio may rise by a limited factor only
	firstRare = 8  // level 3: clusters that reach it are limited per series
	firstTop  = 12 // level 4: and those that reach it even more
)

const (
	nextLevel    = 0.5623413251903491 // 10^-levelStep
	exceedWarm   = 512                // samples of a series before its exceedances count
	exceedYoung  = uint64(1 << 10)    // samples per series after which all counts are halved for the first time
	exceedYouth  = 7                  // and then so often at once, because young series err in their own ways
	exceedMemory = uint64(1 << 14)    // and after which they are in the end; it doubles in between
	exceedEnough = uint64(1 << 22)    // or so many of all series together,
	exceedShort  = uint64(1 << 11)    // but no fewer than these of each
	exceedPrior  = 10                 // exceedances that what is known beforehand weighs
	exceedFade   = 0.4                // weight of a level in the slope of the ratio, as seen from the next one
	exceedRise   = 1.155              // 10^(0.25*levelStep): most that the ratio rises from level to level in the tail
	exceedFall   = 0.6                // 10^(-0.89*levelStep): most that it falls
	exceedMost   = 10.0               // ratio at most, with many series
	exceedLeast  = 0.05               // and at least
	exceedCalm   = 0.7                // while the record is young: young series are calmer than they will be
	exceedShare  = 0.25               // of exceedMost that each further series allows
	exceedOnce   = 20                 // times what is expected, at most, of one step;
	exceedBurst  = 0.125              // or so much of what is expected of the whole record, if that is more
	rareMost     = 24                 // clusters of one series that reach level 3, in a memory; a quarter of them in the second
	topMost      = 4                  // and level 4

	thresholdGrain = 0.05
)

// Exceedances is the second stage of calibration, for all series of a detector
// together: how often their scores really go beyond a level. The scores of one
// series say how rare its samples are as far as its own history shows; where a
// budget over many series asks for more, the tail of each is a guess, and
// guesses of one model on series of one kind err alike. Together the series
// have thousands of times the samples, so that the error can be counted: as the
// ratio of realised to promised exceedances, level by level.
//
// Regional frequency analysis does the same for floods (Hosking and Wallis
// 1997: sites are few years long, a region is many). The ratio per level is
// shrunk towards what the levels below lead to expect, with the weight of ten
// exceedances: the ratio of the level below times its slope, which is how many of
// the exceedances of a level reach the next one, pooled over the series and over the last levels
// (each with 0.4 of the weight of the next), and itself shrunk towards that of exact
// scores with the same weight. That is the pooled shape of the tail: it goes on
// where counts end, and fades into the tails of the series themselves.
//
// What is counted are clusters: exceedances of a level within gap samples of
// each other count once, as one alarm does. It is robust in four ways, so that a
// broken series or a real incident does not silence the others: a series counts
// at most 24 clusters that reach level 3, and 4 that reach 4, in a memory; one
// step counts at most 20 times what is expected of it, or an eighth of what is expected of
// the record (series with the same rhythm have their rare samples in the same hour of the
// week: all of them would be too many for the former); above level 4.5 the ratio
// rises by at most a factor of 1.8 per unit; and it stays below 10 (a
// few series move it upwards less: 1.25 for one). Contamination therefore
// raises a threshold by about one unit at most. How far it may fall is decided by the
// evidence: what the levels below lead to expect weighs ten exceedances, so that it takes
// several times as many that were to be expected and did not come.
//
// The first 512 samples of a series do not count, since young models err in their
// own ways: their tails are full of what a rhythm not yet known makes odd. What the
// next 1,024 show says where to begin and is then forgotten but for a hundred and twenty-eighth: of ten
// thousand series, it would fill the levels that a budget asks for, for a year.
// Until then the ratio does not fall below 0.7. Later counts are halved when each
// series has 16,384 samples on average, or 2,048 and all together four million.
// Counts are integers and steps are closed as a whole, so that neither the order
// of series nor the machine matters.
//
// Cost per sample: a few comparisons. Memory: 500 bytes for all series, 8 for
// each. It fails where series of one detector differ: the ratio is that of the
// mixture, so that the series with the heaviest tails use up most of the budget.
//
// The zero value has counted nothing. It is not safe for concurrent use.
type Exceedances struct {
	counts  [levelsN]uint32
	samples uint64
	epoch   uint8
}

// Tally counts one step. The zero value has counted nothing.
type Tally struct {
	counts  [levelsN]uint32
	samples uint32
}

// Cluster is what Exceedances has to know of one series. The zero value is that
// of a new one.
type Cluster struct {
	seen  uint16 // samples, at most exceedWarm
	level uint8  // levels passed of late
	quiet uint8  // samples since the highest of them
	epoch uint8
	rare  uint8 // clusters counted in this epoch that reach level 3
	top   uint8 // and level 4
}

// levelOf returns how many levels a score exceeds.
func levelOf(score float64) uint8 {
	if !(score > 1) {
		return 0
	}
	n := min(mul(score-1, 1/levelStep), levelsN)
	if whole := math.Floor(n); whole < n && n < levelsN {
		return uint8(whole) + 1
	}
	return uint8(n)
}

// level returns the score of a level.
func level(i int) float64 { return 1 + mul(levelStep, float64(i)) }

// Count takes the score of a series into the tally of a step; 0 is a sample that
// cannot alarm. gap is how many samples below a level end an alarm.
func (x *Exceedances) Count(step *Tally, c *Cluster, score float64, gap int) {
	if c.seen < exceedWarm {
		c.seen++
		return
	}
	step.samples++
	n := levelOf(score)
	old := c.level
	if n >= old {
		c.level, c.quiet = n, 0
	} else if c.quiet++; int(c.quiet) >= min(max(gap, 1), math.MaxUint8) {
		c.level, c.quiet = n, 0
		return
	} else {
		return
	}
	if n == old {
		return
	}
	if c.epoch != x.epoch {
		c.epoch, c.rare, c.top = x.epoch, 0, 0
	}
	rare, top := uint8(rareMost), uint8(topMost)
	if x.epoch == 1 { // the record has just forgotten nearly everything
		rare, top = rareMost/4, topMost/4
	}
	if n > firstTop && old <= firstTop {
		if c.top < top {
			c.top++
		} else {
			n = firstTop
		}
	}
	if n > firstRare && old <= firstRare {
		if c.rare < rare {
			c.rare++
		} else {
			n = firstRare
		}
	}
	for i := old; i < n; i++ {
		step.counts[i]++
	}
}

// Add takes the tally of a whole step and empties it.
func (x *Exceedances) Add(step *Tally) {
	if step.samples == 0 {
		return
	}
	p := 0.1
	most := min(max(mul(exceedOnce, float64(step.samples)), mul(exceedBurst, float64(x.samples))), math.MaxUint32)
	for i, k := range step.counts {
		x.counts[i] += min(k, 3+uint32(mul(most, p)))
		p = mul(p, nextLevel)
	}
	x.samples += uint64(step.samples)
	*step = Tally{}
}

// Turn halves the counts when they are full. It is called between steps, at the same ones
// whenever they are evaluated, such as every 64th.
func (x *Exceedances) Turn(series int) {
	n := uint64(max(series, 1))
	memory := min(max(exceedEnough/n, exceedShort), exceedMemory)
	if x.samples < min(exceedYoung<<min(x.epoch, 8), memory)*n {
		return
	}
	halvings := 1
	if x.epoch == 0 {
		halvings = exceedYouth
	}
	x.samples >>= halvings
	for i := range x.counts {
		x.counts[i] >>= halvings
	}
	if x.epoch++; x.epoch == 0 {
		x.epoch = 128 // old enough, and another one than before
	}
}

// stands returns for each level the score that a sample of that level deserves.
func (x *Exceedances) stands(series int) (real [levelsN]float64) {
	ratio, p := 1.0, 0.1
	least := exceedLeast
	if x.epoch == 0 {
		least = exceedCalm
	}
	most := min(1+mul(exceedShare, float64(max(series, 1))), exceedMost)
	var reached, due float64 // exceedances of the levels below, and what those below them lead to expect
	for i, k := range x.counts {
		if i <= firstRare {
			// Alarms that are frequent run into each other; how much says nothing of
			// rarer ones.
			ratio = max(ratio, 1)
		}
		slope := 1.0
		if i > firstRare {
			reached = mul(exceedFade, reached) + float64(x.counts[i-1])
			due = mul(exceedFade, due) + mul(nextLevel, float64(x.counts[i-2]))
			slope = min(max((reached+exceedPrior)/(due+exceedPrior), exceedFall), exceedRise)
		}
		expected := mul(p, float64(x.samples))
		next := (float64(k) + mul(exceedPrior, mul(ratio, slope))) / (expected + exceedPrior)
		if i > firstTail {
			next = min(max(next, mul(ratio, exceedFall)), mul(ratio, exceedRise))
		}
		ratio = min(max(next, least), most)
		real[i] = level(i) - log10(ratio)
		if i > 0 {
			real[i] = max(real[i], real[i-1])
		}
		p = mul(p, nextLevel)
	}
	return real
}

// Threshold returns the score at which a detector with that many series keeps the
// budget, when asked is what Threshold says for scores that are exact. It is a
// multiple of 0.05, and asked itself while nothing was counted.
func (x *Exceedances) Threshold(asked float64, series int) float64 {
	if x.samples == 0 {
		return asked
	}
	real := x.stands(series)
	i := 0
	for i < levelsN && real[i] < asked {
		i++
	}
	var t float64
	switch i {
	case 0:
		t = level(0)
	case levelsN:
		t = level(levelsN-1) + asked - real[levelsN-1]
	default:
		t = level(i)
		if d := real[i] - real[i-1]; d > 0 {
			t -= mul(levelStep, (real[i]-asked)/d)
		}
	}
	return min(max(mul(thresholdGrain, math.Round(t/thresholdGrain)), 1), 16)
}

// Real returns the score that a sample deserves, going by how often the series of the
// detector really have scores like this one.
func (x *Exceedances) Real(score float64, series int) float64 {
	if x.samples == 0 || !(score > 1) {
		return score
	}
	real := x.stands(series)
	at := mul(score-1, 1/levelStep)
	i := int(min(at, levelsN-1))
	if i == levelsN-1 {
		return score + (real[i] - level(i))
	}
	return real[i] + mul(at-float64(i), real[i+1]-real[i])
}

// Basis says on what a threshold rests.
type Basis uint8

// The bases of a threshold.
const (
	BasisAssumed      Basis = iota // nothing was counted: the scores of the series are taken at their word
	BasisExtrapolated              // counted at lower levels, and from there on as the series' own tails say
	BasisCounted                   // counted at this level
)

// String returns the name of the basis as the API shows it.
func (b Basis) String() string {
	switch b {
	case BasisAssumed:
		return "assumed"
	case BasisExtrapolated:
		return "extrapolated"
	case BasisCounted:
		return "counted"
	}
	return fmt.Sprintf("basis %d", uint8(b))
}

// Basis returns what a threshold rests on for which asked is the score of exact
// scores: it is counted where 10 exceedances are to be expected.
func (x *Exceedances) Basis(asked float64) Basis {
	switch n := float64(x.samples); {
	case n < mul(exceedPrior, 10):
		return BasisAssumed
	case mul(n, exp(-mul(asked, ln10))) < exceedPrior:
		return BasisExtrapolated
	}
	return BasisCounted
}

// Samples is how many samples were counted, less those that faded.
func (x *Exceedances) Samples() uint64 { return x.samples }

// clusterBytes is the size of a written Cluster.
const clusterBytes = 8

// Append writes the record; ReadExceedances reads it.
func (x *Exceedances) Append(dst []byte) []byte {
	dst = append(dst, x.epoch)
	dst = binary.AppendUvarint(dst, x.samples)
	n := levelsN
	for n > 0 && x.counts[n-1] == 0 {
		n--
	}
	dst = append(dst, uint8(n))
	for _, k := range x.counts[:n] {
		dst = binary.AppendUvarint(dst, uint64(k))
	}
	return dst
}

// ReadExceedances reads what Append wrote. It reports whether b is sound.
func ReadExceedances(b []byte) (x Exceedances, ok bool) {
	if len(b) == 0 {
		return x, false
	}
	x.epoch, b = b[0], b[1:]
	next := func(limit uint64) uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > limit {
			b, ok = nil, false
			return 0
		}
		b = b[n:]
		return v
	}
	ok = true
	x.samples = next(math.MaxInt64)
	for i := range next(levelsN) {
		x.counts[i] = uint32(next(math.MaxUint32))
	}
	if !ok || len(b) > 0 {
		return Exceedances{}, false
	}
	return x, true
}

// Bytes returns what a snapshot has to keep of c.
func (c Cluster) Bytes() [clusterBytes]byte {
	var b [clusterBytes]byte
	binary.LittleEndian.PutUint16(b[:], c.seen)
	b[2], b[3], b[4], b[5], b[6] = c.level, c.quiet, c.epoch, c.rare, c.top
	return b
}

// ClusterOf returns the Cluster that Bytes came from.
func ClusterOf(b [clusterBytes]byte) Cluster {
	return Cluster{seen: min(binary.LittleEndian.Uint16(b[:]), exceedWarm), level: min(b[2], levelsN), quiet: b[3],
		epoch: b[4], rare: b[5], top: b[6]}
}
