package bench

import (
	"math"
	"math/rand/v2"
	"time"
)

// cleanKind makes series without anomalies.
type cleanKind struct {
	name string
	make func(r *rand.Rand, step time.Duration) func(i int) float64
}

// cleanKinds are the kinds of data that a budget has to hold on.
var cleanKinds = []cleanKind{
	{"normal", func(r *rand.Rand, _ time.Duration) func(int) float64 {
		return func(int) float64 { return 100 + r.NormFloat64() }
	}},
	{"heavy tails", func(r *rand.Rand, _ time.Duration) func(int) float64 { // Student t, 3 degrees of freedom
		return func(int) float64 {
			var square float64
			for range 3 {
				x := r.NormFloat64()
				square += x * x
			}
			return r.NormFloat64() / math.Sqrt(square/3)
		}
	}},
	{"autocorrelated", func(r *rand.Rand, _ time.Duration) func(int) float64 {
		x := 0.0
		return func(int) float64 { x = 0.9*x + r.NormFloat64(); return x }
	}},
	{"daily and weekly", func(r *rand.Rand, step time.Duration) func(int) float64 {
		day := float64(24 * time.Hour / step)
		return func(i int) float64 {
			weekend := 1.0
			if math.Mod(float64(i)/day, 7) >= 5 {
				weekend = 0.6
			}
			return weekend*(50+30*math.Sin(2*math.Pi*float64(i)/day)) + 2*r.NormFloat64()
		}
	}},
	{"counts", func(r *rand.Rand, _ time.Duration) func(int) float64 { // Poisson, mean 20
		return func(int) float64 {
			n, sum := 0, 0.0
			for sum += r.ExpFloat64(); sum < 20; sum += r.ExpFloat64() {
				n++
			}
			return float64(n)
		}
	}},
	{"skewed", func(r *rand.Rand, _ time.Duration) func(int) float64 { // lognormal, as latencies are
		x := 0.0
		return func(int) float64 { x = 0.7*x + r.NormFloat64(); return 20 * math.Exp(0.3*x) }
	}},
	{"volatile", func(r *rand.Rand, _ time.Duration) func(int) float64 { // stochastic volatility, calm and lively days
		h := 0.0
		return func(int) float64 { h = 0.98*h + 0.1*r.NormFloat64(); return 50 + 5*math.Exp(h)*r.NormFloat64() }
	}},
	{"traffic", func(r *rand.Rand, step time.Duration) func(int) float64 { // negative binomial counts that vary as their mean does
		day := float64(24 * time.Hour / step)
		return func(i int) float64 {
			mean := 30 * (1 + 0.7*math.Sin(2*math.Pi*float64(i)/day))
			if math.Mod(float64(i)/day, 7) >= 5 {
				mean *= 0.5
			}
			shape := 0.0
			for range 10 {
				shape += r.ExpFloat64() / 10
			}
			n, sum := 0, 0.0
			for sum += r.ExpFloat64(); sum < mean*shape; sum += r.ExpFloat64() {
				n++
			}
			return float64(n)
		}
	}},
}

// mixture gives each series of a detector one of the other kinds.
var mixture = cleanKind{"mixture", func(r *rand.Rand, step time.Duration) func(int) float64 {
	return cleanKinds[r.IntN(len(cleanKinds))].make(r, step)
}}
