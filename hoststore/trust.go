package hoststore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/seed-0f2c7998/perdure/internal/private"
)

// openDir opens the directory of a state file. It refuses a directory in which other
// users can replace files: as with ssh, the directory must belong to this user or to
// root, and other users must not be able to write to it, unless its sticky bit is set,
// as for /tmp.
func openDir(dir string) (*os.Root, error) {
	link, err := os.Lstat(dir)
	if err != nil {
		return nil, err
	}
	if err := ownedBy(dir, link, true); err != nil {
		return nil, err // a symbolic link, too, must belong to this user or to root
	}
	root, err := private.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	if err == nil {
		err = ownedBy(dir, info, true)
	}
	if err == nil && info.Mode()&writableByOthers != 0 && info.Mode()&fs.ModeSticky == 0 {
		err = fmt.Errorf("other users can write to the directory %s (mode %#o): make it writable by its owner only, or use a directory in it",
			dir, info.Mode().Perm())
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return root, nil
}

// openFile opens an existing file. It refuses anything but a regular file that belongs
// to this user and that no other user can write. It checks before it opens, since
// opening a device may have effects, and after, since the file may have been replaced.
// It never blocks on a FIFO.
//
// A second hard link is allowed: a process that is killed while it creates the file
// leaves one, and only the owner of the directory can have made it.
func openFile(root *os.Root, name string, flag int) (*os.File, os.FileInfo, error) {
	path := pathIn(root, name)
	f, err := private.Open(root, name, flag, func(info fs.FileInfo) error { return trusted(path, info) })
	if errors.Is(err, private.ErrReplaced) {
		return nil, nil, fmt.Errorf("%s %w", path, err)
	}
	if err != nil {
		return nil, nil, named(path, err)
	}
	info, err := f.Stat()
	if err == nil {
		err = trusted(path, info)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// pathIn returns the path of the named file in root.
func pathIn(root *os.Root, name string) string { return filepath.Join(root.Name(), name) }

// named returns err, which is from a method of [os.Root], with the whole path.
func named(path string, err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return &fs.PathError{Op: "open", Path: path, Err: e.Err}
	}
	return err
}

// writableByOthers holds the permissions to write of other users.
const writableByOthers = fs.FileMode(0o022)

// trusted returns an error unless only this user can have written the file.
func trusted(path string, info os.FileInfo) error {
	if kind := kindOf(info.Mode()); kind != "" {
		return fmt.Errorf("%s is %s, not a regular file", path, kind)
	}
	if err := ownedBy(path, info, false); err != nil {
		return err
	}
	if info.Mode()&writableByOthers != 0 {
		return fmt.Errorf("other users can write to %s (mode %#o): delete it", path, info.Mode().Perm())
	}
	return nil
}

// ownedBy returns an error unless the file belongs to this user, or, if orRoot, to root.
// It returns nil where files have no owner.
func ownedBy(path string, info os.FileInfo, orRoot bool) error {
	owner, known := ownerOf(info)
	me := uint32(os.Geteuid())
	if known && owner != me && (owner != 0 || !orRoot) {
		return fmt.Errorf("%s belongs to another user (uid %d, this process has %d)", path, owner, me)
	}
	return nil
}

// kindOf names the kind of a file that is not regular, "" for a regular file.
func kindOf(mode fs.FileMode) string {
	switch {
	case mode.IsRegular():
		return ""
	case mode.IsDir():
		return "a directory"
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe (FIFO)"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeDevice != 0:
		return "a device"
	default:
		return "a special file"
	}
}
