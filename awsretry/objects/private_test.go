//go:build unix

package objects_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// A foreign file in place of a state file is an error at once: it is not waited for, followed, or written to.
func TestStateThatIsNoFileOfOurs(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{PartSize: 5 * mib})
	body := content(1, 11*mib)
	for name, put := range map[string]func(path, victim string) error{
		"a FIFO":                func(path, _ string) error { return syscall.Mkfifo(path, 0o600) },
		"a link":                func(path, victim string) error { return os.Symlink(victim, path) },
		"a link to a new place": func(path, victim string) error { return os.Symlink(victim+".new", path) },
		"a device":              func(path, _ string) error { return os.Symlink("/dev/zero", path) },
		"a directory":           func(path, _ string) error { return os.Mkdir(path, 0o700) },
		"another user's": func(path, _ string) error {
			text := signed(t, `{"format":"perdure-upload-4","bucket":"bikes","key":"k","upload":"1","part_size":5242880}`)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				return err
			}
			return os.Chown(path, 12345, -1)
		},
	} {
		dir := t.TempDir()
		path, victim := filepath.Join(dir, "state"), filepath.Join(dir, "victim")
		if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := put(path, victim); os.IsPermission(err) {
			continue // to give a file away takes root
		} else if err != nil {
			t.Fatal(err)
		}
		_, sent := store.Put(t.Context(), bucket, "k", bytes.NewReader(body), objects.PutOptions{State: path})
		_, read := objects.ReadState(path)
		for what, err := range map[string]error{"Put": sent, "ReadState": read, "AbortUpload": store.AbortUpload(t.Context(), path)} {
			if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "regular file of this user") {
				t.Errorf("%s with %s: %v, want an error that names the file and says what it must be", what, name, err)
			}
		}
		got, err := os.ReadFile(victim)
		if _, made := os.Lstat(victim + ".new"); err != nil || string(got) != "precious" || made == nil {
			t.Errorf("%s: the file that it leads to is %q, %v", name, got, err)
		}
	}
	if n := server.Count("", ""); n > 0 {
		t.Errorf("%d requests, want none", n)
	}
}
