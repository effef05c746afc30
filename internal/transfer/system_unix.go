//go:build unix && !solaris && !aix

package transfer

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// renamesOpen says whether a file that is open can be renamed.
const renamesOpen = true

// readOnly reports whether err is that of a file system which nothing can be written to.
func readOnly(err error) bool { return errors.Is(err, syscall.EROFS) }

// mounted reports whether err is that of renaming onto a file that is a mount point by itself.
func mounted(err error) bool { return errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EXDEV) }

// inherit gives a file the owner and the group of the one whose place it takes, as far as this user may, and returns its
// permissions. A group that can't be kept is not replaced by one that may do more than all others.
func inherit(f *os.File, old fs.FileInfo) fs.FileMode {
	mode := old.Mode().Perm()
	was, ok := old.Sys().(*syscall.Stat_t)
	if !ok || f.Chown(int(was.Uid), int(was.Gid)) == nil || f.Chown(-1, int(was.Gid)) == nil {
		return mode
	}
	return mode&^0o070 | mode&0o007<<3
}
