package policy

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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
	// redis://cache:6379. It is called at most once, in Load. If nil, a file with a URL is
	// an error. The stores memory and host need no Store; without a store in the file, each
	// breaker has its own memory.
	Store func(url string) (circuit.Store, error)
	// Prepare sets what a file cannot hold, such as Classify and Observe. Load and each
	// reload call it for each policy of the file that is new or has changed, one after the
	// other in the order of the file. It must not use the Set: Load has not returned it
	// yet. A policy that is invalid after Prepare is an error. If nil, the policies are as
	// the file describes them.
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

	mu    sync.Mutex      // held during a reload
	read  look            // what was read last
	store circuit.Store   // nil until a file names one
	using string          // the store's value in the file
	byKey map[string]kept // breakers by key

	first sync.Mutex // held while a name is added to asked, and while live is replaced
	asked sync.Map   // names that For has returned
}

// A live state of a Set does not change.
type live struct {
	file     *File
	policies map[string]prepared
}

// A prepared policy has passed Prepare.
type prepared struct {
	*retry.Policy
	plain   []byte           // the policy before Prepare, as JSON
	breaker *circuit.Breaker // before Prepare
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
	if _, known := s.asked.Load(name); !known {
		s.first.Lock()
		defer s.first.Unlock()
		l = s.live.Load()
		if _, ok := l.policies[name]; !ok {
			_, err := l.file.Values("policy", name)
			return nil, err
		}
		s.asked.Store(name, true)
	}
	return l.policies[name].Policy, nil
}

// Reload reads the file again. The next For returns a policy of the new file; those returned
// before stay valid. A breaker whose settings have not changed keeps its state, and so does
// a changed one with a store. If the file is invalid, if it has another store, or if it
// lacks a policy that For has returned, Reload returns an error and the old policies stay.
func (s *Set) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.apply(s.look(nil))
}

// apply applies the policies of the file that was read.
func (s *Set) apply(now look) error {
	s.read = now
	if now.err != nil {
		return now.err
	}
	file, err := parse(now.path, []byte(now.text))
	if err != nil {
		return err
	}
	next, breakers, err := s.build(file)
	if err != nil {
		return err
	}
	s.first.Lock()
	defer s.first.Unlock()
	if err := s.missing(next); err != nil {
		return err
	}
	s.byKey = breakers
	s.live.Store(next)
	return nil
}

// missing returns an error if next lacks a policy that For has returned.
func (s *Set) missing(next *live) error {
	var names []string
	s.asked.Range(func(name, _ any) bool {
		text, _ := name.(string)
		if _, ok := next.policies[text]; !ok {
			names = append(names, text)
		}
		return true
	})
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return fmt.Errorf("%s: policies in use are missing: %s", next.file.path, strings.Join(names, ", "))
}

// build returns the policies of file, and their breakers.
func (s *Set) build(file *File) (*live, map[string]kept, error) {
	all := make([]*Settings, len(file.policies))
	for i, name := range file.Names() {
		var err error
		if all[i], err = file.Settings(name); err != nil {
			return nil, nil, err
		}
	}
	if err := s.open(file); err != nil {
		return nil, nil, err
	}
	next, breakers := &live{file, map[string]prepared{}}, map[string]kept{}
	for i, name := range file.Names() {
		p := all[i].Policy
		if all[i].hasBreaker() {
			var err error
			if p.Breaker, err = s.breaker(breakers, Key(cmp.Or(all[i].Shared, name)), all[i].Breaker); err != nil {
				return nil, nil, fmt.Errorf("%s: policies.%s: %w", file.path, name, err)
			}
		}
		ready, err := s.prepare(name, &p)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: policies.%s, changed by Options.Prepare: %w", file.path, name, err)
		}
		next.policies[name] = ready
	}
	return next, breakers, nil
}

// prepare calls Prepare for p, or returns the old policy of that name if p equals it.
func (s *Set) prepare(name string, p *retry.Policy) (prepared, error) {
	plain, err := json.Marshal(p)
	if err != nil {
		return prepared{}, err
	}
	if l := s.live.Load(); l != nil {
		if was := l.policies[name]; was.Policy != nil && was.breaker == p.Breaker && bytes.Equal(was.plain, plain) {
			return was, nil
		}
	}
	ready := prepared{p, plain, p.Breaker}
	if s.options.Prepare != nil {
		s.options.Prepare(p)
	}
	return ready, p.Validate()
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
	if s.store, err = s.options.Store(using); err == nil && s.store == nil {
		err = setting.Bad(v.Source, using, "a store that Options.Store opens: it returned nil without an error")
	}
	if err != nil {
		return v.atSource(err)
	}
	return nil
}
