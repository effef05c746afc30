package transfer

import (
	"io/fs"
	"os"
	"syscall"
	"unsafe"
)

const nonblock = 0

// owned takes every file for this user's: directories that all may write to are not usual.
func owned(fs.FileInfo) bool { return true }

// private is as owned.
func private(fs.FileInfo) bool { return true }

// inode returns the number of an open file within its file system.
func inode(f *os.File) (uint64, error) {
	var info syscall.ByHandleFileInformation
	if err := syscall.GetFileInformationByHandle(syscall.Handle(f.Fd()), &info); err != nil {
		return 0, err
	}
	return uint64(info.FileIndexHigh)<<32 | uint64(info.FileIndexLow), nil
}

var lockFileEx = syscall.NewLazyDLL("kernel32.dll").NewProc("LockFileEx")

// lock reports whether a file is now locked, for as long as it is open. What is locked is a byte far beyond the end: a
// lock keeps this process, too, from reading through another handle.
func lock(f *os.File) bool {
	const exclusive, atOnce = 2, 1
	at := syscall.Overlapped{OffsetHigh: 1 << 30}
	ok, _, _ := lockFileEx.Call(f.Fd(), exclusive|atOnce, 0, 1, 0, uintptr(unsafe.Pointer(&at)))
	return ok != 0
}

const canResume = true

// renamesOpen says whether a file that is open can be renamed.
const renamesOpen = false

func readOnly(error) bool { return false }
func mounted(error) bool  { return false }

// inherit returns the permissions of a file that takes the place of another.
func inherit(_ *os.File, old fs.FileInfo) fs.FileMode { return old.Mode().Perm() }
