package fleet

import (
	"context"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// A Server is one connection to the server that stores one record for each key.
// It is safe for concurrent use. The server executes each call atomically.
type Server interface {
	// Run executes the calls, those of one key in their order, and returns a
	// Response for each. If no call succeeds, an error that is neither an
	// [*UnsharedError] nor a [*KeyError] ends the connection.
	Run(ctx context.Context, calls []Call) []Response

	// Subscribe calls changed with the view of each key that changes. It calls
	// subscribed once the subscription is complete, and again after any gap in
	// which changes may have been missed. It returns the error when the
	// connection fails or ctx is done.
	Subscribe(ctx context.Context, subscribed func(), changed func(View)) error

	// Close ends the connection. It may block for a while.
	Close()
}

// A Member identifies one process of a fleet to the server.
type Member struct {
	Process string        // process ID and a random part; owns leases
	Node    string        // host; has one vote
	Alive   time.Duration // how long the node counts as alive after a call
}

// An Op is the operation of a [Call].
type Op uint8

// The operations. Each returns the current view of the key.
const (
	Read        Op = iota
	Trip           // votes to open, for Open, because of Reason; the fleet opens when Quorum nodes have voted; with Gate, the open time elapses at once
	Lease          // requests the fleet's only permission to probe
	Settle         // reports the result of a probe under the lease Token: State, Open, Reason; with Gate, reports without a lease that the service responds
	Release        // returns the lease Token, under which no probe is in flight
	Override       // sets manually, Ago before now: State, Open, Reason
	Restore        // restores what the server has lost: Epoch, Gen, State, Open, Reason, and Ago if Manual
	ShareBudget    // returns surplus tokens, and requests a share of the budget
	Reserve        // reserves instants of the rate
)

// A Call is one request about one key. Fields that its Op does not name are zero.
type Call struct {
	Op  Op
	Key string

	State  circuit.State
	Open   time.Duration // from now until the first probe may be sent
	Reason string        // packed, as in the cell
	Quorum int
	Token  int64 // generation at which the lease was granted
	Gate   bool  // of Trip and Settle: the call reports what a gate has found; see gate.go
	Ago    time.Duration
	Manual bool
	Epoch  string
	Gen    int64
	Lease  LeaseRequest
	Budget BudgetRequest
	Rate   RateRequest
}

// A LeaseRequest requests or extends a lease.
type LeaseRequest struct {
	Length time.Duration
	Used   bool          // a probe is being sent
	Idle   time.Duration // after which an unused lease is no longer extended if another process wants it
	Yield  time.Duration // how long the node whose probe failed last must let other nodes go first
}

// A BudgetRequest returns surplus tokens of a cell and requests more, in the units
// of [cell.Budget].
//
// [cell.Budget]: https://pkg.go.dev/github.com/seed-0f2c7998/perdure/internal/cell#Budget
type BudgetRequest struct {
	Cell     string // the cell's name
	Balance  int64  // tokens in the cell
	Limit    int64  // up to which the cell may hold tokens at present
	Returned int64  // surplus tokens, which Balance does not include
	Ceiling  int64  // of the budget
	Need     int64  // balance that the cell needs; 0 if it needs none
	Phase    string // FirstRequest, LastRequest or ""
}

// A RateRequest requests instants of the rate that the fleet shares.
type RateRequest struct {
	Interval time.Duration // between two instants
	Burst    int
	Count    int           // of instants
	Until    time.Duration // from now, the last instant that is of use
}

// The phases of a cell's share of the budget.
const (
	FirstRequest = "first"
	LastRequest  = "last"
)

// A View is the server's record of one key. Times are durations from now, so the
// clocks of servers and members need not agree.
type View struct {
	Key      string
	Epoch    string // changes when the server has lost its data
	Gen      int64  // grows with each change of state, and with each lease that is granted to another process
	State    circuit.State
	Manual   bool // the state was set manually
	Open     time.Duration
	Reason   string
	Process  string // holder of the lease, "" if no process holds it
	Node     string // host of Process
	Lease    time.Duration
	Override string        // identifies the latest manual override, "" if there has been no override
	Ago      time.Duration // since Override was set

	Budget BudgetGrant // of ShareBudget
	Rate   RateGrant   // of Reserve
}

// A BudgetGrant is the response to a [BudgetRequest], in the same units.
type BudgetGrant struct {
	Granted   int64 `json:"granted"`    // tokens to add to the cell
	Limit     int64 `json:"limit"`      // up to which the cell may hold tokens
	FairShare int64 `json:"fair_share"` // above which the cell returns tokens
	Available int64 `json:"available"`  // tokens that no cell holds
}

// A RateGrant is the response to a [RateRequest]: Count reserved instants, the first
// one From from now. Interval and Burst are the limit in force: the lowest of those
// that members have used lately. With a burst, each call may go earlier than its
// instant by all but one of the burst's intervals, but not before now.
type RateGrant struct {
	From     time.Duration
	Count    int
	Interval time.Duration
	Burst    int
	Nodes    int // that are alive
}

// A Response is the view after a call. If Err is not nil, View is not valid.
type Response struct {
	View View
	Err  error
}

// An UnsharedError reports that the record of a key has another format, which this
// release must leave alone.
type UnsharedError struct{ Err error }

// Error returns the text of Err.
func (e *UnsharedError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *UnsharedError) Unwrap() error { return e.Err }

// A KeyError reports the failure of a call on one key. The call is repeated later,
// on the same connection.
type KeyError struct{ Err error }

// Error returns the text of Err.
func (e *KeyError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *KeyError) Unwrap() error { return e.Err }

// A DeniedError reports that the server has denied access to this member. To
// repeat the call soon is of no use.
type DeniedError struct{ Err error }

// Error returns the text of Err.
func (e *DeniedError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *DeniedError) Unwrap() error { return e.Err }
