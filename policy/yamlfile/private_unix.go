//go:build unix

package yamlfile

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// Private returns an error unless the file is a regular one that the user or root owns, and
// to which no other user may write.
func Private(info fs.FileInfo) error {
	owner, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || owner.Uid != 0 && int(owner.Uid) != os.Geteuid():
		return errors.New("owned by another user")
	case info.Mode().Perm()&0o022 != 0:
		return errors.New("others may write to it: chmod go-w")
	}
	return Regular(info)
}
