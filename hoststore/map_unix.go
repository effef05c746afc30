//go:build unix && !aix && !solaris && !illumos

package hoststore

import (
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// mappable reports whether processes can share memory here.
const mappable = true

// ownerOf returns the user ID of the file's owner.
func ownerOf(info os.FileInfo) (uid uint32, known bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return s.Uid, true
}

// mapMemory maps the first size bytes of f. They stay mapped after f is closed.
func mapMemory(f *os.File, size int) ([]byte, error) {
	return syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
}

// readMemory returns a copy of the first size bytes of f, a multiple of eight. It copies
// through a mapping, word by word, so no word that another process writes is torn.
func readMemory(f *os.File, size int) (_ []byte, err error) {
	data, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	words := make([]uint64, size/8)
	from := unsafe.Slice((*uint64)(unsafe.Pointer(&data[0])), len(words))
	for i := range words {
		words[i] = atomic.LoadUint64(&from[i])
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), size), syscall.Munmap(data)
}
