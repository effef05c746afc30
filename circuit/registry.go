package circuit

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// A Registry creates breakers on demand, one for each name, for code that does not
// know its keys in advance, as a client does not know its hosts. The zero Registry
// is ready for use, and safe for concurrent use.
//
// Above 1000 breakers, a Registry evicts those that are referenced nowhere else and
// were not requested while at least 1000 others were: healthy ones at once, others
// after an hour, and never while they refuse calls. A later breaker of that name
// starts from scratch, also with its figures; but the state in a Config's Store
// stays there, and a [Memory] keeps all of it.
type Registry struct {
	mu      sync.RWMutex
	entries map[string]*entry // guarded by mu
	sweepAt int               // how many entries there are then; guarded by mu
}

// An entry is a name's breaker.
type entry struct {
	breaker *Breaker              // nil: it is let go; guarded by the Registry's mu, as what follows
	weak    weak.Pointer[Breaker] // to one that is let go, for as long as somebody else holds it
	seen    time.Time             // when it was last found to be used
	used    atomic.Bool           // it has been asked for since
}

const (
	keepAll  = 1000      // a Registry of so many forgets nothing
	keepIdle = time.Hour // how long one is kept that has counted something
)

// Get returns the breaker of that name, made at first use. Asking for it with
// a Config that behaves differently is an error, and so is a Config that is
// not valid: a [*ConfigError]. Config.Observe counts only when it is made.
func (r *Registry) Get(name string, c Config) (*Breaker, error) {
	b := r.known(name)
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

// known returns the breaker of that name, or nil if it is let go, or none.
func (r *Registry) known(name string) *Breaker {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e := r.entries[name]
	if e == nil {
		return nil
	}
	if !e.used.Load() { // all callers write to it once
		e.used.Store(true)
	}
	return e.breaker
}

// add makes the breaker of that name unless another goroutine just has, or
// somebody still holds it.
func (r *Registry) add(name string, c Config) (*Breaker, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[name]
	if e == nil {
		e = new(entry)
	}
	b := e.held()
	if b == nil {
		if b = New(name, c); b.err != nil {
			return nil, b.err
		}
	}
	if len(r.entries) >= max(r.sweepAt, keepAll) {
		r.sweep()
	}
	if r.entries == nil {
		r.entries = make(map[string]*entry)
	}
	e.breaker = b
	e.used.Store(true)
	r.entries[name] = e
	return b, nil
}

// held returns the entry's breaker, or nil if nobody holds it.
func (e *entry) held() *Breaker {
	if e.breaker != nil {
		return e.breaker
	}
	return e.weak.Value()
}

// sweep lets go what need not be kept. As many have come since the last sweep as
// it left, so that it costs little for each. r.mu is held.
func (r *Registry) sweep() {
	now, kept := time.Now(), 0
	for name, e := range r.entries {
		if e.used.Swap(false) {
			e.seen = now
		} else if b := e.breaker; b != nil && (b.isNew() || now.Sub(e.seen) >= keepIdle && !b.refuses()) {
			e.breaker, e.weak = nil, weak.Make(b)
		}
		switch {
		case e.breaker != nil:
			kept++
		case e.weak.Value() == nil:
			delete(r.entries, name)
		}
	}
	r.sweepAt = len(r.entries) + max(kept, keepAll)
}

// isNew reports whether there is nothing to know of b, but for figures and for
// what its budget holds above that of a new one: a rate has given out no turn that is
// to come, and would admit a burst now.
func (b *Breaker) isNew() bool {
	c := b.cell.Load()
	calls, _, _ := b.counts(c)
	balance, on := b.balance()
	return packedState(c.Breaker.Load()).healthy() && calls == 0 && (!on || balance >= Token) && int64(c.Rate[0].Load()) <= b.now()
}

// refuses reports whether b refuses calls now.
func (b *Breaker) refuses() bool { return b.peek() != nil }

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
	all := make([]*Breaker, 0, len(r.entries))
	for _, name := range slices.Sorted(maps.Keys(r.entries)) {
		if b := r.entries[name].held(); b != nil {
			all = append(all, b)
		}
	}
	return all
}
