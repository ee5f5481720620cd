package bench

import (
	"time"

	"golang.org/x/sys/unix"
)

// coreTime returns the processor time of this thread, so that others on the
// machine do not count. It is exact to less than a microsecond, which that of
// getrusage is not where the kernel counts in ticks.
func coreTime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) != nil {
		return time.Duration(time.Now().UnixNano())
	}
	return time.Duration(ts.Nano())
}
