//go:build unix && !solaris && !aix

package private_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/private"
)

// traps are what another user may put in place of x, with the error of opening it.
var traps = map[string]struct {
	put  func(path string) error
	want error
}{
	"another file":   {func(path string) error { return os.WriteFile(path, []byte("other"), 0o600) }, private.ErrReplaced},
	"a FIFO":         {func(path string) error { return syscall.Mkfifo(path, 0o600) }, private.ErrForeign},
	"a directory":    {func(path string) error { return os.Mkdir(path, 0o700) }, private.ErrForeign},
	"a link":         {func(path string) error { return os.Symlink("victim", path) }, private.ErrForeign},
	"a link to none": {func(path string) error { return os.Symlink("none", path) }, fs.ErrNotExist},
}

// place returns a directory with the files x and victim, opened.
func place(t *testing.T) *os.Root {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"x", "victim"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root
}

// atOnce calls f, and ends the test if f blocks, as an open of a FIFO does.
func atOnce(t *testing.T, f func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		f()
	}()
	select {
	case <-returned:
	case <-ctx.Done():
		t.Fatal("it waits")
	}
}

// A file that replaces another between check and open is not used, and opening it does not block.
func TestReplacedWhileItIsOpened(t *testing.T) {
	for name, trap := range traps {
		t.Run(name, func(t *testing.T) {
			root := place(t)
			path := filepath.Join(root.Name(), "x")
			var err error
			atOnce(t, func() {
				var f *os.File
				f, err = private.Open(root, "x", os.O_RDONLY, func(info fs.FileInfo) error {
					return errors.Join(private.File(info), os.Rename(path, path+".old"), trap.put(path))
				})
				if f != nil {
					_ = f.Close()
				}
			})
			if !errors.Is(err, trap.want) {
				t.Errorf("%v; want %v", err, trap.want)
			}
		})
	}
}

// A file that other processes replace all the time can be opened, also by who wants it to have no other name.
func TestReplacedAllTheTime(t *testing.T) {
	root := place(t)
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for i := range 2 {
		draft := "draft" + strconv.Itoa(i)
		writers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if f, err := private.Make(root, draft); err != nil || errors.Join(f.Close(), root.Rename(draft, "x")) != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 5000 {
		f, err := private.Open(root, "x", os.O_RDONLY, private.Alone)
		if err != nil {
			t.Error(err)
			break
		}
		_ = f.Close()
	}
	close(stop)
	writers.Wait()
}

// Make leaves an existing file or link unchanged.
func TestMakeMakes(t *testing.T) {
	for name, trap := range traps {
		root := place(t)
		path := filepath.Join(root.Name(), "x")
		if err := errors.Join(os.Remove(path), trap.put(path)); err != nil {
			t.Fatal(err)
		}
		if f, err := private.Make(root, "x"); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v, %v; want %v", name, f, err, fs.ErrExist)
		}
		if _, err := os.Lstat(filepath.Join(root.Name(), "none")); err == nil {
			t.Errorf("%s: a file was made elsewhere", name)
		}
	}
	root := place(t)
	f, err := private.Make(root, "new")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil || info.Mode() != 0o600 || !private.Denies(info, 0o077) || !private.Single(info) {
		t.Errorf("%v, %v; want a file for this user alone", info.Mode(), err)
	}
}

// A directory that is replaced between check and open is not entered, and opening it does not block.
func TestReplacedDirectory(t *testing.T) {
	for name, trap := range map[string]struct {
		put  func(path string) error
		want error
	}{
		"another directory": {func(path string) error { return os.Mkdir(path, 0o700) }, private.ErrReplaced},
		"a link":            {func(path string) error { return os.Symlink("inside", path) }, private.ErrReplaced},
		"a FIFO":            {func(path string) error { return syscall.Mkfifo(path, 0o600) }, syscall.ENOTDIR},
	} {
		root := place(t)
		path := filepath.Join(root.Name(), "d")
		if err := errors.Join(os.Mkdir(path, 0o700), os.Mkdir(filepath.Join(root.Name(), "inside"), 0o700)); err != nil {
			t.Fatal(err)
		}
		atOnce(t, func() {
			d, _, err := private.OpenDir(root, "d", func(fs.FileInfo) error { return errors.Join(os.Rename(path, path+".old"), trap.put(path)) })
			if !errors.Is(err, trap.want) || d != nil {
				t.Errorf("%s: %v; want %v", name, err, trap.want)
			}
		})
	}
}

// What is no directory is refused at once, by its name.
func TestOpenRootOfAFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	atOnce(t, func() {
		_, err := private.OpenRoot(path)
		if e, ok := errors.AsType[*fs.PathError](err); !ok || e.Path != path || !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("%v; want %s and %v", err, path, syscall.ENOTDIR)
		}
	})
}

// Processes that create the same file at the same time all get it.
func TestManyCreateAFile(t *testing.T) {
	dir := t.TempDir()
	for n := range 200 {
		path := filepath.Join(dir, strconv.Itoa(n))
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				f, err := private.OpenPath(path, os.O_CREATE)
				if err != nil {
					t.Error(err)
					return
				}
				_ = f.Close()
			})
		}
		all.Wait()
	}
}
