package private

import (
	"os"
	"syscall"
	"unsafe"
)

// CanLock says whether Lock works on this system.
const CanLock = true

// Inode returns the number of an open file within its file system.
func Inode(f *os.File) (uint64, error) {
	var info syscall.ByHandleFileInformation
	if err := syscall.GetFileInformationByHandle(syscall.Handle(f.Fd()), &info); err != nil {
		return 0, err
	}
	return uint64(info.FileIndexHigh)<<32 | uint64(info.FileIndexLow), nil
}

var lockFileEx = syscall.NewLazyDLL("kernel32.dll").NewProc("LockFileEx")

// Lock reports whether it has locked a file, for as long as the file is open. It locks a byte far beyond the end: a
// lock also keeps this process from reading through another handle.
func Lock(f *os.File) bool {
	const exclusive, atOnce = 2, 1
	at := syscall.Overlapped{OffsetHigh: 1 << 30}
	ok, _, _ := lockFileEx.Call(f.Fd(), exclusive|atOnce, 0, 1, 0, uintptr(unsafe.Pointer(&at)))
	return ok != 0
}
