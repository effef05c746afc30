// Package seam connects the packages of this module where their users must not see the
// connection. Package circuit and package retry register functions here, for the
// clients' adapters, the simulator and each other. The packages breakers and calls give
// these functions their types.
package seam

import (
	"context"
	"time"
)

// Circuit holds the functions of package circuit for this module's own packages, where
// B is a *circuit.Breaker, which may be nil, P a circuit.Permit, E a *circuit.OpenError
// and T circuit.Tokens. Package breakers documents each function.
type Circuit[B, P, E, T any] struct {
	BeginAttempt func(B, context.Context, Attempt) (context.Context, P, error)
	AtGate       func(P) (limited, asProbe bool)
	RefuseKnown  func(B, context.Context) E
	RefusedDue   func(B) uint64
	Peek         func(B) E
	Invalid      func(B) error
	Nested       func(ctx, from context.Context) (context.Context, bool)
	KeepPlace    func(b B, ctx, until context.Context) (free func())

	Balance  func(B) (T, bool)
	Withdraw func(B, T) bool
	Refund   func(B, T)

	Permit  func(b B, state uint64) P
	Succeed func(P, context.Context)
	Record  func(P, context.Context, Result)
}

// A Result describes the end of a call that has failed.
type Result struct {
	Err   error
	Class uint8         // of Err, with the numbers of package class
	Hint  time.Duration // the wait that Err asks for; 0 means no wait
	Limit time.Duration // the longest wait that the caller accepts
	Late  bool          // the caller's deadline has passed

	Took     time.Duration // by the attempt; 0 means not known
	TimedOut bool          // the attempt's own timeout ended the attempt
}

// An Attempt describes the next attempt of an operation to its breaker.
type Attempt struct {
	Retries bool          // the attempt is a retry
	Timeout time.Duration // the attempt's own timeout; 0 means none
	Until   time.Time     // the caller waits no longer than until then; zero means until the deadline of the context
	Made    int           // number of attempts that the operation has made
	Queued  Queued        // is notified of a wait; nil if not needed
	Waited  Waited        // is told how long the attempt has waited; nil if not needed
}

// A WaitCause says what an operation waited for.
type WaitCause uint8

// The causes, and their number.
const (
	Backoff WaitCause = iota // the delay before a retry
	AtGate
	ForRate
	ForPlace // of a breaker's concurrency
	WaitCauses
)

// Waited is called, on the goroutine that waited, when a wait is over.
type Waited interface {
	Waited(cause WaitCause, d time.Duration)
}

// WasWaiting reports a wait of d if the attempt wants to know.
func (a *Attempt) WasWaiting(cause WaitCause, d time.Duration) {
	if a.Waited != nil {
		a.Waited.Waited(cause, d)
	}
}

// Queued is called, on the goroutine that waits, when the next attempt of an operation
// begins to wait because of cause, for the rate until turn. made is the number of
// attempts that the operation has made. first is true for the wait that a log needs: the
// first in this process since the gate began to limit calls; for the rate, the first in a
// minute of a second or more; for a place, the first in a minute.
type Queued interface {
	Queued(ctx context.Context, made int, cause WaitCause, first bool, turn time.Time)
}

type patienceKey struct{}

// WithPatience returns a context whose calls wait at a gate, or for a rate, no longer
// than until the instant that end returns. end is called when a call begins to wait.
func WithPatience(ctx context.Context, end func() time.Time) context.Context {
	return context.WithValue(ctx, patienceKey{}, end)
}

// PatienceEnds returns the instant until which a call that begins to wait now may wait.
// set is false if ctx does not come from WithPatience.
func PatienceEnds(ctx context.Context) (end time.Time, set bool) {
	f, set := ctx.Value(patienceKey{}).(func() time.Time)
	if set {
		end = f()
	}
	return end, set
}

// Retry holds the functions of package retry for this module's own packages, where P is
// a *retry.Policy and M a circuit.Permit. Package calls documents each function.
type Retry[P, M any] struct {
	Begin    func(context.Context, P) (Call, error)
	Continue func(ctx context.Context, p P, permit M, start time.Time, err error, f func(context.Context) error) error
	Number   func(ctx context.Context, n int) context.Context
}

// A Call is one operation whose loop is another client's. Call Admit before each
// attempt, and one of Succeeded, Failed and Cancel after it. The owner of the loop waits
// between attempts. A Call is not safe for concurrent use.
type Call interface {
	// BeganAt records when the first attempt began, if it began before the Call.
	BeganAt(start time.Time)
	// Admit acquires permission for the next attempt: it returns nil, or the error with
	// which the operation ends.
	Admit(ctx context.Context) error
	// Attempt returns the number of the last admitted attempt, from 1; 0 before the first.
	Attempt() int
	// Context returns the context for the last admitted attempt of an operation whose
	// context is ctx. With it an inner layer with the same Breaker knows that the attempt
	// is already admitted.
	Context(ctx context.Context) context.Context
	// Succeeded records that the attempt succeeded.
	Succeeded(ctx context.Context)
	// Failed records that the attempt failed with err, and decides: it returns the delay
	// before the next attempt, or the error with which the operation ends.
	Failed(ctx context.Context, err error) (time.Duration, error)
	// GaveUp records that no attempt follows the last failed one, for a reason that only the
	// adapter knows.
	GaveUp()
	// Cancel records that the attempt has no result: the breaker counts nothing. After
	// Succeeded or Failed it has no effect.
	Cancel()
}

var circuitFunctions, retryFunctions any //nolint:gochecknoglobals // set once, as the packages are initialized

// OfferCircuit registers the functions of package circuit, which calls it.
func OfferCircuit[B, P, E, T any](c Circuit[B, P, E, T]) { circuitFunctions = c }

// TakeCircuit returns the functions of package circuit. The caller imports that package.
func TakeCircuit[B, P, E, T any]() Circuit[B, P, E, T] {
	return circuitFunctions.(Circuit[B, P, E, T]) //nolint:errcheck // else the program does not start
}

// OfferRetry registers the functions of package retry, which calls it.
func OfferRetry[P, M any](r Retry[P, M]) { retryFunctions = r }

// TakeRetry returns the functions of package retry. The caller imports that package.
func TakeRetry[P, M any]() Retry[P, M] {
	return retryFunctions.(Retry[P, M]) //nolint:errcheck // else the program does not start
}
