//go:build unix && !solaris && !aix

package uploads

import (
	"io/fs"
	"os"
	"syscall"
)

// own reports whether the file belongs to this user: in a directory that others
// may write to, one of theirs could hold anything.
func own(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

// single reports whether a file has one name: by another it could be one of the user's own.
func single(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink == 1
}

// lock reports whether the file is now locked, for as long as it is open.
func lock(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	locked := false
	err = raw.Control(func(fd uintptr) { locked = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB) == nil })
	return err == nil && locked
}

// guarded reports whether only this user may write to a directory.
func guarded(info fs.FileInfo) bool { return info.Mode().Perm()&0o022 == 0 }

// nonblock keeps an open from waiting for the other end of a FIFO, and from following a link.
const nonblock = syscall.O_NONBLOCK | syscall.O_NOFOLLOW
