package transfer

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/private"
)

// maxOpen is how many directories of a tree may be open before the unused ones are closed.
const maxOpen = 32

// A Tree is a directory below which many files are written, never through a link. It is safe for concurrent use.
type Tree struct {
	path    string
	root    *os.Root
	reading bool // no file is written

	mu   sync.Mutex
	dirs map[string]*dir // open directories, by path below the tree; guarded by mu, as all that follows
	left map[string]bool // directories with bytes left by this or an earlier process
}

// OpenTree opens the directory at path, which may be a link. With reading set, what earlier processes have left in it
// stays.
func OpenTree(path string, reading bool) (*Tree, error) {
	root, err := private.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &Tree{path: path, root: root, reading: reading, dirs: make(map[string]*dir), left: make(map[string]bool)}, nil
}

// Create is [Create] for a slash-separated path below the tree. It makes missing directories. The error wraps
// [ErrLink] if a part of the path is a link.
func (t *Tree) Create(rel string, o Options) (*File, error) {
	above, name := path.Split(rel)
	d, err := t.open(path.Clean(above), true)
	if err != nil {
		return nil, err
	}
	return d.create(name, o)
}

// in calls f with the directory of the file at that path, which must exist, and the file's name in it.
func (t *Tree) in(rel string, f func(d *dir, name string) error) error {
	above, name := path.Split(rel)
	d, err := t.open(path.Clean(above), false)
	if err != nil {
		return err
	}
	defer t.release(d)
	return f(d, name)
}

// Current reports whether the directory at the path of the tree is still the one that was opened.
func (t *Tree) Current() (bool, error) {
	opened, err := t.root.Stat(".")
	if err != nil {
		return false, err
	}
	now, err := os.Stat(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(opened, now), err
}

// Open opens the regular file at that path for reading, without blocking and through no link.
func (t *Tree) Open(rel string) (f *os.File, err error) {
	err = t.in(rel, func(d *dir, name string) error {
		f, err = private.Open(d.root, name, os.O_RDONLY, regular)
		return asPathError(filepath.Join(d.path, name), err)
	})
	return f, err
}

// asPathError returns an error of package private as an fs.PathError.
func asPathError(path string, err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok || err == nil {
		return err
	}
	return &fs.PathError{Op: "open", Path: path, Err: err}
}

// Mkdir makes the directory at that path, and those above it, unless they exist.
func (t *Tree) Mkdir(rel string) error {
	d, err := t.open(path.Clean(rel), true)
	if err == nil {
		t.release(d)
	}
	return err
}

// SetTime sets the modification time of the file at that path. It does not follow a link out of the tree.
func (t *Tree) SetTime(rel string, modified time.Time) error {
	return t.in(rel, func(d *dir, name string) error { return d.root.Chtimes(name, time.Time{}, modified) })
}

// Remove removes the file or the link at that path, and then the directories above it that have become empty. A missing file is
// no error.
func (t *Tree) Remove(rel string) error {
	remove := func(d *dir, name string) error { return d.root.Remove(name) }
	err := t.in(rel, remove)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for above := path.Dir(rel); err == nil && above != "." && t.in(above, remove) == nil; {
		above = path.Dir(above)
	}
	return err
}

// Folds reports whether the tree's file system is case-insensitive. It looks at a new staging directory, or, if the
// tree's directory is not writable, at a subdirectory; without one, it returns the error of the directory.
func (t *Tree) Folds() (bool, error) {
	d, err := t.open(".", false)
	if err != nil {
		return false, err
	}
	defer t.release(d)
	name := ""
	if s, staged := d.stage(""); staged == nil {
		name = s.name
	} else if name = t.subdirectory(); name == "" {
		return false, staged
	}
	other := strings.ToLower(name)
	if other == name {
		other = strings.ToUpper(name)
	}
	a, errA := t.root.Lstat(name)
	b, errB := t.root.Lstat(other)
	return other != name && errA == nil && errB == nil && os.SameFile(a, b), nil
}

// subdirectory returns the name of a subdirectory, one with a letter if possible; "" without one.
func (t *Tree) subdirectory() (name string) {
	for at := range entries(t.root) {
		if info, err := t.root.Lstat(at); err != nil || !info.IsDir() {
			continue
		}
		if name = at; strings.ToLower(name) != strings.ToUpper(name) {
			break
		}
	}
	return name
}

// checkMoved returns an error unless d is still the directory at its path: no part of the path has become a link.
func (d *dir) checkMoved() error {
	if d.tree == nil || d.rel == "." {
		return nil
	}
	now, err := d.tree.walk(d.rel, false)
	if err != nil {
		return err
	}
	defer func() { _ = now.Close() }()
	opened, err := d.root.Stat(".")
	if err == nil {
		err = checkSame(now, ".", opened)
	}
	return err
}

// Close closes the tree. Resumable bytes stay unless complete is set.
func (t *Tree) Close(complete bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for rel := range t.dirs {
		t.drop(rel)
	}
	if complete {
		for rel := range t.left {
			t.clear(rel)
		}
	}
	return t.root.Close()
}

// clear removes what is left in a directory.
func (t *Tree) clear(rel string) {
	root, err := t.walk(rel, false)
	if err != nil {
		return // the directory no longer exists
	}
	d := &dir{root: root, tree: t}
	d.sweep()
	if d.staging != nil {
		d.staging.remove(root)
	}
	_ = root.Close()
}

// open returns a directory of the tree. The caller must release it.
func (t *Tree) open(rel string, create bool) (*dir, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.dirs[rel]
	if d == nil {
		root, err := t.walk(rel, create)
		if err != nil {
			return nil, err
		}
		d = &dir{root: root, path: filepath.Join(t.path, filepath.FromSlash(rel)), tree: t, rel: rel}
		if !t.reading {
			d.sweep()
		}
		t.dirs[rel] = d
	}
	d.users++
	return d, nil
}

// release ends a use of a directory.
func (t *Tree) release(d *dir) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d.users--; len(t.dirs) <= maxOpen {
		return
	}
	for rel, other := range t.dirs {
		if other.users == 0 && other != d { // which the next file is likely to be in
			t.drop(rel)
		}
	}
}

// drop closes a directory.
func (t *Tree) drop(rel string) {
	d := t.dirs[rel]
	delete(t.dirs, rel)
	if d.staging != nil && !isEmpty(d.staging.root) {
		t.left[rel] = true
	}
	d.close()
}

// walk opens a directory below the tree, part by part: no part is a link, or becomes one meanwhile.
func (t *Tree) walk(rel string, create bool) (*os.Root, error) {
	at, err := t.root.OpenRoot(".")
	if rel == "." || err != nil {
		return at, err
	}
	done := t.path
	for part := range strings.SplitSeq(rel, "/") {
		done = filepath.Join(done, part)
		next, err := step(at, part, done, create)
		_ = at.Close()
		if err != nil {
			return nil, err
		}
		at = next
	}
	return at, nil
}

// step opens the directory of that name in another.
func step(at *os.Root, name, full string, create bool) (*os.Root, error) {
	if _, err := at.Lstat(name); errors.Is(err, fs.ErrNotExist) && create {
		if err = at.Mkdir(name, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	next, _, err := private.OpenDir(at, name, directory)
	return next, asPathError(full, err)
}

// regular returns an error unless info is a regular file's.
func regular(info fs.FileInfo) error {
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return nil
	case mode&fs.ModeSymlink != 0:
		return ErrLink
	case mode.IsDir():
		return errors.New("is a directory")
	}
	return errors.New("is neither a file nor a directory")
}

// directory returns an error unless info is a directory's.
func directory(info fs.FileInfo) error {
	switch err := regular(info); {
	case info.IsDir():
		return nil
	case err == nil:
		return errors.New("is a file, not a directory")
	default:
		return err
	}
}
