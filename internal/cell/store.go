package cell

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/places"
)

// A Ref refers to the cell of one key. A [Store] whose file is replaced changes the
// Ref's cell, so each call loads the cell again.
//
// The mutex is held from before a transition until [Store.Transitioned] has
// returned. Otherwise a remote state applied in between would undo the transition,
// and the Store would report the transition as the later one.
type Ref struct {
	sync.Mutex

	// Anchor is the start of the monotonic clock by which the instants of a cell of
	// this process alone are counted. The zero Time means that the instants are wall
	// time, because other processes share the cell.
	Anchor time.Time

	// Virtual, if not nil, replaces the clocks and the random numbers of the
	// process by those of a simulation.
	Virtual Virtual

	// Places limits the calls in flight of the key.
	Places places.Places

	cell        atomic.Pointer[Cell]
	interrupted atomic.Pointer[chan struct{}] // nil if no call waits
}

// Interrupted returns a channel that the next [Ref.Interrupt] closes.
func (r *Ref) Interrupted() <-chan struct{} {
	for {
		if c := r.interrupted.Load(); c != nil {
			return *c
		}
		c := make(chan struct{})
		r.interrupted.CompareAndSwap(nil, &c)
	}
}

// Interrupt wakes the calls of this process that wait for a place or a turn, because
// the breaker has opened.
func (r *Ref) Interrupt() {
	if c := r.interrupted.Swap(nil); c != nil {
		close(*c)
	}
}

// NewRef returns a Ref to c.
func NewRef(c *Cell) *Ref {
	r := new(Ref)
	r.Set(c)
	return r
}

// Virtual is the clocks and the random numbers of a simulation, so that each run is
// the same. It is not used concurrently.
type Virtual interface {
	// Now returns the wall clock, which the simulation may step.
	Now() time.Time
	// Elapsed returns the monotonic clock.
	Elapsed() time.Duration
	// Float64 returns a random number in [0, 1).
	Float64() float64
}

// Load returns the cell.
func (r *Ref) Load() *Cell { return r.cell.Load() }

// Set makes r refer to c.
func (r *Ref) Set(c *Cell) { r.cell.Store(c) }

// A Store creates and keeps cells. Its methods do not block.
type Store interface {
	// Cell returns the Ref to the cell of key, which is made at first use. It is
	// called when a breaker is made.
	Cell(key string, c Client) *Ref

	// AllowProbe reports whether this process may send a probe of key now, which
	// ends after lease at the latest. It is called when the breaker would admit the
	// probe.
	AllowProbe(key string, lease time.Duration) bool

	// ProbeCancelled is called when a probe of key that this process sent has ended
	// without a result.
	ProbeCancelled(key string)

	// Transitioned is called, in order, with each transition of key's breaker that
	// this process made, except those from a RemoteState. The Ref is locked.
	Transitioned(key string, c Change)

	// BudgetLow is called when the budget of key is too low for a retry.
	BudgetLow(key string)

	// GateShut is called with true when a probe of key's gate has failed, and with
	// false at the first success after that. The Ref is locked.
	GateShut(key string, shut bool, reason uint64)

	// ProbedElsewhere reports whether another host sends the probes of key, so that
	// this host need send few. It is called while the gate of key is shut.
	ProbedElsewhere(key string) bool

	// Schedule returns the schedule of the calls of key, whose rate limit is l; nil
	// if the schedule is in the cell. It is called when a breaker is made.
	Schedule(key string, l Limit) Schedule
}

// A Client is the breaker for which a [Store] makes a cell.
type Client struct {
	// OnRemote applies the state that all who share the breaker have agreed on. A
	// store calls OnRemote on a goroutine of its own.
	OnRemote func(FetchRemote)
	// Ceiling is the ceiling of the breaker's budget, in the units of [Budget]; 0
	// means no budget.
	Ceiling int64
	// Gate is true if the breaker has a gate.
	Gate bool
}

// FetchRemote returns the state to apply, and whether it is still to be applied.
// Client.OnRemote calls it with the Ref locked.
type FetchRemote func() (s RemoteState, due bool)

// A RemoteState is the state that all who share a breaker have agreed on.
type RemoteState struct {
	State          uint8     // a circuit.State; never half-open
	Until          time.Time // of open: when the first probe may be sent, even if that is later than the breaker's own open time
	OnlyIfIsolated bool      // of closed: has an effect only on an isolated breaker

	Manual bool    // set by a person
	Spread float64 // of closed: random, in [0, 1), different on each host; delays the next probe
}

// A Change is one transition of a breaker.
type Change struct {
	From, To uint8     // circuit.States
	Until    time.Time // to open: when the first probe may be sent
	Reason   uint64    // as in the cell
	Manual   bool      // made by Trip, Isolate or Reset
}

// Hosted is implemented by a Store that limits the calls in flight of a key in all
// processes of a host together. Other Stores limit them in each process.
type Hosted interface {
	// Locks returns the places of key, of which this process allows limit; nil if
	// the process must limit its calls itself.
	Locks(key string, limit int) places.Locks
}

// Unshared implements the methods of a Store that has no other hosts to inform,
// except Cell.
type Unshared struct{}

// AllowProbe allows every probe.
func (Unshared) AllowProbe(string, time.Duration) bool { return true }

// ProbeCancelled does nothing.
func (Unshared) ProbeCancelled(string) {}

// Transitioned does nothing.
func (Unshared) Transitioned(string, Change) {}

// BudgetLow does nothing.
func (Unshared) BudgetLow(string) {}

// GateShut does nothing.
func (Unshared) GateShut(string, bool, uint64) {}

// ProbedElsewhere reports false.
func (Unshared) ProbedElsewhere(string) bool { return false }

// Schedule returns nil.
func (Unshared) Schedule(string, Limit) Schedule { return nil }

// Memory is a Store of cells of this process, one for each key. The zero Memory is
// ready for use.
type Memory struct {
	Unshared

	cells sync.Map // of *Ref by key
}

// Cell returns the Ref to the cell of key.
func (m *Memory) Cell(key string, _ Client) *Ref {
	r, ok := m.cells.Load(key)
	if !ok {
		own := NewRef(new(Cell))
		own.Anchor = time.Now()
		r, _ = m.cells.LoadOrStore(key, own)
	}
	return r.(*Ref) //nolint:errcheck // nothing else is stored
}

// Sealed hides a [Store]: a circuit.Store has no exported methods, and users cannot
// implement it.
type Sealed interface{ sealed() Store }

// Unseal returns the hidden Store.
func Unseal(s Sealed) Store { return s.sealed() }

// A Seal makes the type that embeds it [Sealed]. Set it with [Hide] before the
// first use.
type Seal struct{ store Store }

// Hide returns a Seal with s.
func Hide(s Store) Seal { return Seal{s} }

func (s *Seal) sealed() Store { return s.store }

// A SealedMemory makes the type that embeds it a [Sealed] [Memory]. Its zero value is
// ready for use.
type SealedMemory struct{ memory Memory }

func (s *SealedMemory) sealed() Store { return &s.memory }
