//go:build unix

package realtime

import "syscall"

const canTry = true

// tryWrite writes what the kernel takes at once.
func (s *socket) tryWrite(fd uintptr) bool {
	for {
		n, err := syscall.Write(int(fd), s.p[s.n:])
		switch {
		case err == syscall.EINTR: //nolint:errorlint // an errno
			continue
		case err == syscall.EAGAIN: //nolint:errorlint
			return true
		case err != nil:
			s.err = err
			return true
		}
		if s.n += n; s.n >= len(s.p) || n == 0 {
			return true
		}
	}
}
