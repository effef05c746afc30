package seam

import (
	"context"
	"time"
)

// Circuit is what package circuit does for this module's own packages, where B is
// a *circuit.Breaker, which may be nil, P a circuit.Permit, E a *circuit.OpenError
// and T circuit.Tokens. Package breakers says what each function does.
type Circuit[B, P, E, T any] struct {
	Begin        func(B, context.Context) (context.Context, P, error)
	BeginAttempt func(B, context.Context, Ask) (context.Context, P, error)
	AtGate       func(P) (limited, asProbe bool)
	Refuse       func(B, context.Context) E
	Refused      func(B) uint64
	Peek         func(B) E
	Invalid      func(B) error
	Nested       func(ctx, from context.Context) (context.Context, bool)
	Guarded      func(P) bool
	KeepPlace    func(b B, ctx, until context.Context) (free func())

	Balance  func(B) (T, bool)
	Withdraw func(B, T) bool
	Refund   func(B, T)

	Permit  func(b B, word uint64) P
	Succeed func(P, context.Context)
	Record  func(P, context.Context, Result)
}

// A Result is how a call ended that has failed.
type Result struct {
	Err   error
	Class uint8         // of Err, as package class numbers them
	Hint  time.Duration // the wait that Err asks for
	Limit time.Duration // the longest that the caller would wait
	Late  bool          // the caller's deadline has passed

	Took     time.Duration // by the attempt; 0 means not known
	TimedOut bool          // the attempt's own timeout ended it
}

// An Ask is what an attempt asks of a gate.
type Ask struct {
	Retries bool      // it is not the first of its operation
	Timeout bool      // it has a timeout of its own
	Until   time.Time // its caller waits no longer; zero means as long as the context says
	Made    int       // attempts that the operation has made
	Queued  Queued    // told of a wait; nil: nobody is
}

// Queued is told, on the goroutine that waits, that a wait begins for the next attempt
// of an operation that has made so many: for a rate until turn, or, if that is zero, at
// a gate. first is true for one of many: of this process, the first since the gate was
// limited, or the first in a minute that waits for the rate for a second or more.
type Queued interface {
	Queued(ctx context.Context, made int, first bool, turn time.Time)
}

// Retry is what package retry does for this module's own packages, where P is a
// *retry.Policy and M a circuit.Permit. Package calls says what each function does.
type Retry[P, M any] struct {
	Begin    func(context.Context, P) (Call, error)
	Continue func(ctx context.Context, p P, permit M, start time.Time, err error, f func(context.Context) error) error
}

// A Call is one operation on its way through the loop, for a loop that is not
// package retry's own, such as that of another client: before each attempt call
// Admit, and after it one of Succeeded, Failed and Cancel. The one that owns the
// loop waits. A Call is not for concurrent use.
type Call interface {
	// BeganAt records when the first attempt began, if that was before Begin.
	BeganAt(start time.Time)
	// Admit asks whether the next attempt may be made: it returns nil, or the
	// error with which the operation ends.
	Admit(ctx context.Context) error
	// Attempt returns the number of the attempt that was last admitted, from 1.
	Attempt() int
	// Context returns the context for the attempt that was last admitted, of an
	// operation whose own is ctx: by it a layer further in that has the same
	// Breaker knows that it need not ask.
	Context(ctx context.Context) context.Context
	// Succeeded records that the attempt succeeded.
	Succeeded(ctx context.Context)
	// Failed records that the attempt failed with err, and decides: it returns how
	// long to wait before the next, or the error with which the operation ends.
	Failed(ctx context.Context, err error) (time.Duration, error)
	// Cancel records that the attempt has no result: it counts for nothing. After
	// Succeeded or Failed it does nothing.
	Cancel()
}

var circuitFace, retryFace any //nolint:gochecknoglobals // set once, as the packages are initialized

// OfferCircuit is called by package circuit.
func OfferCircuit[B, P, E, T any](c Circuit[B, P, E, T]) { circuitFace = c }

// TakeCircuit returns what package circuit has offered, for a package that imports it.
func TakeCircuit[B, P, E, T any]() Circuit[B, P, E, T] {
	return circuitFace.(Circuit[B, P, E, T]) //nolint:errcheck // else the program does not start
}

// OfferRetry is called by package retry.
func OfferRetry[P, M any](r Retry[P, M]) { retryFace = r }

// TakeRetry returns what package retry has offered, for a package that imports it.
func TakeRetry[P, M any]() Retry[P, M] {
	return retryFace.(Retry[P, M]) //nolint:errcheck // else the program does not start
}
