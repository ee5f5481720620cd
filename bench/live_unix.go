//go:build unix

package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// liveFiles makes sure that this process may open n files.
func liveFiles(n int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("reading the limit of open files: %w", err)
	}
	need := uint64(n)
	if uint64(limit.Cur) >= need {
		return nil
	}
	wanted := limit
	wanted.Cur = wanted.Max
	if uint64(limit.Max) < need {
		return fmt.Errorf("this needs %d open files, %d are allowed: raise the limit (ulimit -Hn) or measure fewer clients", n, limit.Max)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &wanted); err != nil {
		return fmt.Errorf("raising the limit of open files to %d: %w", n, err)
	}
	return nil
}

// haltProcess stops a process until resumeProcess, and reports whether that is
// possible here.
func haltProcess(pid int) bool { return syscall.Kill(pid, syscall.SIGSTOP) == nil }

func resumeProcess(pid int) { _ = syscall.Kill(pid, syscall.SIGCONT) }

// processRSS returns the resident memory of this process, 0 where the system
// does not tell.
func processRSS() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, after, ok := bytes.Cut(status, []byte("VmRSS:"))
	if !ok {
		return 0
	}
	fields := bytes.Fields(after)
	kib, err := strconv.ParseInt(string(fields[0]), 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}

// processCPU returns the processor time of this process.
func processCPU() time.Duration {
	var ru syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &ru) != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}
