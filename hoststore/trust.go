package hoststore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/seed-0f2c7998/perdure/internal/private"
)

// openDir opens the directory of a state file, and refuses one in which other
// users can replace files. As with ssh, it must belong to this user or to root,
// and nobody else may write to it, unless it is sticky, as /tmp is.
func openDir(dir string) (*os.Root, error) {
	link, err := os.Lstat(dir)
	if err != nil {
		return nil, err
	}
	if err := ownedBy(dir, link, true); err != nil {
		return nil, err // a symbolic link, too, is followed only if it is this user's or root's
	}
	root, err := os.OpenRoot(dir + "/.") // what is no directory, as a FIFO, fails at once
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

// openFile opens a file that is there, and refuses one that is not a regular
// file which belongs to this user and that nobody else can write. It is looked
// at before, since to open a device can do something, and after, since it may
// have been replaced; it never waits for anybody at the other end of a FIFO.
//
// A second hard link is no reason to refuse: a process that is killed while it
// makes the file leaves one, and to whom the directory belongs made it.
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

// pathIn returns the path of a file in root.
func pathIn(root *os.Root, name string) string { return filepath.Join(root.Name(), name) }

// named returns err, which a method of [os.Root] returned, with the whole path.
func named(path string, err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return &fs.PathError{Op: "open", Path: path, Err: e.Err}
	}
	return err
}

// writableByOthers are the permissions that let other users write.
const writableByOthers = fs.FileMode(0o022)

// trusted returns why the file is not one that only this user can have written.
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

// ownedBy returns an error if the file does not belong to this user, or to root
// where that will do. Where files have no owner there is nothing to check.
func ownedBy(path string, info os.FileInfo, orRoot bool) error {
	owner, known := ownerOf(info)
	me := uint32(os.Geteuid())
	if known && owner != me && (owner != 0 || !orRoot) {
		return fmt.Errorf("%s belongs to another user (uid %d, this process has %d)", path, owner, me)
	}
	return nil
}

// kindOf names what is not a regular file.
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
