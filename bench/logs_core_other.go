//go:build !linux

package bench

import "time"

// coreTime returns the time; elsewhere than on Linux others on the machine
// count.
func coreTime() time.Duration { return time.Duration(time.Now().UnixNano()) }
