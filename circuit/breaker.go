// Package circuit stops calls that would fail: a circuit breaker, and beside
// it, because it shares the breaker's fate and memory, a retry budget and the
// instant before which a server asked not to be called.
//
//	     failures reach a rule                recovery timeout is over
//	closed ────────────────────▶ open ◀────────────────▶ half-open
//	   ▲                                  a probe failed      │
//	   └──────────────────────────────────────────────────────┘
//	                    enough probes succeeded
//
// A healthy breaker costs a call one atomic load. All that a breaker can do is
// one pure function, in step.go; breaker.go applies it.
package circuit

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// A Store is where the state of breakers lives: nil is the memory of one
// breaker, [Memory] that of one process; the packages hoststore and redisstore
// have one for all processes of a host and of a fleet.
type Store = cell.Store

// Memory is a [Store] in which breakers of one name share their state within
// the process. Its zero value is ready for use.
type Memory = cell.Memory

// A Breaker guards calls that share a fate. Make it with [New], once for each
// thing that can fail as a whole; a nil *Breaker admits everything.
//
// Ask with [Breaker.Acquire] before each call and tell the [Permit] how it
// went, or let [Breaker.Do] or package retry do so. [Breaker.Allow],
// [Breaker.RecordSuccess] and [Breaker.RecordFailure] are the same for code
// that keeps no permit.
//
// A Breaker is safe for concurrent use, and no method blocks. Transitions are
// reported to Config.Observe on the goroutine whose call made them, under no
// lock, so it may use the breaker.
type Breaker struct {
	cell    *cell.Ref
	rules   rules
	window  window
	ceiling Tokens // of the budget; 0: none
	full    int64  // the level of the budget from which a success has nothing to record, see unmoved

	name   string
	config Config // as it was given
	err    error  // what is wrong with it
	store  Store  // never nil
}

// New returns the breaker of that name. It never fails: a Config that is not
// valid makes a breaker that admits nothing, whose Err and Acquire say why.
func New(name string, c Config) *Breaker {
	b := &Breaker{name: name, config: c, store: c.Store, err: c.Validate()}
	if b.store == nil || b.err != nil {
		b.store = new(Memory)
	}
	made := make(chan struct{}) // a store may have an order at once
	defer close(made)
	if b.err == nil {
		b.ceiling = Tokens(c.Budget * float64(Token))
	}
	b.cell = b.store.Cell(name, cell.User{Obey: func(agreed cell.Ask) { <-made; b.obey(agreed) }, Ceiling: int64(b.ceiling)})
	if b.err != nil {
		b.cell.Load().Breaker.Store(uint64(word(0).next(Isolated)))
		return b
	}
	c = c.filled()
	b.rules, b.window = c.rules(), c.newWindow()
	switch {
	case b.window.length > 0:
		b.full = math.MaxInt64 // every call is recorded
	case b.ceiling == 0:
		b.full = math.MinInt64
	default:
		b.full = cell.Level(int64(b.ceiling))
	}
	return b
}

// Name returns the breaker's name.
func (b *Breaker) Name() string {
	if b == nil {
		return ""
	}
	return b.name
}

// Err returns what is wrong with the breaker's Config, a [*ConfigError], or nil.
func (b *Breaker) Err() error {
	if b == nil {
		return nil
	}
	return b.err
}

// Trip opens a closed or half-open breaker, as its rules would.
func (b *Breaker) Trip() { b.apply(event{signal: trip}) }

// Isolate refuses all calls until Reset, even if ObserveOnly is set.
func (b *Breaker) Isolate() { b.apply(event{signal: isolate}) }

// Reset closes the breaker, and forgets its evidence, its budget's balance and
// its not-before instant.
func (b *Breaker) Reset() {
	if b == nil || b.err != nil {
		return
	}
	b.cell.Load().Release()
	b.cell.Load().Budget.Reset()
	b.window.clear(b.cell.Load())
	b.cell.Load().SetByHand(time.Now(), uint8(Closed)) // which counts even if it is closed
	b.apply(event{signal: reset})
}

// HoldUntil sets the instant before which the service asked not to be called.
// An earlier one than is set changes nothing. It is kept for three days at most.
func (b *Breaker) HoldUntil(t time.Time) {
	if b != nil {
		b.cell.Load().Hold(time.Now(), t)
		b.store.Held(b.name, t)
	}
}

// NotBefore returns the instant before which the service must not be called,
// or the zero Time. Acquire does not look at it: whether to wait for it or to
// give up is the caller's choice, which package retry makes.
func (b *Breaker) NotBefore() time.Time {
	if b == nil {
		return time.Time{}
	}
	return b.cell.Load().Held()
}

// Peek returns the refusal that a breaker which is open or isolated has for a
// call, and nil for one that would let it pass or, half-open, might. It
// acquires nothing.
func (b *Breaker) Peek() *OpenError {
	if b == nil {
		return nil
	}
	w := word(b.cell.Load().Breaker.Load())
	if w.state() != Open && w.state() != Isolated {
		return nil
	}
	now := floor(time.Now())
	if w.state() == Open && (b.config.ObserveOnly || w.ahead(now, b.rules.openLimit) <= 0) {
		return nil
	}
	return b.refusal(w, now)
}

// State returns what the breaker would do with a call now: an open one whose
// time is up is half-open.
func (b *Breaker) State() State {
	if b == nil {
		return Closed
	}
	w := word(b.cell.Load().Breaker.Load())
	if s := w.state(); s != Open || w.ahead(floor(time.Now()), b.rules.openLimit) > 0 {
		return s
	}
	return HalfOpen
}

// apply makes the step for e, and returns the word that it led to.
func (b *Breaker) apply(e event) (word, bool) { return b.applyFor(e, Reason{}) }

// applyFor is apply with the reason of a verdict.
func (b *Breaker) applyFor(e event, why Reason) (word, bool) {
	if b == nil || b.err != nil {
		return 0, false
	}
	for {
		m := b.plan(e)
		if m.next == m.old {
			return m.old, m.admitted
		}
		if m.admitted && m.next.state() == HalfOpen && !b.store.Grant(b.name, time.Duration(b.rules.lease)*time.Millisecond) {
			return m.old, false
		}
		if b.make(m, why) {
			return m.next, m.admitted
		}
	}
}

// A move is a step that a breaker is about to make.
type move struct {
	cell      *cell.Cell
	signal    signal
	old, next word
	admitted  bool
	now       time.Time
}

// plan returns the step for e.
func (b *Breaker) plan(e event) move {
	// The word comes first: read the other way round, another goroutine may
	// set an instant in between that seems to lie too far ahead.
	m := move{cell: b.cell.Load(), signal: e.signal}
	m.old = word(m.cell.Breaker.Load())
	m.now = time.Now()
	if b.window.length > 0 {
		align(m.now)
	}
	e.now, e.begin, e.u = floor(m.now), ceil(m.now), rand.Float64()
	m.next, m.admitted = b.rules.step(m.old, e)
	return m
}

// swap puts the word after m in the place of the one before it, if that is
// still there.
func (m *move) swap() bool { return m.cell.Breaker.CompareAndSwap(uint64(m.old), uint64(m.next)) }

// turns reports whether m changes the state.
func (m *move) turns() bool { return m.old.state() != m.next.state() }

// make makes m, unless the word has changed since, and does what follows from it.
func (b *Breaker) make(m move, why Reason) bool {
	var t Transition
	made := false
	if m.turns() {
		t, made = b.turn(m, why)
	} else {
		made = m.swap()
	}
	switch {
	case !made:
		return false
	case m.signal == acquire && m.next.state() == HalfOpen:
		signs(m.cell, m.next)
	case m.signal == cancel:
		b.store.Dropped(b.name)
	}
	if m.turns() {
		b.report(t)
	}
	return true
}

// turn makes m, which changes the state, and tells the store, before another
// change can be made here.
func (b *Breaker) turn(m move, why Reason) (t Transition, made bool) {
	b.cell.Lock()
	defer b.cell.Unlock()
	if made = m.swap(); made {
		t = b.changed(m, why)
	}
	return t, made
}

// obey puts the breaker in the state that those who share it have agreed on.
func (b *Breaker) obey(agreed cell.Ask) {
	if t, changed := b.obeyed(agreed); changed {
		b.report(t)
	}
}

// obeyed is obey without the report, for which nothing may be locked.
func (b *Breaker) obeyed(agreed cell.Ask) (t Transition, changed bool) {
	b.cell.Lock()
	defer b.cell.Unlock()
	o, due := agreed()
	for due {
		m := b.plan(event{signal: told, state: State(o.State), until: ceil(o.Until), mild: o.Mild})
		if due = !m.swap(); !due && m.turns() {
			return b.changed(m, Reason{code: Agreed}), true
		}
	}
	return t, false
}

// changed does what follows from a change of state, which was made.
func (b *Breaker) changed(m move, why Reason) Transition {
	c, from, to := m.cell, m.old.state(), m.next.state()
	if why.code == Unknown {
		why = reason(&b.rules, m.old, m.signal)
	}
	c.Since.Store(m.now.UnixNano())
	c.Reason.Store(why.pack())
	if why.code == ByHand {
		c.SetByHand(m.now, uint8(to))
	}
	switch to {
	case Open:
		c.Trips.Add(1)
	case Closed:
		b.window.clear(c)
	case HalfOpen, Isolated:
	}
	t := Transition{Name: b.name, From: from, To: to, Reason: why, At: m.now, ObserveOnly: b.config.ObserveOnly}
	if to == Open {
		t.RetryAt = b.refusal(m.next, floor(m.now)).RetryAt
	}
	if m.signal != told {
		b.store.Changed(b.name, cell.Change{
			From: uint8(from), To: uint8(to), Until: b.end(m.next, floor(m.now)), Reason: why.pack(), ByHand: why.code == ByHand,
		})
	}
	return t
}
