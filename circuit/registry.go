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

// A Registry creates breakers on demand by name, for code that does not know its keys in
// advance, as a client does not know its hosts. The zero Registry is ready for use, and
// safe for concurrent use.
//
// Above 1000 breakers, a Registry evicts breakers that are referenced nowhere else and were
// not requested while at least 1000 others were: healthy breakers at once, others after an
// hour, and never while they refuse calls. If an evicted name is requested again, a new
// breaker with new metrics is made; its state in Config.Store is still there. A [Memory]
// never evicts.
type Registry struct {
	mu      sync.RWMutex
	entries map[string]*entry // guarded by mu
	sweepAt int               // number of entries at which the next sweep runs; guarded by mu
}

// An entry is the breaker of one name.
type entry struct {
	breaker *Breaker              // nil if evicted; guarded by the Registry's mu, as are weak and seen
	weak    weak.Pointer[Breaker] // to an evicted breaker that is referenced elsewhere
	seen    time.Time             // when a sweep last found that it had been requested
	used    atomic.Bool           // requested since the last sweep
}

const (
	keepAll  = 1000      // up to so many breakers, none is evicted
	keepIdle = time.Hour // how long an idle breaker that is not new is kept
)

// Get returns the breaker of that name, which is made at first use. If the breaker was made
// with a Config that behaves differently, or c is not valid, Get returns an error that
// wraps a [*ConfigError]. Config.Observe and Config.Log count only at first use.
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

// known returns the breaker of that name, or nil if it was evicted or never made.
func (r *Registry) known(name string) *Breaker {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e := r.entries[name]
	if e == nil {
		return nil
	}
	if !e.used.Load() { // write once per sweep
		e.used.Store(true)
	}
	return e.breaker
}

// add makes the breaker of that name, unless another goroutine has just made it or an
// evicted one is still referenced.
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

// held returns the entry's breaker, or nil if it is no longer referenced.
func (e *entry) held() *Breaker {
	if e.breaker != nil {
		return e.breaker
	}
	return e.weak.Value()
}

// sweep evicts breakers. The next sweep runs when as many entries were added as this one
// kept, at least 1000, so its cost per entry is small. r.mu is held.
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

// isNew reports whether b behaves like a new breaker: it has no evidence, its budget is not
// below the start, and its rate would admit a full burst.
func (b *Breaker) isNew() bool {
	c := b.cell.Load()
	calls, _, _ := b.counts(c)
	balance, on := b.balance()
	return packedState(c.Breaker.Load()).healthy() && calls == 0 && (!on || balance >= Token) && int64(c.Rate[0].Load()) <= b.now()
}

// refuses reports whether b refuses calls now.
func (b *Breaker) refuses() bool { return b.peek() != nil }

// conflict returns the error that names the first setting of c that differs from that of b.
func (b *Breaker) conflict(c Config) error {
	first, second := b.config.filled(), c.filled()
	err := setting.Differ(fields(), &first, &second)
	if err == nil {
		err = setting.Bad("store", "another store", "the store of the first use of this name")
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
