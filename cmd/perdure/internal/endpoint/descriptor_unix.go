//go:build unix

package endpoint

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// WasClosed reports whether a standard descriptor was closed when this process began. Then the Go runtime has opened the
// null device in its place, for reading and writing. A shell opens </dev/null for reading only and >/dev/null for writing
// only. A parent that opens it for both, such as Python with subprocess.DEVNULL, looks the same as the runtime, and counts
// as closed: a copy that is refused can be run again, but an object that was replaced by an empty one is lost.
func WasClosed(f *os.File) bool {
	info, err := f.Stat()
	null, missing := os.Stat(os.DevNull)
	if err != nil || missing != nil {
		return err != nil
	}
	if !os.SameFile(info, null) {
		return false
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return true
	}
	closed := false
	err = raw.Control(func(fd uintptr) {
		flags, failed := unix.FcntlInt(fd, unix.F_GETFL, 0)
		closed = fd <= 2 && failed == nil && flags&unix.O_ACCMODE == unix.O_RDWR
	})
	return err == nil && closed
}

// descriptor returns the file of a path such as /dev/stdout, if that leads to a descriptor that this process has inherited.
// Writes continue at the descriptor's offset, also in a regular file, as those of its other users do.
func descriptor(path string) (f *os.File, ok bool, err error) {
	fd, ok, err := inherited(path)
	if !ok || err != nil {
		return nil, ok, err
	}
	copied, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, true, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(copied), path), true, nil
}

// inherited returns the descriptor that path leads to, if it leads to one. The error is EBADF if this process
// has opened it: the Go runtime opens files of its own.
func inherited(path string) (fd uintptr, ok bool, err error) {
	if fd, ok = descriptorNumber(path); !ok {
		return 0, false, nil
	}
	flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0)
	standard := []*os.File{os.Stdin, os.Stdout, os.Stderr}
	if err != nil || flags&unix.FD_CLOEXEC != 0 || fd < 3 && WasClosed(standard[fd]) {
		return 0, true, &fs.PathError{Op: "open", Path: path, Err: unix.EBADF}
	}
	return fd, true, nil
}

// descriptorNumber returns the number of the descriptor that path leads to, by /dev/fd or /proc.
func descriptorNumber(path string) (fd uintptr, ok bool) {
	self, _ := os.Readlink("/proc/self")
	for range maxLinks {
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return 0, false
		}
		if dir == "/dev/fd" || self != "" && strings.HasPrefix(dir, "/proc/"+self+"/") && filepath.Base(dir) == "fd" {
			n, err := strconv.ParseUint(filepath.Base(path), 10, 31)
			return uintptr(n), err == nil
		}
		next, err := os.Readlink(path)
		if err != nil {
			return 0, false
		}
		if path = next; !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
	}
	return 0, false
}
