package transfer

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/seed-0f2c7998/perdure/internal/private"
)

// ErrInPlace reports a file that cannot be replaced: it is a mount point, or its directory accepts no other name. It
// can only be overwritten, and is neither the old nor the new file meanwhile.
var ErrInPlace = errors.New("the file can't be replaced, only overwritten in place")

// A dir is a directory for one new file, or for many in a tree. It is safe for concurrent use.
type dir struct {
	root *os.Root
	path string

	tree  *Tree  // nil for one file
	rel   string // the path below the tree
	users int    // guarded by the tree's mutex

	mu      sync.Mutex
	staging *staging // of all files; nil if not made yet
	opened  *os.File // to be flushed; nil if not opened yet
}

// release ends the use of the directory by one file.
func (d *dir) release() {
	if d.tree != nil {
		d.tree.release(d)
	} else {
		d.close()
	}
}

// close closes the directory, after all its files have been closed. Resumable bytes stay.
func (d *dir) close() {
	switch s := d.staging; {
	case s == nil:
	case isEmpty(s.root):
		s.remove(d.root)
	default:
		s.close()
	}
	if d.opened != nil {
		_ = d.opened.Close()
	}
	_ = d.root.Close()
}

// sync flushes the names in the directory to disk; not all systems can.
func (d *dir) sync() {
	d.mu.Lock()
	if d.opened == nil {
		d.opened, _ = d.root.Open(".")
	}
	opened := d.opened
	d.mu.Unlock()
	_ = opened.Sync() // of nil fails
}

// stage returns the staging directory: of one file, one that an earlier process has left with that part, or else a new
// one.
func (d *dir) stage(part string) (_ *staging, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tree == nil {
		d.staging = d.resume(part)
	}
	if d.staging == nil {
		d.staging, err = newStaging(d.root, d.tree != nil)
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		err = errors.Join(ErrInPlace, err)
	}
	return d.staging, err
}

// resume claims the staging directory with that part, if any. Those of other files stay.
func (d *dir) resume(part string) *staging {
	for s := range d.leftovers {
		switch _, missing := s.root.Lstat(part); {
		case missing == nil:
			return s
		case hasNoPart(s.root):
			s.remove(d.root)
		default:
			s.close()
		}
	}
	return nil
}

// sweep claims one of the staging directories that copies of the tree have left, and removes the others.
func (d *dir) sweep() {
	for s := range d.leftovers {
		if d.staging == nil {
			d.staging = s
		} else {
			s.remove(d.root)
		}
	}
}

// leftovers yields each staging directory that no process uses.
func (d *dir) leftovers(yield func(*staging) bool) {
	for name := range entries(d.root) {
		if !private.CanLock || !mayBeStaging(name) {
			continue
		}
		s, err := openStaging(d.root, name, d.tree != nil, claimLeftover)
		if errors.Is(err, errUnowned) {
			_ = d.root.Remove(name)
		}
		if err == nil && !yield(s) {
			return
		}
	}
}

// target returns the regular file of that name, which must be writable; nil if it does not exist.
func (d *dir) target(name string) (fs.FileInfo, error) {
	f, err := private.Open(d.root, name, os.O_WRONLY, regular)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // as documented
	}
	if err != nil {
		return nil, asPathError(filepath.Join(d.path, name), err)
	}
	defer func() { _ = f.Close() }()
	return f.Stat()
}

// ErrLink reports a symbolic link where it is not followed.
var ErrLink = errors.New("is a symbolic link, which is not followed: remove it, or name its target")
