package circuit

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// A Registry holds one breaker for each name: for code that meets its keys as
// it goes, as a client does with hosts. The zero Registry is ready for use, and
// safe for concurrent use.
type Registry struct {
	mu       sync.RWMutex
	breakers map[string]*Breaker // guarded by mu
}

// Get returns the breaker of that name, made at first use. Asking for it with
// a Config that behaves differently is an error, and so is a Config that is
// not valid: a [*ConfigError]. Config.Observe counts only when it is made.
func (r *Registry) Get(name string, c Config) (*Breaker, error) {
	r.mu.RLock()
	b := r.breakers[name]
	r.mu.RUnlock()
	if b == nil {
		var err error
		if b, err = r.add(name, c); err != nil {
			return nil, err
		}
	}
	if !b.config.same(c) {
		return nil, b.conflict(c)
	}
	return b, nil
}

// add makes the breaker of that name unless another goroutine just has.
func (r *Registry) add(name string, c Config) (*Breaker, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b := r.breakers[name]; b != nil {
		return b, nil
	}
	b := New(name, c)
	if b.err != nil {
		return nil, b.err
	}
	if r.breakers == nil {
		r.breakers = make(map[string]*Breaker)
	}
	r.breakers[name] = b
	return b, nil
}

// conflict says what in c is not as in the breaker of that name.
func (b *Breaker) conflict(c Config) error {
	first, second := b.config.filled(), c.filled()
	err := setting.Differ(fields(), &first, &second)
	if err == nil {
		err = setting.Bad("store", "another", "the one of its first use")
	}
	return fmt.Errorf("circuit breaker %q: %w", b.name, err)
}

// All returns the breakers, sorted by name.
func (r *Registry) All() []*Breaker {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]*Breaker, 0, len(r.breakers))
	for _, name := range slices.Sorted(maps.Keys(r.breakers)) {
		all = append(all, r.breakers[name])
	}
	return all
}
