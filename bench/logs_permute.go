package bench

import (
	"math/rand/v2"
)

// renamer renames words consistently: each run of letters becomes another one
// of the same length and with capitals in the same places, the same one
// wherever it stands. What a miner makes of the renamed lines cannot come from
// knowing the words. Runs of letters beside a digit, as in hexadecimal
// numbers and units, and single letters keep their form by staying.
type renamer struct {
	rng   *rand.Rand
	names map[string]string
	taken map[string]bool
}

func renamed(set *logSet, seed uint64) logSet {
	r := renamer{rand.New(rand.NewPCG(seed, uint64(len(set.lines)))), map[string]string{}, map[string]bool{}}
	out := logSet{name: set.name, group: set.group}
	for _, l := range set.lines {
		out.lines = append(out.lines, r.rename(l))
	}
	for _, t := range set.text {
		out.text = append(out.text, string(r.rename([]byte(t))))
	}
	return out
}

func (r *renamer) rename(b []byte) []byte {
	out := append([]byte(nil), b...)
	for i := 0; i < len(b); {
		j := i
		for j < len(b) && letter(b[j]) {
			j++
		}
		if j == i {
			i++
			continue
		}
		if j-i > 1 && (i == 0 || !digit(b[i-1])) && (j == len(b) || !digit(b[j])) {
			copy(out[i:j], r.word(string(b[i:j])))
		}
		i = j
	}
	return out
}

func (r *renamer) word(w string) string {
	if name, ok := r.names[w]; ok {
		return name
	}
	const tries = 1000 // short words run out of names; then two share one
	b := make([]byte, len(w))
	for range tries {
		for i := range b {
			base := byte('a')
			if w[i] < 'a' {
				base = 'A'
			}
			b[i] = base + byte(r.rng.IntN(26))
		}
		if !r.taken[string(b)] {
			break
		}
	}
	name := string(b)
	r.names[w], r.taken[name] = name, true
	return name
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func digit(c byte) bool { return c >= '0' && c <= '9' }

// redraw appends line to dst with every digit drawn anew.
func redraw(dst, line []byte, rng *rand.PCG) []byte {
	var random uint64
	left := 0
	for _, c := range line {
		if digit(c) {
			if left == 0 {
				random, left = rng.Uint64(), 8
			}
			c = '0' + byte(random&0xff*10>>8)
			random >>= 8
			left--
		}
		dst = append(dst, c)
	}
	return dst
}
