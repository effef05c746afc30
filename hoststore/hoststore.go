// Package hoststore lets all processes of a host share their circuit breakers
// and retry budgets: the cells of package circuit, in a file that every process
// maps into its memory.
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

	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// A Store keeps cells in one file. It is a [circuit.Store], safe for concurrent
// use. Open one for a process, and let its breakers share it.
//
// The file's name ends in the version of its format, as in cells.3. Releases of
// another version have a file of their own beside it and share nothing with this
// one; see [Others].
//
// The store refuses a file that belongs to another user or that others can
// write, and a symbolic link, named pipe, socket or device in its place. It
// refuses a directory that belongs to neither this user nor root, or that others
// can write, unless its sticky bit is set. What it refuses is left as it is, and
// the cells are in memory.
//
// A file that is deleted, or deleted and recreated by another process, is
// noticed within a second, and the breakers move to the new one. A file that is
// truncated while it is mapped is not supported: its processes get SIGBUS.
type Store struct {
	seal

	log    *slog.Logger
	dir    string        // "" if there is no place for the file
	memory cell.Memory   // for keys that the file has no room for, and when there is no file
	stop   chan struct{} // closed by Close
	once   sync.Once     // closes stop

	mu    sync.Mutex
	table *table               // nil if there is no file
	refs  map[string]*cell.Ref // by key
	err   error                // why cells are in memory only; nil if they are shared
}

type seal = cell.Seal

// cells are the Store as package circuit sees it.
type cells struct {
	cell.Unshared

	*Store
}

func newStore(dir string, log *slog.Logger) *Store {
	s := &Store{log: log, dir: dir, stop: make(chan struct{}), refs: make(map[string]*cell.Ref)}
	s.seal = cell.Hide(cells{Store: s})
	return s
}

// Every is how often a Store looks whether its file is still the one at its path.
const every = time.Second

// Open returns the store in the directory dir. It makes the directory and the
// file if they do not exist. "" means the directory of the user's file, see
// [Path]. Open never fails: see [Store.Err]. It logs warnings to slog.Default().
func Open(dir string) *Store { return OpenWithLog(dir, slog.Default()) }

// OpenWithLog returns the same store as [Open], which logs warnings to log.
func OpenWithLog(dir string, log *slog.Logger) *Store {
	dir, err := orOfUser(dir)
	s := newStore(dir, log)
	if err != nil {
		s.warn(err)
		return s
	}
	s.open()
	go s.watch()
	return s
}

// Inspect returns a snapshot of the store in dir: a Store whose changes no other
// process sees. It makes no file, claims no slot, and leaves an unusable file
// where it is. "" means the directory of the user's file. If there is no file,
// the error is [fs.ErrNotExist].
func Inspect(dir string) (*Store, error) {
	dir, err := orOfUser(dir)
	if err != nil {
		return nil, err
	}
	t, err := readTable(dir)
	if err != nil {
		return nil, err
	}
	s := newStore(dir, slog.Default())
	s.table = t
	return s, nil
}

// A File is a state file of some version of the format. Its JSON form has the
// names path and version.
type File struct {
	Path    string `json:"path"`
	Version int    `json:"version"`
}

// Others returns the state files of other versions in dir, which releases of
// perdure that share nothing with this one have made. "" means the directory of
// the user's file.
func Others(dir string) []File {
	dir, err := orOfUser(dir)
	if err != nil || !mappable {
		return nil
	}
	root, err := openDir(dir)
	if err != nil {
		return nil
	}
	defer func() { _ = root.Close() }()
	var others []File
	for _, name := range namesOfVersions() {
		if v, ok := versionOf(root, name); ok && v != cell.Version {
			others = append(others, File{pathIn(root, name), v})
		}
	}
	return others
}

// Path returns the path of the user's file: cells.3, for version 3 of the format,
// in the directory that PERDURE_STATE names, or else in perdure of the state
// directory of the XDG Base Directory Specification: XDG_STATE_HOME, or
// ~/.local/state. A relative PERDURE_STATE is an error, since it would be another
// directory for each process; a relative XDG_STATE_HOME is ignored.
func Path() (string, error) {
	dir, err := dirOfUser()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, fileName(cell.Version)), nil
}

func orOfUser(dir string) (string, error) {
	if dir == "" {
		return dirOfUser()
	}
	return dir, nil
}

func dirOfUser() (string, error) {
	const instead = "set PERDURE_STATE to a directory"
	if dir := os.Getenv("PERDURE_STATE"); dir != "" {
		if !filepath.IsAbs(dir) {
			return "", fmt.Errorf("no place for shared state: PERDURE_STATE is %q: want an absolute path", dir)
		}
		return dir, nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "perdure"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no place for shared state: %s: %w", instead, err)
	}
	if !filepath.IsAbs(home) {
		return "", fmt.Errorf("no place for shared state: %s: the home directory is %q: want an absolute path", instead, home)
	}
	return filepath.Join(home, ".local", "state", "perdure"), nil
}

// Path returns the path of the store's file, "" if there is no place for one.
func (s *Store) Path() string {
	if s.dir == "" {
		return ""
	}
	return filepath.Join(s.dir, fileName(cell.Version))
}

// Cell returns the way to the cell of key. Breakers of one key must have the
// same settings in all processes, or each follows its own on the same state.
func (s cells) Cell(key string, _ cell.Client) *cell.Ref {
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
		s.warn(fmt.Errorf("%s is full: it has room for %d keys; delete it to start from scratch", s.Path(), slots))
	}
	return s.memory.Cell(key, cell.Client{}).Load()
}

// open maps the file. s.mu is held, or s is not shared yet.
func (s *Store) open() {
	t, err := openTable(s.dir)
	if err != nil {
		s.warn(err)
		return
	}
	if t.aside != "" {
		s.log.Warn("The file of shared circuit breakers was not usable and has been set aside as "+t.aside,
			"path", s.Path(), "aside", t.aside)
	}
	s.table, s.err = t, nil
}

// warn keeps err, and tells it if it is the first.
func (s *Store) warn(err error) {
	if s.err == nil {
		s.log.Warn("Circuit breakers are not shared with other processes: "+err.Error(), "error", err)
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
	if s.table == nil || s.table.at(s.Path()) {
		return
	}
	s.open()
	for key, ref := range s.refs {
		ref.Set(s.find(key))
	}
}
