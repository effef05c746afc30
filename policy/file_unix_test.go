//go:build unix

package policy_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-0f2c7998/perdure/policy"
)

// What is no regular file at the default place, or to which others may write, is refused at
// once: a FIFO without a writer used to block Load.
func TestDefaultPlaceIsPrivate(t *testing.T) {
	for name, row := range map[string]struct {
		put  func(path string) error
		want string
	}{
		"a FIFO":      {func(path string) error { return syscall.Mkfifo(path, 0o600) }, "not a regular file"},
		"a directory": {func(path string) error { return os.Mkdir(path, 0o700) }, "not a regular file"},
		"a device":    {func(path string) error { return os.Symlink(os.DevNull, path) }, "others may write to it"},
		"writable by a group": {func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o620))
		}, "others may write to it: chmod go-w"},
		"linked and writable": {func(path string) error {
			return errors.Join(os.WriteFile(path+"2", nil, 0o600), os.Chmod(path+"2", 0o602), os.Symlink(path+"2", path))
		}, "others may write to it: chmod go-w"},
		"of another user": {func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Chown(path, os.Geteuid()+1, -1))
		}, "owned by another user"},
		"readable": {func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o644)) //nolint:gosec // the case
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("XDG_CONFIG_HOME", dir)
			err := os.Mkdir(filepath.Join(dir, "perdure"), 0o700)
			if err == nil {
				err = row.put(policy.DefaultPath())
			}
			if errors.Is(err, os.ErrPermission) {
				t.Skip(err) // only root can change owners
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err = policy.Load("")
			if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
				t.Errorf("%v, want %q", err, row.want)
			}
		})
	}
}

// A file that is replaced by a FIFO is not read: that would block Watch.
func TestWatchDoesNotWaitForAPipe(t *testing.T) {
	path := write(t, attempts(7))
	watched(t, path, func(_ *policy.Set, looks func(int) string) {
		if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)); err != nil {
			t.Fatal(err)
		}
		if got := looks(9); strings.Count(got, "\n") != 1 || !strings.Contains(got, "not a regular file") {
			t.Errorf("logged %s, want one warning", got)
		}
	})
}
