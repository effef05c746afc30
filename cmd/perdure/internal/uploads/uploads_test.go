package uploads

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/record"
)

var (
	address = Address{"http://h", "bikes", "raw/hour.csv"}
	sending = Source{Path: "/data/hour.csv", Size: 9, Modified: time.Unix(1, 0)}
)

// openUpload claims an upload.
func openUpload(t *testing.T, dir string, of Source) *Upload {
	t.Helper()
	u, err := Open(dir, address, of, false)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// begun leaves an upload in a new directory, as a killed process does.
func begun(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "uploads")
	u := openUpload(t, dir, sending)
	state, err := record.Encode(struct {
		Format   string `json:"format"`
		Upload   string `json:"upload"`
		PartSize int    `json:"part_size"`
	}{"perdure-upload-4", "1", 8 << 20})
	if err := errors.Join(err, u.Begin(), os.WriteFile(u.State(), state, 0o600)); err != nil {
		t.Fatal(err)
	}
	u.Close()
	return dir
}

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		names = append(names, f.Name())
	}
	return names
}

func TestUploadIsFoundAgain(t *testing.T) {
	dir := begun(t)
	for _, c := range []struct {
		name    string
		source  Source
		changed bool
	}{
		{"same", sending, false},
		{"longer", Source{sending.Path, 10, sending.Modified}, true},
		{"later", Source{sending.Path, 9, time.Unix(2, 0)}, true},
		{"another", Source{"/data/day.csv", 10, time.Unix(2, 0)}, false}, // one of its own
	} {
		u := openUpload(t, dir, c.source)
		if (u.Outdated() != "") != c.changed {
			t.Errorf("%s: outdated is %q, want %v", c.name, u.Outdated(), c.changed)
		}
		u.Close()
	}
	if got := files(t, dir); len(got) != 2 {
		t.Errorf("%v are there, want the two files of the one that was begun", got)
	}
}

// What can't be read is no record of this source.
func TestUploadWithoutItsRecord(t *testing.T) {
	dir := begun(t)
	names, _ := filepath.Glob(filepath.Join(dir, "*.json"))
	if err := os.Truncate(names[0], 10); err != nil {
		t.Fatal(err)
	}
	u := openUpload(t, dir, sending)
	defer u.Close()
	if u.Outdated() == "" {
		t.Error("it is taken for the same source")
	}
}

// One process at a time has an upload, and an end of it leaves nothing.
func TestUploadIsOneProcesss(t *testing.T) {
	dir := begun(t)
	u := openUpload(t, dir, sending)
	if _, err := Open(dir, address, sending, false); !errors.Is(err, ErrTaken) {
		t.Errorf("a second one: %v, want %v", err, ErrTaken)
	}
	Each(dir, func(*Upload) { t.Error("one that is in use is shown") })
	if err := u.Forget(); err != nil {
		t.Fatal(err)
	}
	u.Close()
	if got := files(t, dir); len(got) > 0 {
		t.Errorf("%v are left", got)
	}
	if _, err := Open(dir, address, sending, true); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("one that has to be there: %v, want %v", err, os.ErrNotExist)
	}
}

// What no run has resumed for a month is forgotten.
func TestPrune(t *testing.T) {
	dir := begun(t)
	shown := 0
	Each(dir, func(u *Upload) {
		shown++
		if since := time.Since(u.Begun()); since < 0 || since > time.Minute {
			t.Errorf("it was begun %v ago", since)
		}
	})
	Prune(dir)
	if got := files(t, dir); shown != 1 || len(got) != 2 {
		t.Errorf("%d are shown, and %v are there; want one with two files", shown, got)
	}
	states, _ := filepath.Glob(filepath.Join(dir, "*.parts"))
	old := time.Now().Add(-forgotten - time.Hour)
	if err := os.Chtimes(states[0], old, old); err != nil {
		t.Fatal(err)
	}
	Prune(dir)
	if got := files(t, dir); len(got) > 0 {
		t.Errorf("%v are left", got)
	}
}

// A copy finds what it has sent although other copies prune at that moment: each of many files that go up does. Where it did
// not, it began a second upload and left the first in the store.
func TestPruneTakesNothingFromOthers(t *testing.T) {
	dir := begun(t)
	stop := make(chan struct{})
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					Prune(dir)
				}
			}
		})
	}
	for n := range 500 {
		u, err := Open(dir, address, sending, false)
		if err != nil {
			t.Fatalf("%d: %v", n, err)
		}
		u.Close()
	}
	close(stop)
	group.Wait()
}
