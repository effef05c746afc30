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

// A file that replaces another between check and open is not used, and opening it does not block.
func TestReplacedWhileItIsOpened(t *testing.T) {
	for name, trap := range traps {
		t.Run(name, func(t *testing.T) {
			root := place(t)
			path := filepath.Join(root.Name(), "x")
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var err error
			opened := make(chan struct{})
			go func() {
				defer close(opened)
				var f *os.File
				f, err = private.Open(root, "x", os.O_RDONLY, func(info fs.FileInfo) error {
					return errors.Join(private.File(info), os.Rename(path, path+".old"), trap.put(path))
				})
				if f != nil {
					_ = f.Close()
				}
			}()
			select {
			case <-opened:
			case <-ctx.Done():
				t.Fatal("it waits")
			}
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
	single := func(info fs.FileInfo) error {
		if !private.Single(info) {
			return private.ErrForeign
		}
		return private.File(info)
	}
	for range 5000 {
		f, err := private.Open(root, "x", os.O_RDONLY, single)
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

// A directory that is replaced by a link, or by another directory, between check and open is not entered.
func TestReplacedDirectory(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"another directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"a link":            func(path string) error { return os.Symlink("inside", path) },
	} {
		root := place(t)
		path := filepath.Join(root.Name(), "d")
		if err := errors.Join(os.Mkdir(path, 0o700), os.Mkdir(filepath.Join(root.Name(), "inside"), 0o700)); err != nil {
			t.Fatal(err)
		}
		d, _, err := private.OpenDir(root, "d", func(fs.FileInfo) error { return errors.Join(os.Rename(path, path+".old"), put(path)) })
		if !errors.Is(err, private.ErrReplaced) || d != nil {
			t.Errorf("%s: %v; want %v", name, err, private.ErrReplaced)
		}
	}
}

// Processes that create the same file at the same time all get it.
func TestManyCreateAFile(t *testing.T) {
	dir := t.TempDir()
	for n := range 200 {
		path := filepath.Join(dir, strconv.Itoa(n))
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				f, err := private.OpenPath(path, true)
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
