package detect

import (
	"math"
	"math/rand/v2"
	"testing"
)

// What peek foresees is the distance once the sample is learned, before and
// after the history is full and before and after a period was found.
func TestPeekForeseesTheDistance(t *testing.T) {
	t.Parallel()
	for _, period := range []float64{0, 23, 150, 700} {
		d := newDiscord()
		r := rand.New(rand.NewPCG(31, 1))
		seen, oldest := 0, 0
		for i := range 12_000 {
			x := r.NormFloat64()
			if period > 0 {
				x = 10*math.Sin(2*math.Pi*float64(i)/period) + x
			}
			peeked, length, looks := d.peek(x), d.length, d.seen+1 == d.next
			d.learn(x)
			if looks && d.length != length || d.period == 0 && d.n == 0 {
				continue // it has fitted the history to another period
			}
			if math.IsNaN(peeked) != math.IsNaN(d.distance) {
				t.Fatalf("period %v, sample %d: %v foreseen, %v learned", period, i, peeked, d.distance)
			}
			if peeked >= 0 {
				seen++
				if peeked > d.distance+1e-3 {
					oldest++ // the one that is left out was nearest
				} else if peeked < d.distance-1e-3 {
					t.Fatalf("period %v, sample %d: %v foreseen, %v learned", period, i, peeked, d.distance)
				}
			}
		}
		if seen < 5000 || oldest > seen/100 {
			t.Errorf("period %v: compared %d times, %d of them off", period, seen, oldest)
		}
	}
}

// The transform is that of its definition, and back again it is the input.
func TestTransformIsFourier(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(33, 1))
	var x, y series
	for i := range x.re {
		x.re[i], x.im[i] = r.NormFloat64(), r.NormFloat64()
	}
	y = x
	y.transform()
	for k := range x.re {
		var want complex128
		for i := range x.re {
			sin, cos := math.Sincos(-2 * math.Pi * float64(i*k%spectralSize) / spectralSize)
			want += complex(x.re[i], x.im[i]) * complex(cos, sin)
		}
		if math.Abs(real(want)-y.re[k]) > 1e-12 || math.Abs(imag(want)-y.im[k]) > 1e-12 {
			t.Fatalf("bin %d is %v%+vi, want %v", k, y.re[k], y.im[k], want)
		}
	}
}
