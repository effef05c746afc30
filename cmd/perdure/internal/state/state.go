// Package state opens, reads and changes the circuit breakers that the processes of the
// command share.
package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/hostplaces"
	"github.com/seed-0f2c7998/perdure/hoststore"
	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/places"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/redisstore"
)

// Of returns the key of the operation of that name.
func Of(name string) string { return "op:" + name }

// A Store is a [circuit.Store] that is opened when the first breaker is created: a command
// without breakers creates no file.
type Store struct {
	cell.Seal

	log      *slog.Logger // for warnings
	open     func() circuit.Store
	once     sync.Once         // guards open
	end      func()            // nil if Close has nothing to do
	dir      string            // directory of the host's file; "" without a file
	local    *Store            // the host's store below the fleet; nil without a fleet
	inherits bool              // see InheritPlaces
	fleet    *redisstore.Store // nil if hosts do not share the state
	fresh    atomic.Bool       // the fleet's state of some breaker has not been read yet
	silent   atomic.Bool       // the fleet's server has not responded in time
}

// cells are the Store as package circuit sees it.
type cells struct {
	cell.Store // nil until the store is opened

	of *Store
}

func newStore(log *slog.Logger) *Store {
	s := &Store{log: log.With("event", "warning")}
	s.Seal = cell.Hide(&cells{of: s})
	return s
}

// Open returns the store that text names: memory, host, or the URL of a server that hosts
// share. "" means host. If the host's file cannot be used, the store warns once and uses
// memory. The error is about the URL.
func Open(text string, log *slog.Logger) (*Store, error) {
	s := newStore(log)
	switch text {
	case "memory":
		s.open = func() circuit.Store { return new(circuit.Memory) }
	case "", "host":
		s.open = s.host
	default:
		local := newStore(log)
		local.open = local.host
		fleet, err := redisstore.Open(redisstore.Options{URL: text, Local: local, Log: local.log})
		if err != nil {
			return nil, ofStore(err)
		}
		s.fleet, s.local, s.end = fleet, local, func() {
			if fleet.Err() == nil && !s.silent.Load() { // otherwise the server cannot be reached
				fleet.Close()
			}
			local.Close()
		}
		s.open = func() circuit.Store { return fleet }
	}
	return s, nil
}

func (s *Store) host() circuit.Store {
	h := hoststore.OpenWithLog("", s.log)
	s.end = h.Close
	if h.Err() == nil {
		s.dir = filepath.Dir(h.Path())
	}
	return h
}

// IsFleet reports whether hosts share the state.
func (s *Store) IsFleet() bool { return s.fleet != nil }

// InheritPlaces makes child processes inherit the places of Concurrency that this process
// holds when it starts them: a child that outlives this process, because that was killed,
// still counts. Call InheritPlaces before the first breaker is created.
func (s *Store) InheritPlaces() { s.inherits = true }

// Locks returns the places of key that all processes of this user share, or nil if they do
// not share the state.
func (c *cells) Locks(key string, limit int) places.Locks {
	host := c.of
	if host.local != nil {
		host = host.local
	}
	if host.dir == "" {
		return nil
	}
	return hostplaces.Of(host.dir, key, limit, c.of.inherits, host.log)
}

// Cell opens the store and returns the reference to the cell of key.
func (c *cells) Cell(key string, u cell.Client) *cell.Ref {
	s := c.of
	s.once.Do(func() { c.Store = cell.Unseal(s.open()) })
	s.fresh.Store(s.fleet != nil)
	return c.Store.Cell(key, u)
}

// readyTimeout is how long a command waits for the fleet's state; pollEvery is how often it
// checks whether the server can be reached.
const (
	readyTimeout = 500 * time.Millisecond
	pollEvery    = 10 * time.Millisecond
)

// Ready reads the fleet's state of the breakers that were created since the last call, and
// reports whether there were any. If the server does not respond within half a second, they
// keep this host's state.
func (s *Store) Ready(ctx context.Context) bool {
	if s == nil || !s.fresh.Swap(false) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	read := make(chan error, 1)
	go func() { read <- s.fleet.Ready(ctx) }()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		select {
		case err := <-read:
			if err != nil && s.fleet.Err() == nil {
				s.silent.Store(true)
				s.log.Warn(fmt.Sprintf("Shared store has not responded within %v: using this host's state", readyTimeout), "error", err)
			}
			return true
		case <-ticker.C:
			if s.fleet.Err() != nil { // the store has logged the error
				return true
			}
		}
	}
}

// Close closes the store. A nil Store does nothing.
func (s *Store) Close() {
	if s != nil && s.end != nil {
		s.end()
	}
}

// errMemory is the error of a store that is not shared.
var errMemory = setting.Bad("store", "memory", "a store that processes share, such as host")

// A Snapshot is a private copy of the breakers of a store at one moment.
type Snapshot struct {
	Path   string           // path of the file
	Keys   []string         // sorted; nil if there is no file
	Others []hoststore.File // state files of other versions of perdure

	store *hoststore.Store             // nil if there is no file
	fleet map[string]redisstore.Status // by key; nil if no fleet was queried
}

// Take returns a snapshot of the host's file, which also is the local layer of a store that
// hosts share; text names the store. A file that does not exist yet is no error.
func Take(text string) (*Snapshot, error) {
	if text == "memory" {
		return nil, errMemory
	}
	path, err := hoststore.Path()
	if err != nil {
		return nil, err
	}
	s := &Snapshot{Path: path, Others: hoststore.Others("")}
	store, err := hoststore.Inspect("")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, nil
	case err != nil:
		return nil, err
	}
	s.store, s.Keys = store, store.Keys()
	slices.Sort(s.Keys)
	return s, nil
}

// QueryFleet adds the fleet's state of the keys, if text names a server. It waits for half
// a second at most. Without a response the snapshot is unchanged.
func (s *Snapshot) QueryFleet(ctx context.Context, text string) error {
	if text == "" || text == "host" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	seen, err := redisstore.Inspect(ctx, redisstore.Options{URL: text}, s.Keys)
	s.fleet = seen // also with an error about some of the keys
	return ofStore(err)
}

// ofStore returns err about the setting store, if err is about a setting.
func ofStore(err error) error {
	if bad, ok := errors.AsType[*setting.Error](err); ok {
		want := bad.Want
		if bad.Field == "url option" {
			want = "a URL with valid options: " + want
		}
		return &setting.Error{Field: "store", Value: bad.Value, Want: want}
	}
	return err
}

// Exists reports whether there is a file.
func (s *Snapshot) Exists() bool { return s.store != nil }

// Find returns the key of that name: a key, or the name of an operation.
func (s *Snapshot) Find(name string) (string, error) {
	if !s.Exists() {
		return "", fmt.Errorf("no circuit breakers yet on this host: %s does not exist", s.Path)
	}
	if key, found := s.find(name); found {
		return key, nil
	}
	want := "a key that perdure status shows"
	if n := nearest(name, s.Keys); n != "" {
		want += "; did you mean " + n + "?"
	}
	return "", setting.Bad("NAME", name, want)
}

// find returns the key of that name: a key, the name of an operation, or one of both as an
// error quotes it. Without one, it returns the key that a command would give the breaker.
func (s *Snapshot) find(name string) (key string, found bool) {
	name = redact.String(name) // keys are stored redacted
	plain := name
	for _, quoted := range []string{name, `"` + name + `"`} {
		if unquoted, err := strconv.Unquote(quoted); err == nil {
			plain = unquoted
		}
	}
	for _, name := range []string{name, plain} {
		for _, key := range []string{name, Of(name)} {
			if slices.Contains(s.Keys, key) {
				return key, true
			}
		}
	}
	for _, prefix := range []string{Of(""), "s3:", "http:"} {
		if strings.HasPrefix(plain, prefix) {
			return plain, false
		}
	}
	return Of(plain), false
}

// FindOrNew returns the key of that name, which need not exist yet. If it does not, near is
// the existing key that is nearest to it, or "".
func (s *Snapshot) FindOrNew(name string) (key, near string, found bool) {
	if key, found = s.find(name); !found {
		near = nearest(redact.String(name), s.Keys)
	}
	return key, near, found
}

// nearest returns the key that is nearest to name, with or without "op:".
func nearest(name string, keys []string) string {
	if s := setting.Nearest(name, keys); s != "" {
		return s
	}
	return setting.Nearest(Of(name), keys)
}
