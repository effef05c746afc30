// Package state is what the command remembers from one process to the next:
// the circuit breakers of a store that processes share.
package state

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/hoststore"
	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// Of returns the key of the operation of that name, which run guards.
func Of(name string) string { return "op:" + name }

// A Store is opened when it is first asked for a cell: who makes no breaker
// leaves no trace. It is a [circuit.Store].
type Store struct {
	circuit.Store // nil: not opened yet

	text string
	log  *slog.Logger
	once sync.Once // opens it
	end  func()    // nil: there is nothing to end
}

// Open returns the store that text names: memory, host or, if it is empty,
// host. It never fails: a host's that cannot be had warns, once, and is memory.
func Open(text string, log *slog.Logger) *Store { return &Store{text: text, log: log} }

// Cell returns the way to the cell of key.
func (s *Store) Cell(key string, obey func(cell.Order)) *cell.Ref {
	s.once.Do(s.open)
	return s.Store.Cell(key, obey)
}

func (s *Store) open() {
	if s.text == "memory" {
		s.Store = new(circuit.Memory)
		return
	}
	slog.SetDefault(s.log) // which the store warns
	host := hoststore.Open("")
	s.Store, s.end = host, host.Close
}

// Close ends the work of the store; nil has none.
func (s *Store) Close() {
	if s != nil && s.end != nil {
		s.end()
	}
}

// errMemory is a store in which nobody else's breakers can be seen.
var errMemory = setting.Bad("store", "memory", "a store that processes share, as host: memory is gone with its process")

// A Look is the breakers as they were at one moment. Nothing that is done to
// it changes them.
type Look struct {
	Path string   // of the file
	Keys []string // sorted; nil if there is no file

	store *hoststore.Store // nil: there is no file
}

// Take looks at the store that text names. That there is none yet is no error.
func Take(text string) (*Look, error) {
	if text == "memory" {
		return nil, errMemory
	}
	path, err := hoststore.Path()
	if err != nil {
		return nil, err
	}
	look := &Look{Path: path}
	store, err := hoststore.Look(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return look, nil
	case err != nil:
		return nil, err
	}
	look.store, look.Keys = store, store.Keys()
	slices.Sort(look.Keys)
	return look, nil
}

// Exists reports whether there was a file.
func (l *Look) Exists() bool { return l.store != nil }

// Find returns the key that name means: a key, or the name of an operation.
func (l *Look) Find(name string) (string, error) {
	if !l.Exists() {
		return "", fmt.Errorf("no circuit breakers yet: %s does not exist", l.Path)
	}
	for _, key := range []string{name, Of(name)} {
		if slices.Contains(l.Keys, key) {
			return key, nil
		}
	}
	want := "a key that perdure status shows"
	if s := nearest(name, l.Keys); s != "" {
		want += "; did you mean " + s + "?"
	}
	return "", setting.Bad("NAME", redact.String(name), want)
}

// nearest returns the key that name may have been meant to be, with or without
// what keys of operations begin with.
func nearest(name string, keys []string) string {
	if s := setting.Nearest(name, keys); s != "" {
		return s
	}
	return setting.Nearest(Of(name), keys)
}
