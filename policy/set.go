package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/hoststore"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Options configure a Set. The zero value is ready for use.
type Options struct {
	// Store opens the store of breakers that the file names: a URL such as
	// redis://cache:6379. It is called at most once. If nil, a file with a URL is an error.
	// The stores memory and host need no Store; without a store in the file, each breaker
	// has its own memory.
	Store func(url string) (circuit.Store, error)
	// Prepare sets what a file cannot hold, such as Classify and Observe. It is called with
	// each policy before For returns it for the first time, also after a change of the
	// file, by one goroutine at a time. If nil, the policies are as the file describes them.
	Prepare func(*retry.Policy)
	// Log receives a line for each change of the file that Watch finds. If nil, Log is
	// slog.Default().
	Log *slog.Logger
}

// A Set holds the policies of a file. It is safe for concurrent use.
type Set struct {
	path    string
	options Options
	live    atomic.Pointer[live]

	mu    sync.Mutex      // held while the file is read
	asked sync.Map        // names that For has returned
	store circuit.Store   // nil until a file names one
	using string          // the store's value in the file
	read  fileID          // the file that was read last
	byKey map[string]kept // breakers by key
}

// A live state of a Set does not change.
type live struct {
	file     *File
	policies map[string]*retry.Policy
}

// A kept breaker has the settings that it was created with, as JSON.
type kept struct {
	breaker *circuit.Breaker
	config  []byte
}

// Load returns the policies of the file at path, or of the one at DefaultPath if path is "".
func Load(path string) (*Set, error) { return Options{}.Load(path) }

// Load returns the policies of the file at path, or of the one at DefaultPath if path is "".
func (o Options) Load(path string) (*Set, error) {
	s := &Set{path: path, options: o, byKey: map[string]kept{}}
	if s.options.Log == nil {
		s.options.Log = slog.Default()
	}
	if err := s.Reload(); err != nil {
		return nil, err
	}
	return s, nil
}

// For returns the policy of that name, with its circuit breaker if it has one: if the policy
// or the one that it inherits from has circuit_breaker, or if its preset is service or
// pipeline. The policy must not be changed. An unknown name is an error with the nearest
// one. For costs one look-up: call it before each operation to use changes of the file.
// Once For has returned a policy, it never fails for that name.
func (s *Set) For(name string) (*retry.Policy, error) {
	l := s.live.Load()
	p, ok := l.policies[name]
	if !ok {
		_, err := l.file.Values("policy", name)
		return nil, err
	}
	if _, known := s.asked.Load(name); !known {
		s.asked.Store(name, true)
	}
	return p, nil
}

// Has reports whether the file has a policy of that name.
func (s *Set) Has(name string) bool { return s.live.Load().policies[name] != nil }

// File returns the values of the file that apply now.
func (s *Set) File() *File { return s.live.Load().file }

// Reload reads the file again. The next For returns a policy of the new file; those returned
// before stay valid. A breaker whose settings have not changed keeps its state, and so does
// a changed one with a store. If the file is invalid, if it has another store, or if it
// lacks a policy that For has returned, Reload returns an error and the old policies stay.
func (s *Set) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read = identify(s.where())
	file, err := Read(s.path, "the policy file")
	if err != nil {
		return err
	}
	next, breakers, err := s.build(file)
	if err != nil {
		return err
	}
	s.byKey = breakers
	s.live.Store(next)
	return nil
}

func (s *Set) where() string {
	if s.path == "" {
		return DefaultPath()
	}
	return s.path
}

// build returns the policies of file, and their breakers.
func (s *Set) build(file *File) (*live, map[string]kept, error) {
	next := &live{file, map[string]*retry.Policy{}}
	if err := s.open(file); err != nil {
		return nil, nil, err
	}
	breakers := map[string]kept{}
	for _, name := range file.Names() {
		settings, err := file.Settings(name)
		if err != nil {
			return nil, nil, err
		}
		p := settings.Policy
		if settings.HasBreaker() {
			key := Key(name)
			if settings.Shared != "" {
				key = Key(settings.Shared)
			}
			if p.Breaker, err = s.breaker(breakers, key, settings.Breaker); err != nil {
				return nil, nil, fmt.Errorf("%s: policies.%s: %w", file.path, name, err)
			}
		}
		next.policies[name] = &p
	}
	var missing []string
	s.asked.Range(func(name, _ any) bool {
		if text, _ := name.(string); next.policies[text] == nil {
			missing = append(missing, text)
		}
		return true
	})
	if len(missing) > 0 {
		slices.Sort(missing)
		return nil, nil, fmt.Errorf("%s: policies in use are missing: %s", file.path, strings.Join(missing, ", "))
	}
	s.prepare(next)
	return next, breakers, nil
}

// prepare calls Prepare for each policy that has changed, and keeps the others.
func (s *Set) prepare(next *live) {
	var old map[string]*retry.Policy
	if l := s.live.Load(); l != nil {
		old = l.policies
	}
	for name, p := range next.policies {
		if was := old[name]; was != nil && was.Breaker == p.Breaker && same(*was, *p) {
			next.policies[name] = was
			continue
		}
		if s.options.Prepare != nil {
			s.options.Prepare(p)
		}
	}
}

// same reports whether the texts of a and b are equal.
func same(a, b any) bool {
	x, err := json.Marshal(a)
	y, failed := json.Marshal(b)
	return err == nil && failed == nil && bytes.Equal(x, y)
}

// Key returns the key of the circuit breaker of a policy, or of a shared one of that name, in
// its store: perdure status shows the breaker under this name.
func Key(name string) string { return "op:" + name }

// breaker returns the breaker with that key, which policies may share.
func (s *Set) breaker(all map[string]kept, key string, c circuit.Config) (*circuit.Breaker, error) {
	config, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	if b, ok := all[key]; ok {
		if !bytes.Equal(b.config, config) {
			return nil, errors.New("its circuit breaker has the name of a shared one with other settings: rename one of them")
		}
		return b.breaker, nil
	}
	b := s.byKey[key]
	if b.breaker == nil || !bytes.Equal(b.config, config) {
		c.Store, c.Log = s.store, s.options.Log
		b = kept{circuit.New(key, c), config}
	}
	all[key] = b
	return b.breaker, nil
}

// open opens the store of the file, at the first time.
func (s *Set) open(file *File) error {
	using := ""
	if len(file.store) > 0 {
		using = file.store[0].Text
	}
	if s.live.Load() != nil {
		if using != s.using {
			return fmt.Errorf("%s: the store has changed: it applies after a restart", file.path)
		}
		return nil
	}
	s.using = using
	switch using {
	case "":
		return nil
	case "memory":
		s.store = new(circuit.Memory)
		return nil
	case "host":
		s.store = hoststore.OpenWithLog("", s.options.Log)
		return nil
	}
	v := file.store[0]
	if s.options.Store == nil {
		return v.atSource(setting.Bad(v.Source, using, "memory or host: this program does not open other stores"))
	}
	var err error
	if s.store, err = s.options.Store(using); err != nil {
		return v.atSource(err)
	}
	return nil
}

// A fileID changes when a file is written to or replaced.
type fileID struct {
	info os.FileInfo // nil if the file cannot be found
}

func identify(path string) fileID {
	info, err := os.Stat(path)
	if err != nil {
		return fileID{}
	}
	return fileID{info}
}

// is reports whether both are the same version of a file.
func (f fileID) is(g fileID) bool {
	if f.info == nil || g.info == nil {
		return f.info == nil && g.info == nil
	}
	return os.SameFile(f.info, g.info) && f.info.Size() == g.info.Size() && f.info.ModTime().Equal(g.info.ModTime())
}
