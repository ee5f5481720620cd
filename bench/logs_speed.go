package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"aiops/internal/logmine"
)

// LogSpeed is what mining a long stream cost, on one core.
type LogSpeed struct {
	Set           string  `json:"set"`
	Lines         int     `json:"lines"`
	LinesPerS     float64 `json:"lines_per_second_per_core"`
	BytesPerLine  float64 `json:"bytes_per_line"`
	AllocsPerLine float64 `json:"allocations_per_line"` // after the warm-up
	Early         int     `json:"templates_after_warm_up"`
	Late          int     `json:"templates"`
	StateBytes    int     `json:"state_bytes"`
	SnapshotBytes int     `json:"snapshot_bytes"`
}

const (
	logWarmUp = 32_000 // lines that are not timed
	logBlock  = 16_000 // lines that are drawn at a time
)

// streamSpeed mines a stream of n lines made of the given ones: in order and
// over again, each time with every digit drawn anew, so that no line repeats.
// The time is that of the processor, and making the lines is not in it.
func streamSpeed(ctx context.Context, name string, lines [][]byte, n int) (LogSpeed, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	m, err := logmine.New(logmine.Config{})
	if err != nil {
		return LogSpeed{}, fmt.Errorf("making the miner: %w", err)
	}
	rng := rand.NewPCG(uint64(n), 1)
	out := LogSpeed{Set: name, Lines: n}
	var spent time.Duration
	var mallocs, size uint64
	buf := make([]byte, 0, logBlock*128)
	ends := make([]int, 0, logBlock)
	for done := 0; done < n; {
		if err := ctx.Err(); err != nil {
			return LogSpeed{}, fmt.Errorf("measuring the speed of %s: %w", name, err)
		}
		block := min(logBlock, n-done)
		if done < logWarmUp {
			block = min(block, logWarmUp-done)
		}
		buf, ends = buf[:0], ends[:0]
		for i := range block {
			buf = redraw(buf, lines[(done+i)%len(lines)], rng)
			ends = append(ends, len(buf))
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start, begin := 0, coreTime()
		for _, end := range ends {
			m.Add(buf[start:end])
			start = end
		}
		took := coreTime() - begin
		runtime.ReadMemStats(&after)
		if done >= logWarmUp {
			spent += took
			mallocs += after.Mallocs - before.Mallocs
			size += uint64(len(buf))
		}
		done += block
		if done == logWarmUp {
			out.Early = m.Len()
		}
	}
	if timed := float64(n - logWarmUp); timed > 0 {
		out.LinesPerS = timed / max(spent.Seconds(), 1e-9)
		out.AllocsPerLine = float64(mallocs) / timed
		out.BytesPerLine = float64(size) / timed
	}
	out.Late = m.Len()
	out.StateBytes = m.SizeBytes()
	out.SnapshotBytes = len(m.AppendSnapshot(nil))
	return out, nil
}
