package detect

import (
	"fmt"
	"math"
	"math/bits"
	"time"
)

const (
	spectralSize  = 64                               // samples of a transform
	spectralAhead = 5                                // of which so many are estimated, behind the value
	spectralAt    = spectralSize - spectralAhead - 1 // position of the value
	spectralSlope = 5                                // gradients of the estimate
	spectralLocal = 21                               // saliencies before that of the value, with which it is compared
	spectralLeast = 128                              // samples before it judges
	spectralTiny  = 1e-8                             // of the largest amplitude: less is none
	spectralFloor = 0.01                             // of a saliency; an impulse has 1
)

// quarter is the first quarter of a cosine of 64 samples.
var quarter = [spectralSize/4 + 1]float64{
	1, 0.9951847266721969, 0.9807852804032304, 0.9569403357322088,
	0.9238795325112867, 0.881921264348355, 0.8314696123025452, 0.773010453362737,
	0.7071067811865476, 0.6343932841636455, 0.5555702330196023, 0.4713967368259978,
	0.38268343236508984, 0.29028467725446233, 0.19509032201612833, 0.09801714032956077,
	0,
}

// spectral is the model "spectral_residual": what stands out of the last samples
// once everything that their spectrum explains is taken away (Ren et al.,
// "Time-series anomaly detection service at Microsoft", KDD 2019, after Hou and
// Zhang's saliency of pictures, 2007), in causal form.
//
// The last 58 samples, the value and, so that it is not at the edge, five times
// an estimate from the samples before it (by the mean gradient from the last to
// the five before that) are transformed, less their mean. From the logarithm of the
// amplitudes their average over three neighbours is subtracted; with the
// phases as they were this is transformed back. The oddness is by how much the
// saliency at the value exceeds the mean of the 21 before it, divided by
// that mean. As published it is compared with a fixed 3; here the calibrator says how
// rare it is.
//
// The side is that of the value relative to the median of the last three, which
// is given as the expected value; there is no band. Cost per point: two
// transforms of 64 points and 33 logarithms and exponentials, 5 µs. Memory: 1.5 KiB.
// It is quick at spikes and sharp edges in series of any rhythm up to its window. It
// does not see what comes slowly, what lasts, and what is odd by its hour only.
type spectral struct {
	valueRing
	n uint64

	mean float64 // scratch: mean saliency before the value of the last oddness
	here float64 // and its own
	odd  int     // and its side
}

func spectralMinHistory(time.Duration) int { return spectralLeast }

func newSpectral(c config) (Model, error) {
	return newPattern(c, &spectral{valueRing: valueRing{limit: spectralAt}}), nil
}

func (m *spectral) expect() (center float64, ok bool) {
	if m.len() < m.limit {
		return 0, false
	}
	a, b, c := m.back(0), m.back(1), m.back(2)
	return max(min(a, b), min(max(a, b), c)), true
}

// series is the real and imaginary part of a transform or of what it is made of.
type series struct{ re, im [spectralSize]float64 }

// fill writes the window with v and the estimated samples behind it, less their
// mean and in units of the largest distance from it. It reports whether there is
// any.
func (m *spectral) fill(x *series, v float64) bool {
	for i := range spectralAt {
		x.re[i] = m.back(spectralAt - 1 - i)
	}
	x.re[spectralAt] = v
	var gradient float64
	for i := 1; i <= spectralSlope; i++ {
		gradient += (m.back(0) - m.back(i)) / float64(i)
	}
	next := m.back(spectralSlope-1) + gradient // the mean gradient times as many samples
	var mean float64
	for i := range x.re {
		if i > spectralAt {
			x.re[i] = next
		}
		mean += mul(x.re[i], 1.0/spectralSize)
	}
	var most float64
	for i := range x.re {
		x.re[i] -= mean
		most = max(most, math.Abs(x.re[i]))
	}
	if !(most > mul(floorNoise, math.Abs(mean))) {
		return false
	}
	for i := range x.re {
		x.re[i] /= most
	}
	return true
}

func (m *spectral) oddness(v, _ float64) float64 {
	center, _ := m.expect()
	m.odd, m.here, m.mean = sideOf(v, center), 0, 0
	var x series
	if !m.fill(&x, v) {
		return 0
	}
	x.transform()
	x.whiten()
	x.transform() // forward again: the saliency comes out in reverse order
	at := func(i int) float64 {
		k := (spectralSize - i) % spectralSize
		return math.Sqrt(mul(x.re[k], x.re[k]) + mul(x.im[k], x.im[k]))
	}
	for i := 1; i <= spectralLocal; i++ {
		m.mean += at(spectralAt - i)
	}
	m.mean, m.here = mul(m.mean, 1.0/(spectralLocal*spectralSize)), mul(at(spectralAt), 1.0/spectralSize)
	return max(m.here-m.mean, 0) / (m.mean + spectralFloor)
}

// whiten divides a spectrum by the geometric mean of each three neighbouring
// amplitudes, which leaves the exponential of the residual of its logarithm with
// the phases. The input is real and without a mean: one half gives the other.
func (x *series) whiten() {
	const half = spectralSize / 2
	var amplitude [half + 1]float64
	var most float64
	for k := 1; k <= half; k++ {
		amplitude[k] = math.Sqrt(mul(x.re[k], x.re[k]) + mul(x.im[k], x.im[k]))
		most = max(most, amplitude[k])
	}
	var logs [half + 2]float64
	for k := 1; k <= half; k++ {
		logs[k] = ln(max(amplitude[k], mul(spectralTiny, most)))
	}
	logs[0], logs[half+1] = logs[1], logs[half-1]
	x.re[0], x.im[0] = 0, 0
	for k := 1; k <= half; k++ {
		f := exp(-(logs[k-1] + logs[k] + logs[k+1]) / 3)
		x.re[k], x.im[k] = mul(x.re[k], f), mul(x.im[k], f)
		x.re[spectralSize-k], x.im[spectralSize-k] = x.re[k], -x.im[k]
	}
}

// transform is the discrete Fourier transform, in place (Cooley and Tukey 1965).
func (x *series) transform() {
	for i := range x.re {
		if j := int(bits.Reverse8(uint8(i)) >> 2); j > i {
			x.re[i], x.re[j] = x.re[j], x.re[i]
			x.im[i], x.im[j] = x.im[j], x.im[i]
		}
	}
	for half := 1; half < spectralSize; half *= 2 {
		for k := range half {
			c, s := root(k * spectralSize / 2 / half)
			for i := k; i < spectralSize; i += 2 * half {
				j := i + half
				re, im := mul(c, x.re[j])-mul(s, x.im[j]), mul(c, x.im[j])+mul(s, x.re[j])
				x.re[j], x.im[j] = x.re[i]-re, x.im[i]-im
				x.re[i], x.im[i] = x.re[i]+re, x.im[i]+im
			}
		}
	}
}

// root returns cosine and sine of -2πk/64, for k from 0 to 31.
func root(k int) (cosine, sine float64) {
	const q = spectralSize / 4
	if k <= q {
		return quarter[k], -quarter[q-k]
	}
	return -quarter[2*q-k], -quarter[k-q]
}

func (m *spectral) side() (side int, sided bool) { return m.odd, true }

func (m *spectral) reason(int) Reason { return ReasonPattern }

func (m *spectral) due() bool { return true }

func (m *spectral) note() string {
	return fmt.Sprintf("saliency %.2g, %.2g in the %d samples before", m.here, m.mean, spectralLocal)
}

func (m *spectral) learn(v float64) {
	m.n++
	m.push(v)
}

func (m *spectral) missing() int { return max(0, spectralLeast-int(min(m.n, spectralLeast))) }

func (m *spectral) why() string {
	return fmt.Sprintf("what the spectrum of the last %d samples does not explain", m.len())
}

func (m *spectral) sizeBytes() int { return int(sizeOf[spectral]()) + 8*cap(m.values) }

func (m *spectral) append(w *writer) {
	w.uvarint(m.n)
	m.valueRing.append(w)
}

func (m *spectral) read(d *reader) {
	n := d.uvarint(math.MaxInt64)
	ring := readRing(d, m.limit)
	d.check(n >= uint64(ring.len()))
	if d.close() == nil {
		m.valueRing, m.n = ring, n
	}
}
