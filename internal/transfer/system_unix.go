//go:build unix && !solaris && !aix

package transfer

import (
	"io/fs"
	"os"
	"syscall"
)

// renamesOpen says whether an open file can be renamed.
const renamesOpen = true

// isUnsigned reports whether an owner file has unsignedMode, as far as the umask allows it.
func isUnsigned(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&0o100 != 0
}

// inherit gives f the owner and the group of the file that it replaces, as far as this user may, and returns its
// permissions. If the group cannot be kept, the new group gets no more permissions than others have.
func inherit(f *os.File, old fs.FileInfo) fs.FileMode {
	mode := old.Mode().Perm()
	stat, ok := old.Sys().(*syscall.Stat_t)
	if !ok || f.Chown(int(stat.Uid), int(stat.Gid)) == nil || f.Chown(-1, int(stat.Gid)) == nil {
		return mode
	}
	return mode&^0o070 | mode&0o007<<3
}
