// Package idle reports which idle connections the peer has closed.
package idle

import (
	"net"
	"syscall"
)

// Ended reports whether the peer has closed or reset conn, or sent unrequested bytes. It reads nothing, and may be called
// while another goroutine waits for the first byte. A connection that does not give access to its socket counts as open.
func Ended(conn net.Conn) bool {
	if coded, ok := conn.(interface{ NetConn() net.Conn }); ok { // *tls.Conn
		conn = coded.NetConn()
	}
	open, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := open.SyscallConn()
	if err != nil {
		return true
	}
	ended := false
	err = raw.Control(func(fd uintptr) { ended = readable(fd) })
	return ended || err != nil
}
