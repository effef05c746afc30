//go:build unix

package promtext_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/promtext"
)

// Only a regular file is written to: a link, a FIFO and a directory are refused at once, and what a link leads to is
// unchanged.
func TestKindsOfFilesThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target.prom")
	if err := promtext.AddTo(t.Context(), target, one); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(target)
	if err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func(path string) error{
		"link":      func(path string) error { return os.Symlink(target, path) },
		"dangling":  func(path string) error { return os.Symlink(filepath.Join(dir, "none"), path) },
		"FIFO":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"link as lock": func(path string) error {
			return os.Symlink(target, filepath.Join(dir, "."+filepath.Base(path)+".lock"))
		},
		"FIFO as lock": func(path string) error {
			return syscall.Mkfifo(filepath.Join(dir, "."+filepath.Base(path)+".lock"), 0o600)
		},
	} {
		path := filepath.Join(dir, name+".prom")
		if err := put(path); err != nil {
			t.Fatal(err)
		}
		if err := promtext.AddTo(t.Context(), path, one); err == nil || !strings.Contains(err.Error(), "is not a regular file of this user") {
			t.Errorf("%s: error %v", name, err)
		}
		if now, err := os.ReadFile(target); err != nil || string(now) != string(before) {
			t.Errorf("%s: what it leads to was changed", name)
		}
	}
	if info, err := os.Stat(target); err != nil || info.Mode() != 0o644 {
		t.Errorf("mode %v, error %v, want 0644", info.Mode(), err)
	}
}
