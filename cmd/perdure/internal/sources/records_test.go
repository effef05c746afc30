package sources

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// recordsOf returns the records of a place, with the state in a directory of the test.
func recordsOf(t *testing.T) (open func() *records, file string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("PERDURE_STATE", filepath.Join(dir, "state"))
	r := openRecords("place")
	return func() *records { return openRecords("place") }, r.path
}

// A line that is torn, as by a kill, or altered is not believed; the others are.
func TestDamagedRecords(t *testing.T) {
	open, file := recordsOf(t)
	r := open()
	for i := range 3 {
		if err := r.add(row{Name: fmt.Sprint("n", i), Bytes: int64(i), Checksum: "md5:x"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil || len(open().known) != 3 {
		t.Fatalf("%v, %v", err, open().known)
	}
	for at := range text {
		altered := append([]byte{}, text...)
		altered[at] ^= 1
		line := strings.Count(string(text[:at]), "\n")
		for what, content := range map[string][]byte{"altered": altered, "torn": text[:at]} {
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
			known := open().known
			for i := range 3 {
				got, ok := known[fmt.Sprint("n", i)]
				if ok && got.Bytes != int64(i) || i < line && !ok || what == "torn" && i >= line && ok {
					t.Errorf("%s at %d: line %d is %+v, %v", what, at, i, got, ok)
				}
			}
		}
	}
}

// Two processes that record in turn lose no line of each other.
func TestTwoProcessesRecord(t *testing.T) {
	open, _ := recordsOf(t)
	a, b := open(), open()
	for i := range 4 {
		if err := errors.Join(a.add(row{Name: fmt.Sprint("a", i)}), b.add(row{Name: fmt.Sprint("b", i)})); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(a.close(), b.close()); err != nil || len(open().known) != 8 {
		t.Errorf("%v, %v", err, open().known)
	}
}

// Records that no run has written for 60 days are removed.
func TestOldRecords(t *testing.T) {
	open, file := recordsOf(t)
	r := open()
	if err := errors.Join(r.add(row{Name: "a"}), r.close(), os.Chtimes(file, time.Time{}, time.Now().Add(-unused-time.Hour))); err != nil {
		t.Fatal(err)
	}
	if known := open().known; len(known) > 0 {
		t.Errorf("%v", known)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Error(err)
	}
}

// A name is safe if joining it to a directory leads below the directory, and back to the same name.
func TestSafe(t *testing.T) {
	parts := []string{"", ".", "..", "a", "...", "a..b", " ", "ä"}
	n := 0
	var try func(name string, depth int)
	try = func(name string, depth int) {
		if depth == 0 {
			joined := filepath.ToSlash(filepath.Join("/root/dir", filepath.FromSlash(name)))
			below, ok := strings.CutPrefix(joined, "/root/dir/")
			if want := ok && below == name; safe(name) != want {
				t.Errorf("%q: %v, want %v", name, !want, want)
			}
			n++
			return
		}
		for _, p := range parts {
			try(name+"/"+p, depth-1)
			if name == "" {
				try(p, depth-1)
			}
		}
	}
	for depth := range 4 {
		try("", depth+1)
	}
	t.Log(n, "names")
}
