//go:build unix && !solaris && !aix

package private

import (
	"io/fs"
	"os"
	"syscall"
)

// AtOnce is flags that keep an open from blocking on a FIFO and from acquiring a terminal. An [os.Root] follows a
// link regardless of flags; Open detects that by the inode.
const AtOnce = syscall.O_NONBLOCK | syscall.O_NOCTTY

// CanLock says whether Lock works on this system.
const CanLock = true

// Denies reports whether a file belongs to this user and has none of these permissions.
func Denies(info fs.FileInfo, perm fs.FileMode) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid() && info.Mode().Perm()&perm == 0
}

// Single reports whether a file has at most one name: by another name it could be one of the user's own files. It has none
// if it is replaced at this moment.
func Single(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink <= 1
}

// Inode returns the number of an open file within its file system.
func Inode(f *os.File) (uint64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	stat, _ := info.Sys().(*syscall.Stat_t)
	return stat.Ino, nil //nolint:unconvert,nolintlint // its type differs between systems
}

// Lock reports whether it has locked a file, for as long as the file is open.
func Lock(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	locked := false
	err = raw.Control(func(fd uintptr) { locked = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB) == nil })
	return err == nil && locked
}
