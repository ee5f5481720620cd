package source

import (
	"errors"
	"io"
	"runtime"
	"strconv"
	"testing"
)

// bomb is an answer of n series, made while it is read.
type bomb struct {
	n, at int
	buf   [128]byte
	rest  []byte
}

func (b *bomb) Read(p []byte) (int, error) {
	for len(b.rest) == 0 {
		switch {
		case b.at == 0:
			b.rest = append(b.buf[:0], `{"status":"success","data":{"resultType":"matrix","result":[`...)
		case b.at <= b.n:
			b.rest = b.buf[:0]
			if b.at > 1 {
				b.rest = append(b.rest, ',')
			}
			b.rest = append(b.rest, `{"metric":{"__name__":"up","instance":"`...)
			b.rest = strconv.AppendInt(b.rest, int64(b.at), 10)
			b.rest = append(b.rest, `","job":"bomb"},"values":[[1700000000,"1"]]}`...)
		case b.at == b.n+1:
			b.rest = append(b.buf[:0], `]}}`...)
		default:
			return 0, io.EOF
		}
		b.at++
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// allocated says how much f allocates in all, which bounds what it holds.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// 300,000 series where 30,000 are allowed: their number is named,
// and the memory is that of the allowed ones. Not parallel, because it counts
// what the process allocates.
func TestCardinalityBomb(t *testing.T) {
	const series, limit = 300_000, 30_000
	const at = 1_700_000_000_000
	span := Span{Start: at, End: at, Step: 1000}
	run := func(n, limit int) (ans *Answer, bytes uint64) {
		bytes = allocated(func() {
			var err error
			ans, _, err = Decode(&bomb{n: n}, span, Limits{Series: limit, Bytes: 1 << 30})
			if err != nil && !errors.Is(err, ErrTooManySeries) {
				t.Fatal(err)
			}
		})
		return ans, bytes
	}
	_, allowed := run(limit, limit)
	ans, beyond := run(series, limit)
	if ans.Count != series || ans.Series != nil {
		t.Errorf("counted %d series and kept %d, want %d and none", ans.Count, len(ans.Series), series)
	}
	if beyond > allowed+1<<20 {
		t.Errorf("a bomb allocates %d MiB, as many series as allowed %d MiB", beyond>>20, allowed>>20)
	}
	if allowed > 30<<20 {
		t.Errorf("%d series allocate %d MiB", limit, allowed>>20)
	}
	// The control: without a limit it does not stay small.
	if _, all := run(series, series); all < 3*allowed {
		t.Errorf("without a limit the bomb allocates %d MiB, which this test would not notice", all>>20)
	}
}
