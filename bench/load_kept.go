package bench

import (
	"context"
	"slices"
	"time"
)

const (
	keptSlices      = 20 // of the kept answer, and as many of the bare handler
	keptConnections = 64
)

// throughput asks for one kept answer as fast as its connections can, and a
// bare handler for the same bytes, in turn.
func (l *loadRun) throughput(s *loadServer, target string) (t LoadThroughput, err error) {
	path := target[len("GET "):]
	answer, err := s.raw(path)
	if err != nil {
		return t, err
	}
	bare, err := startBare(l.ctx, l.o, answer)
	if err != nil {
		return t, err
	}
	defer bare.end()
	kept, yardstick := newKeptSide(s, path), newKeptSide(bare, "/")
	defer kept.close()
	defer yardstick.close()
	kept.warm(l.ctx, l.o.For/10)
	yardstick.warm(l.ctx, l.o.For/10)
	inTurn(l.ctx, kept, yardstick, keptSlices, l.o.For/(2*keptSlices))
	t = LoadThroughput{Bytes: len(answer.body), Slices: keptSlices, CPUMicros: kept.micros(), BareMicros: yardstick.micros(),
		PerSecond: spreadOf(kept.rates, itself).Median, Bare: spreadOf(yardstick.rates, itself).Median, Ratio: ratios(kept.rates, yardstick.rates)}
	return t, nil
}

func itself(v float64) float64 { return v }

// ratios is of each of a to the one of b beside it.
func ratios(a, b []float64) LoadSpread {
	each := make([]float64, len(a))
	for i := range a {
		each[i] = a[i] / max(b[i], 1)
	}
	return spreadOf(each, itself)
}

// keptSide is one of two servers that are asked in turn, over connections that
// stay open.
type keptSide struct {
	request []byte
	conns   []*loadConn
	pid     int

	rates  []float64 // answers a second, of each slice
	served float64
	cpu    time.Duration
}

func newKeptSide(s *loadServer, path string) *keptSide {
	k := &keptSide{request: requestBytes("GET "+path, s.address), conns: newConns(s.address, keptConnections)}
	if s.cmd != nil {
		k.pid = s.pid()
	}
	return k
}

func (k *keptSide) close() { closeAll(k.conns) }

// warm asks without counting.
func (k *keptSide) warm(ctx context.Context, during time.Duration) {
	askAll(ctx, k.conns, k.request, during)
}

func (k *keptSide) slice(ctx context.Context, during time.Duration) {
	began, before := time.Now(), cpuOf(k.pid)
	rate := askAll(ctx, k.conns, k.request, during)
	k.rates = append(k.rates, rate)
	k.served += rate * time.Since(began).Seconds()
	k.cpu += cpuOf(k.pid) - before
}

// micros is the processor time of an answer.
func (k *keptSide) micros() float64 { return float64(k.cpu.Microseconds()) / max(1, k.served) }

// inTurn asks a, b, b, a and so on, n slices of each.
func inTurn(ctx context.Context, a, b *keptSide, n int, during time.Duration) {
	for i := range n {
		both := []*keptSide{a, b}
		if i%2 == 1 {
			slices.Reverse(both)
		}
		for _, side := range both {
			side.slice(ctx, during)
		}
	}
}
