package detect

import "math"

// The functions in this file replace those of package math where a result
// reaches a score or a snapshot: they use only operations that IEEE 754 rounds
// the same way everywhere, and no fused multiply-add.

const (
	ln2Hi    = 6.93147180369123816490e-01 // the upper bits of ln 2: k*ln2Hi is exact for |k| < 2^20
	ln2Lo    = 1.90821492927058770002e-10
	invLn2   = 1.44269504088896338700e+00
	invLn10  = 4.34294481903251816668e-01
	ln10     = 2.30258509299404590109e+00
	sqrtHalf = 7.07106781186547572737e-01
)

// mul is x*y rounded to float64, which keeps the compiler from fusing it with
// an addition.
func mul(x, y float64) float64 { return float64(x * y) }

// atanhSeries returns ln((1+s)/(1-s)) for |s| <= 0.18 by its Taylor series; the
// first term left out is below 1e-17.
func atanhSeries(s float64) float64 {
	z := mul(s, s)
	p := 1.0 / 21
	p = mul(p, z) + 1.0/19
	p = mul(p, z) + 1.0/17
	p = mul(p, z) + 1.0/15
	p = mul(p, z) + 1.0/13
	p = mul(p, z) + 1.0/11
	p = mul(p, z) + 1.0/9
	p = mul(p, z) + 1.0/7
	p = mul(p, z) + 1.0/5
	p = mul(p, z) + 1.0/3
	return 2 * (s + mul(mul(s, z), p))
}

// ln returns the natural logarithm of x, to about one unit in the last place.
// It is -Inf for 0 and NaN for what has no logarithm.
func ln(x float64) float64 {
	switch {
	case x > 0 && x <= math.MaxFloat64:
	case x == 0:
		return math.Inf(-1)
	case x > 0:
		return x
	default:
		return math.NaN()
	}
	m, e := math.Frexp(x)
	if m < sqrtHalf {
		m *= 2
		e--
	}
	k := float64(e)
	return mul(k, ln2Hi) + (mul(k, ln2Lo) + atanhSeries((m-1)/(m+1)))
}

// ln1p returns ln(1+x), exact for small x too. It is -Inf for x <= -1.
func ln1p(x float64) float64 {
	if x <= -1 {
		return math.Inf(-1)
	}
	if x > -0.25 && x < 0.4 {
		return atanhSeries(x / (2 + x))
	}
	return ln(1 + x)
}

// log10 returns the decimal logarithm of x.
func log10(x float64) float64 { return mul(ln(x), invLn10) }

// expm1Series returns e^r - 1 for |r| <= 0.36 by its Taylor series.
func expm1Series(r float64) float64 {
	p := 1.0 / 87178291200 // 1/14!
	p = mul(p, r) + 1.0/6227020800
	p = mul(p, r) + 1.0/479001600
	p = mul(p, r) + 1.0/39916800
	p = mul(p, r) + 1.0/3628800
	p = mul(p, r) + 1.0/362880
	p = mul(p, r) + 1.0/40320
	p = mul(p, r) + 1.0/5040
	p = mul(p, r) + 1.0/720
	p = mul(p, r) + 1.0/120
	p = mul(p, r) + 1.0/24
	p = mul(p, r) + 1.0/6
	p = mul(p, r) + 1.0/2
	return r + mul(mul(r, r), p)
}

// exp returns e^x: 0 far below, +Inf far above.
func exp(x float64) float64 {
	switch {
	case x != x:
		return x
	case x > 709.7:
		return math.Inf(1)
	case x < -745:
		return 0
	}
	k := math.Floor(mul(x, invLn2) + 0.5)
	r := (x - mul(k, ln2Hi)) - mul(k, ln2Lo)
	return math.Ldexp(1+expm1Series(r), int(k))
}

// expm1 returns e^x - 1, exact for small x too.
func expm1(x float64) float64 {
	if x > -0.36 && x < 0.36 {
		return expm1Series(x)
	}
	return exp(x) - 1
}
