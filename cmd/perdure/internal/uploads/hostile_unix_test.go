//go:build unix

package uploads

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What is no file of ours in the places of ours is neither waited for nor written to, and stays.
func TestForeignFilesAreNotTouched(t *testing.T) {
	for what, plant := range map[string]func(victim, path string) error{
		"a link":      os.Symlink,
		"a hard link": os.Link,
		"a FIFO":      func(_, path string) error { return syscall.Mkfifo(path, 0o600) },
		"a directory": func(_, path string) error { return os.Mkdir(path, 0o700) },
	} {
		for _, suffix := range []string{".json", ".parts"} {
			t.Run(what+" at "+suffix, func(t *testing.T) {
				dir := begun(t)
				names, _ := filepath.Glob(filepath.Join(dir, "*"+suffix))
				path := strings.Join(names, "")
				victim := filepath.Join(t.TempDir(), "victim")
				if err := errors.Join(os.WriteFile(victim, []byte("precious"), 0o600), os.Remove(path), plant(victim, path)); err != nil {
					t.Fatal(err)
				}
				if u, err := Open(dir, address, sending, false); !errors.Is(err, ErrTaken) {
					t.Errorf("it is opened: %v, %v", u, err)
				}
				Each(dir, func(*Upload) { t.Error("it is shown") })
				if got, err := os.ReadFile(victim); err != nil || string(got) != "precious" {
					t.Errorf("the file of another has %q, %v", got, err)
				}
				if _, err := os.Lstat(path); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A directory that others may write to is not used.
func TestDirectoryOfOthers(t *testing.T) {
	dir := begun(t)
	if err := os.Chmod(dir, 0o777); err != nil { //nolint:gosec // that is the test
		t.Fatal(err)
	}
	if u, err := Open(dir, address, sending, false); !errors.Is(err, ErrTaken) {
		t.Errorf("it is opened: %v, %v", u, err)
	}
}

// The formats of the two files, the second is that of package awsretry. A change of one needs a new version.
func TestGoldenOrigin(t *testing.T) {
	dir := begun(t)
	names, _ := filepath.Glob(filepath.Join(dir, "*.json"))
	text, err := os.ReadFile(strings.Join(names, ""))
	if err != nil {
		t.Fatal(err)
	}
	got, _, _ := strings.Cut(string(text), `"begun":`)
	if want := `{"format":"perdure-upload-3","source":"/data/hour.csv","size":9,"modified":"1970-01-01T00:00:01Z",`; strings.ReplaceAll(got, sending.Modified.Format("2006-01-02T15:04:05Z07:00"), "1970-01-01T00:00:01Z") != want {
		t.Errorf("the file is\n%s, want\n%s...: raise the version in format", text, want)
	}
	if name := filepath.Base(names[0]); name != "e78f52b680b2f764d7c8069975a3ab97.json" {
		t.Errorf("its name is %s: raise the version in format", name)
	}
}
