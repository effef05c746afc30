//go:build unix

package hoststore_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/hoststore"
)

// After Close the store leaves the directory alone, even if Close comes at the moment of a check. The check used to make the
// file again in a directory that was being removed.
func TestAClosedStoreMakesNoFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			store := hoststore.Open(dir)
			<-time.After(time.Second) // the store checks at this instant too
			store.Close()
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("a closed store has made its file: %v", err)
			}
		})
	}
}

// A process that took more than a minute to create the file, as one that was suspended, finds its temporary file swept, and
// creates the file again. Its breakers used to be in memory.
func TestATemporaryFileIsSweptTooEarly(t *testing.T) {
	for range 10 {
		dir := filepath.Join(t.TempDir(), "state")
		opened := make(chan *hoststore.Store)
		go func() { opened <- hoststore.Open(dir) }()
		var store *hoststore.Store
		for swept := false; store == nil; {
			select {
			case store = <-opened:
			default:
				if names, _ := filepath.Glob(filepath.Join(dir, ".cells-*")); len(names) > 0 && !swept {
					swept = os.Remove(names[0]) == nil
				}
			}
		}
		store.Close()
		if store.Err() != nil {
			t.Fatalf("not shared: %v", store.Err())
		}
	}
}
