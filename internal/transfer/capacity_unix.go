//go:build linux || darwin || freebsd

package transfer

import (
	"math"
	"os"
	"syscall"
)

// capacity returns the size of f's file system in bytes.
func capacity(f *os.File) int64 {
	var s syscall.Statfs_t
	if err := syscall.Fstatfs(int(f.Fd()), &s); err != nil || s.Blocks == 0 {
		return math.MaxInt64
	}
	blocks, size := uint64(s.Blocks), uint64(s.Bsize)    //nolint:gosec,unconvert,nolintlint // their types differ between systems
	return int64(min(blocks, math.MaxInt64/size) * size) //nolint:gosec // as limited
}
