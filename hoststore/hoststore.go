// Package hoststore lets all processes of a host share their circuit breakers,
// retry budgets and not-before instants: the cells of package circuit, in a file
// that every process maps into its memory.
//
//	store := hoststore.Open("") // in the user's state directory
//	breaker := circuit.New("s3:example.com/bikes", circuit.Config{Store: store})
//
// It is meant for processes that live for seconds: a breaker of their own would
// be gone before it could help. A call costs what it costs in memory, since the
// words are in memory; there is no lock, no daemon and no message, and a process
// that is killed at any instruction leaves nothing behind that could block
// another.
//
// It works on Unix, on file systems of the host itself. Elsewhere, and when the
// file cannot be had for any reason, the cells are in the memory of the process
// alone, and one warning says so: no call ever fails because of its store.
package hoststore

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// A Store is the cells in one file. It is a [circuit.Store], safe for
// concurrent use. Open one for a process, and let its breakers share it.
//
// A file that is deleted, or deleted and made anew by another process, is
// noticed within a second, and the breakers move to the new one. A file that is
// truncated while it is mapped is not supported: its processes get SIGBUS.
type Store struct {
	cell.Alone

	path   string
	memory circuit.Memory // for keys that the file has no room for, and when there is no file
	stop   chan struct{}  // closed by Close
	once   sync.Once      // closes stop

	mu    sync.Mutex
	table *table               // nil: there is no file
	refs  map[string]*cell.Ref // of the keys that were asked for
	err   error                // why cells are in memory alone
}

// Every is how often a Store looks whether its file is still the one at its path.
const every = time.Second

// Open returns the store in the file at path, which it makes if there is none;
// "" means the file of the user, see [Path]. It never fails, see [Store.Err].
func Open(path string) *Store {
	s := &Store{path: path, stop: make(chan struct{}), refs: make(map[string]*cell.Ref)}
	if path == "" {
		var err error
		if s.path, err = Path(); err != nil {
			s.warn(err)
			return s
		}
	}
	s.open()
	go s.watch()
	return s
}

// Look returns what is in the file at path at this moment, to be shown: a Store
// of which nobody else sees the changes. It makes no file, claims no place in
// one and leaves one that is not usable where it is. "" means the file of the
// user. The error is [fs.ErrNotExist] if there is no file.
func Look(path string) (*Store, error) {
	if path == "" {
		var err error
		if path, err = Path(); err != nil {
			return nil, err
		}
	}
	t, err := readTable(path)
	if err != nil {
		return nil, err
	}
	return &Store{path: path, stop: make(chan struct{}), refs: make(map[string]*cell.Ref), table: t}, nil
}

// Path returns the path of the user's file: cells in the directory
// PERDURE_STATE names, or else in perdure of the state directory that the XDG
// Base Directory Specification has, ~/.local/state if XDG_STATE_HOME is not set.
// A relative path would be another file in each directory that a process is
// started in: there is none then, but of XDG_STATE_HOME, which counts as not set.
func Path() (string, error) {
	const instead = "set PERDURE_STATE to a directory"
	if dir := os.Getenv("PERDURE_STATE"); dir != "" {
		if !filepath.IsAbs(dir) {
			return "", fmt.Errorf("no place for shared state: PERDURE_STATE is %q: want an absolute path", dir)
		}
		return filepath.Join(dir, "cells"), nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "perdure", "cells"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no place for shared state: %s: %w", instead, err)
	}
	if !filepath.IsAbs(home) {
		return "", fmt.Errorf("no place for shared state: %s: the home directory is %q: want an absolute path", instead, home)
	}
	return filepath.Join(home, ".local", "state", "perdure", "cells"), nil
}

// Cell returns the way to the cell of key. Breakers of one key must have the
// same settings in all processes, or each follows its own on the same state.
func (s *Store) Cell(key string, _ cell.User) *cell.Ref {
	s.mu.Lock()
	defer s.mu.Unlock()
	ref := s.refs[key]
	if ref == nil {
		ref = cell.NewRef(s.find(key))
		s.refs[key] = ref
	}
	return ref
}

// Keys returns the keys in the file, those of other processes included, in no
// particular order.
func (s *Store) Keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.table == nil {
		return nil
	}
	return s.table.keys()
}

// Err returns why the cells are in the memory of this process alone, or nil if
// they are shared.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close stops looking after the file. Breakers that use the store go on
// working, and so the file stays mapped until the process ends.
func (s *Store) Close() { s.once.Do(func() { close(s.stop) }) }

// find returns the cell of key: in the file, or in memory. s.mu is held, or s
// is not shared yet.
func (s *Store) find(key string) *cell.Cell {
	if s.table != nil {
		if c := s.table.find(key); c != nil {
			return c
		}
		s.warn(fmt.Errorf("%s is full: it has room for %d keys; delete it to begin anew", s.path, slots))
	}
	return s.memory.Cell(key, cell.User{}).Load()
}

// open maps the file. s.mu is held, or s is not shared yet.
func (s *Store) open() {
	t, err := openTable(s.path)
	if err != nil {
		s.warn(err)
		return
	}
	if t.aside != "" {
		slog.Default().Warn("The file of shared circuit breakers was not usable and has been set aside as "+t.aside,
			"path", s.path, "aside", t.aside)
	}
	s.table, s.err = t, nil
}

// warn keeps err, and tells it if it is the first.
func (s *Store) warn(err error) {
	if s.err == nil {
		slog.Default().Warn("Circuit breakers are not shared with other processes: "+err.Error(), "error", err)
	}
	s.err = err
}

// watch looks after the file until Close.
func (s *Store) watch() {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.follow()
		case <-s.stop:
			return
		}
	}
}

// follow moves all breakers to the file that is now at the path, if that is
// another one or none.
func (s *Store) follow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.table == nil || s.table.at(s.path) {
		return
	}
	s.open()
	for key, ref := range s.refs {
		ref.Lead(s.find(key))
	}
}
