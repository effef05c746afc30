//go:build unix && !aix && !solaris && !illumos

package hoststore_test

import (
	"bytes"
	"errors"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/hoststore"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
)

// stranger is the ID of a user that is neither root nor known to this host.
const stranger = 54321

// A trap is something that another user may have put in place of the file or its
// directory.
type trap struct {
	set func(path string) error
	why string
}

// traps holds what can replace both.
func traps() map[string]trap {
	return map[string]trap{
		"a FIFO": {func(path string) error { return syscall.Mkfifo(path, 0o600) }, "a named pipe"},
		"a socket": {func(path string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
			if err == nil {
				l.SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		}, "a socket"},
		"a character device": {func(path string) error { return syscall.Mknod(path, syscall.S_IFCHR|0o600, 1<<8|3) }, "a device"},
		"a block device":     {func(path string) error { return syscall.Mknod(path, syscall.S_IFBLK|0o600, 7<<8) }, "a device"},
	}
}

// fileTraps holds what can replace the file.
func fileTraps(t *testing.T) map[string]trap {
	t.Helper()
	store := hoststore.Open(t.TempDir())
	store.Close()
	write := func(path string, mode os.FileMode, uid int) error {
		content, err := os.ReadFile(store.Path())
		if err == nil {
			err = os.WriteFile(path, content, 0o600)
		}
		if err == nil {
			err = os.Chmod(path, mode)
		}
		if err == nil && uid != os.Geteuid() {
			err = os.Chown(path, uid, -1)
		}
		return err
	}
	me := os.Geteuid()
	all := traps()
	maps.Copy(all, map[string]trap{
		"a link to another state file": {func(path string) error { return os.Symlink(store.Path(), path) }, "a symbolic link"},
		"a link to nothing":            {func(path string) error { return os.Symlink(path+"-not-there", path) }, "a symbolic link"},
		"a directory":                  {func(path string) error { return os.Mkdir(path, 0o700) }, "a directory"},
		"writable by the group":        {func(path string) error { return write(path, 0o620, me) }, "other users can write to"},
		"writable by all":              {func(path string) error { return write(path, 0o606, me) }, "other users can write to"},
		"another user's":               {func(path string) error { return write(path, 0o600, stranger) }, "belongs to another user (uid 54321"},
		"another user's, readable":     {func(path string) error { return write(path, 0o644, stranger) }, "belongs to another user (uid 54321"},
		"garbage of another user's": {func(path string) error {
			if err := os.WriteFile(path, []byte("garbage"), 0o644); err != nil {
				return err
			}
			return os.Chown(path, stranger, -1)
		}, "belongs to another user"},
	})
	return all
}

// setAt puts a trap at path, or skips the test.
func (tr trap) setAt(t *testing.T, path string) {
	t.Helper()
	if err := tr.set(path); err != nil {
		if os.Geteuid() != 0 {
			t.Skipf("SKIPPED: only root can make it: %v", err)
		}
		t.Fatal(err)
	}
}

// Something in place of the file that is not trusted is refused at once and not changed,
// and no other file is created.
func TestAFileThatIsNotToBeTrustedIsRefused(t *testing.T) {
	for name, trap := range fileTraps(t) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, file)
			trap.setAt(t, path)
			before := tree(t, dir)
			inMemory(t, dir, trap.why)
			if _, err := hoststore.Inspect(dir); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), trap.why) {
				t.Errorf("a snapshot: %v, want an error with %q", err, trap.why)
			}
			if after := tree(t, dir); !slices.Equal(before, after) {
				t.Errorf("the directory has changed from %q to %q", before, after)
			}
		})
	}
}

// The same for something in place of the directory.
func TestADirectoryThatIsNotToBeTrustedIsRefused(t *testing.T) {
	mkdir := func(mode os.FileMode, uid int) func(string) error {
		return func(path string) error {
			if err := os.Mkdir(path, 0o700); err != nil {
				return err
			}
			if err := os.Chmod(path, mode); err != nil || uid == os.Geteuid() {
				return err
			}
			return os.Chown(path, uid, -1)
		}
	}
	me := os.Geteuid()
	all := traps()
	for name, tr := range all {
		all[name] = trap{tr.set, "not a directory"}
	}
	elsewhere := t.TempDir()
	maps.Copy(all, map[string]trap{
		"writable by the group":  {mkdir(0o770, me), "other users can write to the directory"},
		"writable by all":        {mkdir(0o707, me), "other users can write to the directory"},
		"another user's":         {mkdir(0o755, stranger), "belongs to another user (uid 54321"},
		"another user's, sticky": {mkdir(0o777|os.ModeSticky, stranger), "belongs to another user"},
		"a link of another user's": {func(path string) error {
			if err := os.Symlink(elsewhere, path); err != nil {
				return err
			}
			return os.Lchown(path, stranger, -1)
		}, "belongs to another user"},
	})
	for name, trap := range all {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			trap.setAt(t, dir)
			inMemory(t, dir, trap.why)
			if _, err := hoststore.Inspect(dir); err == nil {
				t.Error("a snapshot of it is no error")
			}
			if left, err := os.ReadDir(elsewhere); err != nil || len(left) > 0 {
				t.Errorf("made elsewhere: %v, %v", left, err)
			}
			if left, err := os.ReadDir(dir); err == nil && len(left) > 0 {
				t.Errorf("made in it: %v", left)
			}
		})
	}
}

// Directories and files that no other user can replace are as good as those that the
// store creates.
func TestTrustedDirectories(t *testing.T) {
	for name, made := range map[string]func(dir string) error{
		"0755": func(dir string) error { return os.Mkdir(dir, 0o755) },
		"sticky": func(dir string) error {
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			return os.Chmod(dir, 0o777|os.ModeSticky)
		},
		"a link of this user's": func(dir string) error {
			if err := os.Mkdir(dir+"-itself", 0o700); err != nil {
				return err
			}
			return os.Symlink(dir+"-itself", dir)
		},
		"with a file that has a second link, as of a killed process": func(dir string) error {
			store := hoststore.Open(dir)
			store.Close()
			return os.Link(store.Path(), filepath.Join(dir, ".cells-left"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			if err := made(dir); err != nil {
				t.Fatal(err)
			}
			store := hoststore.Open(dir)
			defer store.Close()
			if store.Err() != nil {
				t.Errorf("not shared: %v", store.Err())
			}
			works(t, store)
		})
	}
}

// A state file that is replaced while processes use it does not stop them.
func TestAFileReplacedByATrap(t *testing.T) {
	all := traps()
	all["a link to itself"] = trap{func(path string) error {
		itself := strings.TrimSuffix(path, ".new")
		return errors.Join(os.Link(itself, itself+".moved"), os.Symlink(itself+".moved", path))
	}, "a symbolic link"}
	for name, trap := range all {
		t.Run(name, func(t *testing.T) {
			log := logged(t)
			store := hoststore.Open(t.TempDir())
			defer store.Close()
			works(t, store)
			trap.setAt(t, store.Path()+".new")
			if err := os.Rename(store.Path()+".new", store.Path()); err != nil { // at once, or the store could make its file again
				t.Fatal(err)
			}
			servertest.Until(t, "it is noticed", func() bool { return store.Err() != nil })
			works(t, store)
			if lines := log.lines(); len(lines) != 1 || !strings.Contains(lines[0], trap.why) {
				t.Errorf("logged %q, want one line that says so", lines)
			}
		})
	}
}

// Creating a file removes the temporary files of killed processes. Those that another
// process may be writing, and files of other users, stay.
func TestLeftoversAreRemoved(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().Add(-time.Hour)
	for name, modified := range map[string]time.Time{".cells-OLD": old, ".cells-NEW": time.Now(), "cells-OLD": old, ".other": old} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, modified, modified); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, ".cells-dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(dir, ".cells-dir"), old, old); err != nil {
		t.Fatal(err)
	}
	hoststore.Open(dir).Close()
	var names []string
	for _, line := range tree(t, dir) {
		names = append(names, strings.Fields(line)[0])
	}
	if want := []string{".cells-NEW", ".cells-dir", ".other", "cells-OLD", file}; !slices.Equal(names, want) {
		t.Errorf("the directory has %q, want %q", names, want)
	}
}

// tree lists the files in dir: name, mode, size, owner, and the content of regular files.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		line := e.Name() + " " + info.Mode().String() + " " + info.ModTime().String()
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			line += " " + strconv.Itoa(int(s.Uid))
		}
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			line += " " + string(bytes.TrimRight(content, "\x00"))
		}
		list = append(list, line)
	}
	return list
}
