package transfer_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// TestManyInOneDirectory writes files into one directory by many independent Dirs and Trees at once, as processes do:
// none takes the staging directory of another for a leftover.
func TestManyInOneDirectory(t *testing.T) {
	dir := t.TempDir()
	const writers, files = 16, 40
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for n := range files {
				name := fmt.Sprintf("%d-%d", w, n)
				if err := put(t, dir, name, w%2 == 0); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	group.Wait()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != writers*files {
		t.Errorf("%d entries, %v; want %d files", len(entries), err, writers*files)
	}
}

// put writes a file whose content is its name.
func put(t *testing.T, dir, name string, inTree bool) error {
	t.Helper()
	create := func(o transfer.Options) (*transfer.File, error) { return transfer.Create(filepath.Join(dir, name), o) }
	done := func() error { return nil }
	if inTree {
		tree, err := transfer.OpenTree(dir, false)
		if err != nil {
			return err
		}
		create = func(o transfer.Options) (*transfer.File, error) { return tree.Create(name, o) }
		done = func() error { return tree.Close(true) }
	}
	f, err := create(transfer.Options{Source: name})
	if err != nil {
		return errors.Join(err, done())
	}
	err = f.Fetch(t.Context(), getter([]byte(name)))
	if err == nil {
		_, err = f.Commit()
	}
	f.Close()
	if err = errors.Join(err, done()); err != nil {
		return err
	}
	got, err := os.ReadFile(filepath.Join(dir, name))
	if err == nil && string(got) != name {
		err = fmt.Errorf("it holds %q", got)
	}
	return err
}
