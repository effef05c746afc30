//go:build unix

package sums

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What another user may have put in place of a cache is neither believed nor waited for. It is replaced, not written to.
func TestForeignCache(t *testing.T) {
	for what, plant := range map[string]func(good, path string) error{
		"a link":                 os.Symlink,
		"a hard link":            os.Link,
		"a FIFO":                 func(_, path string) error { return syscall.Mkfifo(path, 0o600) },
		"a file open to writers": func(good, path string) error { return errors.Join(os.Rename(good, path), os.Chmod(path, 0o666)) }, //nolint:gosec // that is the test
	} {
		p := newPlace(t)
		p.learn(md5)
		path, good := p.cache(), filepath.Join(t.TempDir(), "good")
		if err := errors.Join(os.Rename(path, good), plant(good, path)); err != nil {
			t.Fatal(err)
		}
		if p.knows(md5) || len(p.warned) != 1 || !strings.HasSuffix(p.warned[0], "is not a file of this user alone, or its directory is not: "+path) {
			t.Errorf("%s: warned: %q", what, p.warned)
		}
		if p.learn(md5); !p.knows(md5) {
			t.Errorf("%s: it is not replaced", what)
		}
	}
	p := newPlace(t)
	p.learn(md5)
	if err := os.Chmod(p.state, 0o777); err != nil { //nolint:gosec // that is the test
		t.Fatal(err)
	}
	if p.knows(md5) || len(p.warned) != 1 {
		t.Errorf("in a directory open to writers: warned: %q", p.warned)
	}
}
