//go:build !unix

package bench

import "time"

func liveFiles(int) error { return nil }

func processRSS() int64 { return 0 }

func processCPU() time.Duration { return 0 }

func haltProcess(int) bool { return false }

func resumeProcess(int) {}
