package cell

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/places"
)

// A Ref leads to the cell of one key. A [Store] whose memory is taken away lets
// it lead elsewhere, so its users load it anew for each call.
//
// Its mutex is held from before the state of the breaker changes until the Store
// has been told. If an order of the fleet came in between, it would undo a change
// of which nobody knows, and the Store would take that one for the latest.
type Ref struct {
	sync.Mutex

	// Anchor is the instant from which the cell's instants are counted by the
	// monotonic clock: the cell is this process's own. The zero Time means that
	// they are wall time, as all who share the cell can read it.
	Anchor time.Time

	// Virtual, if not nil, is the time and the chance of a simulation, which
	// the users of the cell then take in the place of the process's own.
	Virtual Virtual

	// Places are those that calls of the key hold while they are in flight.
	Places places.Places

	cell        atomic.Pointer[Cell]
	interrupted atomic.Pointer[chan struct{}] // nil: no call waits
}

// Interrupted returns a channel that is closed by the next [Ref.Interrupt].
func (r *Ref) Interrupted() <-chan struct{} {
	for {
		if shuts := r.interrupted.Load(); shuts != nil {
			return *shuts
		}
		shuts := make(chan struct{})
		r.interrupted.CompareAndSwap(nil, &shuts)
	}
}

// Interrupt has the calls of this process that wait for a place or a turn ask again whether
// the breaker admits them: it has shut.
func (r *Ref) Interrupt() {
	if shuts := r.interrupted.Swap(nil); shuts != nil {
		close(*shuts)
	}
}

// NewRef returns a Ref that leads to c.
func NewRef(c *Cell) *Ref {
	r := new(Ref)
	r.Set(c)
	return r
}

// Virtual is the time and the chance of a simulation, so that a run of it is the
// same each time. It is not used concurrently.
type Virtual interface {
	// Now returns the wall clock, which may be set while the simulation runs.
	Now() time.Time
	// Elapsed returns a time of which only differences mean anything, and which
	// nobody can set.
	Elapsed() time.Duration
	// Float64 returns a random number in [0, 1).
	Float64() float64
}

// Load returns the cell.
func (r *Ref) Load() *Cell { return r.cell.Load() }

// Set makes r lead to c.
func (r *Ref) Set(c *Cell) { r.cell.Store(c) }

// A Store is where cells live. Its methods do not block.
type Store interface {
	// Cell returns the way to the cell of key, made at first use. It is called
	// when a breaker is made, not on its calls.
	Cell(key string, u Client) *Ref

	// AllowProbe reports whether this process may send a probe of key now, and keep
	// its place until lease is over. It is asked when the breaker would let
	// one pass.
	AllowProbe(key string, lease time.Duration) bool

	// ProbeCancelled is told that a probe of key which this process has sent has ended
	// without a result.
	ProbeCancelled(key string)

	// Transitioned is told of each transition of key's breaker that this process
	// has made, in their order, unless it was an Order. The Ref is locked.
	Transitioned(key string, c Change)

	// BudgetLow is told when the budget of key does not pay for a retry any more.
	BudgetLow(key string)

	// GateShut is told whether nothing gets through the gate of key: when a probe has
	// failed, and at the first success after that. The Ref is locked.
	GateShut(key string, nothing bool, reason uint64)

	// ProbedElsewhere reports whether another host sends the probes of key, so that this one
	// need send few. It is asked while nothing gets through the gate of key.
	ProbedElsewhere(key string) bool

	// Schedule returns the schedule of the calls of key, which have the rate l; nil
	// if that is in its cell. It is called when a breaker is made.
	Schedule(key string, l Limit) Schedule
}

// A Client is the breaker that asks a [Store] for its cell.
type Client struct {
	// OnRemote sets the state that all who share the breaker have agreed on. A
	// store that learns of it calls OnRemote on a goroutine of its own.
	OnRemote func(FetchRemote)
	// Ceiling is that of the breaker's budget, in the units of [Budget]; 0: it
	// has none.
	Ceiling int64
	// Gate says that the breaker has a gate.
	Gate bool
}

// An FetchRemote is the question for an Order, if there is still one, which Obey puts
// when it has locked the Ref.
type FetchRemote func() (o RemoteState, due bool)

// An RemoteState is the state that all who share a breaker have agreed on.
type RemoteState struct {
	State          uint8     // as package circuit numbers them; never half-open
	Until          time.Time // of open: when the first probe may go, also if that is later than by the breaker's own open times
	OnlyIfIsolated bool      // of closed: it concerns only what is isolated

	Manual bool    // a person has set it
	Spread float64 // in [0, 1), another for each host: of closed, when the next probe goes
}

// A Change is one transition of a breaker.
type Change struct {
	From, To uint8
	Until    time.Time // to open: when the first probe may go
	Reason   uint64    // as in the cell
	Manual   bool      // somebody called Trip, Isolate or Reset
}

// Hosted is what a Store can have besides: then the calls in flight of a key are
// limited in all processes of a host together, and else in each process.
type Hosted interface {
	// Locks returns the places of key, of which this process allows limit; nil
	// if it must limit its calls by itself.
	Locks(key string, limit int) places.Locks
}

// Unshared is what a Store does of which nobody else has to be told: everybody
// concerned reads the same words.
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

// Memory is a Store whose cells are the process's own; one key has one cell
// in each Memory. The zero Memory is ready for use.
type Memory struct {
	Unshared

	cells sync.Map // of *Ref by key
}

// Cell returns the way to the cell of key.
func (m *Memory) Cell(key string, _ Client) *Ref {
	r, ok := m.cells.Load(key)
	if !ok {
		own := NewRef(new(Cell))
		own.Anchor = time.Now()
		r, _ = m.cells.LoadOrStore(key, own)
	}
	return r.(*Ref) //nolint:errcheck // nothing else is stored
}
