//go:build unix

package endpoint_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
)

// A link to a file that does not exist yet leads to where the system would create the file: ".." in it is the parent of the
// directory that the link is in, not of the name by which that directory was reached. A copy to such a link used to write a
// file elsewhere.
func TestResolveOfALinkInALinkedDirectory(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	err = errors.Join(err, os.MkdirAll(filepath.Join(dir, "real", "sub"), 0o700),
		os.Symlink(filepath.Join("real", "sub"), filepath.Join(dir, "linked")),
		os.Symlink(filepath.Join("..", "new"), filepath.Join(dir, "real", "sub", "to")),
		os.Symlink("to", filepath.Join(dir, "real", "sub", "first")))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"to", "first"} {
		path := filepath.Join(dir, "linked", name)
		if got, want := endpoint.Resolve(path), filepath.Join(dir, "real", "new"); got != want {
			t.Errorf("%s leads to %s, want %s", path, got, want)
		}
	}
}
