package partial

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/seed-0f2c7998/perdure/httpretry/download"
)

const source = "what it is of"

// state is that of a file of which the first 5 of 9 bytes are there.
func state() download.State {
	return download.State{ETag: `"1"`, Size: 9, Done: []download.Range{{From: 0, To: 5}}}
}

// kept makes a partial file with that state, and returns the path that it is of.
func kept(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hour.csv")
	f, s, err := Open(path, source, 0o600)
	if err != nil || s.Bytes() != 0 || f.Known() {
		t.Fatalf("a new one: %+v, %v, known %v", s, err, f.Known())
	}
	if _, err := f.WriteString("12345"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Save(state()), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSavedStateIsFoundAgain(t *testing.T) {
	path := kept(t)
	f, s, err := Open(path, source, 0o600)
	if err != nil || !reflect.DeepEqual(s, state()) || !f.Known() {
		t.Errorf("it is %+v, %v, known %v", s, err, f.Known())
	}
	_ = f.Close()
}

// Whatever does not fit leads to a new beginning, and the old bytes are gone.
func TestWhatDoesNotFitIsForgotten(t *testing.T) {
	for name, spoil := range map[string]func(part string) error{
		"another source": nil,
		"cut file":       func(part string) error { return os.Truncate(part, 4) },
		"no sidecar":     func(part string) error { return os.Remove(part + ".json") },
		"cut sidecar":    func(part string) error { return os.Truncate(part+".json", 40) },
		"other format":   func(part string) error { return os.WriteFile(part+".json", []byte(`{"format":"x"}`), 0o600) },
		"impossible state": func(part string) error {
			return os.WriteFile(part+".json", []byte(`{"format":"perdure-download-1","source":"`+source+`","state":{"etag":"\"1\"","size":9,"done":[{"from":4,"to":2}]}}`), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path, of := kept(t), source
			if spoil == nil {
				of = "another"
			} else if err := spoil(filepath.Join(filepath.Dir(path), ".hour.csv.part")); err != nil {
				t.Fatal(err)
			}
			f, s, err := Open(path, of, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			info, _ := f.Stat()
			if s.Bytes() != 0 || f.Known() || info.Size() != 0 {
				t.Errorf("%+v, known %v, %d bytes; want nothing", s, f.Known(), info.Size())
			}
		})
	}
}

func TestOneProcessHasIt(t *testing.T) {
	path := kept(t)
	f, _, err := Open(path, source, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(path, source, 0o600); !errors.Is(err, ErrTaken) {
		t.Errorf("a second one: %v, want %v", err, ErrTaken)
	}
	_ = f.Close()
	f, _, err = Open(path, source, 0o600)
	if err != nil {
		t.Errorf("after the first: %v", err)
	}
	_ = f.Close()
}

// A link of that name may lead anywhere.
func TestLinkIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, ".hour.csv.part")); err != nil {
		t.Skipf("SKIPPED: no links here: %v", err)
	}
	if _, _, err := Open(filepath.Join(dir, "hour.csv"), source, 0o600); !errors.Is(err, ErrTaken) {
		t.Errorf("%v, want %v", err, ErrTaken)
	}
}

func TestForgetLeavesNothing(t *testing.T) {
	path := kept(t)
	f, _, err := Open(path, source, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Forget(); err != nil || f.Known() {
		t.Errorf("%v, known %v", err, f.Known())
	}
	if err := f.Forget(); err != nil {
		t.Errorf("once more: %v", err)
	}
	_ = f.Close()
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*.json*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
