// Package meter counts what operations do, for package metrics. Package retry and the
// clients' adapters count here, so that the core does not import net/http.
package meter

import (
	"cmp"
	"maps"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"
	"unsafe"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/redact"
)

// A Sealed is a *metrics.Registry: only a type with a [Handle] implements it.
type Sealed interface{ core() *Core }

// A Handle makes the type that embeds it Sealed.
type Handle struct{ counters Core }

func (h *Handle) core() *Core { return &h.counters }

// Of returns the Core of s, which must not be nil.
func Of(s Sealed) *Core { return s.core() }

const (
	maxSeries = 1000 // pairs of operation and key; what comes later is counted as Other
	maxNames  = 2000 // pairs of names as they are passed, with secrets
	maxName   = 1000 // bytes of both names together; longer ones are counted as Other
	maxLabel  = 200  // bytes of a label's value
	slots     = 256  // a power of two
)

// Other is the operation, and the key, of all pairs that come after the first 1000.
const Other = "other"

// A Core holds the series of one registry. The zero Core is empty and ready for use. It
// is safe for concurrent use.
type Core struct {
	cache [slots]atomic.Pointer[entry] // by the address of the policy

	mu       sync.RWMutex
	names    map[labels]*atomic.Pointer[entry] // guarded by mu, as are the following
	series   map[labels]*Series
	breakers map[string]*circuit.Breaker // those that count; the last of each name
	other    Series
}

// labels is an operation and a key.
type labels struct{ operation, key string }

// An entry is the series of a policy with that name and breaker.
type entry struct {
	name    string
	breaker *circuit.Breaker
	series  *Series
	shown   labels
}

// For returns the series in s for the policy p, which has that name and breaker; nil if s
// is nil, or a nil registry. The common case takes no lock and allocates nothing.
func For[P any](s Sealed, p *P, name string, b *circuit.Breaker) *Series {
	if s == nil || reflect.ValueOf(s).IsNil() {
		return nil
	}
	c := s.core()
	slot := &c.cache[uintptr(unsafe.Pointer(p))>>6%slots] //nolint:gosec // only the address: a policy is used again and again
	if e := slot.Load(); e != nil && e.breaker == b && e.name == name {
		return e.series
	}
	return c.find(slot, name, b)
}

// find is For for a policy that is not in the cache.
func (c *Core) find(slot *atomic.Pointer[entry], name string, b *circuit.Breaker) *Series {
	at := c.at(labels{name, b.Name()}, b)
	if at == nil {
		return &c.other
	}
	e := at.Load()
	if e.breaker != b {
		e = &entry{e.name, b, e.series, e.shown}
		at.Store(e)
		c.Watch(b)
	}
	slot.Store(e)
	return e.series
}

// at returns the entry of the names in known; nil if they are too long or too many.
func (c *Core) at(known labels, b *circuit.Breaker) *atomic.Pointer[entry] {
	if len(known.operation)+len(known.key) > maxName {
		return nil
	}
	c.mu.RLock()
	at := c.names[known]
	full := at == nil && len(c.names) >= maxNames
	c.mu.RUnlock()
	if at == nil && !full {
		at = c.add(known, b)
	}
	return at
}

// Labels returns the labels under which s counts the operation and the key: [Other] for both after the first 1000 pairs.
func Labels(s Sealed, operation, key string) (shownOperation, shownKey string) {
	at := s.core().at(labels{operation, key}, nil)
	if at == nil {
		return Other, Other
	}
	shown := at.Load().shown
	return shown.operation, shown.key
}

// add makes the entry of the names in known.
func (c *Core) add(known labels, b *circuit.Breaker) *atomic.Pointer[entry] {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := c.names[known]; at != nil {
		return at // another goroutine was faster
	}
	if c.names == nil {
		c.names, c.series = make(map[labels]*atomic.Pointer[entry]), make(map[labels]*Series)
	}
	shown := labels{cmp.Or(Label(known.operation), "operation"), Label(known.key)}
	s := c.series[shown]
	switch {
	case s != nil:
	case shown == labels{Other, Other}, len(c.series) >= maxSeries:
		s, shown = &c.other, labels{Other, Other}
	default:
		s = new(Series)
		c.series[shown] = s
	}
	c.watchLocked(b)
	at := new(atomic.Pointer[entry])
	name := strings.Clone(known.operation) // which may be a part of a long text
	at.Store(&entry{name, b, s, shown})
	c.names[labels{name, known.key}] = at
	return at
}

// Watch adds b to the breakers that are shown.
func (c *Core) Watch(b *circuit.Breaker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watchLocked(b)
}

// watchLocked is Watch. c.mu is held.
func (c *Core) watchLocked(b *circuit.Breaker) {
	if b == nil || len(b.Name()) > maxName {
		return
	}
	key := Label(b.Name())
	if _, known := c.breakers[key]; !known && len(c.breakers) >= maxSeries {
		return
	}
	if c.breakers == nil {
		c.breakers = make(map[string]*circuit.Breaker)
	}
	c.breakers[key] = b
}

// Each calls f with each series, in no order. The series of [Other] comes only if it has
// counted something.
func (c *Core) Each(f func(operation, key string, s *Series)) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for l, s := range c.series {
		f(l.operation, l.key, s)
	}
	if n := c.other.total(); n > 0 {
		f(Other, Other, &c.other)
	}
}

// Breakers returns the breakers that are shown, by name.
func (c *Core) Breakers() map[string]*circuit.Breaker {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return maps.Clone(c.breakers)
}

// Label returns s as the value of a label: without secrets, valid UTF-8, at most 200
// bytes.
func Label(s string) string {
	s = strings.ToValidUTF8(redact.String(s), string(utf8.RuneError))
	if len(s) > maxLabel {
		s = strings.ToValidUTF8(s[:maxLabel], "")
	}
	return strings.Clone(s)
}
