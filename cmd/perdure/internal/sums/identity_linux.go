package sums

import (
	"io/fs"
	"syscall"
)

// identity returns the change time in nanoseconds and the inode of a file.
func identity(info fs.FileInfo) (changed int64, inode uint64) {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Ctim.Nano(), stat.Ino
	}
	return 0, 0
}
