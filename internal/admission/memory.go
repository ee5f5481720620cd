package admission

import (
	"bytes"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
)

// memoryLimit is what this process may use: GOMEMLIMIT, the control group's
// limit or the machine's memory, the least that is known; 0 when none is.
func memoryLimit() int64 {
	least := int64(math.MaxInt64)
	for _, n := range []int64{debug.SetMemoryLimit(-1), numberIn("/sys/fs/cgroup/memory.max"), numberIn("/sys/fs/cgroup/memory/memory.limit_in_bytes"), machineMemory()} {
		if n > 0 {
			least = min(least, n)
		}
	}
	if least == math.MaxInt64 {
		return 0
	}
	return least
}

func numberIn(file string) int64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	if err != nil {
		return 0 // such as "max"
	}
	return n
}

func machineMemory() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	_, after, ok := bytes.Cut(text, []byte("MemTotal:"))
	fields := bytes.Fields(after)
	if !ok || len(fields) == 0 {
		return 0
	}
	kib, err := strconv.ParseInt(string(fields[0]), 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}

// gauge reads how long work waits for a CPU and how much memory is held. It is
// for one goroutine.
type gauge struct {
	samples []metrics.Sample
	before  []uint64
}

func newGauge() *gauge {
	return &gauge{samples: []metrics.Sample{
		{Name: "/sched/latencies:seconds"}, {Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
	}}
}

// leastWaits is how many waits a tenth of a second must hold to say anything.
const leastWaits = 20

// read returns the 90th percentile of the waits since the call before, in
// seconds, 0 when there were too few, and the memory that the process holds.
func (g *gauge) read() (delay float64, memory int64) {
	metrics.Read(g.samples)
	memory = int64(g.samples[1].Value.Uint64()) - int64(g.samples[2].Value.Uint64())
	h := g.samples[0].Value.Float64Histogram()
	if g.before == nil {
		g.before = append(g.before, h.Counts...)
		return 0, memory
	}
	total := uint64(0)
	for i, n := range h.Counts {
		g.before[i] = n - g.before[i]
		total += g.before[i]
	}
	seen := uint64(0)
	for i, n := range g.before {
		if seen += n; total >= leastWaits && float64(seen) >= 0.9*float64(total) {
			delay = h.Buckets[i+1]
			if math.IsInf(delay, 1) {
				delay = h.Buckets[i]
			}
			break
		}
	}
	copy(g.before, h.Counts)
	return delay, memory
}
