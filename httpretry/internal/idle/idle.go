// Package idle tells which idle connections the other side has ended.
package idle

import (
	"net"
	"syscall"
)

// Ended reports whether the other side of conn has closed or reset it, or sent something that nobody has requested. It
// reads nothing, and may be called while another goroutine waits for the first byte. A connection that does not show
// what it is made of counts as open.
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
