package logmine

import (
	"encoding/binary"
	"math/bits"
)

// Odd constants with well spread bits; see wyhash for the way they are used.
const (
	mulA uint64 = 0x9E3779B97F4A7C15
	mulB uint64 = 0xD6E8FEB86659FD93
	mulC uint64 = 0xA0761D6478BD642F
	mulD uint64 = 0xE7037ED1A0B428DB
)

// fold multiplies to 128 bits and xors the halves.
func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// hashBytes hashes b with the seed. It is the same on every platform.
func hashBytes(b []byte, seed uint64) uint64 {
	n := len(b)
	var lo, hi uint64
	switch {
	case n > 16:
		h := seed
		p := b
		for len(p) > 16 {
			h = fold(binary.LittleEndian.Uint64(p)^mulC, binary.LittleEndian.Uint64(p[8:])^h)
			p = p[16:]
		}
		seed = h
		lo = binary.LittleEndian.Uint64(b[n-16:])
		hi = binary.LittleEndian.Uint64(b[n-8:])
	case n > 8:
		lo = binary.LittleEndian.Uint64(b)
		hi = binary.LittleEndian.Uint64(b[n-8:])
	default:
		return hashWord(packWord(b), n, seed)
	}
	return fold(lo^mulA^uint64(n)*mulD, hi^seed^mulB)
}

// packWord returns the bytes of b, of which there are at most eight, as one
// number.
func packWord(b []byte) uint64 {
	n := len(b)
	switch {
	case n >= 4:
		return uint64(binary.LittleEndian.Uint32(b)) | uint64(binary.LittleEndian.Uint32(b[n-4:]))<<(8*(n-4))
	case n > 0:
		return uint64(b[0]) | uint64(b[n>>1])<<(8*(n>>1)) | uint64(b[n-1])<<(8*(n-1))
	}
	return 0
}

// hashWord is hashBytes for the n packed bytes of a short text.
func hashWord(packed uint64, n int, seed uint64) uint64 {
	return fold(packed^mulA^uint64(n)*mulD, seed^mulB)
}

// lettersIn returns how many of the eight bytes, from the lowest on, are ASCII
// letters.
func lettersIn(w uint64) int {
	const (
		ones = 0x0101010101010101
		high = 0x80 * ones
	)
	x := (w | 0x20*ones) &^ high
	from := x + (0x80-'a')*ones // the high bit of a byte says: at least 'a'
	past := x + (0x7f-'z')*ones // past 'z'
	return bits.TrailingZeros64((from&^past&^w)&high^high) >> 3
}

// digitsIn returns how many of the eight bytes, from the lowest on, are digits.
func digitsIn(w uint64) int {
	const (
		ones = 0x0101010101010101
		high = 0x80 * ones
	)
	x := w ^ '0'*ones
	past := x&^high + (0x7f-9)*ones // the high bit of a byte says: past '9'
	return bits.TrailingZeros64((past|x)&high) >> 3
}

// manyDigits reports whether the digit at i seems to begin a long run of them,
// for which digitsEnd is worth its call.
func manyDigits(b []byte, i, end int) bool {
	return i+7 < end && isDigit(b[i+1]) && isDigit(b[i+4]) && isDigit(b[i+7])
}

// digitsEnd returns the end of the digits at i, at most end.
func digitsEnd(b []byte, i, end int) int {
	for i+8 <= end {
		k := digitsIn(binary.LittleEndian.Uint64(b[i:]))
		i += k
		if k < 8 {
			return i
		}
	}
	for i < end && isDigit(b[i]) {
		i++
	}
	return i
}

// hashSquashed hashes b with every run of digits replaced by one mark, so
// that names which differ in their numbers only have one hash. A minus sign
// after an underscore belongs to the number.
func hashSquashed(b []byte, seed uint64) uint64 {
	h := seed ^ mulD
	for i := 0; i < len(b); {
		j := i
		for j < len(b) && !isDigit(b[j]) {
			j++
		}
		text := b[i:j]
		if n := len(text); j < len(b) && n > 1 && text[n-1] == '-' && text[n-2] == '_' {
			text = text[:n-1]
		}
		h = fold(h^mulA, hashBytes(text, seed))
		if j == len(b) {
			break
		}
		h = fold(h^mulB, mulC)
		i = digitsEnd(b, j, len(b))
	}
	return h
}

// contentHash is FNV-1a: ids are made with it, so it never changes.
func contentHash(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}
