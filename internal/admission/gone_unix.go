//go:build unix

package admission

import "golang.org/x/sys/unix"

// gone reports whether the next read of a socket ends without a byte: the
// client has closed it, or it failed. It reads nothing.
func gone(fd uintptr) bool {
	var b [1]byte
	for {
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch err {
		case nil:
			return n == 0
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			return true
		}
	}
}
