//go:build unix

package hoststore_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/hoststore"
	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
)

// file is the name of the file in its directory.
const file = "cells.3"

// A log is a log of the test.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSpace(l.text.String()), "\n")
}

func logged(t *testing.T) *log {
	t.Helper()
	l, was := new(log), slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(l, nil)))
	t.Cleanup(func() { slog.SetDefault(was) })
	return l
}

// works checks that a breaker in store works.
func works(t *testing.T, store *hoststore.Store) {
	t.Helper()
	b := circuit.New("works", circuit.Config{Store: store, FailureThreshold: 1, Observe: func(context.Context, circuit.Transition) {}})
	defer b.Reset()
	if !b.Allow() {
		t.Error("a new breaker refuses a call")
	}
	if b.RecordFailure(); b.Allow() {
		t.Error("a breaker that has tripped lets a call pass")
	}
}

func TestAFileThatIsNotUsableIsSetAside(t *testing.T) {
	good := hoststore.Open(t.TempDir())
	good.Close()
	fresh, err := os.ReadFile(good.Path())
	if err != nil {
		t.Fatal(err)
	}
	newer := bytes.Clone(fresh)
	newer[8]++
	for name, content := range map[string][]byte{
		"empty":                     {},
		"garbage":                   bytes.Repeat([]byte("garbage "), len(fresh)/8),
		"cut":                       fresh[:len(fresh)/2],
		"longer":                    append(bytes.Clone(fresh), 0),
		"header of another version": newer,
	} {
		t.Run(name, func(t *testing.T) {
			log := logged(t)
			dir := t.TempDir()
			path := filepath.Join(dir, file)
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			store := hoststore.Open(dir)
			defer store.Close()
			if store.Err() != nil {
				t.Errorf("not shared: %v", store.Err())
			}
			works(t, store)
			aside, err := filepath.Glob(path + ".unusable-*")
			if err != nil || len(aside) != 1 {
				t.Fatalf("files set aside: %q, %v", aside, err)
			}
			if kept, err := os.ReadFile(aside[0]); err != nil || !bytes.Equal(kept, content) {
				t.Errorf("what was set aside is not what was there (%v)", err)
			}
			if lines := log.lines(); len(lines) != 1 || !strings.Contains(lines[0], "set aside") {
				t.Errorf("logged %q, want one line that says so", lines)
			}
		})
	}
}

func TestWithoutAFileCellsAreInMemory(t *testing.T) {
	occupied := filepath.Join(t.TempDir(), "occupied")
	if err := os.WriteFile(occupied, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{
		"a file": occupied, "below a file": occupied + "/cells", "where nothing can be made": "/proc/cells",
	} {
		t.Run(name, func(t *testing.T) { inMemory(t, dir, "") })
	}
}

// inMemory checks that a store in dir works in memory, and logs one line that says why.
func inMemory(t *testing.T, dir, why string) {
	t.Helper()
	log, other := new(log), logged(t)
	store := hoststore.OpenWithLog(dir, slog.New(slog.NewTextHandler(log, nil)))
	defer store.Close()
	if lines := other.lines(); lines[0] != "" {
		t.Errorf("slog.Default() received %q", lines)
	}
	if store.Err() == nil {
		t.Error("Err is nil, want why the cells are not shared")
	}
	works(t, store)
	works(t, store)
	if lines := log.lines(); len(lines) != 1 || !strings.Contains(lines[0], "not shared") || !strings.Contains(lines[0], why) {
		t.Errorf("logged %q, want one line that says so, with %q", lines, why)
	}
}

func TestADeletedFileIsNoticed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cells")
	store := hoststore.Open(dir)
	defer store.Close()
	mine := circuit.New("moved", circuit.Config{Store: store, Observe: func(context.Context, circuit.Transition) {}})
	if err := os.Remove(store.Path()); err != nil {
		t.Fatal(err)
	}
	other := hoststore.Open(dir)
	defer other.Close()
	circuit.New("moved", circuit.Config{Store: other, Observe: func(context.Context, circuit.Transition) {}}).Isolate()
	servertest.Until(t, "the breaker moves to the new file", func() bool { return mine.State() == circuit.Isolated })
}

func TestManyProcessesCreateOneFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	stores := make([]*hoststore.Store, 50)
	var wg sync.WaitGroup
	for i := range stores {
		wg.Go(func() { stores[i] = hoststore.Open(dir) })
	}
	wg.Wait()
	for i, s := range stores {
		cell.Unseal(s).Cell("total", cell.Client{}).Load().Trips.Add(1)
		defer s.Close()
		if s.Err() != nil {
			t.Errorf("store %d: %v", i, s.Err())
		}
	}
	if got := cell.Unseal(stores[0]).Cell("total", cell.Client{}).Load().Trips.Load(); got != uint64(len(stores)) {
		t.Errorf("%d stores of one file have counted %d in one word", len(stores), got)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".cells-*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	info, err := os.Stat(filepath.Join(dir, file))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v (%v), want 0600", info.Mode(), err)
	}
}

func TestLongAndManyKeys(t *testing.T) {
	log := logged(t)
	store := hoststore.Open(filepath.Join(t.TempDir(), "cells"))
	defer store.Close()
	long := strings.Repeat("x", 1000)
	if cell.Unseal(store).Cell(long+"1", cell.Client{}).Load() == cell.Unseal(store).Cell(long+"2", cell.Client{}).Load() {
		t.Error("two long keys share a cell")
	}
	if cell.Unseal(store).Cell("", cell.Client{}).Load() == cell.Unseal(store).Cell("(no name)", cell.Client{}).Load() {
		t.Error("the empty key shares a cell")
	}
	seen := map[any]bool{}
	for i := range 4200 {
		c := cell.Unseal(store).Cell(strings.Repeat("k", i%7)+time.Duration(i).String(), cell.Client{}).Load()
		if seen[c] {
			t.Fatalf("key %d shares a cell", i)
		}
		seen[c] = true
	}
	if lines := log.lines(); len(lines) != 1 || !strings.Contains(lines[0], "full") {
		t.Errorf("logged %q, want one line that says that the file is full", lines)
	}
}

func TestPathFollowsTheEnvironment(t *testing.T) {
	home := t.TempDir()
	for _, c := range []struct{ state, xdg, home, want string }{ // want is a path, or in the error
		{"/s", "/x", home, "/s/cells.3"},
		{"", "/x", home, "/x/perdure/cells.3"},
		{"", "relative", home, home + "/.local/state/perdure/cells.3"},
		{"", "", home, home + "/.local/state/perdure/cells.3"},
		{"/s", "", "relative", "/s/cells.3"},
		{"relative", "/x", home, `invalid value "relative" for PERDURE_STATE: must be an absolute path`},
		{"~/state", "", home, `invalid value "~/state" for PERDURE_STATE: must be an absolute path`},
		{"", "relative", "some/home", `invalid value "some/home" for HOME: must be an absolute path; or set PERDURE_STATE to a directory`},
		{"", "", "", "$HOME is not defined; set PERDURE_STATE to a directory"},
	} {
		t.Setenv("PERDURE_STATE", c.state)
		t.Setenv("XDG_STATE_HOME", c.xdg)
		t.Setenv("HOME", c.home)
		got, err := hoststore.Path()
		if bad := !strings.HasPrefix(c.want, "/"); bad && (err == nil || !strings.Contains(err.Error(), c.want)) || !bad && (err != nil || got != c.want) {
			t.Errorf("PERDURE_STATE=%q XDG_STATE_HOME=%q HOME=%q: %q, %v; want %q", c.state, c.xdg, c.home, got, err, c.want)
		}
	}
}

// Without a directory for the file, the cells are in memory: one warning, and no file in the working directory.
func TestRelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("PERDURE_STATE", "state")
	log := logged(t)
	store := hoststore.Open("")
	defer store.Close()
	works(t, store)
	works(t, store)
	if lines := log.lines(); len(lines) != 1 || !strings.Contains(lines[0], "must be an absolute path") {
		t.Errorf("logged %q, want one line that says so", lines)
	}
	if made, err := os.ReadDir("."); err != nil || len(made) > 0 {
		t.Errorf("made %v, %v", made, err)
	}
}

func BenchmarkHealthyCall(b *testing.B) {
	store := hoststore.Open(filepath.Join(b.TempDir(), "cells"))
	defer store.Close()
	for _, c := range []struct {
		name  string
		store circuit.Store
	}{{"memory", nil}, {"file", store}} {
		b.Run(c.name, func(b *testing.B) {
			breaker := circuit.New("bench", circuit.Config{Store: c.store})
			b.ReportAllocs()
			for b.Loop() {
				p, err := breaker.Acquire()
				if err != nil {
					b.Fatal(err)
				}
				p.Success()
			}
		})
	}
}
