//go:build linux && (amd64 || arm64)

package transfer

import (
	"os"
	"syscall"
)

// flush makes the system begin to write n bytes of f to the disk, and returns at once: so that there is less to wait for
// when all of it is to be there.
func flush(f *os.File, offset, n int64) {
	const write = 2 // SYNC_FILE_RANGE_WRITE
	_ = syscall.SyncFileRange(int(f.Fd()), offset, n, write)
}
