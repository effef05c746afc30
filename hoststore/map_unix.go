//go:build unix && !aix && !solaris && !illumos

package hoststore

import (
	"os"
	"syscall"
)

// mappable reports whether processes can share memory here.
const mappable = true

// noFollow refuses a symbolic link in the place of the file.
const noFollow = syscall.O_NOFOLLOW

// mapMemory maps the first size bytes of f. They stay mapped when f is closed.
func mapMemory(f *os.File, size int) ([]byte, error) {
	return syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
}
