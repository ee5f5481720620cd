package bench

import (
	"syscall"
	"time"
)

// coreTime returns the processor time of this thread, so that others on the
// machine do not count.
func coreTime() time.Duration {
	const thread = 1
	var ru syscall.Rusage
	if syscall.Getrusage(thread, &ru) != nil {
		return time.Duration(time.Now().UnixNano())
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}
