//go:build linux && (amd64 || arm64)

package transfer

import (
	"os"
	"syscall"
)

// flush makes the system begin to write n bytes of f to disk, and returns at once, so that the final Sync has less to
// wait for.
func flush(f *os.File, offset, n int64) {
	const write = 2 // SYNC_FILE_RANGE_WRITE
	_ = syscall.SyncFileRange(int(f.Fd()), offset, n, write)
}
