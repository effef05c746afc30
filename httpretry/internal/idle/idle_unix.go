//go:build unix

package idle

import "syscall"

// readable reports whether a read of the socket would return bytes, the end or an error at once.
func readable(fd uintptr) bool {
	var b [1]byte
	_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK) // net makes its sockets non-blocking
	return err != syscall.EAGAIN && err != syscall.EINTR
}
