package transfer

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/seed-0f2c7998/perdure/internal/private"
)

// maxIdle is how many directories of a tree stay open while no file is put into them.
const maxIdle = 32

// A Tree is a directory below which many files are put, through no link. It is safe for concurrent use.
type Tree struct {
	path    string
	root    *os.Root
	reading bool // nothing is put into it

	mu   sync.Mutex
	dirs map[string]*Dir // that are open, by the path below the tree; guarded by mu, as all that follows
	idle []string        // of them, the least recently used first
	left map[string]bool // in which something is left of this or an earlier process
}

// OpenTree opens the directory of that path, which may be a link. If it is only for reading, what is left in it stays.
func OpenTree(path string, reading bool) (*Tree, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &Tree{path: path, root: root, reading: reading, dirs: make(map[string]*Dir), left: make(map[string]bool)}, nil
}

// Create is [Dir.Create] for a path below the tree, with slashes. Directories are made as they are needed. The error
// wraps [ErrLink] if a part of the path is a link.
func (t *Tree) Create(rel string, o Options) (*File, error) {
	dir, name := path.Split(rel)
	d, err := t.open(path.Clean(dir), true)
	if err != nil {
		return nil, err
	}
	f, err := d.Create(name, o)
	if err != nil {
		t.release(d)
		return nil, err
	}
	return f, nil
}

// Open opens the regular file of that path for reading, without waiting and through no link.
func (t *Tree) Open(rel string) (*os.File, error) {
	dir, name := path.Split(rel)
	d, err := t.open(path.Clean(dir), false)
	if err != nil {
		return nil, err
	}
	defer t.release(d)
	f, err := private.Open(d.root, name, os.O_RDONLY, regular)
	return f, asPathError(filepath.Join(d.path, name), err)
}

// asPathError returns an error of package private as that of a path.
func asPathError(path string, err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok || err == nil {
		return err
	}
	return &fs.PathError{Op: "open", Path: path, Err: err}
}

// Mkdir makes the directory of that path, and those above it, unless they are there.
func (t *Tree) Mkdir(rel string) error {
	d, err := t.open(path.Clean(rel), true)
	if err == nil {
		t.release(d)
	}
	return err
}

// Folds reports whether the file system of the tree takes a small letter for its capital. Where the tree's own directory
// takes no file, one of those in it tells, which may; without any, the error is that of the directory.
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

// subdirectory returns the name of a directory in that of the tree, with a letter in it if there is one; "" if there is none.
func (t *Tree) subdirectory() (name string) {
	f, err := t.root.Open(".")
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	for {
		entries, err := f.ReadDir(1024)
		for _, e := range entries {
			if e.IsDir() {
				name = e.Name()
			}
			if e.IsDir() && strings.ToLower(name) != strings.ToUpper(name) {
				return name
			}
		}
		if err != nil || len(entries) == 0 {
			return name
		}
	}
}

// checkMoved reports, as nil, that a directory is still the one of its path: that no part of that has become a link.
func (t *Tree) checkMoved(d *Dir) error {
	if d.rel == "." {
		return nil
	}
	now, err := t.walk(d.rel, false)
	if err != nil {
		return err
	}
	defer func() { _ = now.Close() }()
	a, errA := d.root.Stat(".")
	b, errB := now.Stat(".")
	if err := errors.Join(errA, errB); err != nil {
		return err
	}
	if !os.SameFile(a, b) {
		return &fs.PathError{Op: "write", Path: d.path, Err: errReplaced}
	}
	return nil
}

// Close closes the tree. What can be resumed stays, unless the copy is complete.
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
		return // it is gone
	}
	d := &Dir{root: root, tree: t}
	d.sweep()
	if d.staging != nil {
		d.staging.remove(root)
	}
	_ = root.Close()
}

// open returns a directory of the tree, for a caller that releases it.
func (t *Tree) open(rel string, create bool) (*Dir, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.dirs[rel]
	if d == nil {
		root, err := t.walk(rel, create)
		if err != nil {
			return nil, err
		}
		d = &Dir{root: root, path: filepath.Join(t.path, filepath.FromSlash(rel)), tree: t, rel: rel}
		if !t.reading {
			d.sweep()
		}
		t.dirs[rel] = d
	} else if d.users == 0 {
		t.idle = slices.DeleteFunc(t.idle, func(name string) bool { return name == rel })
	}
	d.users++
	return d, nil
}

// release gives a directory back.
func (t *Tree) release(d *Dir) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d.users--; d.users > 0 {
		return
	}
	t.idle = append(t.idle, d.rel)
	if len(t.idle) > maxIdle {
		t.drop(t.idle[0])
		t.idle = t.idle[1:]
	}
}

// drop closes a directory.
func (t *Tree) drop(rel string) {
	d := t.dirs[rel]
	delete(t.dirs, rel)
	if d.staging != nil && !isEmpty(d.staging.root) {
		t.left[rel] = true
	}
	_ = d.Close()
}

// walk opens a directory below the tree, part by part: no part is a link, nor becomes one meanwhile.
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

// regular returns why something is no regular file.
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

// directory returns why something is no directory.
func directory(info fs.FileInfo) error {
	switch err := regular(info); {
	case info.IsDir():
		return nil
	case err == nil:
		return errors.New("is a file, and not a directory")
	default:
		return err
	}
}
