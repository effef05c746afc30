//go:build unix

package idle

import "syscall"

// readable reports whether a read of the socket would return something, be it the end.
func readable(fd uintptr) bool {
	var b [1]byte
	_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK) // net makes its sockets non-blocking
	return err != syscall.EAGAIN && err != syscall.EINTR
}
