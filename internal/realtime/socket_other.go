//go:build !unix

package realtime

const canTry = false

func (s *socket) tryWrite(uintptr) bool { return true }
