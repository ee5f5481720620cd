//go:build !unix

package admission

import "time"

// gone lets a byte be read, with which the connection gives itself up.
func gone(uintptr) bool { return true }

// cpuTime does not tell.
func cpuTime() time.Duration { return 0 }
