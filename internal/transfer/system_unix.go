//go:build unix && !solaris && !aix

package transfer

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// nonblock keeps an open from waiting for the other end of a FIFO.
const nonblock = syscall.O_NONBLOCK | syscall.O_NOFOLLOW

// owned reports whether a file belongs to this user.
func owned(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

// private reports whether only this user may enter a directory.
func private(info fs.FileInfo) bool { return owned(info) && info.Mode().Perm()&0o077 == 0 }

// inode returns the number of an open file within its file system.
func inode(f *os.File) (uint64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	stat, _ := info.Sys().(*syscall.Stat_t)
	return stat.Ino, nil //nolint:unconvert,nolintlint // its type differs between systems
}

// lock reports whether a file is now locked, for as long as it is open.
func lock(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	locked := false
	err = raw.Control(func(fd uintptr) { locked = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB) == nil })
	return err == nil && locked
}

// canResume says whether two processes can be kept apart here, without which nothing is left for a later one.
const canResume = true

// renamesOpen says whether a file that is open can be renamed.
const renamesOpen = true

// readOnly reports whether err is that of a file system which nothing can be written to.
func readOnly(err error) bool { return errors.Is(err, syscall.EROFS) }

// mounted reports whether err is that of renaming onto a file that is a mount point by itself.
func mounted(err error) bool { return errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EXDEV) }

// inherit gives a file the owner and the group of the one whose place it takes, as far as this user may, and returns its
// permissions. A group that can't be kept is not replaced by one that may do more than all others.
func inherit(f *os.File, old fs.FileInfo) fs.FileMode {
	mode := old.Mode().Perm()
	was, ok := old.Sys().(*syscall.Stat_t)
	if !ok || f.Chown(int(was.Uid), int(was.Gid)) == nil || f.Chown(-1, int(was.Gid)) == nil {
		return mode
	}
	return mode&^0o070 | mode&0o007<<3
}
