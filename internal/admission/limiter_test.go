package admission

import (
	"testing"
	"time"
)

// Requests that only need a CPU are never in flight together: while work waits
// for one, a flood of them is shared out by class, and a few are not.
func TestAFloodThatWaitsForACPUIsSharedOut(t *testing.T) {
	t.Parallel()
	const target = 20 * time.Millisecond
	l := newLimiter(64)
	ask := func(n int, c Class) (in int) {
		for range n {
			if release, ok := l.acquire(t.Context(), c); ok {
				release(true)
				in++
			}
		}
		return in
	}
	for range 5 {
		ask(floodTick-1, Read)
		l.adjust(time.Second, target)
	}
	if in := ask(20, Read); in != 20 {
		t.Errorf("a few requests: %d of 20 are let in", in)
	}
	for range 5 {
		ask(200, Read)
		l.adjust(time.Second, target)
	}
	read, ingest, batch := ask(200, Read), ask(200, Ingest), ask(200, Batch)
	if read == 0 || read > 40 || ingest < 2*read || batch > read {
		t.Errorf("under a flood %d reads, %d ingests and %d batches of 200 each are let in", read, ingest, batch)
	}
	for range 40 {
		l.adjust(0, target)
	}
	if in := ask(200, Read); in != 200 {
		t.Errorf("afterwards %d of 200 are let in", in)
	}
}
