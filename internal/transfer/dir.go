package transfer

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/seed-0f2c7998/perdure/internal/private"
)

// ErrInPlace reports a file that cannot be replaced: it is a mount point, or its directory accepts no other name. It
// can only be overwritten, and is neither the old nor the new file meanwhile.
var ErrInPlace = errors.New("the file can't be replaced, only overwritten in place")

// A Dir is a directory for new files. It is safe for concurrent use.
type Dir struct {
	root *os.Root
	path string

	tree  *Tree  // nil for a directory of single files
	rel   string // the path below the tree
	users int    // guarded by the tree's mutex

	mu      sync.Mutex
	staging *staging // of all files in a tree; nil if not made yet
	opened  *os.File // to be flushed; nil if not opened yet
}

// OpenDir opens the directory at path for single files. It follows links in the path.
func OpenDir(path string) (*Dir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &Dir{root: root, path: path}, nil
}

// Close closes the directory, after all its files have been closed. Resumable bytes stay.
func (d *Dir) Close() error {
	if d.staging != nil {
		d.staging.closeOrRemove(d.root)
	}
	if d.opened != nil {
		_ = d.opened.Close()
	}
	return d.root.Close()
}

// sync flushes the names in the directory to disk; not all systems can.
func (d *Dir) sync() {
	d.mu.Lock()
	if d.opened == nil {
		d.opened, _ = d.root.Open(".")
	}
	opened := d.opened
	d.mu.Unlock()
	_ = opened.Sync() // of nil fails
}

// stage returns the staging directory for a file: one that an earlier process has left with that part, or else a new
// one; in a tree, the one for all files.
func (d *Dir) stage(part string) (s *staging, err error) {
	if d.tree == nil {
		if s = d.resume(part); s == nil {
			s, err = d.make()
		}
		return s, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.staging == nil {
		d.staging, err = d.make()
	}
	return d.staging, err
}

func (d *Dir) make() (*staging, error) {
	s, err := newStaging(d.root, d.tree != nil)
	if errors.Is(err, fs.ErrPermission) || readOnly(err) {
		err = errors.Join(ErrInPlace, err)
	}
	return s, err
}

// resume claims the staging directory with that part, if any. Those of other files stay.
func (d *Dir) resume(part string) (taken *staging) {
	d.leftovers(func(s *staging) bool {
		switch _, missing := s.root.Lstat(part); {
		case missing == nil:
			taken = s
		case hasNoPart(s.root):
			s.remove(d.root)
		default:
			s.close()
		}
		return taken == nil
	})
	return taken
}

// sweep claims one of the staging directories that copies of the tree have left, and removes the others.
func (d *Dir) sweep() {
	d.leftovers(func(s *staging) bool {
		if d.staging == nil {
			d.staging = s
		} else {
			s.remove(d.root)
		}
		return true
	})
}

// leftovers calls f with each staging directory that no process uses, until f returns false.
func (d *Dir) leftovers(f func(*staging) bool) {
	if !private.CanLock {
		return
	}
	candidates(d.root, func(name string) bool {
		s, err := openStaging(d.root, name, claimLeftover(d.tree != nil))
		if errors.Is(err, errUnowned) {
			_ = d.root.Remove(name)
		}
		return err != nil || f(s)
	})
}

// target returns the regular file of that name, which must be writable; nil if it does not exist.
func (d *Dir) target(name string) (fs.FileInfo, error) {
	info, err := d.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // as documented
	}
	if err != nil {
		return nil, err
	}
	if err := regular(info); err != nil {
		return nil, &fs.PathError{Op: "write", Path: filepath.Join(d.path, name), Err: err}
	}
	f, err := d.root.OpenFile(name, os.O_WRONLY|private.AtOnce, 0) // is it writable?
	if err != nil {
		return nil, err
	}
	return info, f.Close()
}

// ErrLink reports a symbolic link where it is not followed.
var ErrLink = errors.New("is a symbolic link, which is not followed: remove it, or name its target")

// Path returns the path given to OpenDir.
func (d *Dir) Path() string { return d.path }
