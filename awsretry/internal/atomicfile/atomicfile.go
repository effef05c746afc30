// Package atomicfile writes files that are there whole or not at all.
package atomicfile

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Create creates a file in the directory of path, with the mode of what is there,
// to become it.
func Create(path string) (*os.File, error) {
	return open(path, "."+rand.Text()[:8], os.O_EXCL)
}

// Reopen is Create under a name that is always the same: what was written before
// is there.
func Reopen(path string) (*os.File, error) { return open(path, "", 0) }

func open(path, suffix string, flag int) (*os.File, error) {
	mode := fs.FileMode(0o666) // less the umask, as for any new file
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.Mode().IsRegular(): // a device must not become a file
		return nil, &fs.PathError{Op: "write", Path: path, Err: errors.New("is not a regular file")}
	case err == nil:
		mode = info.Mode().Perm()
	}
	name := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+suffix+".part")
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE|flag, mode)
}

// Install gives a file that is complete the name path, when it is on the disk.
func Install(f *os.File, path string) error {
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	if dir, err := os.Open(filepath.Dir(path)); err == nil { // for the name itself; not all systems can
		_ = dir.Sync()
		_ = dir.Close()
	}
	return nil
}

// Discard removes a file that is not to be.
func Discard(f *os.File) {
	_ = f.Close()
	_ = os.Remove(f.Name())
}
