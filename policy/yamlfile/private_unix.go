//go:build unix

package yamlfile

import (
	"errors"
	"os"
	"syscall"
)

// private returns an error if others than the user and root may write to f.
func private(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return errors.New("not a regular file")
	case !ok || owner.Uid != 0 && int(owner.Uid) != os.Geteuid():
		return errors.New("owned by another user")
	case info.Mode().Perm()&0o022 != 0:
		return errors.New("others may write to it: chmod go-w")
	}
	return nil
}
