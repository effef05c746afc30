package uploads

import (
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// own takes every file for this user's: directories that all may write to are
// not usual.
func own(fs.FileInfo) bool { return true }

// single is as own.
func single(fs.FileInfo) bool { return true }

// lock reports whether the file is now locked, for as long as it is open. What
// is locked is a byte far beyond the end: a lock keeps this process, too, from
// reading through another handle.
func lock(f *os.File) bool {
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	return windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &windows.Overlapped{OffsetHigh: 1 << 30}) == nil
}

// guarded is as own.
func guarded(fs.FileInfo) bool { return true }

const nonblock = 0
