// Package hoststore lets the processes of a host share their circuit breakers and retry
// budgets: the cells of package circuit are in a file that each process maps into its
// memory.
//
//	store := hoststore.Open("") // in the user's state directory
//	breaker := circuit.New("s3:example.com/bikes", circuit.Config{Store: store})
//
// A Store is for processes that live for seconds, whose breakers in memory end with them. A call
// takes as long as with a breaker in memory: there is no lock, no daemon and no message.
// A process that is killed at any instruction leaves nothing that blocks another.
//
// A Store works on Unix, on local file systems. Elsewhere, and whenever the file cannot be
// used, the cells are in the memory of the process, and one warning is logged: no call
// fails because of its store.
package hoststore

import (
	"cmp"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/private"
)

// A Store keeps cells in one file. It is a [circuit.Store] and safe for concurrent use.
// A process opens one Store for all its breakers; the zero Store is not usable.
//
// The file's name ends in the version of its format, as in cells.3. Releases with
// another version use another file in the same directory, and share nothing with this
// release; see [Others].
//
// The store refuses a file that belongs to another user or that other users can write,
// and a symbolic link, named pipe, socket or device in place of the file. It refuses a
// directory that belongs to neither this user nor root, or that other users can write,
// unless its sticky bit is set. It does not change what it refuses; the cells are then
// in memory.
//
// If the file is deleted, or replaced by another process, the breakers move to a new
// file within a second. The file must not be truncated while it is mapped: the
// processes would get SIGBUS.
type Store struct {
	seal

	log    *slog.Logger
	dir    string        // "" if no directory is usable
	memory cell.Memory   // cells of keys without a slot in the file, or of all keys if there is no file
	stop   chan struct{} // closed by Close
	once   sync.Once     // closes stop

	mu    sync.Mutex
	table *table               // nil if there is no file
	refs  map[string]*cell.Ref // by key
	err   error                // why the cells are in memory only; nil if they are shared
}

type seal = cell.Seal

// cells implements [cell.Store] for package circuit.
type cells struct {
	cell.Unshared

	*Store
}

func newStore(dir string, log *slog.Logger) *Store {
	s := &Store{log: cmp.Or(log, slog.Default()), dir: dir, stop: make(chan struct{}), refs: make(map[string]*cell.Ref)}
	s.seal = cell.Hide(cells{Store: s})
	return s
}

// interval is the time between two checks that the file at the path is still the one
// that is mapped.
const interval = time.Second

// Open returns the store in the directory dir, and creates the directory and the file if
// they do not exist. A dir of "" means the directory of the user's file, see [Path]. Open never
// fails: see [Store.Err]. The store logs warnings to slog.Default().
func Open(dir string) *Store { return OpenWithLog(dir, nil) }

// OpenWithLog returns the store that [Open] returns, which logs warnings to log instead.
// If nil, log is slog.Default() at the time of the call.
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

// Inspect returns a snapshot of the store in dir: a Store whose changes no other process
// sees. Inspect creates no file, claims no slot, and does not move an unusable file. A dir
// of "" means the directory of the user's file. If there is no file, errors.Is finds
// [fs.ErrNotExist] in the error.
func Inspect(dir string) (*Store, error) {
	dir, err := orOfUser(dir)
	if err != nil {
		return nil, err
	}
	t, err := readTable(dir)
	if err != nil {
		return nil, err
	}
	s := newStore(dir, nil)
	s.table = t
	return s, nil
}

// A File is a state file, and the version of its format. Its names in JSON are path and
// version.
type File struct {
	Path    string `json:"path"`
	Version int    `json:"version"`
}

// Others returns the state files of other versions in dir. Releases with those versions
// share nothing with this one. A dir of "" means the directory of the user's file. If dir
// cannot be read, Others returns nil.
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

// Path returns the path of the user's file: cells.3, for version 3 of the format, in the
// directory PERDURE_STATE. If PERDURE_STATE is not set, the directory is perdure in
// XDG_STATE_HOME, or in ~/.local/state, as in the XDG Base Directory Specification. A
// relative PERDURE_STATE is an error, since it would mean another directory for each
// process; a relative XDG_STATE_HOME is ignored. If neither is set and there is no home
// directory, Path returns an error.
func Path() (string, error) { return private.StatePath(fileName(cell.Version)) }

func orOfUser(dir string) (string, error) {
	if dir == "" {
		return private.StateDir()
	}
	return dir, nil
}

// Path returns the path of the store's file, or "" if no directory is known.
func (s *Store) Path() string {
	if s.dir == "" {
		return ""
	}
	return filepath.Join(s.dir, fileName(cell.Version))
}

// Cell returns the cell of key. Breakers of one key must have the same settings in all
// processes; otherwise each process applies its own settings to the shared state.
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

// Keys returns the keys in the file, including those of other processes, in no
// particular order.
func (s *Store) Keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.table == nil {
		return nil
	}
	return s.table.keys()
}

// Err returns why the cells are in the memory of this process only, or nil if they are
// shared.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close ends the check, once a second, for a file that was deleted or replaced: after Close
// the store makes no file. Breakers that use the store continue to work, so the file stays
// mapped until the process ends. A second Close does nothing.
func (s *Store) Close() {
	s.mu.Lock() // until a check ends that has begun
	defer s.mu.Unlock()
	s.once.Do(func() { close(s.stop) })
}

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

// warn sets s.err, and logs it if s.err was nil.
func (s *Store) warn(err error) {
	if s.err == nil {
		s.log.Warn("Circuit breakers are not shared with other processes: "+err.Error(), "error", err)
	}
	s.err = err
}

// watch checks the file at each interval until Close.
func (s *Store) watch() {
	ticker := time.NewTicker(interval)
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

// follow moves all breakers to the file at the path, if the mapped file is no longer
// there.
func (s *Store) follow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.stop: // it was closed while its ticker ticked
		return
	default:
	}
	if s.table == nil || s.table.at(s.Path()) {
		return
	}
	s.open()
	for key, ref := range s.refs {
		ref.Set(s.find(key))
	}
}
