// Package private opens files and directories in places that other users may write to: without blocking on a FIFO,
// through no link, and only what was checked before.
package private

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

// The errors of a file that another user may have put in place.
var (
	ErrForeign  = errors.New("is not a regular file of this user")
	ErrReplaced = errors.New("was replaced while it was opened")
)

// File returns [ErrForeign] unless info is that of a regular file of this user.
func File(info fs.FileInfo) error {
	if !info.Mode().IsRegular() || !Denies(info, 0) {
		return ErrForeign
	}
	return nil
}

// Alone is File for a file with one name: another could be that of one of the user's own files.
func Alone(info fs.FileInfo) error {
	if File(info) != nil || !Single(info) {
		return ErrForeign
	}
	return nil
}

// maxReplaced limits how often Open looks again at a file that other processes replace.
const maxReplaced = 100

// Open opens the file of that name if check accepts it, and returns check's error otherwise. It checks before it
// opens, because opening a device may have effects. If the file was replaced meanwhile, as processes do that write
// a draft and rename it, Open checks and opens the new one; if that happens again and again, the error wraps
// [ErrReplaced]. With [os.O_CREATE] in flags, it makes a missing file as [Make] does, or opens the one that another
// process has just made.
func Open(root *os.Root, name string, flags int, check func(fs.FileInfo) error) (f *os.File, err error) {
	for range maxReplaced {
		f, err = open(root, name, flags&^os.O_CREATE, check)
		if flags&os.O_CREATE != 0 && errors.Is(err, fs.ErrNotExist) {
			f, err = Make(root, name)
		}
		if !errors.Is(err, ErrReplaced) && !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return f, err
}

func open(root *os.Root, name string, flags int, check func(fs.FileInfo) error) (*os.File, error) {
	before, err := root.Lstat(name)
	if err == nil {
		err = check(before)
	}
	if err != nil {
		return nil, err
	}
	f, err := root.OpenFile(name, flags|AtOnce, 0)
	if err != nil {
		return nil, err
	}
	if now, err := f.Stat(); err != nil || !os.SameFile(before, now) {
		return nil, errors.Join(err, ErrReplaced, f.Close())
	}
	return f, nil
}

// AsDir returns a path by which to open the directory at path: to open what has become a FIFO fails, and does not block.
func AsDir(path string) string {
	if runtime.GOOS == "windows" { // directories there have no FIFOs, and paths like \\?\C:\d are taken literally
		return path
	}
	return path + "/."
}

// OpenRoot is [os.OpenRoot] for a path that may lead to something else than a directory: os.OpenRoot blocks on a FIFO.
func OpenRoot(path string) (*os.Root, error) {
	root, err := os.OpenRoot(AsDir(path))
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		e.Path = path
	}
	return root, err
}

// OpenDir is Open for a directory. It also returns the FileInfo that was checked.
func OpenDir(root *os.Root, name string, check func(fs.FileInfo) error) (*os.Root, fs.FileInfo, error) {
	before, err := root.Lstat(name)
	if err == nil {
		err = check(before)
	}
	if err != nil {
		return nil, nil, err
	}
	dir, err := root.OpenRoot(AsDir(name)) // it may have become a FIFO
	if err != nil {
		return nil, nil, err
	}
	if now, err := dir.Lstat("."); err != nil || !os.SameFile(before, now) {
		return nil, nil, errors.Join(err, ErrReplaced, dir.Close())
	}
	return dir, before, nil
}

// Make creates a file for this user alone and opens it for reading and writing. An existing file is an error.
func Make(root *os.Root, name string) (*os.File, error) {
	return root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|AtOnce, 0o600)
}

// Replace makes the file draft with that content and these permissions, and renames it to name. With sync set, it is on
// the disk before that.
func Replace(root *os.Root, draft, name string, text []byte, perm fs.FileMode, sync bool) error {
	f, err := Make(root, draft)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(perm))
	if err == nil && sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = root.Rename(draft, name)
	}
	if err != nil {
		err = errors.Join(err, root.Remove(draft))
	}
	return err
}

// OpenPath opens the regular file at path, which must belong to this user and have no other name, for reading and
// writing. With [os.O_CREATE] in flags, it makes a missing one.
func OpenPath(path string, flags int) (*os.File, error) {
	root, err := OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	f, err := Open(root, filepath.Base(path), flags|os.O_RDWR, Alone)
	if errors.Is(err, ErrForeign) || errors.Is(err, ErrReplaced) {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrForeign}
	}
	return f, err
}

// Prune removes the regular files in dir that were last written before an instant and whose names have one of these suffixes.
// The next call tries again to remove what cannot be removed.
func Prune(dir string, before time.Time, suffixes ...string) {
	entries, _ := os.ReadDir(dir) // an error means no files
	for _, e := range entries {
		if !slices.Contains(suffixes, filepath.Ext(e.Name())) {
			continue
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && info.ModTime().Before(before) {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}
