//go:build unix

package endpoint

import (
	"os"

	"golang.org/x/sys/unix"
)

// WasClosed reports whether a standard descriptor was closed when this process began. The Go runtime has opened the null
// device in its place then, for reading and writing: a shell's </dev/null is open for reading alone, its >/dev/null for
// writing.
func WasClosed(f *os.File) bool {
	info, err := f.Stat()
	null, missing := os.Stat(os.DevNull)
	if err != nil || missing != nil {
		return err != nil
	}
	if !os.SameFile(info, null) {
		return false
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return true
	}
	closed := false
	err = raw.Control(func(fd uintptr) {
		flags, failed := unix.FcntlInt(fd, unix.F_GETFL, 0)
		closed = fd <= 2 && failed == nil && flags&unix.O_ACCMODE == unix.O_RDWR
	})
	return err == nil && closed
}
