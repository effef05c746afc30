package fleet

import (
	"context"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// A Server keeps one record for each key, and is what the members of a fleet
// have in common. It makes each call by itself, as if at one instant. A Server is
// one connection, safe for concurrent use.
type Server interface {
	// Run makes the calls, those of one key in their order, and returns an Answer
	// to each. An error that is neither an [*UnsharedError] nor a [*KeyError] ends
	// the connection, if no call was answered.
	Run(ctx context.Context, calls []Call) []Answer

	// Subscribe calls changed with the view of each key that changes, until the
	// connection fails or ctx ends, which is the error. It calls subscribed when
	// no later change is missed, and again if some may have been.
	Subscribe(ctx context.Context, subscribed func(), changed func(View)) error

	// Close ends the connection. It may take a while.
	Close()
}

// A Member is one process of a fleet, as the Server knows it.
type Member struct {
	Process string        // its ID, and at random: leases belong to it
	Node    string        // its host: votes belong to it
	Alive   time.Duration // for which the node counts as alive after a call
}

// An Op is what a [Call] asks for.
type Op uint8

// The ops. Each brings the present view of the key.
const (
	Read     Op = iota
	Trip        // a vote to open, for Open, because of Reason; the fleet opens when Quorum nodes agree; by Gate, with its time up at once
	Lease       // asks for the only permission to probe
	Settle      // the result of a probe under the lease Token: State, Open, Reason; by Gate, without a lease, that the service answers
	Release     // gives back the lease Token, under which no probe is out
	Override    // what a person wanted Ago: State, Open, Reason
	Restore     // what a server that has lost it knew: Epoch, Gen, State, Open, Reason, and Ago if Manual
	Visit       // returns and borrows a part of the budget
	Reserve     // reserves instants of the rate
)

// A Call asks the Server for something about one key. Fields that its Op does not
// name are zero.
type Call struct {
	Op  Op
	Key string

	State  circuit.State
	Open   time.Duration // from now until the first probe may go
	Reason string        // packed, as in the cell
	Quorum int
	Token  int64 // the generation at which a lease was taken
	Gate   bool  // of Trip and Settle: what a gate has found; see package fleet
	Ago    time.Duration
	Manual bool
	Epoch  string
	Gen    int64
	Lease  Term
	Budget Deposit
	Rate   Ration
}

// A Term is the terms of a lease.
type Term struct {
	Length time.Duration
	Used   bool          // a probe is being sent
	Idle   time.Duration // after which a lease that is not used gives way to another process
	Yield  time.Duration // by which the node whose probe failed last lets others go first
}

// A Deposit is what a cell has of the budget, in the units of [cell.Budget].
//
// [cell.Budget]: https://pkg.go.dev/github.com/seed-0f2c7998/perdure/internal/cell#Budget
type Deposit struct {
	Cell                       string
	Holds, May, Given, Ceiling int64
	Need                       int64
	How                        string // FirstVisit, LastVisit or ""
}

// A Ration is what a process wants of the rate that the fleet shares.
type Ration struct {
	Interval time.Duration // between two instants
	Burst    int
	Count    int           // of instants
	Until    time.Duration // from now, the last one that is wanted
}

// How a cell visits the budget.
const (
	FirstVisit = "new"
	LastVisit  = "ends"
)

// A View is what the Server knows of one key. Times are what remains of them, so
// the clocks of servers and members do not matter.
type View struct {
	Key     string
	Epoch   string // another one: the server has lost what it knew
	Gen     int64  // grows with each change of state and each lease that goes to another process
	State   circuit.State
	Manual  bool // a person has set the state
	Open    time.Duration
	Reason  string
	Process string // who holds the lease, "" for nobody
	Node    string // the host of that
	Lease   time.Duration
	Set     string        // names what a person last set, "" for nothing
	Ago     time.Duration // since that

	Loan  Loan  // of a Visit
	Grant Grant // of a Reserve
}

// A Loan is the answer to a visit, in the units of [cell.Budget].
//
// [cell.Budget]: https://pkg.go.dev/github.com/seed-0f2c7998/perdure/internal/cell#Budget
type Loan struct {
	Lent  int64 `json:"lent"`  // now, besides what the cell held
	Limit int64 `json:"limit"` // up to which it may hold any
	Fair  int64 `json:"fair"`  // above which it hands in what it holds
	Left  int64 `json:"left"`  // what is not lent to anybody
}

// A Grant is the instants that are reserved: Count of them, the first one From from
// now, of the limit that holds: the lowest of those that members have used lately.
// A burst lets each go as much earlier as all but one call of it take, though not before
// now.
type Grant struct {
	From     time.Duration
	Count    int
	Interval time.Duration
	Burst    int
	Nodes    int // that are alive
}

// An Answer is the view after a call, or why there is none.
type Answer struct {
	View View
	Err  error
}

// An UnsharedError is about a key whose record this release must leave alone.
type UnsharedError struct{ Err error }

// Error is that of Err.
func (e *UnsharedError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *UnsharedError) Unwrap() error { return e.Err }

// A KeyError is about one key, which is tried again; a new connection would not
// mend it.
type KeyError struct{ Err error }

// Error is that of Err.
func (e *KeyError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *KeyError) Unwrap() error { return e.Err }

// A DeniedError is a server's refusal of this member, which helps nobody to
// repeat soon.
type DeniedError struct{ Err error }

// Error is that of Err.
func (e *DeniedError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *DeniedError) Unwrap() error { return e.Err }
