package private

import (
	"io/fs"
	"os"
	"syscall"
	"unsafe"
)

// AtOnce is nothing here.
const AtOnce = 0

// CanLock says whether two processes can be kept apart here.
const CanLock = true

// Denies takes every file for this user's: directories that all may write to are not usual.
func Denies(fs.FileInfo, fs.FileMode) bool { return true }

// Single is as Denies.
func Single(fs.FileInfo) bool { return true }

// Inode returns the number of an open file within its file system.
func Inode(f *os.File) (uint64, error) {
	var info syscall.ByHandleFileInformation
	if err := syscall.GetFileInformationByHandle(syscall.Handle(f.Fd()), &info); err != nil {
		return 0, err
	}
	return uint64(info.FileIndexHigh)<<32 | uint64(info.FileIndexLow), nil
}

var lockFileEx = syscall.NewLazyDLL("kernel32.dll").NewProc("LockFileEx")

// Lock reports whether a file is now locked, for as long as it is open. What is locked is a byte far beyond the end: a
// lock keeps this process, too, from reading through another handle.
func Lock(f *os.File) bool {
	const exclusive, atOnce = 2, 1
	at := syscall.Overlapped{OffsetHigh: 1 << 30}
	ok, _, _ := lockFileEx.Call(f.Fd(), exclusive|atOnce, 0, 1, 0, uintptr(unsafe.Pointer(&at)))
	return ok != 0
}
