// Package state is what the command remembers from one process to the next:
// the circuit breakers of a store that processes share.
package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
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

// Of returns the key of the operation of that name, which run guards.
func Of(name string) string { return "op:" + name }

// A Store is opened when it is first asked for a cell: who makes no breaker
// leaves no trace. It is a [circuit.Store].
type Store struct {
	cell.Seal

	log    *slog.Logger // for warnings
	open   func() circuit.Store
	once   sync.Once         // guards open
	end    func()            // nil if Close has nothing to do
	dir    string            // of the host's file; "" if there is none
	local  *Store            // below the fleet; nil without one
	lends  bool              // see LendPlaces
	fleet  *redisstore.Store // nil if the state is not shared with other hosts
	fresh  atomic.Bool       // whether the fleet's state of some breaker has not been read yet
	silent atomic.Bool       // whether the fleet's server has not responded in time
}

// cells are the Store as package circuit sees it.
type cells struct {
	cell.Store // nil until it is opened

	of *Store
}

func newStore(log *slog.Logger) *Store {
	s := &Store{log: log.With("event", "warning")}
	s.Seal = cell.Hide(&cells{of: s})
	return s
}

// Open returns the store that text names: memory, host, the URL of a server
// that hosts share or, if it is empty, host. A host's that cannot be had warns,
// once, and is memory. The error is about the URL.
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
			if fleet.Err() == nil && !s.silent.Load() { // else there is nobody to tell
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

// LendPlaces has the processes that this one starts keep the places of
// Concurrency that it holds then: one that outlives this process, because that is
// killed, goes on to count. Call it before any breaker is made.
func (s *Store) LendPlaces() { s.lends = true }

// Locks returns the places of key that all processes of this user share, if they
// share its state.
func (c *cells) Locks(key string, limit int) places.Locks {
	host := c.of
	if host.local != nil {
		host = host.local
	}
	if host.dir == "" {
		return nil
	}
	return hostplaces.Of(host.dir, key, limit, c.of.lends, host.log)
}

// Cell returns the way to the cell of key.
func (c *cells) Cell(key string, u cell.Client) *cell.Ref {
	s := c.of
	s.once.Do(func() { c.Store = cell.Unseal(s.open()) })
	s.fresh.Store(s.fleet != nil)
	return c.Store.Cell(key, u)
}

// How long a command waits for the fleet's state, and how often it checks
// whether the server can be reached at all.
const (
	patience  = 500 * time.Millisecond
	pollEvery = 10 * time.Millisecond
)

// Ready asks the fleet what it knows of the breakers that have been made since
// the last time, for half a second at most, and reports whether there were any.
// Without an answer each goes on with what this host knows.
func (s *Store) Ready(ctx context.Context) bool {
	if s == nil || !s.fresh.Swap(false) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer := make(chan error, 1)
	go func() { answer <- s.fleet.Ready(ctx) }()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		select {
		case err := <-answer:
			if err != nil && s.fleet.Err() == nil {
				s.silent.Store(true)
				s.log.Warn(fmt.Sprintf("The store that hosts share has not answered in %v: going on with what this host knows", patience), "error", err)
			}
			return true
		case <-ticker.C:
			if s.fleet.Err() != nil { // which it has told
				return true
			}
		}
	}
}

// Close ends the work of the store; nil has none.
func (s *Store) Close() {
	if s != nil && s.end != nil {
		s.end()
	}
}

// errMemory is a store in which nobody else's breakers can be seen.
var errMemory = setting.Bad("store", "memory", "a store that processes share, as host: memory is gone with its process")

// A Snapshot is the breakers as they were at one moment. Changing it does not
// change them.
type Snapshot struct {
	Path   string           // path of the file
	Keys   []string         // sorted; nil if there is no file
	Others []hoststore.File // state files of other versions of perdure

	store *hoststore.Store             // nil if there is no file
	fleet map[string]redisstore.Status // by key; nil if no fleet was queried
}

// Take returns a snapshot of the store that text names: the host's, by itself or
// as the local layer of one that hosts share. It is no error if there is no file
// yet.
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

// QueryFleet adds the state that the server which text names has of the keys, if
// text names one. It waits for half a second at most; without a response the
// snapshot stays as it is.
func (s *Snapshot) QueryFleet(ctx context.Context, text string) error {
	if text == "" || text == "host" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	seen, err := redisstore.Inspect(ctx, redisstore.Options{URL: text}, s.Keys)
	s.fleet = seen // also with an error about some of the keys
	return ofStore(err)
}

// ofStore is err with the name that the setting has here, if it is about one.
func ofStore(err error) error {
	if bad, ok := errors.AsType[*setting.Error](err); ok {
		return &setting.Error{Field: "store", Value: bad.Value, Want: bad.Want}
	}
	return err
}

// Exists reports whether there is a file.
func (s *Snapshot) Exists() bool { return s.store != nil }

// Find returns the key that name means: a key, or the name of an operation.
func (s *Snapshot) Find(name string) (string, error) {
	if !s.Exists() {
		return "", fmt.Errorf("no circuit breakers yet: %s does not exist", s.Path)
	}
	name = redact.String(name) // as it was when the key was made
	for _, key := range []string{name, Of(name)} {
		if slices.Contains(s.Keys, key) {
			return key, nil
		}
	}
	want := "a key that perdure status shows"
	if n := nearest(name, s.Keys); n != "" {
		want += "; did you mean " + n + "?"
	}
	return "", setting.Bad("NAME", name, want)
}

// nearest returns the key that name may have been meant to be, with or without
// what keys of operations begin with.
func nearest(name string, keys []string) string {
	if s := setting.Nearest(name, keys); s != "" {
		return s
	}
	return setting.Nearest(Of(name), keys)
}
